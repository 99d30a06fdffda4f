"""The log: every entry since the last snapshot and some before it, in memory, with its cursors.

The log knows what is durable and what was handed to storage, but does no I/O: its owner takes
`unwritten()` to storage and comes back with `mark_stable()`. It knows nothing of roles, terms in
force or other servers; that an Append's `prev` matches is for the caller to find out first.
Indexes asked for by others are answered, never asserted; what would change a committed entry is.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from raft.entry import NO_ENTRY, Entry, EntryID
from raft.errors import Compacted

# What an entry counts for besides its data: about what its other fields take on the wire. It
# keeps a flood of empty entries from counting as nothing.
ENTRY_OVERHEAD: Final = 24

_term_of = attrgetter("term")


class Log:
    """The entries after `base`, without gaps.

    Invariants:
      1. base.index <= applied_index <= commit_index <= last_index.
      2. applied_index <= stable_index <= handed_index <= last_index.
      3. Indexes are consecutive and terms never fall, beginning with base.
      4. commit_index, applied_index and base.index never go back; no entry at or below
         commit_index is ever replaced (thesis 3.6.3, Leader Completeness).
    """

    __slots__ = (
        "_byte_ends",
        "_entries",
        "applied_index",
        "base",
        "commit_index",
        "handed_index",
        "is_full",
        "last_index",
        "last_term",
        "stable_index",
    )

    def __init__(
        self,
        *,
        base: EntryID = NO_ENTRY,
        entries: Sequence[Entry] = (),
        commit_index: int,
        applied_index: int,
    ) -> None:
        # The disk has no room for more: only what raft itself needs goes on being appended. Its
        # owner says so, and when that is over.
        self.is_full = False
        # The entry just before the first one kept; NO_ENTRY while nothing is compacted.
        self.base = base
        self.last_index = base.index
        self.last_term = base.term
        # Committed as far as this server knows.
        self.commit_index = commit_index
        # Applied to the state machine, or contained in the snapshot that it was restored from.
        self.applied_index = applied_index
        self._entries: list[Entry] = []
        # For each entry, the bytes of all entries up to and with it, counted since some entry in
        # the past: sizes of whole ranges are differences, and batches are found by bisection.
        # One more at the front, for base.
        self._byte_ends: list[int] = [0]
        self._extend(entries)
        # On disk. What was recovered from there is.
        self.stable_index = self.last_index
        # Given to storage, perhaps not durable yet.
        self.handed_index = self.last_index
        self.check()

    # ------------------------------------------------------------------------------- questions

    @property
    def first_index(self) -> int:
        """The index of the first entry kept, or of the next one when there is none."""
        return self.base.index + 1

    @property
    def last_id(self) -> EntryID:
        """The last entry; `base` when none is kept."""
        return EntryID(self.last_index, self.last_term)

    @property
    def commit_id(self) -> EntryID:
        """The last entry that this server knows to be committed."""
        return EntryID(self.commit_index, self.term(self.commit_index))

    def term(self, raft_index: int) -> int:
        """Return the term of an entry at or after base, 0 for one beyond the end.

        Raises Compacted below base.
        """
        position = raft_index - self.base.index - 1
        if position >= 0:
            return self._entries[position].term if raft_index <= self.last_index else 0
        if position == -1:
            return self.base.term
        raise Compacted(raft_index, self.first_index)

    def matches(self, raft_index: int, term: int) -> bool:
        """Say whether that very entry is known to be here; False below base."""
        if not self.base.index <= raft_index <= self.last_index:
            return False
        return self.term(raft_index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Say whether a log that ends there is at least as up to date as this (thesis 3.6.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def find_hint(self, raft_index: int, term: int) -> EntryID:
        """Return the last entry at or before raft_index whose term is at most `term`.

        NO_ENTRY when that lies before base, where nothing is known.
        """
        # Terms never fall (invariant 3), so all that are at most `term` stand in front.
        end = max(0, min(raft_index, self.last_index) - self.base.index)
        position = bisect_right(self._entries, term, 0, end, key=_term_of)
        if position > 0:
            entry = self._entries[position - 1]
            return EntryID(entry.index, entry.term)
        if raft_index >= self.base.index and self.base.term <= term:
            return self.base
        return NO_ENTRY

    def slice(self, first_index: int, max_bytes: int) -> list[Entry]:
        """Return the entries from first_index on that fit into max_bytes, but at least one.

        Empty when first_index is beyond the end. Raises Compacted at or below base.
        """
        if first_index <= self.base.index:
            raise Compacted(first_index, self.first_index)
        return self._slice(first_index, self.last_index, max_bytes)

    def size_since(self, raft_index: int) -> int:
        """Return the bytes of all kept entries after raft_index."""
        position = min(max(raft_index, self.base.index), self.last_index) - self.base.index
        return self._byte_ends[-1] - self._byte_ends[position]

    # ---------------------------------------------------------------------------------- growth

    def append(self, entries: Sequence[Entry]) -> None:
        """Put a leader's own entries at the end (thesis 3.5, Leader Append-Only)."""
        self._extend(entries)

    def merge(self, entries: Sequence[Entry]) -> None:
        """Take entries from a leader whose `prev`, the one before them, was found to match.

        Only a conflict removes entries: an Append that was overtaken by a later one is a prefix of
        what is here already, and must not cut off what that later one brought (thesis 3.5).
        """
        if entries and entries[0].index <= self.last_index:
            entries = entries[self._count_known(entries) :]
            if entries and entries[0].index <= self.last_index:
                self._truncate(entries[0].index)
        self._extend(entries)

    def restore(self, base: EntryID) -> None:
        """Begin anew after a snapshot that ends with `base`; what was here is dropped.

        The snapshot counts as applied: nothing before its end is ever given out for applying.
        """
        assert base.index > self.commit_index, f"snapshot {base}, commit {self.commit_index}"
        self.base = base
        self._entries.clear()
        self._byte_ends = [0]
        self.last_index = self.stable_index = self.handed_index = base.index
        self.last_term = base.term
        self.commit_index = self.applied_index = base.index

    # ------------------------------------------------------------------------------ durability

    def unwritten(self) -> list[Entry]:
        """Return the entries not handed to storage yet."""
        return self._entries[self.handed_index - self.base.index :]

    def mark_handed(self) -> None:
        """Note that everything `unwritten()` returns is on its way to the disk."""
        self.handed_index = self.last_index

    def mark_stable(self, raft_index: int, term: int) -> None:
        """Note that the entries up to this one are on disk, if it is still the one handed over."""
        # While they were written, a new leader may have replaced them. An entry that came back
        # after that waits for its second write: the disk may hold the replacement by then.
        if self.stable_index < raft_index <= self.handed_index:
            if self.matches(raft_index, term):
                self.stable_index = raft_index

    # ---------------------------------------------------------------------- commit and applying

    def commit_to(self, raft_index: int) -> bool:
        """Raise the commit index to raft_index; return whether it moved.

        It never goes back. An index beyond the end is not believed: it comes from somebody who
        takes this log for another one, and to commit what is here instead would be a guess. So a
        follower asks for min(leader's commit, last entry known to match) (thesis 3.5).
        """
        if not self.commit_index < raft_index <= self.last_index:
            return False
        self.commit_index = raft_index
        return True

    def committed_slice(self, max_bytes: int) -> list[Entry]:
        """Return the entries to apply next that fit into max_bytes, but at least one if any.

        Only durable ones: a state machine must not be ahead of its own disk.
        """
        last_index = min(self.commit_index, self.stable_index)
        return self._slice(self.applied_index + 1, last_index, max_bytes)

    def applied_to(self, raft_index: int) -> None:
        """Note that the entries up to raft_index are applied; one that is so already is fine."""
        assert raft_index <= self.commit_index, f"applied {raft_index}, commit {self.commit_index}"
        assert raft_index <= self.stable_index, f"applied {raft_index}, stable {self.stable_index}"
        self.applied_index = max(self.applied_index, raft_index)

    def compact(self, raft_index: int) -> None:
        """Drop the entries up to raft_index, which a durable snapshot must contain."""
        assert raft_index <= self.applied_index, (
            f"compacting to {raft_index}, applied {self.applied_index}"
        )
        count = raft_index - self.base.index
        if count <= 0:
            return
        self.base = EntryID(raft_index, self._entries[count - 1].term)
        del self._entries[:count]
        del self._byte_ends[:count]

    def check(self) -> None:
        """Assert invariants 1 and 2; `append` and `merge` assert 3 and 4 for what they add."""
        base, applied, commit = self.base.index, self.applied_index, self.commit_index
        stable, handed, last = self.stable_index, self.handed_index, self.last_index
        assert base <= applied, f"base {base}, applied {applied}"
        assert applied <= commit, f"applied {applied}, commit {commit}"
        assert commit <= last, f"commit {commit}, last {last}"
        assert applied <= stable, f"applied {applied}, stable {stable}"
        assert stable <= handed, f"stable {stable}, handed {handed}"
        assert handed <= last, f"handed {handed}, last {last}"
        kept = len(self._entries)
        assert kept == last - base, f"{kept} entries after {base}, last {last}"
        assert len(self._byte_ends) == kept + 1, f"{len(self._byte_ends)} sizes, {kept} entries"

    # ----------------------------------------------------------------------------------- parts

    def _extend(self, entries: Sequence[Entry]) -> None:
        last_index, last_term = self.last_index, self.last_term
        byte_ends = self._byte_ends
        byte_end = byte_ends[-1]
        for entry in entries:
            last_index += 1
            term = entry.term
            assert entry.index == last_index, f"entry {entry.index} in the place of {last_index}"
            assert term >= last_term, f"entry {last_index}@{term} after term {last_term}"
            last_term = term
            byte_end += len(entry.data) + ENTRY_OVERHEAD
            byte_ends.append(byte_end)
        self._entries.extend(entries)
        self.last_index, self.last_term = last_index, last_term

    def _count_known(self, entries: Sequence[Entry]) -> int:
        """Return how many of `entries` from a leader are here already, from the first on."""
        for position, entry in enumerate(entries):
            # What was compacted was committed, and so is the same in every log (thesis 3.6.3).
            if entry.index > self.base.index and not self.matches(entry.index, entry.term):
                return position
        return len(entries)

    def _truncate(self, first_index: int) -> None:
        """Remove the entry at first_index and all after it."""
        assert first_index > self.commit_index, (
            f"entry {first_index} conflicts, commit {self.commit_index}"
        )
        count = first_index - self.base.index - 1
        del self._entries[count:]
        del self._byte_ends[count + 1 :]
        self.last_index = first_index - 1
        self.last_term = self.term(self.last_index)
        self.stable_index = min(self.stable_index, self.last_index)
        self.handed_index = min(self.handed_index, self.last_index)

    def _slice(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        start = first_index - self.base.index - 1
        end = last_index - self.base.index
        limit = self._byte_ends[start] + max_bytes if start < end else 0
        if start < end and self._byte_ends[end] > limit:
            # Byte ends have base in front: the end of the entry at p is at p + 1.
            fitting = bisect_right(self._byte_ends, limit, start + 1, end + 1) - 1
            end = max(start + 1, fitting)
        return self._entries[start:end]
