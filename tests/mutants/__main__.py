"""`python -m tests.mutants`: break one rule after another; the simulation must notice each."""

import argparse
import logging
import sys
import time

from raft.sim.options import draw
from raft.sim.simulation import Verdict, simulate
from tests.mutants.patch import Misfit, Mutant, applied
from tests.mutants.rules import MUTANTS


def main() -> int:
    """Print a table: mutant, what killed it, with which seed, after how long."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="which mutants; all if none is named")
    parser.add_argument("--seconds", type=float, default=60, help="of CPU for each mutant")
    arguments = parser.parse_args()
    logging.getLogger("raft").addHandler(logging.NullHandler())
    survivors = 0
    for mutant in MUTANTS:
        if not arguments.names or mutant.name in arguments.names:
            try:
                line = hunt(mutant, arguments.seconds)
            except Misfit as error:
                line = f"SURVIVED: {error}"
            survivors += line.startswith("SURVIVED")
            print(f"{mutant.name:5} {mutant.rule:70} {line}", flush=True)
    return 1 if survivors else 0


def hunt(mutant: Mutant, seconds: float) -> str:
    """Run seeds until one fails; say how."""
    began = time.process_time()
    seed = 0
    with applied(mutant):
        while time.process_time() - began < seconds:
            seed += 1
            outcome = simulate(draw(seed))
            if outcome.verdict is not Verdict.PASSED:
                took = time.process_time() - began
                problem = outcome.problem.strip().splitlines()[-1]
                return f"{outcome.verdict.name} seed {seed}, {took:.1f} s: {problem[:150]}"
    return f"SURVIVED {seed} seeds"


if __name__ == "__main__":
    sys.exit(main())
