"""The storage of one server: log, snapshots and the lock of its directory, or a pretended one.

    DIRECTORY/LOCK              held by the process that uses the directory
    DIRECTORY/member/snap/      see `raft.snapshots`
    DIRECTORY/member/wal/       see `raft.wal`; elsewhere when asked for; has a LOCK too

Relies on both, and on `raft.recovery` for the rules by which they are joined. Everything in
`DiskStorage` blocks. One thread writes and releases; snapshots may be used from any other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raft.codec import Batch
from raft.confchange import ADD_VOTER, Change, ConfigChange, encode_change
from raft.entry import CONFIG, Entry, HardState, SnapshotMeta
from raft.errors import CorruptRecord, RaftError
from raft.files import DiskFiles, Files
from raft.interfaces import Recovered, Write
from raft.recovery import LogImage, recover
from raft.snapshots import SnapshotReceiver, Snapshots, SnapshotWriter
from raft.wal import SEGMENT_BYTES, TEMPORARY, Wal, list_segments

LOCK: Final = "LOCK"


class DirectoryInUse(RaftError):
    """Another process has locked the directory."""


class DirectoryNotNew(RaftError):
    """A directory that should be new holds what belongs to another run."""


@dataclass(slots=True)
class StorageConfig:
    """Where a server keeps its state, and how much of what it does not need."""

    directory: Path
    # None is `member/wal` below the directory.
    wal_directory: Path | None = None
    # The most files kept of those that are not needed to start; 0 keeps all.
    max_wals: int = 5
    max_snapshots: int = 5
    segment_bytes: int = SEGMENT_BYTES

    @property
    def wal_path(self) -> Path:
        """Where the log is."""
        return self.wal_directory or self.directory / "member" / "wal"

    @property
    def snapshot_path(self) -> Path:
        """Where the snapshots are."""
        return self.directory / "member" / "snap"


class DiskStorage:
    """The storage of a server that runs."""

    def __init__(
        self, config: StorageConfig, locks: "list[_Lock]", wal: Wal, snapshots: Snapshots
    ) -> None:
        """For `create` and `open` only."""
        self._config = config
        self._locks = locks
        self._snapshots = snapshots
        # For whoever writes to it by its ring.
        self.wal = wal

    @staticmethod
    def exists(config: StorageConfig, files: Files | None = None) -> bool:
        """Whether there is something to open; what a crash left of `create` does not count."""
        return bool(list_segments(files or DiskFiles(), config.wal_path))

    @classmethod
    def create(
        cls, config: StorageConfig, metadata: bytes, files: Files | None = None
    ) -> "DiskStorage":
        """Make the storage of a new server; it exists once this has returned, or not at all.

        Raises DirectoryInUse, DirectoryNotNew or OSError.
        """
        files = files or DiskFiles()
        for path in (config.snapshot_path, config.wal_path):
            _make_directories(files, path)
        locks = lock(files, config)
        try:
            snapshots = Snapshots(files, config.snapshot_path)
            has_log = cls.exists(config, files)
            if has_log or snapshots.list_files():
                raise DirectoryNotNew(
                    f"{config.directory} holds the state of a server already; its log "
                    f"{'is' if has_log else 'should be, but is not,'} in {config.wal_path}"
                )
            _remove_unfinished(files, config.wal_path)
            wal = Wal.create(files, config.wal_path, metadata, config.segment_bytes)
        except BaseException:
            unlock(locks)
            raise
        return cls(config, locks, wal, snapshots)

    @classmethod
    def open(
        cls, config: StorageConfig, files: Files | None = None
    ) -> "tuple[DiskStorage, Recovered]":
        """Open the storage of a server that ran before, and find its state.

        Raises DirectoryInUse, CorruptRecord, Unrecoverable or OSError.
        """
        files = files or DiskFiles()
        locks = lock(files, config)
        try:
            _make_directories(files, config.snapshot_path)
            snapshots = Snapshots(files, config.snapshot_path)
            snapshots.remove_unfinished()
            _remove_unfinished(files, config.wal_path)
            snapshot = snapshots.find_newest()
            # A name that the last process gave may not be durable, and we rely on it below.
            files.flush_directory(config.snapshot_path)
            wal, image, metadata = Wal.open(
                files,
                config.wal_path,
                snapshot.index if snapshot is not None else 0,
                config.segment_bytes,
            )
            try:
                recovered, replaced = recover(image, snapshot, metadata)
                if replaced:
                    wal.write(Batch(snapshot, [], recovered.hard_state))
            except BaseException:
                wal.close()
                raise
        except BaseException:
            unlock(locks)
            raise
        return cls(config, locks, wal, snapshots), recovered

    def write_blocking(self, write: Write) -> None:
        """Make `write` durable. An OSError is final: nothing can be written after it.

        But for NoRoom: the disk is full, and the same write may be tried again later.
        """
        self.wal.write(Batch(write.snapshot, write.entries, write.hard_state))

    @property
    def wants_room(self) -> bool:
        """Whether it is time for `make_room`."""
        return self.wal.wants_room

    @property
    def is_short(self) -> bool:
        """Whether no entries should be taken on, unless `make_room` succeeds."""
        return self.wal.is_short

    def make_room(self) -> bool:
        """Set room aside for the log ahead of need; False while no entries should be taken on.

        Raises OSError, but not for a full disk.
        """
        return self.wal.make_room()

    def begin_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin a snapshot of our own. Raises OSError."""
        return self._snapshots.begin(meta)

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The chunks of a snapshot, as they were given. Raises CorruptRecord or OSError."""
        return self._snapshots.read(meta)

    def open_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The bytes of a snapshot's file, for another server. Raises OSError."""
        return self._snapshots.open_raw(meta)

    def receive_snapshot(self) -> SnapshotReceiver:
        """Begin a snapshot that another server sends. Raises OSError."""
        return self._snapshots.receive()

    def release(self, meta: SnapshotMeta) -> None:
        """Remove what is not needed any more with `meta`, a durable snapshot of this log."""
        if self._config.max_wals:
            self.wal.purge(meta.index, self._config.max_wals)
        if self._config.max_snapshots:
            self._snapshots.purge(meta, self._config.max_snapshots)

    def close(self) -> None:
        """Let go of the directory. The second time, nothing is left to do."""
        self.wal.close()
        unlock(self._locks)


