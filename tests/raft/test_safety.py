"""Raft's safety properties in random adventures, and agreement once all troubles have ended."""

import os

import pytest

from tests.raft.chaos import Chaos

# RAFT_SEEDS=FIRST-LAST runs other ones, for as long as it takes.
_FIRST, _LAST = map(int, os.environ.get("RAFT_SEEDS", "1-24").split("-"))

# seed: what it has found.
_FOUND = {
    604: "entries committed in a later term were asked of a leader that is cut off",
    824: "nobody could be elected: the voters that stay did not know that others had left",
    2887: "a candidate learned that a configuration is committed, and counted on by it",
}


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(_FIRST, _LAST + 1))
def test_servers_in_trouble_stay_safe_and_agree_in_the_end(seed: int) -> None:
    """Election Safety, Log Matching, Leader Completeness, State Machine Safety (figure 3.2)."""
    Chaos(seed).run(1_500)


@pytest.mark.parametrize("seed", _FOUND)
def test_seed_that_has_found_something_passes(seed: int) -> None:
    """What went wrong once does not come back."""
    Chaos(seed).run(1_500)


def test_run_with_the_same_seed_is_the_same() -> None:
    """A failing seed can be run again."""
    runs = []
    for _ in range(2):
        chaos = Chaos(7)
        chaos.run(400)
        runs.append([server.core.status() for server in chaos.servers.values()])
    assert runs[0] == runs[1]
