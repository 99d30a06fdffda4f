"""Gathering: for how many turns of an event loop proposals wait for more of them.

A batch costs a write, and among several servers a round of messages, however small it is. Where
many propose side by side, the next ones are there a turn or two later. Pure bookkeeping: the owner
lets the turns pass.
"""

from typing import Final

# Turns are short: while they bring proposals, few of them make batches several times as large.
MAX_TURNS: Final = 5


class Gathering:
    """The proposals of one batch, from the first one on.

    Invariants:
      1. A batch waits for MAX_TURNS turns at most, and for none if its only proposal follows a
         batch of one: who proposes alone would wait for nobody.
    """

    __slots__ = ("_count", "_last_count", "_seen", "_turns")

    def __init__(self) -> None:
        """Begin without proposals."""
        self._count = 0
        # In the batch before.
        self._last_count = 0
        # How many there were in the turn before, and the turns that this batch has waited.
        self._seen = 0
        self._turns = 0

    def add(self) -> None:
        """Count one proposal."""
        self._count += 1

    def wait(self) -> bool:
        """Whether to let one more turn pass; to be asked in each, until it is False."""
        count = self._count
        if self._turns:
            has_come = count > self._seen
        else:
            has_come = count > 1 or (count == 1 and self._last_count > 1)
        if has_come and self._turns < MAX_TURNS:
            self._seen = count
            self._turns += 1
            return True
        if count:
            self._last_count = count
        self._count = self._seen = self._turns = 0
        return False
