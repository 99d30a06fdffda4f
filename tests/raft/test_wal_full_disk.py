"""The log on a disk that fills up: what has no room waits, what little raft needs has some left."""

import errno
from pathlib import Path

import pytest

from raft.codec import Batch
from raft.entry import HardState
from raft.files import NoRoom
from raft.interfaces import Write
from raft.storage import DiskStorage, StorageConfig
from raft.wal import Wal
from tests.raft.crash_files import UnflushedFiles
from tests.raft.test_wal import SEGMENT, entries, load


class FullFiles(UnflushedFiles):
    """A disk that can be full, by the one or the other number; counts what it is asked for."""

    def __init__(self) -> None:
        self.errno = 0
        self.asked = 0

    def allocate(self, descriptor: int, size: int) -> None:
        self.asked += 1
        if self.errno:
            raise OSError(self.errno, "full")
        super().allocate(descriptor, size)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_log_without_room_takes_the_same_batch_later(tmp_path: Path, number: int) -> None:
    """Nothing was changed by the attempt, and nothing is left of it."""
    files = FullFiles()
    wal = Wal.create(files, tmp_path, b"me", SEGMENT)
    first = entries(1, 1, 6000)
    wal.write(Batch(None, first, HardState(1, 1, 0)))
    names = sorted(tmp_path.iterdir())
    files.errno = number
    second = Batch(None, entries(2, 1, 6000), HardState(2, 1, 1))
    for _ in range(2):
        with pytest.raises(NoRoom):
            wal.write(second)
        assert sorted(tmp_path.iterdir()) == names
    # What fits goes on being written.
    wal.write(Batch(None, [], HardState(2, 1, 0)))
    files.errno = 0
    wal.write(second)
    wal.close()
    image = load(tmp_path)
    assert (image.entries, image.hard_state) == (first + second.entries, second.hard_state)


def test_log_that_fails_otherwise_takes_nothing_more(tmp_path: Path) -> None:
    """EIO while a segment is made: nobody knows what the disk holds."""
    files = FullFiles()
    wal = Wal.create(files, tmp_path, b"me", SEGMENT)
    files.errno = errno.EIO
    batch = Batch(None, entries(1, 1, 9000), HardState(1, 1, 0))
    with pytest.raises(OSError, match="full"):
        wal.write(batch)
    with pytest.raises(AssertionError, match="after one that failed"):
        wal.write(batch)


def test_log_sets_the_next_segment_aside_when_this_one_is_half_full(tmp_path: Path) -> None:
    """Once; it is used for the next segment, unless a record needs a larger one."""
    files = FullFiles()
    wal = Wal.create(files, tmp_path, b"me", SEGMENT)
    assert not wal.wants_room
    wal.write(Batch(None, entries(1, 1, 4200), HardState(1, 1, 0)))
    assert wal.wants_room
    assert wal.make_room()
    assert not wal.wants_room
    assert wal.make_room()
    assert files.asked == 2
    files.errno = errno.ENOSPC
    with pytest.raises(NoRoom):
        wal.write(Batch(None, entries(2, 1, 9000), HardState(1, 1, 0)))
    wal.write(Batch(None, entries(2, 1, 3950), HardState(1, 1, 0)))
    assert wal.make_room()
    wal.close()
    assert len(load(tmp_path).entries) == 2
    assert len(list(tmp_path.glob("*.wal"))) == 2


def test_log_says_when_only_the_reserve_is_left(tmp_path: Path) -> None:
    """The last quarter, if there is no next segment; for terms and votes, which still fit."""
    files = FullFiles()
    wal = Wal.create(files, tmp_path, b"me", SEGMENT)
    files.errno = errno.ENOSPC
    wal.write(Batch(None, entries(1, 1, 4200), HardState(1, 1, 0)))
    assert wal.make_room()
    wal.write(Batch(None, entries(2, 1, 1900), HardState(1, 1, 0)))
    assert not wal.make_room()
    for term in range(2, 32):
        wal.write(Batch(None, [], HardState(term, 1, 0)))
    files.errno = 0
    assert wal.make_room()
    wal.close()
    assert load(tmp_path).hard_state.term == 31


def test_spare_segment_that_a_crash_left_is_removed(tmp_path: Path) -> None:
    """It never had a name that counts."""
    config = StorageConfig(tmp_path, segment_bytes=SEGMENT)
    disk = DiskStorage.create(config, b"me", UnflushedFiles())
    disk.write_blocking(Write(HardState(1, 1, 0), entries(1, 1, 4200), None, []))
    assert disk.wants_room
    assert disk.make_room()
    disk.close()
    assert [path.name for path in config.wal_path.glob("*.tmp")] == ["spare.tmp"]
    disk, recovered = DiskStorage.open(config, UnflushedFiles())
    assert list(config.wal_path.glob("*.tmp")) == []
    assert len(recovered.entries) == 1
    disk.close()
