"""The candidate: which answers count, and how an attempt ends."""

import pytest

from raft.confchange import REMOVE, Change, ConfigChange, encode_change
from raft.entry import CONFIG, NORMAL, Configuration, Entry, SnapshotMeta
from raft.errors import ProposalDropped
from raft.interfaces import ReadState
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    TimeoutNow,
    Vote,
    VoteResponse,
)
from tests.raft.server import Server, make_leader, make_server

_FIVE = (1, 2, 3, 4, 5)
_REMOVE_3 = ConfigChange((Change(REMOVE, 3),))


def _candidate(**options: int) -> Server:
    server = make_server(voters=_FIVE, pre_vote=False, **options)
    server.do(lambda core: core.campaign())
    assert server.core.role == "candidate"
    return server


def _pre_candidate() -> Server:
    server = make_server(voters=_FIVE)
    server.do(lambda core: core.campaign())
    assert server.core.role == "pre_candidate"
    return server


def test_candidate_asks_every_other_voter_once_its_own_vote_is_on_disk() -> None:
    """A crash must not let it ask twice in one term with different logs."""
    server = make_server(pre_vote=False)
    server.holds_writes = True
    assert server.do(lambda core: core.campaign()) == []
    vote = Vote(1, 1, False)
    assert server.finish_write() == [Envelope(1, 2, 2, vote), Envelope(1, 3, 2, vote)]
    assert (server.disk.hard_state.term, server.disk.hard_state.vote) == (2, 1)


def test_pre_candidate_asks_about_the_next_term_and_enters_none() -> None:
    """Nothing is written for a question (thesis 9.6)."""
    server = make_server()
    server.holds_writes = True
    asked = server.do(lambda core: core.campaign())
    assert asked == [Envelope(1, it, 2, PreVote(1, 1)) for it in (2, 3)]
    assert (server.core.term, server.core.vote, server.writing) == (1, 0, None)


def test_candidate_with_a_majority_of_votes_leads() -> None:
    """Three of five: its own and two others."""
    server = _candidate()
    server.receive(2, VoteResponse(True))
    assert server.core.role == "candidate"
    server.receive(3, VoteResponse(True))
    assert server.core.role == "leader"


