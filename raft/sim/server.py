"""A server: a disk that lasts, and the processes that run on it one after another."""

from collections.abc import Callable
from pathlib import Path

from raft.entry import Entry, HardState
from raft.errors import CorruptRecord
from raft.files import is_full
from raft.interfaces import Recovered, Write
from raft.messages import Envelope
from raft.recovery import Unrecoverable
from raft.sim.disk import PowerLoss, SimulatedDisk
from raft.sim.errors import Unsafe
from raft.sim.process import Machine, Process
from raft.sim.world import World
from raft.state import CoreConfig
from raft.storage import DiskStorage, StorageConfig


class Server:
    """One server of the cluster, running or not.

    Invariants:
      1. A damaged server never runs again: its disk has been refused, and nobody may forget what
         it promised.
    """

    def __init__(
        self,
        world: World,
        server_id: int,
        first_entries: list[Entry],
        machine: Callable[[Process], Machine],
        transmit: Callable[[list[Envelope]], None],
    ) -> None:
        """`first_entries` begin the log of a new cluster; a server that joins one has none."""
        root = Path(f"/{server_id:x}")
        self.server_id = server_id
        self.disk = SimulatedDisk(world.stream(f"disk {server_id}"), root)
        self.process: Process | None = None
        # A bit of its disk was flipped: it may be refused from now on.
        self.is_spoiled = False
        self.is_damaged = False
        self._is_retired = False
        self.transmit = transmit
        self._world = world
        self._first_entries = first_entries
        self._machine = machine
        self._random = world.stream(f"server {server_id}")
        self._storage = StorageConfig(
            root, max_wals=2, max_snapshots=2, segment_bytes=world.options.segment_bytes
        )

    @property
    def is_gone(self) -> bool:
        """Whether it will never run again."""
        return self.is_damaged or self._is_retired

    def start(self) -> None:
        """Run, if the disk allows it."""
        if self.process is not None or self.is_gone:
            return
        world, disk = self._world, self.disk
        if world.clock.now > 0 and not world.is_healed and self._random.random() < 0.1:
            # The power may fail again while the server recovers.
            disk.operations_left = self._random.randrange(8)
        try:
            storage, recovered = self._open()
        except PowerLoss:
            world.count("power lost during a start")
            disk.lose_power()
            return
        except OSError as error:
            world.trace(f"{self.server_id:x} does not start: {error.strerror}")
            disk.kill()
            return
        except (CorruptRecord, Unrecoverable) as error:
            if not self.is_spoiled:
                raise Unsafe(f"{self.server_id:x} is refused what it wrote: {error}") from error
            world.trace(f"{self.server_id:x} is refused its disk")
            world.show(str(error))
            world.count("disks refused")
            self.is_damaged = True
            return
        disk.operations_left = None
        world.facts.started(self.server_id, recovered)
        world.trace(f"{self.server_id:x} starts with {recovered.hard_state}")
        world.count("starts")
        self.process = Process(world, self._config(), storage, recovered, self._machine, self)

    def stop(self, *, power: bool) -> None:
        """Kill the process, or let the whole machine fail, in the middle of whatever it does."""
        process, disk = self.process, self.disk
        if process is None:
            return
        self._world.trace(f"{self.server_id:x} {'loses power' if power else 'is killed'}")
        writing = process.storage.writing
        if writing is not None and self._random.random() < 0.7:
            disk.operations_left = self._random.choice((0, 0, 0, 1, 2, 3, 5, 8))
            try:
                process.storage.disk.write_blocking(writing)
            except (PowerLoss, OSError):
                pass
        self._end()
        if power:
            disk.lose_power()

    def retire(self) -> None:
        """Let the process end by itself, as one that the cluster has removed does, for good."""
        self._is_retired = True
        if self.process is not None:
            self._world.trace(f"{self.server_id:x} retires")
            self._end()

    def failed(self, process: Process, error: OSError) -> None:
        """See `raft.sim.process.Surroundings`."""
        if process is self.process:
            if is_full(error):
                raise Unsafe(f"{self.server_id:x} dies of a full disk: {error}") from error
            self._world.trace(f"{self.server_id:x} dies: {error.strerror}")
            self._world.count("died of the disk")
            self._end()

    def _end(self) -> None:
        assert self.process is not None, f"{self.server_id:x} ends and does not run"
        self.process.end()
        self.process = None
        self.disk.kill()

    def _open(self) -> tuple[DiskStorage, Recovered]:
        if not DiskStorage.exists(self._storage, self.disk):
            storage = DiskStorage.create(self._storage, b"", self.disk)
            entries = self._first_entries
            if not entries:
                return storage, Recovered()
            # Committed from the start: all voters agree on them without talking.
            hard_state = HardState(term=1, vote=0, commit=len(entries))
            storage.write_blocking(Write(hard_state, entries, None, []))
            storage.close()
        return DiskStorage.open(self._storage, self.disk)

    def _config(self) -> CoreConfig:
        options = self._world.options
        return CoreConfig(
            self.server_id,
            election_ticks=options.election_ticks,
            heartbeat_ticks=options.heartbeat_ticks,
            max_append_bytes=options.max_append_bytes,
            max_inflight_messages=options.max_inflight_messages,
            max_apply_bytes=max(options.max_apply_bytes, options.max_append_bytes),
            max_uncommitted_bytes=max(options.max_uncommitted_bytes, options.max_append_bytes),
            pre_vote=options.pre_vote,
            check_quorum=options.check_quorum,
        )
