"""The leader: what it appends, sends and commits."""

import pytest

from raft.entry import CONFIG, NOOP, NORMAL, Configuration, Entry, SnapshotMeta
from raft.errors import ProposalDropped
from raft.log import ENTRY_OVERHEAD
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
    ReadIndexResponse,
    TimeoutNow,
    Vote,
    VoteResponse,
)
from tests.raft.server import Server, make_leader


def _followed(**options: int) -> Server:
    """Return a leader whose no-op everybody has."""
    leader = make_leader(**options)
    for server_id in leader.core.configuration.servers:
        if server_id != leader.id:
            leader.receive(server_id, AppendResponse(2))
    assert leader.core.log.commit_index == 2
    return leader


def _propose(leader: Server, *data: bytes) -> list[Envelope]:
    for it in data:
        leader.core.propose(it)
    return leader.run()


# ---------------------------------------------------------------------------- appending, sending


def test_new_leader_appends_a_no_op_and_sends_it() -> None:
    """Without it, entries of earlier terms would wait for the next proposal (thesis 3.6.2)."""
    leader = make_leader(terms=(1, 1))
    assert leader.core.log.slice(3, 99) == [Entry(3, 2, NOOP, b"")]
    assert leader.core.log.commit_index == 1
    leader.receive(2, AppendResponse(3))
    assert leader.core.log.commit_index == 3


def test_proposals_of_a_turn_are_one_message_shared_by_all() -> None:
    """One batch, encoded once for all followers that are equally far."""
    leader = _followed()
    sent = _propose(leader, b"a", b"b")
    assert [envelope.recipient for envelope in sent] == [2, 3]
    entries = [Entry(3, 2, NORMAL, b"a"), Entry(4, 2, NORMAL, b"b")]
    assert sent[0].message == Append(2, 2, 2, entries)
    assert sent[0].message is sent[1].message


def test_append_leaves_before_our_own_write_is_done() -> None:
    """Followers write while we do (thesis 10.2.1)."""
    leader = _followed()
    leader.holds_writes = True
    assert len(_propose(leader, b"a")) == 2
    assert leader.writing is not None


def test_leader_counts_itself_only_when_its_own_write_is_done() -> None:
    """Two of three is no majority while the leader's own disk does not have the entry."""
    leader = _followed()
    leader.holds_writes = True
    _propose(leader, b"a")
    leader.receive(2, AppendResponse(3))
    assert leader.core.log.commit_index == 2
    leader.finish_write()
    assert leader.core.log.commit_index == 3


def test_commit_without_the_leaders_own_disk_needs_all_others() -> None:
    """The followers alone may be a majority; then it applies when it is durable here."""
    leader = _followed()
    leader.holds_writes = True
    _propose(leader, b"a")
    leader.receive(2, AppendResponse(3))
    leader.receive(3, AppendResponse(3))
    assert (leader.core.log.commit_index, leader.core.applied_index) == (3, 2)
    leader.finish_write()
    assert leader.core.applied_index == 3


def test_idle_followers_are_told_the_commit_index_at_once() -> None:
    """A follower's own proposals complete there, without waiting for a heartbeat."""
    leader = _followed()
    _propose(leader, b"a")
    assert leader.receive(2, AppendResponse(3)) == [Envelope(1, 2, 2, CommitTo(3))]
    # The other one is told when it has acknowledged the entry.
    assert leader.receive(3, AppendResponse(3)) == [Envelope(1, 3, 2, CommitTo(3))]
    assert leader.receive(3, AppendResponse(3)) == []


def test_large_batches_are_cut_and_limited_in_flight() -> None:
    """max_append_bytes cuts messages, max_inflight_messages stops them."""
    leader = _followed(max_append_bytes=60, max_inflight_messages=2)
    sent = _propose(leader, *(b"abc" for _ in range(6)))
    to_two = [it.message for it in sent if it.recipient == 2]
    assert [(it.prev_index, len(it.entries)) for it in to_two if isinstance(it, Append)] == [
        (2, 2),
        (4, 2),
    ]
    sent = leader.receive(2, AppendResponse(4))
    assert [(it.recipient, type(it.message)) for it in sent] == [(2, Append)]