@pytest.mark.parametrize("voters", [(1, 2), (1, 2, 3, 4)])
def test_half_of_the_votes_is_no_majority(voters: tuple[int, ...]) -> None:
    """Of an even number, one more than half is needed."""
    server = make_server(voters=voters, pre_vote=False)
    server.do(lambda core: core.campaign())
    for voter in voters[1 : len(voters) // 2]:
        server.receive(voter, VoteResponse(True))
    assert server.core.role == "candidate"
    server.receive(voters[-1], VoteResponse(True))
    assert server.core.role == "leader"


def test_candidate_counts_its_own_vote_only_when_it_is_on_disk() -> None:
    """It may otherwise vote for another in the same term after a crash."""
    server = make_server(pre_vote=False)
    server.holds_writes = True
    server.do(lambda core: core.campaign())
    server.receive(2, VoteResponse(True))
    assert server.core.role == "candidate"
    server.finish_write()
    assert server.core.role == "leader"


@pytest.mark.parametrize("second", [True, False])
def test_repeated_answer_is_no_second_vote(second: bool) -> None:
    """The network may deliver one twice, and the first answer stands."""
    server = _candidate()
    server.receive(2, VoteResponse(True))
    server.receive(2, VoteResponse(second))
    assert server.core.role == "candidate"
    server.receive(3, VoteResponse(True))
    assert server.core.role == "leader"


def test_votes_of_strangers_and_of_earlier_terms_do_not_count() -> None:
    """Only this term's votes, and only those of voters."""
    server = _candidate()
    server.tick(20)
    assert server.core.term == 3
    for voter in (2, 3, 4, 5):
        server.receive(voter, VoteResponse(True), term=2)
    for stranger in (7, 8, 9):
        server.receive(stranger, VoteResponse(True))
    assert server.core.role == "candidate"


def test_candidate_refused_by_a_majority_is_a_follower_again() -> None:
    """It need not wait for its timeout to know."""
    server = _candidate()
    for voter in (2, 3):
        server.receive(voter, VoteResponse(False))
        assert server.core.role == "candidate"
    server.receive(4, VoteResponse(False))
    assert (server.core.role, server.core.term, server.core.vote) == ("follower", 2, 1)


def test_pre_candidate_with_a_majority_becomes_candidate() -> None:
    """Only then is a new term entered, and the votes are asked for anew."""
    server = _pre_candidate()
    server.receive(2, PreVoteResponse(True), term=2)
    server.receive(3, PreVoteResponse(True), term=2)
    assert (server.core.role, server.core.term) == ("candidate", 2)
    server.receive(4, PreVoteResponse(True), term=2)
    server.receive(5, PreVoteResponse(True), term=3)
    assert server.core.role == "candidate"


def test_pre_candidate_ignores_grants_of_other_terms_and_votes() -> None:
    """A grant counts for the question that was asked."""
    server = _pre_candidate()
    for voter in (2, 3, 4, 5):
        server.receive(voter, PreVoteResponse(True), term=1)
        server.receive(voter, PreVoteResponse(True), term=3)
        server.receive(voter, VoteResponse(True), term=1)
    assert (server.core.role, server.core.term) == ("pre_candidate", 1)


def test_pre_candidate_refused_by_a_majority_is_a_follower_again() -> None:
    """Its term is what it was."""
    server = _pre_candidate()
    for voter in (2, 3, 4):
        server.receive(voter, PreVoteResponse(False))
    assert (server.core.role, server.core.term) == ("follower", 1)


@pytest.mark.parametrize("term", [1, 2, 3])
@pytest.mark.parametrize("kind", [VoteResponse, PreVoteResponse])
@pytest.mark.parametrize("granted", [True, False])
def test_candidate_commits_what_a_voter_knows_to_be_committed(
    kind: "type[VoteResponse | PreVoteResponse]", granted: bool, term: int
) -> None:
    """Committed is committed, whatever the term and the answer."""
    server = make_server(voters=_FIVE, terms=(1, 1, 1), pre_vote=False)
    server.do(lambda core: core.campaign())
    server.receive(2, kind(granted, 2, 1), term=term)
    assert server.core.log.commit_index == 2
    assert [entry.index for entry in server.applied] == [1, 2]


@pytest.mark.parametrize("entry_id", [(0, 0), (1, 1), (3, 2), (4, 1)])
def test_candidate_ignores_that_an_entry_is_committed_that_it_has_not(
    entry_id: tuple[int, int],
) -> None:
    """Another term makes another entry; and the commit index never goes back."""
    server = make_server(voters=_FIVE, terms=(1, 1, 1), pre_vote=False)
    server.do(lambda core: core.campaign())
    server.receive(2, VoteResponse(False, *entry_id))
    assert server.core.log.commit_index == 1
    assert server.core.role == "candidate"


def test_follower_learns_from_a_late_answer_what_is_committed() -> None:
    """Its campaign may have ended meanwhile; the answer is true all the same."""
    server = make_server(voters=_FIVE, terms=(1, 1, 1))
    server.receive(2, PreVoteResponse(False, 3, 1), term=7)
    assert (server.core.role, server.core.log.commit_index) == ("follower", 3)


def test_leader_does_not_learn_from_late_answers_what_is_committed() -> None:
    """Its own entry commits all before it, and what waits for that is told by then."""
    leader = make_leader(terms=(1, 1, 1))
    leader.receive(3, VoteResponse(False, 3, 1))
    assert (leader.core.role, leader.core.log.commit_index) == ("leader", 1)


@pytest.mark.parametrize("term", [1, 2])
def test_candidate_that_learns_of_a_new_configuration_ends_its_attempt(term: int) -> None:
    """Also if it learns that from the very vote that would elect it, or from a late one."""
    server = make_server(voters=(1, 2, 3), pre_vote=False)
    server.core.log.append([Entry(2, 1, CONFIG, encode_change(_REMOVE_3))])
    server.do(lambda core: core.campaign())
    server.holds_writes = True
    server.receive(2, VoteResponse(True, 2, 1), term=term)
    assert (server.core.role, server.core.term) == ("follower", 2)


@pytest.mark.parametrize(
    "message",
    [
        Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")]),
        Heartbeat(1, 0),
        InstallSnapshot(SnapshotMeta(1, 1, Configuration(_FIVE))),
    ],
)
@pytest.mark.parametrize("make", [_candidate, _pre_candidate])
def test_candidate_that_meets_the_leader_of_its_term_follows_it(
    make: "type[Server]", message: Message
) -> None:
    """Somebody else has won (thesis 3.4); the message itself is handled too."""
    server = make()
    vote = server.core.vote
    sent = server.receive(2, message)
    assert (server.core.role, server.core.leader, server.core.vote) == ("follower", 2, vote)
    assert len(sent) == 1


@pytest.mark.parametrize("pre_vote", [False, True])
def test_attempt_that_takes_too_long_is_followed_by_another(pre_vote: bool) -> None:
    """With pre-vote the next one asks again; without, it is in a new term."""
    server = make_server(voters=_FIVE, pre_vote=pre_vote)
    server.do(lambda core: core.campaign())
    term = server.core.term
    sent = server.tick(19)
    assert len(sent) == 4
    assert server.core.term == (term if pre_vote else term + 1)
    assert server.core.role == ("pre_candidate" if pre_vote else "candidate")


def test_candidate_that_may_not_campaign_any_more_is_a_follower_again() -> None:
    """A committed change that is not applied yet may take its vote away."""
    server = _candidate()
    server.core.log.append([Entry(2, 2, 2, b"")])
    server.core.log.commit_to(2)
    server.holds_writes = True
    server.tick(20)
    assert (server.core.role, server.core.term) == ("follower", 2)


def test_candidate_gives_proposals_of_others_back() -> None:
    """It is not the leader."""
    server = _candidate()
    assert server.receive(3, Propose([(NORMAL, b"a")])) == [
        Envelope(1, 3, 2, ProposeReject("not the leader", [(NORMAL, b"a")]))
    ]


def test_candidate_takes_nothing_from_users() -> None:
    """There is no leader to pass it on to."""
    core = _candidate().core
    with pytest.raises(ProposalDropped, match="no leader"):
        core.propose(b"a")
    with pytest.raises(ProposalDropped, match="no leader"):
        core.propose_config(ConfigChange(()))
    with pytest.raises(ProposalDropped, match="no leader"):
        core.read_index(1)


def test_candidate_takes_the_answer_to_an_earlier_read() -> None:
    """The leader that has confirmed it was the leader at a later moment than it was asked."""
    server = _pre_candidate()
    server.receive(2, ReadIndexResponse(5, 9))
    assert server.reads == [ReadState(5, 9)]


@pytest.mark.parametrize(
    "message",
    [
        TimeoutNow(),
        ReadIndex(1),
        AppendResponse(1),
        AppendReject(1, 0, 0),
        HeartbeatResponse(0),
        PreVoteResponse(False),
    ],
)
def test_messages_that_a_candidate_does_not_expect_change_nothing(message: Message) -> None:
    """Late answers are ignored, and it campaigns already."""
    server = _candidate()
    before = server.core.status()
    assert server.receive(2, message) == []
    assert server.core.status() == before


def test_requests_for_votes_never_reach_a_candidate() -> None:
    """They are core's; a role that is given one is used wrongly."""
    with pytest.raises(AssertionError, match="core handles"):
        _candidate().core._role.step(Envelope(2, 1, 2, Vote(1, 1, False)))
