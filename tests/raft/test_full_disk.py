"""A server whose disk is full takes on no entries, and leads only as long as nobody else can."""

import pytest

from raft.confchange import ADD_LEARNER, Change, ConfigChange
from raft.entry import NOOP, NORMAL, Entry
from raft.errors import ProposalDropped
from raft.messages import (
    Append,
    AppendResponse,
    Envelope,
    HeartbeatResponse,
    Propose,
    ProposeReject,
    TimeoutNow,
    Vote,
    VoteResponse,
)
from raft.state import NO_ROOM
from tests.raft.server import Server, make_leader, make_server


def full(server: Server) -> Server:
    server.core.log.is_full = True
    return server


def test_full_follower_takes_no_entries_and_acknowledges_none() -> None:
    """To the leader they are lost on the way; with room again they are taken."""
    server = full(make_server())
    append = Append(1, 1, 1, [Entry(2, 1, NORMAL, b"a")])
    assert server.receive(2, append) == []
    assert server.core.log.last_index == 1
    server.core.log.is_full = False
    assert server.receive(2, append) == [Envelope(1, 2, 1, AppendResponse(2))]


def test_full_follower_takes_what_raft_itself_needs() -> None:
    """An empty Append, the first entry of a leader, and whose vote it gives."""
    server = full(make_server())
    assert server.receive(2, Append(1, 1, 1, [])) == [Envelope(1, 2, 1, AppendResponse(1))]
    noop = Append(1, 1, 1, [Entry(2, 2, NOOP, b"")])
    assert server.receive(3, noop, term=2) == [Envelope(1, 3, 2, AppendResponse(2))]
    server.tick(20)
    sent = server.receive(2, Vote(2, 2, False), term=9)
    assert [it.message for it in sent if isinstance(it.message, VoteResponse)] == [
        VoteResponse(True, 1, 1)
    ]


def test_full_follower_passes_no_proposal_on() -> None:
    """It would be decided, and this server could not tell how."""
    server = make_server()
    server.receive(2, Append(1, 1, 1, []))
    full(server)
    with pytest.raises(ProposalDropped, match=NO_ROOM):
        server.core.propose(b"a")


def test_full_leader_refuses_proposals_of_all_servers() -> None:
    """But not a change of the configuration, by which a server with room may come in."""
    leader = full(make_leader())
    leader.receive(2, AppendResponse(2))
    with pytest.raises(ProposalDropped, match=NO_ROOM):
        leader.core.propose(b"a")
    proposals = [(NORMAL, b"b")]
    assert leader.receive(3, Propose(proposals)) == [
        Envelope(1, 3, 2, ProposeReject(NO_ROOM, proposals))
    ]
    leader.core.propose_config(ConfigChange((Change(ADD_LEARNER, 4),)))
    assert leader.core.log.last_index == 3


def test_full_leader_asks_one_after_the_other_to_take_over() -> None:
    """Those that have the whole log and are there; at each heartbeat, until one is elected."""
    leader = full(make_leader(voters=(1, 2, 3, 4)))
    for follower in (2, 3):
        leader.receive(follower, AppendResponse(2))
    asked = []
    for _ in range(3):
        asked += [it.recipient for it in leader.tick(1) if isinstance(it.message, TimeoutNow)]
        for follower in (2, 3, 4):
            leader.receive(follower, HeartbeatResponse(0))
    assert asked == [2, 3, 2]


def test_full_follower_does_not_take_over() -> None:
    """A leader that is full, too, asks the next."""
    server = full(make_server())
    server.receive(2, Append(1, 1, 1, []))
    assert server.receive(2, TimeoutNow()) == []
    assert server.core.role == "follower"


def test_lone_full_leader_leads_on() -> None:
    """There is nobody to ask, itself least of all."""
    leader = full(make_leader(voters=(1,)))
    assert leader.tick(5) == []
    assert leader.core.role == "leader"
