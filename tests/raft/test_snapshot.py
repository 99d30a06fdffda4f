"""Snapshots: for followers far behind, restored once and never backwards (thesis chapter 5)."""

import pytest

from raft.entry import NORMAL, Configuration, Entry, SnapshotMeta
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    Envelope,
    HeartbeatResponse,
    InstallSnapshot,
    PreVote,
    PreVoteResponse,
    TimeoutNow,
)
from tests.raft.server import Server, make_leader, make_server

_META = SnapshotMeta(5, 2, Configuration((1, 2, 3, 4)))


def _compacted_leader() -> Server:
    """Return a leader whose log begins after entry 4, which follower 3 does not have."""
    leader = make_leader()
    leader.do(lambda core: core.propose(b"a"))
    leader.do(lambda core: core.propose(b"b"))
    leader.receive(2, AppendResponse(4))
    assert leader.core.applied_index == 4
    leader.save_snapshot()
    leader.compact(4)
    return leader


# ---------------------------------------------------------------------------------- the follower


def test_follower_restores_a_snapshot_and_acknowledges_when_it_is_on_disk() -> None:
    """Log, configuration and state machine begin anew at its end."""
    server = make_server(terms=(1, 1, 1))
    server.holds_writes = True
    assert server.receive(2, InstallSnapshot(_META), term=2) == []
    assert (server.core.restoring, server.restored, server.core.applied_index) == (True, [], 1)
    assert server.finish_write() == [Envelope(1, 2, 2, AppendResponse(5))]
    assert (server.core.restoring, server.restored, server.core.applied_index) == (
        False,
        [_META],
        5,
    )
    assert server.core.configuration == _META.configuration
    assert (server.core.log.base, server.core.log.last_index) == (_META.id, 5)
    assert server.core.snapshot_index == 5


def test_snapshot_replaces_entries_that_conflict_with_it() -> None:
    """No stale entry survives behind it, neither in memory nor on disk."""
    server = make_server(terms=(1, 1, 1, 1, 1, 1, 1))
    server.receive(2, InstallSnapshot(_META), term=2)
    assert server.core.log.last_id == _META.id
    assert server.disk.recovered().entries == []


def test_snapshot_of_what_is_in_the_log_only_commits() -> None:
    """There is nothing to restore, and the entries after it stay."""
    server = make_server(terms=(1, 1, 1, 1, 2, 2))
    sent = server.receive(2, InstallSnapshot(_META), term=2)
    assert sent == [Envelope(1, 2, 2, AppendResponse(5))]
    assert (server.restored, server.core.log.last_index, server.core.applied_index) == ([], 6, 5)
    assert server.core.configuration.voters == (1, 2, 3)


def test_snapshot_behind_the_commit_index_changes_nothing() -> None:
    """It would undo what was applied."""
    server = make_server(terms=(1, 1, 1, 1, 1, 1))
    server.receive(2, Append(6, 1, 6, []))
    sent = server.receive(2, InstallSnapshot(_META), term=2)
    assert sent == [Envelope(1, 2, 2, AppendResponse(6))]
    assert (server.restored, server.core.applied_index) == ([], 6)


def test_snapshot_of_a_later_term_than_its_leader_is_dropped() -> None:
    """Nonsense."""
    server = make_server()
    assert server.receive(2, InstallSnapshot(_META), term=1) == []
    assert (server.restored, server.core.log.last_index) == ([], 1)


def test_second_snapshot_is_ignored_while_the_first_is_being_restored() -> None:
    """One at a time; a repeated one is acknowledged along with the first."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, InstallSnapshot(_META), term=2)
    later = SnapshotMeta(9, 2, _META.configuration)
    assert server.receive(2, InstallSnapshot(later)) == []
    assert server.receive(2, InstallSnapshot(_META)) == []
    sent = server.finish_write()
    assert set(map(str, sent)) == {str(Envelope(1, 2, 2, AppendResponse(5)))}
    assert server.restored == [_META]
    server.receive(2, InstallSnapshot(later))
    server.finish_write()
    assert server.restored == [_META, later]


def test_snapshot_that_comes_during_a_write_waits_for_the_next() -> None:
    """What was being written belongs to the log before it."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")]))
    server.receive(2, InstallSnapshot(_META), term=2)
    server.receive(2, Append(5, 2, 5, [Entry(6, 2, NORMAL, b"b")]), term=2)
    assert server.core.status().applied_index == 1
    server.finish_write()
    assert server.writing is not None
    assert (server.writing.snapshot, len(server.writing.entries)) == (_META, 1)
    server.finish_write()
    assert (server.core.applied_index, server.core.log.stable_index) == (5, 6)


