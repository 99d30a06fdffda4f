"""Proves that members learn cluster time from the leader, and a leader from those who know."""

import asyncio

import pytest

from pyetcd.command import AskTime, Set, Sync, TellTime, encode
from pyetcd.errors import RaftInternal
from pyetcd.server.timekeeper import (
    ANSWER_SECONDS,
    STALE_SECONDS,
    SWEEP_SECONDS,
    SYNC_SECONDS,
    TELL_SECONDS,
    TOO_OLD_SECONDS,
)
from raft import NORMAL, Entry
from tests.pyetcd.server.fakes import OTHERS, OWN, World, turn
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended node stands in the place of raft's")

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


def ask(world: World) -> list[object]:
    """Wait for the time; the list gets the errors, None for none."""
    results: list[object] = []
    world.server.learn_time(results.append)
    return results


def tell(world: World, time: int) -> None:
    """Let the leader, another member, have told it."""
    world.server.applier.time = max(world.server.applier.time, time)
    world.server.on_time_told(time, world.node.core.term)


def following(wrong: int = 0) -> World:
    """A member that has just heard of a leader, and its question is under way."""
    world = World(wrong=wrong, knows_time=False)
    world.lead(OTHERS[0])
    return world


def unsure(wrong: int = 0) -> World:
    """A leader that has started after all were down."""
    world = World(wrong=wrong, knows_time=False)
    world.lead(OWN)
    world.begin_term()
    return world


# ----------------------------------------------------------------------------------- followers


@virtual
@pytest.mark.parametrize("wrong", [-HOUR, HOUR])
async def test_follower_asks_a_new_leader_and_takes_its_time(wrong: int):
    """Whatever its own wall clock shows; late by the way there and back at most."""
    world = following(wrong)
    (question,) = world.about_time()
    assert question == AskTime(OWN, world.wall(), known=False)
    assert not world.server.knows_time()
    results = ask(world)
    tell(world, world.now() - HOUR)  # of before
    assert results == []
    await asyncio.sleep(0.1)
    world.commit_time()
    told = world.now()
    await asyncio.sleep(0.1)
    tell(world, told)
    assert results == [None]
    assert world.server.knows_time()
    assert world.server.clock.earliest() == told
    assert world.server.now() == pytest.approx(told + 0.2 * SECOND, abs=1000)


@virtual
async def test_follower_measures_anew_when_a_ttl_comes_in_and_waits_only_in_the_end():
    """Nothing is asked while nobody needs the time."""
    world = following()
    world.commit_time()
    tell(world, world.now())
    await asyncio.sleep(STALE_SECONDS + 1)
    assert world.about_time() == []
    assert world.server.knows_time()
    assert [type(it) for it in world.about_time()] == [AskTime]
    assert world.server.knows_time()
    assert len(world.about_time()) == 1, "one question at a time"
    await asyncio.sleep(TOO_OLD_SECONDS)
    assert not world.server.knows_time()


@virtual
async def test_question_that_nobody_answers_is_asked_again_and_given_up():
    """The leader that has read it was deposed, perhaps."""
    world = following()
    world.commit_time()
    results = ask(world)
    assert world.about_time() == []
    await asyncio.sleep(ANSWER_SECONDS + 2 * SWEEP_SECONDS)
    assert [type(it) for it in world.about_time()] == [AskTime]
    await asyncio.sleep(world.config.request_timeout_seconds)
    (error,) = results
    assert isinstance(error, RaftInternal)
    assert "timed out" in error.cause


@virtual
async def test_member_that_knows_no_time_goes_on_asking():
    """Its question was lost; the leader may wait for what its wall clock shows."""
    world = following()
    world.node.about_time.clear()
    await asyncio.sleep(world.config.request_timeout_seconds + ANSWER_SECONDS + 1)
    assert [type(it) for it in world.about_time()] == [AskTime]


@virtual
@pytest.mark.parametrize("began", [False, True])
async def test_member_that_knows_the_time_goes_on_asking_a_new_leader(began: bool):
    """Its question was lost, and this leader may have nobody else to tell it the time."""
    world = following()
    world.commit_time()
    tell(world, world.now())
    world.lead(OTHERS[1])
    if began:
        world.begin_term()
    world.node.about_time.clear()
    await asyncio.sleep(world.config.request_timeout_seconds + ANSWER_SECONDS + 1)
    (question,) = world.about_time()
    assert question == AskTime(OWN, world.server.clock.earliest() - SECOND, known=True)


