"""Proves that a node whose disk is full refuses what it has no room for, and goes on later."""

from pathlib import Path

import pytest

from raft import ProposalDropped
from raft.loop_storage import ROOM_SECONDS
from tests.raft.node_world import World
from tests.raft.test_node import in_loop

# Half of the log's file, in which the next one must be set aside, and what fills nearly all.
HALF, MOST = b"h" * 33_000, b"m" * 50_000


async def look_again(world: World) -> None:
    """Have the node look whether there is room."""
    world.files.looked = False
    world.loop.shift += 2 * ROOM_SECONDS
    await world.until(lambda: world.files.looked)


@in_loop
async def test_full_disk_refuses_proposals_until_there_is_room(tmp_path: Path):
    """What was applied before is there, reads go on, and nobody dies."""
    world = await World(tmp_path).start()
    world.files.is_full = True
    await world.applies(MOST)
    await world.until(lambda: world.node.disk_full)
    with pytest.raises(ProposalDropped, match="no space left"):
        world.node.propose(b"refused")
    read: list[int] = []
    world.node.read_index(lambda: read.append(1))
    await world.until(lambda: read == [1])
    world.files.is_full = False
    await look_again(world)
    await world.until(lambda: not world.node.disk_full)
    await world.applies(b"a", HALF, HALF + b"2")
    await world.stop()
    world = await World(tmp_path).start()
    await world.until(lambda: world.machine.applied == [MOST, b"a", HALF, HALF + b"2"])
    await world.stop()


@in_loop
async def test_log_file_that_was_set_aside_in_time_is_used_on_a_full_disk(tmp_path: Path):
    """Only when it is half full itself, and there is no other, is it time to refuse."""
    world = await World(tmp_path).start()
    await world.applies(HALF)
    await world.until(lambda: not world.disk.wants_room)
    world.files.is_full = True
    await world.applies(HALF + b"2")
    assert not world.node.disk_full
    await world.stop()


@in_loop
async def test_write_without_room_waits_for_it(tmp_path: Path):
    """It was taken on before anybody knew; it is neither lost nor promised."""
    world = await World(tmp_path).start()
    world.files.is_full = True
    world.node.propose(HALF)
    world.node.propose(HALF + b"2")
    await world.until(lambda: world.node.disk_full)
    await look_again(world)
    assert world.machine.applied == []
    assert world.node.disk_full
    world.files.is_full = False
    await look_again(world)
    await world.until(lambda: not world.node.disk_full)
    await world.applies(b"after")
    assert world.machine.applied == [HALF, HALF + b"2", b"after"]
    await world.stop()


@in_loop
async def test_stop_does_not_wait_for_room(tmp_path: Path):
    """What could not be written is lost with the process, and was promised to nobody."""
    world = await World(tmp_path).start()
    world.files.is_full = True
    world.node.propose(HALF + HALF)
    await world.until(lambda: world.node.disk_full)
    await world.stop()
    world = await World(tmp_path).start()
    assert world.machine.applied == []
    await world.stop()


@pytest.mark.parametrize("at", ["begin", "later"])
@in_loop
async def test_snapshot_without_room_is_given_up(tmp_path: Path, at: str):
    """Nothing is left of it, the log is all there, and the next one is as good as any."""
    world = await World(tmp_path).start()
    await world.applies(*(b"%d" % number for number in range(5)))
    told: list[int] = []

    def fill() -> None:
        world.files.is_full = True

    if at == "begin":
        fill()
    else:
        world.machine.on_chunk = fill
    assert world.node.save_snapshot(lambda: told.append(1))
    await world.until(lambda: told == [1])
    assert world.snapshot_files() == []
    assert world.node.core.snapshot_index == 0
    world.machine.on_chunk = lambda: None
    world.files.is_full = False
    assert world.node.save_snapshot()
    await world.until(lambda: world.node.core.snapshot_index > 0)
    await world.stop()
