"""`-force-new-cluster` appends what removes everybody else, and leaves the rest of the log."""

import pytest

from pyetcd.bootstrap import BootstrapError, stand_alone
from pyetcd.cluster import Member
from pyetcd.command import MemberChange, decode_member_change, encode_member_change
from raft import (
    ADD_VOTER,
    CONFIG,
    NORMAL,
    REMOVE,
    Change,
    ConfigChange,
    Configuration,
    Entry,
    HardState,
    Recovered,
    SnapshotMeta,
    decode_change,
    encode_change,
)


def config_entry(index: int, kind: int, server: int) -> Entry:
    member = Member(server, "", (f"http://a:{server}",)) if kind == ADD_VOTER else None
    context = encode_member_change(MemberChange(0, member, 0 if member else server))
    return Entry(index, 1, CONFIG, encode_change(ConfigChange((Change(kind, server),), context)))


def removed_by(recovered: Recovered, member: int) -> list[int]:
    write = stand_alone(recovered, member)
    assert write is not None
    changes = [decode_change(entry.data) for entry in write.entries]
    removed = [change.changes[0].server_id for change in changes]
    assert [change.changes for change in changes] == [(Change(REMOVE, gone),) for gone in removed]
    contexts = [decode_member_change(change.context) for change in changes]
    assert contexts == [MemberChange(0, None, gone) for gone in removed]
    return removed


def test_everybody_in_the_log_but_us_is_removed_after_its_last_entry() -> None:
    """All of it committed, in a term of its own; entries of unknown fate come before it."""
    entries = [config_entry(index, ADD_VOTER, index) for index in (1, 2, 3)]
    entries += [config_entry(4, REMOVE, 2), config_entry(5, ADD_VOTER, 9)]
    entries += [Entry(6, 4, NORMAL, b"acknowledged, but not marked")]
    recovered = Recovered(b"", HardState(5, 3, 5), None, entries)
    assert removed_by(recovered, 1) == [3, 9]
    write = stand_alone(recovered, 1)
    assert write is not None
    assert [(entry.index, entry.term) for entry in write.entries] == [(7, 6), (8, 6)]
    assert write.hard_state == HardState(6, 0, 8)


def test_members_of_the_snapshot_are_removed() -> None:
    """Also when nothing follows the snapshot."""
    meta = SnapshotMeta(10, 2, Configuration(voters=(1, 2, 3)))
    recovered = Recovered(b"", HardState(2, 0, 10), meta, [])
    assert removed_by(recovered, 2) == [1, 3]
    write = stand_alone(recovered, 2)
    assert write is not None
    assert [entry.index for entry in write.entries] == [11, 12]


def test_member_that_is_alone_writes_nothing() -> None:
    """The flag may stay on the command line."""
    recovered = Recovered(b"", HardState(1, 0, 1), None, [config_entry(1, ADD_VOTER, 1)])
    assert stand_alone(recovered, 1) is None


def test_member_that_its_log_does_not_have_is_refused() -> None:
    """It was removed, or has heard of nothing yet: nobody could lead this cluster."""
    removed = [config_entry(1, ADD_VOTER, 1), config_entry(2, ADD_VOTER, 2)]
    removed += [config_entry(3, REMOVE, 1)]
    for entries in ([], removed):
        with pytest.raises(BootstrapError, match="member 1 is in no configuration"):
            stand_alone(Recovered(b"", HardState(1, 0, 1), None, entries), 1)
