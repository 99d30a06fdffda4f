"""The simulated disk: what was flushed stays, the rest may go, and every trouble can be had."""

import errno
import random
from pathlib import Path

import pytest

from raft.sim.disk import SECTOR, PowerLoss, SimulatedDisk

ROOT = Path("/1")
FILE = ROOT / "file"


def make_disk(seed: int = 0) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed), ROOT)


def make_file(disk: SimulatedDisk, data: bytes) -> int:
    """A file that is durable, and open."""
    descriptor = disk.create(FILE)
    disk.write(descriptor, data, 0)
    disk.flush(descriptor)
    disk.flush_directory(ROOT)
    return descriptor


def test_flushed_bytes_survive_a_power_cut() -> None:
    """What `flush` and `write_durably` confirm is there for ever."""
    for seed in range(20):
        disk = make_disk(seed)
        descriptor = make_file(disk, b"flushed")
        disk.write_durably(descriptor, b"!", 7)
        disk.lose_power()
        assert disk.read(FILE) == b"flushed!"


def test_bytes_not_flushed_are_lost_by_sectors() -> None:
    """Each sector survives or not, on its own."""
    seen = set()
    for seed in range(40):
        disk = make_disk(seed)
        descriptor = make_file(disk, bytes(2 * SECTOR))
        disk.write(descriptor, b"x" * 2 * SECTOR, 0)
        assert disk.read(FILE) == b"x" * 2 * SECTOR
        disk.lose_power()
        content = disk.read(FILE)
        seen.add((content[:SECTOR] == b"x" * SECTOR, content[SECTOR:] == b"x" * SECTOR))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_bytes_not_flushed_survive_a_kill() -> None:
    """A process that dies takes nothing with it."""
    disk = make_disk()
    descriptor = make_file(disk, b"old")
    disk.write(descriptor, b"new", 0)
    disk.kill()
    assert disk.read(FILE) == b"new"


def test_name_not_flushed_may_be_lost_in_a_power_cut() -> None:
    """A new name needs its directory flushed."""
    seen = set()
    for seed in range(20):
        disk = make_disk(seed)
        disk.flush(disk.create(FILE))
        disk.lose_power()
        seen.add(bool(disk.list_directory(ROOT)))
    assert seen == {False, True}


def test_rename_is_all_or_nothing() -> None:
    """There is never neither name."""
    for seed in range(20):
        disk = make_disk(seed)
        make_file(disk, b"x")
        disk.rename(FILE, ROOT / "other")
        disk.lose_power()
        assert len(disk.list_directory(ROOT)) == 1


def test_power_fails_at_the_operation_asked_for() -> None:
    """A crash can be had between any two operations."""
    disk = make_disk()
    descriptor = make_file(disk, b"x")
    disk.operations_left = 1
    disk.write(descriptor, b"y", 0)
    with pytest.raises(PowerLoss):
        disk.flush(descriptor)


def test_broken_disk_returns_an_error_and_forgets() -> None:
    """After a failed flush the pages are gone, and a second flush would succeed."""
    kept = set()
    for seed in range(20):
        disk = make_disk(seed)
        descriptor = make_file(disk, b"old")
        disk.write(descriptor, b"new", 0)
        disk.is_broken = True
        with pytest.raises(OSError) as caught:
            disk.flush(descriptor)
        assert caught.value.errno == errno.EIO
        kept.add(disk.read(FILE))
    assert kept == {b"old", b"new"}


def test_full_disk_refuses_to_grow_and_nothing_else() -> None:
    """What was allocated can be written."""
    disk = make_disk()
    descriptor = make_file(disk, bytes(10))
    disk.is_full = True
    disk.write(descriptor, b"0123456789", 0)
    with pytest.raises(OSError) as caught:
        disk.write(descriptor, b"x", 10)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError):
        disk.create(ROOT / "other")


def test_flipped_bit_changes_one_bit() -> None:
    """One bit, where there is something."""
    disk = make_disk()
    make_file(disk, b"\xff" * 8)
    assert disk.flip_bit().startswith("/1/file bit ")
    assert bin(int.from_bytes(disk.read(FILE), "big")).count("0") - 1 == 1


def test_empty_disk_has_no_bit_to_flip() -> None:
    """Nothing to spoil."""
    assert make_disk().flip_bit() == ""


def test_lock_is_held_until_the_process_ends() -> None:
    """Two processes never share a directory."""
    disk = make_disk()
    disk.lock(ROOT / "LOCK")
    with pytest.raises(BlockingIOError):
        disk.lock(ROOT / "LOCK")
    disk.kill()
    disk.lock(ROOT / "LOCK")
