"""The doctor names what is wrong and what to type, and keeps what it cuts."""

from pathlib import Path

import pytest

from pyetcd.bootstrap import Identity
from pyetcd.cluster import Member
from pyetcd.command import Set, encode
from pyetcd.doctor import CannotRepair, Finding, Level, Report, examine, repair
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

ME = Member(0xA1, "infra0", ("http://a:1",))
IDENTITY = Identity(ME.id, 0xC1, ME.name, "", True, (ME,))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory of a member that was stopped."""
    return fill(tmp_path / "data", IDENTITY.encode())


def fill(data_dir: Path, metadata: bytes, commands: tuple[bytes, ...] = ()) -> Path:
    disk = DiskStorage.create(StorageConfig(data_dir), metadata)
    values = commands or tuple(
        encode(index, 1, Set("/a", f"value-{index}" * 200, False, 0, False), 0)
        for index in range(1, 4)
    )
    for index, data in enumerate(values, start=1):
        entry = Entry(index, 1, NORMAL, data)
        disk.write_blocking(Write(HardState(1, ME.id, index - 1), [entry], None, []))
    disk.close()
    return data_dir


def spoil(data_dir: Path, needle: bytes) -> None:
    """Flip a bit of what is found in the log."""
    (path,) = (data_dir / "member" / "wal").glob("*.wal")
    data = bytearray(path.read_bytes())
    data[data.index(needle)] ^= 1
    path.write_bytes(data)


def worst(report: Report) -> Finding:
    (finding,) = [found for found in report.findings if found.level is Level.WRONG]
    return finding


def test_healthy_directory_is_described(data_dir: Path) -> None:
    """Who it is, and how far its log goes."""
    report = examine(data_dir)
    assert report.is_healthy
    text = str(report)
    assert "member a1 (infra0) of cluster c1" in text
    assert "entries 1 to 3 after the snapshot, known as committed up to 2, term 1, vote a1" in text
    assert all(line.startswith("ok") for line in text.splitlines())


def test_running_member_is_left_alone(data_dir: Path) -> None:
    """It may be examined, not repaired."""
    disk, _ = DiskStorage.open(StorageConfig(data_dir))
    assert "a member runs with" in str(examine(data_dir))
    with pytest.raises(CannotRepair, match="in use by another process; stop the member first"):
        repair(data_dir)
    disk.close()


def test_damaged_log_is_cut_only_on_demand_and_kept(data_dir: Path) -> None:
    """The advice comes first; after the repair a member would start, and the old file is there."""
    spoil(data_dir, b"value-2")
    before = {path: path.read_bytes() for path in data_dir.rglob("*.wal")}
    report = examine(data_dir)
    assert not report.is_healthy
    assert "a damaged record" in worst(report).text
    assert f"pyetcdctl doctor --repair {data_dir}" in worst(report).advice
    assert "pyetcdctl member remove" in worst(report).advice
    assert {path: path.read_bytes() for path in data_dir.rglob("*.wal")} == before
    repaired = repair(data_dir)
    assert repaired.is_healthy
    assert "entries 1 to 1" in str(repaired)
    assert "forgotten entries" in str(repaired)
    ((path, old),) = before.items()
    aside = data_dir / "member" / "wal.aside"
    assert (aside / path.name).read_bytes() == old
    # Another time, another directory.
    spoil(data_dir, b"value-1")
    repair(data_dir)
    assert (data_dir / "member" / "wal.aside.2" / path.name).exists()
    assert (aside / path.name).read_bytes() == old


def test_log_without_a_good_beginning_cannot_be_repaired(data_dir: Path) -> None:
    """Nothing would be left; nothing is changed."""
    spoil(data_dir, b"raftwal")
    with pytest.raises(CannotRepair, match="nothing of the log would be left"):
        repair(data_dir)
    assert not (data_dir / "member" / "wal.aside").exists()


def test_broken_snapshot_is_put_aside(data_dir: Path) -> None:
    """A start would do so, too: it is a note."""
    path = data_dir / "member" / "snap" / "0000000000000001-0000000000000002.snap"
    path.write_bytes(b"broken")
    (data_dir / "member" / "snap" / "1.snap.tmp").touch()
    report = examine(data_dir)
    assert report.is_healthy
    assert f"{path}: not a snapshot" in str(report)
    assert "left by a crash" in str(report)
    assert path.exists()
    assert "put aside" in str(repair(data_dir))
    assert path.with_name(path.name + ".broken").exists()


def test_torn_write_is_a_note(data_dir: Path) -> None:
    """The next start removes it."""
    (path,) = (data_dir / "member" / "wal").glob("*.wal")
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    path.write_bytes(data[: end - 700] + bytes(len(data) - end + 700))
    report = examine(data_dir)
    assert report.is_healthy
    assert "a crash cut off the last write" in str(report)


def test_log_that_needs_a_missing_snapshot_is_wrong(tmp_path: Path) -> None:
    """Only a backup or the other members help."""
    disk = DiskStorage.create(StorageConfig(tmp_path / "data"), IDENTITY.encode())
    meta = SnapshotMeta(7, 1, Configuration(voters=(ME.id,)))
    disk.write_blocking(Write(HardState(1, 0, 7), [], meta, []))
    disk.close()
    finding = worst(examine(tmp_path / "data"))
    assert "no readable snapshot" in finding.text
    assert "pyetcdctl snapshot restore" in finding.advice


def test_strange_metadata_and_entries_are_told(tmp_path: Path) -> None:
    """A log of another program is no member's; an entry that nobody understands is skipped."""
    assert "does not say whose it is" in worst(examine(fill(tmp_path / "a", b"strange"))).text
    report = examine(fill(tmp_path / "b", IDENTITY.encode(), (b"strange",)))
    assert report.is_healthy
    assert "entry 1 is no command" in str(report)


def test_directory_without_a_log_is_told_by_what_is_there(data_dir: Path, tmp_path: Path) -> None:
    """None at all, an empty one, one whose log is elsewhere."""
    assert "there is no directory" in worst(examine(tmp_path / "none")).text
    (tmp_path / "empty").mkdir()
    assert "no member has run with it" in worst(examine(tmp_path / "empty")).advice
    (data_dir / "member" / "snap" / "0000000000000001-0000000000000002.snap").touch()
    (data_dir / "member" / "wal").rename(tmp_path / "wal")
    assert "name it with --wal-dir" in worst(examine(data_dir)).advice
    assert examine(data_dir, tmp_path / "wal").is_healthy
