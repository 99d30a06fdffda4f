"""Proves that the disk that can fail loses what it may lose, and nothing else."""

import errno
import itertools
import os
from pathlib import Path
from typing import NoReturn

import pytest

from raft import DiskStorage, StorageConfig
from raft.codec import Batch
from raft.entry import NORMAL, Entry, HardState
from raft.wal import Wal
from scripts.soak.disk import SECTOR, FaultyDisk, FaultyFiles, Plan


class PowerLost(Exception):
    """In a test, the process goes on."""


def lose_power() -> NoReturn:
    raise PowerLost


@pytest.fixture
def plan_path(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


@pytest.fixture
def files(plan_path: Path) -> FaultyFiles:
    """Files on a disk of their own."""
    made = FaultyFiles()
    made.disk = FaultyDisk(plan_path, lose_power)
    return made


def test_disk_without_a_plan_is_a_disk(files: FaultyFiles, tmp_path: Path) -> None:
    """A whole storage, made, written, opened again."""
    config = StorageConfig(tmp_path / "data")
    disk = DiskStorage.create(config, b"me", files)
    disk.wal.write(Batch(None, [Entry(1, 1, NORMAL, b"x")], HardState(1, 0, 1)))
    disk.close()
    disk, recovered = DiskStorage.open(config, files)
    disk.close()
    assert [entry.data for entry in recovered.entries] == [b"x"]


@pytest.mark.parametrize("kind", ["write", "flush"])
def test_planned_error_comes_after_so_many_operations(
    files: FaultyFiles, tmp_path: Path, plan_path: Path, kind: str
) -> None:
    """And goes away with the plan."""
    descriptor = files.create(tmp_path / "file")
    Plan(fails=kind, after=2).write(plan_path)
    for turn in range(2):
        files.write_durably(descriptor, b"1", turn)
    with pytest.raises(OSError, match="Input/output error") as caught:
        files.write_durably(descriptor, b"1", 2)
    assert caught.value.errno == errno.EIO
    plan_path.unlink()
    files.write_durably(descriptor, b"1", 3)
    files.close(descriptor)


def test_power_loss_takes_unflushed_bytes_and_names(
    files: FaultyFiles, tmp_path: Path, plan_path: Path
) -> None:
    """Over all seeds, each of them is sometimes lost and sometimes not; flushed ones never are."""
    outcomes = set()
    for seed in range(30):
        directory = tmp_path / str(seed)
        directory.mkdir()
        safe = files.create(directory / "safe")
        files.write(safe, b"s" * SECTOR, 0)
        files.flush(safe)
        files.flush_directory(directory)
        loose = files.create(directory / "loose")
        files.write(safe, b"t" * SECTOR, 0)
        files.write(safe, b"u" * SECTOR, SECTOR)
        Plan(seed=seed, power_loss=1).write(plan_path)
        with pytest.raises(PowerLost):
            files.flush(loose)
        plan_path.unlink()
        content = (directory / "safe").read_bytes()
        outcomes.add((content[:1], content[SECTOR : SECTOR + 1], (directory / "loose").exists()))
        assert content[:1] in (b"s", b"t")
        # What the machine remembers is gone with its power.
        files.disk = FaultyDisk(plan_path, lose_power)
        for descriptor in (safe, loose):
            os.close(descriptor)
    assert len(outcomes) == 8


def test_power_loss_undoes_renames_and_removals(
    files: FaultyFiles, tmp_path: Path, plan_path: Path
) -> None:
    """From the last one backwards; seed 0 happens to keep none of them."""
    for name in ("a", "b"):
        files.close(files.create(tmp_path / name))
    files.flush_directory(tmp_path)
    files.rename(tmp_path / "a", tmp_path / "c")
    files.remove(tmp_path / "b")
    states = set()
    for seed in range(12):
        Plan(seed=seed, power_loss=1).write(plan_path)
        with pytest.raises(PowerLost):
            files.flush_directory(tmp_path)
        names = {path.name for path in tmp_path.iterdir()} & {"a", "b", "c"}
        states.add("".join(sorted(names)))
        plan_path.unlink()
        if "a" in names:
            (tmp_path / "a").rename(tmp_path / "c")
        (tmp_path / "b").unlink(missing_ok=True)
    assert states == {"ab", "bc", "c"}


@pytest.mark.parametrize("operations", range(1, 12))
def test_log_survives_a_power_loss_at_every_operation(
    files: FaultyFiles, tmp_path: Path, plan_path: Path, operations: int
) -> None:
    """What was acknowledged is there; the write that was under way is there whole, or not."""
    wal_path = tmp_path / "wal"
    wal_path.mkdir()
    wal = Wal.create(files, wal_path, b"", 16 * 1024)
    Plan(seed=operations, power_loss=operations).write(plan_path)
    acknowledged = _write_until_power_is_lost(wal)
    plan_path.unlink()
    wal.close()
    files.disk = FaultyDisk(plan_path, lose_power)
    again, image, _ = Wal.open(files, wal_path, 0, 16 * 1024)
    again.close()
    assert image.last.index in (acknowledged, acknowledged + 1)
    assert [entry.data for entry in image.entries] == [
        bytes([index]) * 3_000 for index in range(1, image.last.index + 1)
    ]


def _write_until_power_is_lost(wal: Wal) -> int:
    """Return the last index that was acknowledged."""
    for index in itertools.count(1):
        entry = Entry(index, 1, NORMAL, bytes([index]) * 3_000)
        try:
            wal.write(Batch(None, [entry], HardState(1, 0, 0)))
        except PowerLost:
            return index - 1
    raise AssertionError("there is always another index")


def test_full_disk_takes_what_has_its_room_already_and_nothing_else(
    files: FaultyFiles, tmp_path: Path, plan_path: Path
) -> None:
    """As a log counts on: a file of the log has all its room from the start."""
    descriptor = files.create(tmp_path / "file")
    files.allocate(descriptor, SECTOR)
    Plan(full=True).write(plan_path)
    files.write_durably(descriptor, b"1" * SECTOR, 0)
    files.rename(tmp_path / "file", tmp_path / "other")
    for refused in (
        lambda: files.create(tmp_path / "another"),
        lambda: files.allocate(descriptor, 2 * SECTOR),
        lambda: files.write(descriptor, b"1", SECTOR),
        lambda: files.write_durably(descriptor, b"12", SECTOR - 1),
    ):
        with pytest.raises(OSError, match="No space left") as caught:
            refused()
        assert caught.value.errno == errno.ENOSPC
    plan_path.unlink()
    files.write(descriptor, b"1", SECTOR)
    files.close(descriptor)
