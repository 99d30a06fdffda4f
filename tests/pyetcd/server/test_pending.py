"""Proves that whoever proposes or reads is told once, in time, and that nothing is done twice."""

import asyncio

import pytest

from pyetcd.command import Delete, Set
from pyetcd.errors import KeyNotFound, RaftInternal
from pyetcd.server.pending import RETRY_SECONDS, SWEEP_SECONDS
from pyetcd.store import Event
from raft import CONFIG, NORMAL, Configuration, Rejected
from tests.pyetcd.server.fakes import OTHERS, OWN, World, member
from tests.virtual_time import virtual

pytestmark = pytest.mark.pure("a pretended node stands in the place of raft's")

A = Set("/a", "1", False, 0, False)
B = Set("/b", "1", False, 0, False)


def only(results: list[object]) -> object:
    """The one result there is."""
    (result,) = results
    return result


async def pass_timeout(world: World) -> None:
    """Let time pass until every request of before has been given up."""
    await asyncio.sleep(world.config.request_timeout_seconds + SWEEP_SECONDS)


def assert_empty(world: World) -> None:
    """Nobody waits, and nothing is left behind."""
    pending = world.server._pending
    world.commit_time()
    assert (world.server.applier.waiters, pending._readers, pending._held) == ({}, {}, [])


# ----------------------------------------------------------------------------------- proposals


@virtual
async def test_proposal_is_told_when_it_is_applied():
    """Not when it is proposed."""
    world = World()
    results = world.propose(A)
    assert (results, world.commands()) == ([], [A])
    world.commit()
    event = only(results)
    assert isinstance(event, Event)
    assert event.key == "/a"
    assert_empty(world)


@virtual
async def test_proposal_carries_the_clock_and_an_id_of_its_own():
    """All members see the proposer's time."""
    world = World()
    world.propose(A)
    await asyncio.sleep(1)
    world.propose(A)
    first, second = world.requests()
    assert second.now - first.now == 1_000_000_000
    assert first.request_id != second.request_id != 0


@virtual
async def test_refusal_of_the_store_is_told():
    """Like any other result."""
    world = World()
    results = world.propose(Delete("/none", False, False))
    world.commit()
    assert isinstance(only(results), KeyNotFound)


@pytest.mark.parametrize("times_out_as", ["proposal", "read"])
@virtual
async def test_request_without_an_answer_is_given_up_in_time(times_out_as: str):
    """With etcd's error, and within a sweep of the timeout; what comes later finds nobody."""
    world = World()
    results = world.propose(A) if times_out_as == "proposal" else world.read()
    await asyncio.sleep(world.config.request_timeout_seconds - SWEEP_SECONDS - 0.001)
    assert results == []
    await asyncio.sleep(SWEEP_SECONDS + 0.002)
    error = only(results)
    assert isinstance(error, RaftInternal)
    assert (error.cause, error.index) == ("etcdserver: request timed out", 0)
    assert_empty(world)
    world.commit()
    for confirm in world.node.readers:
        confirm()
    assert len(results) == 1


@virtual
async def test_each_request_is_given_up_at_its_own_time():
    """Those that came later wait longer."""
    world = World()
    early = world.propose(A)
    await asyncio.sleep(3)
    late = world.propose(A)
    await asyncio.sleep(world.config.request_timeout_seconds - 3 + SWEEP_SECONDS)
    assert (len(early), len(late)) == (1, 0)


@virtual
async def test_timeout_names_the_failure_of_a_leader():
    """There is another one, but the proposal was the old one's."""
    world = World()
    results = world.read()
    await asyncio.sleep(1)
    world.lead(0)
    world.lead(OTHERS[0])
    await pass_timeout(world)
    assert only(results).cause.endswith(", possibly due to previous leader failure")


@virtual
async def test_timeout_long_after_a_failure_does_not_name_it():
    """The leader of then is forgotten."""
    world = World()
    world.lead(0)
    world.lead(OTHERS[0])
    await pass_timeout(world)
    results = world.read()
    await pass_timeout(world)
    assert only(results).cause == "etcdserver: request timed out"


@pytest.mark.parametrize(
    ("leader", "active"),
    [
        (OTHERS[0], {OTHERS[1]: 0.0}),
        (OTHERS[0], {OTHERS[0]: 5_000.0, OTHERS[1]: 0.0}),
        (OWN, {}),
        (OWN, dict.fromkeys(OTHERS, 5_000.0)),
        (0, {}),
    ],
)
@virtual
async def test_timeout_names_the_lost_connection(leader: int, active: dict[int, float]):
    """To the leader, or to a quorum; one that came back since then counts as lost."""
    world = World()
    world.node.core.leader = leader
    results = world.read()
    world.transport.active = active
    await pass_timeout(world)
    assert only(results).cause.endswith(", possibly due to connection lost")


