"""Backups without a cluster: what is made of data directories and files, and what is refused."""

from pathlib import Path

import pytest

from pyetcd.backup import UNFINISHED, BackupError, Target, backup, check, restore
from pyetcd.bootstrap import Identity
from pyetcd.cluster import Cluster, Member, member_id
from pyetcd.command import MemberChange, Set, encode, encode_member_change
from pyetcd.server.apply import Applier
from pyetcd.store import Store
from raft import (
    ADD_VOTER,
    CONFIG,
    NORMAL,
    Change,
    ConfigChange,
    Configuration,
    DiskStorage,
    Entry,
    HardState,
    Recovered,
    SnapshotMeta,
    StorageConfig,
    Write,
    encode_change,
    encode_snapshot,
)
from tests.pyetcd.server.nobody import Nobody

URLS = ("http://a:1",)
ME = Member(member_id(URLS, "t"), "infra0", URLS)
IDENTITY = Identity(ME.id, 0xC1, ME.name, "t", False, (ME,))
NEW = {"x": ("http://x:1",), "y": ("http://y:1",)}


def log() -> list[Entry]:
    change = ConfigChange((Change(ADD_VOTER, ME.id),), encode_member_change(MemberChange(0, ME, 0)))
    put = encode(1, 1, Set("/a", "value", False, 2**62, False), 0)
    return [Entry(1, 1, CONFIG, encode_change(change)), Entry(2, 1, NORMAL, put)]


def applied() -> Applier:
    """The state after the log."""
    applier = Applier(Store(), Cluster(IDENTITY.cluster_id), Nobody())
    applier.cluster.add(ME)
    applier.apply(log()[1:])
    return applier


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A member that was killed before its newest entry was marked as committed."""
    path = tmp_path / "data"
    disk = DiskStorage.create(StorageConfig(path), IDENTITY.encode())
    disk.write_blocking(Write(HardState(1, ME.id, 1), log(), None, []))
    disk.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What `save` would have written."""
    path = tmp_path / "file"
    meta = SnapshotMeta(2, 1, Configuration(voters=(ME.id,)))
    path.write_bytes(b"".join(encode_snapshot(meta, applied().capture())))
    return path


def opened(directory: Path, wal_dir: Path | None = None) -> tuple[Identity, Recovered, Applier]:
    """What a member would start with."""
    disk, recovered = DiskStorage.open(StorageConfig(directory, wal_dir))
    applier = Applier(Store(), Cluster(1), Nobody())
    assert recovered.snapshot is not None
    applier.restore(recovered.snapshot, disk.read_snapshot(recovered.snapshot))
    disk.close()
    return Identity.decode(recovered.metadata), recovered, applier


def value(applier: Applier) -> tuple[str | None, int]:
    node = applier.store.get("/a", 0).node
    assert node is not None
    return node.value, node.expiration


def test_backup_has_the_newest_entry_and_another_identity(data_dir: Path, tmp_path: Path) -> None:
    """The key with its expiration; one member, whom the old cluster does not know."""
    copy, wal = tmp_path / "copy", tmp_path / "wal"
    made = backup(data_dir, copy, backup_wal_dir=wal)
    identity, recovered, applier = opened(copy, wal)
    assert identity == made
    assert identity.member_id != ME.id
    assert identity.cluster_id != IDENTITY.cluster_id
    assert (identity.name, identity.token, identity.member.peer_urls) == ("infra0", "t", URLS)
    assert list(applier.cluster.members) == [identity.member_id]
    assert recovered.hard_state == HardState(1, 0, 2)
    assert value(applier) == ("value", 2**62)
    assert backup(data_dir, tmp_path / "other").member_id != identity.member_id


