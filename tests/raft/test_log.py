"""The log: each rule by an example. test_log_model.py compares it with a plain list."""

import pytest

from raft.entry import NO_ENTRY, NORMAL, Entry, EntryID
from raft.errors import Compacted
from raft.log import ENTRY_OVERHEAD, Log

UNLIMITED = 2**60


def make_entries(first_index: int, *terms: int) -> list[Entry]:
    """Consecutive entries of these terms, without data."""
    return [Entry(first_index + i, term, NORMAL, b"") for i, term in enumerate(terms)]


def make_log(*terms: int, commit: int = 0, applied: int = 0, base: EntryID = NO_ENTRY) -> Log:
    """A log, all on disk, whose entries after base have these terms."""
    entries = make_entries(base.index + 1, *terms)
    return Log(base=base, entries=entries, commit_index=commit, applied_index=applied)


def compacted_log() -> Log:
    """3@1 is the base; 4@2, 5@2 and 6@3 are kept."""
    return make_log(2, 2, 3, base=EntryID(3, 1), commit=5, applied=4)


def terms_of(log: Log) -> list[int]:
    """The terms from base on."""
    return [log.term(index) for index in range(log.base.index, log.last_index + 1)]


# -------------------------------------------------------------------------------------- questions


def test_new_log_is_empty() -> None:
    """A new server's log ends with nothing, at 0@0."""
    log = make_log()
    assert log.last_id == NO_ENTRY
    assert (log.first_index, log.last_index, log.last_term) == (1, 0, 0)
    assert log.unwritten() == []
    assert log.committed_slice(UNLIMITED) == []


def test_recovered_log_is_stable_and_not_written_again() -> None:
    """What came from disk is on disk."""
    log = compacted_log()
    assert (log.stable_index, log.handed_index, log.last_id) == (6, 6, EntryID(6, 3))
    assert log.unwritten() == []


def test_log_with_nothing_after_base_ends_with_base() -> None:
    """After a restart from a snapshot alone, the snapshot's end is the log's end."""
    log = make_log(base=EntryID(7, 2), commit=7, applied=7)
    assert (log.last_id, log.first_index) == (EntryID(7, 2), 8)


def test_log_does_not_share_the_list_it_was_given() -> None:
    """The recovered entries still belong to their owner."""
    entries = make_entries(1, 1)
    log = Log(entries=entries, commit_index=0, applied_index=0)
    entries.clear()
    assert log.slice(1, UNLIMITED) == make_entries(1, 1)


@pytest.mark.parametrize(("index", "term"), [(3, 1), (4, 2), (5, 2), (6, 3), (7, 0), (99, 0)])
def test_term_is_known_from_base_to_the_end_and_zero_beyond(index: int, term: int) -> None:
    """Base itself is known: it is the prev of the first entry."""
    assert compacted_log().term(index) == term


def test_term_below_base_is_compacted() -> None:
    """What a snapshot replaced is not answered by a guess."""
    with pytest.raises(Compacted) as caught:
        compacted_log().term(2)
    assert (caught.value.raft_index, caught.value.first_index) == (2, 4)


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (3, 1, True),
        (4, 2, True),
        (6, 3, True),
        (4, 1, False),
        (6, 2, False),
        (7, 3, False),
        (7, 0, False),  # the 0 that stands for "no entry" matches nothing
        (2, 1, False),
        (0, 0, False),
    ],
)
def test_matches_needs_index_and_term(index: int, term: int, expected: bool) -> None:
    """The index alone says nothing, and what is not known does not match (thesis 3.5)."""
    assert compacted_log().matches(index, term) is expected


def test_beginning_of_an_uncompacted_log_matches() -> None:
    """0@0 is the prev of the very first entry."""
    assert make_log(1).matches(0, 0)


@pytest.mark.parametrize(
    ("last_index", "last_term", "expected"),
    [
        (6, 3, True),  # equal
        (7, 3, True),  # longer
        (5, 3, False),  # shorter
        (1, 4, True),  # a later term beats any length
        (99, 2, False),  # no length makes up for an earlier term
        (0, 0, False),
    ],
)
def test_3_6_1_up_to_date_compares_the_term_first(
    last_index: int, last_term: int, expected: bool
) -> None:
    """Later last term wins; with equal terms the longer log wins; equal logs may vote."""
    assert compacted_log().is_up_to_date(last_index, last_term) is expected


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (6, 3, EntryID(6, 3)),
        (6, 2, EntryID(5, 2)),
        (5, 3, EntryID(5, 2)),
        (99, 9, EntryID(6, 3)),
        (6, 1, EntryID(3, 1)),
        (3, 1, EntryID(3, 1)),
        (6, 0, NO_ENTRY),
        (2, 9, NO_ENTRY),
    ],
)
def test_find_hint_skips_later_terms(index: int, term: int, expected: EntryID) -> None:
    """The last entry not after index and not of a later term; none below base."""
    assert compacted_log().find_hint(index, term) == expected


