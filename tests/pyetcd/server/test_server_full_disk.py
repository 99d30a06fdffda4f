"""Proves what a member does while there is no room on its disk, or on the leader's."""

import asyncio

import pytest

from pyetcd.command import Sync
from pyetcd.errors import RaftInternal
from pyetcd.server.server import NO_ROOM_SECONDS
from pyetcd.server.timekeeper import SYNC_SECONDS
from raft import NO_ROOM, Rejected
from tests.pyetcd.server.fakes import OTHERS, OWN, World
from tests.pyetcd.server.test_pending import A, assert_empty, only
from tests.pyetcd.server.test_server_upkeep import expiring, turn, write
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended core stands in the place of raft's")


@pytest.mark.parametrize("where", ["here", "leader"])
@virtual
async def test_proposal_is_refused_at_once_when_the_disk_is_full(where: str):
    """Our own disk, or that of the leader, which sends it back; nothing has happened or will."""
    world = World()
    world.node.disk_full = where == "here"
    if where == "here":
        world.node.drops = NO_ROOM
    world.node.core.leader = OTHERS[0]
    world.transport.active[OTHERS[0]] = 0.0
    results = world.propose(A)
    if where == "leader":
        ((kind, data),) = world.node.proposed
        world.server.on_rejected(Rejected(kind, data, NO_ROOM))
    await asyncio.sleep(0)
    error = only(results)
    assert isinstance(error, RaftInternal)
    whose = OWN if where == "here" else OTHERS[0]
    assert error.cause == f"etcdserver: no space left on the disk of member {whose:x}"
    assert error.status == 500
    assert_empty(world)


@virtual
async def test_expiry_on_a_full_disk_is_tried_again_in_a_while():
    """It is refused at once: to try at once would keep the loop busy."""
    world = World()
    world.propose(expiring(world, 1))
    world.commit()
    world.node.drops = NO_ROOM
    before = world.server.pending.failed
    await asyncio.sleep(1 + 4 * SYNC_SECONDS)
    assert 2 <= world.server.pending.failed - before <= 5
    world.node.drops = ""
    await asyncio.sleep(2 * SYNC_SECONDS)
    assert [type(it) for it in world.commands()] == [Sync]


@virtual
async def test_snapshot_that_was_given_up_is_tried_again():
    """There may be room later, also if nobody writes."""
    world = World(snapshot_count=10)
    write(world, 9)
    await turn()
    assert len(world.node.snapshots_begun) == 1
    world.node.give_up_snapshot()
    await asyncio.sleep(NO_ROOM_SECONDS + 1)
    assert len(world.node.snapshots_begun) == 2


@virtual
async def test_member_publishes_itself_once_there_is_room():
    """It does not ask all the time, nor say in its log each time that it was refused."""
    world = World()
    world.commit()
    world.node.disk_full, world.node.drops = True, NO_ROOM
    world.server.start()
    await asyncio.sleep(3 * NO_ROOM_SECONDS + 1)
    assert world.server.pending.failed == 4
    world.node.disk_full, world.node.drops = False, ""
    await asyncio.sleep(NO_ROOM_SECONDS)
    assert [type(it).__name__ for it in world.commands()] == ["Publish"]
