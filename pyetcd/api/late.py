"""Handlers whose module is loaded when they are first asked.

For pages that need a large library: a member is there sooner, and perhaps nobody ever asks.
"""

import asyncio
import logging
from collections.abc import Callable

from pyetcd.httpd import Handler, Request, error

log = logging.getLogger(__name__)


class LateHandler:
    """Loads a module in a thread; whoever asks meanwhile is answered after it.

    Invariants:
      1. `_waiting` is None when nothing is being loaded.
    """

    def __init__(self, load: Callable[[], Handler]) -> None:
        """`load` imports, and returns the handler; it is called in a thread."""
        self._load = load
        self._handler: Handler | None = None
        self._waiting: list[Request] | None = None

    def __call__(self, request: Request) -> None:
        """Answer, now or later."""
        if self._handler is not None:
            self._handler(request)
        elif self._waiting is not None:
            self._waiting.append(request)
        else:
            self._waiting = [request]
            loading = asyncio.get_running_loop().run_in_executor(None, self._load)
            loading.add_done_callback(self._loaded)

    def _loaded(self, loading: asyncio.Future[Handler]) -> None:
        waiting, self._waiting = self._waiting or [], None
        try:
            self._handler = loading.result()
        except ImportError as failure:
            # No reason for a member to end; who asks again has it tried again.
            log.error("a page cannot be shown: %s", failure)
            for request in waiting:
                error(request, 500, b"Internal Server Error")
            return
        for request in waiting:
            self._handler(request)


__all__ = ["LateHandler"]
