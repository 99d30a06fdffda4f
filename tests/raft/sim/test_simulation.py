"""The simulation: worlds pass, are the same each time, and each failure has its exit code."""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from raft.sim import (
    Options,
    Outcome,
    Program,
    Say,
    Verdict,
    draw,
    draw_contested,
    draw_flipped,
    parse,
    run,
    simulate,
)
from raft.sim.chance import below
from raft.sim.errors import EXIT_CRASH, EXIT_STUCK, EXIT_UNSAFE
from raft.sim.simulation import Simulation
from tests.mutants.patch import Edit, Mutant, applied

SEEDS = Path(__file__).parents[1] / "seeds.txt"
SHORT = {"fault_seconds": 3, "heal_seconds": 30}


def listed_worlds() -> list[str]:
    """The lines of seeds.txt: options as they are printed, `#`, and what they found."""
    lines = (line.partition("#")[0].strip() for line in SEEDS.read_text().splitlines())
    return [line for line in lines if line]


@pytest.mark.slow
@pytest.mark.parametrize("world", listed_worlds())
def test_world_that_has_found_something_passes(world: str) -> None:
    """Regressions: what each world found stays mended."""
    outcome = simulate(parse(world))
    assert outcome.verdict is Verdict.PASSED, outcome.problem


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(700, 720))
def test_seed_drawn_at_random_passes(seed: int) -> None:
    """A few worlds, whatever they hold."""
    outcome = simulate(draw(seed))
    assert outcome.verdict is Verdict.PASSED, outcome.problem


def test_world_without_troubles_answers_every_client() -> None:
    """In a quiet world nothing is lost, refused or late once there is a leader."""
    outcome = simulate(Options(1, **SHORT))
    assert outcome.verdict is Verdict.PASSED, outcome.problem
    assert outcome.counts["changes"] > 20
    assert outcome.counts["changes not answered"] == 0
    assert outcome.counts["lost"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(700, 705))
def test_contested_world_passes(seed: int) -> None:
    """Leaders come and go; nothing is lost."""
    outcome = simulate(draw_contested(seed))
    assert outcome.verdict is Verdict.PASSED, outcome.problem


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(700, 710))
def test_flipped_world_passes(seed: int) -> None:
    """A disk that was spoiled is refused, or nothing is missing."""
    outcome = simulate(draw_flipped(seed))
    assert outcome.verdict is Verdict.PASSED, outcome.problem


@pytest.mark.slow
def test_full_disks_lose_nothing_and_nobody_dies() -> None:
    """Whoever lacks room has it again, and all agree in the end."""
    counts: Counter[str] = Counter()
    for seed in range(5):
        options = Options(
            seed, full_seconds=2.0, think_us=10_000, segment_bytes=4096, power_seconds=10.0
        )
        outcome = simulate(options)
        assert outcome.verdict is Verdict.PASSED, outcome.problem
        counts.update(outcome.counts)
    assert counts["servers that lacked room"] > 5
    assert counts["servers that had room again"] > 5
    assert counts["died of the disk"] == 0


def test_same_seed_gives_the_same_trace() -> None:
    """A run can be replayed within one process."""
    options = Options(7, loss=0.1, power_seconds=1.0, partition_seconds=2.0, **SHORT)
    assert simulate(options).trace_hash == simulate(options).trace_hash


def test_trace_is_the_same_when_it_is_shown() -> None:
    """Looking at a run does not change it."""
    options = Options(8, kill_seconds=1.0, **SHORT)
    lines: list[str] = []
    assert simulate(options, lines.append).trace_hash == simulate(options).trace_hash
    assert any("became leader" in line for line in lines)


@pytest.mark.slow
def test_trace_does_not_depend_on_the_hash_seed() -> None:
    """A run can be replayed in another process, whatever PYTHONHASHSEED it has."""
    shown = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "raft.sim", "251", "--quiet"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("seed 251: seed=251 ")
        shown.add(done.stdout)
    assert len(shown) == 1