def test_nothing_is_applied_while_a_snapshot_is_being_restored() -> None:
    """Entries after it come after it."""
    server = make_server()
    server.receive(2, Append(1, 1, 1, []))
    core = server.core
    core.step(Envelope(2, 1, 2, InstallSnapshot(_META)))
    core.step(Envelope(2, 1, 2, Append(5, 2, 6, [Entry(6, 2, NORMAL, b"b")])))
    write = core.ready().write
    assert write is not None
    core.written(write)
    ready = core.ready()
    assert (ready.restore, ready.committed) == (_META, [])
    assert core.ready().committed == []
    with pytest.raises(AssertionError, match="applied 6"):
        core.applied(6)
    core.applied(5)
    assert [entry.index for entry in core.ready().committed] == [6]


def test_applied_before_the_snapshot_is_given_out_is_stopped() -> None:
    """The driver restores when it is told to."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, InstallSnapshot(_META), term=2)
    with pytest.raises(AssertionError, match="is not yet"):
        server.core.applied(5)
    assert server.writing is not None
    server.core.written(server.writing)
    with pytest.raises(AssertionError, match="before restoring"):
        server.core.applied(5)


def test_server_that_restores_a_snapshot_does_not_campaign() -> None:
    """What it would lead with is not on its disk."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, InstallSnapshot(_META), term=2)
    server.tick(40)
    server.receive(2, TimeoutNow())
    assert server.core.role == "follower"
    server.finish_write()
    server.tick()
    assert server.core.role == "pre_candidate"


def test_restart_after_a_snapshot_begins_with_it() -> None:
    """The configuration in force is the snapshot's."""
    server = make_server()
    server.receive(2, InstallSnapshot(_META), term=2)
    recovered = server.disk.recovered()
    assert (recovered.snapshot, recovered.entries) == (_META, [])
    again = Server(server.config, server.disk, 1, server.core._state.logger, lambda _: ())
    assert again.core.configuration == _META.configuration
    assert (again.core.applied_index, again.core.snapshot_index) == (5, 5)


# ------------------------------------------------------------------------------------ the leader


def test_follower_behind_the_log_is_sent_the_newest_snapshot() -> None:
    """Then nothing but heartbeats until it answers."""
    leader = _compacted_leader()
    sent = leader.receive(3, AppendReject(1, 0, 0))
    meta = SnapshotMeta(4, 2, Configuration((1, 2, 3)))
    assert sent == [Envelope(1, 3, 2, InstallSnapshot(meta))]
    sent = leader.do(lambda core: core.propose(b"c"))
    assert [it.recipient for it in sent] == [2]
    sent = leader.receive(3, AppendResponse(4))
    assert [(it.recipient, it.message) for it in sent] == [
        (3, Append(4, 2, 4, [Entry(5, 2, NORMAL, b"c")]))
    ]


def test_silent_follower_is_sent_no_snapshot() -> None:
    """It may not be there at all."""
    leader = make_leader()
    leader.receive(3, AppendResponse(2))
    leader.do(lambda core: core.propose(b"a"))
    leader.receive(2, AppendResponse(3))
    leader.tick(10)
    leader.save_snapshot()
    leader.compact(3)
    assert leader.do(lambda core: core.report_unreachable(3)) == []
    assert leader.core.status().followers[3].state.value == "probe"
    sent = leader.receive(3, HeartbeatResponse(0))
    assert [type(it.message) for it in sent] == [InstallSnapshot]


@pytest.mark.parametrize("delivered", [True, False])
def test_lost_snapshot_is_sent_again_when_the_follower_answers(delivered: bool) -> None:
    """Whether it was lost on its way or after it had arrived."""
    leader = _compacted_leader()
    leader.receive(3, AppendReject(1, 0, 0))
    assert leader.do(lambda core: core.report_snapshot(3, delivered=delivered)) == []
    sent = leader.receive(3, HeartbeatResponse(0))
    if delivered:
        assert [it.message for it in sent] == [Append(4, 2, 4, [])]
        sent = leader.receive(3, AppendReject(4, 1, 1))
    assert [type(it.message) for it in sent] == [InstallSnapshot]


def test_new_leader_sends_the_snapshot_that_it_was_sent_itself() -> None:
    """A restored snapshot is the newest durable one."""
    server = make_server()
    server.receive(2, InstallSnapshot(_META), term=2)
    server.do(lambda core: core.campaign())
    assert server.receive(9, PreVote(1, 1), term=9) != []
    for voter in (2, 3):
        server.receive(voter, PreVoteResponse(True), term=3)
    assert server.core.role == "candidate"
