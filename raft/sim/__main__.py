"""`python -m raft.sim`: run worlds, one seed after another, until one fails."""

import argparse
import logging
import sys
import time
from collections import Counter

from raft.sim.options import draw
from raft.sim.simulation import Outcome, Verdict, simulate


def main() -> int:
    """Run what the command line asks for; the exit code says how it failed."""
    arguments = _parse()
    # What storage says of a damaged disk is expected here.
    logging.getLogger("raft").addHandler(logging.NullHandler())
    if arguments.seed is not None:
        return _replay(arguments.seed, verbose=not arguments.quiet)
    return _run_many(arguments.first, arguments.seeds, arguments.seconds)


class _Arguments(argparse.Namespace):
    seed: int | None
    quiet: bool
    seeds: int
    first: int
    seconds: float


def _parse() -> _Arguments:
    parser = argparse.ArgumentParser(prog="python -m raft.sim", description=__doc__)
    parser.add_argument("seed", nargs="?", type=_seed, help="replay this one, and show everything")
    parser.add_argument("--quiet", action="store_true", help="show only how the replay ends")
    parser.add_argument("--seeds", type=int, default=0, help="how many; 0 for no end (default)")
    parser.add_argument("--first", type=_seed, default=1, help="a number, or a commit's hash")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many; 0 never")
    return parser.parse_args(namespace=_Arguments())


def _seed(text: str) -> int:
    """Read a seed: a number, or the first digits of a commit's hash."""
    return int(text) if text.isdecimal() and len(text) < 19 else int(text[:12], 16)


def _replay(seed: int, *, verbose: bool) -> int:
    options = draw(seed)
    print(f"seed {seed}: {options}", flush=True)
    outcome = simulate(options, print if verbose else None)
    _report(outcome)
    for what, count in sorted(outcome.counts.items()):
        print(f"{count:9} {what}")
    return outcome.exit_code


def _run_many(first: int, seeds: int, seconds: float) -> int:
    began, cpu_began = time.monotonic(), time.process_time()
    simulated, steps, seed = 0.0, 0, first
    counts: Counter[str] = Counter()
    while not seeds or seed < first + seeds:
        options = draw(seed)
        print(f"seed {seed}: {options}", flush=True)
        outcome = simulate(options)
        simulated += outcome.simulated_seconds
        steps += outcome.steps
        counts += outcome.counts
        if outcome.verdict is not Verdict.PASSED:
            _report(outcome)
            return outcome.exit_code
        seed += 1
        if seconds and time.monotonic() - began > seconds:
            break
    minutes = (time.process_time() - cpu_began) / 60
    for what, count in sorted(counts.items()):
        print(f"{count:9} {what}")
    print(
        f"{seed - first} seeds passed: {simulated:.0f} cluster-seconds, {steps} checked steps; "
        f"{simulated / minutes:.0f} cluster-seconds per CPU-minute"
    )
    return 0


def _report(outcome: Outcome) -> None:
    """Print how a run ended, and how to see it again."""
    seed = outcome.options.seed
    print(f"seed {seed}: {outcome.verdict.name} {outcome.problem}".rstrip())
    print(f"after {outcome.simulated_seconds:.3f} s, trace {outcome.trace_hash}")
    if outcome.verdict is not Verdict.PASSED:
        print(f"replay: make sim SEED={seed}")


if __name__ == "__main__":
    sys.exit(main())
