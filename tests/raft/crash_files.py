"""Crashes of a machine: records what storage does to a disk, and lays out what each cut leaves.

A recording is replayed into a model of a disk that knows what was flushed. `Disk.lay_out` makes
a directory as it may be found after a crash: flushed bytes and names are there, of the others any
part. Files lose whole sectors; names of one directory are lost from the last one backwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from raft.files import DiskFiles

SECTOR = 512


class RecordingFiles(DiskFiles):
    """Real files; `operations` lists what was done, a note by the test between any two."""

    def __init__(self) -> None:
        self.operations: list[tuple[object, ...]] = []

    def note(self, step: int) -> None:
        """Everything up to a step of the test is confirmed."""
        self.operations.append(("note", step))

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self.operations.append(("create", descriptor, path))
        return descriptor

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        self.operations.append(("open", descriptor, path))
        return descriptor

    def allocate(self, descriptor: int, size: int) -> None:
        super().allocate(descriptor, size)
        self.operations.append(("allocate", descriptor, size))

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        super().write(descriptor, data, offset)
        self.operations.append(("write", descriptor, data, offset))

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        super().write(descriptor, data, offset)
        self.operations.append(("write", descriptor, data, offset))
        self.operations.append(("flush", descriptor))

    def open_ring(self) -> None:
        return None

    def flush(self, descriptor: int) -> None:
        self.operations.append(("flush", descriptor))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.operations.append(("rename", source, target))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.operations.append(("remove", path))

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self.operations.append(("make_directory", path))

    def flush_directory(self, path: Path) -> None:
        self.operations.append(("flush_directory", path))


class UnflushedFiles(DiskFiles):
    """Real files that are never flushed, for tests in which nothing crashes."""

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        self.write(descriptor, data, offset)

    def open_ring(self) -> None:
        return None

    def flush(self, descriptor: int) -> None:
        pass

    def flush_directory(self, path: Path) -> None:
        pass


@dataclass
class _File:
    durable: bytes = b""
    # (data, offset) of each write; an allocation is one of zeros.
    volatile: list[tuple[bytes, int]] = field(default_factory=list)

    def content(self, keep: "Keep") -> bytes:
        content = bytearray(self.durable)
        for data, offset in self.volatile:
            if keep.all:
                _put(content, data, offset)
                continue
            at = offset
            while at < offset + len(data):
                stop = min(at - at % SECTOR + SECTOR, offset + len(data))
                if keep.sector():
                    _put(content, data[at - offset : stop - offset], at)
                at = stop
        return bytes(content)


def _put(content: bytearray, data: bytes, offset: int) -> None:
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


@dataclass
class _Directory:
    durable: dict[str, "_File | _Directory"] = field(default_factory=dict)
    # (name, what it then means, None for nothing), or two of these at once for a rename.
    volatile: list[list[tuple[str, "_File | _Directory | None"]]] = field(default_factory=list)

    def names(self, keep: "Keep") -> dict[str, "_File | _Directory"]:
        names = dict(self.durable)
        for change in self.volatile[: keep.names(len(self.volatile))]:
            for name, what in change:
                if what is None:
                    del names[name]
                else:
                    names[name] = what
        return names


class Keep:
    """How much of what was not flushed survives: nothing, all, or what chance decides."""

    def __init__(self, seed: int) -> None:
        """Seed 0 keeps nothing, seed 1 everything."""
        self._seed = seed
        self._random = Random(seed)

    @property
    def all(self) -> bool:
        """Whether everything survives."""
        return self._seed == 1

    def sector(self) -> bool:
        """Whether one more sector survives, when not all do."""
        return self._seed > 1 and self._random.random() < 0.5

    def names(self, count: int) -> int:
        """How many of so many changes of names survive."""
        return self._seed * count if self._seed < 2 else self._random.randint(0, count)


EVERYTHING = Keep(1)


class Disk:
    """A model of what is below `root`, flushed and not."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = _Directory()
        self._open: dict[int, _File] = {}

    def do(self, operation: tuple[object, ...]) -> None:
        """Carry out what was recorded."""
        match operation:
            case ("create", int(descriptor), Path() as path):
                self._open[descriptor] = file = _File()
                self._directory(path.parent).volatile.append([(path.name, file)])
            case ("open", int(descriptor), Path() as path):
                found = self._find(path)
                assert isinstance(found, _File)
                self._open[descriptor] = found
            case ("allocate", int(descriptor), int(size)):
                self._open[descriptor].volatile.append((bytes(size), 0))
            case ("write", int(descriptor), bytes(data), int(offset)):
                self._open[descriptor].volatile.append((data, offset))
            case ("flush", int(descriptor)):
                file = self._open[descriptor]
                file.durable = file.content(EVERYTHING)
                file.volatile = []
            case ("rename", Path() as source, Path() as target):
                change = [(source.name, None), (target.name, self._find(source))]
                self._directory(target.parent).volatile.append(change)
            case ("remove", Path() as path):
                self._directory(path.parent).volatile.append([(path.name, None)])
            case ("make_directory", Path() as path):
                self._directory(path.parent).volatile.append([(path.name, _Directory())])
            case ("flush_directory", Path() as path):
                if path != self._root.parent:
                    directory = self._directory(path)
                    directory.durable = directory.names(EVERYTHING)
                    directory.volatile = []
            case _:
                assert operation[0] == "note", operation

    def _find(self, path: Path) -> "_File | _Directory":
        found: _File | _Directory = self._top
        for name in path.relative_to(self._root).parts:
            assert isinstance(found, _Directory)
            found = found.names(EVERYTHING)[name]
        return found

    def _directory(self, path: Path) -> _Directory:
        found = self._find(path)
        assert isinstance(found, _Directory)
        return found

    def lay_out(self, into: Path, keep: Keep) -> None:
        """Make the directory that a crash at this moment leaves of `root`."""
        self._lay_out(self._top, into, keep)

    def _lay_out(self, directory: _Directory, into: Path, keep: Keep) -> None:
        into.mkdir()
        for name, what in directory.names(keep).items():
            if isinstance(what, _File):
                (into / name).write_bytes(what.content(keep))
            else:
                self._lay_out(what, into / name, keep)


def cuts(operations: list[tuple[object, ...]], root: Path) -> "Iterator[tuple[int, Disk]]":
    """The disk before the first operation and after each, with the last step confirmed by then."""
    disk = Disk(root)
    confirmed = 0
    yield confirmed, disk
    for operation in operations:
        disk.do(operation)
        if operation[0] == "note":
            confirmed = int(str(operation[1]))
        yield confirmed, disk
