"""A disk that fails when it is told to, in the place of the real one; see `start.py`.

What is wrong is said by a file that may come and go while the member runs; see `Plan`. Everything
that storage does passes through here, so that a power loss can be pretended: the disk undoes what
was not flushed, tears the write that is under way, and kills its process.
"""

import errno
import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from raft import storage
from raft.files import DiskFiles

# What a disk writes as a whole.
SECTOR: Final = 512


@dataclass(slots=True)
class Plan:
    """What is wrong with the disk."""

    seed: int = 0
    # Every flush takes a time from this range, in seconds.
    slowest: float = 0.0
    fastest: float = 0.0
    # "write" or "flush": which of them fails, after so many that did not.
    fails: str = ""
    after: int = 0
    # How many more operations until the power is lost; 0 for never.
    power_loss: int = 0
    # Nothing that needs more room than there is set aside succeeds.
    full: bool = False

    def write(self, path: Path) -> None:
        """Put it in force."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.rename(path)


@dataclass(slots=True)
class Unflushed:
    """What a file has not got on the disk: (offset, what was there before, what is there now)."""

    path: Path
    writes: list[tuple[int, bytes, bytes]] = field(default_factory=list)


class FaultyDisk:
    """Knows what is flushed, and what is to go wrong.

    Invariants:
      1. `_files` and `_names` have all that was done to files and names since they were flushed.
    """

    def __init__(self, plan_path: Path, die: Callable[[], NoReturn]) -> None:
        """`die` ends the process at once."""
        self.lock = threading.RLock()
        self._plan_path = plan_path
        self._plan = Plan()
        self._stamp = 0
        self._random = random.Random(0)
        self._die = die
        self._files: dict[int, Unflushed] = {}
        # How to undo what was done to names, by directory, the oldest first.
        self._names: dict[Path, list[Callable[[], None]]] = {}
        self._trash = 0
        # Files that were removed, by directory, until that is flushed.
        self._trash_path = plan_path.with_suffix(".trash")
        self._kept: dict[Path, list[Path]] = {}
        shutil.rmtree(self._trash_path, ignore_errors=True)
        self._trash_path.mkdir()

    def look(self) -> Plan:
        """Return what is wrong just now."""
        try:
            stamp = os.stat(self._plan_path).st_mtime_ns
        except FileNotFoundError:
            self._plan, self._stamp = Plan(), 0
            return self._plan
        if stamp != self._stamp:
            self._stamp = stamp
            self._plan = Plan(**json.loads(self._plan_path.read_text()))
            self._random = random.Random(self._plan.seed)
        return self._plan

    def count(self, kind: str) -> None:
        """An operation begins. Raises OSError if it is to fail."""
        plan = self.look()
        if plan.power_loss:
            plan.power_loss -= 1
            if plan.power_loss == 0:
                self.lose_power()
        if plan.fails == kind:
            plan.after -= 1
            if plan.after < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def take_room(self) -> None:
        """A file is to be made, or to grow. Raises OSError if there is no room."""
        if self.look().full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def grow(self, descriptor: int, size: int) -> None:
        """A file is to have so many bytes at least. Raises OSError if there is no room for more."""
        if size > os.fstat(descriptor).st_size:
            self.take_room()

    def delay(self) -> float:
        """Return how long a flush takes longer than it should."""
        plan = self.look()
        return self._random.uniform(plan.fastest, plan.slowest) if plan.slowest else 0.0

    def opened(self, descriptor: int, path: Path) -> None:
        self._files[descriptor] = Unflushed(path)

    def writing(self, descriptor: int, data: bytes, offset: int) -> None:
        """Remember what a write is about to replace."""
        before = os.pread(descriptor, len(data), offset)
        self._files[descriptor].writes.append((offset, before, data))

    def flushed(self, descriptor: int) -> None:
        if descriptor in self._files:
            self._files[descriptor].writes.clear()

    def closed(self, descriptor: int) -> None:
        """A file that is closed and was not flushed is no less lost."""
        unflushed = self._files.pop(descriptor, None)
        if unflushed is not None and unflushed.writes:
            self._files[-1 - self._trash] = unflushed
            self._trash += 1

    def named(self, directory: Path, undo: Callable[[], None]) -> None:
        self._names.setdefault(directory, []).append(undo)

    def renamed(self, source: Path, target: Path) -> None:
        """A file that may be open has another name."""
        for unflushed in self._files.values():
            if unflushed.path == source:
                unflushed.path = target

    def names_flushed(self, directory: Path) -> None:
        self._names.pop(directory, None)
        for kept in self._kept.pop(directory, []):
            kept.unlink()

    def removing(self, path: Path) -> None:
        """Keep a file that is to be removed, for as long as that may be undone."""
        self._trash += 1
        kept = self._trash_path / str(self._trash)
        os.link(path, kept)
        self._kept.setdefault(path.parent, []).append(kept)

        def undo() -> None:
            if not path.exists():
                os.link(kept, path)

        self.named(path.parent, undo)

    def lose_power(self) -> NoReturn:
        """Leave on the disk what it would have had, and end the process."""
        for unflushed in self._files.values():
            # Before the names: these may take the file's name away.
            self._undo_writes(unflushed)
        for undos in self._names.values():
            # Names of one directory are lost from the last one backwards.
            kept = self._random.randint(0, len(undos))
            for undo in reversed(undos[kept:]):
                undo()
        self._die()

    def _undo_writes(self, unflushed: Unflushed) -> None:
        if not unflushed.path.exists():
            return
        with unflushed.path.open("r+b") as file:
            for offset, before, data in reversed(unflushed.writes):
                end = offset + len(data)
                at = offset
                while at < end:
                    stop = min(at - at % SECTOR + SECTOR, end)
                    old = before[at - offset : stop - offset]
                    if self._random.random() < 0.5:
                        file.seek(at)
                        file.write(old + bytes(stop - at - len(old)))
                    at = stop


class FaultyFiles(DiskFiles):
    """Real files on a `FaultyDisk`."""

    disk: FaultyDisk

    def create(self, path: Path) -> int:
        with self.disk.lock:
            self.disk.count("write")
            self.disk.take_room()
            descriptor = super().create(path)
            self.disk.opened(descriptor, path)
            self.disk.named(path.parent, lambda: path.unlink(missing_ok=True))
            return descriptor

    def open(self, path: Path) -> int:
        with self.disk.lock:
            descriptor = super().open(path)
            self.disk.opened(descriptor, path)
            return descriptor

    def allocate(self, descriptor: int, size: int) -> None:
        with self.disk.lock:
            self.disk.take_room()
            super().allocate(descriptor, size)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        with self.disk.lock:
            self.disk.grow(descriptor, offset + len(data))
            self.disk.writing(descriptor, data, offset)
            self.disk.count("write")
            super().write(descriptor, data, offset)

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        with self.disk.lock:
            self.disk.grow(descriptor, offset + len(data))
            self.disk.writing(descriptor, data, offset)
            self.disk.count("write")
            super().write(descriptor, data, offset)
            self.disk.count("flush")
            os.fdatasync(descriptor)
            self.disk.flushed(descriptor)
            seconds = self.disk.delay()
        _wait(seconds)

    def open_ring(self) -> None:
        """Nothing is written but through here."""
        return

    def flush(self, descriptor: int) -> None:
        with self.disk.lock:
            self.disk.count("flush")
            super().flush(descriptor)
            self.disk.flushed(descriptor)
            seconds = self.disk.delay()
        _wait(seconds)

    def close(self, descriptor: int) -> None:
        with self.disk.lock:
            self.disk.closed(descriptor)
            super().close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        with self.disk.lock:
            self.disk.count("write")
            replaces = target.exists()
            super().rename(source, target)
            if not replaces:
                self.disk.named(target.parent, lambda: _rename_back(target, source))
            self.disk.renamed(source, target)

    def remove(self, path: Path) -> None:
        with self.disk.lock:
            self.disk.count("write")
            self.disk.removing(path)
            super().remove(path)

    def flush_directory(self, path: Path) -> None:
        with self.disk.lock:
            self.disk.count("flush")
            super().flush_directory(path)
            self.disk.names_flushed(path)


def _wait(seconds: float) -> None:
    # Not time.sleep: libfaketime breaks the system call that it makes.
    if seconds:
        threading.Event().wait(seconds)


def _rename_back(target: Path, source: Path) -> None:
    if target.exists():
        target.rename(source)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives this")


def install(plan_path: Path) -> None:
    """Have every storage of this process on such a disk."""
    FaultyFiles.disk = FaultyDisk(plan_path, _die)
    # What storage makes for itself when it is given no files.
    vars(storage)["DiskFiles"] = FaultyFiles
