"""`python -m tests.mutants`: break one rule after another; simulation or tests must notice each."""

import argparse
import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pyetcd.sim import draw_world, simulate_world
from raft.sim import Outcome, Verdict, draw, draw_contested, draw_flipped, simulate
from tests.mutants.patch import CONTESTED, FLIPPED, PYETCD, RAFT, Misfit, Mutant, applied
from tests.mutants.rules import MUTANTS, NOT_MADE

SIMULATIONS: Final[dict[str, Callable[[int], Outcome]]] = {
    RAFT: lambda seed: simulate(draw(seed)),
    CONTESTED: lambda seed: simulate(draw_contested(seed)),
    FLIPPED: lambda seed: simulate(draw_flipped(seed)),
    PYETCD: lambda seed: simulate_world(draw_world(seed)),
}
DOCUMENT: Final = Path("docs/mutants.md")
README: Final = Path("README.md")
# What stands between these in the README is written here.
BEGIN: Final = "<!-- mutants: written by `python -m tests.mutants --write` -->\n"
END: Final = "<!-- end of mutants -->\n"
HEAD: Final = """| mutant | the rule is broken so that | killed by | seconds |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What became of one mutant."""

    mutant: Mutant
    # "" for a survivor.
    killed_by: str
    seconds: float
    problem: str = ""

    def line(self) -> str:
        """Return it as one line for people."""
        end = self.killed_by or "SURVIVED"
        head = f"{self.mutant.name:5} {self.mutant.rule:70}"
        return f"{head} {end}, {self.seconds:.1f} s: {self.problem}"

    def row(self) -> str:
        """Return it as a row of the document."""
        mutant = self.mutant
        killed_by = self.killed_by or "**nobody**"
        return f"| {mutant.name} | {mutant.rule} | {killed_by} | {self.seconds:.1f} |"


def main() -> int:
    """Print a table: mutant, what killed it, with which seed, after how long."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="which mutants; all if none is named")
    parser.add_argument("--seconds", type=float, default=60, help="of CPU for each mutant")
    parser.add_argument(
        "--write", action="store_true", help=f"write {DOCUMENT}, and the README's table"
    )
    arguments = parser.parse_args()
    for name in ("raft", "pyetcd"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    hunts: list[Hunt] = []
    for mutant in MUTANTS:
        if not arguments.names or mutant.name in arguments.names:
            hunts.append(hunt(mutant, arguments.seconds))
            print(hunts[-1].line(), flush=True)
    killed = sum(bool(it.killed_by) for it in hunts)
    summary = f"{killed} of {len(hunts)} mutants killed"
    print(summary)
    if arguments.write:
        rows = "".join(it.row() + "\n" for it in hunts)
        DOCUMENT.write_text(document(rows, summary))
        README.write_text(embed(README.read_text(), rows, summary))
    return 0 if killed == len(hunts) else 1


def hunt(mutant: Mutant, seconds: float) -> Hunt:
    """Let its killer loose on it."""
    began = time.process_time()
    try:
        with applied(mutant):
            if mutant.killer in SIMULATIONS:
                killed_by, problem = run_worlds(mutant.killer, began + seconds)
            else:
                killed_by, problem = run_tests(mutant.killer)
    except Misfit as error:
        killed_by, problem = "", str(error)
    return Hunt(mutant, killed_by, time.process_time() - began, problem)


def run_worlds(killer: str, until: float) -> tuple[str, str]:
    """Run seeds until one fails; return which, and how."""
    seed = 0
    while time.process_time() < until:
        seed += 1
        outcome = SIMULATIONS[killer](seed)
        if outcome.verdict is not Verdict.PASSED:
            problem = outcome.problem.strip().splitlines()[-1][:150]
            return f"{killer}, seed {seed}: {outcome.verdict.name.lower()}", problem
    return "", f"{seed} seeds"


class _Failures:
    """A plugin of pytest: which tests have failed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.names.append(report.nodeid)


def run_tests(path: str) -> tuple[str, str]:
    """Run tests until one fails; return which, and where it is."""
    failures = _Failures()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([path, *options], plugins=[failures])
    if not failures.names:
        return "", f"all of {path} pass"
    return failures.names[0].partition("::")[2].partition("[")[0], path


def embed(text: str, rows: str, summary: str) -> str:
    """Return the README with this table in the place of the one that it has."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"no table of mutants in {README}"
    table = f"<details><summary>{summary}</summary>\n\n{HEAD}{rows}\n</details>\n\n"
    return f"{before}{BEGIN}{table}{END}{after}"


def document(rows: str, summary: str) -> str:
    """Return the table as a document."""
    not_made = "\n".join(f"| {name} | {reason} |" for name, reason in NOT_MADE.items())
    return f"""# Mutants

Written by `python -m tests.mutants --write`. Each mutant breaks one rule that a real system has
broken, or nearly so. A simulation must notice, or a test where the simulation does not reach.

**{summary}.** Times are seconds of CPU until it was noticed.

{HEAD}{rows}
Not made:

| mutant | why |
|---|---|
{not_made}
"""


if __name__ == "__main__":
    sys.exit(main())