# ------------------------------------------------------------------------------------------ slices


def log_of_sizes(*sizes: int) -> Log:
    """Entries of term 1 that count for so many bytes each, all committed."""
    entries = [Entry(i, 1, NORMAL, bytes(n - ENTRY_OVERHEAD)) for i, n in enumerate(sizes, 1)]
    return Log(entries=entries, commit_index=len(sizes), applied_index=0)


@pytest.mark.parametrize(
    ("max_bytes", "count"), [(0, 1), (99, 1), (100, 1), (149, 1), (150, 2), (999, 3), (1000, 4)]
)
def test_slice_is_bounded_by_bytes_but_never_empty(max_bytes: int, count: int) -> None:
    """An entry larger than the bound must get through, or replication would stop at it."""
    log = log_of_sizes(100, 50, 300, 550)
    assert [entry.index for entry in log.slice(1, max_bytes)] == list(range(1, count + 1))
    assert [entry.index for entry in log.committed_slice(max_bytes)] == list(range(1, count + 1))


def test_slice_from_the_middle_counts_from_there() -> None:
    """What lies before does not use up the bound."""
    log = log_of_sizes(100, 50, 300, 550)
    assert [entry.index for entry in log.slice(2, 350)] == [2, 3]


def test_slice_beyond_the_end_is_empty() -> None:
    """There is nothing to send to a follower that has everything."""
    assert compacted_log().slice(7, UNLIMITED) == []
    assert compacted_log().slice(99, UNLIMITED) == []


@pytest.mark.parametrize("first_index", [0, 2, 3])
def test_slice_at_or_below_base_is_compacted(first_index: int) -> None:
    """Base is known by its id only."""
    with pytest.raises(Compacted):
        compacted_log().slice(first_index, UNLIMITED)


@pytest.mark.parametrize(
    ("index", "expected"), [(0, 900), (1, 900), (2, 850), (3, 550), (4, 0), (5, 0)]
)
def test_size_since_counts_what_is_kept_after_an_index(index: int, expected: int) -> None:
    """Also after compaction, and for indexes outside of the log."""
    log = log_of_sizes(100, 50, 300, 550)
    log.applied_to(1)
    log.compact(1)
    assert log.size_since(index) == expected


def test_size_of_an_entry_without_data_is_not_zero() -> None:
    """A flood of empty proposals must reach the limits too."""
    assert make_log(1, 1).size_since(0) == 2 * ENTRY_OVERHEAD


# ------------------------------------------------------------------------------------------ growth


def test_append_goes_to_the_end_and_is_unwritten() -> None:
    """A leader's entry waits for the disk."""
    log = make_log(1)
    log.append(make_entries(2, 1, 2))
    assert log.last_id == EntryID(3, 2)
    assert log.unwritten() == make_entries(2, 1, 2)
    assert log.stable_index == 1


@pytest.mark.parametrize("entries", [make_entries(3, 1), make_entries(1, 1), make_entries(2, 0)])
def test_append_elsewhere_than_at_the_end_is_our_bug(entries: list[Entry]) -> None:
    """No gap, no overlap, no term that falls."""
    with pytest.raises(AssertionError):
        make_log(1).append(entries)


def test_append_with_a_gap_inside_is_our_bug() -> None:
    """Each entry is looked at, not only the ends."""
    with pytest.raises(AssertionError, match="entry 3 in the place of 2"):
        make_log().append([*make_entries(1, 1), *make_entries(3, 1)])


def test_merge_at_the_end_appends() -> None:
    """The usual case of a follower."""
    log = make_log(1)
    log.merge(make_entries(2, 1, 2))
    assert terms_of(log) == [0, 1, 1, 2]


def test_merge_of_nothing_changes_nothing() -> None:
    """A probe carries no entries."""
    log = make_log(1, 1)
    log.merge([])
    assert log.last_id == EntryID(2, 1)


def test_merge_of_an_overtaken_append_keeps_what_is_behind_it() -> None:
    """A shorter Append that arrives late conflicts with nothing: it removes nothing."""
    log = make_log(1, 1, 2, 2)
    log.merge(make_entries(2, 1, 2))
    assert terms_of(log) == [0, 1, 1, 2, 2]
    assert log.stable_index == 4
    assert log.unwritten() == []


def test_merge_that_overlaps_and_goes_on_appends_only_the_rest() -> None:
    """What is on disk is not written again."""
    log = make_log(1, 1)
    log.merge(make_entries(1, 1, 1, 2))
    assert log.unwritten() == make_entries(3, 2)
    assert log.stable_index == 2


