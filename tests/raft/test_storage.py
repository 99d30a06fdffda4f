"""Storage as a whole: what is confirmed survives every crash, and what is damaged is refused."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft.confchange import ADD_VOTER, Change, ConfigChange, decode_change
from raft.entry import CONFIG, NORMAL, Configuration, Entry, HardState, SnapshotMeta
from raft.errors import CorruptRecord
from raft.interfaces import Recovered, Write
from raft.recovery import Unrecoverable
from raft.storage import (
    DirectoryInUse,
    DirectoryNotNew,
    DiskStorage,
    MemoryStorage,
    StorageConfig,
    found_cluster,
)
from tests.raft.crash_files import Keep, RecordingFiles, UnflushedFiles, cuts

CONFIGURATION = Configuration(voters=(1, 2, 3))


def entries(first: int, last: int, term: int, size: int = 40) -> list[Entry]:
    return [Entry(i, term, NORMAL, b"%d." % i * (size // 4)) for i in range(first, last + 1)]


def meta(raft_index: int, term: int) -> SnapshotMeta:
    return SnapshotMeta(raft_index, term, CONFIGURATION)


def write(
    hard_state: HardState, some: list[Entry] | None = None, snapshot: SnapshotMeta | None = None
) -> Write:
    return Write(hard_state, some or [], snapshot, [])


def save(storage: DiskStorage, named: SnapshotMeta, chunks: list[bytes]) -> None:
    writer = storage.begin_snapshot(named)
    for chunk in chunks:
        writer.write(chunk)
    writer.commit()


def config(tmp_path: Path, max_wals: int = 5, max_snapshots: int = 5) -> StorageConfig:
    return StorageConfig(tmp_path / "data", None, max_wals, max_snapshots, segment_bytes=8192)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[DiskStorage]:
    created = DiskStorage.create(config(tmp_path), b"me", UnflushedFiles())
    yield created
    created.close()


def reopen(storage: DiskStorage, tmp_path: Path) -> Recovered:
    """What a next process finds."""
    storage.close()
    again, found = DiskStorage.open(config(tmp_path), UnflushedFiles())
    again.close()
    return found


# ------------------------------------------------------------------------------- create and open


def test_storage_that_was_created_opens_empty(storage: DiskStorage, tmp_path: Path) -> None:
    """A new server finds its metadata and nothing else."""
    assert reopen(storage, tmp_path) == Recovered(metadata=b"me")


def test_storage_exists_only_after_create(tmp_path: Path) -> None:
    """An empty directory, or one in which creation was cut off, holds no server."""
    where = config(tmp_path)
    assert not DiskStorage.exists(where)
    DiskStorage.create(where, b"", UnflushedFiles()).close()
    assert DiskStorage.exists(where)


def test_storage_directories_are_private(storage: DiskStorage, tmp_path: Path) -> None:
    """Nobody else may read the keys."""
    for path in (tmp_path / "data").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_storage_with_a_wal_directory_of_its_own_keeps_the_log_there(tmp_path: Path) -> None:
    """The log can be on another disk."""
    where = StorageConfig(tmp_path / "data", wal_directory=tmp_path / "fast" / "log")
    created = DiskStorage.create(where, b"me", UnflushedFiles())
    created.write_blocking(write(HardState(1, 1, 0), entries(1, 3, 1)))
    created.close()
    assert list((tmp_path / "fast" / "log").glob("*.wal"))
    assert not (tmp_path / "data" / "member" / "wal").exists()
    again, found = DiskStorage.open(where, UnflushedFiles())
    again.close()
    assert found.entries == entries(1, 3, 1)


def test_storage_in_the_wal_directory_itself_does_not_lock_itself_out(tmp_path: Path) -> None:
    """Both may be one directory."""
    where = StorageConfig(tmp_path / "data", wal_directory=tmp_path / "data")
    DiskStorage.create(where, b"me", UnflushedFiles()).close()
    again, found = DiskStorage.open(where, UnflushedFiles())
    again.close()
    assert found.metadata == b"me"


def test_create_in_a_used_directory_is_refused(storage: DiskStorage, tmp_path: Path) -> None:
    """A server is never replaced by a new one by mistake."""
    storage.close()
    with pytest.raises(DirectoryNotNew, match=r"a server already; its log is in"):
        DiskStorage.create(config(tmp_path), b"", UnflushedFiles())


def test_create_beside_snapshots_without_a_log_is_refused(
    storage: DiskStorage, tmp_path: Path
) -> None:
    """A mistyped log directory must not make a server forget its votes."""
    save(storage, meta(1, 1), [b"state"])
    storage.close()
    where = StorageConfig(tmp_path / "data", wal_directory=tmp_path / "typo")
    with pytest.raises(DirectoryNotNew, match=r"should be, but is not, in .*typo"):
        DiskStorage.create(where, b"", UnflushedFiles())


# -------------------------------------------------------------------------------------- the lock


def test_directory_in_use_by_another_process_is_refused(
    storage: DiskStorage, tmp_path: Path
) -> None:
    """A second process is told which directory is taken, and may have it later."""
    program = (
        "import sys, pathlib\n"
        "from raft.storage import DiskStorage, DirectoryInUse, StorageConfig\n"
        "try:\n"
        "    DiskStorage.open(StorageConfig(pathlib.Path(sys.argv[1])))[0].close()\n"
        "except DirectoryInUse as error:\n"
        "    sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    taken = subprocess.run(command, capture_output=True, text=True, check=False)
    assert taken.returncode == 1
    assert taken.stderr == f"{tmp_path / 'data'} is in use by another process\n"
    assert reopen(storage, tmp_path).metadata == b"me"


def test_two_servers_with_one_log_directory_are_refused(tmp_path: Path) -> None:
    """The log's directory is locked too, and the refused one lets go of its own."""
    shared = tmp_path / "log"
    first = DiskStorage.create(StorageConfig(tmp_path / "a", shared), b"", UnflushedFiles())
    second = StorageConfig(tmp_path / "b", shared)
    with pytest.raises(DirectoryInUse, match="log is in use"):
        DiskStorage.create(second, b"", UnflushedFiles())
    first.close()
    with pytest.raises(DirectoryNotNew):
        DiskStorage.create(second, b"", UnflushedFiles())


