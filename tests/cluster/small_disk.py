"""A disk of its own for one member, so small that a test can fill it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted disk, and the file that takes the room of it."""

    def __init__(self, directory: Path) -> None:
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab") as file:
            left = os.statvfs(self._ballast)
            os.posix_fallocate(file.fileno(), file.tell(), left.f_bavail * left.f_frsize)

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()


@contextmanager
def small_disk(directory: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a disk at a directory that is made for it; skips the test where that is forbidden."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs"]
    mounted = subprocess.run([*command, str(directory)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"may not mount a disk: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", str(directory)], check=True)
