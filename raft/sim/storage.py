"""The storage of a simulated process: the real `DiskStorage`, whose work takes virtual time.

It plays the part of the node's disk threads: one writes the log, the other snapshots, each does one
thing at a time and answers through the loop. Like there, what a full disk has no room for waits.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from raft.entry import SnapshotMeta
from raft.files import NoRoom, is_full
from raft.interfaces import Write
from raft.sim.clock import SECOND
from raft.snapshots import SnapshotWriter
from raft.storage import DiskStorage

Done = Callable[[], None]

# How often a full disk is asked whether there is room.
ROOM_US: Final = 1 * SECOND


class Threads(Protocol):
    """How a process lets time pass."""

    @property
    def waits(self) -> bool:
        """Whether a write that takes no time is waited for."""

    def later(self, delay: int, action: Done) -> None:
        """Do `action` in so many microseconds, unless the process has ended or stands still."""

    def enter(self, step: Done) -> None:
        """Let the driver do something."""

    def draw_write_us(self) -> int:
        """Return how long the disk takes for one durable write."""

    def begin_write(self, write: Write) -> None:
        """Note that `write` is given to the disk."""

    def end_write(self, write: Write) -> None:
        """Note that the disk has confirmed `write`."""

    def disk_filled(self, *, full: bool) -> None:
        """Note that the disk has no room for the log any more, or has some again."""


class TimedStorage:
    """`raft.interfaces.Storage` for the driver.

    Invariants:
      1. What `writing` holds is not on the disk before its time has come.
    """

    def __init__(self, disk: DiskStorage, threads: Threads) -> None:
        self.disk = disk
        # The write on its way, for whoever lets the machine fail in the middle of it.
        self.writing: Write | None = None
        self._threads = threads
        self._is_full = False
        # A write waits for room; it will be looked for again.
        self._is_stuck = False
        self._is_waiting = False

    def write(self, write: Write, done: Done) -> bool:
        """See `raft.interfaces.Storage`."""
        self._threads.begin_write(write)
        self.writing = write
        threads = self._threads
        write_us = threads.draw_write_us()
        if write_us == 0 and threads.waits:
            return self._try_to_write(write, done)
        threads.later(write_us, lambda: self._finish(write, done))
        return False

    def save_snapshot(
        self, meta: SnapshotMeta, chunks: Iterator[bytes], done: Done, given_up: Done
    ) -> None:
        """See `raft.interfaces.Storage`."""
        self._threads.later(0, lambda: self._begin_snapshot(meta, chunks, done, given_up))

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `raft.interfaces.Storage`."""
        return self.disk.read_snapshot(meta)

    def _finish(self, write: Write, done: Done) -> None:
        if self._try_to_write(write, done):
            # The machine may fail between the flush and whoever waits for it.
            self._threads.later(0, lambda: self._threads.enter(done))

    def _try_to_write(self, write: Write, done: Done) -> bool:
        """Write, or try again later, and then call `done`, if there is no room."""
        threads = self._threads
        try:
            self.disk.write_blocking(write)
        except NoRoom:
            self._is_stuck = True
            threads.later(0, self._look_for_room)
            threads.later(ROOM_US, lambda: self._finish(write, done))
            return False
        self._is_stuck = False
        self.writing = None
        threads.end_write(write)
        if self.disk.wants_room:
            threads.later(0, self._look_for_room)
        return True

    def _look_for_room(self) -> None:
        full = not self.disk.make_room() or self._is_stuck
        if full != self._is_full:
            self._is_full = full
            self._threads.disk_filled(full=full)
        if full and not self._is_waiting:
            self._is_waiting = True
            self._threads.later(ROOM_US, self._look_again)

    def _look_again(self) -> None:
        self._is_waiting = False
        self._look_for_room()

    def _begin_snapshot(
        self, meta: SnapshotMeta, chunks: Iterator[bytes], done: Done, given_up: Done
    ) -> None:
        try:
            writer = self.disk.begin_snapshot(meta)
        except OSError as error:
            if not is_full(error):
                raise
            self._threads.later(0, lambda: self._threads.enter(given_up))
            return
        self._draw_chunk(meta, writer, chunks, done, given_up)

    def _draw_chunk(
        self,
        meta: SnapshotMeta,
        writer: SnapshotWriter,
        chunks: Iterator[bytes],
        done: Done,
        given_up: Done,
    ) -> None:
        threads = self._threads
        chunk = next(chunks, None)
        try:
            if chunk is None:
                writer.commit()
            else:
                writer.write(chunk)
        except OSError as error:
            if not is_full(error):
                raise
            writer.abort()
            threads.later(0, lambda: threads.enter(given_up))
            return
        if chunk is None:
            threads.later(0, lambda: self._release(meta, done))
        else:
            threads.later(
                threads.draw_write_us(),
                lambda: self._draw_chunk(meta, writer, chunks, done, given_up),
            )

    def _release(self, meta: SnapshotMeta, done: Done) -> None:
        self._threads.enter(done)
        self._threads.later(0, lambda: self.disk.release(meta))
