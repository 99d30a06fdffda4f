"""Links that are cut, one way or both, or that lose, delay, double, swap and reset."""

from functools import partial
from typing import Final

from scripts.soak.faults import Fault, Scene
from scripts.soak.switch import Link

CUT: Final = Link(loss=1.0)


async def isolate(scene: Scene, nodes: list[int]) -> None:
    """Cut nodes off from all other members and from each other; clients reach them still."""
    scene.note(f"isolate {nodes}")
    everybody = scene.cluster.nodes
    scene.network.set(nodes, everybody, CUT)
    scene.network.set(everybody, nodes, CUT)
    scene.network.apply()
    await scene.hold(2.0, 4.0)
    scene.network.heal()


async def isolate_one(scene: Scene) -> None:
    await isolate(scene, [scene.choose().node])


async def isolate_leader(scene: Scene) -> None:
    await isolate(scene, [(await scene.cluster.leader()).node])


async def isolate_majority(scene: Scene) -> None:
    await isolate(scene, [member.node for member in scene.majority()])


async def isolate_all(scene: Scene) -> None:
    await isolate(scene, scene.cluster.nodes)


async def one_way(scene: Scene) -> None:
    """One hears nobody, or nobody hears it."""
    node = scene.choose().node
    others = [it for it in scene.cluster.nodes if it != node]
    ends = ([node], others) if scene.random.random() < 0.5 else (others, [node])
    scene.note(f"nothing from {ends[0]} to {ends[1]}")
    scene.network.set(*ends, CUT)
    scene.network.apply()
    await scene.hold(2.0, 4.0)
    scene.network.heal()


async def leader_sees_half(scene: Scene) -> None:
    """The leader reaches a majority only just; those it does not reach see the others."""
    leader = (await scene.cluster.leader()).node
    others = [node for node in scene.cluster.nodes if node != leader]
    unseen = scene.random.sample(others, len(others) // 2)
    scene.note(f"{leader} leads and does not see {unseen}")
    scene.network.set([leader], unseen, CUT)
    scene.network.set(unseen, [leader], CUT)
    scene.network.apply()
    await scene.hold(2.0, 4.0)
    scene.network.heal()


async def bad_links(scene: Scene, link: Link) -> None:
    """All links between members, and those of the clients to one of them, are like that."""
    nodes = scene.cluster.nodes
    scene.note(str(link))
    scene.network.set(nodes, nodes, link)
    scene.network.apply()
    await scene.hold(2.0, 4.0)
    scene.network.heal()


async def loss(scene: Scene) -> None:
    await bad_links(scene, Link(loss=scene.random.uniform(0.05, 0.3)))


async def black_hole(scene: Scene) -> None:
    """The peer port of one takes packets and does not answer."""
    node = scene.choose().node
    others = [it for it in scene.cluster.nodes if it != node]
    scene.note(f"black hole at the peer port of {node}")
    scene.network.set(others, [node], Link(loss=1.0, peer_port_only=True))
    scene.network.apply()
    await scene.hold(2.0, 4.0)
    scene.network.heal()


FAULTS: Final = (
    Fault("isolate one", isolate_one, mixes=True),
    Fault("isolate the leader", isolate_leader, mixes=True),
    Fault("isolate a majority", isolate_majority, mixes=True),
    Fault("isolate all", isolate_all, mixes=True),
    Fault("one way only", one_way, mixes=True),
    Fault("leader sees half", leader_sees_half, mixes=True),
    Fault("delay", partial(bad_links, link=Link(delay=200, jitter=100)), mixes=True),
    Fault("loss", loss, mixes=True),
    Fault("duplicates", partial(bad_links, link=Link(duplicate=0.3)), mixes=True),
    Fault("reorder", partial(bad_links, link=Link(reorder=0.3)), mixes=True),
    Fault("slow links", partial(bad_links, link=Link(rate=100_000)), mixes=True),
    Fault("black hole", black_hole, mixes=True),
    Fault("connection resets", partial(bad_links, link=Link(reset=0.05)), mixes=True),
)
