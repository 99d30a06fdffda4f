"""Node: a driver running in an asyncio event loop, with files for a disk and sockets for a network.

Relies on being called from the loop's own thread only, and on `raft.loop_storage` for whatever
takes the disk's time.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from raft.confchange import ConfigChange
from raft.core import Core
from raft.driver import Driver, ReadDone
from raft.durations import DiskDurations
from raft.errors import Stopped
from raft.gathering import Gathering
from raft.interfaces import Recovered, StateMachine, Transport
from raft.loop_storage import Die, Job, LoopStorage, nothing
from raft.messages import Envelope
from raft.state import CoreConfig
from raft.storage import DiskStorage
from raft.vigil import Vigil

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Leadership:
    """Who leads, as this server knows it."""

    term: int
    leader: int  # 0 when nobody does
    role: str


class Node:
    """A server of the cluster.

    Proposals are answered through the state machine: raft does not know whose they are.
    """

    def __init__(
        self,
        config: CoreConfig,
        recovered: Recovered,
        disk: DiskStorage,
        transport: Transport,
        machine: StateMachine,
        *,
        tick_seconds: float,
        rng: random.Random,
        die: Die,
        on_leadership: Callable[[Leadership], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = LoopStorage(
            *(disk, self._loop, die, self._enter),
            # A change of leadership is told before the first entry of its term is applied.
            watch=self._watch_leadership,
            on_filled=self._disk_filled,
        )
        self._core = Core(config, recovered, rng, logging.getLogger("raft"))
        self._driver = Driver(
            self._core,
            self._storage,
            transport,
            machine,
            first_context=rng.getrandbits(62) + 1,
            read_retry_ticks=config.election_ticks,
            log=log,
        )
        self._die = die
        self._tick_seconds = tick_seconds
        self._on_leadership = on_leadership
        self._leadership = Leadership(self._core.term, self._core.leader, self._core.role)
        self._armed = False
        self._gathering = Gathering()
        self._vigil = Vigil()
        self._is_awake = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Apply what is known to be committed, then let time pass.

        The state machine must have been restored from the newest snapshot before.
        """
        self._pump()
        self._next_tick = self._loop.time() + self._tick_seconds
        self._timer = self._loop.call_at(self._next_tick, self._tick)

    # ------------------------------------------------------------------------ what users ask

    def propose(self, data: bytes) -> None:
        """Put `data` into the log. Raises ProposalDropped; Stopped."""
        if self._stopped:
            raise Stopped("the node is stopped")
        self._core.propose(data)
        self._gathering.add()
        self._arm()

    def propose_config(self, change: ConfigChange) -> None:
        """Put a membership change into the log. Raises ProposalDropped; Stopped."""
        if self._stopped:
            raise Stopped("the node is stopped")
        self._core.propose_config(change)
        self._arm()

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when the state machine holds all that is committed now (thesis 6.4)."""
        if self._stopped:
            raise Stopped("the node is stopped")
        self._driver.read_index(done)
        self._arm()

    def save_snapshot(self, given_up: Job = nothing) -> bool:
        """Begin a snapshot; False while one is being written, or when there is nothing new.

        `given_up` is called when the disk has no room for it.
        """
        return not self._stopped and self._driver.save_snapshot(given_up)

    async def transfer_leadership(self, transferee: int, timeout_seconds: float) -> None:
        """Hand the leadership over and wait until it has gone.

        Raises NotLeader; ProposalDropped when the transferee is no voter; Stopped; TimeoutError
        when it did not take over in time.
        """
        if self._stopped:
            raise Stopped("the node is stopped")
        self._core.transfer_leadership(transferee)
        self._arm()
        deadline = self._loop.time() + timeout_seconds
        while self._core.role == "leader" or self._core.leader == 0:
            if self._loop.time() > deadline:
                raise TimeoutError(f"{transferee:x} did not take over in {timeout_seconds:g} s")
            await asyncio.sleep(self._tick_seconds / 10)

    async def stop(self) -> None:
        """End the ticks and close the disk. The transport is its owner's to stop, before this."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        await self._storage.stop()

    # ---------------------------------------------------------------------- what peers bring

    def receive(self, envelopes: list[Envelope]) -> None:
        """Take messages from the transport; what they show of a lost log is our death.

        They are acted upon at once, as whoever has sent them waits for it; but where proposals
        are gathering, together with these.
        """
        if self._stopped:
            return
        try:
            self._driver.step(envelopes)
        except Exception as error:
            self._die(error)
            return
        if not self._armed:
            self._enter(self._driver.pump)

    def report_unreachable(self, server_id: int) -> None:
        """Messages to this server are being lost: look again where it stands."""
        if not self._stopped:
            self._core.report_unreachable(server_id)

    def report_reachable(self, server_id: int) -> None:
        """There is a connection to this server again: if we lead, it hears of it at once."""
        if not self._stopped:
            self._core.report_reachable(server_id)
            self._arm()

    def report_leader_lost(self) -> None:
        """The leader's connections have broken: it has probably ended."""
        if not self._stopped:
            self._core.report_leader_lost()

    def campaign(self) -> None:
        """Try to become leader now, if the others know of none."""
        if not self._stopped:
            self._core.campaign()
            self._arm()

    def report_snapshot(self, server_id: int, delivered: bool) -> None:
        """A snapshot has reached its follower, or has not."""
        if not self._stopped:
            self._core.report_snapshot(server_id, delivered=delivered)
            self._arm()

    # --------------------------------------------------------------------------- what it knows

    @property
    def core(self) -> Core:
        """To look at, never to change."""
        return self._core

    @property
    def disk_durations(self) -> DiskDurations:
        """How long the disk has taken so far."""
        return self._storage.durations

    @property
    def disk_full(self) -> bool:
        """Whether proposals are refused, because the disk has no room for the log."""
        return self._core.log.is_full

    @property
    def leadership(self) -> Leadership:
        """Who leads, as of the last pump."""
        return self._leadership

    # ------------------------------------------------------------------------------- the loop

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._pump)

    def _disk_filled(self, full: bool) -> None:
        self._driver.disk_filled(full=full)

    def _pump(self) -> None:
        if self._gathering.wait():
            self._loop.call_soon(self._pump)
        else:
            self._armed = False
            self._enter(self._driver.pump)

    def _enter(self, step: Callable[[], None]) -> None:
        """Let the driver do something; a bug in it, or in the state machine, is our death."""
        if self._stopped:
            return
        try:
            step()
            self._watch_leadership()
        except Exception as error:
            self._die(error)
        if not self._is_awake and self._vigil_goes_on():
            self._is_awake = True
            self._loop.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        self._is_awake = not self._stopped and self._vigil_goes_on()
        if self._is_awake:
            os.sched_yield()
            self._loop.call_soon(self._stay_awake)

    def _vigil_goes_on(self) -> bool:
        log = self._core.log
        return self._vigil.goes_on(time.perf_counter(), log.last_index, log.commit_index)

    def _watch_leadership(self) -> None:
        core, known = self._core, self._leadership
        if core.leader != known.leader or core.term != known.term or core.role != known.role:
            self._leadership = Leadership(core.term, core.leader, core.role)
            self._on_leadership(self._leadership)

    def _tick(self) -> None:
        # A loop that was held up does not make up for lost ticks: that would be an election
        # timeout at a single blow.
        now = self._loop.time()
        self._next_tick = max(self._next_tick + self._tick_seconds, now + self._tick_seconds / 2)
        self._timer = self._loop.call_at(self._next_tick, self._tick)
        self._enter(self._driver.tick)
        self._arm()


__all__ = ["Die", "Leadership", "Node"]
