"""Linearizable reads: a read index is given out only by whoever still leads (thesis 6.4)."""

from raft.confchange import REMOVE, Change, ConfigChange
from raft.interfaces import ReadState
from raft.messages import (
    AppendResponse,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    ReadIndex,
    ReadIndexResponse,
)
from tests.raft.server import Server, make_leader, make_server


def _leader(voters: tuple[int, ...] = (1, 2, 3)) -> Server:
    leader = make_leader(voters=voters)
    for follower in voters[1:]:
        leader.receive(follower, AppendResponse(2))
    return leader


def test_read_waits_for_a_quorum_that_answers_a_later_heartbeat() -> None:
    """A round of heartbeats leaves at once; its answers confirm the read."""
    leader = _leader()
    sent = leader.do(lambda core: core.read_index(7))
    assert sent == [Envelope(1, it, 2, Heartbeat(2, 1)) for it in (2, 3)]
    assert leader.reads == []
    leader.receive(2, HeartbeatResponse(1))
    assert leader.reads == [ReadState(7, 2)]
    leader.receive(3, HeartbeatResponse(1))
    assert leader.reads == [ReadState(7, 2)]


def test_reads_of_one_turn_share_a_round() -> None:
    """One round confirms all that were asked for before it."""
    leader = _leader()
    leader.core.read_index(7)
    leader.core.read_index(8)
    assert len(leader.run()) == 2
    leader.receive(3, HeartbeatResponse(1))
    assert leader.reads == [ReadState(7, 2), ReadState(8, 2)]


def test_answer_to_an_earlier_round_confirms_nothing() -> None:
    """It was sent before the read was asked for."""
    leader = _leader()
    leader.do(lambda core: core.read_index(7))
    leader.receive(2, HeartbeatResponse(0))
    assert leader.reads == []
    leader.do(lambda core: core.read_index(8))
    leader.receive(2, HeartbeatResponse(1))
    assert leader.reads == [ReadState(7, 2)]
    leader.receive(2, HeartbeatResponse(9))
    assert leader.reads == [ReadState(7, 2)]


def test_read_of_a_follower_is_answered_with_a_message() -> None:
    """The follower serves it itself, when it has applied so much."""
    leader = _leader()
    leader.receive(2, ReadIndex(7))
    sent = leader.receive(3, HeartbeatResponse(1))
    assert sent == [Envelope(1, 2, 2, ReadIndexResponse(7, 2))]


def test_read_before_the_first_commit_of_the_term_is_held() -> None:
    """Until then the leader does not know what is committed (etcd#7331)."""
    leader = make_leader(terms=(1, 1, 1))
    leader.do(lambda core: core.read_index(7))
    leader.receive(2, ReadIndex(8))
    leader.receive(2, HeartbeatResponse(0))
    assert leader.reads == []
    leader.receive(2, AppendResponse(4))
    sent = leader.receive(2, HeartbeatResponse(1))
    assert leader.reads == [ReadState(7, 4)]
    assert ReadIndexResponse(8, 4) in [it.message for it in sent]


def test_single_voter_confirms_at_once() -> None:
    """There is nobody who could have elected another leader."""
    server = make_server(voters=(1,))
    server.tick()
    server.do(lambda core: core.read_index(7))
    assert server.reads == [ReadState(7, 2)]


def test_read_is_confirmed_when_a_removal_makes_the_quorum_smaller() -> None:
    """The answers that are there are enough then."""
    leader = _leader((1, 2, 3, 4))
    leader.do(lambda core: core.read_index(7))
    leader.receive(2, HeartbeatResponse(1))
    assert leader.reads == []
    change = ConfigChange((Change(REMOVE, 4),))
    leader.do(lambda core: core.propose_config(change))
    for follower in (2, 3):
        leader.receive(follower, AppendResponse(3))
    assert leader.reads == [ReadState(7, 2)]


def test_reads_of_a_deposed_leader_are_never_confirmed() -> None:
    """They are gone with its leadership."""
    leader = _leader()
    leader.do(lambda core: core.read_index(7))
    leader.receive(2, Heartbeat(2, 0), term=3)
    leader.receive(3, HeartbeatResponse(1), term=2)
    assert leader.reads == []
