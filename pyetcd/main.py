"""The program: flags to a running member, proxy or discovery service, signals, and the end.

SIGTERM and SIGINT end it in order: a member hands the leadership over, answers what was begun,
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
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import uvloop

from pyetcd import logs
from pyetcd.api import cors
from pyetcd.bootstrap import BootstrapError, ClusterFull, Use, used_as
from pyetcd.config import Config, ConfigError, ShowAndExit, parse
from pyetcd.httpd import ListenError
from pyetcd.member import Member
from pyetcd.tls import TlsError
from pyetcd.version import ETCD_VERSION, VERSION
from raft import RaftError

if TYPE_CHECKING:
    # Loaded by who runs one: a member need not wait for it, nor for a proxy.
    from pyetcd.discovery_service import Options

log = logging.getLogger(__name__)

# A thread that comes back from the disk waits so long for the interpreter at most, while the loop
# is busy; the interpreter's own 5 ms would be many times what the disk takes.
SWITCH_SECONDS: Final = 0.0005
# Objects of requests die young; what survives is the store, which has no cycles. Old objects are
# looked at so seldom that the store's size does not matter. Not fewer at a time: what connections
# leave behind would be old before it is looked at, and stay for long.
GC_THRESHOLDS: Final = (20_000, 50, 10_000)

# What a start may end with: each has one line that says what is wrong.
STARTUP_ERRORS: Final = (
    BootstrapError,
    ListenError,
    TlsError,
    RaftError,
    OSError,
)


def main(code: str = "the sources") -> None:
    """Run pyetcd with this process's arguments and environment.

    `code` tells what runs, for the log: see `pyetcd.compiled`.
    """
    if sys.flags.optimize:
        sys.exit("pyetcd: python -O removes the checks that guard your data; run it without -O")
    if sys.argv[1:2] == ["discovery"]:
        sys.exit(_main_of_discovery(sys.argv[2:]))
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
    log.info("Python Version: %s, running %s", sys.version.split()[0], code)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
    sys.exit(uvloop.run(run(partial(start, config))))


def _main_of_discovery(argv: list[str]) -> int:
    # Loaded by nobody else: a member need not wait for it.
    import click

    from pyetcd.discovery_service import read_options

    try:
        options = read_options(argv)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    if options is None:
        return 0
    logs.setup(debug=False, package_levels={})
    return uvloop.run(run(partial(start_discovery, options)))


class Running(Protocol):
    """What can be stopped in order."""

    async def stop(self) -> None:
        """Answer what was begun, and close everything."""


async def start(config: Config, on_end: Callable[[], None]) -> Running:
    """Start a member or a proxy: by what the data directory was used for, or else by the flags.

    `on_end` is called when it has reason to end by itself. Raises one of STARTUP_ERRORS.
    """
    use = used_as(config.data_dir)
    if use is not Use.NONE:
        log.log(
            logs.NOTICE,
            "the server is already initialized as %s before, starting as etcd %s...",
            use.value,
            use.value,
        )
    if use is Use.MEMBER or (use is Use.NONE and not config.proxy.enabled):
        try:
            return await Member.start(config, die=die, on_removed=on_end)
        except ClusterFull:
            if use is Use.MEMBER or not config.falls_back_to_proxy:
                raise
        log.log(logs.NOTICE, "discovery cluster full, falling back to proxy")
    from pyetcd.proxy import Proxy

    return await Proxy.start(config, die=die, adorn=lambda handler: cors.wrap(handler, config.cors))


async def start_discovery(options: "Options", on_end: Callable[[], None]) -> Running:
    """Start a discovery service, and its store if none is named. Raises as `start` does."""
    from pyetcd.discovery_service import DiscoveryService, free_port, store_flags

    if options.etcd:
        return await DiscoveryService.start(options, options.etcd, die=die)
    port = free_port()
    store = await Member.start(parse(store_flags(options, port), {}), die=die, on_removed=on_end)
    try:
        service = await DiscoveryService.start(options, f"http://127.0.0.1:{port}", die=die)
    except BaseException:
        await store.stop()
        raise
    return _Both(service, store)


class _Both:
    """A discovery service and its store."""

    def __init__(self, service: Running, store: Running) -> None:
        self._service = service
        self._store = store

    async def stop(self) -> None:
        """Stop the service first: it asks the store."""
        await self._service.stop()
        await self._store.stop()


async def run(start_one: Callable[[Callable[[], None]], Awaitable[Running]]) -> int:
    """Run what is started until it is told to stop; return the exit status."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_exception)
    ended = asyncio.Event()
    starting = asyncio.ensure_future(start_one(ended.set))

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
        running = await starting
    except asyncio.CancelledError:
        return 0
    except STARTUP_ERRORS as error:
        log.critical("%s", error)
        return 1
    # What was loaded stays: nothing that frees memory needs to look at it again. Until here there
    # was no collector at all: it would have gone over every module, again and again.
    gc.collect()
    gc.freeze()
    gc.enable()
    await ended.wait()
    await running.stop()
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
