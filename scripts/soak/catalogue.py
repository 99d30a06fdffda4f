"""All faults, and which of them a round has."""

import random
from collections.abc import Iterator
from typing import Final

from scripts.soak import crowds, disks, kills, memberships, partitions
from scripts.soak.faults import Fault

FAULTS: Final = (
    *kills.FAULTS,
    *partitions.FAULTS,
    *disks.FAULTS,
    *memberships.FAULTS,
    *crowds.FAULTS,
)
# What a short run has, which is a part of the tests: of each kind the most dangerous.
SHORT: Final = (
    "kill the leader",
    "pause the leader for 3 s",
    "leader sees half",
    "power loss of all",
    "EIO on a flush",
    "flipped bit",
    "old copy of a data directory",
    "remove the leader",
    "2,000 vanishing watchers",
)
MIXED_AT_ONCE: Final = 3


def by_name(name: str) -> Fault:
    """Return one fault. Raises KeyError."""
    faults: dict[str, Fault] = {fault.name: fault for fault in FAULTS}
    return faults[name]


def draw(seed: int) -> Iterator[list[Fault]]:
    """Yield the faults of each round: every fault once in some order, some at once in between."""
    rng = random.Random(seed)
    mixing = [fault for fault in FAULTS if fault.mixes]
    while True:
        for fault in rng.sample(FAULTS, len(FAULTS)):
            yield [fault]
            if rng.random() < 0.3:
                yield rng.sample(mixing, rng.randint(2, MIXED_AT_ONCE))


def short(seed: int) -> list[list[Fault]]:
    """Return the rounds of a short run: one of each, and some at once."""
    rng = random.Random(seed)
    mixing = [fault for fault in FAULTS if fault.mixes]
    rounds = [[by_name(name)] for name in SHORT]
    rng.shuffle(rounds)
    return [*rounds, rng.sample(mixing, 2)]
