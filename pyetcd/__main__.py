"""What `pyetcd` and `python -m pyetcd` run: compiled modules first, then the program."""

import gc
import signal

from pyetcd import compiled


def main() -> None:
    """Run pyetcd with this process's arguments and environment."""
    # Until what is loaded at the start is frozen: see `pyetcd.main.run`.
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the loop takes the signal: Ctrl-C while modules are imported is no error of theirs.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = compiled.use()
    # Not before: what it imports may be compiled.
    from pyetcd import main as program

    program.main(code)


if __name__ == "__main__":
    main()
