"""Proves that writes by a ring are durable when the loop hears of them, and told of once."""

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from raft import (
    NORMAL,
    Configuration,
    DiskStorage,
    Entry,
    HardState,
    SnapshotMeta,
    StorageConfig,
    Write,
)
from raft.codec import Batch
from raft.files import PAGE, DiskFiles
from raft.loop_storage import LoopStorage
from raft.ring import MAX_BYTES, Ring
from tests.raft.node_world import PATIENCE_SECONDS, set_patience
from tests.raft.rings import needs_ring

pytestmark = needs_ring

SEGMENT_BYTES = 64 * 1024


class RememberingFiles(DiskFiles):
    """Knows the file that the ring writes to; there may be no direct writes, or no room."""

    def __init__(self) -> None:
        self.last = -1
        self.has_direct = True
        self.errno = 0
        # Which bytes were to be filled with zeros, of whatever file.
        self.filled: list[tuple[int, int]] = []

    def create(self, path: Path) -> int:
        self.last = super().create(path)
        return self.last

    def open_direct(self, path: Path, start: int, stop: int) -> int:
        if self.errno:
            raise OSError(self.errno, os.strerror(self.errno))
        if not self.has_direct:
            return -1
        self.filled.append((start, stop))
        self.last = super().open_direct(path, start, stop)
        return self.last