def test_merge_truncates_at_the_conflict() -> None:
    """The conflicting entry and all after it go, none before it (thesis 3.5)."""
    log = make_log(1, 1, 1, 1, commit=1)
    log.merge(make_entries(2, 1, 2))
    assert terms_of(log) == [0, 1, 1, 2]
    assert log.last_term == 2
    assert (log.stable_index, log.handed_index) == (2, 2)
    assert log.unwritten() == make_entries(3, 2)


def test_merge_of_fewer_entries_after_a_conflict_shortens_the_log() -> None:
    """Nothing of the other leader's stays behind the conflict."""
    log = make_log(1, 1, 1, 1)
    log.merge(make_entries(1, 2))
    assert terms_of(log) == [0, 2]
    assert log.slice(1, UNLIMITED) == make_entries(1, 2)
    assert log.size_since(0) == ENTRY_OVERHEAD


def test_merge_right_after_base_can_replace_everything() -> None:
    """Base is committed, what follows it need not be."""
    log = make_log(1, 1, base=EntryID(3, 1), commit=3, applied=3)
    log.merge(make_entries(4, 2))
    assert log.last_id == EntryID(4, 2)


def test_merge_skips_what_is_compacted() -> None:
    """Entries at or below base were committed: they are the same everywhere."""
    log = compacted_log()
    log.merge(make_entries(1, 1, 1, 1, 2, 2, 3, 3))
    assert terms_of(log) == [1, 2, 2, 3, 3]
    assert log.unwritten() == make_entries(7, 3)


def test_merge_never_replaces_a_committed_entry() -> None:
    """Committed is for ever (thesis 3.6.3): going on would lose a write that was answered."""
    log = make_log(1, 1, 1, commit=2)
    with pytest.raises(AssertionError, match="entry 2 conflicts, commit 2"):
        log.merge(make_entries(2, 2))


def test_merge_with_a_gap_is_our_bug() -> None:
    """Prev was said to match, so there is none."""
    with pytest.raises(AssertionError):
        make_log(1).merge(make_entries(3, 1))


# -------------------------------------------------------------------------------------- durability


def test_entries_are_handed_over_once() -> None:
    """What is being written is not written again; what comes meanwhile is the next batch."""
    log = make_log()
    log.append(make_entries(1, 1))
    log.mark_handed()
    assert log.unwritten() == []
    log.append(make_entries(2, 1))
    assert log.unwritten() == make_entries(2, 1)
    assert log.stable_index == 0
    log.mark_stable(1, 1)
    assert log.stable_index == 1


def test_stable_of_an_entry_that_was_replaced_is_ignored() -> None:
    """The disk has the old entry; the new one is still to be written."""
    log = make_log(1)
    log.append(make_entries(2, 1, 1))
    log.mark_handed()
    log.merge(make_entries(2, 2, 2))
    log.mark_stable(3, 1)
    assert log.stable_index == 1
    log.mark_handed()
    log.mark_stable(3, 1)
    assert log.stable_index == 1
    log.mark_stable(3, 2)
    assert log.stable_index == 3


def test_stable_of_an_entry_that_was_removed_is_ignored() -> None:
    """There may be nothing at its index at all."""
    log = make_log(1)
    log.append(make_entries(2, 1, 1))
    log.mark_handed()
    log.merge(make_entries(2, 2))
    log.mark_handed()
    log.mark_stable(3, 1)
    assert log.stable_index == 1


def test_stable_of_an_entry_that_went_and_came_back_is_ignored() -> None:
    """Replaced and put back while it was written, it is to be written once more."""
    log = make_log(1)
    log.append(make_entries(2, 2))
    log.mark_handed()
    log.merge(make_entries(2, 3))
    log.merge(make_entries(2, 4))
    log.mark_stable(2, 4)
    assert log.stable_index == 1
    assert log.unwritten() == make_entries(2, 4)


def test_stable_never_goes_back() -> None:
    """A late confirmation of less says nothing new."""
    log = make_log(1, 1, 1)
    log.mark_stable(2, 1)
    assert log.stable_index == 3


# --------------------------------------------------------------------------------- commit, applying


def test_commit_moves_forward_only() -> None:
    """A stale message must not take back what is committed."""
    log = make_log(1, 1, 1, commit=2)
    assert not log.commit_to(1)
    assert not log.commit_to(2)
    assert log.commit_index == 2
    assert log.commit_to(3)
    assert log.commit_index == 3


def test_commit_beyond_the_end_is_not_believed() -> None:
    """Committing what happens to be here would be a guess."""
    log = make_log(1, 1, commit=1)
    assert not log.commit_to(3)
    assert log.commit_index == 1


