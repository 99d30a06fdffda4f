"""Disks that are slow, fail, lose their power, or hold what was not written to them."""

import asyncio
import itertools
import shutil
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

from scripts.soak import damage
from scripts.soak.disk import Plan
from scripts.soak.faults import Fault, Scene
from scripts.soak.http import Connection, NoAnswer, key_path
from scripts.soak.members import Member, Unhealthy

# How the log marks the line with which a process ends for a reason of its own.
CRITICAL: Final = " C | "
# What fills the log: some hundreds of them, in few keys.
FILLER: Final = "x" * 60_000
FILLERS: Final = 4
# How long that may take on a busy machine.
FILL_SECONDS: Final = 150.0


async def slow_flushes(scene: Scene) -> None:
    """10 to 500 ms each, at one member or at all."""
    members = [scene.choose()] if scene.random.random() < 0.5 else scene.cluster.running()
    scene.note(f"slow flushes at {[member.name for member in members]}")
    for member in members:
        member.set_disk(Plan(seed=scene.random.getrandbits(32), fastest=0.01, slowest=0.5))
    await scene.hold(2.0, 4.0)
    for member in members:
        member.set_disk(None)


async def error(scene: Scene, kind: str) -> None:
    """EIO: the member ends, and starts again on a disk that works."""
    member = scene.choose()
    after = scene.random.randrange(50)
    scene.note(f"{kind} {after} of {member.name} fails")
    member.set_disk(Plan(fails=kind, after=after))
    before = member.process.log.count("pyetcd must stop: [Errno 5]")

    async def ended() -> bool:
        return not member.process.running

    await scene.cluster.until(ended, f"{member.name} to end after a failed {kind}")
    member.set_disk(None)
    if member.process.log.count("pyetcd must stop: [Errno 5]") <= before:
        scene.problems.append(f"{member.name} does not say why it ended")
    await scene.hold(0.2, 1.0)
    scene.cluster.start()


