"""The core's door: settings, recovery, terms, and the order of ready, written and applied."""

import logging
import random
from collections.abc import Callable

import pytest

from raft.confchange import ADD_VOTER, Change, ConfigChange, encode_change
from raft.core import Core
from raft.entry import CONFIG, NORMAL, Configuration, Entry, HardState, SnapshotMeta
from raft.errors import NotLeader, ProposalDropped, RaftError
from raft.interfaces import Recovered, Rejected, Write
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
from raft.state import CoreConfig
from tests.raft.server import make_leader, make_server

_LOG = logging.Logger("test", logging.CRITICAL)
_META = SnapshotMeta(5, 2, Configuration(voters=(1, 2, 3)))


def _start(recovered: Recovered) -> Core:
    return Core(CoreConfig(1, 10, 1), recovered, random.Random(1), _LOG)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"server_id": 0}, "server_id must be at least 1"),
        ({"heartbeat_ticks": 0}, "heartbeat_ticks must be at least 1"),
        ({"election_ticks": 1}, "election_ticks 1 must exceed"),
        ({"max_append_bytes": 0}, "max_append_bytes must be at least 1"),
        ({"max_inflight_messages": 0}, "max_inflight_messages must be at least 1"),
        ({"max_inflight_bytes": 5}, "max_inflight_bytes 5 is below"),
        ({"max_uncommitted_bytes": 5}, "max_uncommitted_bytes 5 is below"),
        ({"max_apply_bytes": 5}, "max_apply_bytes 5 is below"),
    ],
)
def test_config_with_nonsense_is_refused(settings: dict[str, int], problem: str) -> None:
    """Each setting that makes no sense is named."""
    with pytest.raises(ValueError, match=problem):
        CoreConfig(**{"server_id": 1, "election_ticks": 10, "heartbeat_ticks": 1, **settings})


# ------------------------------------------------------------------------------------ recovery


def test_core_of_new_server_knows_nothing_and_wants_nothing() -> None:
    """A server without a disk's worth of history waits to be told."""
    core = _start(Recovered())
    assert (core.term, core.vote, core.leader, core.role) == (0, 0, 0, "follower")
    assert (core.log.last_index, core.snapshot_index) == (0, 0)
    assert not core.has_ready()
    assert core.status().followers == {}


def test_core_recovers_term_vote_and_log() -> None:
    """Nothing durable is forgotten at a restart, and what is committed is applied again."""
    entries = [Entry(6, 2, NORMAL, b"a"), Entry(7, 3, NORMAL, b"b")]
    core = _start(Recovered(b"", HardState(4, 3, 6), _META, entries))
    assert (core.term, core.vote, core.snapshot_index) == (4, 3, 5)
    assert (core.applied_index, core.log.commit_index, core.log.last_index) == (5, 6, 7)
    assert core.configuration == _META.configuration
    assert core.ready().committed == entries[:1]


def test_core_with_snapshot_newer_than_hard_state_takes_its_term_and_index() -> None:
    """A snapshot may be durable before the hard state that goes with it."""
    core = _start(Recovered(b"", HardState(1, 3, 1), _META, []))
    assert (core.term, core.vote) == (2, 0)
    assert (core.log.commit_index, core.log.last_index, core.applied_index) == (5, 5, 5)


def test_core_with_committed_entries_missing_is_refused() -> None:
    """A log that lost committed entries must not vote: it could elect a leader without them."""
    with pytest.raises(RaftError, match=r"entries up to 7 are committed, but .* ends at 5@2"):
        _start(Recovered(b"", HardState(4, 3, 7), _META, []))


def test_core_recovering_two_config_entries_knows_that_the_first_is_committed() -> None:
    """The second was proposed when the first was applied; a torn hard state may not say so."""
    change = encode_change(ConfigChange((Change(ADD_VOTER, 4),)))
    entries = [Entry(6, 2, CONFIG, change), Entry(7, 2, NORMAL, b""), Entry(8, 2, CONFIG, change)]
    core = _start(Recovered(b"", HardState(2, 0, 5), _META, entries))
    assert core.log.commit_index == 6
    core.campaign()
    assert core.role == "follower"


