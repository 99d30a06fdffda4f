"""The disk of a server that runs in an event loop.

A write to the log is begun by the loop: with a ring, where the kernel has one, else by a thread.
This thread also does what takes longer, as to begin a file; another one writes and reads snapshots.
Each does one thing at a time. Whatever goes wrong in any of them is our death: a disk that failed
once can't be believed again (an fsync that is repeated may succeed without having written
anything). A full disk is no failure: what needs room waits for it, and a snapshot is given up.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from raft.codec import make_batch
from raft.durations import DiskDurations
from raft.entry import SnapshotMeta
from raft.files import NoRoom, is_full
from raft.interfaces import Write
from raft.snapshots import SnapshotWriter
from raft.storage import DiskStorage

# The loop waits for a write, unless the last one took longer than this. While it runs, the log's
# thread has to win the interpreter from it, twice for each write: that takes longer than a quick
# disk.
QUICK_SECONDS = 0.0005
# How long it waits at most, so that nobody notices when a disk becomes slow, or hangs. If it were
# less, the processor's timer would have to be set for each write, as it would end before the
# kernel's next tick; in a virtual machine that takes longer than to encode the write.
PATIENCE_SECONDS = 0.002
# How often a full disk is asked whether there is room.
ROOM_SECONDS = 1.0

Die = Callable[[BaseException], None]
Job = Callable[[], None]
# Runs a step of the driver in the loop, and minds what comes of it.
Enter = Callable[[Callable[[], None]], None]


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
    """A `DiskStorage` that the loop does not wait for: `raft.interfaces.Storage` for the driver.

    Invariants:
      1. The log's files are the ring's while it writes, and the log's thread's at any other time;
         but to set room aside, and to remove what is not needed, does not touch what is written.
    """

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
        self._wal = disk.wal
        self._loop = loop
        self._die = die
        self._enter = enter
        self._wal_thread = DiskThread(loop, "wal", die, self._wait_for_room)
        # What becomes readable when a write of the ring has ended; -1 without a ring.
        self._ring = disk.wal.open_ring()
        # Of the last write: when it was begun, how many entries it has, and what is to follow it if
        # the loop does not wait for it.
        self._begun = 0.0
        self._entry_count = 0
        self._done: Job = nothing
        if self._ring >= 0:
            loop.add_reader(self._ring, self._ring_readable)
        self._snapshot_thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._saving: asyncio.Task[None] | None = None
        self._stopping = False
        # Set when nothing is written any more.
        self._idle = asyncio.Event()

    def write(self, write: Write, done: Callable[[], None]) -> bool:
        """See `raft.interfaces.Storage`."""
        self._watch()
        if self._ring >= 0 and write.snapshot is None:
            try:
                is_durable = self._write_by_ring(write, done)
            except Exception as error:
                self._die(error)
                return False
            if is_durable is not None:
                return is_durable
        done = partial(self._enter, done)
        job = partial(self._write_blocking, write)
        if self._is_quick and write.snapshot is None:
            return self._wal_thread.run(job, done, PATIENCE_SECONDS)
        self._wal_thread.submit(job, done)
        if write.snapshot is not None:
            # The leader's snapshot has made all that was here before it superfluous.
            self._wal_thread.submit(partial(self._disk.release, write.snapshot), nothing)
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
        if self._ring >= 0:
            if self._wal.is_writing:
                await self._idle.wait()
            self._loop.remove_reader(self._ring)
            self._ring = -1
        self._snapshot_thread.shutdown(wait=True)
        self._disk.close()

    def _write_by_ring(self, write: Write, done: Job) -> bool | None:
        """As `write`; None for what is not the ring's. Raises what is our death."""
        # Who proposes alone waits for nothing else, and so can we. Where there are others, they are
        # served meanwhile.
        count, before = len(write.entries), self._entry_count
        wait_seconds = PATIENCE_SECONDS if self._is_quick and count + before <= 2 else 0.0
        self._entry_count = count
        self._begun = time.perf_counter()
        batch = make_batch(None, write.entries, write.hard_state)
        if not self._wal.begin(batch, wait_seconds):
            return None
        if self._wal.finish():
            self._written(self._begun)
            return True
        self._done = partial(self._enter, done)
        return False

    def _ring_readable(self) -> None:
        try:
            if not self._wal.is_writing or not self._wal.finish():
                return
        except Exception as error:
            self._die(error)
            return
        finally:
            if self._stopping and not self._wal.is_writing:
                self._idle.set()
        self._written(self._begun)
        done, self._done = self._done, nothing
        done()

    def _write_blocking(self, write: Write) -> None:
        started = time.perf_counter()
        self._disk.write_blocking(write)
        self._written(started)

    def _written(self, started: float) -> None:
        ended = time.perf_counter()
        self.durations.writes.add(ended - started)
        self._is_quick = ended - started < QUICK_SECONDS
        self._is_stuck = False
        if self._wal.wants_room and (ended >= self._next_look or self._wal.is_short):
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
        self._wal_thread.submit(partial(self._disk.release, meta), nothing)


def nothing() -> None:
    """What follows when nobody wants to know."""


__all__ = ["Die", "DiskThread", "Enter", "Job", "LoopStorage", "nothing"]
