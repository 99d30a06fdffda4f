"""pyetcd as it is installed, on a disk that fails when it is told to: for tests only.

    python -m scripts.soak.start PLAN FLAG...

What runs are the compiled modules, if there are any of these sources, as with the command `pyetcd`.
PLAN is a file that may come and go while the member runs: see `scripts.soak.disk.Plan`.
"""

import sys
from pathlib import Path

from pyetcd import compiled


def main() -> None:
    """Run a member with this process's arguments."""
    code = compiled.use()
    # Not before: what these import may be compiled.
    from pyetcd import main as program
    from scripts.soak.disk import install

    install(Path(sys.argv[1]))
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    program.main(code)


if __name__ == "__main__":
    main()
