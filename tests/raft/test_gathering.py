"""Proves that proposals wait for others while they come, and never for nobody."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from raft.gathering import MAX_TURNS, Gathering


def turns(gathering: Gathering, arrivals: Sequence[int]) -> tuple[int, int]:
    """Let so many arrive in each turn; return how many the batch has, and how long it waits."""
    count = 0
    for turn, number in enumerate((*arrivals, *[0] * MAX_TURNS)):
        for _ in range(number):
            gathering.add()
        count += number
        if not gathering.wait():
            return count, turn
    raise AssertionError("it waits for ever")


def test_lone_proposal_does_not_wait():
    """Nor does the next one."""
    gathering = Gathering()
    for _ in range(3):
        assert turns(gathering, [1]) == (1, 0)
    assert turns(gathering, []) == (0, 0)
    assert turns(gathering, [1]) == (1, 0)


def test_batch_goes_on_while_proposals_come():
    """And ends with the first turn that brings none."""
    gathering = Gathering()
    assert turns(gathering, [2, 1, 3, 0, 9]) == (6, 3)
    assert turns(gathering, [5]) == (5, 1)


def test_batch_does_not_wait_without_end():
    """However many there are."""
    gathering = Gathering()
    assert turns(gathering, [1, 1, 1]) == (1, 0)
    assert turns(gathering, [2] * 100) == (2 * MAX_TURNS + 2, MAX_TURNS)


def test_one_after_many_may_be_the_first_of_many():
    """It waits for a turn; if nobody comes, the next one does not."""
    gathering = Gathering()
    turns(gathering, [2])
    assert turns(gathering, [1, 4]) == (5, 2)
    assert turns(gathering, []) == (0, 0)
    assert turns(gathering, [1]) == (1, 1)
    assert turns(gathering, [1]) == (1, 0)


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=6))
def test_no_batch_waits_longer_than_it_may(batches: list[list[int]]):
    """Or leaves anything behind that the next one would count."""
    gathering = Gathering()
    for arrivals in batches:
        count, waited = turns(gathering, arrivals)
        assert waited <= MAX_TURNS
        assert count == sum(arrivals[: waited + 1])
        assert waited == 0 or count > 0
