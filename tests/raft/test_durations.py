"""Durations: what is counted where."""

import math

from raft import BOUNDS, Durations


def test_durations_count_each_between_its_bounds() -> None:
    """A bound belongs to what it bounds; what is longer than all has a place of its own."""
    durations = Durations()
    for seconds in (0.0, BOUNDS[0], math.nextafter(BOUNDS[0], 1), BOUNDS[-1], 1000.0):
        durations.add(seconds)
    assert durations.counts[:3] == [2, 1, 0]
    assert durations.counts[-3:] == [0, 1, 1]
    assert sum(durations.counts) == 5
    assert durations.total_seconds == sum((0.0, 2 * BOUNDS[0], BOUNDS[-1], 1000.0))


def test_bounds_rise_from_a_millisecond() -> None:
    """Those of etcd, whose dashboards have them written in."""
    assert (BOUNDS[0], BOUNDS[1], BOUNDS[-1], len(BOUNDS)) == (0.001, 0.002, 8.192, 14)
