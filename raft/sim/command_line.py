"""The command line of a simulation: one world that is shown, or worlds one after another."""

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from raft.sim.simulation import Outcome, Verdict
from raft.sim.world import Say

# Whatever a seed draws; shown as text, it says all of its world.
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Program(Generic[W]):
    """What is simulated, and how it is called."""

    name: str
    description: str
    # What replays a seed, but for the number behind it.
    replay: str
    draw: Callable[[int], W]
    simulate: Callable[[W, Say | None], Outcome]
    # Whose loggers say much of what is expected here.
    loggers: tuple[str, ...]
    # Other kinds of worlds, each by the name of its flag.
    others: Mapping[str, Callable[[int], W]] = field(default_factory=dict)


def run(program: Program[W]) -> int:
    """Do what the command line asks for; the exit code says how a world has failed."""
    arguments = _parse(program)
    for name in program.loggers:
        logging.getLogger(name).addHandler(logging.NullHandler())
    if kind := arguments.kind:
        program = replace(program, draw=program.others[kind], replay=f"{program.name} --{kind} ")
    if arguments.seed is not None:
        return _replay(program, arguments.seed, verbose=not arguments.quiet)
    return _run_many(program, arguments.first, arguments.seeds, arguments.seconds)


class _Arguments(argparse.Namespace):
    seed: int | None
    quiet: bool
    seeds: int
    first: int
    seconds: float
    kind: str


def _parse(program: Program[W]) -> _Arguments:
    parser = argparse.ArgumentParser(prog=program.name, description=program.description)
    parser.add_argument("seed", nargs="?", type=_seed, help="replay this one, and show everything")
    parser.add_argument("--quiet", action="store_true", help="show only how the replay ends")
    parser.add_argument("--seeds", type=int, default=0, help="how many; 0 for no end (default)")
    parser.add_argument("--first", type=_seed, default=1, help="a number, or a commit's hash")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so many; 0 never")
    parser.set_defaults(kind="")
    for kind, draw in program.others.items():
        summary = (draw.__doc__ or "").partition("\n")[0].removeprefix("Return ").rstrip(".")
        parser.add_argument(
            f"--{kind}", dest="kind", action="store_const", const=kind, help=summary
        )
    return parser.parse_args(namespace=_Arguments())


def _seed(text: str) -> int:
    """Read a seed: a number, or the first digits of a commit's hash."""
    return int(text) if text.isdecimal() and len(text) < 19 else int(text[:12], 16)


def _replay(program: Program[W], seed: int, *, verbose: bool) -> int:
    world = program.draw(seed)
    print(f"seed {seed}: {world}", flush=True)
    outcome = program.simulate(world, print if verbose else None)
    _report(program, seed, outcome)
    _show_counts(outcome.counts)
    return outcome.exit_code


def _run_many(program: Program[W], first: int, seeds: int, seconds: float) -> int:
    began, cpu_began = time.monotonic(), time.process_time()
    simulated, steps, seed = 0.0, 0, first
    counts: Counter[str] = Counter()
    while not seeds or seed < first + seeds:
        world = program.draw(seed)
        print(f"seed {seed}: {world}", flush=True)
        outcome = program.simulate(world, None)
        simulated += outcome.simulated_seconds
        steps += outcome.steps
        counts += outcome.counts
        if outcome.verdict is not Verdict.PASSED:
            _report(program, seed, outcome)
            return outcome.exit_code
        seed += 1
        if seconds and time.monotonic() - began > seconds:
            break
    minutes = (time.process_time() - cpu_began) / 60
    _show_counts(counts)
    print(
        f"{seed - first} seeds passed: {simulated:.0f} cluster-seconds, {steps} checked steps; "
        f"{simulated / minutes:.0f} cluster-seconds per CPU-minute"
    )
    return 0


def _report(program: Program[W], seed: int, outcome: Outcome) -> None:
    """Print how a run ended, and how to see it again."""
    print(f"seed {seed}: {outcome.verdict.name} {outcome.problem}".rstrip())
    print(f"after {outcome.simulated_seconds:.3f} s, trace {outcome.trace_hash}")
    if outcome.verdict is not Verdict.PASSED:
        print(f"replay: {program.replay}{seed}")


def _show_counts(counts: Counter[str]) -> None:
    for what, count in sorted(counts.items()):
        print(f"{count:9} {what}")
