"""Proves that the soak takes turns, goes on with other seeds, and stops at what fails."""

import sys

import pytest

from scripts import sim_soak


@pytest.mark.slow
def test_soak_runs_both_simulations_in_turn(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each turn has the seeds after those of the one before."""
    monkeypatch.setattr(sim_soak, "TURNS", (("raft.sim", 1), ("pyetcd.sim", 1)))
    monkeypatch.setattr(sys, "argv", ["sim_soak", "--rounds", "2", "--first", "5"])
    assert sim_soak.main() == 0
    shown = [line.split(":")[0] for line in capfd.readouterr().out.splitlines()]
    assert [line for line in shown if line.startswith("seed ")] == ["seed 5"] * 2 + ["seed 6"] * 2


def test_soak_stops_with_the_code_of_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is none ends it at once."""
    monkeypatch.setattr(sim_soak, "TURNS", (("raft.no_simulation", 1),))
    monkeypatch.setattr(sys, "argv", ["sim_soak"])
    assert sim_soak.main() == 1


def test_days_have_seeds_of_their_own() -> None:
    """Ten thousand of them, by the date."""
    assert len(str(sim_soak.first_of_today())) == 12