def test_committed_entries_wait_for_our_own_disk() -> None:
    """A quorum without us may commit before our write is done."""
    log = make_log(1)
    log.append(make_entries(2, 1, 1))
    log.commit_to(3)
    assert log.committed_slice(UNLIMITED) == make_entries(1, 1)
    log.mark_handed()
    log.mark_stable(2, 1)
    assert log.committed_slice(UNLIMITED) == make_entries(1, 1, 1)


def test_uncommitted_entries_are_not_applied() -> None:
    """On disk is not yet committed."""
    assert make_log(1, 1, commit=1).committed_slice(UNLIMITED) == make_entries(1, 1)


def test_applied_entries_are_not_given_out_again() -> None:
    """Each entry is applied once, in order, and a late confirmation changes nothing."""
    log = make_log(1, 1, 1, commit=3)
    log.applied_to(2)
    assert log.committed_slice(UNLIMITED) == make_entries(3, 1)
    log.applied_to(1)
    assert log.applied_index == 2


def test_applied_beyond_commit_is_our_bug() -> None:
    """Nothing may be applied that could still be replaced."""
    with pytest.raises(AssertionError, match="applied 2, commit 1"):
        make_log(1, 1, commit=1).applied_to(2)


def test_applied_beyond_stable_is_our_bug() -> None:
    """Nothing may be applied that a crash could take away."""
    log = make_log()
    log.append(make_entries(1, 1))
    log.commit_to(1)
    with pytest.raises(AssertionError, match="applied 1, stable 0"):
        log.applied_to(1)


# ------------------------------------------------------------------------- compaction, snapshots


def test_compaction_moves_base_and_keeps_its_term() -> None:
    """Base is still the prev that a follower may have."""
    log = make_log(1, 2, 2, commit=3, applied=2)
    log.compact(2)
    assert log.base == EntryID(2, 2)
    assert terms_of(log) == [2, 2]
    assert log.slice(3, UNLIMITED) == make_entries(3, 2)


def test_compaction_of_everything_leaves_base() -> None:
    """The log goes on after it."""
    log = make_log(1, 2, commit=2, applied=2)
    log.compact(2)
    assert log.last_id == EntryID(2, 2)
    log.append(make_entries(3, 2))
    assert log.last_id == EntryID(3, 2)


@pytest.mark.parametrize("index", [0, 2, 3])
def test_compaction_never_goes_back(index: int) -> None:
    """An older snapshot has nothing to say about the log."""
    log = compacted_log()
    log.compact(index)
    assert log.base == EntryID(3, 1)


def test_compaction_beyond_applied_is_our_bug() -> None:
    """No snapshot can contain what was not applied."""
    with pytest.raises(AssertionError, match="compacting to 5, applied 4"):
        compacted_log().compact(5)


def test_restore_begins_anew() -> None:
    """Nothing of the old log survives, and nothing before the snapshot is applied or written."""
    log = make_log(1, 1, 1, commit=1)
    log.append(make_entries(4, 1))
    log.restore(EntryID(9, 3))
    assert terms_of(log) == [3]
    cursors = (log.base.index, log.applied_index, log.commit_index, log.stable_index)
    assert cursors == (9, 9, 9, 9)
    assert log.unwritten() == []
    assert log.size_since(0) == 0
    log.merge(make_entries(10, 3))
    assert log.unwritten() == make_entries(10, 3)


def test_restore_drops_a_longer_log_that_conflicts() -> None:
    """A tail of another leader's must not be taken for what follows the snapshot."""
    log = make_log(1, 1, 1, 1, commit=1)
    log.restore(EntryID(2, 2))
    assert log.last_id == EntryID(2, 2)


def test_confirmations_from_before_a_restore_are_ignored() -> None:
    """The write and the applying that were under way end later."""
    log = make_log(1)
    log.append(make_entries(2, 1))
    log.mark_handed()
    log.commit_to(1)
    log.restore(EntryID(9, 3))
    log.mark_stable(2, 1)
    log.applied_to(1)
    log.check()
    assert (log.stable_index, log.applied_index) == (9, 9)


def test_restore_of_what_is_committed_is_our_bug() -> None:
    """The state would roll back."""
    with pytest.raises(AssertionError, match="snapshot 2@1, commit 2"):
        make_log(1, 1, commit=2).restore(EntryID(2, 1))


@pytest.mark.parametrize(("commit", "applied"), [(4, 0), (1, 2)])
def test_log_with_impossible_cursors_is_our_bug(commit: int, applied: int) -> None:
    """Whoever recovers the log checks what the disk said before."""
    with pytest.raises(AssertionError):
        make_log(1, 1, 1, commit=commit, applied=applied)
