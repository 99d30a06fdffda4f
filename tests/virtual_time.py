"""An event loop whose clock jumps: hours of timers pass in a moment, the same each time.

    @virtual
    async def test_x(): ...

For code that only waits for timers and callbacks. There are no threads and no sockets in it:
when nothing is ready and no timer is set, nothing will ever happen, and that is an error.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import ParamSpec

P = ParamSpec("P")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is the sum of all that it would have waited for."""

    def __init__(self) -> None:
        self._now = 1_000.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass in which nothing is due."""
        self._now += seconds


class _Jump(selectors.SelectSelector):
    """Does not wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._virtual = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self._virtual.jump(timeout)
        return ready


def virtual(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Make a test of a coroutine function, which runs in a virtual loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner, no_loose_errors(runner.get_loop()):
            runner.run(test(*args, **kwargs))

    return run


@contextmanager
def no_loose_errors(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Fail when a callback has raised, of which a loop only makes a line in the log."""
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    yield
    assert errors == [], errors
