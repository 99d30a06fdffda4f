"""Could these answers have been given one after another? (Wing and Gong; Lowe; Porcupine.)

A history is one register's operations, each from when it was asked to when it was answered. It is
linearizable if each operation can be put at one moment between the two, so that a single register
that does them in that order gives these very answers. An operation without an answer may have
happened at any moment after it was asked, or never.

The search takes operations in turn, each only if no other was over before it began, and remembers
every set of operations done together with the value left, so that none is tried twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from raft.sim.errors import Unsafe

K = TypeVar("K")

READ: Final = 0
PUT: Final = 1
SWAP: Final = 2

NEVER: Final = 1 << 62


@dataclass(slots=True)
class Operation:
    """One operation on one register."""

    kind: int
    # Moments of one clock; `answered` is NEVER for one whose fate is unknown.
    asked: int
    answered: int = NEVER
    # What a READ or a SWAP found; None when there was no answer, and for PUT.
    found: int | None = None
    # What PUT and SWAP leave.
    value: int = 0
    # What SWAP must find in order to change anything.
    expected: int = 0


class Undecided(Exception):
    """The history is too long and too wild for the search."""


def is_linearizable(history: list[Operation], initial: int = 0, budget: int = 500_000) -> bool:
    """Search for an order that explains every answer. Raises Undecided beyond `budget` steps."""
    operations = _without_unseen(history)
    operations.sort(key=lambda operation: operation.asked)
    count = len(operations)
    answered_count = sum(operation.answered != NEVER for operation in operations)
    # The first operation not done yet, those done after it, the value, how many were answered.
    state = (0, 0, initial, 0)
    stack = [state]
    tried = {state[:3]}
    while stack:
        first, done, value, answered = stack.pop()
        if answered == answered_count:
            return True
        budget -= 1
        if budget == 0:
            raise Undecided(f"{count} operations")
        # Whatever was answered first must have happened by then: nothing asked later may go first.
        latest = NEVER
        for i in range(first, count):
            operation = operations[i]
            if operation.asked > latest:
                break
            if not done >> (i - first) & 1:
                latest = min(latest, operation.answered)
        candidates = []
        for i in range(first, count):
            operation = operations[i]
            if operation.asked > latest:
                break
            if not done >> (i - first) & 1:
                candidates.append(i)
        # The one asked first is tried first.
        for i in reversed(candidates):
            operation = operations[i]
            after = _result(operation, value)
            if after is None:
                continue
            following, mask = first, done | 1 << (i - first)
            while mask & 1:
                following += 1
                mask >>= 1
            key = (following, mask, after)
            if key not in tried:
                tried.add(key)
                stack.append((*key, answered + (operation.answered != NEVER)))
    return False


def require_linearizable(
    histories: Mapping[K, list[Operation]], on_undecided: Callable[[], None]
) -> None:
    """Check the history of every register. Raises Unsafe."""
    for key, history in histories.items():
        try:
            if not is_linearizable(history):
                raise Unsafe(f"the history of register {key} is not linearizable")
        except Undecided:
            on_undecided()


def _result(operation: Operation, value: int) -> int | None:
    """Return the value that the operation leaves; None if it would have been answered otherwise."""
    if operation.found is not None and operation.found != value:
        return None
    if operation.kind == PUT:
        return operation.value
    if operation.kind == SWAP and value == operation.expected:
        return operation.value
    return value


def _without_unseen(history: list[Operation]) -> list[Operation]:
    """Leave out operations of unknown fate whose value nobody has found: they need not be tried.

    If one of them happened, whatever changed the register next did not look at its value: without
    it, no answer is any different. (Values are unique.)
    """
    found = {operation.found for operation in history if operation.found is not None}
    kept = [operation for operation in history if operation.answered != NEVER]
    unknown = [
        operation for operation in history if operation.answered == NEVER and operation.kind != READ
    ]
    while seen := [operation for operation in unknown if operation.value in found]:
        unknown = [operation for operation in unknown if operation.value not in found]
        kept += seen
        # A swap that took place has found what it expected.
        found |= {operation.expected for operation in seen if operation.kind == SWAP}
    return kept
