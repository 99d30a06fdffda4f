"""Vigil: for how long an event loop stays awake while an entry is under way.

What is proposed waits for disks and for messages of peers. To sleep for it, and to be woken, takes
as long as the disk and the network do where these are near, and several times as long in a virtual
machine. So the loop polls for a moment where it would sleep, if the entry before took no longer.
Where more than a few are under way, the loop hardly ever sleeps, and leaves others the time. Pure
bookkeeping: the owner lets the turns pass, and gives way in each to whoever else wants to run.
"""

from typing import Final

# Longer than a leader and its followers take, with a disk and a network that are near.
SECONDS: Final = 0.0005
# Of one client, or two.
FEW: Final = 2


class Vigil:
    """The watch for the commitment of an entry.

    Invariants:
      1. `_awaited` is the index of an entry that was not committed when it was looked at last,
         `_since` when it was looked at first; 0 if there is none.
    """

    __slots__ = ("_awaited", "_is_prompt", "_since")

    def __init__(self) -> None:
        """Begin with hope."""
        self._awaited = 0
        self._since = 0.0
        # Whether the last one that was awaited took no longer than SECONDS.
        self._is_prompt = True

    def goes_on(self, now: float, last_index: int, commit_index: int) -> bool:
        """Whether to let the next turn pass without sleep, now that the log stands so."""
        if self._awaited and commit_index >= self._awaited:
            self._is_prompt = now - self._since < SECONDS
            self._awaited = 0
        if last_index <= commit_index:
            return False
        if not self._awaited:
            self._awaited, self._since = last_index, now
        if last_index - commit_index > FEW:
            return False
        return self._is_prompt and now - self._since < SECONDS


__all__ = ["FEW", "SECONDS", "Vigil"]
