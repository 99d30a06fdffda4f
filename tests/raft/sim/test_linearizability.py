"""The search for an order: histories that have one, and histories that have none."""

import itertools
import random

import pytest

from raft.sim.linearizability import (
    NEVER,
    PUT,
    READ,
    SWAP,
    Operation,
    Undecided,
    is_linearizable,
)


def put(asked: int, answered: int, value: int) -> Operation:
    return Operation(PUT, asked, answered, value=value)


def read(asked: int, answered: int, found: int) -> Operation:
    return Operation(READ, asked, answered, found=found)


def swap(asked: int, answered: int, expected: int, value: int, found: int | None) -> Operation:
    return Operation(SWAP, asked, answered, found, value, expected)


def test_reads_in_order_are_linearizable() -> None:
    """One after another."""
    assert is_linearizable([put(1, 2, 7), read(3, 4, 7), put(5, 6, 8), read(7, 8, 8)])


def test_stale_read_is_not_linearizable() -> None:
    """A read must see what was answered before it was asked."""
    assert not is_linearizable([put(1, 2, 7), put(3, 4, 8), read(5, 6, 7)])


def test_read_during_a_put_may_see_either() -> None:
    """What overlaps has no order of its own."""
    for found in (0, 7):
        assert is_linearizable([put(1, 5, 7), read(2, 3, found)])


def test_two_reads_during_a_put_do_not_go_back() -> None:
    """Once the new value was seen, the old one is gone."""
    assert not is_linearizable([put(1, 9, 7), read(2, 3, 7), read(4, 5, 0)])


def test_put_without_an_answer_may_happen_late() -> None:
    """Whoever hears nothing knows nothing."""
    assert is_linearizable([put(1, NEVER, 7), read(2, 3, 0), read(4, 5, 7)])


def test_put_without_an_answer_happens_once() -> None:
    """It does not come back after it was overwritten."""
    history = [put(1, NEVER, 7), read(2, 3, 7), put(4, 5, 8), read(6, 7, 8), read(8, 9, 7)]
    assert not is_linearizable(history)


def test_swap_that_found_what_it_expected_has_changed_the_register() -> None:
    """A swap that succeeded is a put."""
    assert is_linearizable([put(1, 2, 7), swap(3, 4, 7, 8, 7), read(5, 6, 8)])
    assert not is_linearizable([put(1, 2, 7), swap(3, 4, 7, 8, 7), read(5, 6, 7)])


def test_swaps_without_answers_may_rest_on_one_another() -> None:
    """The value of the last was seen, so that all of them took place."""
    history = [put(1, 2, 1), *(swap(i, NEVER, i, i + 1, None) for i in (1, 2, 3))]
    assert is_linearizable([*history, read(9, 10, 4)])
    assert not is_linearizable([*history[:-1], read(9, 10, 4)])


def test_search_beyond_its_budget_is_undecided() -> None:
    """The search gives up rather than taking for ever."""
    history = [put(1, 100, value) for value in range(1, 12)]
    history += [read(101, 102, 99)]
    with pytest.raises(Undecided):
        is_linearizable(history, budget=100)


@pytest.mark.parametrize("seed", range(200))
def test_search_agrees_with_trying_all_orders(seed: int) -> None:
    """Against a second, dumb implementation."""
    rng = random.Random(seed)
    history = []
    for value in range(1, 6):
        asked = rng.randrange(20)
        answered = NEVER if rng.random() < 0.3 else asked + rng.randrange(1, 12)
        kind = rng.choice((PUT, READ, SWAP))
        found = rng.randrange(4) if kind != PUT and answered != NEVER else None
        history.append(Operation(kind, asked, answered, found, value, rng.randrange(3)))
    assert is_linearizable(list(history)) == any_order_explains(history)


def any_order_explains(history: list[Operation]) -> bool:
    answered = [it for it in history if it.answered != NEVER]
    unknown = [it for it in history if it.answered == NEVER]
    for count in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, count):
            for order in itertools.permutations([*answered, *happened]):
                if explains(order):
                    return True
    return False


def explains(order: tuple[Operation, ...]) -> bool:
    value = 0
    for i, operation in enumerate(order):
        if any(later.answered < operation.asked for later in order[i + 1 :]):
            return False
        if operation.found is not None and operation.found != value:
            return False
        if operation.kind == PUT or (operation.kind == SWAP and value == operation.expected):
            value = operation.value
    return True
