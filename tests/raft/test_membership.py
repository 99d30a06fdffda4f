"""Changing the configuration: one change at a time, in force when applied (thesis chapter 4)."""

import pytest

from raft.confchange import (
    ADD_LEARNER,
    ADD_VOTER,
    REMOVE,
    Change,
    ConfigChange,
    decode_change,
    encode_change,
)
from raft.entry import CONFIG, Configuration, Entry
from raft.errors import ProposalDropped
from raft.interfaces import Rejected
from raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    Propose,
    ProposeReject,
    TimeoutNow,
    VoteResponse,
)
from tests.raft.server import Server, make_leader, make_server


def _change(*pairs: tuple[int, int]) -> ConfigChange:
    return ConfigChange(tuple(Change(kind, server_id) for kind, server_id in pairs))


def _leader(voters: tuple[int, ...] = (1, 2, 3)) -> Server:
    leader = make_leader(voters=voters)
    _acknowledge(leader, *voters)
    return leader


def _acknowledge(leader: Server, *followers: int) -> None:
    """Let followers hold the whole log."""
    for follower in followers:
        if follower != leader.id:
            leader.receive(follower, AppendResponse(leader.core.log.last_index))


def _do(leader: Server, change: ConfigChange) -> None:
    leader.do(lambda core: core.propose_config(change))


def test_change_is_in_force_when_applied_and_not_before() -> None:
    """Until then the old configuration decides."""
    leader = _leader()
    _do(leader, _change((ADD_VOTER, 4)))
    assert leader.core.configuration.voters == (1, 2, 3)
    _acknowledge(leader, 2)
    assert leader.core.configuration.voters == (1, 2, 3, 4)
    assert sorted(leader.core.status().followers) == [2, 3, 4]


def test_quorum_grows_with_the_configuration() -> None:
    """Of four, three are needed."""
    leader = _leader()
    _do(leader, _change((ADD_VOTER, 4)))
    _acknowledge(leader, 2)
    leader.do(lambda core: core.propose(b"a"))
    _acknowledge(leader, 2)
    assert leader.core.log.commit_index == 3
    _acknowledge(leader, 3)
    assert leader.core.log.commit_index == 4


def test_entry_commits_when_a_removal_makes_the_quorum_smaller() -> None:
    """What two of four hold is committed as soon as the fourth is gone."""
    leader = _leader((1, 2, 3, 4))
    _do(leader, _change((REMOVE, 4)))
    leader.do(lambda core: core.propose(b"a"))
    leader.receive(2, AppendResponse(4))
    assert leader.core.log.commit_index == 2
    leader.receive(3, AppendResponse(3))
    assert leader.core.log.commit_index == 4


def test_learner_counts_neither_for_commit_nor_for_elections() -> None:
    """It only receives the log (thesis 4.2.1)."""
    leader = _leader((1, 2))
    _do(leader, _change((ADD_LEARNER, 3)))
    _acknowledge(leader, 2)
    leader.do(lambda core: core.propose(b"a"))
    _acknowledge(leader, 3)
    assert leader.core.log.commit_index == 3
    learner = make_server(3, voters=(1, 2))
    add = Entry(2, 1, CONFIG, encode_change(_change((ADD_LEARNER, 3))))
    learner.receive(1, Append(1, 1, 2, [add]))
    assert learner.core.configuration.learners == (3,)
    learner.tick(40)
    learner.receive(1, TimeoutNow())
    assert learner.core.role == "follower"


def test_only_one_change_is_under_way() -> None:
    """The next one waits until this one is applied."""
    leader = _leader()
    _do(leader, _change((ADD_VOTER, 4)))
    with pytest.raises(ProposalDropped, match="not applied yet"):
        _do(leader, _change((ADD_VOTER, 5)))
    _acknowledge(leader, 2)
    _do(leader, _change((ADD_VOTER, 5)))


def test_change_needs_an_entry_of_the_leaders_own_term_first() -> None:
    """Else two leaders may change the configuration away from each other (raft-dev 2015)."""
    leader = make_leader()
    with pytest.raises(ProposalDropped, match="of its own term"):
        _do(leader, _change((ADD_VOTER, 4)))
    _acknowledge(leader, 2)
    _do(leader, _change((ADD_VOTER, 4)))


def test_impossible_change_is_refused_before_it_is_logged() -> None:
    """The reason is the configuration's."""
    leader = _leader()
    with pytest.raises(ProposalDropped, match="no voter would be left"):
        _do(leader, _change((REMOVE, 1), (REMOVE, 2), (REMOVE, 3)))
    with pytest.raises(ProposalDropped, match="no joint configuration to leave"):
        _do(leader, _change())
    assert leader.core.log.last_index == 2


