"""Proves that a node keeps its promises on a real disk, and dies when it cannot."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ParamSpec

import pytest

from raft import (
    ADD_VOTER,
    Change,
    ConfigChange,
    Envelope,
    Leadership,
    NotLeader,
    ProposalDropped,
    Stopped,
)
from raft.messages import (
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVote,
    Propose,
    ProposeReject,
)
from tests.raft.node_world import TICK_SECONDS, ShiftedLoop, World, set_patience
from tests.virtual_time import no_loose_errors

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test in a real loop, whose clock can be put forward."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=ShiftedLoop) as runner, no_loose_errors(runner.get_loop()):
            runner.run(test(*args, **kwargs))

    return run


def connect(*worlds: World) -> None:
    """Let these nodes hear each other."""
    by_id = {world.id: world for world in worlds}

    def deliver(envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.recipient in by_id:
                by_id[envelope.recipient].node.receive([envelope])

    for world in worlds:
        world.deliver = deliver


# ---------------------------------------------------------------------------------- usual life


@in_loop
async def test_single_voter_elects_itself_and_applies_what_is_proposed(tmp_path: Path):
    """In the order of the proposals."""
    world = await World(tmp_path).start()
    assert world.leaderships[-1] == Leadership(2, 1, "leader")
    await world.applies(b"a", b"b", b"c")
    assert world.machine.applied == [b"a", b"b", b"c"]
    await world.stop()


@in_loop
async def test_proposals_of_one_turn_are_one_write(tmp_path: Path):
    """And the node works once for all of them."""
    world = await World(tmp_path).start()
    await world.applies(b"first")
    batches: list[int] = []
    world.machine.on_apply = lambda: batches.append(len(world.machine.applied))
    await world.applies(*(b"%d" % number for number in range(100)))
    assert batches == [101]
    await world.stop()


@in_loop
async def test_restart_recovers_everything(tmp_path: Path):
    """What is known to be committed is applied before `start` returns, the rest soon after."""
    world = await World(tmp_path).start()
    await world.applies(b"a", b"b")
    term = world.node.core.term
    await world.stop()
    world = World(tmp_path)
    await world.start()
    await world.until(lambda: world.machine.applied == [b"a", b"b"])
    assert world.node.core.term > term
    await world.stop()


@in_loop
async def test_read_sees_what_was_applied_before(tmp_path: Path):
    """As soon as the leader is sure to lead."""
    world = await World(tmp_path).start()
    await world.applies(b"a")
    seen: list[list[bytes]] = []
    world.node.read_index(lambda: seen.append(list(world.machine.applied)))
    await world.until(lambda: bool(seen))
    assert seen == [[b"a"]]
    await world.stop()


@in_loop
async def test_membership_change_comes_into_force(tmp_path: Path):
    """When it is applied."""
    world = await World(tmp_path).start()
    await world.applies(b"a")
    world.node.propose_config(ConfigChange((Change(ADD_VOTER, 2),)))
    await world.until(lambda: world.machine.configuration.voters == (1, 2))
    await world.stop()


@in_loop
async def test_rejected_proposals_come_back(tmp_path: Path):
    """A follower passes them on, and its leader may refuse."""
    world = await World(tmp_path, voters=(1, 2), election_ticks=1_000).start()
    world.node.receive([Envelope(2, 1, 1, Heartbeat(0, 0))])
    world.node.propose(b"x")
    await world.until(lambda: any(isinstance(it.message, Propose) for it in world.sent))
    world.node.receive([Envelope(2, 1, 1, ProposeReject("full", [(1, b"x")]))])
    await world.until(lambda: bool(world.machine.rejected))
    assert world.machine.rejected[0].reason == "full"
    await world.stop()


@in_loop
async def test_message_is_answered_in_the_turn_that_brings_it(tmp_path: Path):
    """Whoever sent it waits. Only proposals that have gathered before stay together."""
    world = await World(tmp_path, voters=(1, 2), election_ticks=1_000).start()
    world.node.receive([Envelope(2, 1, 1, Heartbeat(0, 0))])
    await world.until(lambda: world.node.leadership.leader == 2)
    world.sent.clear()
    world.node.receive([Envelope(2, 1, 1, Heartbeat(0, 7))])
    assert [it.message for it in world.sent] == [HeartbeatResponse(7)]
    world.sent.clear()
    world.node.propose(b"x")
    world.node.receive([Envelope(2, 1, 1, Heartbeat(0, 8))])
    world.node.propose(b"y")
    assert world.sent == []
    await world.until(lambda: len(world.sent) > 1)
    proposals = [it.message.proposals for it in world.sent if isinstance(it.message, Propose)]
    assert proposals == [[(1, b"x"), (1, b"y")]]
    await world.stop()


# ---------------------------------------------------------------------------------- leadership


@in_loop
async def test_every_switch_of_leadership_is_reported(tmp_path: Path):
    """Found, lost, and found again in another term."""
    world = await World(tmp_path, voters=(1, 2, 3), election_ticks=1_000).start()
    assert world.leaderships == []
    for sender, term in ((2, 1), (2, 1), (3, 2)):
        world.node.receive([Envelope(sender, 1, term, Heartbeat(0, 0))])
        await world.until(lambda term=term: world.node.leadership.term == term)
        await world.until(lambda sender=sender: world.node.leadership.leader == sender)
    assert world.leaderships == [Leadership(1, 2, "follower"), Leadership(2, 3, "follower")]
    await world.stop()


@in_loop
async def test_leadership_is_told_before_the_first_entry_of_its_term_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also when a quick disk, as which any will do here, has it applied in the same turn."""
    set_patience(monkeypatch, 10.0)
    world = World(tmp_path)
    roles: list[str] = []
    world.machine.on_apply = lambda: roles.append(world.node.leadership.role)
    await world.start()
    await world.applies(b"a")
    assert set(roles) == {"leader"}
    await world.stop()


