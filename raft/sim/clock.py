"""Virtual time: what is to happen when. Nothing here waits; time jumps from event to event."""

import heapq
from collections.abc import Callable

Action = Callable[[], None]

SECOND = 1_000_000
MILLISECOND = 1_000


class Clock:
    """A queue of things to do, in the order of their time, then of their asking.

    Invariants:
      1. `now` never goes back.
    """

    __slots__ = ("_count", "_queue", "now")

    def __init__(self) -> None:
        # Microseconds since the beginning.
        self.now = 0
        self._count = 0
        self._queue: list[tuple[int, int, Action]] = []

    def after(self, delay: int, action: Action) -> None:
        """Do `action` when `delay` microseconds have passed."""
        assert delay >= 0, f"{delay} microseconds from now"
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, action))

    def run_until(self, time: int) -> None:
        """Do everything that is due up to `time`, and let it be `time` then."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= time:
            self.now, _, action = pop(queue)
            action()
        self.now = max(self.now, time)