@virtual
async def test_timeout_in_a_minority_names_the_lost_connection():
    """Two of five are no quorum."""
    world = World()
    world.node.core.configuration = Configuration(voters=(1, 2, 3, OWN, OTHERS[0]))
    world.transport.active = {OTHERS[0]: 0.0}
    results = world.read()
    await pass_timeout(world)
    assert only(results).cause.endswith(", possibly due to connection lost")


@pytest.mark.parametrize("leader", [0, OWN])
@virtual
async def test_timeout_in_a_connected_quorum_names_nothing(leader: int):
    """One other member of three is enough."""
    world = World()
    world.node.core.leader = leader
    world.transport.active = {OTHERS[1]: 0.0}
    results = world.read()
    await pass_timeout(world)
    assert only(results).cause == "etcdserver: request timed out"


# --------------------------------------------------------------------------------------- reads


@virtual
async def test_read_is_told_when_it_is_confirmed():
    """Once."""
    world = World()
    results = world.read()
    assert results == []
    world.node.readers[0]()
    world.node.readers[0]()
    assert results == [None]
    assert_empty(world)


# ------------------------------------------------------------------------ held and offered again


@virtual
async def test_proposal_without_a_leader_waits_for_one():
    """And is offered at once when there is one."""
    world = World()
    world.lead(0)
    results = world.propose(A)
    await asyncio.sleep(1)
    assert world.commands() == []
    world.lead(OTHERS[0])
    assert world.commands() == [A]
    world.commit()
    assert isinstance(only(results), Event)
    assert_empty(world)


@virtual
async def test_proposal_that_the_leader_cannot_get_is_held():
    """What is sent into a broken connection is lost."""
    world = World()
    world.lead(OTHERS[0])
    world.transport.active.clear()
    world.propose(A)
    assert world.commands() == []
    world.transport.active[OTHERS[0]] = 0.0
    await asyncio.sleep(RETRY_SECONDS)
    assert world.commands() == [A]


@virtual
async def test_proposal_that_the_leader_refuses_is_offered_again():
    """The leader's log is full, or it hands over: later it may take it."""
    world = World()
    world.node.drops = "full"
    results = world.propose(A)
    await asyncio.sleep(3 * RETRY_SECONDS)
    assert world.commands() == []
    world.node.drops = ""
    await asyncio.sleep(RETRY_SECONDS)
    assert world.commands() == [A]
    world.commit()
    assert isinstance(only(results), Event)


@virtual
async def test_rejected_proposal_is_offered_again():
    """It came back over the network: it is in no log."""
    world = World()
    world.lead(OTHERS[0])
    results = world.propose(A)
    ((kind, data),) = world.lose()
    world.reject(kind, data)
    assert (world.commands(), results) == ([], [])
    await asyncio.sleep(RETRY_SECONDS)
    assert world.commands() == [A]
    world.commit()
    assert isinstance(only(results), Event)
    assert_empty(world)


@virtual
async def test_rejected_membership_change_is_offered_again():
    """Another one was pending: it waits for its turn."""
    world = World()
    world.server.remove_member(OTHERS[0], lambda _: None)
    ((kind, data),) = world.lose()
    assert kind == CONFIG
    world.reject(kind, data, "another configuration change is not applied yet")
    await asyncio.sleep(RETRY_SECONDS)
    assert [change.removed_id for change in world.changes()] == [OTHERS[0]]


@virtual
async def test_held_proposals_keep_their_order():
    """Nobody overtakes."""
    world = World()
    world.lead(0)
    for command in (A, B, A):
        world.propose(command)
    world.lead(OWN)
    assert world.commands() == [A, B, A]


@virtual
async def test_held_proposal_that_was_given_up_is_not_offered():
    """Its client has been told that it did not happen in time."""
    world = World()
    world.lead(0)
    world.propose(A)
    await pass_timeout(world)
    world.lead(OWN)
    await asyncio.sleep(RETRY_SECONDS)
    assert world.commands() == []
    assert_empty(world)


@virtual
async def test_rejected_proposal_that_was_given_up_is_not_offered():
    """Neither."""
    world = World()
    world.propose(A)
    await pass_timeout(world)
    for kind, data in world.lose():
        world.reject(kind, data)
    await asyncio.sleep(RETRY_SECONDS)
    assert world.commands() == []


@virtual
async def test_rejection_that_comes_twice_counts_once():
    """Networks repeat messages."""
    world = World()
    world.lead(OTHERS[0])
    world.propose(A)
    ((kind, data),) = world.lose()
    world.reject(kind, data)
    world.reject(kind, data)
    await asyncio.sleep(2 * RETRY_SECONDS)
    assert world.commands() == [A]


@pytest.mark.parametrize("kind", [NORMAL, CONFIG])
@virtual
async def test_rejection_of_nonsense_is_ignored(kind: int):
    """It comes from the network, and must end nobody."""
    world = World()
    world.server.on_rejected(Rejected(kind, b"\xc1", "why"))
    await asyncio.sleep(RETRY_SECONDS)
    assert world.node.proposed == []


