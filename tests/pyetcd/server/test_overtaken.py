"""Proves that what goes by a leader's clock is never proposed under another leader."""

import pytest

from pyetcd.command import (
    AskTime,
    Command,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Overtaken,
    Set,
    Sync,
    Update,
    decode,
)
from pyetcd.server.pending import SWEEP_SECONDS
from pyetcd.store import Event
from tests.pyetcd.server.fakes import OTHERS, World
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended node stands in the place of raft's")

OF_THEIR_TIME = (
    Set("/a", "1", False, 1, False),
    Create("/a", "1", False, 1),
    CreateInOrder("/a", "1", False, 1),
    Update("/a", "1", 1, False),
    CompareAndSwap("/a", "1", "0", 0, 1, False),
    Sync(1, 1),
)


def result_of(results: list[object]) -> object:
    """The one that there is."""
    (result,) = results
    return result


def waiting(world: World) -> list[Command]:
    """The commands somebody waits for, but for the member's own question."""
    commands = [decode(it.data).command for it in world.server.applier.waiters.values()]
    return [it for it in commands if not isinstance(it, AskTime)]


@virtual
@pytest.mark.parametrize("command", OF_THEIR_TIME)
async def test_command_by_a_lost_leaders_clock_is_given_back(command: Command):
    """It is in no log, and the next leader has another clock."""
    world = World()
    world.lead(OTHERS[0])
    results = world.propose(command)
    world.lose()
    world.lead(OTHERS[1])
    assert results == []
    world.begin_term()
    overtaken = result_of(results)
    assert isinstance(overtaken, Overtaken)
    assert overtaken.last_sweep == round(world.config.request_timeout_seconds / SWEEP_SECONDS)
    assert world.node.proposed == []
    assert waiting(world) == []


@virtual
@pytest.mark.parametrize("command", OF_THEIR_TIME)
async def test_held_command_by_the_last_leaders_clock_is_given_back(command: Command):
    """As soon as there is a leader of a later term. Under the same one it is offered."""
    world = World()
    core = world.node.core
    world.lead(0)
    results = world.propose(command)
    world.lead(OTHERS[0], core.term)
    assert (world.lose() != [], results) == (True, [])
    world.lead(0)
    results = world.propose(command)
    world.lead(OTHERS[0])
    assert isinstance(result_of(results), Overtaken)
    assert world.node.proposed == []


@virtual
async def test_command_made_anew_at_once_waits_as_any():
    """Whoever gets it back proposes it again while the term's first entry is applied."""
    world = World()
    world.lead(OTHERS[0])
    results: list[object] = []

    def again(result: object) -> None:
        assert isinstance(result, Overtaken)
        world.server.propose(OF_THEIR_TIME[0], results.append, result.last_sweep)

    world.server.propose(OF_THEIR_TIME[0], again)
    world.lose()
    world.lead(OTHERS[1])
    world.begin_term()
    world.commit()
    assert isinstance(result_of(results), Event)
    assert waiting(world) == []
