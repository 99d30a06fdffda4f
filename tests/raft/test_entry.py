"""Values on disk: what they say about themselves."""

import gc

import msgpack

from raft.entry import (
    NO_ENTRY,
    NO_HARD_STATE,
    NOOP,
    NORMAL,
    Configuration,
    Entry,
    EntryID,
    HardState,
    SnapshotMeta,
)


def test_entry_id_prints_as_index_at_term() -> None:
    """Logs and golden files show index@term."""
    assert str(EntryID(12, 3)) == "12@3"
    assert str(NO_ENTRY) == "0@0"


def test_servers_of_a_configuration_are_everybody_once_and_sorted() -> None:
    """Old voters still get the log while they count, learners always do."""
    configuration = Configuration(
        voters=(2, 5), voters_outgoing=(2, 7), learners=(1,), learners_next=(7,)
    )
    assert configuration.servers == (1, 2, 5, 7)
    assert Configuration().servers == ()


def test_id_of_a_snapshot_is_its_last_entry() -> None:
    """The log goes on after the entry that the snapshot ends with."""
    assert SnapshotMeta(7, 2, Configuration()).id == EntryID(7, 2)


def test_values_pack_as_plain_tuples_and_come_back_equal() -> None:
    """No value needs an encoder of its own: msgpack sees tuples of ints and bytes."""
    meta = SnapshotMeta(7, 2, Configuration((1, 2**64 - 1), (), (3,), ()))
    packed = msgpack.packb((HardState(2, 1, 6), meta))
    state_back, meta_back = msgpack.unpackb(packed, use_list=False)
    assert HardState(*state_back) == HardState(2, 1, 6)
    index, term, configuration = meta_back
    assert SnapshotMeta(index, term, Configuration(*configuration)) == meta


def test_entries_are_compared_by_value_and_are_no_matter_for_the_collector() -> None:
    """It would look at a hundred thousand of them, none of which refers to anything."""
    entry = Entry(7, 2, NORMAL, b"data")
    assert entry == Entry(7, 2, NORMAL, b"data")
    for other in (
        Entry(8, 2, NORMAL, b"data"),
        Entry(7, 3, NORMAL, b"data"),
        Entry(7, 2, NOOP, b"data"),
        Entry(7, 2, NORMAL, b"data2"),
    ):
        assert entry != other
    is_compiled = not hasattr(Entry.__init__, "__code__")
    assert gc.is_tracked(entry) is not is_compiled


def test_nothing_is_known_at_the_start() -> None:
    """Index and term 0 mean none, id 0 means nobody."""
    assert NO_ENTRY == (0, 0)
    assert NO_HARD_STATE == (0, 0, 0)
