"""Proves that the leader removes expired keys in time, and that snapshots are worth it."""

import asyncio

import pytest

from pyetcd.command import Set, Sync
from pyetcd.server.server import SNAPSHOT_LEAST_BYTES, SNAPSHOT_LOG_BYTES
from pyetcd.server.timekeeper import SYNC_LIMIT, SYNC_SECONDS
from raft import (
    EntryID,
)
from tests.pyetcd.server.fakes import OTHERS, OWN, World, turn
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended node stands in the place of raft's")

SECOND = 1_000_000_000


def expiring(world: World, seconds: float, path: str = "/t") -> Set:
    """A key that expires so many seconds from now."""
    return Set(path, "v", False, world.now() + int(seconds * SECOND), False)


def world_entry(world: World, command: Set) -> tuple[int, bytes]:
    """What would be proposed for a command, taken back."""
    world.server.propose(command, lambda _: None)
    return world.node.proposed.pop()


def syncs(world: World) -> list[Sync]:
    """What is proposed to remove expired keys."""
    return [command for command in world.commands() if isinstance(command, Sync)]


# -------------------------------------------------------------------------------------- expiry


@virtual
async def test_expired_keys_are_removed_by_the_leader_on_time():
    """With its clock in the command."""
    world = World()
    world.propose(expiring(world, 10))
    world.commit()
    await asyncio.sleep(10 - 0.01)
    assert world.commands() == []
    await asyncio.sleep(0.02)
    (sync,) = world.commands()
    assert isinstance(sync, Sync)
    assert sync.limit == SYNC_LIMIT
    assert 0 <= sync.cutoff - (world.now() - SECOND // 50) <= SECOND // 50
    world.commit()
    assert world.server.store.next_expiration() is None
    await asyncio.sleep(60)
    assert world.commands() == []


@virtual
async def test_nothing_is_proposed_while_no_key_expires():
    """An idle cluster writes nothing."""
    world = World()
    world.propose(Set("/a", "1", False, 0, False))
    world.commit()
    before = world.node.core.log.last_index
    await asyncio.sleep(3600)
    assert (world.commands(), world.node.core.log.last_index) == ([], before)


@virtual
async def test_key_with_a_shorter_ttl_is_noticed():
    """One that comes later and expires sooner."""
    world = World()
    world.propose(expiring(world, 3600))
    world.commit()
    world.propose(expiring(world, 1, "/soon"))
    world.commit()
    await asyncio.sleep(1 + SYNC_SECONDS)
    assert len(world.commands()) == 1


@virtual
async def test_many_expired_keys_are_removed_in_steps():
    """One command at a time, each bounded."""
    world = World()
    for number in range(SYNC_LIMIT + 1):
        world.apply(*world_entry(world, expiring(world, 1, f"/{number}")))
    await asyncio.sleep(1 + SYNC_SECONDS)
    assert len(syncs(world)) == 1
    await asyncio.sleep(2)
    world.apply(*world_entry(world, Set("/a", "1", False, 0, False)))
    await asyncio.sleep(2)
    assert len(syncs(world)) == 1, "a step is under way"
    world.commit()
    assert world.server.store.next_expiration() is not None
    await asyncio.sleep(SYNC_SECONDS)
    assert len(syncs(world)) == 1
    world.commit()
    assert world.server.store.next_expiration() is None


@virtual
async def test_follower_expires_nothing():
    """Members' clocks differ: only one of them counts."""
    world = World()
    world.lead(OTHERS[0])
    world.propose(expiring(world, 1))
    world.commit()
    await asyncio.sleep(60)
    assert world.commands() == []
    world.lead(OWN)
    world.begin_term()
    await asyncio.sleep(0)
    await asyncio.sleep(SYNC_SECONDS)
    assert [type(it) for it in world.commands()] == [Sync]


@virtual
async def test_leader_that_is_deposed_meanwhile_expires_nothing():
    """The timer was set while it led."""
    world = World()
    world.propose(expiring(world, 1))
    world.commit()
    world.lead(OTHERS[0])
    await asyncio.sleep(60)
    assert world.commands() == []


@virtual
async def test_key_that_no_longer_expires_is_left_alone():
    """It was set anew, or its time put off, before the timer fired."""
    world = World()
    for command in (expiring(world, 0.1), Set("/t", "v", False, 0, False)):
        world.propose(command)
        world.commit()
    await asyncio.sleep(1)
    for seconds in (0.1, 100):
        world.propose(expiring(world, seconds))
        world.commit()
    await asyncio.sleep(1)
    assert world.commands() == []


@virtual
async def test_expiry_goes_on_after_a_step_that_failed():
    """It timed out: nobody knows whether it happened, and it may happen twice."""
    world = World()
    world.propose(expiring(world, 1))
    world.commit()
    await asyncio.sleep(2)
    world.lose()
    await asyncio.sleep(world.config.request_timeout_seconds + SYNC_SECONDS)
    assert [type(it) for it in world.commands()] == [Sync]


@virtual
async def test_stop_ends_expiry():
    """No timer is left."""
    world = World()
    world.propose(expiring(world, 1))
    world.commit()
    await world.stop()
    await asyncio.sleep(60)
    assert world.commands() == []


# ----------------------------------------------------------------------------------- snapshots


def write(world: World, count: int = 1) -> None:
    """Have so many keys written."""
    for _ in range(count):
        world.apply(*world_entry(world, Set("/a", "1", False, 0, False)))


@virtual
async def test_snapshot_is_saved_each_snapshot_count_entries():
    """Behind the batch in which the count was reached."""
    world = World(snapshot_count=10)
    begun = world.node.snapshots_begun
    write(world, 10 - world.server.raft_index)
    assert begun == []
    await turn()
    assert begun == [10]
    write(world, 9)
    await turn()
    assert begun == [10]
    write(world)
    await turn()
    assert begun == [10, 20]


@virtual
async def test_snapshot_waits_until_the_log_is_worth_it():
    """A large store is not written anew for a few small entries."""
    world = World(snapshot_count=10)
    world.server.applier.snapshot_bytes = 40 * world.node.core.log.entry_bytes
    write(world, 19 - world.server.raft_index)
    await turn()
    assert world.node.snapshots_begun == []
    write(world)
    await turn()
    assert world.node.snapshots_begun == [20]


@pytest.mark.parametrize(
    ("entry_bytes", "due"), [(SNAPSHOT_LEAST_BYTES // 16_384, 16_384), (1, 100_000)]
)
@virtual
async def test_snapshot_waits_for_some_log_unless_the_count_is_given(entry_bytes: int, due: int):
    """A small store is not written whole each second; but the log has a bound by count, too."""
    world = World()
    world.node.core.log.entry_bytes = entry_bytes
    for reached in (10_000, due - 1):
        world.server.applier.raft_index = world.node.core.log.last_index = reached - 1
        write(world)
        await turn()
        assert world.node.snapshots_begun == []
    write(world)
    await turn()
    assert world.node.snapshots_begun == [due]


@virtual
async def test_snapshot_comes_early_when_the_log_is_large():
    """A few large values must not stay in memory until there are thousands of them."""
    world = World(snapshot_count=1000)
    world.node.core.log.entry_bytes = SNAPSHOT_LOG_BYTES // 8
    write(world, 7 - world.server.raft_index)
    await turn()
    assert world.node.snapshots_begun == []
    write(world)
    await turn()
    assert world.node.snapshots_begun == [8]


@virtual
async def test_snapshot_that_cannot_begin_is_tried_again():
    """Another one is being written."""
    world = World(snapshot_count=10)
    world.node.saves = False
    write(world, 15)
    await turn()
    world.node.saves = True
    write(world)
    await turn()
    assert len(world.node.snapshots_begun) == 1


@virtual
async def test_log_counts_from_the_snapshot_that_was_found():
    """A restart does not write one at once."""
    world = World(started=False, snapshot_count=10)
    log = world.node.core.log
    log.last_index = world.node.core.snapshot_index = 100
    log.base = EntryID(95, 1)
    world.server.start()
    write(world, 9)
    await turn()
    assert world.node.snapshots_begun == []
    write(world)
    await turn()
    assert world.node.snapshots_begun == [110]


@virtual
async def test_log_that_begins_later_is_measured_from_its_beginning():
    """What was compacted has no size."""
    world = World(snapshot_count=10)
    world.node.core.log.last_index = 100
    world.node.core.log.base = EntryID(99, 1)
    world.server.applier.snapshot_bytes = 10 * world.node.core.log.entry_bytes
    write(world)
    await turn()
    assert world.node.snapshots_begun == []
    write(world, 8)
    await turn()
    assert world.node.snapshots_begun == [109]


@virtual
async def test_log_counts_from_the_leaders_snapshot():
    """It is as good as our own."""
    world = World(snapshot_count=10)
    world.server.applier.raft_index = world.node.core.log.last_index = 100
    world.server.on_cluster_replaced()
    write(world, 9)
    await turn()
    assert world.node.snapshots_begun == []


@virtual
async def test_stop_begins_no_snapshot():
    """Not even one that was due."""
    world = World(snapshot_count=10)
    write(world, 10)
    await world.stop()
    await turn()
    assert world.node.snapshots_begun == []
