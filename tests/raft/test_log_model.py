"""The log against a list that is never compacted, and merging against the leader's log."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from raft.entry import NO_ENTRY, NORMAL, Entry, EntryID
from raft.log import ENTRY_OVERHEAD, Log

UNLIMITED = 2**60


def make_entries(first_index: int, *terms: int, data: bytes = b"") -> list[Entry]:
    """Consecutive entries of these terms."""
    return [Entry(first_index + i, term, NORMAL, data) for i, term in enumerate(terms)]


class Written(NamedTuple):
    """A write under way in the model."""

    last: EntryID
    # Nothing of it was replaced since it was handed over.
    is_intact: bool


class PlainLog(RuleBasedStateMachine):
    """The same history told to a `Log` and to a list that is never compacted."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []  # every entry, index 1 first
        self.base = self.applied = self.commit = self.stable = self.handed = 0
        self.written: Written | None = None

    @initialize(terms=st.lists(st.integers(1, 3), max_size=6).map(sorted))
    def recover(self, terms: list[int]) -> None:
        """Begin with some entries on disk."""
        self.entries = make_entries(1, *terms)
        self.stable = self.handed = len(terms)
        self.log = Log(entries=self.entries, commit_index=0, applied_index=0)

    def entry_id(self, index: int) -> EntryID:
        """The id of an entry of the list."""
        return EntryID(index, self.entries[index - 1].term) if index else NO_ENTRY

    @rule(count=st.integers(0, 4), step=st.integers(0, 1), size=st.integers(0, 40))
    def append(self, count: int, step: int, size: int) -> None:
        """Append as a leader, perhaps of a later term."""
        term = max(1, self.entry_id(len(self.entries)).term + step)
        entries = make_entries(len(self.entries) + 1, *[term] * count, data=bytes(size))
        self.entries += entries
        self.log.append(entries)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """Take an Append: a part of what is here, then what a later leader has instead."""
        prev = data.draw(st.integers(0, len(self.entries)))
        same = data.draw(st.integers(prev, len(self.entries)))
        known = self.entries[prev:same]
        count = data.draw(st.integers(0, 3)) if same >= self.commit else 0
        term = max(1, self.entry_id(len(self.entries)).term + 1)
        new = make_entries(same + 1, *[term] * count)
        self.log.merge(known + new)
        if new:
            self.entries[same:] = new
            self.stable, self.handed = min(self.stable, same), min(self.handed, same)
            if self.written is not None and self.written.last.index > same:
                self.written = self.written._replace(is_intact=False)

    @rule()
    def hand_over(self) -> None:
        """Begin a write, or do nothing while another is under way."""
        if self.written is None:
            assert self.log.unwritten() == self.entries[self.handed :]
            self.handed = len(self.entries)
            self.log.mark_handed()
            self.written = Written(self.log.last_id, is_intact=True)

    @rule()
    def finish_write(self) -> None:
        """The write under way is on disk."""
        if self.written is not None:
            self.log.mark_stable(*self.written.last)
            if self.written.is_intact:
                self.stable = max(self.stable, self.written.last.index)
            self.written = None

    @rule(data=st.data())
    def commit_to(self, data: st.DataObject) -> None:
        """Hear of any commit index, also of one that is old or beyond the end."""
        index = data.draw(st.integers(0, len(self.entries) + 2))
        moves = self.commit < index <= len(self.entries)
        assert self.log.commit_to(index) is moves
        self.commit = index if moves else self.commit

    @rule(max_bytes=st.integers(0, 200))
    def apply(self, max_bytes: int) -> None:
        """Apply a batch."""
        expected: list[Entry] = []
        size = 0
        for entry in self.entries[self.applied : min(self.commit, self.stable)]:
            size += len(entry.data) + ENTRY_OVERHEAD
            if expected and size > max_bytes:
                break
            expected.append(entry)
        assert self.log.committed_slice(max_bytes) == expected
        self.applied += len(expected)
        self.log.applied_to(self.applied)

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """Drop what is applied, up to anywhere."""
        index = data.draw(st.integers(0, self.applied))
        self.log.compact(index)
        self.base = max(self.base, index)

    @rule(ahead=st.integers(1, 3))
    def restore(self, ahead: int) -> None:
        """Install a snapshot that another server made of entries after our commit index."""
        index = self.commit + ahead
        term = max(1, self.entry_id(len(self.entries)).term + 1)
        self.entries[self.commit :] = make_entries(self.commit + 1, *[term] * ahead)
        self.base = self.applied = self.commit = self.stable = self.handed = index
        if self.written is not None:
            self.written = self.written._replace(is_intact=False)
        self.log.restore(self.entry_id(index))

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """Ask what others ask: a slice, a hint."""
        end = len(self.entries)
        first = data.draw(st.integers(self.base + 1, end + 2))
        assert self.log.slice(first, UNLIMITED) == self.entries[first - 1 :]
        index, term = data.draw(st.integers(self.base, end + 2)), data.draw(st.integers(0, 12))
        candidates = [self.entry_id(i) for i in range(self.base, min(index, end) + 1)]
        hints = [candidate for candidate in candidates if candidate.term <= term]
        assert self.log.find_hint(index, term) == (hints[-1] if hints else NO_ENTRY)

    @invariant()
    def agrees(self) -> None:
        """Cursors, ids and sizes are those of the list."""
        log, end = self.log, len(self.entries)
        log.check()
        assert log.base == self.entry_id(self.base)
        assert log.last_id == self.entry_id(end)
        assert (log.applied_index, log.commit_index) == (self.applied, self.commit)
        assert (log.stable_index, log.handed_index) == (self.stable, self.handed)
        for index in range(self.base, end + 1):
            after = self.entries[index:]
            assert log.size_since(index) == sum(len(e.data) + ENTRY_OVERHEAD for e in after)
            assert log.term(index) == self.entry_id(index).term
            assert log.matches(*self.entry_id(index))
        assert log.unwritten() == self.entries[self.handed :]


@pytest.mark.slow
def test_any_history_leaves_the_log_in_agreement_with_the_list() -> None:
    """Appends, merges, writes, commits, compaction and restores in any order."""
    run_state_machine_as_test(
        PlainLog, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )


@settings(max_examples=100, deadline=None)
@given(
    shared=st.lists(st.integers(1, 3), max_size=5).map(sorted),
    ours=st.lists(st.integers(4, 9), max_size=6).map(sorted),
    theirs=st.lists(st.integers(4, 9), max_size=6).map(sorted),
    cut=st.integers(0, 6),
)
def test_merge_of_any_part_of_a_leaders_log_makes_a_prefix_of_it(
    shared: list[int], ours: list[int], theirs: list[int], cut: int
) -> None:
    """After any Append with a matching prev, the log equals the leader's as far as it was sent."""
    log = Log(entries=make_entries(1, *shared, *ours), commit_index=0, applied_index=0)
    leader = make_entries(1, *shared, *theirs)
    prev = len(shared) - min(cut, len(shared))
    log.merge(leader[prev : len(shared) + cut])
    sent = leader[: len(shared) + cut]
    assert log.slice(1, UNLIMITED)[: len(sent)] == sent
    log.check()