# --------------------------------------------------------------------------------------- terms


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (Append(1, 1, 1, []), AppendResponse(0)),
        (Heartbeat(1, 0), AppendResponse(0)),
        (InstallSnapshot(_META), AppendResponse(0)),
        (PreVote(9, 9), PreVoteResponse(False, 1, 1)),
        (Vote(9, 9, False), VoteResponse(False, 1, 1)),
        (Propose([(NORMAL, b"a")]), ProposeReject("not the leader", [(NORMAL, b"a")])),
        (PreVoteResponse(True), None),
        (VoteResponse(True), None),
        (TimeoutNow(), None),
        (AppendResponse(9), None),
        (AppendReject(9, 9, 9), None),
        (HeartbeatResponse(9), None),
        (ProposeReject("why", []), None),
        (ReadIndex(9), None),
        (ReadIndexResponse(9, 9), None),
    ],
)
def test_message_of_lower_term_is_answered_with_the_term_or_nothing(
    message: Message, answer: Message | None
) -> None:
    """Whoever is behind learns the term (thesis 3.3), and nothing else happens."""
    server = make_server(hard_state=HardState(5, 0, 1))
    expected = [] if answer is None else [Envelope(1, 2, 5, answer)]
    assert server.receive(2, message, term=4) == expected
    assert (server.core.term, server.core.leader, server.core.log.last_index) == (5, 0, 1)


@pytest.mark.parametrize(
    ("message", "leader"),
    [
        (Append(1, 1, 1, []), 2),
        (Heartbeat(1, 0), 2),
        (InstallSnapshot(_META), 2),
        (Vote(9, 9, False), 0),
        (VoteResponse(False), 0),
        (PreVoteResponse(False), 0),
        (AppendResponse(0), 0),
        (AppendReject(1, 0, 0), 0),
        (HeartbeatResponse(0), 0),
        (Propose([]), 0),
        (ProposeReject("why", []), 0),
        (ReadIndex(1), 0),
        (ReadIndexResponse(1, 1), 0),
    ],
)
def test_message_of_higher_term_makes_a_follower(message: Message, leader: int) -> None:
    """Also a reply of a later term ends a candidacy (thesis 3.3)."""
    server = make_server()
    server.do(lambda core: core.campaign())
    server.receive(2, message, term=7)
    assert (server.core.term, server.core.role, server.core.leader) == (7, "follower", leader)


def test_leader_that_sees_a_higher_term_steps_down() -> None:
    """No leader outlives its term."""
    leader = make_leader()
    leader.receive(2, HeartbeatResponse(0), term=9)
    assert (leader.core.role, leader.core.term, leader.core.leader) == ("follower", 9, 0)


@pytest.mark.parametrize("message", [PreVote(9, 9), PreVoteResponse(True)])
def test_pre_vote_of_higher_term_raises_no_term(message: Message) -> None:
    """Asking about a term does not enter it (thesis 9.6)."""
    server = make_server()
    server.receive(2, message, term=7)
    assert server.core.term == 1


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(2, 3, 9, Heartbeat(1, 0)),
        Envelope(1, 1, 9, Heartbeat(1, 0)),
        Envelope(1, 1, 1, Vote(9, 9, False)),
    ],
)
def test_message_for_another_server_or_in_our_own_name_is_dropped(envelope: Envelope) -> None:
    """A misdirected or forged message is the network's nonsense."""
    server = make_server()
    assert server.step(envelope) == []
    assert (server.core.term, server.core.vote) == (1, 0)


@pytest.mark.parametrize("term", [1, 2, 3])
def test_propose_reject_of_any_term_gives_proposals_back(term: int) -> None:
    """What was refused is in no log of the sender, whatever happened to terms since."""
    server = make_server(hard_state=HardState(2, 0, 1))
    server.receive(2, ProposeReject("why", [(NORMAL, b"a"), (NORMAL, b"b")]), term=term)
    assert server.rejected == [Rejected(NORMAL, b"a", "why"), Rejected(NORMAL, b"b", "why")]


# --------------------------------------------------------------------------- writes and applying


def test_only_one_write_is_in_flight_and_promises_wait_for_the_next() -> None:
    """While a write is under way, what it does not cover is promised by the one after it."""
    server = make_server()
    server.holds_writes = True
    entries = [Entry(2, 1, NORMAL, b"a"), Entry(3, 1, NORMAL, b"b")]
    assert server.receive(2, Append(1, 1, 1, entries[:1])) == []
    assert server.writing is not None
    assert server.writing.entries == entries[:1]
    assert server.receive(2, Append(2, 1, 1, entries[1:])) == []
    assert server.finish_write() == [Envelope(1, 2, 1, AppendResponse(2))]
    assert server.writing is not None
    assert server.writing.entries == entries[1:]
    assert server.finish_write() == [Envelope(1, 2, 1, AppendResponse(3))]
    assert server.writing is None


