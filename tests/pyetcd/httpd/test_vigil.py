"""Proves that the loop stays awake for a lone client that comes back, and for no other."""

from itertools import pairwise

from pyetcd.httpd.vigil import MAX_MISSES, SECONDS, Vigil


def lone_client(vigil: Vigil, now: float, pause: float) -> tuple[float, int]:
    """Answer, then let turns of 10 µs pass for so long; return the time, and the turns awake."""
    awake = int(vigil.answered(now))
    end = now + pause
    is_awake = awake > 0
    while now < end:
        now += 0.00001
        is_awake = is_awake and vigil.goes_on(now)
        awake += is_awake
    return now, awake


def test_client_that_comes_back_at_once_finds_the_loop_awake() -> None:
    """Each answer prolongs the vigil that the first one has begun."""
    vigil = Vigil()
    now = 5.0
    assert vigil.answered(now)
    for _ in range(100):
        for _ in range(8):
            now += SECONDS / 10
            assert vigil.goes_on(now)
        assert not vigil.answered(now)
    assert vigil.goes_on(now + SECONDS * 0.99)
    assert not vigil.goes_on(now + SECONDS * 1.01)


def test_vigils_in_vain_become_rare() -> None:
    """With each one twice as rare, up to one for 1,024 answers."""
    vigil = Vigil()
    now = 0.0
    held = []
    for number in range(6000):
        now, awake = lone_client(vigil, now, 2 * SECONDS)
        if awake:
            held.append(number)
    gaps = [after - before for before, after in pairwise(held)]
    assert gaps[:MAX_MISSES] == [2**n for n in range(1, MAX_MISSES + 1)]
    assert set(gaps[MAX_MISSES:]) == {2**MAX_MISSES}


def test_vigil_that_was_not_in_vain_brings_back_hope() -> None:
    """The next one is held after the next answer but one."""
    vigil = Vigil()
    now = 0.0
    for _ in range(2 + 4 + 1):
        now, awake = lone_client(vigil, now, 2 * SECONDS)
    assert awake
    for _ in range(7):
        now, awake = lone_client(vigil, now, SECONDS / 2)
        assert not awake
    now, awake = lone_client(vigil, now, SECONDS / 2)
    assert awake
    assert not vigil.answered(now)
    now += 2 * SECONDS
    assert vigil.goes_on(now - 1.5 * SECONDS)
    assert not vigil.goes_on(now)
    assert lone_client(vigil, now, 0)[1] == 0
    assert lone_client(vigil, now, 0)[1] == 1


def test_no_vigil_is_held_where_many_ask() -> None:
    """Several answers in one turn end it, and the next is tried after many of them."""
    vigil = Vigil()
    assert vigil.answered(0.0)
    vigil.answered(0.0)
    vigil.answered(0.0)
    assert not vigil.goes_on(0.0)
    assert [vigil.answered(0.0) for _ in range(2**MAX_MISSES)].index(True) == 2**MAX_MISSES - 1
