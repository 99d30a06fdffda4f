"""Vigil: for how long an event loop stays awake after an answer, for a client that asks again.

To sleep, and to be woken by a client on another processor, takes both of them longer than a GET
does; in a virtual machine several times as long. So the loop polls for a moment where it would
sleep, if this has been worth it lately: the client is alone, and comes back that soon. Pure
bookkeeping: the owner lets the turns pass, and gives way in each to whoever else wants to run.
"""

from typing import Final

# As long as it takes a client, to be woken by its answer and to ask again.
SECONDS: Final = 0.0001
# After so many vigils in vain one is held after each 1,024th answer only.
MAX_MISSES: Final = 10


class Vigil:
    """The watch for the request that follows an answer.

    Invariants:
      1. No vigil is longer than SECONDS after the last answer.
      2. After n vigils in vain the next one is held after 2**n answers, n being MAX_MISSES at most,
         and at once after several answers in one turn: where many ask, the loop hardly ever sleeps.
    """

    __slots__ = ("_count", "_is_held", "_misses", "_skipped", "_until")

    def __init__(self) -> None:
        """Begin with hope."""
        self._is_held = False
        # When it is in vain, by the owner's clock.
        self._until = 0.0
        # Answers in this turn.
        self._count = 0
        # How often it was in vain since a client came, and how many answers none will follow.
        self._misses = 0
        self._skipped = 0

    def answered(self, now: float) -> bool:
        """Note an answer; whether a vigil begins."""
        if self._is_held:
            self._count += 1
            self._misses = 0
        elif self._skipped > 0:
            self._skipped -= 1
            return False
        self._until = now + SECONDS
        begins = not self._is_held
        self._is_held = True
        return begins

    def goes_on(self, now: float) -> bool:
        """Whether to let one more turn pass without sleep; to be asked in each, until False."""
        count, self._count = self._count, 0
        if count > 1:
            self._misses = MAX_MISSES
        elif now < self._until:
            return True
        elif self._misses < MAX_MISSES:
            self._misses += 1
        self._is_held = False
        self._skipped = (1 << self._misses) - 1
        return False
