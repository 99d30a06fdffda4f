"""Proves that the driver serves disk, network and state machine in the one safe order."""

import pytest

from raft.confchange import ADD_VOTER, REMOVE, decode_change
from raft.driver import Driver
from raft.entry import (
    CONFIG,
    NORMAL,
    Entry,
)
from raft.messages import (
    AppendResponse,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    Vote,
)
from tests.raft.driver_world import (
    FIRST_CONTEXT,
    QUIET,
    RETRY_TICKS,
    World,
    append,
    ask,
    change_entry,
    entry,
)

# ------------------------------------------------------------------------------ order of things


def test_start_tells_the_configuration_and_applies_what_is_committed():
    """Before anything is asked of it, the state machine is where the disk says."""
    world = World(1, 2, 3, entries=[entry(2), entry(3)])
    assert world.notes == [
        ("configured", ()),
        ("change", 1, b"why"),
        ("configured", (1, 2, 3)),
        ("apply", [2, 3]),
    ]


def test_leaders_appends_leave_before_its_own_write_is_durable():
    """Followers write while the leader does (thesis 10.2.1)."""
    world = World(1, 2, 3).lead()
    world.propose()
    assert world.notes == [("send", ["Append", "Append"]), ("write", [3])]


def test_followers_promise_leaves_only_when_it_is_durable():
    """An acknowledgement that a crash undoes could lose a committed entry."""
    world = World(1, 2, 3).follow()
    world.receive(2, append(world, entry(2)))
    assert world.notes == [("write", [2])]
    world.complete()
    assert world.notes == [("write", [2]), ("durable",), ("send", ["AppendResponse"])]
    assert world.sent(AppendResponse) == [AppendResponse(2)]


def test_single_leader_commits_only_what_is_durable():
    """Our own acknowledgement counts by the same path as everybody's."""
    world = World(1).lead()
    world.propose()
    assert world.did("apply") == []
    assert world.core.log.commit_index == 2
    world.complete()
    assert world.notes == [("write", [3]), ("durable",), ("apply", [3])]


def test_entries_that_others_committed_wait_for_our_own_disk():
    """A state machine must not be ahead of its own log."""
    world = World(1, 2, 3).lead()
    world.propose()
    world.receive(2, AppendResponse(3))
    world.receive(3, AppendResponse(3))
    assert world.core.log.commit_index == 3
    assert world.did("apply") == []
    world.complete()
    assert world.did("durable", "apply") == [("durable",), ("apply", [3])]


def test_lone_answer_comes_before_followers_are_told_of_the_commit():
    """Its client waits for it; followers wait for nothing."""
    world = World(1, 2, 3).lead()
    world.propose()
    world.complete()
    world.notes.clear()
    world.receive(2, AppendResponse(3))
    assert world.notes == [("apply", [3]), ("send", ["CommitTo"])]


def test_followers_are_told_of_the_commit_of_many_before_these_are_applied():
    """Their clients wait, too, and all of these take a while."""
    world = World(1, 2, 3).lead()
    for _ in range(3):
        world.propose()
    world.disk.complete_all()
    world.notes.clear()
    world.receive(2, AppendResponse(5))
    assert world.notes == [("send", ["CommitTo"]), ("apply", [3, 4, 5])]


def test_followers_are_told_of_a_changed_configuration_before_it_is_in_force():
    """It may be the last that one of them hears."""
    world = World(1, 2, 3).lead()
    world.core.propose_config(decode_change(change_entry(3, (REMOVE, 3)).data))
    world.pump()
    world.disk.complete_all()
    world.notes.clear()
    world.receive(2, AppendResponse(3))
    assert world.did("send", "change")[:2] == [("send", ["CommitTo"]), ("change", 3, b"why")]


def test_proposals_that_arrive_during_a_write_share_the_next():
    """Group commit: one write in flight, however many are proposed."""
    world = World(1).lead()
    for _ in range(4):
        world.propose()
    assert world.disk.pending == 1
    world.complete()
    assert world.did("write") == [("write", [3]), ("write", [4, 5, 6])]
    world.complete()
    assert world.did("apply") == [("apply", [3]), ("apply", [4, 5, 6])]


def test_quick_disk_is_waited_for():
    """Then the acknowledgement leaves before the state machine gets what was committed before."""
    world = World(1, 2, 3).follow()
    world.receive(2, append(world, entry(2)))
    world.complete()
    world.notes.clear()
    world.is_quick = True
    world.receive(2, append(world, entry(3), commit=2))
    assert world.notes == [
        *(("write", [3]), ("durable",), ("send", ["AppendResponse"]), ("apply", [2])),
    ]
    world.receive(2, append(world, entry(4), commit=3))
    assert world.did("apply") == [("apply", [2]), ("apply", [3])]


def test_single_leader_with_a_quick_disk_commits_at_once():
    """By the same path as with any disk."""
    world = World(1).lead()
    world.is_quick = True
    world.propose()
    world.propose()
    assert world.notes == [
        *(("write", [3]), ("durable",), ("apply", [3])),
        *(("write", [4]), ("durable",), ("apply", [4])),
    ]


