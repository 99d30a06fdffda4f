"""The real side of the seam: all bytes are written, or an error is told."""

import resource
from pathlib import Path

import pytest

from raft.files import DiskFiles


def test_real_files_are_made_durable_in_one_call(tmp_path: Path) -> None:
    """The seam's real side writes all, renames, flushes and removes."""
    files = DiskFiles()
    files.make_directory(tmp_path / "d")
    descriptor = files.create(tmp_path / "d/a")
    files.allocate(descriptor, 4096)
    files.write_durably(descriptor, b"xyz", 10)
    files.flush(descriptor)
    files.close(descriptor)
    files.rename(tmp_path / "d/a", tmp_path / "d/b")
    files.flush_directory(tmp_path / "d")
    content = (tmp_path / "d/b").read_bytes()
    assert (len(content), content[10:13]) == (4096, b"xyz")
    files.remove(tmp_path / "d/b")
    assert not list((tmp_path / "d").iterdir())


def test_write_that_the_disk_takes_in_part_goes_on_to_its_error(tmp_path: Path) -> None:
    """A short count is no success: the rest is written, or the error is told."""
    files = DiskFiles()
    descriptor = files.create(tmp_path / "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.write_durably(descriptor, bytes(9000), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    files.close(descriptor)
    assert (tmp_path / "a").stat().st_size == 5000
