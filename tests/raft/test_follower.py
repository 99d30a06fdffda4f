"""The follower: how it takes the leader's log, and when it campaigns."""

import pytest

from raft.entry import NORMAL, Configuration, Entry, EntryID, SnapshotMeta
from raft.errors import LogLost
from raft.interfaces import ReadState, Rejected
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    TimeoutNow,
    Vote,
    VoteResponse,
)
from tests.raft.server import Server, make_server


def _entries(first_index: int, *terms: int) -> list[Entry]:
    return [Entry(index, term, NORMAL, b"a") for index, term in enumerate(terms, first_index)]


def _ids(server: Server) -> list[str]:
    log = server.core.log
    return [f"{it.index}@{it.term}" for it in log.slice(log.first_index, 1 << 62)]


# ------------------------------------------------------------------------------------- the log


@pytest.mark.parametrize(
    ("prev_index", "prev_term", "hint"),
    [(4, 3, EntryID(4, 2)), (4, 1, EntryID(2, 1)), (9, 3, EntryID(4, 2)), (3, 1, EntryID(2, 1))],
)
def test_follower_without_prev_rejects_append_with_a_hint(
    prev_index: int, prev_term: int, hint: EntryID
) -> None:
    """Index and term of prev must both match; the hint skips what cannot (thesis 3.5)."""
    server = make_server(terms=(1, 1, 2, 2))
    sent = server.receive(2, Append(prev_index, prev_term, 9, _entries(prev_index + 1, 3)), term=3)
    assert sent == [Envelope(1, 2, 3, AppendReject(prev_index, hint.index, hint.term))]
    assert _ids(server) == ["1@1", "2@1", "3@2", "4@2"]
    assert server.core.log.commit_index == 1


def test_follower_keeps_what_a_shorter_append_does_not_mention() -> None:
    """An Append that was overtaken cuts nothing off."""
    server = make_server(terms=(1, 1, 1, 1))
    assert server.receive(2, Append(1, 1, 1, _entries(2, 1))) == [
        Envelope(1, 2, 1, AppendResponse(2))
    ]
    assert _ids(server) == ["1@1", "2@1", "3@1", "4@1"]


def test_follower_replaces_only_from_the_conflict_on() -> None:
    """What agrees stays, what does not goes with all that follows it (thesis 3.5)."""
    server = make_server(terms=(1, 1, 1, 1, 1))
    server.receive(2, Append(1, 1, 1, _entries(2, 1, 3)), term=3)
    assert _ids(server) == ["1@1", "2@1", "3@3"]


def test_follower_commits_only_up_to_the_last_new_entry() -> None:
    """Its own entries after those of the Append may be another leader's (thesis figure 3.1)."""
    server = make_server(terms=(1, 1, 1, 1))
    server.receive(2, Append(1, 1, 9, _entries(2, 1)))
    assert server.core.log.commit_index == 2
    server.receive(2, Append(3, 1, 9, []))
    assert server.core.log.commit_index == 3


def test_follower_commit_index_never_goes_back() -> None:
    """A late Append knows less than is known here."""
    server = make_server(terms=(1, 1, 1))
    server.receive(2, Append(3, 1, 3, []))
    server.receive(2, Append(1, 1, 1, []))
    server.receive(2, Heartbeat(2, 0))
    assert server.core.log.commit_index == 3


def test_append_behind_commit_is_acknowledged_to_the_commit_index() -> None:
    """Up to there the logs agree for certain, also where the prev entry is compacted."""
    server = make_server(terms=(1, 1, 1, 1))
    server.receive(2, Append(4, 1, 4, []))
    server.save_snapshot()
    server.compact(3)
    assert server.receive(2, Append(1, 1, 4, _entries(2, 1))) == [
        Envelope(1, 2, 1, AppendResponse(4))
    ]
    assert server.receive(2, Append(2, 1, 4, _entries(3, 1, 1, 1))) == [
        Envelope(1, 2, 1, AppendResponse(5))
    ]
    assert server.core.log.last_index == 5