def test_promise_that_needs_no_write_waits_for_the_one_in_flight() -> None:
    """An acknowledgement may vouch for entries that are still being written."""
    server = make_server()
    server.holds_writes = True
    append = Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")])
    server.receive(2, append)
    assert server.receive(2, append) == []
    assert server.finish_write() == [Envelope(1, 2, 1, AppendResponse(2))] * 2


def test_promise_with_everything_on_disk_leaves_at_once() -> None:
    """An empty Append is answered without touching the disk, also when it commits something."""
    server = make_server()
    server.receive(2, Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")]))
    server.holds_writes = True
    assert server.receive(2, Append(2, 1, 2, [])) == [Envelope(1, 2, 1, AppendResponse(2))]
    assert server.writing is None
    assert server.disk.hard_state.commit == 1
    server.receive(2, Append(2, 1, 2, [Entry(3, 1, NORMAL, b"b")]))
    assert server.writing is not None
    assert server.writing.hard_state == HardState(1, 0, 2)


def test_acknowledgements_that_wait_together_become_one() -> None:
    """Of several promises to one leader only the highest is sent."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")]))
    server.receive(2, Append(2, 1, 1, [Entry(3, 1, NORMAL, b"b")]))
    server.receive(2, Append(3, 1, 1, [Entry(4, 1, NORMAL, b"c")]))
    server.receive(2, Append(1, 1, 1, []))
    server.finish_write()
    assert server.finish_write() == [Envelope(1, 2, 1, AppendResponse(4))]


def test_vote_and_acknowledgement_wait_side_by_side() -> None:
    """Only acknowledgements make earlier ones needless."""
    server = make_server()
    server.holds_writes = True
    server.receive(3, Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")]))
    server.receive(2, Vote(9, 4, True), term=5)
    server.receive(2, Append(1, 1, 1, []))
    assert server.finish_write() == [Envelope(1, 3, 1, AppendResponse(2))]
    granted, acknowledged = [it.message for it in server.finish_write()]
    assert (granted, acknowledged) == (VoteResponse(True, 1, 1), AppendResponse(1))


def test_promises_of_an_earlier_term_are_not_made() -> None:
    """An acknowledgement must not leave after a later leader has replaced the entries."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")]))
    server.receive(2, Append(2, 1, 1, [Entry(3, 1, NORMAL, b"b")]))
    server.receive(3, Append(1, 1, 1, [Entry(2, 4, NORMAL, b"x")]), term=4)
    server.finish_write()
    assert server.finish_write() == [Envelope(1, 3, 4, AppendResponse(2))]
    assert server.disk.entries[1:] == [Entry(2, 4, NORMAL, b"x")]
    assert server.disk.hard_state == HardState(4, 0, 1)


def test_commit_of_a_configuration_is_written_at_once() -> None:
    """A server must not forget who its voters are: the old ones may be gone for good."""
    server = make_server()
    change = encode_change(ConfigChange((Change(ADD_VOTER, 4),)))
    server.receive(2, Append(1, 1, 1, [Entry(2, 1, CONFIG, change)]))
    server.receive(2, Append(2, 1, 2, []))
    assert server.core.configuration.voters == (1, 2, 3, 4)
    assert server.disk.hard_state == HardState(1, 0, 2)


def test_entries_apply_only_when_durable_and_once() -> None:
    """A committed entry waits for the disk, and `ready` gives it out a single time."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, Append(1, 1, 2, [Entry(2, 1, NORMAL, b"a")]))
    assert server.core.log.commit_index == 2
    assert [entry.index for entry in server.applied] == [1]
    write = server.writing
    assert write is not None
    server.disk.write(write, lambda _: ())
    server.core.written(write)
    assert server.core.ready().committed == [Entry(2, 1, NORMAL, b"a")]
    assert not server.core.has_ready()
    server.core.step(Envelope(2, 1, 1, Append(2, 1, 2, [])))
    assert server.core.ready().committed == []
    server.core.applied(2)
    assert not server.core.has_ready()
    assert server.core.applied_index == 2


def test_entries_apply_in_slices_of_bounded_size() -> None:
    """One turn applies about max_apply_bytes."""
    entries = [Entry(index, 1, NORMAL, b"x" * 10) for index in range(2, 6)]
    recovered = Recovered(b"", HardState(1, 0, 5), None, [Entry(1, 1, NORMAL, b""), *entries])
    core = Core(
        CoreConfig(1, 10, 1, max_append_bytes=70, max_apply_bytes=70),
        *(recovered, random.Random(1), _LOG),
    )
    slices = []
    while core.has_ready():
        committed = core.ready().committed
        core.applied(committed[-1].index)
        slices.append([entry.index for entry in committed])
    assert slices == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("misuse", "problem"),
    [
        (lambda core: core.applied(2), "2 beyond 1"),
        (lambda core: core.written(Write(HardState(1, 0, 1), [], None, [])), "not the write"),
        (lambda core: core.apply_config(Entry(2, 1, CONFIG, b""), None), "was not given out"),
        (lambda core: core.apply_config(Entry(1, 1, CONFIG, b""), None), "is applied already"),
        (lambda core: core.apply_config(Entry(1, 1, NORMAL, b""), None), "no configuration change"),
        (lambda core: core.compact(1), "1 beyond None"),
        (lambda core: core.snapshot_saved(SnapshotMeta(2, 1, Configuration((1,)))), "beyond 1"),
    ],
)
def test_driver_that_breaks_the_order_is_stopped(
    misuse: Callable[[Core], object], problem: str
) -> None:
    """Our own driver's mistakes are assertions."""
    with pytest.raises(AssertionError, match=problem):
        misuse(make_server().core)


