"""The real side of the seam: all bytes are written, or an error is told."""

import os
import resource
from pathlib import Path

import pytest

from raft.files import PAGE, DiskFiles


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


def test_file_is_opened_directly_and_filled_with_zeros(tmp_path: Path) -> None:
    """Where it is told to be, also over more than a piece; the rest is as it was."""
    files = DiskFiles()
    path = tmp_path / "a"
    path.write_bytes(b"x" * 400 * PAGE)
    descriptor = files.open_direct(path, PAGE, 399 * PAGE)
    if descriptor < 0:
        pytest.skip("this file system has no direct writes")
    files.close(descriptor)
    assert path.read_bytes() == b"x" * PAGE + bytes(398 * PAGE) + b"x" * PAGE
    files.close(files.open_direct(path, 0, 0))
    assert path.read_bytes()[:PAGE] == b"x" * PAGE


def test_file_that_cannot_be_written_directly_is_not_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As what is no whole page; nothing stays open, and nothing is changed."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * PAGE)
    before = len(os.listdir("/proc/self/fd"))
    with caplog.at_level("DEBUG", "raft.files"):
        assert DiskFiles().open_direct(path, 100, 200) == -1
    assert f"{path} is written through the kernel's cache: [Errno 22]" in caplog.text
    assert len(os.listdir("/proc/self/fd")) == before
    assert path.read_bytes() == b"x" * PAGE


def test_file_that_is_not_there_cannot_be_opened_directly(tmp_path: Path) -> None:
    """That is an error as ever."""
    with pytest.raises(FileNotFoundError):
        DiskFiles().open_direct(tmp_path / "a", 0, 0)