def test_restored_members_agree_and_are_new(file: Path, tmp_path: Path) -> None:
    """Each machine makes its own; another file gives other ids."""
    assert check(file).raft_index == 2
    told: list[int] = []
    (x,) = restore(file, [Target("x", tmp_path / "x")], initial_cluster=NEW, progress=told.append)
    (y,) = restore(file, [Target("y", tmp_path / "sub" / "y")], initial_cluster=NEW)
    assert told
    assert (x.members, x.cluster_id) == (y.members, y.cluster_id)
    assert x.member_id != member_id(NEW["x"], "etcd-cluster")
    states = [opened(tmp_path / "x"), opened(tmp_path / "sub" / "y")]
    for identity, (stored, recovered, applier) in zip((x, y), states, strict=True):
        assert stored == identity
        assert recovered.snapshot is not None
        assert recovered.snapshot.configuration.voters == tuple(m.id for m in x.members)
        assert value(applier) == ("value", 2**62)
        assert applier.store.index == applied().store.index
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "sub", "x"]


def test_damaged_file_is_refused_and_nothing_is_made(file: Path, tmp_path: Path) -> None:
    """A flipped bit, a missing end, another kind of file."""
    good = file.read_bytes()
    for bad in (good.replace(b"value", b"valuf"), good[:-1], good + b"x", b"etcd", b""):
        file.write_bytes(bad)
        with pytest.raises(BackupError, match="this is no backup, or a damaged one"):
            restore(file, [Target("x", tmp_path / "x")], initial_cluster=NEW)
    meta = SnapshotMeta(2, 1, Configuration(voters=(ME.id,)))
    for head in (b"", b"\xc1", b"\x93\xa1a\x01\x02", b"\x93\xa8pyetcd/0\x01\x02"):
        file.write_bytes(b"".join(encode_snapshot(meta, [head])))
        with pytest.raises(BackupError):
            check(file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_restore_refuses_what_is_not_new_or_not_a_member(file: Path, tmp_path: Path) -> None:
    """An empty directory is new; nothing is made before everything is checked."""
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "kept").touch()
    targets = [Target("x", tmp_path / "x"), Target("y", tmp_path / "y")]
    with pytest.raises(BackupError, match="y exists and is not empty"):
        restore(file, targets, initial_cluster=NEW)
    with pytest.raises(BackupError, match="z is not in the initial cluster"):
        restore(file, [Target("z", tmp_path / "z")], initial_cluster=NEW)
    with pytest.raises(BackupError, match="two members have the same peer URLs"):
        restore(file, targets[:1], initial_cluster={"x": URLS, "y": URLS})
    assert list((tmp_path / "x").iterdir()) == []
    restore(file, targets[:1], initial_cluster=NEW)
    assert opened(tmp_path / "x")


def test_what_a_crash_left_unfinished_is_replaced(file: Path, tmp_path: Path) -> None:
    """It is not where a member would look for it."""
    left = tmp_path / "x" / UNFINISHED
    left.mkdir(parents=True)
    (left / "half").touch()
    restore(file, [Target("x", tmp_path / "x")], initial_cluster=NEW)
    assert not left.exists()


def test_backup_of_what_is_no_data_dir_is_refused(data_dir: Path, tmp_path: Path) -> None:
    """Nothing there, a damaged log, a log of another program, an empty one."""
    with pytest.raises(BackupError, match="is no data directory"):
        backup(tmp_path / "none", tmp_path / "copy")
    (path,) = (data_dir / "member" / "wal").glob("*.wal")
    path.write_bytes(path.read_bytes().replace(b"value", b"valuf"))
    with pytest.raises(BackupError, match="see pyetcdctl doctor"):
        backup(data_dir, tmp_path / "copy")
    for name, metadata in (("strange", b"strange"), ("empty", IDENTITY.encode())):
        DiskStorage.create(StorageConfig(tmp_path / name), metadata).close()
        with pytest.raises(BackupError, match=r"does not say whose it is|nothing to back up"):
            backup(tmp_path / name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_restore_that_fails_midway_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, for instance."""

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(DiskStorage, "write_blocking", fail)
    with pytest.raises(OSError, match="no space left"):
        restore(file, [Target("x", tmp_path / "x", tmp_path / "wal")], initial_cluster=NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
