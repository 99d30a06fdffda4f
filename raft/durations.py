"""Durations: how long something took, as a histogram that costs a few additions a time.

Knows no clock: whoever measures adds what came out. One thread adds; any other may read, and sees
at worst a measurement that is counted and not yet summed up.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

# Upper bounds in seconds, from one millisecond to eight seconds: what disks need.
BOUNDS: Final = tuple(0.001 * 2**step for step in range(14))


class Durations:
    """A histogram of durations.

    Invariants:
      1. `counts[i]` is how many lasted at most `BOUNDS[i]` and longer than the bound before it;
         the last one, behind all bounds, how many lasted longer than all.
    """

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one measurement."""
        # Most are quick, and this is in the way of each write.
        self.counts[bisect_left(BOUNDS, seconds) if seconds > BOUNDS[0] else 0] += 1
        self.total_seconds += seconds


@dataclass(slots=True)
class DiskDurations:
    """How long the disk has taken; for whoever wants to know."""

    # Writes to the log, each until it is durable.
    writes: Durations = field(default_factory=Durations)
    # Snapshots, and what of that was spent on encoding them.
    snapshots: Durations = field(default_factory=Durations)
    encodings: Durations = field(default_factory=Durations)


__all__ = ["BOUNDS", "DiskDurations", "Durations"]
