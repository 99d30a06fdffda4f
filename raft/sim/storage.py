"""The storage of a simulated process: the real `DiskStorage`, whose work takes virtual time.

It plays the part of the node's disk threads: one writes the log, the other snapshots, each does one
thing at a time and answers through the loop.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from raft.entry import SnapshotMeta
from raft.interfaces import Write
from raft.snapshots import SnapshotWriter
from raft.storage import DiskStorage

Done = Callable[[], None]


class Threads(Protocol):
    """How a process lets time pass."""

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

    def write(self, write: Write, done: Done) -> None:
        """See `raft.interfaces.Storage`."""
        self._threads.begin_write(write)
        self.writing = write
        threads = self._threads
        threads.later(threads.draw_write_us(), lambda: self._finish(write, done))

    def save_snapshot(self, meta: SnapshotMeta, chunks: Iterator[bytes], done: Done) -> None:
        """See `raft.interfaces.Storage`."""
        self._threads.later(0, lambda: self._begin_snapshot(meta, chunks, done))

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `raft.interfaces.Storage`."""
        return self.disk.read_snapshot(meta)

    def _finish(self, write: Write, done: Done) -> None:
        self.disk.write_blocking(write)
        self.writing = None
        self._threads.end_write(write)
        # The machine may fail between the flush and whoever waits for it.
        threads = self._threads
        threads.later(0, lambda: threads.enter(done))

    def _begin_snapshot(self, meta: SnapshotMeta, chunks: Iterator[bytes], done: Done) -> None:
        self._draw_chunk(meta, self.disk.begin_snapshot(meta), chunks, done)

    def _draw_chunk(
        self, meta: SnapshotMeta, writer: SnapshotWriter, chunks: Iterator[bytes], done: Done
    ) -> None:
        threads = self._threads
        chunk = next(chunks, None)
        if chunk is None:
            writer.commit()
            threads.later(0, lambda: self._release(meta, done))
        else:
            writer.write(chunk)
            threads.later(
                threads.draw_write_us(), lambda: self._draw_chunk(meta, writer, chunks, done)
            )

    def _release(self, meta: SnapshotMeta, done: Done) -> None:
        self._threads.enter(done)
        self._threads.later(0, lambda: self.disk.release(meta))