@virtual
@pytest.mark.parametrize("leader", [OWN, OTHERS[1]])
async def test_member_whose_question_was_lost_does_not_ask_who_has_told_the_time_or_itself(
    leader: int,
):
    """Until it needs the time."""
    world = following()
    world.commit_time()
    tell(world, world.now())
    world.lead(OTHERS[1])
    world.begin_term()
    world.node.about_time.clear()
    if leader == OWN:
        world.lead(OWN)
    else:
        tell(world, world.now())
    await asyncio.sleep(world.config.request_timeout_seconds + ANSWER_SECONDS + 1)
    assert world.about_time() == []


@virtual
async def test_question_without_a_leader_ends_as_every_request():
    """Nobody can tell the time."""
    world = World(knows_time=False)
    world.lead(0)
    results = ask(world)
    await asyncio.sleep(world.config.request_timeout_seconds + 1)
    assert len(results) == 1
    assert isinstance(results[0], RaftInternal)


@virtual
async def test_who_has_waited_for_the_time_waits_for_the_log_so_much_less():
    """The request timeout is of the whole request, also if it has to wait for the time twice."""
    world = following()
    world.commit_time()
    results: list[object] = []
    last_sweep = world.server.learn_time(results.append)
    await asyncio.sleep(world.config.request_timeout_seconds - 1)
    world.commit_time()
    tell(world, world.now())
    assert results == [None]
    assert world.server.learn_time(results.append, last_sweep) == last_sweep
    world.server.propose(Set("/t", "v", False, 0, False), results.append, last_sweep)
    await asyncio.sleep(1 + 2 * SWEEP_SECONDS)
    assert len(results) == 3
    for error in results[1:]:
        assert isinstance(error, RaftInternal)
        assert "timed out" in error.cause


@virtual
async def test_answer_to_another_leaders_question_does_not_count():
    """A new leader is asked anew: the old question may have been read long after it was made."""
    world = following()
    world.commit_time()
    world.lead(OTHERS[1])
    tell(world, world.now())
    assert not world.server.knows_time()
    world.commit_time()
    tell(world, world.now())
    assert world.server.knows_time()


@virtual
async def test_clock_of_another_leader_is_unknown_until_it_is_asked():
    """It may be ahead by any time: a TTL waits, also while nobody leads in the next term."""
    world = following()
    world.commit_time()
    tell(world, world.now())
    assert world.server.knows_time()
    world.lead(0)
    assert not world.server.knows_time()
    world.lead(OTHERS[1])
    assert not world.server.knows_time()
    world.begin_term()
    assert not world.server.knows_time()
    results = ask(world)
    world.commit_time()
    tell(world, world.now() + HOUR)
    assert results == [None]
    assert world.server.knows_time()
    assert world.server.now() == world.now() + HOUR


@virtual
async def test_term_whose_beginning_was_in_a_snapshot_is_noticed_when_the_time_is_told():
    """Else nobody could set a TTL here until the next term."""
    world = following()
    world.commit_time()
    assert not world.server.knows_time()
    tell(world, world.now())
    assert world.server.knows_time()


@virtual
async def test_question_to_a_leader_that_is_gone_is_not_put_to_the_next():
    """It would say what time it was then. The next one is asked by itself."""
    world = following()
    world.node.about_time.clear()
    world.lead(OTHERS[1])
    asked = world.about_time()
    world.begin_term()
    assert world.about_time() == asked
    assert [type(it) for it in asked] == [AskTime]
    world.commit_time()
    tell(world, world.now())
    assert world.server.knows_time()


@virtual
async def test_leader_hears_what_its_predecessor_has_told():
    """Which is applied when it leads already; what it has heard before is of a leader before."""
    world = following()
    world.commit_time()
    tell(world, world.now() + HOUR)
    told = encode(0, 0, TellTime(world.now()))
    term = world.node.core.term
    world.lead(OWN, term + 2)
    world.server.applier.apply([Entry(9, term + 1, NORMAL, told)])
    world.begin_term()
    assert world.server.now() == world.now()


@virtual
async def test_follower_that_is_elected_goes_on_from_what_it_has_heard():
    """With its own wall clock an hour ahead; those who wait here need not any more."""
    world = following(wrong=HOUR)
    world.commit_time()
    tell(world, world.now())
    await asyncio.sleep(TOO_OLD_SECONDS + 1)
    results = ask(world)
    world.lead(OWN)
    world.begin_term()
    assert results == [None]
    assert world.server.now() == world.now()
    assert world.server.clock.settings == 0


@virtual
async def test_stop_answers_those_who_wait_for_the_time():
    """As everybody else."""
    world = following()
    results = ask(world)
    await world.stop()
    assert len(results) == 1


