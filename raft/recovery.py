"""What a log and a snapshot say together: the rules by which a server finds its state again.

Pure: the log on disk and the one in memory both replay what was written through `LogImage`, and
ask `recover` for the outcome. What contradicts itself is refused, never guessed at: a server that
forgets an entry or a vote harms the whole cluster, one that does not start harms only itself.
"""

from dataclasses import dataclass, field

from raft.codec import Batch, DecodeError
from raft.entry import NO_ENTRY, NO_HARD_STATE, Entry, EntryID, HardState, SnapshotMeta
from raft.errors import RaftError
from raft.interfaces import Recovered


class Unrecoverable(RaftError):
    """What is on disk is not enough to go on from, or contradicts itself."""


@dataclass(slots=True)
class LogImage:
    """The log as of the records replayed so far.

    Invariants:
      1. `entries` are consecutive and begin at base_index + 1.
      2. Their terms never go back.
    """

    base_index: int = 0
    # 0 when base_index is 0, or when entries were replaced that lie before the replay's beginning.
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = NO_HARD_STATE
    # The last snapshot that replaced the whole log.
    marker: EntryID = NO_ENTRY

    @property
    def last(self) -> EntryID:
        """The last entry, or what comes before the first."""
        if self.entries:
            return EntryID(self.entries[-1].index, self.entries[-1].term)
        return EntryID(self.base_index, self.base_term)

    def replay(self, batch: Batch) -> None:
        """Carry out one `Write`. Raises DecodeError when it cannot come next."""
        if batch.snapshot is not None:
            self.base_index, self.base_term = self.marker = batch.snapshot.id
            self.entries = []
        if batch.entries:
            self._append(batch.entries)
        if batch.hard_state.term < self.hard_state.term:
            raise DecodeError(f"term {batch.hard_state.term} after {self.hard_state.term}")
        self.hard_state = batch.hard_state

    def _append(self, entries: list[Entry]) -> None:
        first = entries[0]
        kept = first.index - self.base_index - 1
        if kept > len(self.entries):
            raise DecodeError(f"entry {first.index} after entry {self.last}")
        if kept < 0:
            # The log was cut back to before the place where the replay began.
            self.base_index, self.base_term = first.index - 1, 0
            kept = 0
        before = self.entries[kept - 1].term if kept else self.base_term
        if first.term < before:
            raise DecodeError(f"entry {first.index}@{first.term} after one of term {before}")
        del self.entries[kept:]
        self.entries += entries


def recover(
    image: LogImage, snapshot: SnapshotMeta | None, metadata: bytes
) -> tuple[Recovered, bool]:
    """Join the log and the newest readable snapshot. Raises Unrecoverable.

    True comes with it when the snapshot replaces the log: that must be marked in the log before
    anything else is written there, or the next replay would put new entries behind old ones.
    """
    raft_index = snapshot.index if snapshot is not None else 0
    if image.marker.index > raft_index:
        raise Unrecoverable(
            f"the log begins after a snapshot at index {image.marker.index}, "
            f"but {_newest(snapshot)}"
        )
    if image.base_index > raft_index:
        raise Unrecoverable(
            f"the log begins at index {image.base_index + 1}, but {_newest(snapshot)}"
        )
    hard_state = image.hard_state
    entries, replaced = image.entries, False
    if snapshot is not None:
        replaced = not _agrees(image, snapshot)
        entries = [] if replaced else image.entries[raft_index - image.base_index :]
        if snapshot.term > hard_state.term:
            hard_state = HardState(snapshot.term, 0, hard_state.commit)
        if raft_index > hard_state.commit:
            hard_state = hard_state._replace(commit=raft_index)
    last_index = entries[-1].index if entries else raft_index
    if hard_state.commit > last_index:
        raise Unrecoverable(
            f"entries up to {hard_state.commit} were committed, but the log ends at {last_index}"
        )
    if entries and entries[-1].term > hard_state.term:
        raise Unrecoverable(
            f"the log holds an entry of term {entries[-1].term}, "
            f"but the server has seen no term beyond {hard_state.term}"
        )
    return Recovered(metadata, hard_state, snapshot, entries), replaced


def _agrees(image: LogImage, snapshot: SnapshotMeta) -> bool:
    """Whether the log goes on where the snapshot ends (thesis 5.3).

    If not, the snapshot came from a leader, and the crash came before the log could be marked.
    """
    raft_index = snapshot.index
    if raft_index > image.last.index:
        return False
    if raft_index == image.base_index:
        term = image.base_term
    else:
        term = image.entries[raft_index - image.base_index - 1].term
    if term == snapshot.term:
        return True
    if image.hard_state.commit >= raft_index:
        raise Unrecoverable(
            f"the snapshot {snapshot.id} contradicts the committed entry {raft_index}@{term}"
        )
    return False


def _newest(snapshot: SnapshotMeta | None) -> str:
    if snapshot is None:
        return "there is no readable snapshot"
    return f"the newest readable snapshot ends at {snapshot.index}"