@in_loop
async def test_campaign_asks_at_once(tmp_path: Path):
    """No timeout need pass."""
    world = await World(tmp_path, voters=(1, 2, 3), election_ticks=100_000).start()
    world.node.campaign()
    await world.until(lambda: [type(it.message) for it in world.sent] == [PreVote] * 2)
    assert world.leaderships == [Leadership(1, 0, "pre_candidate")]
    await world.stop()


@in_loop
async def test_lost_leader_is_replaced_soon(tmp_path: Path):
    """Its connections have broken: the election need not wait for a whole timeout."""
    world = await World(tmp_path, voters=(1, 2, 3), election_ticks=300).start()
    world.node.receive([Envelope(2, 1, 1, Heartbeat(0, 0))])
    await world.until(lambda: world.node.leadership.leader == 2)
    world.node.report_leader_lost()
    await world.until(lambda: any(isinstance(it.message, PreVote) for it in world.sent))
    await world.stop()


@in_loop
async def test_leadership_is_handed_over(tmp_path: Path):
    """And the old leader waits until it has gone."""
    worlds = [World(tmp_path, server_id=it, voters=(1, 2), election_ticks=200) for it in (1, 2)]
    connect(*worlds)
    for world in worlds:
        await world.start()
    first, second = worlds
    first.node.campaign()
    await first.until(lambda: first.node.leadership.role == "leader")
    await first.applies(b"a")
    await first.node.transfer_leadership(2, 5.0)
    assert first.node.core.leader == 2
    await second.until(lambda: second.node.leadership.role == "leader")
    await second.applies(b"b")
    await first.until(lambda: first.machine.applied == [b"a", b"b"])
    for world in worlds:
        await world.stop()


@in_loop
async def test_hand_over_to_nobody_fails(tmp_path: Path):
    """To one that is silent it takes too long; to a stranger it does not begin."""
    worlds = [World(tmp_path, server_id=it, voters=(1, 2), election_ticks=200) for it in (1, 2)]
    connect(*worlds)
    for world in worlds:
        await world.start()
    first = worlds[0]
    first.node.campaign()
    await first.until(lambda: first.node.leadership.role == "leader")
    with pytest.raises(ProposalDropped, match="63 is not a voter"):
        await first.node.transfer_leadership(0x63, 1.0)
    with pytest.raises(NotLeader):
        await worlds[1].node.transfer_leadership(1, 1.0)
    first.deliver = None
    with pytest.raises(TimeoutError, match=r"2 did not take over in 0\.02 s"):
        await first.node.transfer_leadership(2, 0.02)
    for world in worlds:
        await world.stop()


