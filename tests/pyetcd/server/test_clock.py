"""Proves that cluster time lies between the bounds that a member has, whatever is done to walls."""

import random

import pytest

from pyetcd.server.clock import DRIFT, SECOND, SLEW, ClusterClock

HOUR = 3600 * SECOND
EPOCH = 1_453_748_462 * SECOND


class Machine:
    """A wall clock that may be set, a monotonic one, and the cluster's clock made of them."""

    def __init__(self, wrong: int = 0, since_boot: int = 5 * SECOND) -> None:
        self.wrong = wrong
        self.passed = 0
        self.since_boot = since_boot
        self.clock = ClusterClock(self.wall, lambda: self.since_boot + self.passed)

    def wall(self) -> int:
        return EPOCH + self.passed + self.wrong

    def leading(self) -> "Machine":
        self.clock.set(self.wall(), by_walls=True)
        self.clock.lead()
        return self


def pass_time(nanoseconds: int, *machines: Machine) -> None:
    for machine in machines:
        machine.passed += nanoseconds


def test_clock_that_knows_nothing_shows_the_wall_clock():
    """As good as anything."""
    machine = Machine(wrong=HOUR)
    assert machine.clock.now() == machine.wall()
    assert not machine.clock.known
    assert machine.clock.measured_seconds_ago() == float("inf")


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_leaders_wall_clock_may_jump(jump: int):
    """Its time goes on, by at most one part in 2048 slower or faster."""
    machine = Machine().leading()
    begin = machine.clock.now()
    machine.wrong = jump
    for _ in range(100):
        pass_time(SECOND, machine)
        machine.clock.slew()
    gone = machine.clock.now() - begin - 100 * SECOND
    assert abs(gone) <= 100 * SECOND // SLEW
    assert (gone > 0) == (jump > 0)
    assert machine.clock.now() == machine.clock.earliest() == machine.clock.tell()


def test_leaders_clock_comes_to_its_wall_clock_and_stays_there():
    """What users see as an expiration is true in the end."""
    machine = Machine().leading()
    machine.wrong = SECOND // 100
    for _ in range(60):
        pass_time(SECOND, machine)
        machine.clock.slew()
    assert machine.clock.now() == machine.wall()


def test_leader_that_stood_still_does_not_make_up_for_all_of_it():
    """That would be a jump."""
    machine = Machine().leading()
    machine.wrong = HOUR
    pass_time(HOUR, machine)
    machine.clock.slew()
    assert machine.clock.now() - EPOCH - HOUR <= 2 * SECOND // SLEW


def test_set_clock_never_goes_back_behind_what_it_has_heard():
    """A wall clock an hour behind, after all were down."""
    machine = Machine(wrong=-HOUR)
    machine.clock.hear(EPOCH)
    machine.clock.set(machine.wall(), by_walls=True)
    assert machine.clock.earliest() == EPOCH
    assert (machine.clock.known, machine.clock.settings) == (True, 1)


def test_measurement_counts_from_the_question():
    """The answer may have been made right after it."""
    machine = Machine(wrong=-HOUR)
    asked_at = machine.clock.monotonic()
    told = EPOCH + HOUR
    pass_time(SECOND // 10, machine)
    machine.clock.hear(told)
    machine.clock.measure(told, asked_at)
    assert machine.clock.earliest() == told
    assert machine.clock.now() == told + SECOND // 10
    machine.clock.lead()
    assert machine.clock.now() == told


def test_slow_answer_does_not_spoil_a_good_measurement():
    """The better one of the two counts, with what clocks may have drifted apart since."""
    machine = Machine()
    for seconds, latency in ((0, SECOND // 100), (10, SECOND)):
        pass_time(seconds * SECOND, machine)
        asked_at = machine.clock.monotonic()
        told = EPOCH + machine.passed
        pass_time(latency, machine)
        machine.clock.hear(told)
        machine.clock.measure(told, asked_at)
    late = machine.clock.now() - EPOCH - machine.passed
    assert 0 <= late <= SECOND // 100 + 11 * SECOND // DRIFT


def test_new_leaders_clock_is_measured_anew():
    """It may be ahead of the last one's: it went by wall clocks, since none could tell it more."""
    machine = Machine()
    for told, term_begins in ((EPOCH, False), (EPOCH + 2 * SECOND, True)):
        if term_begins:
            machine.clock.begin_term()
            assert machine.clock.measured_seconds_ago() == float("inf")
        asked_at = machine.clock.monotonic()
        # So long that what is heard lies behind what was measured.
        pass_time(3 * SECOND, machine)
        machine.clock.hear(told)
        machine.clock.measure(told, asked_at)
    assert machine.clock.earliest() == EPOCH + 2 * SECOND
    assert machine.clock.now() == EPOCH + 5 * SECOND


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_for_followers_of_any_wall_clock(seed: int):
    """With latencies at random; one takes over in the end and is not ahead."""
    rng = random.Random(seed)
    leader = Machine().leading()
    follower = Machine(wrong=rng.choice((-HOUR, HOUR)), since_boot=HOUR)
    for turn in range(50):
        pass_time(rng.randrange(30 * SECOND), leader, follower)
        if rng.random() < 0.2:
            follower.wrong = rng.randrange(-HOUR, HOUR)
            leader.wrong = rng.randrange(-HOUR, HOUR)
        leader.clock.slew()
        asked_at = follower.clock.monotonic()
        pass_time(rng.randrange(SECOND // 2), leader, follower)
        told = leader.clock.tell()
        pass_time(rng.randrange(SECOND // 2), leader, follower)
        follower.clock.hear(told)
        if turn == 0 or rng.random() < 0.5:
            follower.clock.measure(told, asked_at)
        # What the leader's clock has come closer to its wall clock meanwhile.
        slack = 31 * SECOND // SLEW
        assert follower.clock.earliest() <= leader.clock.now() + slack
        assert leader.clock.now() <= follower.clock.now() + 60 * slack
    before = leader.clock.now()
    follower.clock.lead()
    assert before - SECOND <= follower.clock.now() <= before + slack


def test_lower_bound_gives_way_to_a_leader_that_goes_slower():
    """Else a follower would be ahead by what the two have drifted apart since it started."""
    machine = Machine()
    machine.clock.hear(EPOCH)
    for turn in range(1, 1000):
        pass_time(SECOND, machine)
        machine.clock.hear(EPOCH + turn * (SECOND - SECOND // SLEW))
    assert machine.clock.earliest() == EPOCH + 999 * (SECOND - SECOND // SLEW)


def test_leader_must_know_the_time():
    """Our own bug, if not."""
    with pytest.raises(AssertionError, match="does not know"):
        Machine().clock.lead()
