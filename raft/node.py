"""Node: a driver running in an asyncio event loop, with files for a disk and sockets for a network.

Relies on being called from the loop's own thread only. Two threads serve it: one makes the log
durable, the other writes and reads snapshots; each does one thing at a time. Whatever goes wrong
in either is our death: a disk that failed once can't be believed again (an fsync that is repeated
may succeed without having written anything). A full disk is no failure: what needs room waits for
it, and a snapshot is given up.
"""

import asyncio
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from raft.confchange import ConfigChange
from raft.core import Core
from raft.driver import Driver, ReadDone
from raft.durations import DiskDurations
from raft.entry import SnapshotMeta
from raft.errors import Stopped
from raft.files import NoRoom, is_full
from raft.gathering import Gathering
from raft.interfaces import Recovered, StateMachine, Transport, Write
from raft.messages import Envelope
from raft.snapshots import SnapshotWriter
from raft.state import CoreConfig
from raft.storage import DiskStorage

log = logging.getLogger(__name__)

# How long the loop waits for a write, unless the last one took longer. While it runs, the log's
# thread has to win the interpreter from it, twice for each write: that takes longer than a quick
# disk. And it is so short that nobody notices when a disk is slow, or hangs.
PATIENCE_SECONDS = 0.0005
# How often a full disk is asked whether there is room.
ROOM_SECONDS = 1.0

Die = Callable[[BaseException], None]
Job = Callable[[], None]
# Runs a step of the driver in the loop, and minds what comes of it.
Enter = Callable[[Callable[[], None]], None]


@dataclass(slots=True)
class Leadership:
    """Who leads, as this server knows it."""

    term: int
    leader: int  # 0 when nobody does
    role: str