def test_heartbeat_names_no_more_than_the_follower_holds() -> None:
    """A follower must not commit what may differ in its log."""
    leader = make_leader()
    leader.receive(2, AppendResponse(2))
    assert leader.tick() == [
        Envelope(1, 2, 2, Heartbeat(2, 0)),
        Envelope(1, 3, 2, Heartbeat(0, 0)),
    ]


def test_heartbeats_leave_every_heartbeat_ticks() -> None:
    """And not more often."""
    leader = _followed(heartbeat_ticks=3)
    assert [len(leader.tick()) for _ in range(6)] == [0, 0, 2, 0, 0, 2]


def test_rejected_append_is_sent_again_from_the_hint() -> None:
    """The follower's hint and our own log together skip what cannot match (thesis 3.5)."""
    leader = make_leader(terms=(1, 1, 1, 1, 1))
    sent = leader.receive(2, AppendReject(5, 2, 1))
    assert [it.message for it in sent] == [
        Append(2, 1, 1, leader.core.log.slice(3, 1 << 20)),
    ]
    assert leader.receive(2, AppendReject(5, 2, 1)) == []


def test_answers_of_strangers_are_ignored() -> None:
    """A server that was removed may still be answering."""
    leader = _followed()
    before = leader.core.status()
    for message in (AppendResponse(2), AppendReject(2, 0, 0), HeartbeatResponse(0)):
        assert leader.receive(9, message) == []
    leader.core.report_unreachable(9)
    assert leader.do(lambda core: core.report_reachable(9)) == []
    leader.core.report_snapshot(9, delivered=True)
    assert leader.core.status() == before


def test_acknowledgement_beyond_the_log_is_ignored() -> None:
    """Nobody can hold what the leader does not have."""
    leader = _followed()
    assert leader.receive(2, AppendResponse(9)) == []
    assert leader.core.status().followers[2].match_index == 2


def test_match_index_never_goes_back() -> None:
    """A late acknowledgement says less than is known."""
    leader = _followed()
    _propose(leader, b"a")
    leader.receive(2, AppendResponse(3))
    leader.receive(2, AppendResponse(2))
    assert leader.core.status().followers[2].match_index == 3
    assert leader.core.log.commit_index == 3


def test_unreachable_follower_is_probed() -> None:
    """One message at a time until it answers; the second report changes nothing."""
    leader = _followed()
    _propose(leader, b"a")
    sent = leader.do(lambda core: core.report_unreachable(2))
    assert sent == [Envelope(1, 2, 2, Append(2, 2, 2, [Entry(3, 2, NORMAL, b"a")]))]
    assert leader.do(lambda core: core.report_unreachable(2)) == []
    assert [it.recipient for it in _propose(leader, b"b")] == [3]


def test_reachable_follower_hears_at_once_who_leads() -> None:
    """Not only with the next heartbeat; its answer brings what was lost before."""
    leader = _followed()
    _propose(leader, b"a")
    leader.do(lambda core: core.report_unreachable(2))
    _propose(leader, b"b")
    assert leader.do(lambda core: core.report_reachable(2)) == [Envelope(1, 2, 2, Heartbeat(2, 0))]
    (sent,) = leader.receive(2, HeartbeatResponse(0))
    assert (sent.recipient, isinstance(sent.message, Append)) == (2, True)


def test_heartbeat_for_a_reachable_follower_begins_no_round_of_reads() -> None:
    """It carries the round that the others have had, so that it counts among their answers."""
    leader = _followed()
    asked = leader.do(lambda core: core.read_index(7))
    assert [it.message for it in asked] == [Heartbeat(2, 1), Heartbeat(2, 1)]
    (sent,) = leader.do(lambda core: core.report_reachable(2))
    assert sent.message == Heartbeat(2, 1)


# ------------------------------------------------------------------------------------ committing


def test_3_6_2_leader_never_commits_old_term_by_counting() -> None:
    """Entries of earlier terms commit only together with one of its own (thesis figure 3.7)."""
    leader = make_leader(terms=(1, 1, 1))
    leader.receive(2, AppendResponse(3))
    leader.receive(3, AppendResponse(3))
    assert leader.core.log.commit_index == 1
    leader.receive(2, AppendResponse(4))
    assert leader.core.log.commit_index == 4


