"""Processes that end, in order or not, or stand still."""

import asyncio
from functools import partial
from itertools import count
from typing import Final

from scripts.soak.faults import Fault, Scene
from scripts.soak.http import Connection, NoAnswer, key_path
from scripts.soak.members import Member
from scripts.soak.switch import Link

# More than a member keeps behind its snapshot for those who lag, and one snapshot interval.
BULK_ENTRIES: Final = 6_500
BULK_WRITERS: Final = 24
# Large, so that the log grows by half of a snapshot that is full of what filled the disks before.
BULK_VALUE: Final = "x" * 2_000


async def end(scene: Scene, members: list[Member], how: str) -> None:
    """End some members at once: "kill", or "terminate" in order."""
    scene.note(f"{how} {', '.join(member.name for member in members)}")
    ending = [member for member in members if member.process.running]
    await asyncio.gather(*(asyncio.to_thread(getattr(it.process, how)) for it in ending))


async def end_one(scene: Scene, how: str) -> None:
    await end(scene, [scene.choose()], how)
    await scene.hold()
    scene.cluster.start()


async def end_leader(scene: Scene, how: str) -> None:
    await end(scene, [await scene.cluster.leader()], how)
    await scene.hold()
    scene.cluster.start()


async def end_majority(scene: Scene, how: str) -> None:
    await end(scene, scene.majority(), how)
    await scene.hold(0.5, 1.5)
    scene.cluster.start()


async def end_all(scene: Scene, how: str) -> None:
    await end(scene, scene.cluster.members, how)
    await scene.hold(0.2, 0.8)
    scene.cluster.start()


async def end_until_snapshot(scene: Scene, how: str) -> None:
    """One is away for so long that the others' logs do not reach back to its end."""
    victim = await scene.cluster.follower()
    await end(scene, [victim], how)
    await write_much(scene, [member.host for member in scene.cluster.running()])
    before = victim.process.log.count("received the snapshot")
    scene.cluster.start()

    async def received() -> bool:
        return victim.process.log.count("received the snapshot") > before

    await scene.cluster.until(received, f"{victim.name} to be sent a snapshot")


async def snapshot_over_a_slow_link(scene: Scene) -> None:
    """The same, and the snapshot takes some seconds to arrive."""
    victim = await scene.cluster.follower()
    others = [node for node in scene.cluster.nodes if node != victim.node]
    scene.network.set(others, [victim.node], Link(rate=300_000))
    scene.network.apply()
    scene.note(f"300 kB/s to {victim.name}")
    await end_until_snapshot(scene, "kill")
    scene.network.heal()


async def write_much(scene: Scene, hosts: list[str]) -> None:
    """Write until every log has been compacted."""
    numbers = count()
    scene.note(f"{BULK_ENTRIES} writes")

    async def write(turn: int) -> None:
        connection = Connection(hosts[turn % len(hosts)])
        while (number := next(numbers)) < BULK_ENTRIES:
            path = key_path(f"{scene.root}/bulk/{number % 500}")
            try:
                await connection.request("PUT", path, {"value": BULK_VALUE})
            except NoAnswer:
                await asyncio.sleep(0.05)
        connection.close()

    await asyncio.gather(*(write(turn) for turn in range(BULK_WRITERS)))


async def pause_leader(scene: Scene, seconds: float) -> None:
    """It comes back and believes to lead: what it answers then must not be stale."""
    leader = await scene.cluster.leader()
    scene.note(f"pause {leader.name} for {seconds:g} s")
    leader.process.stop()
    try:
        await asyncio.sleep(seconds)
    finally:
        leader.process.cont()


FAULTS: Final = (
    Fault("kill one", partial(end_one, how="kill"), mixes=True),
    Fault("kill the leader", partial(end_leader, how="kill"), mixes=True),
    Fault("kill a majority", partial(end_majority, how="kill"), mixes=True),
    Fault("kill all", partial(end_all, how="kill"), mixes=True),
    Fault("kill until a snapshot is needed", partial(end_until_snapshot, how="kill"), long=True),
    Fault("terminate one", partial(end_one, how="terminate")),
    Fault("terminate the leader", partial(end_leader, how="terminate")),
    Fault("terminate a majority", partial(end_majority, how="terminate")),
    Fault("terminate all", partial(end_all, how="terminate")),
    Fault(
        "terminate until a snapshot is needed",
        partial(end_until_snapshot, how="terminate"),
        long=True,
    ),
    Fault("snapshot over a slow link", snapshot_over_a_slow_link, long=True),
    Fault("pause the leader for 3 s", partial(pause_leader, seconds=3.0), mixes=True),
    Fault("pause the leader for 30 s", partial(pause_leader, seconds=30.0), long=True),
)