@pytest.mark.parametrize(
    "append",
    [
        Append(1, 1, 1, _entries(3, 1)),
        Append(1, 1, 1, [Entry(2, 1, NORMAL, b""), Entry(4, 1, NORMAL, b"")]),
        Append(1, 1, 1, _entries(2, 0)),
        Append(1, 1, 1, _entries(2, 3, 2)),
        Append(1, 1, 1, _entries(2, 9)),
    ],
)
def test_malformed_append_is_dropped(append: Append) -> None:
    """Entries with gaps, falling terms or a term beyond the leader's own are nonsense."""
    server = make_server(terms=(1,))
    assert server.receive(2, append, term=3) == []
    assert server.core.log.last_index == 1


def test_heartbeat_commits_and_is_answered_with_its_round() -> None:
    """The leader never names more than we have acknowledged."""
    server = make_server(terms=(1, 1))
    sent = server.receive(2, Heartbeat(2, 7))
    assert sent == [Envelope(1, 2, 1, HeartbeatResponse(7))]
    assert server.core.log.commit_index == 2


@pytest.mark.parametrize("message", [Heartbeat(9, 0), CommitTo(9)])
def test_follower_that_has_lost_acknowledged_entries_ends(message: Message) -> None:
    """It is told to commit what it does not have: it must vote for nobody any more."""
    server = make_server(terms=(1, 1))
    with pytest.raises(LogLost, match=r"acknowledged entry 9, but its log ends at 2"):
        server.receive(2, message)
    assert server.core.log.commit_index == 1


def test_commit_notice_commits_and_is_not_answered() -> None:
    """It saves the answer that an empty Append would bring."""
    server = make_server(terms=(1, 1))
    assert server.receive(2, CommitTo(2)) == []
    assert server.core.log.commit_index == 2


def test_second_leader_of_a_term_is_ignored() -> None:
    """There cannot be one: whoever says so is not believed."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    assert server.receive(3, Append(1, 1, 1, _entries(2, 1))) == []
    assert (server.core.leader, server.core.log.last_index) == (2, 1)


# -------------------------------------------------------------------------------------- timing


def test_follower_campaigns_after_its_timeout_and_not_before() -> None:
    """The timeout lies between one and two election timeouts (thesis 3.4)."""
    for server_id in (1, 2, 3):
        server = make_server(server_id)
        assert server.tick(9) == []
        assert server.core.role == "follower"
        server.tick(10)
        assert server.core.role == "pre_candidate"


@pytest.mark.parametrize(
    "message",
    [
        Append(1, 1, 1, []),
        Heartbeat(1, 0),
        InstallSnapshot(SnapshotMeta(1, 1, Configuration((1,)))),
    ],
)
def test_follower_that_hears_from_its_leader_does_not_campaign(message: Message) -> None:
    """Every message of the leader starts the timer anew."""
    server = make_server()
    for _ in range(5):
        server.receive(2, message)
        server.tick(9)
    assert server.core.role == "follower"


def test_timeouts_are_drawn_anew_for_every_attempt() -> None:
    """Servers that collided once must not collide for ever (thesis 3.4)."""
    server = make_server(pre_vote=False)
    lengths = []
    for term in range(2, 22):
        ticks = 0
        while server.core.term < term:
            server.tick()
            ticks += 1
        lengths.append(ticks)
    assert set(lengths) <= set(range(10, 20))
    assert len(set(lengths)) > 5


def test_single_voter_campaigns_at_its_first_tick() -> None:
    """There is nobody to wait for, nobody to ask, and no network needed."""
    server = make_server(voters=(1,))
    assert server.tick() == []
    assert (server.core.role, server.core.term, server.core.log.commit_index) == ("leader", 2, 2)


def test_server_that_is_no_voter_never_campaigns() -> None:
    """Not by its clock, not when told to, not when the leader says so."""
    server = make_server(voters=(2, 3))
    server.tick(40)
    server.do(lambda core: core.campaign())
    server.receive(2, TimeoutNow())
    assert server.core.role == "follower"


# --------------------------------------------------------------------------------- other messages


def test_follower_passes_proposals_on_in_one_message() -> None:
    """All proposals of a turn travel together, and split only when they are too many."""
    server = make_server(max_append_bytes=60)
    server.receive(2, Heartbeat(1, 0))
    for data in (b"a", b"b", b"c" * 90, b"d"):
        server.core.propose(data)
    assert [it.message for it in server.run()] == [
        Propose([(NORMAL, b"a"), (NORMAL, b"b")]),
        Propose([(NORMAL, b"c" * 90)]),
        Propose([(NORMAL, b"d")]),
    ]


def test_proposals_of_a_turn_that_loses_the_leader_come_back() -> None:
    """They have not left, so that they are in no log."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    server.core.propose(b"a")
    server.core.step(Envelope(3, 1, 5, VoteResponse(False)))
    server.run()
    assert server.rejected == [Rejected(NORMAL, b"a", "no leader")]


