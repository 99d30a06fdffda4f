"""Real members, real faults: nothing acknowledged is ever lost.

Starts a cluster in network namespaces, lets clients work on it, does it harm, and checks what the
clients were told. Prints a line for each round and the figures at the end; ends with 1 when
anything was wrong, and says how to repeat that round. See docs/reliability.md.
"""

import argparse
import asyncio
import itertools
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from scripts.soak import catalogue
from scripts.soak.faults import Fault
from scripts.soak.members import FIRST_NODE, LIBFAKETIME, Cluster, Unhealthy
from scripts.soak.namespaces import CLIENTS, Network, why_not
from scripts.soak.rounds import Round, Totals, Usage, usage
from scripts.soak.workloads import Counters, Queues, Registers, Writers

# Connections of clients that are many, on both ends.
DESCRIPTORS: Final = 30_000
# When the memory is looked at for the first time: what is loaded once is loaded by then.
WARM_SECONDS: Final = 60.0
# How long a member may need to notice that a round's clients have gone.
FAREWELL_SECONDS: Final = 0.3


def main() -> int:
    """Run what the command line asks for."""
    arguments = parse()
    if arguments.list:
        print("\n".join(fault.name for fault in catalogue.FAULTS))
        return 0
    reason = why_not()
    if reason:
        print(f"soak: {reason}", file=sys.stderr)
        return 2
    if not LIBFAKETIME:
        print("soak: no faults of the clock without libfaketime (apt-get install libfaketime)")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {arguments.seed}, {arguments.size} members, files in {directory}", flush=True)
    network = Network([CLIENTS, *range(FIRST_NODE, FIRST_NODE + arguments.size)])
    cluster = Cluster(directory, network, arguments.size)
    try:
        totals = asyncio.run(soak(arguments, cluster, network))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(directory)
        return 130
    finally:
        cluster.close()
        network.close()
    if totals.problems:
        print(f"FAILED; the members' files and logs are in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for; ends the process for one that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is drawn")
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no round after that")
    parser.add_argument("--size", type=int, default=3, help="how many members")
    parser.add_argument("--short", action="store_true", help="a few faults, once each")
    names = [fault.name for fault in catalogue.FAULTS]
    parser.add_argument(
        "--fault",
        action="append",
        choices=names,
        metavar="NAME",
        help="only this one; may be given repeatedly",
    )
    parser.add_argument("--mixed", action="store_true", help="all of --fault at once")
    parser.add_argument("--round", type=int, default=1, help="begin with the round of this number")
    parser.add_argument("--calm", action="store_true", help="no faults at all, to measure by")
    parser.add_argument("--list", action="store_true", help="print the names of all faults")
    return parser.parse_args(argv)


def plan(arguments: argparse.Namespace) -> Iterable[list[Fault]]:
    """Return the faults of every round."""
    if arguments.calm:
        return itertools.repeat([])
    if arguments.fault:
        faults = [catalogue.by_name(name) for name in arguments.fault]
        return [faults] if arguments.mixed else [[fault] for fault in faults]
    return catalogue.short(arguments.seed) if arguments.short else catalogue.draw(arguments.seed)


async def soak(arguments: argparse.Namespace, cluster: Cluster, network: Network) -> Totals:
    """Run all rounds, or until the first that fails."""
    task = asyncio.current_task()
    assert task is not None, "it is run by asyncio"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    totals = Totals()
    began = time.monotonic()
    cluster.start()
    await cluster.recover()
    await cluster.enable_auth()
    warm: Usage | None = None
    rounds = itertools.islice(enumerate(plan(arguments), start=1), arguments.round - 1, None)
    for number, faults in rounds:
        elapsed = time.monotonic() - began
        if elapsed > arguments.seconds or totals.problems:
            break
        if warm is None and elapsed > WARM_SECONDS:
            warm = usage(cluster)
        await one_round(Round(cluster, network, arguments.seed, number), faults, totals)
    show(totals, time.monotonic() - began, warm, usage(cluster))
    return totals


async def one_round(round_: Round, faults: list[Fault], totals: Totals) -> None:
    """Run a round and print what became of it."""
    began, before = time.monotonic(), totals.acknowledged
    names = " + ".join(fault.name for fault in faults) or "calm"
    try:
        problems = await round_.run(faults, totals)
    except* Unhealthy as errors:
        problems = [str(error) for error in errors.exceptions]
    took = time.monotonic() - began
    writes = totals.acknowledged - before
    if not problems:
        await asyncio.sleep(FAREWELL_SECONDS)
    now = usage(round_.scene.cluster)
    print(f"{round_.number:4} {names:40} {took:5.1f} s {writes:6} writes   {now}", flush=True)
    for note in round_.scene.notes:
        print(f"       {note}")
    for problem in problems:
        print(f"  WRONG {problem}")
    if problems:
        fault_flags = " ".join(f"--fault '{fault.name}'" for fault in faults) or "--calm"
        mixed = " --mixed" if len(faults) > 1 else ""
        print(f"repeat: python -m scripts.soak --seed {round_.seed} {fault_flags}{mixed}")
    totals.problems += problems


def show(
    totals: Totals,
    seconds: float,
    warm: Usage | None,
    now: Usage,
) -> None:
    """Print the figures."""
    print(f"time                         {seconds:8.0f} s")
    print(f"rounds                       {totals.rounds:8}")
    print(f"faults injected              {totals.faults:8}")
    print(f"acknowledged writes checked  {totals.acknowledged:8}")
    print(f"writes of unknown outcome    {totals.unknown:8}")
    print(f"quorum reads checked         {totals.quorum_reads:8}")
    print(f"watch events checked         {totals.events:8}")
    print(f"histories checked            {totals.histories:8}")
    wrong = totals.wrong
    lost = wrong[Writers.name] + wrong[Queues.name] + wrong[Counters.name]
    print(f"acknowledged writes lost     {lost:8}")
    print(f"stale quorum reads           {wrong[Registers.name]:8}")
    print(f"problems                     {len(totals.problems):8}")
    if warm is not None:
        print(f"each member after {WARM_SECONDS:3.0f} s       {warm}")
        print(f"each member at the end       {now}")


if __name__ == "__main__":
    sys.exit(main())
