"""The program: flags to a running member, signals, and the end.

SIGTERM and SIGINT end the member in order: it hands the leadership over, answers what was begun,
and its data are ready for the next start. A second signal ends it at once, which loses nothing
either. A bug or a failing disk ends it by `die`: what went wrong is in the log, and what is on the
disk is as good as after a crash.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Final, NoReturn

import uvloop

from pyetcd import logs
from pyetcd.bootstrap import BootstrapError
from pyetcd.config import Config, ConfigError, ShowAndExit, parse
from pyetcd.httpd import ListenError
from pyetcd.member import Member
from pyetcd.version import ETCD_VERSION, VERSION
from raft import RaftError

log = logging.getLogger(__name__)

# A thread that comes back from the disk waits so long for the interpreter at most, while the loop
# is busy; the interpreter's own 5 ms would be many times what the disk takes.
SWITCH_SECONDS: Final = 0.0005
# Objects of requests die young; what survives is the store, which has no cycles. Old objects are
# looked at so seldom that the store's size does not matter.
GC_THRESHOLDS: Final = (20_000, 50, 10_000)


def main() -> None:
    """Run pyetcd with this process's arguments and environment."""
    if sys.flags.optimize:
        sys.exit("pyetcd: python -O removes the checks that guard your data; run it without -O")
    try:
        config = parse(sys.argv[1:], os.environ)
    except ShowAndExit as shown:
        print(shown.text)  # noqa: T201  (asked for by the user)
        return
    except ConfigError as error:
        print(f"pyetcd: {error}", file=sys.stderr)  # noqa: T201  (there is no log yet)
        sys.exit(error.exit_status)
    logs.setup(debug=config.debug, package_levels=config.log_package_levels)
    for note in config.notes:
        logging.getLogger(note.logger).log(note.level, "%s", note.text)
    log.info("etcd Version: %s (pyetcd %s)", ETCD_VERSION, VERSION)
    log.info("Python Version: %s", sys.version.split()[0])
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.exit(uvloop.run(run(config)))


async def run(config: Config) -> int:
    """Run a member until it is told to stop; return the exit status."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_exception)
    ended = asyncio.Event()
    starting = asyncio.ensure_future(Member.start(config, die=die, on_removed=ended.set))

    def stop(signum: int) -> None:
        log.log(logs.NOTICE, "received %s signal, shutting down...", signal.strsignal(signum))
        for again in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(again)
            signal.signal(again, signal.SIG_DFL)
        starting.cancel()
        ended.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop, signum)
    try:
        member = await starting
    except asyncio.CancelledError:
        return 0
    except (BootstrapError, ListenError, RaftError, OSError) as error:
        log.critical("%s", error)
        return 1
    # What was loaded stays: nothing that frees memory needs to look at it again.
    gc.collect()
    gc.freeze()
    await ended.wait()
    await member.stop()
    return 0


def die(error: BaseException) -> NoReturn:
    """End the process: its state may be wrong, and must not be served any more."""
    log.critical("pyetcd must stop: %s", error, exc_info=error)
    os._exit(1)


def _on_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException) and not isinstance(error, OSError):
        die(error)
    log.warning("%s: %s", context.get("message"), error)


if __name__ == "__main__":
    main()