def test_proposals_of_a_turn_that_asks_for_an_election_come_back() -> None:
    """A pre-candidate has no leader, though the term is the same."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    server.core.propose(b"a")
    server.do(lambda core: core.campaign())
    assert server.rejected == [Rejected(NORMAL, b"a", "no leader")]


def test_proposals_of_a_turn_that_enters_another_term_come_back() -> None:
    """A proposal is of the term in which it was made, or of none, even if we lead the next."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    server.core.propose(b"a")
    core = server.core
    core.step(Envelope(2, 1, 1, TimeoutNow()))
    core.step(Envelope(2, 1, 2, VoteResponse(True)))
    core.step(Envelope(3, 1, 2, VoteResponse(True)))
    server.forget()
    server.run()
    assert core.log.slice(3, 99) == []
    assert server.rejected == [Rejected(NORMAL, b"a", "no leader")]


@pytest.mark.parametrize(("server_id", "ticks"), [(1, 1), (3, 3)])
def test_follower_told_of_a_lost_leader_campaigns_in_its_turn(server_id: int, ticks: int) -> None:
    """The first in line asks at the next tick, the second when the first could have won."""
    server = make_server(server_id=server_id)
    server.receive(2, Heartbeat(1, 0))
    server.core.report_leader_lost()
    for _ in range(ticks):
        assert server.core.role == "follower"
        server.core.tick()
    assert server.core.role == "pre_candidate"


def test_follower_told_of_a_lost_leader_that_lives_goes_on_following() -> None:
    """A connection that breaks and comes back costs no term."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    server.core.report_leader_lost()
    server.receive(2, Heartbeat(1, 0))
    for _ in range(9):
        server.core.tick()
    assert server.core.role == "follower"
    assert server.core.term == 1


def test_follower_gives_proposals_of_others_back() -> None:
    """It is not the leader that the sender takes it for."""
    server = make_server()
    proposals = [(NORMAL, b"a")]
    assert server.receive(3, Propose(proposals)) == [
        Envelope(1, 3, 1, ProposeReject("not the leader", proposals))
    ]


def test_follower_passes_reads_on_and_takes_the_answer() -> None:
    """A read index comes from the leader (thesis 6.4)."""
    server = make_server()
    server.receive(2, Heartbeat(1, 0))
    assert server.do(lambda core: core.read_index(5)) == [Envelope(1, 2, 1, ReadIndex(5))]
    server.receive(2, ReadIndexResponse(5, 9))
    assert server.reads == [ReadState(5, 9)]


@pytest.mark.parametrize(
    "message",
    [
        ReadIndex(1),
        AppendResponse(1),
        AppendReject(1, 0, 0),
        HeartbeatResponse(0),
        PreVoteResponse(True),
        PreVoteResponse(False),
        VoteResponse(True),
    ],
)
def test_messages_that_only_leaders_and_candidates_expect_change_nothing(message: Message) -> None:
    """Late answers are ignored."""
    server = make_server()
    before = server.core.status()
    assert server.receive(2, message) == []
    assert server.core.status() == before


def test_requests_for_votes_never_reach_a_role() -> None:
    """They are core's; a role that is given one is used wrongly."""
    server = make_server()
    with pytest.raises(AssertionError, match="core handles"):
        server.core._role.step(Envelope(2, 1, 1, Vote(1, 1, False)))
