"""Proves that rounds are drawn from the seed alone, and that a run comes round to every fault."""

import itertools

from scripts.soak import catalogue


def names(seed: int, count: int) -> list[list[str]]:
    """The faults of the first rounds."""
    rounds = itertools.islice(catalogue.draw(seed), count)
    return [[fault.name for fault in faults] for faults in rounds]


def test_rounds_come_from_the_seed() -> None:
    """The same again, and others for another one."""
    assert names(1, 50) == names(1, 50)
    assert names(1, 50) != names(2, 50)


def test_every_fault_has_its_turn_alone_and_some_at_once() -> None:
    """Only those are mixed that do not stand in each other's way."""
    rounds = names(1, 2 * len(catalogue.FAULTS))
    alone = {faults[0] for faults in rounds if len(faults) == 1}
    assert alone == {fault.name for fault in catalogue.FAULTS}
    mixed = {name for faults in rounds if len(faults) > 1 for name in faults}
    assert mixed
    assert all(catalogue.by_name(name).mixes for name in mixed)


def test_short_run_has_each_of_its_faults_once() -> None:
    """In an order of the seed's, and none that takes long."""
    rounds = catalogue.short(3)
    alone = [faults[0] for faults in rounds if len(faults) == 1]
    assert sorted(fault.name for fault in alone) == sorted(catalogue.SHORT)
    assert not any(fault.long for fault in alone)
    assert catalogue.short(3) == rounds != catalogue.short(4)


def test_names_are_unique() -> None:
    """They are what a round is repeated by."""
    assert len({fault.name for fault in catalogue.FAULTS}) == len(catalogue.FAULTS)
