"""The operations that change files, as a seam: storage does nothing to a disk but through here.

Tests put a recorder in the place of `DiskFiles` and try a crash after every single operation.
Reading is not part of the seam: it changes nothing. No operation is ever tried again after it
failed: after a failed flush the kernel may have dropped the very pages that it could not write,
and a second flush would succeed without them.
"""

import os
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """What storage asks of a disk. Every method raises OSError and leaves it at that."""

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
