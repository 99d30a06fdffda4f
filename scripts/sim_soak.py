"""Runs worlds of raft and of whole clusters in turn, until one fails or somebody stops it.

Each day begins with seeds of its own. The output is that of `python -m raft.sim` and
`python -m pyetcd.sim`; so is the exit code.
"""

import argparse
import datetime
import subprocess
import sys
from itertools import count

# How many seeds at a time; both take about as long.
TURNS = (("raft.sim", 100), ("pyetcd.sim", 25))


def main() -> int:
    """Take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=0, help="how many; 0 for no end (default)")
    parser.add_argument("--first", type=int, default=first_of_today(), help="the first seed")
    arguments = parser.parse_args()
    for turn in count():
        if arguments.rounds and turn == arguments.rounds:
            return 0
        for module, seeds in TURNS:
            first = arguments.first + turn * seeds
            command = [sys.executable, "-m", module, "--first", str(first), "--seeds", str(seeds)]
            code = subprocess.run(command, check=False).returncode
            if code:
                return code
    raise AssertionError("counted to the end")


def first_of_today() -> int:
    """Return the first seed of this day: no other day has it."""
    return int(datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d0000"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