def test_void_change_leaves_the_configuration_and_frees_the_way() -> None:
    """The state machine may refuse a change; the next one is possible then."""
    leader = _leader()
    leader.voids_changes = True
    _do(leader, _change((ADD_VOTER, 4)))
    _acknowledge(leader, 2)
    assert leader.core.configuration.voters == (1, 2, 3)
    leader.voids_changes = False
    _do(leader, _change((ADD_VOTER, 5)))


def test_impossible_change_in_the_log_is_void() -> None:
    """No leader of ours proposes it; all servers make the same of it."""
    server = make_server()
    entry = Entry(2, 1, CONFIG, encode_change(_change()))
    server.receive(2, Append(1, 1, 2, [entry]))
    assert server.core.configuration == Configuration((1, 2, 3))
    assert server.core.applied_index == 2


def test_change_through_a_follower_is_passed_on_and_may_come_back() -> None:
    """Anybody may ask for a change; a refusal names the reason."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    change = _change((ADD_VOTER, 4))
    sent = server.do(lambda core: core.propose_config(change))
    data = encode_change(change)
    assert [it.message for it in sent] == [Propose([(CONFIG, data)])]
    server.receive(2, ProposeReject("why", [(CONFIG, data)]))
    assert server.rejected == [Rejected(CONFIG, data, "why")]


def test_removed_server_is_told_that_it_has_left() -> None:
    """Its acknowledgement may be late, and nobody sends it anything afterwards."""
    leader = _leader()
    _do(leader, _change((REMOVE, 3)))
    sent = leader.receive(2, AppendResponse(3))
    assert leader.core.configuration.voters == (1, 2)
    assert [it.message for it in sent if it.recipient == 3] == [Append(3, 2, 3, [])]


@pytest.mark.parametrize("trouble", ["unreachable", "far behind"])
def test_removed_server_that_cannot_be_told_is_left_alone(trouble: str) -> None:
    """Where its log agrees with ours is not known, or not kept."""
    leader = make_leader(max_inflight_messages=1)
    leader.receive(2, AppendResponse(2))
    if trouble == "far behind":
        leader.receive(3, AppendResponse(2))
    for _ in range(3):
        leader.do(lambda core: core.propose(b"a"))
        leader.receive(2, AppendResponse(leader.core.log.last_index))
    leader.save_snapshot()
    leader.compact(5)
    _do(leader, _change((REMOVE, 3)))
    sent = leader.receive(2, AppendResponse(6))
    assert leader.core.configuration.voters == (1, 2)
    assert [it for it in sent if it.recipient == 3] == []


# ----------------------------------------------------------------------------------------- joint


def test_joint_configuration_needs_both_majorities() -> None:
    """Neither the old nor the new voters decide alone (thesis 4.3)."""
    leader = _leader()
    _do(leader, _change((ADD_VOTER, 4), (ADD_VOTER, 5), (REMOVE, 2), (REMOVE, 3)))
    _acknowledge(leader, 2)
    assert leader.core.configuration.voters_outgoing == (1, 2, 3)
    assert leader.core.configuration.voters == (1, 4, 5)
    leader.do(lambda core: core.propose(b"a"))
    _acknowledge(leader, 2, 3)
    assert leader.core.log.commit_index == 3
    _acknowledge(leader, 4)
    assert leader.core.log.commit_index == 5


def test_joint_configuration_is_left_by_itself() -> None:
    """The leader proposes that as soon as the joint one is in force."""
    leader = _leader()
    _do(leader, _change((ADD_VOTER, 4), (REMOVE, 3)))
    _acknowledge(leader, 2)
    leave = leader.core.log.slice(4, 999)[0]
    assert decode_change(leave.data) == ConfigChange(())
    with pytest.raises(ProposalDropped, match="not applied yet"):
        _do(leader, _change((ADD_VOTER, 5)))
    _acknowledge(leader, 2, 4)
    assert leader.core.configuration == Configuration((1, 2, 4))
    assert sorted(leader.core.status().followers) == [2, 4]


def test_joint_configuration_is_left_once() -> None:
    """Entries applied meanwhile do not propose it again."""
    leader = _leader()
    _do(leader, _change((ADD_VOTER, 4), (REMOVE, 3)))
    leader.do(lambda core: core.propose(b"a"))
    leader.receive(2, AppendResponse(3))
    assert leader.core.log.last_index == 5
    leader.receive(2, AppendResponse(4))
    leader.receive(4, AppendResponse(4))
    assert (leader.core.applied_index, leader.core.log.last_index) == (4, 5)


def test_new_leader_leaves_an_inherited_joint_configuration() -> None:
    """Once its own term's entry, and with it all earlier ones, is applied."""
    server = make_server(pre_vote=False)
    joint = Entry(2, 1, CONFIG, encode_change(_change((ADD_VOTER, 4), (REMOVE, 3))))
    server.receive(2, Append(1, 1, 2, [joint]))
    server.do(lambda core: core.campaign())
    server.receive(2, VoteResponse(True))
    assert server.core.role == "leader"
    assert server.core.log.last_index == 3
    _acknowledge(server, 2, 4)
    assert server.core.log.last_index == 4
    _acknowledge(server, 2, 4)
    assert server.core.configuration == Configuration((1, 2, 4))