def test_rejected_proposals_reach_the_state_machine():
    """They were passed on, and came back."""
    world = World(1, 2, 3).follow()
    world.propose(b"mine")
    assert world.sent(Propose) == [Propose([(NORMAL, b"mine")])]
    world.receive(2, ProposeReject("not now", [(NORMAL, b"mine")]))
    assert world.did("reject") == [("reject", NORMAL, b"mine", "not now")]


# ---------------------------------------------------------------------------------- membership


def test_configuration_entries_split_batches():
    """The state machine sees every entry in its place."""
    world = World(1, 2, 3).follow()
    entries = [entry(2), entry(3), change_entry(4, (ADD_VOTER, 4)), entry(5)]
    world.receive(2, append(world, *entries, commit=5))
    world.complete()
    assert world.did("apply", "change", "configured") == [
        ("apply", [2, 3]),
        ("change", 4, b"why"),
        ("configured", (1, 2, 3, 4)),
        ("apply", [5]),
    ]


def test_change_that_the_state_machine_voids_is_not_put_in_force():
    """It says no on every server alike."""
    world = World(1, 2, 3).follow()
    world.voids_changes = True
    world.receive(2, append(world, change_entry(2, (REMOVE, 3)), entry(3), commit=3))
    world.complete()
    assert world.did("change", "configured", "apply") == [
        ("change", 2, b"why"),
        ("configured", (1, 2, 3)),
        ("apply", [3]),
    ]


def test_change_that_nobody_understands_is_void_and_not_shown():
    """Bytes of the log that are no change end no server."""
    world = World(1, 2, 3).follow()
    world.receive(2, append(world, Entry(2, 1, CONFIG, b"?"), commit=2))
    world.complete()
    assert world.did("change", "configured") == [("configured", (1, 2, 3))]
    assert world.core.applied_index == 2


# --------------------------------------------------------------------------------------- reads


def test_read_of_a_single_leader_is_served_at_once():
    """Nobody else can lead."""
    assert ask(World(1).lead()) == [2]


def test_read_of_a_leader_waits_for_a_quorum():
    """A deposed leader would serve old values (thesis 6.4)."""
    world = World(1, 2, 3).lead()
    served = ask(world)
    assert served == []
    world.receive(2, HeartbeatResponse(world.sent(Heartbeat)[-1].read_round))
    assert served == [2]


def test_reads_of_one_turn_are_asked_for_together():
    """One context, however many wait."""
    world = World(1, 2, 3).follow()
    served = ask(world, times=3)
    assert world.sent(ReadIndex) == [ReadIndex(FIRST_CONTEXT)]
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 1))
    assert served == [1, 1, 1]


def test_read_is_served_only_when_its_index_is_applied():
    """Confirmed is not enough: the write it must see may still be on its way."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 3), append(world, entry(2), commit=2))
    world.complete()
    assert (served, world.core.applied_index) == ([], 2)
    world.receive(2, append(world, entry(3), commit=3))
    assert served == []
    world.complete()
    assert served == [3]


def test_lost_read_is_asked_again_under_a_new_context():
    """Question or answer got lost; other reads in between have their own."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    world.tick(RETRY_TICKS - 1)
    assert world.sent(ReadIndex) == [ReadIndex(FIRST_CONTEXT)]
    world.tick()
    assert world.sent(ReadIndex)[1:] == [ReadIndex(FIRST_CONTEXT + 1)]
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 1, 1))
    assert served == [1]


def test_late_answer_to_an_abandoned_question_is_ignored():
    """It may come from a leader that has been deposed since."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    world.tick(RETRY_TICKS)
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 1))
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 17, 1))
    assert served == []
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 1, 1))
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 1, 1))
    assert served == [1]


def test_read_without_a_leader_waits_for_one():
    """Nothing is asked of nobody."""
    world = World(1, 2, 3)
    served = ask(world)
    world.tick()
    assert world.sent(ReadIndex) == []
    world.receive(2, Heartbeat(0, 0))
    assert world.sent(ReadIndex) == [ReadIndex(FIRST_CONTEXT)]
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 1))
    assert served == [1]


def test_read_that_asks_for_a_read_is_served_in_turn():
    """Callbacks may come back for more."""
    world = World(1).lead()
    inner: list[int] = []
    world.driver.read_index(lambda: inner.extend(ask(world)))
    world.pump()
    assert inner == [2]


@pytest.mark.pure("nothing but a core passes for a core there")
def test_first_context_of_zero_is_our_bug():
    """0 means none everywhere."""
    with pytest.raises(AssertionError, match="contexts begin at 1"):
        Driver(*[object()] * 4, first_context=0, read_retry_ticks=1, log=QUIET)


def test_vote_is_durable_before_anybody_hears_of_the_campaign():
    """A candidate that forgot its own vote could give it twice in one term."""
    world = World(1, 2, 3)
    world.core.campaign()
    world.pump()
    world.driver.step([Envelope(2, 1, world.core.term + 1, PreVoteResponse(True))])
    world.pump()
    assert (world.core.role, world.sent(Vote)) == ("candidate", [])
    world.complete()
    assert len(world.sent(Vote)) == 2
    hard_state = world.disk.recover().hard_state
    assert (hard_state.term, hard_state.vote) == (2, 1)
