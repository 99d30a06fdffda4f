"""One server's disk, in memory: `raft.files.Files`, with all that a real one may do to you.

The disk knows what was flushed. A failing machine loses, of the rest, any sectors of files and any
last changes of a directory's names; a process that is killed loses nothing. The disk can be told to
fail: to cut the power after so many operations, to return EIO, to be full, to flip a bit.
"""

import errno
import io
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

SECTOR: Final = 512


class PowerLoss(Exception):
    """The machine stopped in the middle of what it was doing."""


@dataclass(slots=True)
class _File:
    # As a reader sees it.
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    # (offset, size) of each write that is in `content` only.
    dirty: list[tuple[int, int]] = field(default_factory=list)

    def settle(self, offset: int, size: int) -> None:
        """Have a part of the content on the platter."""
        _put(self.durable, self.content[offset : offset + size], offset)


@dataclass(slots=True)
class _Directory:
    names: dict[str, _File] = field(default_factory=dict)
    durable: dict[str, _File] = field(default_factory=dict)
    # Changes not flushed, in order. A rename is two at once.
    dirty: list[list[tuple[str, _File | None]]] = field(default_factory=list)

    def change(self, *names: tuple[str, _File | None]) -> None:
        _rename(self.names, list(names))
        self.dirty.append(list(names))


