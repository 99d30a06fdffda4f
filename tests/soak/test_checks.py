"""Proves that the checks of a soak run fail for what they are there for, and for nothing else."""

import pytest

from raft.sim.linearizability import NEVER, PUT, READ, SWAP, Operation
from scripts.soak import checks
from scripts.soak.checks import SECOND_NS, Hold, Job, Lease, Segment


def good_register() -> list[Operation]:
    """A put, a read that sees it, a swap, a put that nobody answered, and a last read."""
    return [
        Operation(PUT, 0, 10, found=0, value=1),
        Operation(READ, 20, 30, found=1),
        Operation(SWAP, 40, 50, found=1, value=2, expected=1),
        Operation(PUT, 55, NEVER, value=3),
        Operation(READ, 60, 70, found=2),
        Operation(SWAP, 71, 72, found=2, value=9, expected=1),
    ]


def test_register_that_behaves_is_linearizable() -> None:
    """Also with an outcome that nobody knows, and with a swap that did not find what it wanted."""
    assert checks.registers({"r": good_register()}) == []


def test_planted_stale_read_is_found() -> None:
    """A read that begins after a write was acknowledged, and does not see it."""
    history = [*good_register(), Operation(READ, 80, 90, found=1)]
    (problem,) = checks.registers({"fine": good_register(), "stale": history})
    assert problem.startswith("stale:")


def test_planted_lost_write_is_found() -> None:
    """An acknowledged write that no later read sees, though nothing came between."""
    history = [*good_register(), Operation(PUT, 80, 90, found=2, value=4)]
    assert checks.registers({"r": history}) == []
    history.append(Operation(READ, 100, 110, found=2))
    assert len(checks.registers({"r": history})) == 1


def test_write_of_unknown_outcome_may_have_happened_but_once() -> None:
    """It may appear late; once it was seen to be overwritten, it may not come back."""
    history = [*good_register(), Operation(READ, 80, 90, found=3)]
    assert checks.registers({"r": history}) == []
    history.append(Operation(PUT, 100, 110, value=5))
    history.append(Operation(READ, 120, 130, found=3))
    assert len(checks.registers({"r": history})) == 1


def test_write_that_says_it_replaced_something_else_is_found() -> None:
    """The answer to a put shows what was there before."""
    history = [*good_register(), Operation(PUT, 80, 90, found=1, value=4)]
    assert len(checks.registers({"r": history})) == 1


@pytest.mark.parametrize("found", [{}, {"/a": "2"}])
def test_acknowledged_key_that_is_missing_or_other_is_lost(found: dict[str, str]) -> None:
    """Each write has a key of its own."""
    assert len(checks.lost_writes({"/a": "1"}, found)) == 1
    assert checks.lost_writes({"/a": "1"}, {"/a": "1", "/unknown": "3"}) == []


@pytest.mark.parametrize(("final", "wrong"), [(4, True), (5, False), (7, False), (8, True)])
def test_counter_counts_each_increment_once(final: int, wrong: bool) -> None:
    """Five acknowledged, two unknown."""
    assert bool(checks.counter(5, 2, final)) == wrong


def jobs() -> list[Job]:
    """Two that follow each other, and one that nobody answered."""
    return [Job("a", 0, 10, "/q/01"), Job("b", 20, 30, "/q/02"), Job("c", 40)]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([("/q/01", "a"), ("/q/02", "b")], ""),
        ([("/q/01", "a"), ("/q/02", "b"), ("/q/03", "c")], ""),
        ([("/q/01", "a")], "found at []"),
        ([("/q/01", "a"), ("/q/02", "b"), ("/q/03", "c"), ("/q/04", "c")], "2 times"),
        ([("/q/01", "a"), ("/q/05", "b")], "found at ['/q/05']"),
    ],
)
def test_queue_holds_each_job_once_where_it_was_put(
    found: list[tuple[str, str]], problem: str
) -> None:
    """Also the one of unknown outcome at most once."""
    problems = checks.queue(jobs(), found)
    assert problem in "\n".join(problems)
    assert bool(problems) == bool(problem)