# -------------------------------------------------------------------------------- write and load


def test_storage_finds_what_was_written(storage: DiskStorage, tmp_path: Path) -> None:
    """Entries over several segments, a conflict, and the last hard state come back."""
    storage.write_blocking(write(HardState(1, 2, 0), entries(1, 300, 1)))
    storage.write_blocking(write(HardState(1, 2, 100), entries(301, 400, 1)))
    storage.write_blocking(write(HardState(3, 0, 150), entries(200, 420, 3)))
    storage.write_blocking(write(HardState(4, 1, 150)))
    found = reopen(storage, tmp_path)
    assert found.hard_state == HardState(4, 1, 150)
    assert found.entries == entries(1, 199, 1) + entries(200, 420, 3)
    assert len(list((tmp_path / "data/member/wal").glob("*.wal"))) > 1


def test_storage_starts_at_its_newest_snapshot(storage: DiskStorage, tmp_path: Path) -> None:
    """Entries that a snapshot contains are not loaded."""
    storage.write_blocking(write(HardState(1, 1, 9), entries(1, 10, 1)))
    save(storage, meta(3, 1), [b"older"])
    save(storage, meta(7, 1), [b"new", b"", b"er"])
    assert b"".join(storage.read_snapshot(meta(7, 1))) == b"newer"
    found = reopen(storage, tmp_path)
    assert found.snapshot == meta(7, 1)
    assert found.entries == entries(8, 10, 1)
    assert found.hard_state == HardState(1, 1, 9)


def test_storage_with_a_broken_snapshot_uses_the_one_before(
    storage: DiskStorage, tmp_path: Path
) -> None:
    """The log still holds what the older one lacks; the broken one is set aside."""
    storage.write_blocking(write(HardState(1, 1, 9), entries(1, 10, 1)))
    save(storage, meta(3, 1), [b"older"])
    save(storage, meta(7, 1), [b"newer"])
    newest = tmp_path / "data/member/snap/0000000000000001-0000000000000007.snap"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = reopen(storage, tmp_path)
    assert found.snapshot == meta(3, 1)
    assert found.entries == entries(4, 10, 1)
    assert newest.with_name(newest.name + ".broken").exists()


def test_snapshot_beyond_the_log_replaces_it_for_good(storage: DiskStorage, tmp_path: Path) -> None:
    """A crash before the marker: the snapshot counts, terms rise, and later entries go on there."""
    storage.write_blocking(write(HardState(2, 1, 5), entries(1, 8, 2)))
    save(storage, meta(50, 6), [b"from the leader"])
    assert reopen(storage, tmp_path) == Recovered(b"me", HardState(6, 0, 50), meta(50, 6), [])
    again, _ = DiskStorage.open(config(tmp_path), UnflushedFiles())
    again.write_blocking(write(HardState(6, 0, 51), entries(51, 60, 6)))
    found = reopen(again, tmp_path)
    assert found.entries == entries(51, 60, 6)
    assert found.hard_state == HardState(6, 0, 51)


