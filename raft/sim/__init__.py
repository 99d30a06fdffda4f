"""A deterministic simulation of raft: `python -m raft.sim`; docs/simulation.md tells all of it.

One seed draws a world: how many servers, how slow and how bad the network and the disks are, who
crashes when, which servers come and go. `draw` makes `Options` of a seed, `simulate` runs them:

    outcome = simulate(draw(8812))
    assert outcome.verdict is Verdict.PASSED, outcome.problem

What runs are the production files, from the core down to the write-ahead log; only time, the
network and the disk are pretended. The same seed gives the same `trace_hash` on every machine.

Read it from the bottom: `clock.py`, `disk.py` and `network.py` are the world; `process.py` is what
`raft.node` is elsewhere, `server.py` the machine that it runs on. `nemesis.py` makes trouble, and
`checkers.py` judges all that happens, step by step. What the world is about is an `Application`:
that of raft's own worlds is `workload.py`, and `simulate` takes any other.
"""

from raft.sim.application import Application, Probe
from raft.sim.clock import MILLISECOND, SECOND
from raft.sim.cluster import Cluster
from raft.sim.command_line import Program, run
from raft.sim.errors import Stuck, Unsafe
from raft.sim.linearizability import PUT, READ, SWAP, Operation, require_linearizable
from raft.sim.options import Options, draw, draw_contested, draw_flipped, parse, read, show
from raft.sim.process import Machine, Process
from raft.sim.simulation import Outcome, Simulation, Verdict, simulate
from raft.sim.world import Say, World

__all__ = [
    "MILLISECOND",
    "PUT",
    "READ",
    "SECOND",
    "SWAP",
    "Application",
    "Cluster",
    "Machine",
    "Operation",
    "Options",
    "Outcome",
    "Probe",
    "Process",
    "Program",
    "Say",
    "Simulation",
    "Stuck",
    "Unsafe",
    "Verdict",
    "World",
    "draw",
    "draw_contested",
    "draw_flipped",
    "parse",
    "read",
    "require_linearizable",
    "run",
    "show",
    "simulate",
]