def test_queue_that_gives_a_later_job_an_earlier_place_is_found() -> None:
    """The second was asked for after the first had been answered."""
    swapped = [Job("a", 0, 10, "/q/02"), Job("b", 20, 30, "/q/01")]
    (problem,) = checks.queue(swapped, [("/q/01", "b"), ("/q/02", "a")])
    assert problem == "job b got /q/01 after /q/02 was given out"
    at_once = [Job("a", 0, 30, "/q/02"), Job("b", 20, 40, "/q/01")]
    assert checks.queue(at_once, [("/q/01", "b"), ("/q/02", "a")]) == []


def test_lock_that_two_hold_for_certain_is_found() -> None:
    """Not when the second could have got it after the first began to give it back."""
    first = Hold("a", 0, 10, 100)
    assert checks.locks([first, Hold("b", 5, 110, 200)]) == []
    assert checks.locks([first, Hold("b", 95, 105, 200)]) == []
    assert checks.locks([first, Hold("b", 20, 30, 40)]) == ["b got the lock that a held"]


def test_key_that_is_gone_early_is_found() -> None:
    """Before its time counted from when the last refresh was asked for."""
    lease = Lease("/k", 2 * SECOND_NS, refreshed=SECOND_NS)
    assert checks.leases([lease]) == []
    lease.gone = 3 * SECOND_NS
    assert checks.leases([lease]) == []
    lease.gone -= SECOND_NS // 2
    assert checks.leases([lease]) == ["/k was gone 0.50 s early"]
    assert checks.leases([lease], checks.WALLS_NS) == []


def test_lease_in_doubt_is_not_known_to_live_longer() -> None:
    """A refresh without an answer may be done after the next one, and be the one that counts."""
    lease = Lease("/k", 2 * SECOND_NS, refreshed=0)
    lease.answered(1 * SECOND_NS)
    lease.not_answered(2 * SECOND_NS)
    lease.answered(3 * SECOND_NS)
    lease.gone = 4 * SECOND_NS
    assert checks.leases([lease]) == []
    lease.gone -= SECOND_NS
    assert checks.leases([lease]) == ["/k was gone 1.00 s early"]


WRITES = {5: ("/w/a", "1"), 7: ("/w/b", "2"), 9: ("/w/c", "3")}


def test_watch_that_saw_everything_in_order_is_right() -> None:
    """Also one that began late or ended early, and with writes that nobody acknowledged."""
    whole = [(5, "/w/a", "1"), (7, "/w/b", "2"), (8, "/w/x", "9"), (9, "/w/c", "3")]
    assert checks.watches([Segment(0, whole), Segment(6, whole[1:3]), Segment(3)], WRITES) == []


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([(5, "/w/a", "1"), (9, "/w/c", "3")], "missed [7]"),
        ([(5, "/w/a", "1"), (5, "/w/a", "1")], "an event of index 5 after 5"),
        ([(7, "/w/b", "2"), (5, "/w/a", "1")], "an event of index 5 after 7"),
        ([(5, "/w/a", "2")], "event 5 is ('/w/a', '2')"),
        ([(1, "/w/0", "0"), (5, "/w/a", "1")], "an event of index 1 after 3"),
    ],
    ids=["gap", "twice", "backwards", "other value", "from before"],
)
def test_watch_that_saw_something_else_is_found(
    events: list[tuple[int, str, str]], problem: str
) -> None:
    """Gaps, doubles, disorder, and events that differ from what was written."""
    found = "\n".join(checks.watches([Segment(3, list(events))], WRITES))
    assert problem.replace("('/w/a', '2')", "/w/a=2") in found


def test_watchers_that_contradict_each_other_are_found() -> None:
    """Even about writes that nobody acknowledged."""
    segments = [Segment(9, [(10, "/w/x", "1")]), Segment(9, [(10, "/w/x", None)])]
    assert len(checks.watches(segments, {})) == 1