def test_snapshot_that_contradicts_entries_drops_them_for_good(
    storage: DiskStorage, tmp_path: Path
) -> None:
    """A stale end of the log behind a leader's snapshot neither counts nor comes back (M28)."""
    storage.write_blocking(write(HardState(2, 1, 5), entries(1, 20, 2)))
    save(storage, meta(10, 3), [b"from the leader"])
    assert reopen(storage, tmp_path) == Recovered(b"me", HardState(3, 0, 10), meta(10, 3), [])
    again, _ = DiskStorage.open(config(tmp_path), UnflushedFiles())
    again.write_blocking(write(HardState(3, 0, 10), entries(11, 12, 3)))
    assert reopen(again, tmp_path).entries == entries(11, 12, 3)


def test_marker_without_its_snapshot_is_refused(storage: DiskStorage, tmp_path: Path) -> None:
    """The log says that it begins after a snapshot: without that, the state is lost."""
    storage.write_blocking(write(HardState(2, 1, 5), entries(1, 8, 2)))
    save(storage, meta(50, 2), [b"state"])
    storage.write_blocking(write(HardState(2, 1, 50), entries(51, 52, 2), meta(50, 2)))
    os.unlink(tmp_path / "data/member/snap/0000000000000002-0000000000000032.snap")
    with pytest.raises(Unrecoverable, match="after a snapshot at index 50, but there is no"):
        reopen(storage, tmp_path)
    save(storage, meta(7, 2), [b"older"])
    with pytest.raises(Unrecoverable, match="newest readable snapshot ends at 7"):
        reopen(storage, tmp_path)


def test_open_that_is_refused_lets_go_of_the_directory(
    storage: DiskStorage, tmp_path: Path
) -> None:
    """An embedding program may repair and try again."""
    storage.write_blocking(write(HardState(2, 1, 9), entries(1, 8, 2)))
    for _ in range(2):
        with pytest.raises(Unrecoverable, match="up to 9 were committed, but the log ends at 8"):
            reopen(storage, tmp_path)


def test_open_removes_what_a_crash_left_unfinished(storage: DiskStorage, tmp_path: Path) -> None:
    """Half a snapshot and half a segment take room and mean nothing."""
    storage.begin_snapshot(meta(5, 1)).write(b"half")
    unfinished = tmp_path / "data/member/wal/0000000000000002-0000000000000001.wal.tmp"
    unfinished.write_bytes(b"half")
    reopen(storage, tmp_path)
    assert not list((tmp_path / "data").rglob("*.tmp"))


def test_open_makes_durable_what_it_found(storage: DiskStorage, tmp_path: Path) -> None:
    """A killed process leaves bytes and names in memory only, and a server acts upon them."""
    storage.write_blocking(write(HardState(1, 1, 0), entries(1, 3, 1)))
    storage.close()
    files = RecordingFiles()
    DiskStorage.open(config(tmp_path), files)[0].close()
    opened = next(operation for operation in files.operations if operation[0] == "open")
    assert ("flush", opened[1]) in files.operations
    for directory in ("snap", "wal"):
        assert ("flush_directory", tmp_path / "data/member" / directory) in files.operations


# -------------------------------------------------------------------------------------- transfer


def test_snapshot_travels_from_one_server_to_another(storage: DiskStorage, tmp_path: Path) -> None:
    """The receiver ends up with the sender's chunks under the sender's name."""
    chunks = [b"a" * 700_000, b"b", b"c" * 300]
    save(storage, meta(7, 1), chunks)
    other = DiskStorage.create(StorageConfig(tmp_path / "other"), b"", UnflushedFiles())
    receiver = other.receive_snapshot()
    for piece in storage.open_snapshot(meta(7, 1)):
        receiver.write(piece)
    assert receiver.commit() == meta(7, 1)
    assert list(other.read_snapshot(meta(7, 1))) == chunks
    other.close()


# ----------------------------------------------------------------------------------------- purge