class DiskThread:
    """Runs jobs one after another in a thread of its own, and tells the loop when each is done."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        die: Die,
        lack_room: "Callable[[Job, Job], None] | None" = None,
    ) -> None:
        """`lack_room` is given, in the loop, a job for which the disk had no room."""
        self._loop = loop
        self._die = die
        self._lack_room = lack_room
        self._jobs: queue.SimpleQueue[tuple[Job, Job, threading.Lock | None] | None] = (
            queue.SimpleQueue()
        )
        # Released by the thread when a job is done for which the loop waits.
        self._finished = threading.Lock()
        self._finished.acquire()
        self._worker = threading.Thread(target=self._run, name=name, daemon=True)
        self._worker.start()

    def submit(self, job: Job, done: Job) -> None:
        """Run `job` in the thread, then `done` in the loop."""
        self._jobs.put((job, done, None))

    def run(self, job: Job, done: Job, seconds: float) -> bool:
        """Run `job` in the thread and wait for it; True if it has ended within so many seconds.

        If it has not, this is as `submit`.
        """
        # Whoever gets it first decides: we that it takes too long, or the thread that it does not.
        decision = threading.Lock()
        self._jobs.put((job, done, decision))
        if self._finished.acquire(timeout=seconds):
            return True
        if decision.acquire(blocking=False):
            return False
        self._finished.acquire()
        return True

    def stop(self) -> None:
        """Finish what was submitted, then end. Blocks until then."""
        self._jobs.put(None)
        self._worker.join()

    def _run(self) -> None:
        while True:
            task = self._jobs.get()
            if task is None:
                return
            job, done, decision = task
            try:
                job()
            except BaseException as error:
                if self._lack_room is None or not isinstance(error, NoRoom):
                    self._die(error)
                    return
                done, decision = partial(self._lack_room, job, done), None
            if decision is not None and decision.acquire(blocking=False):
                self._finished.release()
                continue
            try:
                self._loop.call_soon_threadsafe(done)
            except RuntimeError:
                return  # the loop is closed: nobody waits for the answer any more


class LoopStorage:
    """A `DiskStorage` behind two threads: `raft.interfaces.Storage` for the driver."""

    def __init__(
        self,
        disk: DiskStorage,
        loop: asyncio.AbstractEventLoop,
        die: Die,
        enter: Enter,
        watch: Callable[[], None],
        on_filled: Callable[[bool], None],
    ) -> None:
        """What is to be called when the disk has done something goes through `enter`.

        `watch` is called before each write, after which what it holds may be applied at once.
        `on_filled` is told when the disk begins to lack room for the log, and when that is over.
        """
        self._watch = watch
        self.durations = DiskDurations()
        self._on_filled = on_filled
        self._is_full = False
        # The last write took no longer than the loop may wait.
        self._is_quick = True
        # A write waits for room.
        self._is_stuck = False
        # Looked for in the log's thread: what came of it, and when to look again.
        self._lacks_room = False
        self._next_look = 0.0
        self._room_timer: asyncio.TimerHandle | None = None
        self._disk = disk
        self._loop = loop
        self._die = die
        self._enter = enter
        self._wal_thread = DiskThread(loop, "wal", die, self._wait_for_room)
        self._snapshot_thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._saving: asyncio.Task[None] | None = None
        self._stopping = False

    def write(self, write: Write, done: Callable[[], None]) -> bool:
        """See `raft.interfaces.Storage`."""
        self._watch()
        job, done = partial(self._write_blocking, write), partial(self._enter, done)
        if self._is_quick and write.snapshot is None:
            return self._wal_thread.run(job, done, PATIENCE_SECONDS)
        self._wal_thread.submit(job, done)
        if write.snapshot is not None:
            # The leader's snapshot has made all that was here before it superfluous.
            self._wal_thread.submit(partial(self._disk.release, write.snapshot), _nothing)
        return False

    def save_snapshot(
        self,
        meta: SnapshotMeta,
        chunks: Iterator[bytes],
        done: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        """See `raft.interfaces.Storage`. The loop runs between any two chunks."""
        saving = self._save_snapshot(meta, chunks, done, given_up)
        self._saving = self._loop.create_task(saving)

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `raft.interfaces.Storage`."""
        return self._disk.read_snapshot(meta)

    async def stop(self) -> None:
        """Finish what is being written; give up a snapshot that is not complete."""
        self._stopping = True
        if self._room_timer is not None:
            self._room_timer.cancel()
        if self._saving is not None:
            await self._saving
        await self._loop.run_in_executor(None, self._wal_thread.stop)
        self._snapshot_thread.shutdown(wait=True)
        self._disk.close()

    def _write_blocking(self, write: Write) -> None:
        started = time.perf_counter()
        self._disk.write_blocking(write)
        ended = time.perf_counter()
        self.durations.writes.add(ended - started)
        self._is_quick = ended - started < PATIENCE_SECONDS
        self._is_stuck = False
        if self._disk.wants_room and (ended >= self._next_look or self._disk.is_short):
            self._wal_thread.submit(self._make_room, self._room_known)

    def _make_room(self) -> None:
        self._lacks_room = not self._disk.make_room()
        self._next_look = time.perf_counter() + ROOM_SECONDS

    def _wait_for_room(self, job: Job, done: Job) -> None:
        """Do a job later that the disk had no room for; what was to follow it waits, too."""
        self._is_stuck = True
        self._room_known()
        self._loop.call_later(ROOM_SECONDS, self._wal_thread.submit, job, done)

    def _room_known(self) -> None:
        """Tell of it if the disk has become full, or has room again; ask again while it is full."""
        full = self._lacks_room or self._is_stuck
        if full != self._is_full and not self._stopping:
            self._is_full = full
            self._enter(partial(self._on_filled, full))
        if full and self._room_timer is None and not self._stopping:
            self._room_timer = self._loop.call_later(ROOM_SECONDS, self._look_for_room)

    def _look_for_room(self) -> None:
        self._room_timer = None
        self._wal_thread.submit(self._make_room, self._room_known)

    async def _save_snapshot(
        self, meta: SnapshotMeta, chunks: Iterator[bytes], done: Job, given_up: Job
    ) -> None:
        writer: SnapshotWriter | None = None
        run = partial(self._loop.run_in_executor, self._snapshot_thread)
        started, encoding = time.perf_counter(), 0.0
        try:
            writer = await run(self._disk.begin_snapshot, meta)
            # Encoding is done here, in slices, and not in the thread: there it would hold the
            # interpreter for a whole switch interval at a time.
            while True:
                asked = time.perf_counter()
                chunk = next(chunks, None)
                encoding += time.perf_counter() - asked
                if chunk is None:
                    break
                if self._stopping:
                    await run(writer.abort)
                    return
                await run(writer.write, chunk)
            await run(writer.commit)
        except Exception as error:
            try:
                if not isinstance(error, OSError) or not is_full(error):
                    raise
                if writer is not None:
                    await run(writer.abort)
            except Exception as failure:
                self._die(failure)
                return
            self._enter(given_up)
            return
        self.durations.snapshots.add(time.perf_counter() - started)
        self.durations.encodings.add(encoding)
        self._enter(done)
        # The log's files belong to the log's thread.
        self._wal_thread.submit(partial(self._disk.release, meta), _nothing)


def _nothing() -> None:
    """What follows when nobody wants to know."""


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

    def save_snapshot(self, given_up: Callable[[], None] = _nothing) -> bool:
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
