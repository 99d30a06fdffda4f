"""Worlds of whole clusters: they pass, are the same each time, and see what they are there for."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pyetcd.sim import Load, World, draw_world, parse, simulate_world
from pyetcd.sim.application import Etcd
from raft.sim import Options, Outcome, Simulation, Verdict

SEEDS = Path(__file__).parents[1] / "seeds.txt"
# Without troubles, and long enough for keys to expire.
QUIET = Options(1, snapshot_entries=0, fault_seconds=6, heal_seconds=30, think_us=50_000)
BUSY = Load(snapshot_count=20, auth_seconds=0.3, skew_seconds=1.0)


def listed_worlds() -> list[str]:
    """The lines of seeds.txt: worlds as they are printed, `#`, and what they found."""
    lines = (line.partition("#")[0].strip() for line in SEEDS.read_text().splitlines())
    return [line for line in lines if line]


def passed(world: World) -> Outcome:
    """Run a world that must pass."""
    outcome = simulate_world(world)
    assert outcome.verdict is Verdict.PASSED, outcome.problem
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("world", listed_worlds())
def test_world_that_has_found_something_passes(world: str) -> None:
    """Regressions: what each world found stays mended."""
    passed(parse(world))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(700, 710))
def test_seed_drawn_at_random_passes(seed: int) -> None:
    """A few worlds, whatever they hold."""
    passed(draw_world(seed))


@pytest.mark.slow
def test_quiet_world_answers_everybody_and_tells_watches() -> None:
    """Without troubles nothing is lost or late, and all kinds of requests are made."""
    counts = passed(World(QUIET, BUSY)).counts
    assert counts["requests done"] > 100
    assert counts["requests refused"] > 10
    assert counts["requests lost"] == counts["requests not answered"] == 0
    assert counts["events told"] > 20
    assert counts["changes of auth answered 200"] + counts["changes of auth answered 201"] > 5


@pytest.mark.slow
def test_members_come_and_go() -> None:
    """Operators add and remove members through the API; those that are removed end."""
    options = replace(QUIET, change_seconds=0.5, fault_seconds=12)
    counts = passed(World(options, Load())).counts
    assert counts["changes of members answered 201"] > 0
    assert counts["changes of members answered 204"] > 0
    assert counts["members retired"] > 0


@pytest.mark.slow
def test_troubles_of_all_kinds_pass() -> None:
    """A world with everything in it."""
    options = replace(
        QUIET,
        loss=0.05,
        power_seconds=2.0,
        pause_seconds=3.0,
        partition_seconds=3.0,
        transfer_seconds=3.0,
        catch_up_entries=0,
    )
    counts = passed(World(options, replace(BUSY, jump_seconds=2.0))).counts
    assert counts["power cuts"] > 0
    assert counts["clock jumps"] > 0


@pytest.mark.slow
def test_trace_does_not_depend_on_the_hash_seed() -> None:
    """A run can be replayed in another process, whatever PYTHONHASHSEED it has."""
    shown = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "pyetcd.sim", "1", "--quiet"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("seed 1: seed=1 ")
        shown.add(done.stdout)
    assert len(shown) == 1


@pytest.mark.slow
def test_trace_is_the_same_when_it_is_shown() -> None:
    """Looking at a run does not change it."""
    world = World(replace(QUIET, kill_seconds=1.0), BUSY)
    lines: list[str] = []
    assert simulate_world(world, lines.append).trace_hash == simulate_world(world).trace_hash
    assert any("client 0 asks" in line for line in lines)


@pytest.mark.slow
def test_all_members_hold_the_same_in_the_end() -> None:
    """Not only numbers of states are compared, but every byte of a snapshot."""
    world = World(replace(QUIET, power_seconds=1.0), BUSY)
    simulation = Simulation(world.options, None, partial(Etcd, world.load))
    simulation.run()
    members = simulation.application.members.values()
    snapshots = {b"".join(it.capture()) for it in members if not it.process.ended}
    assert len(members) == 3
    assert len(snapshots) == 1


@pytest.mark.parametrize("seed", range(20))
def test_world_is_read_as_it_is_printed(seed: int) -> None:
    """A line of seeds.txt is what a run prints first."""
    assert parse(str(draw_world(seed))) == draw_world(seed)


@pytest.mark.parametrize("text", ["seed=1 wachters=3", "watchers=3", "seed=1 watchers=x"])
def test_world_that_makes_no_sense_is_refused(text: str) -> None:
    """A mistyped line does not silently run another world."""
    with pytest.raises(ValueError):
        parse(text)