def test_release_keeps_max_files_and_all_that_is_needed(tmp_path: Path) -> None:
    """The oldest files go; what a start needs stays, however much that is."""
    where = config(tmp_path, max_wals=2, max_snapshots=3)
    storage = DiskStorage.create(where, b"", UnflushedFiles())
    for i in range(1, 200, 10):
        storage.write_blocking(write(HardState(1, 1, i), entries(i, i + 9, 1, size=400)))
    wals = sorted((tmp_path / "data/member/wal").glob("*.wal"))
    for raft_index in (10, 20, 30, 40):
        save(storage, meta(raft_index, 1), [b"state"])
    storage.release(meta(40, 1))
    kept = sorted((tmp_path / "data/member/wal").glob("*.wal"))
    assert kept == wals[-len(kept) :]
    assert 2 < len(kept) < len(wals)
    assert int(kept[0].stem[17:], 16) <= 41 < int(kept[1].stem[17:], 16)
    save(storage, meta(191, 1), [b"state"])
    storage.release(meta(191, 1))
    assert sorted((tmp_path / "data/member/wal").glob("*.wal")) == wals[-2:]
    snapshots = sorted(
        int(path.stem[17:], 16) for path in (tmp_path / "data/member/snap").glob("*.snap")
    )
    assert snapshots == [30, 40, 191]
    assert reopen(storage, tmp_path).entries == entries(192, 200, 1, size=400)


def test_release_with_zero_keeps_everything(tmp_path: Path) -> None:
    """0 is etcd's word for no limit."""
    where = config(tmp_path, max_wals=0, max_snapshots=0)
    storage = DiskStorage.create(where, b"", UnflushedFiles())
    for i in range(1, 100, 10):
        storage.write_blocking(write(HardState(1, 1, i), entries(i, i + 9, 1, size=400)))
        save(storage, meta(i, 1), [b"state"])
    before = sorted((tmp_path / "data").rglob("*"))
    storage.release(meta(91, 1))
    assert sorted((tmp_path / "data").rglob("*")) == before
    storage.close()


# -------------------------------------------------------------------------------------- failures


class FailingFiles(UnflushedFiles):
    """Fails one durable write, and would let the next succeed."""

    failures = 0

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(5, "Input/output error")
        super().write_durably(descriptor, data, offset)


def test_write_after_a_failed_one_never_succeeds(tmp_path: Path) -> None:
    """An fsync that failed once is not tried again: nobody knows what the disk holds (M21)."""
    files = FailingFiles()
    storage = DiskStorage.create(config(tmp_path), b"", files)
    storage.write_blocking(write(HardState(1, 1, 0), entries(1, 2, 1)))
    files.failures = 1
    with pytest.raises(OSError, match="Input/output error"):
        storage.write_blocking(write(HardState(1, 1, 0), entries(3, 4, 1)))
    with pytest.raises(AssertionError, match="after one that failed"):
        storage.write_blocking(write(HardState(1, 1, 0), entries(3, 4, 1)))
    assert reopen(storage, tmp_path).entries == entries(1, 2, 1)


# --------------------------------------------------------------------------------------- crashes
# A life: each step is done to the disk and to the memory alike. Received snapshots, conflicts,
# segments that fill up and releases are all in it.

LIFE = [
    write(HardState(1, 1, 0), entries(1, 3, 1)),
    write(HardState(1, 1, 3), entries(4, 30, 1)),
    write(HardState(2, 0, 3), entries(20, 60, 2, size=100)),
    meta(25, 2),
    write(HardState(2, 0, 61), entries(61, 61, 2, size=6000)),
    write(HardState(3, 2, 61), entries(62, 90, 2)),
    meta(61, 2),
    "release",
    meta(200, 4),  # from a leader; the log is marked next
    write(HardState(4, 0, 200), [], meta(200, 4)),
    write(HardState(4, 0, 201), entries(201, 230, 4, size=300)),
    meta(201, 4),
    "release",
    write(HardState(5, 3, 230), entries(231, 240, 5)),
]


def live(storage: DiskStorage, files: RecordingFiles) -> None:
    """Do the life to a disk."""
    files.note(0)
    newest = meta(1, 1)
    for step, done in enumerate(LIFE, start=1):
        if isinstance(done, Write):
            storage.write_blocking(done)
        elif isinstance(done, SnapshotMeta):
            newest = done
            save(storage, done, [b"the state at %d" % done.index, b"x" * 1500])
        else:
            storage.release(newest)
        files.note(step)


def remembered(steps: int) -> Recovered:
    """What must be found after so many steps of the life."""
    memory = MemoryStorage(b"me")
    for done in LIFE[:steps]:
        if isinstance(done, Write):
            memory.write(done, lambda: None)
        elif isinstance(done, SnapshotMeta):
            memory.save_snapshot(done, iter([]), lambda: None, lambda: None)
        memory.complete_all()
    return memory.recover()