async def full(scene: Scene, whose: str) -> None:
    """Writes are refused, reads go on, and with room the members serve again, without a restart."""
    members = scene.cluster.running()
    if whose != "all":
        members = [await scene.cluster.leader() if whose == "leader" else scene.choose()]
    processes = [member.process.process for member in members]
    scene.note(f"no room on the disks of {[member.name for member in members]}")
    for member in members:
        member.set_disk(Plan(full=True))
    # With most of them full nothing is committed any more: the last one need not fill up.
    filled = await _fill(scene, members, len(members) // 2 + 1 if whose == "all" else 1)
    for member in members:
        try:
            await scene.cluster.ask(member, "GET", key_path(scene.root, recursive="true"))
        except NoAnswer as no_answer:
            scene.problems.append(f"{member.name} has no room, and answers no reads: {no_answer}")
    if len(filled) == len(scene.cluster.members) and not await _refuses(scene, members[0]):
        scene.problems.append(f"{members[0].name} does not say that there is no room")
    await scene.hold()
    for member in members:
        member.set_disk(None)
    await scene.cluster.recover()
    if [member.process.process for member in members] != processes:
        scene.problems.append("a member was started again")


async def _fill(scene: Scene, members: list[Member], least: int) -> list[Member]:
    """Write until so many of these have used all that was set aside for their logs; return them."""
    turns = itertools.count()
    filled: list[Member] = []

    async def have_no_room() -> bool:
        member = scene.choose()
        path = key_path(f"{scene.root}/filler{next(turns) % FILLERS}")
        try:
            await scene.cluster.ask(member, "PUT", path, {"value": FILLER})
        except NoAnswer:
            pass  # refused, when nobody has room
        filled[:] = [member for member in members if await _says_no_room(member)]
        return len(filled) >= least

    await scene.cluster.until(have_no_room, "the disks to be full", FILL_SECONDS)
    return filled


async def _says_no_room(member: Member) -> bool:
    connection = Connection(member.host)
    try:
        return b"\netcd_wal_no_space 1" in (await connection.request("GET", "/metrics")).body
    except NoAnswer:
        return False
    finally:
        connection.close()


async def _refuses(scene: Scene, member: Member) -> bool:
    try:
        await scene.cluster.ask(member, "PUT", key_path(f"{scene.root}/filler"), {"value": "1"})
    except NoAnswer as no_answer:
        return "no space left" in str(no_answer)
    return False


async def power_loss(scene: Scene, whose: str) -> None:
    """What was not flushed is gone, and the last write is torn; then the same once more."""
    for _ in range(2):
        members = scene.cluster.running() if whose == "all" else [scene.choose()]
        for member in members:
            operations = scene.random.randint(1, 60)
            scene.note(f"{member.name} loses its power in {operations} operations")
            plan = Plan(seed=scene.random.getrandbits(32), power_loss=operations)
            member.set_disk(plan)

        async def down(members: list[Member] = members) -> bool:
            return not any(member.process.running for member in members)

        # As soon as a majority is down, nothing more is written elsewhere.
        try:
            await asyncio.wait_for(scene.cluster.until(down, "the power loss"), 2.0)
        except TimeoutError:
            for member in members:
                await asyncio.to_thread(member.process.close)
        for member in members:
            member.set_disk(None)
        scene.cluster.start()
        await scene.cluster.recover()


async def _damage(scene: Scene, member: Member, what: str) -> None:
    """Start a member whose files were spoiled: it goes on, or refuses and says why."""
    scene.note(f"{member.name}: {what}")
    length = len(member.process.log)
    member.process.start()

    async def judged() -> bool:
        return not member.process.running or await scene.cluster.serves(member)

    try:
        await scene.cluster.until(judged, f"{member.name} to go on or to refuse")
        # What it has lost may show only when it hears from the leader.
        await scene.hold(0.5, 1.0)
    except Unhealthy:
        if member.process.running:
            raise
    if member.process.running:
        scene.note(f"{member.name} goes on")
        return
    said = member.process.log[length:]
    reasons = [line for line in said.splitlines() if CRITICAL in line]
    if not reasons:
        scene.problems.append(f"{member.name} ended without a reason: {said[-2000:]}")
    scene.note(f"{member.name} refuses: {' '.join(reasons)[-400:]}")
    await scene.cluster.replace(member)


async def _stop_one(scene: Scene) -> Member:
    member = await scene.cluster.follower()
    await asyncio.to_thread(member.process.kill)
    return member


async def flipped_bit(scene: Scene) -> None:
    """In one of what the files hold, each kind as likely as the others."""
    member = await _stop_one(scene)
    everything = sorted(damage.places(member.process.data_dir), key=lambda place: place.kind)
    by_kind = [list(places) for _, places in groupby(everything, lambda place: place.kind)]
    place = scene.random.choice(scene.random.choice(by_kind))
    offset = damage.flip_bit(place, scene.random)
    await _damage(scene, member, f"a bit of {place.kind} in {place.path.name} at {offset}")


async def spoiled_snapshot(scene: Scene, how: str) -> None:
    """The newest snapshot is gone, or cut short."""
    member = await _stop_one(scene)
    found = damage.snapshots(member.process.data_dir)
    if not found:
        scene.note("there is no snapshot yet")
        member.process.start()
        return
    if how == "deleted":
        found[-1].unlink()
    else:
        damage.truncate(found[-1], scene.random)
    await _damage(scene, member, f"{found[-1].name} is {how}")


async def emptied_segment(scene: Scene) -> None:
    """A file of the log has no bytes any more."""
    member = await _stop_one(scene)
    path = scene.random.choice(damage.segments(member.process.data_dir))
    path.write_bytes(b"")
    await _damage(scene, member, f"{path.name} is emptied")


async def wiped(scene: Scene) -> None:
    """A data directory that is gone: its member must not come back as if it were new."""
    member = await _stop_one(scene)
    shutil.rmtree(member.process.data_dir)
    await _damage(scene, member, "its data directory is gone")
    if not any("refuses" in note for note in scene.notes):
        scene.problems.append(f"{member.name} goes on without what it had promised")


async def old_copy(scene: Scene) -> None:
    """A member is started on a copy of its data directory that lacks what came later."""
    member = await _stop_one(scene)
    data_dir = member.process.data_dir
    copy = Path(f"{data_dir}.copy")
    shutil.copytree(data_dir, copy)
    member.process.start()
    await scene.cluster.recover()
    await scene.hold(1.0, 1.5)
    await asyncio.to_thread(member.process.kill)
    shutil.rmtree(data_dir)
    shutil.move(copy, data_dir)
    await _damage(scene, member, "an old copy of its data directory")


FAULTS: Final = (
    Fault("slow flushes", slow_flushes, mixes=True),
    Fault("EIO on a write", partial(error, kind="write")),
    Fault("EIO on a flush", partial(error, kind="flush")),
    Fault("full disk of one", partial(full, whose="one")),
    Fault("full disk of the leader", partial(full, whose="leader")),
    Fault("full disk of all", partial(full, whose="all")),
    Fault("power loss of one", partial(power_loss, whose="one")),
    Fault("power loss of all", partial(power_loss, whose="all")),
    Fault("flipped bit", flipped_bit),
    Fault("newest snapshot deleted", partial(spoiled_snapshot, how="deleted")),
    Fault("newest snapshot truncated", partial(spoiled_snapshot, how="truncated")),
    Fault("emptied segment", emptied_segment),
    Fault("wiped data directory", wiped),
    Fault("old copy of a data directory", old_copy),
)
