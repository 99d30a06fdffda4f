"""The event loop of one simulated process: what the server asks of asyncio, in virtual time.

Only timers and callbacks: no task, no socket, no thread. What is left out raises
NotImplementedError, as asyncio's own class has it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from math import ceil
from typing import TypeVarTuple

from raft.sim import SECOND, Process, World

Ts = TypeVarTuple("Ts")


class ProcessLoop(asyncio.AbstractEventLoop):
    """Timers that fire while the process runs, late if it stands still, and die with it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def time(self) -> float:
        """Seconds, as every process counts them: a clock that nobody sets."""
        return 1.0 + self._world.clock.now / SECOND

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)

        def fire() -> None:
            if not handle.cancelled():
                callback(*args)

        # Rounded up: a timer that fires early would be set again and again.
        self._process.later(max(ceil(delay * SECOND), 0), fire)
        return handle

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """See asyncio."""
        return self.call_later(0, callback, *args, context=context)

    def get_debug(self) -> bool:
        """See asyncio, whose handles ask."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is noticed when its time comes."""


@contextmanager
def running(loop: ProcessLoop) -> Iterator[None]:
    """Have `asyncio.get_running_loop()` return this loop for a while."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)