# ------------------------------------------------------------------------------------- leaders


@virtual
async def test_leader_answers_all_questions_of_a_turn_at_once():
    """And not while it applies them."""
    world = World()
    for other in OTHERS:
        world.server.on_time_asked(other, 0, known=True)
    assert world.about_time() == []
    await turn()
    assert world.about_time() == [TellTime(world.now())]


@virtual
async def test_leader_tells_the_time_now_and_then_while_keys_expire():
    """So that whoever is elected next knows it."""
    world = World()
    world.propose(Set("/t", "v", False, world.now() + HOUR, False))
    world.commit()
    await turn()
    world.commit_time()
    await asyncio.sleep(2 * TELL_SECONDS + 1)
    assert [type(it) for it in world.about_time()] == [TellTime, TellTime]


@virtual
async def test_leader_that_knows_no_time_asks_the_walls_of_a_majority():
    """Its own is an hour ahead: it does not count alone, and the lower of two does."""
    world = unsure(wrong=HOUR)
    world.propose(Set("/t", "v", False, world.now() + 60 * SECOND, False))
    world.commit()
    await asyncio.sleep(120)
    assert not any(isinstance(it, Sync) for it in world.commands())
    results = ask(world)
    assert results == []
    world.server.on_time_asked(OTHERS[0], world.now(), known=False)
    assert results == [None]
    assert world.server.now() == world.now()
    assert world.server.clock.settings == 1
    await asyncio.sleep(SYNC_SECONDS)
    assert any(isinstance(it, Sync) for it in world.commands())


@virtual
async def test_leader_that_knows_no_time_believes_who_does():
    """One is enough, and no wall clock is asked."""
    world = unsure(wrong=HOUR)
    world.server.on_time_asked(OTHERS[0], world.now() - 60 * SECOND, known=True)
    assert world.server.now() == world.now() - 60 * SECOND
    assert world.server.clock.settings == 0
    assert world.about_time() == [TellTime(world.now() - 60 * SECOND)]


@virtual
async def test_elected_member_tells_and_removes_nothing_until_its_first_entry_is_applied():
    """What its predecessors have told comes before, and questions to them are answered no more."""
    world = World()
    world.propose(Set("/t", "v", False, world.now() + SECOND, False))
    world.commit()
    world.lead(OTHERS[0])
    world.begin_term()
    world.lead(OWN)
    world.node.about_time.clear()
    world.server.on_time_asked(OTHERS[1], world.now() + HOUR, known=True)
    results = ask(world)
    await asyncio.sleep(2)
    assert (world.about_time(), world.commands(), results) == ([], [], [])
    assert not world.server.knows_time()
    world.begin_term()
    assert results == [None]
    assert world.server.knows_time()
    assert world.about_time() == [TellTime(world.now())]
    await asyncio.sleep(SYNC_SECONDS)
    assert [type(it) for it in world.commands()] == [Sync]


@virtual
async def test_leader_that_is_elected_again_goes_on_from_its_successors_clock():
    """Which was behind its own; keys were given their ends by that meanwhile."""
    world = World()
    world.lead(OWN)
    world.begin_term()
    world.lead(OTHERS[0])
    world.begin_term()
    tell(world, world.now() - SECOND)
    await asyncio.sleep(10)
    world.lead(OWN)
    world.begin_term()
    assert world.server.now() == world.now() - SECOND
    assert world.about_time()[-1] == TellTime(world.now() - SECOND)


@virtual
async def test_time_after_all_were_down_is_no_earlier_than_what_the_log_has_seen():
    """All wall clocks are an hour behind."""
    world = unsure(wrong=-HOUR)
    world.server.applier.time = world.now()
    world.server.on_time_asked(OTHERS[0], world.wall(), known=False)
    assert world.server.now() == world.now()


@virtual
@pytest.mark.parametrize("jump", [-HOUR, HOUR])
async def test_key_lives_its_ttl_though_the_leaders_wall_clock_jumps(jump: int):
    """Within one part in 2048."""
    world = unsure()
    world.server.on_time_asked(OTHERS[0], world.now(), known=False)
    world.propose(Set("/t", "v", False, world.server.now() + 60 * SECOND, False))
    world.commit()
    world.wrong = jump
    await asyncio.sleep(60 - 0.05)
    assert not any(isinstance(it, Sync) for it in world.commands())
    await asyncio.sleep(0.1 + SYNC_SECONDS)
    assert any(isinstance(it, Sync) for it in world.commands())
