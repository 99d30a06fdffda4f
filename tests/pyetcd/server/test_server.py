"""Proves how a member starts and stops, and what it does when leaders change."""

import asyncio
import logging

import pytest

from pyetcd.command import Overtaken, Publish, Set, SetVersion
from pyetcd.errors import RaftInternal
from pyetcd.server.pending import SWEEP_SECONDS
from pyetcd.server.server import (
    FIRST_ELECTION_SECONDS,
    FIRST_ELECTION_TURNS,
    LEADER_LOST_SECONDS,
)
from pyetcd.version import CLUSTER_VERSION
from raft import (
    Append,
    AppendResponse,
    Configuration,
    Entry,
    Envelope,
    Leadership,
    NotLeader,
)
from tests.pyetcd.server.fakes import EPOCH, OTHERS, OWN, World, follower, turn
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended node stands in the place of raft's")

SECOND = 1_000_000_000


# ------------------------------------------------------------------------------ what it tells


@virtual
async def test_start_publishes_name_and_urls(caplog: pytest.LogCaptureFixture):
    """Test suites wait for the line, which comes when all know."""
    caplog.set_level(logging.INFO)
    world = World(started=False, advertise_client_urls=("http://a:1", "http://b:1"))
    world.server.start()
    assert world.commands() == [Publish(OWN, "first", ("http://a:1", "http://b:1"))]
    assert "published" not in caplog.text
    world.commit()
    assert "published {Name:first ClientURLs:[http://a:1 http://b:1]} to cluster c1" in caplog.text
    assert world.server.cluster.members[OWN].name == "first"


@virtual
async def test_publishing_is_tried_until_it_succeeds(caplog: pytest.LogCaptureFixture):
    """A start may take longer than a request."""
    world = World(started=False)
    world.lead(0)
    world.server.start()
    await asyncio.sleep(3 * world.config.request_timeout_seconds)
    assert "publish error: etcdserver: request timed out" in caplog.text
    world.lead(OWN)
    assert [type(it) for it in world.commands()] == [Publish]


@virtual
async def test_stop_ends_publishing():
    """The answer to what was never published leads to no other try."""
    world = World(started=False)
    world.server.start()
    await world.stop()
    assert len(world.commands()) == 1


@virtual
async def test_first_leader_sets_the_version():
    """Once: everybody who leads later finds it."""
    world = World()
    world.server.cluster.version = None
    world.lead(OTHERS[0])
    world.begin_term()
    assert world.commands() == []
    world.lead(OWN)
    assert world.commands() == []  # the log may still tell of one
    world.begin_term()
    assert world.commands() == [SetVersion(CLUSTER_VERSION)]
    world.commit()
    world.lead(OWN)
    world.begin_term()
    assert world.commands() == []
    assert world.server.cluster.version == CLUSTER_VERSION


@virtual
async def test_server_knows_leader_term_and_index():
    """What the API shows."""
    world = World()
    server = world.server
    assert (server.leader, server.is_leader, server.term) == (OWN, True, 2)
    world.lead(OTHERS[0])
    assert (server.leader, server.is_leader, server.term) == (OTHERS[0], False, 3)
    world.begin_term()
    assert server.raft_index == world.node.core.log.last_index
    assert server.leader_since == world.loop.time()
    assert server.now() == EPOCH + round(world.loop.time() * 1e9)
    assert server.started_at <= server.now()


# -------------------------------------------------------------------------- leaders come and go


@virtual
async def test_stop_hands_over_to_the_follower_that_has_most():
    """Of those that are there."""
    world = World()
    world.node.core.followers = {
        OTHERS[0]: follower(9),
        OTHERS[1]: follower(7),
        0xD: follower(99, recent_active=False),
    }
    await world.stop()
    assert world.node.transfers == [OTHERS[0]]


@virtual
async def test_stop_of_a_follower_hands_over_nothing():
    """Nor does that of a leader whom nobody follows."""
    world = World()
    world.node.core.followers = {OTHERS[0]: follower(9, recent_active=False)}
    await world.stop()
    other = World()
    other.lead(OTHERS[0])
    await other.stop()
    assert world.node.transfers == other.node.transfers == []


