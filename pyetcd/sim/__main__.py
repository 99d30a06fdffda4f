"""`python -m pyetcd.sim`: run worlds, one seed after another, until one fails."""

import sys

from pyetcd.sim.application import simulate_world
from pyetcd.sim.options import draw_world
from raft.sim import Program, run

if __name__ == "__main__":
    sys.exit(
        run(
            Program(
                "python -m pyetcd.sim",
                "run worlds of whole clusters, one seed after another, until one fails",
                "make sim-pyetcd SEED=",
                draw_world,
                simulate_world,
                ("raft", "pyetcd"),
            )
        )
    )
