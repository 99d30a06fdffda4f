"""Members that go and come, and clocks that go wrong."""

import asyncio
from functools import partial
from typing import Final

from scripts.soak.faults import Fault, Scene
from scripts.soak.members import LIBFAKETIME


async def remove_leader(scene: Scene) -> None:
    """Under load; a new member takes its place."""
    leader = await scene.cluster.leader()
    scene.note(f"remove {leader.name}, which leads")
    await scene.cluster.replace(leader)


async def replace_each(scene: Scene) -> None:
    """One after the other: in the end none of the first members is left."""
    for member in scene.cluster.members:
        scene.note(f"replace {member.name}")
        await scene.cluster.replace(member)
        await scene.cluster.recover()


async def wrong_clock(scene: Scene, how: str) -> None:
    """Of a follower; the others set the times of keys, and the leader ends them."""
    member = await scene.cluster.follower()
    scene.note(f"the clock of {member.name}: {how}")
    await asyncio.to_thread(member.process.kill)
    member.fake_clock()
    member.process.start()
    await scene.cluster.recover()
    member.clock_is_right = False
    member.set_clock(how)
    await scene.hold(4.0, 6.0)
    if await scene.cluster.leader() is member:
        scene.clock_was_wrong = True
    await asyncio.to_thread(member.process.kill)
    member.real_clock()
    member.process.start()
    member.clock_is_right = True


_CLOCK_FAULTS: Final = (
    Fault("clock an hour ahead", partial(wrong_clock, how="+3600")),
    Fault("clock an hour behind", partial(wrong_clock, how="-3600")),
    Fault("clock twice as fast", partial(wrong_clock, how="+0 x2.0")),
)
FAULTS: Final = (
    Fault("remove the leader", remove_leader),
    Fault("replace each member", replace_each, long=True),
    *(_CLOCK_FAULTS if LIBFAKETIME else ()),
)
