"""Proves that the loop stays awake for entries that are committed soon, and for nothing else."""

from raft.vigil import FEW, SECONDS, Vigil

LONG = SECONDS * 1.5
SHORT = SECONDS * 0.5


def awaited(vigil: Vigil, raft_index: int, seconds: float) -> bool:
    """Whether the loop stays awake for the only entry under way, which takes so long."""
    now = float(raft_index)
    begun = vigil.goes_on(now, raft_index, raft_index - 1)
    assert not vigil.goes_on(now + seconds, raft_index, raft_index)
    return begun


def test_vigil_lasts_until_the_entry_is_committed() -> None:
    """Nothing is waited for where nothing is under way; what comes later is waited for anew."""
    vigil = Vigil()
    assert not vigil.goes_on(5.0, 7, 7)
    assert vigil.goes_on(6.0, 8, 7)
    assert vigil.goes_on(6.0 + SHORT, 9, 7)
    assert vigil.goes_on(6.0 + SHORT, 9, 8)
    assert vigil.goes_on(6.0 + LONG * 0.99, 9, 8), "the second one came by then"
    assert not vigil.goes_on(7.0, 9, 9)


def test_no_vigil_is_held_after_an_entry_that_took_long() -> None:
    """Until one was quick."""
    vigil = Vigil()
    assert vigil.goes_on(1.0, 1, 0)
    assert not vigil.goes_on(1.0 + LONG, 1, 0), "in vain"
    assert not vigil.goes_on(1.0 + LONG, 1, 1)
    assert not awaited(vigil, 2, LONG)
    assert not awaited(vigil, 3, SHORT)
    assert awaited(vigil, 4, SHORT)


def test_entry_that_is_replaced_is_not_awaited_for_ever() -> None:
    """By that of another leader: its index is committed some day."""
    vigil = Vigil()
    assert vigil.goes_on(1.0, 9, 7)
    assert not vigil.goes_on(1.0 + LONG, 8, 7)
    assert not vigil.goes_on(2.0, 8, 8)
    assert not awaited(vigil, 10, SHORT)
    assert awaited(vigil, 11, SHORT)


def test_no_vigil_is_held_where_many_propose() -> None:
    """Nor does it spoil the next one that they have."""
    vigil = Vigil()
    assert not vigil.goes_on(1.0, FEW + 1, 0)
    assert vigil.goes_on(1.0 + SHORT, FEW + 1, 1)
    assert not vigil.goes_on(1.0 + SHORT, FEW + 1, FEW + 1)
    assert awaited(vigil, 2 * FEW, SHORT)
