"""What `pyetcd` and `python -m pyetcd` run: compiled modules first, then the program."""

import gc
import signal
import ssl

from pyetcd import compiled


def main() -> None:
    """Run pyetcd with this process's arguments and environment."""
    # Until what is loaded at the start is frozen: see `pyetcd.main.run`.
    gc.disable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the loop takes the signal: Ctrl-C while modules are imported is no error of theirs.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = compiled.use()
    _import_aiohttp()
    # Not before: what it imports may be compiled.
    from pyetcd import main as program

    program.main(code)


def _import_aiohttp() -> None:
    """Import aiohttp, but for a fifth of what a start takes.

    For clients of https it reads all the authorities that the system trusts. Few members ever ask
    somebody who has his certificate from one; they take `pyetcd.tls.system_context`.
    """
    load = ssl.SSLContext.load_default_certs
    ssl.SSLContext.load_default_certs = lambda *_: None  # type: ignore[method-assign]
    try:
        import aiohttp  # noqa: F401
    finally:
        ssl.SSLContext.load_default_certs = load  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
