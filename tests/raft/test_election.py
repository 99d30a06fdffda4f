"""Votes: who gets them, how often, and what protects a working leader (thesis 3.4, 4.2.3, 9.6)."""

import pytest

from raft.entry import HardState
from raft.messages import (
    Envelope,
    Heartbeat,
    PreVote,
    PreVoteResponse,
    Vote,
    VoteResponse,
)
from tests.raft.server import FIRST_HARD_STATE, make_leader, make_server


def test_vote_is_granted_once_a_term_and_again_to_the_same_candidate() -> None:
    """One vote per term, repeated when asked for again (thesis 3.4)."""
    server = make_server()
    granted = [Envelope(1, 2, 5, VoteResponse(True, 1, 1))]
    assert server.receive(2, Vote(1, 1, False), term=5) == granted
    assert server.receive(3, Vote(9, 4, False), term=5) == [
        Envelope(1, 3, 5, VoteResponse(False, 1, 1))
    ]
    assert server.receive(2, Vote(1, 1, False), term=5) == granted
    assert server.core.vote == 2


def test_vote_survives_a_step_down_in_the_same_term() -> None:
    """Following a leader, or losing, does not give the vote back."""
    server = make_server(pre_vote=False)
    server.do(lambda core: core.campaign())
    server.receive(2, Heartbeat(1, 0))
    assert (server.core.role, server.core.vote) == ("follower", 1)
    sent = server.receive(3, Vote(9, 2, False))
    assert sent == [Envelope(1, 3, 2, VoteResponse(False, 1, 1))]


def test_vote_survives_a_crash() -> None:
    """Term and vote come back from the disk, and the vote stays given."""
    server = make_server(hard_state=HardState(5, 2, 1))
    assert server.receive(3, Vote(9, 4, False)) == [Envelope(1, 3, 5, VoteResponse(False, 1, 1))]
    assert server.receive(2, Vote(1, 1, False)) == [Envelope(1, 2, 5, VoteResponse(True, 1, 1))]


def test_vote_is_not_sent_before_it_is_on_disk() -> None:
    """A crash in between must not set it free (thesis 3.8); a refusal promises nothing."""
    server = make_server()
    server.holds_writes = True
    assert server.receive(2, Vote(1, 1, False), term=5) == []
    assert server.receive(3, Vote(1, 1, False), term=5) == [
        Envelope(1, 3, 5, VoteResponse(False, 1, 1))
    ]
    assert server.finish_write() == [Envelope(1, 2, 5, VoteResponse(True, 1, 1))]
    assert server.disk.hard_state == HardState(5, 2, 1)


def test_server_that_knows_the_leader_has_no_vote_to_give() -> None:
    """In its term somebody has won already."""
    server = make_server(hard_state=HardState(5, 0, 1))
    server.receive(2, Heartbeat(1, 0))
    assert server.receive(3, Vote(9, 4, False)) == [Envelope(1, 3, 5, VoteResponse(False, 1, 1))]
    assert server.core.vote == 0


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 2, True), (4, 2, True), (1, 3, True), (2, 2, False), (9, 1, False)],
)
@pytest.mark.parametrize("is_pre_vote", [True, False])
def test_vote_needs_a_log_at_least_as_up_to_date(
    last_index: int, last_term: int, granted: bool, is_pre_vote: bool
) -> None:
    """The later last term wins, then the longer log; equal is good enough (thesis 3.6.1)."""
    server = make_server(terms=(1, 1, 2), hard_state=HardState(2, 0, 1))
    if is_pre_vote:
        sent = server.receive(2, PreVote(last_index, last_term), term=5)
        expected = Envelope(1, 2, 5 if granted else 2, PreVoteResponse(granted, 1, 1))
    else:
        sent = server.receive(2, Vote(last_index, last_term, False), term=5)
        expected = Envelope(1, 2, 5, VoteResponse(granted, 1, 1))
    assert sent == [expected]