class SimulatedDisk:
    """The files of one server; it outlives the server's processes."""

    def __init__(self, rng: random.Random, root: Path) -> None:
        """Make a disk with the empty directory `root`; all of its files are below that."""
        self._random = rng
        self._directories: dict[Path, _Directory] = {root: _Directory()}
        self._open: dict[int, _File] = {}
        self._locks: dict[int, Path] = {}
        self._next_descriptor = 3
        # The power fails at the operation after so many; None for never.
        self.operations_left: int | None = None
        # The next write or flush returns EIO.
        self.is_broken = False
        # Nothing can be made larger: ENOSPC.
        self.is_full = False

    # ------------------------------------------------------------------------------- troubles

    def lose_power(self) -> None:
        """Forget what was not flushed, but for what chance has put on the platter in time."""
        kept = self._random.choice((0.0, 0.5, 0.9, 1.0))
        for directory in self._directories.values():
            changes = directory.dirty
            survivors = sum(self._random.random() < kept for _ in changes)
            for change in changes[:survivors]:
                _rename(directory.durable, change)
            directory.names = dict(directory.durable)
            directory.dirty = []
        for directory in self._directories.values():
            for file in directory.names.values():
                for offset, size in file.dirty:
                    self._keep_sectors(file, offset, size, kept)
                file.dirty = []
                file.content = bytearray(file.durable)
        self.kill()

    def kill(self) -> None:
        """Let go of everything that a process held."""
        self._open.clear()
        self._locks.clear()
        self.operations_left = None
        self.is_broken = False

    def flip_bit(self) -> str:
        """Spoil one bit somewhere in the files; return where, "" if there is nothing to spoil."""
        files = [
            (path / name, file)
            for path, directory in self._directories.items()
            for name, file in directory.names.items()
            if file.durable.strip(b"\0")
        ]
        if not files:
            return ""
        path, file = self._random.choice(files)
        size = len(file.durable.rstrip(b"\0"))
        # Anywhere in what was written, in what was written last, or in the zeros behind it.
        begin, end = self._random.choice(
            ((0, size), (max(0, size - 100), size), (0, len(file.durable)))
        )
        offset, bit = self._random.randrange(begin, end), self._random.randrange(8)
        file.durable[offset] ^= 1 << bit
        file.content = bytearray(file.durable)
        return f"{path} bit {offset}.{bit}"

    def _keep_sectors(self, file: _File, offset: int, size: int, kept: float) -> None:
        at, end = offset, offset + size
        while at < end:
            stop = min(at - at % SECTOR + SECTOR, end)
            if kept == 1.0 or self._random.random() < kept:
                file.settle(at, stop - at)
            at = stop

    def _operate(self, *, path: Path | None = None, grows: bool = False) -> None:
        """Count one operation that changes something, or fail."""
        if self.operations_left is not None:
            if self.operations_left == 0:
                raise PowerLoss
            self.operations_left -= 1
        if grows and self.is_full:
            raise OSError(errno.ENOSPC, "no space left on device", str(path or ""))

    # ------------------------------------------------------------------------------- reading

    def read(self, path: Path) -> bytes:
        return bytes(self._find(path).content)

    def open_for_reading(self, path: Path) -> BinaryIO:
        return io.BytesIO(self._find(path).content)

    def list_directory(self, path: Path) -> list[Path]:
        directory = self._directories.get(path)
        return [path / name for name in directory.names] if directory else []

    def is_directory(self, path: Path) -> bool:
        return path in self._directories

    def is_readable(self, path: Path) -> bool:
        return path in self._directories

    def is_same(self, path: Path, other: Path) -> bool:
        return path == other

    def lock(self, path: Path) -> int:
        if path in self._locks.values():
            raise BlockingIOError(errno.EWOULDBLOCK, "locked", str(path))
        names = self._directory(path.parent)
        if path.name not in names.names:
            names.change((path.name, _File()))
        descriptor = self._describe(names.names[path.name])
        self._locks[descriptor] = path
        return descriptor

    def draw_salt(self) -> int:
        return self._random.getrandbits(32)

    # ------------------------------------------------------------------------------- changing

    def create(self, path: Path) -> int:
        self._operate(path=path, grows=True)
        directory = self._directory(path.parent)
        if path.name in directory.names:
            raise FileExistsError(errno.EEXIST, "file exists", str(path))
        file = _File()
        directory.change((path.name, file))
        return self._describe(file)

    def open(self, path: Path) -> int:
        return self._describe(self._find(path))

    def allocate(self, descriptor: int, size: int) -> None:
        self._operate(grows=True)
        self._write(self._open[descriptor], bytes(size), 0)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        file = self._open[descriptor]
        self._operate(grows=offset + len(data) > len(file.content))
        self._write(file, data, offset)
        if self.is_broken:
            self._fail(file)

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        file = self._open[descriptor]
        if self.operations_left == 0:
            self._write(file, data, offset)  # some of it may be on the platter all the same
        self._operate(grows=offset + len(data) > len(file.content))
        if self.is_broken:
            self._write(file, data, offset)
            self._fail(file)
        _put(file.content, data, offset)
        file.settle(offset, len(data))

    def open_ring(self) -> None:
        return None

    def open_direct(self, path: Path, start: int, stop: int) -> int:
        raise AssertionError(f"{path} opened for a ring, of which there is none")

    def flush(self, descriptor: int) -> None:
        self._operate()
        file = self._open[descriptor]
        if self.is_broken:
            self._fail(file)
        for offset, size in file.dirty:
            file.settle(offset, size)
        file.dirty = []

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._locks.pop(descriptor, None)

    def rename(self, source: Path, target: Path) -> None:
        self._operate()
        directory = self._directory(source.parent)
        directory.change((target.name, self._find(source)), (source.name, None))

    def remove(self, path: Path) -> None:
        self._operate()
        self._find(path)
        self._directory(path.parent).change((path.name, None))

    def make_directory(self, path: Path) -> None:
        self._operate(path=path, grows=True)
        # Directories are made once, before there is anything to lose: taken for durable at once.
        self._directories[path] = _Directory()

    def flush_directory(self, path: Path) -> None:
        if path not in self._directories:
            return
        self._operate()
        directory = self._directories[path]
        directory.durable = dict(directory.names)
        directory.dirty = []

    # ---------------------------------------------------------------------------------- parts

    def _fail(self, file: _File) -> None:
        """Lose some of what is not flushed for ever: nobody will write these pages out again."""
        for offset, size in file.dirty:
            self._keep_sectors(file, offset, size, 0.5)
        file.dirty = []
        file.content = bytearray(file.durable)
        raise OSError(errno.EIO, "input/output error")

    def _write(self, file: _File, data: bytes, offset: int) -> None:
        _put(file.content, data, offset)
        file.dirty.append((offset, len(data)))

    def _describe(self, file: _File) -> int:
        self._next_descriptor += 1
        self._open[self._next_descriptor] = file
        return self._next_descriptor

    def _directory(self, path: Path) -> _Directory:
        found = self._directories.get(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path))
        return found

    def _find(self, path: Path) -> _File:
        found = self._directory(path.parent).names.get(path.name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return found


def _put(content: bytearray, data: bytes | bytearray, offset: int) -> None:
    missing = offset + len(data) - len(content)
    if missing > 0:
        content.extend(bytes(missing))
    content[offset : offset + len(data)] = data


def _rename(names: dict[str, _File], change: list[tuple[str, _File | None]]) -> None:
    for name, file in change:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
