"""Proves that members are added, removed and moved, and that a removed one leaves."""

import asyncio

import pytest

from pyetcd.cluster import (
    Cluster,
    IdNotFound,
    LastMember,
    Member,
    NotEnoughStartedMembers,
    PeerUrlExists,
    member_id,
)
from pyetcd.command import Set, UpdateMember
from pyetcd.errors import RaftInternal
from pyetcd.server.server import FAREWELL_SECONDS, LAST_ANSWERS_SECONDS
from pyetcd.store import Event
from raft import PeerRejected
from raft.transport import MemberRemoved
from tests.pyetcd.server.fakes import OTHERS, OWN, World, member
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended node stands in the place of raft's")

SECOND = 1_000_000_000


@virtual
async def test_added_member_gets_etcds_id_and_a_connection():
    """Of its URLs and the second in which it is added."""
    world = World()
    results: list[object] = []
    added = world.server.add_member(("http://new:1",), results.append)
    own_id = member_id(["http://new:1"], "", added_at_seconds=world.now() // SECOND)
    assert added == Member(own_id, "", ("http://new:1",))
    assert results == []
    world.commit()
    assert results == [None]
    assert world.transport.peers[added.id] == ["http://new:1"]


@virtual
async def test_added_member_with_a_known_url_is_refused():
    """The log decides, and the requester is told."""
    world = World()
    results: list[object] = []
    world.server.add_member(member(OTHERS[0]).peer_urls, results.append)
    world.commit()
    assert [type(it) for it in results] == [PeerUrlExists]


@virtual
async def test_last_member_cannot_be_removed():
    """It is said at once, and nothing is proposed; what is no member is still for the log."""
    world = World()
    for other in OTHERS:
        world.server.remove_member(other, lambda _: None)
        world.commit()
    results: list[object] = []
    world.server.remove_member(OWN, results.append)
    assert [type(it) for it in results] == [LastMember]
    assert world.commands() == []
    world.server.remove_member(0x77, results.append)
    world.commit()
    assert [type(it) for it in results] == [LastMember, IdNotFound]


@virtual
async def test_removed_member_is_refused_after_a_farewell():
    """It must still hear that it was removed."""
    world = World()
    results: list[object] = []
    world.server.remove_member(OTHERS[0], results.append)
    world.commit()
    assert results == [None]
    await asyncio.sleep(FAREWELL_SECONDS - 0.01)
    assert world.transport.removed == set()
    await asyncio.sleep(0.02)
    assert world.transport.removed == {OTHERS[0]}
    assert world.removals == 0


@virtual
async def test_updated_member_is_dialled_elsewhere():
    """We ourselves are dialled by others."""
    world = World()
    results: list[object] = []
    world.server.update_member(OTHERS[0], ("http://moved:1",), results.append)
    world.server.update_member(OWN, ("http://own:1",), results.append)
    world.server.update_member(0x99, ("http://none:1",), results.append)
    assert world.commands()[0] == UpdateMember(OTHERS[0], ("http://moved:1",))
    world.commit()
    assert results[:2] == [None, None]
    assert isinstance(results[2], IdNotFound)
    assert world.transport.peers == {OTHERS[0]: ["http://moved:1"]}


@virtual
async def test_strict_check_refuses_what_would_lose_the_quorum():
    """Members that have not started do not count."""
    world = World(strict_reconfig_check=True)
    cluster = world.server.cluster
    for other in OTHERS:
        cluster.members[other] = member(other)
    results: list[object] = []
    added = world.server.add_member(("http://new:1",), results.append)
    world.server.remove_member(OWN, results.append)
    assert [type(it) for it in results] == [NotEnoughStartedMembers] * 2
    assert [it.member_id for it in results] == [added.id, OWN]
    assert world.changes() == []


@pytest.mark.parametrize("strict", [True, False])
@virtual
async def test_strict_check_lets_a_healthy_cluster_change(strict: bool):
    """As does one that does not check."""
    world = World(strict_reconfig_check=strict)
    if not strict:
        world.server.cluster.members[OTHERS[0]] = member(OTHERS[0])
    world.server.add_member(("http://new:1",), lambda _: None)
    world.server.remove_member(OTHERS[0], lambda _: None)
    assert len(world.changes()) == 2


@virtual
async def test_member_that_is_removed_leaves(caplog: pytest.LogCaptureFixture):
    """By itself, after a moment in which the others can be told."""
    world = World()
    world.server.remove_member(OWN, lambda _: None)
    world.lead(OTHERS[0])
    world.commit()
    assert "the member has been permanently removed from the cluster" in caplog.text
    assert world.removals == 0
    await asyncio.sleep(FAREWELL_SECONDS)
    assert world.removals == 1


@virtual
async def test_member_that_is_removed_keeps_nobody_waiting():
    """What it was asked it may hear of in a moment or never; what it is asked then is refused."""
    world = World()
    outcomes = world.propose(Set("/in", "time", False, 0, False))
    world.server.remove_member(OWN, outcomes.append)
    late = [world.propose(Set("/too", "late", False, 0, False)), world.read()]
    world.lead(OTHERS[0])
    world.commit(2)
    assert [type(it) for it in outcomes] == [Event, type(None)]
    assert late == [[], []]
    await asyncio.sleep(LAST_ANSWERS_SECONDS)
    late += [world.propose(Set("/k", "v", False, 0, False)), world.read()]
    changes: list[object] = []
    world.server.remove_member(OTHERS[1], changes.append)
    await asyncio.sleep(0)
    assert [str(it) for (it,) in [*late, changes]] == 5 * [str(late[0][0])]
    assert isinstance(late[0][0], RaftInternal)
    assert late[0][0].cause.endswith("permanently removed from the cluster")
    assert world.removals == 0


@virtual
async def test_leader_that_is_removed_leaves_when_another_leads():
    """The others may not know yet that its removal is committed, and need it to elect somebody."""
    world = World(election_milliseconds=2_000)
    world.server.remove_member(OWN, lambda _: None)
    world.commit()
    await asyncio.sleep(2 * FAREWELL_SECONDS)
    assert world.removals == 0
    world.lead(OTHERS[0])
    await asyncio.sleep(FAREWELL_SECONDS)
    assert world.removals == 1


@virtual
async def test_member_that_is_removed_stays_while_its_leader_is_gone():
    """It may have died before its disk knew what it had told of, and needs us to learn it again."""
    world = World()
    world.server.remove_member(OWN, lambda _: None)
    world.lead(OTHERS[0])
    world.commit()
    del world.transport.active[OTHERS[0]]
    await asyncio.sleep(3600)
    assert world.removals == 0
    world.transport.active[OTHERS[0]] = 0.0
    await asyncio.sleep(FAREWELL_SECONDS)
    assert world.removals == 1


@virtual
async def test_member_that_may_alone_know_of_its_removal_stays_until_the_others_do():
    """Of two, the other cannot be elected before it has heard; the network may be cut for hours."""
    world = World()
    world.server.remove_member(OWN, lambda _: None)
    world.commit()
    world.lead(0)
    await asyncio.sleep(3600)
    assert world.removals == 0
    world.server.on_rejected_by_peer(OTHERS[0], MemberRemoved("you were removed"))
    await asyncio.sleep(FAREWELL_SECONDS)
    assert world.removals == 1
    await asyncio.sleep(10 * FAREWELL_SECONDS)
    assert world.removals == 1


@virtual
async def test_member_that_peers_call_removed_leaves_once(caplog: pytest.LogCaptureFixture):
    """It was removed while it was away; each of them says so."""
    world = World()
    world.lead(OTHERS[0])
    for other in OTHERS:
        world.server.on_rejected_by_peer(other, MemberRemoved("you were removed"))
    await asyncio.sleep(FAREWELL_SECONDS)
    assert world.removals == 1
    assert caplog.text.count("permanently removed") == 1


@virtual
async def test_other_rejections_of_peers_end_nobody():
    """Somebody will put it right."""
    world = World()
    world.server.on_rejected_by_peer(OTHERS[0], PeerRejected("another cluster"))
    await asyncio.sleep(60)
    assert world.removals == 0


@virtual
async def test_member_that_stops_does_not_leave():
    """It ends anyway."""
    world = World()
    await world.stop()
    world.server.on_rejected_by_peer(OTHERS[0], MemberRemoved("you were removed"))
    await asyncio.sleep(60)
    assert world.removals == 0


@virtual
async def test_snapshot_with_another_membership_changes_connections():
    """New members are dialled, others are not any more, removed ones are refused."""
    world = World()
    world.transport.peers = {OTHERS[0]: ["http://old:1"], 0xD: ["http://gone:1"]}
    members = {it: member(it) for it in (OWN, OTHERS[0], 0xE)}
    world.server.applier.cluster = Cluster(0xC1, members, {0xD, 0xF})
    world.server.on_cluster_replaced()
    assert world.transport.peers == {it: list(member(it).peer_urls) for it in (OTHERS[0], 0xE)}
    assert world.transport.removed == {0xD, 0xF}
    await asyncio.sleep(60)
    assert world.removals == 0


@virtual
async def test_snapshot_that_removed_us_makes_us_leave():
    """And we do not refuse ourselves."""
    world = World()
    world.lead(OTHERS[0])
    world.server.applier.cluster = Cluster(0xC1, {OTHERS[0]: member(OTHERS[0])}, {OWN})
    world.server.on_cluster_replaced()
    await asyncio.sleep(FAREWELL_SECONDS)
    assert world.removals == 1
    assert world.transport.removed == set()
