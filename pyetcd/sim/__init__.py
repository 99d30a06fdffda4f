"""A deterministic simulation of whole clusters: `python -m pyetcd.sim`; see docs/simulation.md.

On top of the worlds of `raft.sim`, with its disks, networks and crashes, members are the real thing
but for their sockets: the client API with its HTTP parser, auth, the server with all that it does
by itself, the applier, the store and its watches. Clients talk to them in bytes.

    world = draw_world(8812)
    outcome = simulate_world(world)
    assert outcome.verdict is Verdict.PASSED, outcome.problem

Read it from the bottom: `loop.py`, `node.py` and `member.py` are a member's surroundings and the
member; `wire.py` and `requests.py` a client's words. `clients.py`, `watchers.py` and `accounts.py`
ask; `chronicle.py`, `rights.py` and `ledger.py` judge. `application.py` puts it together.
"""

from pyetcd.sim.application import simulate_world
from pyetcd.sim.options import Load, World, draw_world, parse

__all__ = ["Load", "World", "draw_world", "parse", "simulate_world"]