@in_loop
async def test_ticks_that_were_missed_are_not_made_up_for(tmp_path: Path):
    """A loop that was held up must not take that for the silence of a leader."""
    election_ticks = 500
    world = await World(tmp_path, voters=(1, 2, 3), election_ticks=election_ticks).start()
    assert isinstance(world.loop, ShiftedLoop)
    world.loop.shift += 10 * election_ticks * TICK_SECONDS
    for _ in range(2 * election_ticks):
        await asyncio.sleep(0)
    assert world.sent == []
    await world.stop()


# ----------------------------------------------------------------------------------- snapshots


@in_loop
async def test_snapshot_is_written_while_proposals_go_on(tmp_path: Path):
    """It holds the moment of its beginning; a restart needs it and what came after."""
    world = await World(tmp_path).start()
    early = [b"early %d" % number for number in range(50)]
    await world.applies(*early)
    late: list[bytes] = []

    def propose() -> None:
        late.append(b"late %d" % len(late))
        world.node.propose(late[-1])

    world.machine.on_chunk = propose
    assert world.node.save_snapshot()
    assert not world.node.save_snapshot()
    await world.until(lambda: world.node.core.snapshot_index > 0)
    await world.until(lambda: len(world.machine.applied) == 100)
    assert sum(world.node.disk_durations.snapshots.counts) == 1
    await world.stop()
    world = await World(tmp_path).start()
    assert world.machine.restored == early
    await world.until(lambda: world.machine.applied == early + late)
    await world.stop()


@in_loop
async def test_snapshot_that_is_superseded_is_removed(tmp_path: Path):
    """As many are kept as are asked for."""
    world = await World(tmp_path, max_snapshots=1).start()
    for data in (b"a", b"b"):
        await world.applies(data)
        before = world.node.core.snapshot_index
        assert world.node.save_snapshot()
        await world.until(lambda before=before: world.node.core.snapshot_index > before)
        await world.until(lambda: len(world.snapshot_files()) == 1)
    assert not world.node.save_snapshot()
    await world.stop()


@in_loop
async def test_snapshot_of_the_leader_is_restored(tmp_path: Path):
    """It came as a file; older ones are superfluous then."""
    leader = await World(tmp_path, server_id=2, voters=(2,)).start()
    await leader.applies(b"a", b"b")
    leader.node.save_snapshot()
    await leader.until(lambda: leader.node.core.snapshot_index > 0)
    world = await World(tmp_path, voters=(1, 2), election_ticks=1_000, max_snapshots=1).start()
    world.node.save_snapshot()
    await world.until(lambda: world.node.core.snapshot_index == 1)
    (name,) = leader.snapshot_files()
    receiver = world.disk.receive_snapshot()
    receiver.write((leader.directory / "member" / "snap" / name).read_bytes())
    meta = receiver.commit()
    term = leader.node.core.term
    world.node.receive([Envelope(2, 1, term, InstallSnapshot(meta))])
    await world.until(lambda: world.machine.restored == [b"a", b"b"])
    assert world.machine.configuration.voters == (2,)
    await world.until(lambda: world.snapshot_files() == [name])
    for it in (leader, world):
        await it.stop()


@in_loop
async def test_stop_gives_up_a_snapshot_that_is_not_complete(tmp_path: Path):
    """Nothing of it is left, and nobody has died of it."""
    world = await World(tmp_path).start()
    await world.applies(*(b"%d" % number for number in range(50)))
    stopping: list[asyncio.Future[None]] = []

    def stop() -> None:
        if not stopping:
            stopping.append(asyncio.ensure_future(world.node.stop()))

    world.machine.on_chunk = stop
    world.node.save_snapshot()
    await world.until(lambda: bool(stopping) and stopping[0].done())
    assert world.deaths == []
    assert world.snapshot_files() == []
    assert world.node.core.snapshot_index == 0


# -------------------------------------------------------------------------------------- the end


