"""Proves that damage hits what it is meant to hit, and that a member does not take it for good."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from raft import (
    DiskStorage,
    RaftError,
    SnapshotMeta,
    StorageConfig,
    Write,
)
from raft.entry import NORMAL, Configuration, Entry, HardState
from scripts.soak import damage

META = SnapshotMeta(4, 1, Configuration(voters=(1,)))
NEWEST = Entry(9, 1, NORMAL, b"x" * 700)


@pytest.fixture
def config(tmp_path: Path) -> StorageConfig:
    """A storage with entries, a vote, a snapshot of its own and one of a leader."""
    config = StorageConfig(tmp_path, segment_bytes=16 * 1024)
    disk = DiskStorage.create(config, b"me")
    first = [Entry(index, 1, NORMAL, b"x" * 700) for index in range(1, 5)]
    disk.write_blocking(Write(HardState(1, 0, 0), first, None, []))
    disk.write_blocking(Write(HardState(2, 1, 4), [], None, []))
    for meta in (META, SnapshotMeta(8, 2, META.configuration)):
        writer = disk.begin_snapshot(meta)
        writer.write(b"state" * 100)
        writer.commit()
    disk.write_blocking(Write(HardState(2, 1, 8), [], SnapshotMeta(8, 2, META.configuration), []))
    disk.write_blocking(Write(HardState(2, 1, 8), [replace(NEWEST, term=2)], None, []))
    disk.close()
    return config


def opens(config: StorageConfig) -> bool:
    """Whether a member would go on with these files; if so, with all that it had promised."""
    try:
        disk, recovered = DiskStorage.open(config)
    except RaftError:
        return False
    disk.close()
    last = recovered.entries[-1] if recovered.entries else None
    assert last == replace(NEWEST, term=2), "it has forgotten an entry that it had acknowledged"
    assert recovered.hard_state[:2] == (2, 1), "it has forgotten its vote"
    return True


def test_every_kind_of_bytes_has_its_place(config: StorageConfig) -> None:
    """The two snapshots have two places each."""
    assert sorted(place.kind for place in damage.places(config.directory)) == [
        *("entries", "hard state", "head", "last record"),
        *("snapshot", "snapshot", "snapshot marker", "snapshot's end", "snapshot's end"),
    ]
    assert opens(config)


@pytest.mark.parametrize(
    "kind", ["head", "entries", "hard state", "snapshot marker", "last record"]
)
@pytest.mark.parametrize("seed", range(12))
def test_flipped_bit_of_the_log_is_refused(config: StorageConfig, kind: str, seed: int) -> None:
    """Wherever it is; the last record was confirmed, and is not taken for a torn one."""
    rng = random.Random(seed)
    (place,) = [it for it in damage.places(config.directory) if it.kind == kind]
    before = place.path.read_bytes()
    offset = damage.flip_bit(place, rng)
    after = place.path.read_bytes()
    assert [at for at in range(len(before)) if before[at] != after[at]] == [offset]
    assert not opens(config)


@pytest.mark.parametrize("seed", range(6))
def test_spoiled_snapshot_that_the_log_needs_is_refused(config: StorageConfig, seed: int) -> None:
    """Cut short, or gone: the log begins behind it."""
    rng = random.Random(seed)
    newest = damage.snapshots(config.directory)[-1]
    if seed % 2:
        assert damage.truncate(newest, rng) == newest.stat().st_size
    else:
        newest.unlink()
    assert not opens(config)


def test_spoiled_snapshot_that_the_log_does_not_need_is_no_loss(config: StorageConfig) -> None:
    """An older one."""
    damage.snapshots(config.directory)[0].unlink()
    assert opens(config)


def test_emptied_segment_is_refused(config: StorageConfig) -> None:
    """A log without its only file would be one without votes."""
    (segment,) = damage.segments(config.directory)
    segment.write_bytes(b"")
    assert not opens(config)