# ------------------------------------------------------------------------------ leaving the cluster


def test_removed_leader_commits_its_removal_hands_over_and_steps_down() -> None:
    """It leads on without counting itself until another server does (thesis 4.2.2)."""
    leader = _leader()
    _do(leader, _change((REMOVE, 1)))
    _acknowledge(leader, 2)
    assert leader.core.configuration.voters == (2, 3)
    assert leader.core.role == "leader"
    with pytest.raises(ProposalDropped, match="has left the cluster"):
        leader.core.propose(b"a")
    with pytest.raises(ProposalDropped, match="has left the cluster"):
        _do(leader, _change((ADD_VOTER, 4)))
    sent = leader.tick()
    assert [(it.recipient, it.message) for it in sent if isinstance(it.message, TimeoutNow)] == [
        (2, TimeoutNow())
    ]
    leader.receive(2, AppendResponse(0), term=3)
    assert leader.core.role == "follower"
    leader.tick(40)
    assert leader.core.role == "follower"


def test_removed_leader_does_not_count_itself() -> None:
    """Both remaining servers must hold an entry."""
    leader = _leader()
    leader.holds_writes = True
    _do(leader, _change((REMOVE, 1)))
    leader.do(lambda core: core.propose(b"a"))
    leader.receive(2, AppendResponse(3))
    leader.receive(3, AppendResponse(3))
    leader.finish_write()
    leader.holds_writes = False
    leader.finish_write()
    assert leader.core.configuration.voters == (2, 3)
    leader.receive(2, AppendResponse(4))
    assert leader.core.log.commit_index == 3
    leader.receive(3, AppendResponse(4))
    assert leader.core.log.commit_index == 4


def test_removed_leader_hands_over_only_to_a_live_server_with_the_whole_log() -> None:
    """Anybody else would not win."""
    leader = _leader()
    _do(leader, _change((REMOVE, 1)))
    leader.do(lambda core: core.propose(b"a"))
    leader.receive(2, AppendResponse(3))
    assert leader.core.configuration.voters == (2, 3)
    assert TimeoutNow() not in [it.message for it in leader.tick()]
    leader.receive(3, AppendResponse(4))
    assert [it.recipient for it in leader.tick() if isinstance(it.message, TimeoutNow)] == [3]
    leader.tick(8)
    leader.receive(2, HeartbeatResponse(0))
    assert TimeoutNow() not in [it.message for it in leader.tick(1)]


def test_removed_leader_that_nobody_answers_steps_down() -> None:
    """Its quorum is that of the others."""
    leader = _leader()
    _do(leader, _change((REMOVE, 1)))
    _acknowledge(leader, 2)
    leader.tick(20)
    assert leader.core.role == "follower"


def test_server_with_a_committed_change_not_applied_does_not_campaign() -> None:
    """Its votes would be counted by a configuration that is out of date (raft#456)."""
    server = make_server()
    server.holds_writes = True
    change = encode_change(_change((ADD_VOTER, 4)))
    entries = [Entry(2, 1, 1, b""), Entry(3, 1, CONFIG, change), Entry(4, 1, 1, b"")]
    server.receive(2, Append(1, 1, 3, entries))
    server.tick(40)
    server.receive(2, TimeoutNow())
    assert server.core.role == "follower"
    server.finish_write()
    server.tick(1)
    assert server.core.role == "pre_candidate"


@pytest.mark.parametrize("commit", [2, 3])
def test_change_that_is_not_committed_does_not_forbid_to_campaign(commit: int) -> None:
    """It may never be, and nobody else may be left to commit it."""
    server = make_server()
    change = encode_change(_change((ADD_VOTER, 4)))
    server.holds_writes = True
    entries = [Entry(2, 1, 1, b""), Entry(3, 1, 1, b""), Entry(4, 1, CONFIG, change)]
    server.receive(2, Append(1, 1, commit, entries[: 2 if commit == 3 else 3]))
    server.tick(20)
    assert server.core.role == "pre_candidate"