@pytest.mark.parametrize(("voters", "needed"), [((1, 2), 1), ((1, 2, 3, 4), 2)])
def test_even_clusters_commit_with_more_than_half(voters: tuple[int, ...], needed: int) -> None:
    """Half of the servers is not a majority."""
    leader = make_leader(voters=voters)
    for follower in voters[1:needed]:
        leader.receive(follower, AppendResponse(2))
    assert leader.core.log.commit_index == 1
    leader.receive(voters[needed], AppendResponse(2))
    assert leader.core.log.commit_index == 2


def test_leader_without_answers_steps_down() -> None:
    """It cannot commit anything, and must not keep clients waiting (thesis 6.2)."""
    leader = _followed()
    leader.tick(10)
    assert leader.core.role == "leader"
    leader.tick(10)
    assert (leader.core.role, leader.core.term, leader.core.leader) == ("follower", 2, 0)


@pytest.mark.parametrize(
    "message", [AppendResponse(2), AppendReject(2, 1, 1), HeartbeatResponse(0)]
)
def test_leader_that_one_of_two_answers_stays(message: Message) -> None:
    """Any answer is a sign of life; with the leader itself it makes a quorum of three."""
    leader = _followed()
    for _ in range(5):
        leader.receive(2, message)
        leader.tick(10)
    assert leader.core.role == "leader"


def test_leader_without_check_quorum_stays_alone() -> None:
    """As configured."""
    leader = _followed(check_quorum=False)
    leader.tick(50)
    assert leader.core.role == "leader"


# ------------------------------------------------------------------------------------- proposals


def test_uncommitted_log_does_not_grow_without_bound() -> None:
    """Without a quorum, proposals are dropped instead of collected; one alone is always taken."""
    leader = _followed(max_append_bytes=100, max_uncommitted_bytes=100)
    _propose(leader, b"x" * 500)
    with pytest.raises(ProposalDropped, match="not committed yet"):
        leader.core.propose(b"a")
    leader.receive(2, AppendResponse(3))
    _propose(leader, b"a", b"b", b"c")
    with pytest.raises(ProposalDropped, match="not committed yet"):
        leader.core.propose(b"x" * 30)


def test_uncommitted_log_may_be_filled_to_the_last_byte() -> None:
    """The bound is the most that may wait, and not the first that may not."""
    leader = _followed(max_append_bytes=100, max_uncommitted_bytes=100)
    leader.receive(2, AppendResponse(2))
    size = 100 // 2 - ENTRY_OVERHEAD
    _propose(leader, b"x" * size, b"x" * size)
    with pytest.raises(ProposalDropped, match="not committed yet"):
        leader.core.propose(b"")


def test_proposals_of_followers_are_appended_and_the_rest_comes_back() -> None:
    """What cannot be taken is returned with its reason, and only that."""
    leader = _followed(max_append_bytes=100, max_uncommitted_bytes=100)
    big = b"x" * 90
    proposals = [(NORMAL, b"a"), (NOOP, b""), (CONFIG, b"?"), (NORMAL, big), (NORMAL, b"b")]
    sent = leader.receive(3, Propose(proposals))
    rejects = [it.message for it in sent if it.recipient == 3 and type(it.message) is ProposeReject]
    assert rejects == [
        ProposeReject("0 is no kind of proposal", [(NOOP, b"")]),
        ProposeReject("not a configuration change", [(CONFIG, b"?")]),
        ProposeReject("too many proposals are not committed yet", [(NORMAL, big)]),
    ]
    assert [entry.data for entry in leader.core.log.slice(3, 999)] == [b"a", b"b"]


@pytest.mark.parametrize(
    "message",
    [
        Append(2, 2, 9, [Entry(3, 2, NORMAL, b"x")]),
        Heartbeat(2, 0),
        InstallSnapshot(SnapshotMeta(9, 2, Configuration((1, 2, 3)))),
        VoteResponse(False),
        PreVoteResponse(True),
        PreVoteResponse(False),
        TimeoutNow(),
        ReadIndexResponse(1, 1),
    ],
)
def test_messages_that_a_leader_does_not_expect_change_nothing(message: Message) -> None:
    """Nobody else leads its term, and its election is over."""
    leader = _followed()
    before = leader.core.status()
    assert leader.receive(2, message) == []
    assert leader.core.status() == before
    assert leader.reads == []


def test_requests_for_votes_never_reach_a_leader() -> None:
    """They are core's; a role that is given one is used wrongly."""
    with pytest.raises(AssertionError, match="core handles"):
        make_leader().core._role.step(Envelope(2, 1, 2, Vote(1, 1, False)))