@pytest.mark.parametrize("seed", range(20))
def test_options_are_read_as_they_are_printed(seed: int) -> None:
    """A line of seeds.txt is what a run prints first."""
    assert parse(str(draw(seed))) == draw(seed)


@pytest.mark.parametrize("text", ["seed=1 sevrers=3", "servers=3", "seed=1 servers=x"])
def test_options_that_make_no_sense_are_refused(text: str) -> None:
    """A mistyped line does not silently run another world."""
    with pytest.raises(ValueError):
        parse(text)


def test_other_seed_gives_another_trace() -> None:
    """The hash tells runs apart."""
    assert simulate(Options(1, **SHORT)).trace_hash != simulate(Options(2, **SHORT)).trace_hash


def test_broken_promise_is_unsafe() -> None:
    """A vote that is not on disk ends the run as unsafe."""
    outcome = simulate_with("raft.state:State.promise", "self.promises", "self.messages")
    assert outcome is Verdict.UNSAFE
    assert outcome.value == EXIT_UNSAFE


def test_failed_assertion_is_a_crash() -> None:
    """An exception that nobody expects ends the run as crashed."""
    outcome = simulate_with("raft.core:Core._become_leader", "self._role = Leader(state)", "1 / 0")
    assert outcome is Verdict.CRASH
    assert outcome.value == EXIT_CRASH


def test_cluster_without_a_leader_is_stuck() -> None:
    """A cluster that never elects ends the run as stuck."""
    outcome = simulate_with("raft.follower:Follower.tick", "self.elapsed_ticks += 1", "pass")
    assert outcome is Verdict.STUCK
    assert outcome.value == EXIT_STUCK


def simulate_with(target: str, old: str, new: str) -> Verdict:
    with applied(Mutant("one", "a rule", (Edit(target, old, new),))):
        return simulate(Options(1, fault_seconds=3, heal_seconds=8)).verdict


def test_servers_agree_in_the_end_on_every_register() -> None:
    """The state machines of all servers hold what was acknowledged."""
    simulation = Simulation(Options(3, power_seconds=1.0, pause_seconds=1.0, **SHORT))
    simulation.run()
    prints = {process.machine.fingerprint() for process in simulation.cluster.running()}
    assert len(prints) == 1


def test_steady_worlds_are_those_that_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--steady` runs other worlds; the last line tells their speed."""
    monkeypatch.setattr(sys, "argv", ["sim", "--steady", "--seeds", "2"])
    assert run(_program(Verdict.PASSED)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["seed 1: steady 1", "seed 2: steady 2"]
    assert lines[-1].startswith("2 seeds passed: 20 cluster-seconds, 6 checked steps; ")
    assert lines[-1].endswith(" cluster-seconds per CPU-minute")


def test_steady_world_that_fails_can_be_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is shown leads to the same world."""
    monkeypatch.setattr(sys, "argv", ["sim", "--steady"])
    assert run(_program(Verdict.STUCK)) == EXIT_STUCK
    assert "replay: sim --steady 1" in capsys.readouterr().out


def _program(verdict: Verdict) -> Program[str]:
    def simulate(world: str, say: Say | None) -> Outcome:
        return Outcome(Options(1), verdict, "", "", 10.0, Counter(), 3)

    words = ("sim", "", "make sim SEED=")
    return Program(*words, "drawn {}".format, simulate, (), {"steady": "steady {}".format})


def test_chance_is_that_of_the_standard_library() -> None:
    """The shorter way gives the same numbers, and leaves the same bits."""
    one, other = random.Random(1), random.Random(1)
    ends = [1, 2, 3, 4, 1000, 1 << 20, (1 << 40) + 1] * 20
    assert [below(one, end) for end in ends] == [other.randrange(end) for end in ends]
    assert one.getstate() == other.getstate()