class World:
    """A loop and a disk with a ring."""

    def __init__(self, directory: Path, files: RememberingFiles | None = None) -> None:
        self.config = StorageConfig(directory / "data", segment_bytes=SEGMENT_BYTES)
        self.files = files or RememberingFiles()
        self.disk = DiskStorage.create(self.config, b"", self.files)
        self.loop = asyncio.new_event_loop()
        self.deaths: list[BaseException] = []
        self.told: list[int] = []
        self.storage = LoopStorage(
            *(self.disk, self.loop, self.deaths.append, lambda step: step()),
            watch=lambda: None,
            on_filled=lambda _: None,
        )
        self.last_index = 0

    def write(self, *values: bytes) -> bool:
        """One entry for each value; what is told then is the index of the last one."""
        first = self.last_index + 1
        entries = [Entry(first + at, 1, NORMAL, value) for at, value in enumerate(values)]
        self.last_index += len(values)
        write = Write(HardState(1, 0, 0), entries, None, [])
        return self.storage.write(write, partial(self.told.append, self.last_index))

    def until_told(self) -> None:
        """Let the loop run until it hears of the last write."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.last_index not in self.told and not self.deaths:
            assert time.monotonic() < deadline, f"nothing is told of {self.last_index}"
            self.loop.run_until_complete(asyncio.sleep(0.001))

    def stop(self) -> list[bytes]:
        """Close all; return what the log holds."""
        self.loop.run_until_complete(self.storage.stop())
        self.loop.close()
        disk, recovered = DiskStorage.open(self.config)
        disk.close()
        return [entry.data for entry in recovered.entries]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Longer than a busy machine makes a quick write take.
    set_patience(monkeypatch, 2.0)
    world = World(tmp_path)
    yield world
    if not world.loop.is_closed():
        world.loop.close()


def test_lone_write_is_waited_for(world: World) -> None:
    """Nobody is told then."""
    assert world.write(b"a")
    assert world.write(b"b")
    assert world.stop() == [b"a", b"b"]
    assert (world.told, world.deaths) == ([], [])


def test_write_of_many_is_told_of_once_when_it_has_ended(world: World) -> None:
    """Unless it had when it was begun: the loop does not wait, but serves others meanwhile."""
    told = []
    # Of the second one, as others were there a moment ago.
    for values in ([b"a", b"b", b"c"], [b"d"]):
        if not world.write(*values):
            assert world.told == told
            world.until_told()
            told.append(world.last_index)
    assert world.write(b"e")
    assert world.stop() == [b"a", b"b", b"c", b"d", b"e"]
    assert (world.told, world.deaths) == (told, [])


def test_what_is_not_for_the_ring_is_written_all_the_same(world: World) -> None:
    """What does not fit into the file begins another one, and is told of by the log's thread."""
    values = [b"%05d" % number + b"x" * (SEGMENT_BYTES // 5) for number in range(12)]
    values.append(os.urandom(MAX_BYTES))
    for value in values:
        if not world.write(value):
            world.until_told()
    assert len(list(world.config.wal_path.glob("*.wal"))) > 2
    assert world.stop() == values
    assert world.deaths == []


@pytest.mark.parametrize("error", [0, errno.ENOSPC])
def test_ring_does_without_direct_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Where the file system has none, or the disk no room to fill the file: as the log's thread."""
    set_patience(monkeypatch, 2.0)
    files = RememberingFiles()
    files.has_direct, files.errno = False, error
    world = World(tmp_path, files)
    values = [b"%05d" % number + b"x" * (SEGMENT_BYTES // 20) for number in range(50)]
    for value in values:
        if not world.write(value):
            world.until_told()
    assert world.stop() == values
    assert world.deaths == []


def test_disk_that_fails_when_the_ring_is_opened_is_an_error(tmp_path: Path) -> None:
    """Nobody knows what the file holds."""
    files = RememberingFiles()
    files.errno = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        World(tmp_path, files)


def test_next_file_has_its_zeros_before_it_is_needed(tmp_path: Path) -> None:
    """And waits for them on a disk that has become full, as for its room."""
    files = RememberingFiles()
    config = StorageConfig(tmp_path / "data", segment_bytes=SEGMENT_BYTES)
    disk = DiskStorage.create(config, b"", files)
    wal = disk.wal
    wal.open_ring()
    if files.last < 0:
        pytest.skip("this file system has no direct writes")
    # The one that is there, but for its head.
    assert files.filled == [(PAGE, SEGMENT_BYTES)]
    wal.write(Batch(None, [Entry(1, 1, NORMAL, bytes(SEGMENT_BYTES // 2))], HardState(1, 0, 0)))
    files.errno = errno.ENOSPC
    assert wal.make_room()
    assert wal.wants_room
    assert not list(config.wal_path.glob("*.tmp"))
    files.errno = 0
    assert wal.make_room()
    assert not wal.wants_room
    assert files.filled[1:] == [(0, SEGMENT_BYTES)]
    disk.close()


def test_snapshot_of_the_leader_removes_what_it_makes_superfluous(world: World) -> None:
    """It is not for the ring, as more is to be done than to write it."""
    for number in range(30):
        if not world.write(b"%05d" % number + b"x" * (SEGMENT_BYTES // 5)):
            world.until_told()
    assert len(list(world.config.wal_path.glob("*.wal"))) > world.config.max_wals
    meta = SnapshotMeta(world.last_index + 1, 1, Configuration(voters=(1,)))
    world.last_index += 1
    write = Write(HardState(1, 0, meta.index), [], meta, [])
    assert not world.storage.write(write, partial(world.told.append, meta.index))
    assert not world.disk.wal.is_writing
    world.until_told()
    world.loop.run_until_complete(world.storage.stop())
    assert len(list(world.config.wal_path.glob("*.wal"))) == world.config.max_wals
    assert world.deaths == []


@pytest.mark.parametrize("values", [[b"alone"], [b"one", b"of", b"many"]])
def test_failed_write_is_our_death(world: World, values: list[bytes]) -> None:
    """Whether the loop has waited for it or not: nothing that follows it is done."""
    nothing_to_write_to = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing_to_write_to, world.files.last)
    os.close(nothing_to_write_to)
    assert not world.write(*values)
    world.until_told()
    (death,) = world.deaths
    assert isinstance(death, OSError)
    assert death.errno == errno.EBADF
    world.loop.run_until_complete(world.storage.stop())
    assert world.told == []


def test_stop_waits_for_what_is_being_written(world: World) -> None:
    """It is promised to nobody, but a file must not be closed under it."""
    world.write(*[b"x" * 1000] * 30)
    assert world.stop() == [b"x" * 1000] * 30


def test_threads_do_without_a_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container forbids it."""
    monkeypatch.setattr(DiskFiles, "open_ring", lambda self: None)
    world = World(tmp_path)
    if not world.write(b"a"):
        world.until_told()
    assert not world.disk.wal.is_writing
    assert world.stop() == [b"a"]


def test_files_tell_why_there_is_no_ring(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For whoever wonders, and looks at the debug log."""

    def refuse() -> Ring:
        raise PermissionError(errno.EPERM, "io_uring: Operation not permitted")

    monkeypatch.setattr("raft.files.Ring", refuse)
    with caplog.at_level("DEBUG", "raft.files"):
        assert DiskFiles().open_ring() is None
    assert "the log's thread does all writes: [Errno 1] io_uring" in caplog.text