# The operations after which more is on disk, or is confirmed.
LASTING = ("flush", "flush_directory", "note")


def check_every_crash(tmp_path: Path, seeds: range) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    files = RecordingFiles()
    where = StorageConfig(root / "data", max_wals=1, max_snapshots=1, segment_bytes=8192)
    storage = DiskStorage.create(where, b"me", files)
    live(storage, files)
    storage.close()
    states = [remembered(steps) for steps in range(len(LIFE) + 1)]
    created = files.operations.index(("note", 0))
    after = tmp_path / "after"
    crashed = StorageConfig(after / "data", max_wals=1, max_snapshots=1, segment_bytes=8192)
    for seed in seeds:
        for count, (confirmed, disk) in enumerate(cuts(files.operations, root)):
            if seed == 0 and count and files.operations[count - 1][0] not in LASTING:
                continue  # lost as a whole: the disk is as it was
            disk.lay_out(after, Keep(seed))
            where_cut = f"seed {seed}, cut after {files.operations[:count][-1:]}"
            if DiskStorage.exists(crashed):
                again, found = DiskStorage.open(crashed, UnflushedFiles())
                # Nothing that was confirmed is lost; of the step under way, all or nothing.
                assert found in states[confirmed : confirmed + 2], where_cut
            else:
                assert count <= created, where_cut
                again = DiskStorage.create(crashed, b"me", UnflushedFiles())
            again.close()
            shutil.rmtree(after)


def test_crash_after_every_operation_loses_nothing_confirmed(tmp_path: Path) -> None:
    """With nothing kept that was not flushed (M31, M32, M35)."""
    check_every_crash(tmp_path, range(1))


@pytest.mark.slow
def test_crash_after_every_operation_with_chance_loses_nothing_confirmed(tmp_path: Path) -> None:
    """With everything kept, and with any part: sectors of files, changes of names."""
    check_every_crash(tmp_path, range(1, 8))


# ------------------------------------------------------------------------------------- in memory


def test_memory_storage_forgets_what_was_not_completed() -> None:
    """A crash loses exactly what its owner was not told of."""
    told: list[str] = []
    memory = MemoryStorage(b"me")
    memory.write(write(HardState(1, 1, 0), entries(1, 3, 1)), lambda: told.append("write"))
    memory.save_snapshot(
        meta(2, 1), iter([b"st", b"ate"]), lambda: told.append("snapshot"), lambda: None
    )
    memory.write(write(HardState(1, 1, 2), entries(4, 5, 1)), lambda: told.append("lost"))
    assert memory.pending == 3
    assert memory.complete()
    assert memory.complete()
    memory.crash()
    assert not memory.complete()
    assert told == ["write", "snapshot"]
    assert memory.recover() == Recovered(b"me", HardState(1, 1, 2), meta(2, 1), entries(3, 3, 1))
    assert list(memory.read_snapshot(meta(2, 1))) == [b"st", b"ate"]
    with pytest.raises(CorruptRecord, match="no such snapshot"):
        memory.read_snapshot(meta(3, 1))


def test_memory_storage_takes_an_installed_snapshot() -> None:
    """As the disk does: what a leader sent replaces the log."""
    memory = MemoryStorage()
    memory.install_snapshot(meta(9, 2), [b"state"])
    assert memory.recover() == Recovered(b"", HardState(2, 0, 9), meta(9, 2), [])
    memory.write(write(HardState(2, 0, 9), entries(10, 11, 2)), lambda: None)
    memory.complete_all()
    assert memory.recover().entries == entries(10, 11, 2)


def test_cluster_is_founded_by_an_entry_that_names_the_voters(tmp_path: Path) -> None:
    """All servers begin with the same log, and a restart finds it."""
    created = DiskStorage.create(config(tmp_path), b"", UnflushedFiles())
    founded = found_cluster(created, [1, 2])
    created.close()
    opened, recovered = DiskStorage.open(config(tmp_path), UnflushedFiles())
    opened.close()
    assert recovered == founded
    assert recovered.hard_state == HardState(term=1, vote=0, commit=1)
    (entry,) = recovered.entries
    assert (entry.index, entry.term, entry.kind) == (1, 1, CONFIG)
    assert decode_change(entry.data) == ConfigChange((Change(ADD_VOTER, 1), Change(ADD_VOTER, 2)))
