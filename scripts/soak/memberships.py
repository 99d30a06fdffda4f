"""Members that go and come, and clocks that go wrong."""

import asyncio
from functools import partial
from typing import Final

from scripts.soak.faults import Fault, Scene
from scripts.soak.members import LIBFAKETIME, Member

# A member of three is elected in one of two elections.
ELECTIONS: Final = 12


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
    """Of a follower, which is asked for keys with a TTL like everybody."""
    await _with_clock(scene, await _pretend(scene), how)


async def wrong_leaders_clock(scene: Scene, how: str) -> None:
    """Of whoever sets the cluster's time."""
    member = await _pretend(scene)
    for _ in range(ELECTIONS):
        leader = await scene.cluster.leader()
        if leader is member:
            await _with_clock(scene, member, how)
            return
        await asyncio.to_thread(leader.process.kill)
        await scene.cluster.leader()
        leader.process.start()
        await scene.cluster.recover()
    scene.note(f"{member.name} was never elected")
    await _with_clock(scene, member, how)


async def _pretend(scene: Scene) -> Member:
    """Start a follower anew with a clock that can be set."""
    member = await scene.cluster.follower()
    await asyncio.to_thread(member.process.kill)
    member.fake_clock()
    member.process.start()
    await scene.cluster.recover()
    return member


async def _with_clock(scene: Scene, member: Member, how: str) -> None:
    scene.note(f"the clock of {member.name}: {how}")
    member.set_clock(how)
    await scene.hold(4.0, 6.0)
    # That is a jump, too.
    member.set_clock("+0")
    await scene.hold()
    await asyncio.to_thread(member.process.kill)
    member.real_clock()
    member.process.start()


_CLOCKS: Final = (
    ("clock an hour ahead", "+3600"),
    ("clock an hour behind", "-3600"),
    ("clock twice as fast", "+0 x2.0"),
)
_CLOCK_FAULTS: Final = (
    *(Fault(name, partial(wrong_clock, how=how)) for name, how in _CLOCKS),
    *(
        Fault(f"the leader's {name}", partial(wrong_leaders_clock, how=how), long=True)
        for name, how in _CLOCKS
    ),
)
FAULTS: Final = (
    Fault("clock an hour ahead", partial(wrong_clock, how="+3600")),
    Fault("clock an hour behind", partial(wrong_clock, how="-3600")),
    Fault("clock twice as fast", partial(wrong_clock, how="+0 x2.0")),
)
FAULTS: Final = (
    Fault("remove the leader", remove_leader),
    Fault("replace each member", replace_each, long=True),
    *(_CLOCK_FAULTS if LIBFAKETIME else ()),
)
