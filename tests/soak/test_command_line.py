"""Proves that a run does what its command line says, and that its figures say what was found."""

import itertools

import pytest

from scripts.soak import catalogue
from scripts.soak.__main__ import parse, plan, show
from scripts.soak.rounds import Totals, Usage


def planned(line: str, count: int = 5) -> list[list[str]]:
    """The faults of the first rounds."""
    rounds = itertools.islice(plan(parse(line.split())), count)
    return [[fault.name for fault in faults] for faults in rounds]


def test_faults_are_drawn_from_the_seed() -> None:
    """Unless it is a short run, or some are named."""
    drawn = [[fault.name for fault in it] for it in itertools.islice(catalogue.draw(7), 5)]
    assert planned("--seed 7") == drawn
    short = [[fault.name for fault in it] for it in catalogue.short(7)]
    assert planned("--seed 7 --short", 99) == short


def test_named_faults_come_one_by_one_or_all_at_once() -> None:
    """As the line that repeats a round has them."""
    assert planned("--fault loss --fault delay") == [["loss"], ["delay"]]
    assert planned("--fault loss --fault delay --mixed") == [["loss", "delay"]]


def test_calm_run_has_rounds_without_faults() -> None:
    """To compare a member with what it was: no fault ends it in between."""
    assert planned("--calm") == [[]] * 5


def test_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    with pytest.raises(SystemExit):
        parse(["--fault", "earthquake"])
    assert "kill the leader" in capsys.readouterr().err


def test_figures_tell_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever found it: writers, queues or counters; memory only if the run was long enough."""
    totals = Totals(acknowledged=1234, problems=["a", "b", "c", "d"])
    totals.wrong.update({"writes and watches": 1, "queue": 1, "counter": 1, "registers": 1})
    show(totals, 61.0, None, Usage([50, 51], [20, 21]))
    lines = capsys.readouterr().out.splitlines()
    assert "acknowledged writes checked      1234" in lines
    assert "acknowledged writes lost            3" in lines
    assert "stale quorum reads                  1" in lines
    assert not any("each member" in line for line in lines)
    show(totals, 61.0, Usage([50, 51], [20, 21]), Usage([52, 53], [22, 23]))
    lines = capsys.readouterr().out.splitlines()
    assert "each member after  60 s       50 51 MB, 20 21 descriptors" in lines
    assert "each member at the end       52 53 MB, 22 23 descriptors" in lines