def test_snapshot_saved_twice_is_stopped() -> None:
    """The newest snapshot only gets newer."""
    server = make_server()
    meta = server.save_snapshot()
    with pytest.raises(AssertionError, match="is older than"):
        server.core.snapshot_saved(meta)


# --------------------------------------------------------------------------------------- users


def test_follower_is_no_leader_for_reports_and_transfers() -> None:
    """Reports that come late find no leader and do nothing; a transfer is an error."""
    server = make_server()
    server.core.report_unreachable(2)
    server.core.report_reachable(2)
    server.core.report_snapshot(2, delivered=True)
    server.core.report_leader_lost()
    with pytest.raises(NotLeader, match="no leader"):
        server.core.transfer_leadership(2)
    server.receive(2, Heartbeat(1, 0))
    with pytest.raises(NotLeader) as caught:
        server.core.transfer_leadership(2)
    assert caught.value.leader == 2
    assert not server.core.has_ready()


def test_leader_told_to_campaign_goes_on_leading() -> None:
    """There is nothing that it could win."""
    leader = make_leader()
    leader.do(lambda core: core.campaign())
    assert (leader.core.role, leader.core.term) == ("leader", 2)


def test_status_of_leader_shows_followers() -> None:
    """Everything that an operator asks about is in one value."""
    status = make_leader().core.status()
    assert (status.role, status.term, status.vote, status.leader) == ("leader", 2, 1, 1)
    assert (status.last_index, status.commit_index, status.applied_index) == (2, 1, 1)
    assert (sorted(status.followers), status.transferee) == ([2, 3], 0)
    assert status.followers[2].next_index == 2


def test_core_with_same_seed_and_inputs_does_the_same() -> None:
    """No clock, no hidden randomness."""
    runs = []
    for _ in range(2):
        server = make_server()
        runs.append([server.tick(), server.tick(30), server.receive(2, Vote(1, 1, True), term=9)])
    assert runs[0] == runs[1]


def test_log_lines_are_those_that_operators_look_for() -> None:
    """Role and leader changes are logged in etcd's words."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.Logger("lines", logging.INFO)
    logger.addHandler(Collector())
    core = Core(CoreConfig(0xA, 10, 1), Recovered(snapshot=_META), random.Random(1), logger)
    core.step(Envelope(0xB, 0xA, 3, Heartbeat(1, 0)))
    core.step(Envelope(0xC, 0xA, 4, Heartbeat(1, 0)))
    core.step(Envelope(0xC, 0xA, 5, HeartbeatResponse(0)))
    assert lines[0] == (
        "newRaft a [peers: [1,2,3], term: 2, commit: 5, applied: 5, lastindex: 5, lastterm: 2]"
    )
    assert lines[2:4] == [
        "a became follower at term 3",
        "raft.node: a elected leader b at term 3",
    ]
    assert "raft.node: a changed leader from b to c at term 4" in lines
    assert lines[-1] == "raft.node: a lost leader c at term 5"


def test_proposals_without_leader_are_dropped() -> None:
    """Whoever proposes is told at once that nothing happened."""
    core = make_server().core
    with pytest.raises(ProposalDropped, match="no leader"):
        core.propose(b"a")
    with pytest.raises(ProposalDropped, match="no leader"):
        core.propose_config(ConfigChange(()))
    with pytest.raises(ProposalDropped, match="no leader"):
        core.read_index(1)
