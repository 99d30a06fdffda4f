"""`python -m raft.sim`: run worlds, one seed after another, until one fails."""

import sys

from raft.sim.command_line import Program, run
from raft.sim.options import draw, draw_contested, draw_flipped, draw_steady
from raft.sim.simulation import simulate

if __name__ == "__main__":
    sys.exit(
        run(
            Program(
                "python -m raft.sim",
                "run worlds, one seed after another, until one fails",
                "make sim SEED=",
                draw,
                simulate,
                ("raft",),
                {"steady": draw_steady, "contested": draw_contested, "flipped": draw_flipped},
            )
        )
    )