@pytest.mark.parametrize("error", [TimeoutError("too slow"), NotLeader(OTHERS[0])])
@virtual
async def test_stop_goes_on_when_nobody_takes_over(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    """And answers whoever waits."""
    world = World()
    world.node.core.followers = {OTHERS[0]: follower(9)}
    world.node.transfer_error = error
    results = world.propose(Set("/a", "1", False, 0, False))
    await world.stop()
    assert f"could not hand the leadership over: {error}" in caplog.text
    assert len(results) == 1


@virtual
async def test_proposals_go_on_during_the_hand_over():
    """What commits before the end is answered with its result."""
    world = World()
    world.node.core.followers = {OTHERS[0]: follower(9)}
    results = world.propose(Set("/a", "1", False, 0, False))
    stopping = asyncio.ensure_future(world.stop())
    await turn()
    world.commit()
    await stopping
    assert type(results[0]).__name__ == "Event"


@virtual
async def test_first_election_is_held_as_soon_as_a_quorum_is_there():
    """A start need not wait for a timeout."""
    world = World(started=False)
    world.lead(0)
    world.transport.active.clear()
    world.server.start()
    await asyncio.sleep(1)
    assert world.node.campaigns == 0
    world.transport.active[OTHERS[1]] = world.loop.time()
    await asyncio.sleep(FIRST_ELECTION_SECONDS)
    assert world.node.campaigns == 1
    world.lead(OTHERS[1])
    await asyncio.sleep(60)
    assert world.node.campaigns == 1


@virtual
async def test_first_election_waits_for_those_who_could_not_answer():
    """A vote that is granted to somebody who can't be told so is lost."""
    world = World(started=False)
    world.lead(0)
    world.transport.deaf = set(OTHERS)
    world.server.start()
    await asyncio.sleep(1)
    assert world.node.campaigns == 0
    world.transport.deaf.discard(OTHERS[0])
    await asyncio.sleep(FIRST_ELECTION_SECONDS)
    assert world.node.campaigns == 1


@virtual
async def test_first_election_that_came_to_nothing_is_held_again():
    """After all others have had their turn."""
    world = World(started=False)
    world.lead(0)
    world.server.start()
    assert world.node.campaigns == 1
    turns = 3 * FIRST_ELECTION_TURNS
    await asyncio.sleep((turns - 0.5) * FIRST_ELECTION_SECONDS)
    assert world.node.campaigns == 1
    await asyncio.sleep(FIRST_ELECTION_SECONDS)
    assert world.node.campaigns == 2
    world.node.leadership = Leadership(world.node.core.term, 0, "candidate")
    await asyncio.sleep(60)
    assert world.node.campaigns == 2


@virtual
async def test_first_election_of_the_next_in_line_waits():
    """Votes must not split."""
    world = World(started=False)
    world.lead(0)
    world.node.core.configuration = Configuration(voters=(1, 2, OWN))
    world.transport.active = {1: 0.0, 2: 0.0}
    world.server.start()
    turns = 2 * FIRST_ELECTION_TURNS
    await asyncio.sleep((turns - 0.5) * FIRST_ELECTION_SECONDS)
    assert world.node.campaigns == 0
    await asyncio.sleep(FIRST_ELECTION_SECONDS)
    assert world.node.campaigns == 1


@pytest.mark.parametrize("reason", ["led", "no voter", "stopping"])
@virtual
async def test_first_election_is_not_held_without_need(reason: str):
    """Somebody leads, or we may not."""
    world = World(started=False)
    world.lead(0)
    if reason == "no voter":
        world.node.core.configuration = Configuration(voters=OTHERS)
    world.transport.active.clear()
    world.server.start()
    if reason == "led":
        world.lead(OTHERS[0])
    elif reason == "stopping":
        await world.stop()
    world.transport.active = dict.fromkeys(OTHERS, 0.0)
    await asyncio.sleep(60)
    assert world.node.campaigns == 0


@pytest.mark.parametrize(
    ("leader", "still_active", "is_lost"),
    [(OTHERS[0], False, True), (OTHERS[0], True, False), (OTHERS[1], False, False)],
)
@virtual
async def test_leader_is_lost_when_both_connections_are(
    leader: int, still_active: bool, is_lost: bool
):
    """Its process has ended, most likely; another peer's is none of it."""
    world = World()
    world.lead(leader)
    if not still_active:
        del world.transport.active[OTHERS[0]]
    world.server.on_stream_lost(OTHERS[0])
    await asyncio.sleep(LEADER_LOST_SECONDS)
    assert (("leader lost",) in world.node.told) is is_lost


@virtual
async def test_transport_reports_reach_the_node():
    """Envelopes, with their traffic counted; what could not be sent; snapshots."""
    world = World()
    server = world.server
    entry = Entry(1, 2, 1, b"data")
    server.on_envelopes(
        [
            Envelope(OTHERS[0], OWN, 2, Append(0, 0, 0, [entry])),
            Envelope(OTHERS[0], OWN, 2, AppendResponse(1)),
        ]
    )
    server.on_unreachable(OTHERS[0])
    server.on_reachable(OTHERS[0])
    server.on_snapshot_sent(OTHERS[0], delivered=True)
    assert world.node.told == [
        ("receive", 2),
        ("unreachable", OTHERS[0]),
        ("reachable", OTHERS[0]),
        ("snapshot", OTHERS[0], True),
    ]


@virtual
async def test_call_later_calls_in_a_later_turn():
    """Also for no seconds at all."""
    world = World()
    called: list[int] = []
    world.server.call_later(0, lambda: called.append(1))
    assert called == []
    await turn()
    assert called == [1]


@virtual
async def test_proposal_that_is_asked_again_is_given_up_at_its_old_time():
    """Users and roles that change all the time hold nobody up for longer than anything else."""
    world = World()
    command = Set("/a", "1", False, 0, False)
    results = world.propose(command)
    for revision in (5, 6):
        await asyncio.sleep(world.config.request_timeout_seconds / 3)
        world.server.auth.revision_in_force = revision
        world.commit()
        changed = results.pop()
        assert isinstance(changed, Overtaken)
        world.server.propose(command, results.append, changed.last_sweep)
        assert results == []
    await asyncio.sleep(world.config.request_timeout_seconds / 3 + SWEEP_SECONDS)
    assert [type(it) for it in results] == [RaftInternal]
    assert world.server.applier.waiters == {}
