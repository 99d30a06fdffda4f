"""What `pyetcd` and `python -m pyetcd` run: compiled modules first, then the program."""

import gc

from pyetcd import compiled


def main() -> None:
    """Run pyetcd with this process's arguments and environment."""
    # Until what is loaded at the start is frozen: see `pyetcd.main.run`.
    gc.disable()
    code = compiled.use()
    # Not before: what it imports may be compiled.
    from pyetcd import main as program

    program.main(code)


if __name__ == "__main__":
    main()