# ------------------------------------------------------------------------------- lost with a term


@virtual
async def test_proposal_lost_with_its_leader_is_made_anew():
    """An entry of a later term tells that it is in no log."""
    world = World()
    world.lead(OTHERS[0])
    results = world.propose(A)
    world.lose()
    world.lead(OTHERS[1])
    assert world.commands() == []
    world.begin_term()
    assert world.commands() == [A]
    world.commit()
    assert isinstance(only(results), Event)
    assert_empty(world)


@virtual
async def test_membership_change_lost_with_its_leader_is_made_anew():
    """With the same change in it."""
    world = World()
    results: list[object] = []
    added = world.server.add_member(("http://new:1",), results.append)
    world.lose()
    world.lead(OTHERS[1])
    world.begin_term()
    assert [change.added for change in world.changes()] == [added]
    world.commit()
    assert results == [None]


@virtual
async def test_proposal_of_this_term_is_not_made_anew():
    """It is on its way."""
    world = World()
    world.lead(OTHERS[0])
    world.propose(A)
    world.begin_term()
    assert world.commands() == [A]


@virtual
async def test_proposal_that_survives_its_leader_is_done_once():
    """The old leader's entry is committed before the new one's first."""
    world = World()
    world.lead(OTHERS[0])
    results = world.propose(A)
    world.lead(OTHERS[1])
    world.commit()
    world.begin_term()
    assert len(results) == 1
    assert world.commands() == []


@virtual
async def test_late_rejection_does_not_make_a_proposal_twice():
    """The old leader gives back what has been proposed anew meanwhile."""
    world = World()
    world.lead(OTHERS[0])
    results = world.propose(A)
    ((kind, data),) = world.lose()
    world.lead(OTHERS[1])
    world.begin_term()
    world.reject(kind, data, "not the leader")
    await asyncio.sleep(2 * RETRY_SECONDS)
    assert world.commands() == [A]
    world.commit()
    assert len(results) == 1


@virtual
async def test_proposal_made_anew_is_given_up_at_its_old_time():
    """The client has waited since then."""
    world = World()
    world.lead(OTHERS[0])
    results = world.propose(A)
    await asyncio.sleep(5)
    later = world.propose(B)
    world.lose()
    world.lead(OTHERS[1])
    world.begin_term()
    await asyncio.sleep(world.config.request_timeout_seconds - 5 + SWEEP_SECONDS)
    assert (len(results), len(later)) == (1, 0)


@virtual
async def test_held_proposal_is_not_made_anew_by_a_term():
    """It waits to be offered, once."""
    world = World()
    world.lead(0)
    world.propose(A)
    world.begin_term()
    world.lead(OWN)
    world.begin_term()
    assert world.commands() == [A]


@virtual
async def test_proposal_is_left_alone_after_a_snapshot():
    """Nobody can tell whether it is contained: it is given up in time, never made anew."""
    world = World()
    results = world.propose(A)
    world.lose()
    world.server.on_cluster_replaced()
    world.lead(OTHERS[1])
    world.begin_term()
    assert world.commands() == []
    await pass_timeout(world)
    assert isinstance(only(results), RaftInternal)


@virtual
async def test_held_proposal_is_offered_also_after_a_snapshot():
    """It is in no log, and so in no snapshot."""
    world = World()
    world.lead(0)
    world.propose(A)
    world.server.on_cluster_replaced()
    world.lead(OWN)
    assert world.commands() == [A]


# --------------------------------------------------------------------------------------- the end


@virtual
async def test_stop_answers_everybody():
    """Proposals, held ones and reads; no timer is left."""
    world = World()
    waiting = [world.propose(A), world.read()]
    world.lead(0)
    waiting.append(world.propose(A))
    await world.stop()
    for results in waiting:
        assert only(results).cause == "etcdserver: server stopped"
    assert world.server.applier.waiters == {}
    await asyncio.sleep(60)
    assert all(len(results) == 1 for results in waiting)


@virtual
async def test_read_of_a_stopped_node_is_forgotten():
    """The listener has closed: nobody is there to be told."""
    world = World()
    world.node.stopped = True
    assert world.read() == []
    assert_empty(world)


@virtual
async def test_sample_of_the_durations_is_taken():
    """One proposal in each sweep is measured."""
    world = World()
    for _ in range(3):
        world.propose(A)
    world.commit()
    pending = world.server._pending
    before = sum(pending.durations.counts)
    await asyncio.sleep(SWEEP_SECONDS)
    world.propose(A)
    world.propose(A)
    assert pending.count == 2
    world.commit()
    assert sum(pending.durations.counts) == before + 1


@virtual
async def test_added_member_is_told_to_whoever_asked():
    """The configuration entry carries who waits."""
    world = World()
    results: list[object] = []
    world.server.add_member(("http://new:1",), results.append)
    world.commit()
    assert results == [None]
    assert member(OWN).id in world.server.cluster.members
