"""Handing leadership over (thesis 3.10)."""

import pytest

from raft.confchange import ADD_LEARNER, REMOVE, Change, ConfigChange
from raft.errors import ProposalDropped
from raft.messages import AppendResponse, CommitTo, Envelope, HeartbeatResponse, TimeoutNow, Vote
from tests.raft.server import Server, make_leader, make_server


def _leader(voters: tuple[int, ...] = (1, 2, 3)) -> Server:
    leader = make_leader(voters=voters)
    for follower in voters[1:]:
        leader.receive(follower, AppendResponse(2))
    return leader


def _transfer(leader: Server, transferee: int) -> list[Envelope]:
    return leader.do(lambda core: core.transfer_leadership(transferee))


def test_transferee_with_the_whole_log_is_told_at_once() -> None:
    """It campaigns without waiting."""
    assert _transfer(_leader(), 2) == [Envelope(1, 2, 2, TimeoutNow())]


def test_transferee_behind_is_told_when_it_has_caught_up() -> None:
    """Before that it could not win."""
    leader = _leader()
    leader.do(lambda core: core.propose(b"a"))
    assert _transfer(leader, 2) == []
    assert leader.receive(3, AppendResponse(3)) != []
    sent = leader.receive(2, AppendResponse(3))
    assert [it.message for it in sent] == [TimeoutNow(), CommitTo(3)]


def test_proposals_are_dropped_during_a_transfer() -> None:
    """The transferee would never catch up."""
    leader = _leader()
    _transfer(leader, 2)
    with pytest.raises(ProposalDropped, match="being transferred"):
        leader.core.propose(b"a")
    with pytest.raises(ProposalDropped, match="being transferred"):
        leader.core.propose_config(ConfigChange((Change(REMOVE, 3),)))


def test_transfer_that_takes_too_long_is_given_up() -> None:
    """After an election timeout the leader takes proposals again."""
    leader = _leader()
    _transfer(leader, 2)
    leader.receive(3, HeartbeatResponse(0))
    leader.tick(9)
    assert leader.core.status().transferee == 2
    leader.tick(1)
    assert leader.core.status().transferee == 0
    leader.do(lambda core: core.propose(b"a"))


def test_transfer_to_another_server_replaces_the_first() -> None:
    """The time begins anew; the same one again changes nothing."""
    leader = _leader()
    _transfer(leader, 2)
    leader.tick(5)
    assert _transfer(leader, 2) == []
    assert _transfer(leader, 3) == [Envelope(1, 3, 2, TimeoutNow())]
    leader.receive(2, HeartbeatResponse(0))
    leader.tick(9)
    assert leader.core.status().transferee == 3


def test_transfer_to_ourselves_is_nothing_to_do() -> None:
    """The leader leads already."""
    leader = _leader()
    assert _transfer(leader, 1) == []
    assert leader.core.status().transferee == 0


def test_transfer_to_a_stranger_or_a_learner_is_refused() -> None:
    """Neither can be elected (consul#7031)."""
    leader = _leader((1, 2))
    change = ConfigChange((Change(ADD_LEARNER, 3),))
    leader.do(lambda core: core.propose_config(change))
    leader.receive(2, AppendResponse(3))
    assert leader.core.configuration.learners == (3,)
    for nobody in (3, 9):
        with pytest.raises(ProposalDropped, match=f"{nobody} is not a voter"):
            leader.core.transfer_leadership(nobody)


def test_transferee_that_is_removed_ends_the_transfer() -> None:
    """The change was proposed before."""
    leader = _leader()
    change = ConfigChange((Change(REMOVE, 3),))
    leader.do(lambda core: core.propose_config(change))
    _transfer(leader, 3)
    leader.receive(2, AppendResponse(3))
    assert leader.core.status().transferee == 0


def test_transfer_goes_on_when_another_server_is_removed() -> None:
    """It concerns only the transferee."""
    leader = _leader()
    change = ConfigChange((Change(REMOVE, 3),))
    leader.do(lambda core: core.propose_config(change))
    _transfer(leader, 2)
    leader.receive(3, AppendResponse(3))
    assert leader.core.configuration.voters == (1, 2)
    assert leader.core.status().transferee == 2


def test_transferee_campaigns_at_once_and_says_why() -> None:
    """No pre-vote: the others still hear the leader, and must vote all the same."""
    server = make_server()
    sent = server.receive(2, TimeoutNow())
    assert sent == [Envelope(1, it, 2, Vote(1, 1, True)) for it in (2, 3)]
    assert server.core.role == "candidate"