@in_loop
async def test_stop_finishes_the_write_in_flight_and_tells_nobody(tmp_path: Path):
    """What is on its way is durable; the state machine is left alone."""
    world = await World(tmp_path).start()
    await world.applies(b"a")
    world.files.may_write.clear()
    world.files.is_writing.clear()
    world.node.propose(b"b")
    await world.until(world.files.is_writing.is_set)
    stopping = asyncio.ensure_future(world.stop())
    await asyncio.sleep(0)
    world.files.may_write.set()
    await stopping
    for _ in range(3):
        await asyncio.sleep(0)
    assert world.machine.applied == [b"a"]
    world = await World(tmp_path).start()
    await world.until(lambda: world.machine.applied == [b"a", b"b"])
    await world.stop()


@in_loop
async def test_stopped_node_takes_nothing_more(tmp_path: Path):
    """Users are told; what the network brings is dropped."""
    world = await World(tmp_path).start()
    node = world.node
    await world.stop()
    with pytest.raises(Stopped):
        node.propose(b"x")
    with pytest.raises(Stopped):
        node.propose_config(ConfigChange((Change(ADD_VOTER, 2),)))
    with pytest.raises(Stopped):
        node.read_index(lambda: None)
    with pytest.raises(Stopped):
        await node.transfer_leadership(2, 1.0)
    assert not node.save_snapshot()
    node.receive([Envelope(2, 1, 9, Heartbeat(0, 0))])
    node.campaign()
    node.report_unreachable(2)
    node.report_reachable(2)
    node.report_leader_lost()
    node.report_snapshot(2, delivered=True)
    await asyncio.sleep(0)
    assert (node.core.term, world.machine.applied) == (2, [])


@in_loop
async def test_node_that_never_started_can_be_stopped(tmp_path: Path):
    """Something else went wrong first; the directory is free again."""
    await World(tmp_path).stop()
    await (await World(tmp_path).start()).stop()


@in_loop
async def test_reports_of_the_network_are_taken(tmp_path: Path):
    """By a leader, who looks anew where its follower stands."""
    worlds = [World(tmp_path, server_id=it, voters=(1, 2), election_ticks=200) for it in (1, 2)]
    connect(*worlds)
    for world in worlds:
        await world.start()
    first = worlds[0]
    first.node.campaign()
    await first.until(lambda: first.node.leadership.role == "leader")
    await first.applies(b"a")
    first.node.report_unreachable(2)
    first.node.report_reachable(2)
    first.node.report_snapshot(2, delivered=False)
    await first.applies(b"b")
    for world in worlds:
        await world.stop()


# ---------------------------------------------------------------------------------- its death


@in_loop
async def test_failing_write_is_our_death(tmp_path: Path):
    """Nothing is applied that is not durable, and nothing is written after it."""
    world = await World(tmp_path).start()
    await world.applies(b"a")
    world.files.fails_writes = True
    world.node.propose(b"b")
    error = await world.dies()
    assert isinstance(error, OSError)
    assert error.errno == 5
    world.files.fails_writes = False
    world.node.propose(b"c")
    await world.node.stop()
    assert (world.machine.applied, len(world.deaths)) == ([b"a"], 1)


@in_loop
async def test_failing_snapshot_is_our_death(tmp_path: Path):
    """A disk that failed once can't be believed again."""
    world = await World(tmp_path).start()
    await world.applies(b"a")
    world.files.fails_creates = True
    world.node.save_snapshot()
    error = await world.dies()
    assert isinstance(error, OSError)
    assert error.errno == 5
    await world.node.stop()


def fail() -> None:
    raise AssertionError("a bug")


@pytest.mark.parametrize("where", ["apply", "capture", "on_leadership"])
@in_loop
async def test_bug_is_our_death(tmp_path: Path, where: str):
    """Corrupt state must not go on serving."""
    world = await World(tmp_path).start()
    await world.applies(b"a")
    if where == "apply":
        world.machine.on_apply = fail
        world.node.propose(b"b")
    elif where == "capture":
        world.machine.on_chunk = fail
        world.node.save_snapshot()
    else:
        world.on_led = fail
        world.node.receive([Envelope(2, 1, 9, Heartbeat(0, 0))])
    assert str(await world.dies()) == "a bug"
    await world.node.stop()
