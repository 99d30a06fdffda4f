"""A disk for the servers of tests that is one: what survives a crash is what its files say.

Looks like `tests.raft.server.Disk`, and is filled from one. Nothing is flushed: no test cuts the
power here.
"""

from collections.abc import Callable
from pathlib import Path

from raft.codec import pack, unpack
from raft.entry import Entry, EntryID, SnapshotMeta
from raft.interfaces import Recovered, Write
from raft.storage import DiskStorage, StorageConfig
from tests.raft.crash_files import UnflushedFiles
from tests.raft.server import Disk, State

# Small, so that scripts fill some.
_SEGMENT_BYTES = 1024


class FileDisk:
    """The storage of one server, in files."""

    def __init__(self, directory: Path, content: Disk) -> None:
        """Make the storage of a server that holds `content`."""
        directory.mkdir()
        self._files = UnflushedFiles()
        self._config = StorageConfig(
            directory, segment_bytes=_SEGMENT_BYTES, max_wals=1, max_snapshots=1
        )
        self._storage = DiskStorage.create(self._config, b"", self._files)
        if content.entries:
            self._storage.write_blocking(Write(content.hard_state, content.entries, None, []))
        # What the files must say.
        self._hard_state = content.hard_state
        self.snapshot: SnapshotMeta | None = None
        self.snapshot_state: State = ()
        self.entries: list[Entry] = list(content.entries)

    def write(self, write: Write, fetch: Callable[[EntryID], State]) -> None:
        """Make a write durable."""
        if write.snapshot is not None:
            self._save(write.snapshot, fetch(write.snapshot.id))
            self.entries = []
        self._storage.write_blocking(write)
        self._hard_state = write.hard_state
        if write.snapshot is not None:
            self._storage.release(write.snapshot)
        if write.entries:
            first_index = write.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first_index]
            self.entries += write.entries

    def save(self, meta: SnapshotMeta, state: State) -> None:
        """Make a snapshot durable, and remove what it makes superfluous."""
        self._save(meta, state)
        self._storage.release(meta)

    def _save(self, meta: SnapshotMeta, state: State) -> None:
        writer = self._storage.begin_snapshot(meta)
        writer.write(pack(state))
        writer.commit()
        self.snapshot, self.snapshot_state = meta, state

    def recovered(self) -> Recovered:
        """Return what a start finds; the process before it has ended."""
        self._storage.close()
        self._storage, recovered = DiskStorage.open(self._config, self._files)
        assert recovered.snapshot == self.snapshot, f"{recovered}, not {self.snapshot}"
        base_index = 0
        if self.snapshot is not None:
            base_index = self.snapshot.index
            rows = unpack(b"".join(self._storage.read_snapshot(self.snapshot)))
            assert rows == self.snapshot_state, f"{rows}, not {self.snapshot_state}"
        self.entries = [entry for entry in self.entries if entry.index > base_index]
        assert recovered.entries == self.entries, f"{recovered.entries}, not {self.entries}"
        # A snapshot tells more than a hard state that is older.
        commit = max(self._hard_state.commit, base_index)
        expected = self._hard_state._replace(commit=commit)
        assert recovered.hard_state == expected, f"{recovered.hard_state}, not {expected}"
        return recovered

    def close(self) -> None:
        """Read the files once more, then let go of them."""
        self.recovered()
        self._storage.close()