def test_granting_a_vote_gives_the_candidate_time_and_a_pre_vote_does_not() -> None:
    """Only a real vote puts our own election off."""
    server = make_server()
    server.tick(9)
    server.receive(2, Vote(1, 1, False), term=1)
    server.tick(9)
    assert server.core.role == "follower"
    for _ in range(5):
        server.receive(2, PreVote(1, 1), term=2)
        server.tick(2)
    assert server.core.role == "pre_candidate"


def test_pre_vote_is_for_terms_to_come() -> None:
    """Who asks about a term that is under way learns of it."""
    server = make_server(hard_state=HardState(5, 0, 1))
    assert server.receive(2, PreVote(9, 9)) == [Envelope(1, 2, 5, PreVoteResponse(False, 1, 1))]


def test_pre_candidate_that_votes_for_another_ends_its_own_attempt() -> None:
    """It must not compete with the candidate that has its vote."""
    server = make_server()
    server.do(lambda core: core.campaign())
    assert server.receive(2, Vote(1, 1, False)) == [Envelope(1, 2, 1, VoteResponse(True, 1, 1))]
    assert (server.core.role, server.core.vote) == ("follower", 2)


def test_two_pre_candidates_can_grant_each_other() -> None:
    """Without that, two servers that ask at once would wait for ever."""
    server = make_server()
    server.receive(3, Heartbeat(1, 0))
    server.do(lambda core: core.campaign())
    assert server.core.leader == 0
    assert server.receive(2, PreVote(1, 1), term=2) == [
        Envelope(1, 2, 2, PreVoteResponse(True, 1, 1))
    ]


# ------------------------------------------------------------------------- leader stickiness


@pytest.mark.parametrize("ticks", [0, 9])
def test_follower_that_hears_its_leader_ignores_elections(ticks: int) -> None:
    """A server that was cut off or removed does not disturb (thesis 4.2.3)."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    server.tick(ticks)
    assert server.receive(3, Vote(9, 9, False), term=9) == []
    assert server.receive(3, PreVote(9, 9), term=9) == [
        Envelope(1, 3, 1, PreVoteResponse(False, 1, 1))
    ]
    assert (server.core.term, server.core.leader) == (1, 2)


def test_follower_whose_leader_is_silent_takes_part_again() -> None:
    """After an election timeout without the leader, votes are to be had."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    server.tick(10)
    assert server.receive(3, PreVote(9, 9), term=9) == [
        Envelope(1, 3, 9, PreVoteResponse(True, 1, 1))
    ]
    assert server.receive(3, Vote(9, 9, False), term=9) == [
        Envelope(1, 3, 9, VoteResponse(True, 1, 1))
    ]


def test_transfer_vote_is_granted_in_spite_of_the_leader() -> None:
    """The leader itself has asked for this election (thesis 3.10)."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    assert server.receive(3, Vote(9, 9, True), term=9) == [
        Envelope(1, 3, 9, VoteResponse(True, 1, 1))
    ]


def test_leader_ignores_elections_while_it_leads() -> None:
    """Check-quorum sees to it that it steps down when nobody hears it."""
    leader = make_leader()
    assert leader.receive(3, Vote(9, 9, False), term=9) == []
    assert leader.receive(3, PreVote(9, 9), term=9) == [
        Envelope(1, 3, 2, PreVoteResponse(False, 1, 1))
    ]
    assert leader.core.role == "leader"


def test_without_check_quorum_nobody_clings_to_a_leader() -> None:
    """Such a leader would never step down by itself."""
    server = make_server(check_quorum=False, hard_state=FIRST_HARD_STATE)
    server.receive(2, Heartbeat(1, 0))
    assert server.receive(3, PreVote(9, 9), term=9) == [
        Envelope(1, 3, 9, PreVoteResponse(True, 1, 1))
    ]
    assert server.receive(3, Vote(9, 9, False), term=9) == [
        Envelope(1, 3, 9, VoteResponse(True, 1, 1))
    ]


def test_candidate_has_voted_for_itself() -> None:
    """Two candidates of one term do not elect each other."""
    server = make_server(pre_vote=False)
    server.do(lambda core: core.campaign())
    assert server.receive(2, Vote(9, 9, False)) == [Envelope(1, 2, 2, VoteResponse(False, 1, 1))]
    assert server.core.vote == 1