def found_cluster(disk: DiskStorage, voters: Iterable[int]) -> Recovered:
    """Write what the log of every server of a new cluster begins with; return what to start from.

    The first entry names the voters; it is the same everywhere, and so is committed.
    """
    change = ConfigChange(tuple(Change(ADD_VOTER, voter) for voter in voters))
    entries = [Entry(1, 1, CONFIG, encode_change(change))]
    hard_state = HardState(term=1, vote=0, commit=1)
    disk.write_blocking(Write(hard_state, entries, None, []))
    return Recovered(hard_state=hard_state, entries=entries)


class MemoryStorage:
    """A disk that is pretended: what is written becomes durable when the test says so.

    Invariants:
      1. `recover` knows of exactly what was completed.
    """

    def __init__(self, metadata: bytes = b"") -> None:
        self._metadata = metadata
        self._image = LogImage()
        self._snapshots: dict[SnapshotMeta, list[bytes]] = {}
        # What was asked for and is not durable, in order: how to make it so, and whom to tell.
        self._pending: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()

    def write(self, write: Write, done: Callable[[], None]) -> bool:
        """See `raft.interfaces.Storage`."""
        batch = Batch(write.snapshot, list(write.entries), write.hard_state)
        self._pending.append((lambda: self._image.replay(batch), done))
        return False

    def save_snapshot(
        self,
        meta: SnapshotMeta,
        chunks: Iterator[bytes],
        done: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        """See `raft.interfaces.Storage`."""
        drawn = list(chunks)
        self._pending.append((lambda: self.install_snapshot(meta, drawn), done))

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `raft.interfaces.Storage`."""
        if meta not in self._snapshots:
            raise CorruptRecord(f"snapshot {meta.id}", 0, "no such snapshot")
        return iter(self._snapshots[meta])

    def install_snapshot(self, meta: SnapshotMeta, chunks: list[bytes]) -> None:
        """Have a snapshot at once, as if it had been received from another server."""
        self._snapshots[meta] = chunks

    @property
    def pending(self) -> int:
        """How many operations are not durable yet."""
        return len(self._pending)

    def complete(self) -> bool:
        """Make the oldest operation durable and tell its owner; False when there is none."""
        if not self._pending:
            return False
        make_durable, done = self._pending.popleft()
        make_durable()
        done()
        return True

    def complete_all(self) -> None:
        """Complete operations until there are none, those that follow from them included."""
        while self.complete():
            pass

    def crash(self) -> None:
        """Lose what is not durable; nobody is told."""
        self._pending.clear()

    def recover(self) -> Recovered:
        """What a server finds that starts now. Raises Unrecoverable."""
        newest = max(self._snapshots, key=lambda meta: meta.index, default=None)
        recovered, replaced = recover(self._image, newest, self._metadata)
        if replaced:
            self._image.replay(Batch(newest, [], recovered.hard_state))
        # The image goes on changing; what was found must not.
        recovered.entries = list(recovered.entries)
        return recovered


class _Lock:
    """A directory taken for this process alone, until `close` or the process's end."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        try:
            self._descriptor = files.lock(directory / LOCK)
        except BlockingIOError:
            raise DirectoryInUse(f"{directory} is in use by another process") from None

    def close(self) -> None:
        self._files.close(self._descriptor)


def lock(files: Files, config: StorageConfig) -> list[_Lock]:
    """Take the directories for this process. Raises DirectoryInUse or OSError."""
    locks = [_Lock(files, config.directory)]
    try:
        # Two servers with directories of their own may have been told of one for their logs.
        if not files.is_same(config.wal_path, config.directory):
            locks.append(_Lock(files, config.wal_path))
    except BaseException:
        unlock(locks)
        raise
    return locks


def unlock(locks: list[_Lock]) -> None:
    """Let go of the directories."""
    while locks:
        locks.pop().close()


def _make_directories(files: Files, path: Path) -> None:
    """Make a directory and those above it that are missing, durably."""
    if not files.is_directory(path):
        _make_directories(files, path.parent)
        files.make_directory(path)
    elif not files.is_readable(path.parent):
        return  # not ours, hence not made by us
    # Also for one that exists: we may have made it and been killed before this.
    files.flush_directory(path.parent)


def _remove_unfinished(files: Files, directory: Path) -> None:
    for path in sorted(files.list_directory(directory)):
        if path.suffix == TEMPORARY:
            files.remove(path)
