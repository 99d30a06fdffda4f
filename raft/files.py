"""The disk as a seam: storage does nothing to files but through here, and reads none otherwise.

Tests put a recorder in the place of `DiskFiles` and try a crash after every single operation; the
simulator puts a disk in memory there, which loses, tears and spoils what it is told to. No
operation is ever tried again after it failed: after a failed flush the kernel may have dropped the
very pages that it could not write, and a second flush would succeed without them.
"""

import errno
import fcntl
import logging
import mmap
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from raft.ring import Ring

# What is written past the kernel's cache begins and ends at multiples of this, in memory and in the
# file. Devices ask for 512 or 4096 bytes.
PAGE: Final = 4096
# So many zeros are written at a time: others' writes wait for it.
_ZEROS_BYTES: Final = 1024 * 1024

log = logging.getLogger(__name__)


class NoRoom(OSError):
    """The disk, or our share of it, is full. Nothing is broken, and nothing was changed."""


def is_full(error: OSError) -> bool:
    """Whether the disk, or our share of it, is full; there may be room again later."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class Files(Protocol):
    """What storage asks of a disk. Every method raises OSError and leaves it at that."""

    def read(self, path: Path) -> bytes:
        """Return all that a file holds."""

    def open_for_reading(self, path: Path) -> BinaryIO:
        """Open an existing file, to be read from its beginning."""

    def list_directory(self, path: Path) -> list[Path]:
        """Return what is in a directory, in no particular order; nothing if there is none."""

    def is_directory(self, path: Path) -> bool:
        """Say whether there is such a directory."""

    def is_readable(self, path: Path) -> bool:
        """Say whether we may look into a directory."""

    def is_same(self, path: Path, other: Path) -> bool:
        """Say whether two paths lead to one directory."""

    def lock(self, path: Path) -> int:
        """Make a file if need be and take it for ourselves until it is closed, or our process ends.

        Raises BlockingIOError when another process has it.
        """

    def draw_salt(self) -> int:
        """Return 32 bits that no user can foresee."""

    def create(self, path: Path) -> int:
        """Make a new, empty file and open it for writing."""

    def open(self, path: Path) -> int:
        """Open an existing file for writing."""

    def allocate(self, descriptor: int, size: int) -> None:
        """Grow an empty file to `size` zero bytes that the disk has set aside."""

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of `data`; it may be lost until `flush`."""

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of `data`; it is on disk when this returns."""

    def open_ring(self) -> Ring | None:
        """Return what makes writes durable while our threads go on; None where there is none."""

    def open_direct(self, path: Path, start: int, stop: int) -> int:
        """Open an existing file for a ring's writes of whole pages, past the kernel's cache.

        Zeros are written from `start` to `stop` first, durably: what was only set aside takes an
        extra step of the file system for the first write to each page. -1 where it has no such
        way in.
        """

    def flush(self, descriptor: int) -> None:
        """Have everything that was written to the file on disk, its size included."""

    def close(self, descriptor: int) -> None:
        """Close a file. Flushes nothing."""

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its other name, replacing what has that name; lasting after
        `flush_directory`."""

    def remove(self, path: Path) -> None:
        """Remove a file's name; lasting after `flush_directory`."""

    def make_directory(self, path: Path) -> None:
        """Make a directory for ourselves alone; lasting after `flush_directory` of its parent."""

    def flush_directory(self, path: Path) -> None:
        """Have the names in a directory on disk."""


class DiskFiles:
    """The real ones."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def open_for_reading(self, path: Path) -> BinaryIO:
        return path.open("rb")

    def list_directory(self, path: Path) -> list[Path]:
        return list(path.glob("*"))

    def is_directory(self, path: Path) -> bool:
        return path.is_dir()

    def is_readable(self, path: Path) -> bool:
        return os.access(path, os.R_OK)

    def is_same(self, path: Path, other: Path) -> bool:
        return path.samefile(other)

    def lock(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def draw_salt(self) -> int:
        return secrets.randbits(32)

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def allocate(self, descriptor: int, size: int) -> None:
        os.posix_fallocate(descriptor, 0, size)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        self._write(descriptor, data, offset, 0)

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        # One system call instead of two: the thread gives up the interpreter only once, and has
        # to win it back from a busy event loop only once.
        self._write(descriptor, data, offset, os.RWF_DSYNC)

    def open_ring(self) -> Ring | None:
        try:
            return Ring()
        except OSError as error:
            # As in a container that forbids it: slower for a client that is alone, and that is all.
            log.debug("the log's thread does all writes: %s", error)
            return None

    def open_direct(self, path: Path, start: int, stop: int) -> int:
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            self._fill(descriptor, start, stop)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if error.errno == errno.EINVAL:
                # As tmpfs of old did, and devices with larger blocks do.
                log.debug("%s is written through the kernel's cache: %s", path, error)
                return -1
            raise
        return descriptor

    def _fill(self, descriptor: int, start: int, stop: int) -> None:
        zeros = mmap.mmap(-1, _ZEROS_BYTES)
        at = start
        while at < stop:
            with memoryview(zeros)[: stop - at] as piece:
                at += os.pwritev(descriptor, (piece,), at)
        if start < stop:
            os.fdatasync(descriptor)

    def _write(self, descriptor: int, data: bytes, offset: int, flags: int) -> None:
        written = os.pwritev(descriptor, (data,), offset, flags)
        while written < len(data):
            rest = memoryview(data)[written:]
            written += os.pwritev(descriptor, (rest,), offset + written, flags)

    def flush(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def make_directory(self, path: Path) -> None:
        os.mkdir(path, 0o700)

    def flush_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
