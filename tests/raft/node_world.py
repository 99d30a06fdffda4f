"""Nodes for tests: a real disk, a network that the test is, a state machine that takes notes."""

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from raft import (
    ADD_VOTER,
    CONFIG,
    Change,
    ConfigChange,
    Configuration,
    CoreConfig,
    DiskStorage,
    Entry,
    Envelope,
    HardState,
    Leadership,
    Node,
    Recovered,
    Rejected,
    SnapshotMeta,
    StorageConfig,
    Write,
    encode_change,
)
from tests.raft.crash_files import UnflushedFiles

TICK_SECONDS = 0.001
# Nothing here takes long; what waits for longer than this waits for ever.
PATIENCE_SECONDS = 10


class ShiftedLoop(asyncio.SelectorEventLoop):
    """The real clock, and what the test adds to it."""

    shift = 0.0

    def time(self) -> float:
        return super().time() + self.shift


class TroubledFiles(UnflushedFiles):
    """Files that fail, or wait, when the test says so."""

    def __init__(self) -> None:
        self.fails_writes = False
        self.fails_creates = False
        # Nothing can be made larger than it is.
        self.is_full = False
        # Room was asked for; set back by the test.
        self.looked = False
        # Cleared, writes to the log wait for it.
        self.may_write = threading.Event()
        self.may_write.set()
        self.is_writing = threading.Event()

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        self.is_writing.set()
        assert self.may_write.wait(PATIENCE_SECONDS), "nobody lets the write go on"
        if self.fails_writes:
            raise OSError(5, "the disk is broken")
        super().write_durably(descriptor, data, offset)

    def create(self, path: Path) -> int:
        if self.fails_creates:
            raise OSError(5, "the disk is broken")
        return super().create(path)

    def allocate(self, descriptor: int, size: int) -> None:
        self.looked = True
        if self.is_full:
            raise OSError(28, "the disk is full")
        super().allocate(descriptor, size)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        if self.is_full and offset + len(data) > os.fstat(descriptor).st_size:
            raise OSError(28, "the disk is full")
        super().write(descriptor, data, offset)


def set_patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the loop wait so long for writes, and take them for quick: for a busy machine."""
    for name in ("PATIENCE_SECONDS", "QUICK_SECONDS"):
        monkeypatch.setattr(f"raft.loop_storage.{name}", seconds)


class Machine:
    """A state machine whose state is the list of what was applied."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.restored: list[bytes] = []
        self.configuration = Configuration()
        self.rejected: list[Rejected] = []
        # Called with each batch; may raise.
        self.on_apply: Callable[[], None] = lambda: None
        # Called before each chunk that is drawn; may raise.
        self.on_chunk: Callable[[], None] = lambda: None

    def apply(self, entries: list[Entry]) -> None:
        self.applied += (entry.data for entry in entries if entry.data)
        self.on_apply()

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        return True

    def configured(self, configuration: Configuration) -> None:
        self.configuration = configuration

    def capture(self) -> Iterator[bytes]:
        state = list(self.applied)

        def chunks() -> Iterator[bytes]:
            for data in state:
                self.on_chunk()
                yield data

        return chunks()

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        self.applied = list(chunks)
        self.restored = list(self.applied)

    def reject(self, rejected: Rejected) -> None:
        self.rejected.append(rejected)


class World:
    """One node and everything around it. To be made inside a loop; `stop` ends it."""

    def __init__(
        self,
        directory: Path,
        *,
        server_id: int = 1,
        voters: tuple[int, ...] = (1,),
        election_ticks: int = 10,
        max_snapshots: int = 5,
    ) -> None:
        self.id = server_id
        self.loop = asyncio.get_running_loop()
        self.files = TroubledFiles()
        self.machine = Machine()
        self.sent: list[Envelope] = []
        # Where messages go; None: nowhere.
        self.deliver: Callable[[list[Envelope]], None] | None = None
        self.deaths: list[BaseException] = []
        self.leaderships: list[Leadership] = []
        # Called with each switch; may raise.
        self.on_led: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()
        config = StorageConfig(
            directory / f"server{server_id}", max_snapshots=max_snapshots, segment_bytes=65536
        )
        self.directory = config.directory
        if DiskStorage.exists(config):
            disk, self.recovered = DiskStorage.open(config, self.files)
        else:
            disk = DiskStorage.create(config, b"", self.files)
            self.recovered = begin_log(disk, voters)
        if self.recovered.snapshot is not None:
            self.machine.restore(
                self.recovered.snapshot, disk.read_snapshot(self.recovered.snapshot)
            )
        self.disk = disk
        self.node = Node(
            CoreConfig(server_id, election_ticks=election_ticks, heartbeat_ticks=1),
            self.recovered,
            disk,
            self,
            self.machine,
            tick_seconds=TICK_SECONDS,
            rng=random.Random(server_id),
            die=self.die,
            on_leadership=self.led,
        )

    # ---- what the node calls

    def send(self, envelopes: list[Envelope]) -> None:
        self.sent += envelopes
        if self.deliver is not None:
            self.loop.call_soon(self.deliver, envelopes)
        self._changed.set()

    def die(self, error: BaseException) -> None:
        """As the real one, callable from any thread; but it returns."""
        self.loop.call_soon_threadsafe(self._died, error)

    def _died(self, error: BaseException) -> None:
        self.deaths.append(error)
        self._changed.set()

    def led(self, leadership: Leadership) -> None:
        self.leaderships.append(leadership)
        self._changed.set()
        self.on_led()

    # ---- what tests do

    async def start(self) -> "World":
        """Start, and wait until it leads if nobody else can."""
        self.node.start()
        if self.node.core.configuration.voters == (self.id,):
            await self.until(lambda: self.node.leadership.role == "leader")
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what must happen soon; look after each tick, and after what is told."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                timer = self.loop.call_later(TICK_SECONDS, self._changed.set)
                await self._changed.wait()
                timer.cancel()

    async def applies(self, *data: bytes) -> None:
        """Propose these, and wait until they are applied."""
        for it in data:
            self.node.propose(it)
        await self.until(lambda: set(data) <= set(self.machine.applied))

    async def dies(self) -> BaseException:
        """Wait for the node's death."""
        await self.until(lambda: bool(self.deaths))
        return self.deaths[0]

    async def stop(self) -> None:
        """End it; nothing must have gone wrong."""
        await self.node.stop()
        assert self.deaths == [], self.deaths

    def snapshot_files(self) -> list[str]:
        """What is in the directory of snapshots."""
        return sorted(path.name for path in (self.directory / "member" / "snap").iterdir())


def begin_log(disk: DiskStorage, voters: tuple[int, ...]) -> Recovered:
    """Write the first entry of a new cluster, the same on all."""
    change = ConfigChange(tuple(Change(ADD_VOTER, voter) for voter in voters))
    entries = [Entry(1, 1, CONFIG, encode_change(change))]
    hard_state = HardState(1, 0, 1)
    disk.write_blocking(Write(hard_state, entries, None, []))
    return Recovered(b"", hard_state, None, entries)
