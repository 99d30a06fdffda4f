"""Recovery's rules: log and snapshot are joined, or what contradicts itself is refused.

That they hold for files, and after every crash, is in `test_storage`.
"""

import pytest

from raft.codec import Batch, DecodeError
from raft.entry import NORMAL, Configuration, Entry, HardState, SnapshotMeta
from raft.interfaces import Recovered
from raft.recovery import LogImage, Unrecoverable, recover


def entries(first: int, last: int, term: int) -> list[Entry]:
    return [Entry(i, term, NORMAL, b"%d" % i) for i in range(first, last + 1)]


def meta(raft_index: int, term: int) -> SnapshotMeta:
    return SnapshotMeta(raft_index, term, Configuration(voters=(1, 2, 3)))


def image_of(*batches: Batch) -> LogImage:
    image = LogImage()
    for batch in batches:
        image.replay(batch)
    return image


def test_recover_without_the_beginning_of_the_log_is_refused() -> None:
    """Entries between the snapshot and the log would be missing."""
    image = LogImage(base_index=10, base_term=1, hard_state=HardState(1, 0, 0))
    with pytest.raises(Unrecoverable, match=r"begins at index 11, but the newest .* ends at 9"):
        recover(image, meta(9, 1), b"")
    with pytest.raises(Unrecoverable, match="begins at index 11, but there is no"):
        recover(image, None, b"")


def test_recover_with_a_snapshot_against_a_committed_entry_is_refused() -> None:
    """Two committed entries at one index: one of the files is another server's."""
    image = image_of(Batch(None, entries(1, 9, 2), HardState(3, 0, 7)))
    with pytest.raises(Unrecoverable, match="contradicts the committed entry 5@2"):
        recover(image, meta(5, 3), b"")


def test_recover_with_an_entry_beyond_the_term_is_refused() -> None:
    """An entry is written together with its term: one of the two is damaged."""
    image = image_of(Batch(None, entries(1, 9, 4), HardState(3, 0, 7)))
    with pytest.raises(Unrecoverable, match=r"an entry of term 4, but .* beyond 3"):
        recover(image, None, b"")


def test_recover_with_a_snapshot_of_the_log_goes_on_behind_it() -> None:
    """The log need not be marked; the commit index rises to what the snapshot proves."""
    image = image_of(Batch(None, entries(1, 9, 2), HardState(3, 1, 4)))
    expected = Recovered(b"me", HardState(3, 1, 6), meta(6, 2), entries(7, 9, 2))
    assert recover(image, meta(6, 2), b"me") == (expected, False)


def test_recover_with_a_snapshot_beyond_the_log_has_it_marked() -> None:
    """In a term that was known, the vote stays."""
    image = image_of(Batch(None, entries(1, 9, 2), HardState(5, 1, 4)))
    expected = Recovered(b"", HardState(5, 1, 20), meta(20, 4), [])
    assert recover(image, meta(20, 4), b"") == (expected, True)


def test_replay_of_entries_after_a_gap_is_refused() -> None:
    """A record between them is missing."""
    image = image_of(Batch(None, entries(1, 3, 2), HardState(2, 0, 0)))
    with pytest.raises(DecodeError, match="entry 5 after entry 3@2"):
        image.replay(Batch(None, entries(5, 6, 2), HardState(2, 0, 0)))
