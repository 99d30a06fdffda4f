"""`inspect` says what a start would find and changes nothing; `cut` keeps what it takes away."""

from pathlib import Path

import pytest

from raft import (
    NORMAL,
    Configuration,
    CorruptRecord,
    DiskStorage,
    Entry,
    HardState,
    Inspection,
    SnapshotMeta,
    StorageConfig,
    Write,
    cut,
    inspect,
    read_newest_snapshot,
    set_aside,
)
from raft.wal import SPARE

# So small that a few entries fill a segment.
SEGMENT_BYTES = 8192
META = SnapshotMeta(3, 1, Configuration(voters=(1,)))


def entry(index: int) -> Entry:
    return Entry(index, 1, NORMAL, b"%d" % index * 2500)


def fill(storage: StorageConfig, *, entries: int = 9, snapshot: bool = False) -> None:
    """Write a log, each entry by itself, and close it."""
    disk = DiskStorage.create(storage, b"me")
    for index in range(1, entries + 1):
        disk.write_blocking(Write(HardState(1, 0, index - 1), [entry(index)], None, []))
    if snapshot:
        writer = disk.begin_snapshot(META)
        writer.write(b"state")
        writer.commit()
    disk.close()


@pytest.fixture
def storage(tmp_path: Path) -> StorageConfig:
    return StorageConfig(tmp_path / "data", segment_bytes=SEGMENT_BYTES)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def flip(path: Path, needle: bytes) -> None:
    """Spoil one byte in the middle of what is found."""
    data = bytearray(path.read_bytes())
    at = data.index(needle)
    data[at] ^= 1
    path.write_bytes(data)


def indexes(found: Inspection) -> list[int]:
    assert found.recovered is not None
    return [entry.index for entry in found.recovered.entries]


def test_inspection_finds_what_a_start_would_and_changes_nothing(storage: StorageConfig) -> None:
    """Log, snapshot, metadata; not one byte is written."""
    fill(storage, snapshot=True)
    before = contents(storage.directory)
    found = inspect(storage)
    assert contents(storage.directory) == before
    assert len(found.segments) > 1
    assert found.snapshots == [META]
    assert (found.damage, found.torn, found.contradiction) == (None, None, None)
    assert not found.in_use
    assert indexes(found) == [4, 5, 6, 7, 8, 9]
    assert b"".join(read_newest_snapshot(storage, META)) == b"state"
    disk, recovered = DiskStorage.open(storage)
    disk.close()
    assert found.recovered == recovered


def test_inspection_sees_that_another_process_has_the_directory(storage: StorageConfig) -> None:
    """A lock of ours counts as well: it is of another open file."""
    fill(storage)
    disk, _ = DiskStorage.open(storage)
    assert inspect(storage).in_use
    disk.close()
    assert not inspect(storage).in_use


def test_inspection_of_nothing_finds_nothing(tmp_path: Path) -> None:
    """Nor does it make a directory."""
    found = inspect(StorageConfig(tmp_path / "none"))
    assert found == Inspection()
    assert list(tmp_path.iterdir()) == []


def test_inspection_reports_a_torn_write_and_what_is_before_it(storage: StorageConfig) -> None:
    """As a crash leaves it: sectors that are zero."""
    fill(storage, entries=2)
    (segment,) = inspect(storage).segments
    data = bytearray(segment.path.read_bytes())
    end = len(bytes(data).rstrip(b"\0"))
    data[end - 1024 : end] = bytes(1024)
    segment.path.write_bytes(data)
    found = inspect(storage)
    assert found.torn is not None
    assert found.damage is None
    assert indexes(found) == [1]


def test_spare_log_file_is_no_trace_of_a_crash(storage: StorageConfig) -> None:
    """It is there while a server runs, and after it has ended in order."""
    disk = DiskStorage.create(storage, b"")
    while not disk.wants_room:
        disk.write_blocking(Write(HardState(1, 0, 0), [entry(1)], None, []))
    assert disk.make_room()
    disk.close()
    assert (storage.wal_path / SPARE).exists()
    assert inspect(storage).unfinished == []


def test_inspection_lists_broken_and_unfinished_snapshots(storage: StorageConfig) -> None:
    """A broken one is set aside under another name, and nothing of it is lost."""
    fill(storage, snapshot=True)
    (path,) = storage.snapshot_path.glob("*.snap")
    (storage.snapshot_path / "1.snap.tmp").write_bytes(b"half")
    flip(path, b"state")
    found = inspect(storage)
    assert found.snapshots == []
    assert [broken.path for broken in found.broken] == [str(path)]
    assert [left.name for left in found.unfinished] == ["1.snap.tmp"]
    target = set_aside(storage, found.broken[0])
    assert target.name == path.name + ".broken"
    assert inspect(storage).broken == []
    assert not path.exists()


@pytest.mark.parametrize("index", [2, 5, 9])
def test_cut_ends_the_log_before_the_damage_and_keeps_the_rest_aside(
    storage: StorageConfig, tmp_path: Path, index: int
) -> None:
    """In the first segment, in the middle, in the last record."""
    fill(storage)
    needle = entry(index).data
    path = next(p for p in sorted(storage.wal_path.glob("*.wal")) if needle in p.read_bytes())
    flip(path, needle)
    before = contents(storage.wal_path)
    found = inspect(storage)
    assert found.damage is not None
    assert found.recovered is None
    kept = cut(storage, found.damage, tmp_path / "aside")
    assert [p.name for p in kept] == [
        p.name for p in sorted(before) if p.name >= path.name and p.suffix
    ]
    for copy in kept:
        assert copy.read_bytes() == before[storage.wal_path / copy.name]
    assert indexes(inspect(storage)) == list(range(1, index))
    disk, recovered = DiskStorage.open(storage)
    disk.write_blocking(Write(recovered.hard_state, [entry(index)], None, []))
    disk.close()
    assert indexes(inspect(storage)) == list(range(1, index + 1))


def test_cut_takes_a_segment_with_a_broken_head_away(
    storage: StorageConfig, tmp_path: Path
) -> None:
    """The log ends with the segment before it."""
    fill(storage)
    last = inspect(storage).segments[-1].path
    flip(last, b"raftwal")
    found = inspect(storage)
    assert found.damage is not None
    (kept,) = cut(storage, found.damage, tmp_path / "aside")
    assert kept.name == last.name
    assert not last.exists()
    assert indexes(inspect(storage))[-1] < 9


def test_cut_refuses_to_leave_nothing(storage: StorageConfig, tmp_path: Path) -> None:
    """The head of the only segment is broken."""
    fill(storage, entries=1)
    (segment,) = inspect(storage).segments
    flip(segment.path, b"raftwal")
    found = inspect(storage)
    assert found.damage is not None
    with pytest.raises(CorruptRecord):
        cut(storage, found.damage, tmp_path / "aside")
    assert not (tmp_path / "aside").exists()


def test_inspection_names_a_contradiction(storage: StorageConfig) -> None:
    """The log begins after a snapshot that is not there."""
    disk = DiskStorage.create(storage, b"me")
    disk.write_blocking(Write(HardState(1, 0, 3), [], META, []))
    disk.close()
    found = inspect(storage)
    assert found.recovered is None
    assert "no readable snapshot" in str(found.contradiction)
