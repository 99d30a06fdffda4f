"""One run of a server, from its start to its end: what the node is in a real process.

It wires the production core, driver and storage to virtual time, and does with them what
`raft.node` does: ticks, one pump for all that arrives in a turn of the loop, two disk threads. A
process ends by a crash; then nothing of it is left but what is on its server's disk.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

from raft.codec import decode_envelopes
from raft.confchange import ConfigChange
from raft.driver import Driver
from raft.entry import Configuration, Entry, SnapshotMeta
from raft.interfaces import Recovered, Rejected, StateMachine, Write
from raft.messages import Envelope
from raft.quorum import has_quorum
from raft.sim.chance import below
from raft.sim.errors import Unsafe
from raft.sim.storage import TimedStorage
from raft.sim.watched import WatchedCore
from raft.sim.world import World
from raft.state import CoreConfig
from raft.storage import DiskStorage

Action = Callable[[], None]


class Machine(StateMachine, Protocol):
    """A state machine that can be compared with another."""

    def fingerprint(self) -> int:
        """Return what is equal for equal states, and different for most others."""


class Surroundings(Protocol):
    """What a process needs of its server."""

    def transmit(self, envelopes: list[Envelope]) -> None:
        """Send messages to other servers."""

    def failed(self, process: "Process", error: OSError) -> None:
        """The disk has failed: the process must end."""


class Process:
    """A running server.

    Invariants:
      1. Once it has ended, nothing of it happens any more.
      2. While it stands still, nothing of it happens; then everything does, in order.
    """

    def __init__(
        self,
        world: World,
        config: CoreConfig,
        disk: DiskStorage,
        recovered: Recovered,
        machine: Callable[["Process"], Machine],
        surroundings: Surroundings,
    ) -> None:
        """Come up with what the disk holds."""
        self.server_id = config.server_id
        self.ended = False
        # When it stands still no more, or did so last.
        self.paused_until = 0
        # What has come up while it stands still.
        self._backlog: list[Action] = []
        # How often the disk takes longer than it should, and how much.
        self.slow_until = 0
        self._world = world
        self._clock = world.clock
        self._surroundings = surroundings
        self._random = world.stream(f"process {config.server_id} {world.clock.now}")
        drift = world.options.drift
        self._drift = self._random.uniform(1 - drift, 1 + drift)
        self._armed = False
        self._ticks = 0
        # When each server was heard from last, in ticks, and since when which term is ours.
        self._heard: dict[int, int] = {}
        self._led = (0, 0)
        self._led_configuration = Configuration()
        # Called after every step of the driver, when `raft.node` looks who leads.
        self.on_step: Action = _nothing
        # Called when the process is no more; nothing that it held is.
        self.on_end: Action = _nothing
        # Whether messages for a server leave at all: a transport may not know how to reach it.
        self.knows: Callable[[int], bool] = _everybody
        self.later(0, self.pump)
        self.storage = TimedStorage(disk, self)
        self.machine = machine(self)
        snapshot = recovered.snapshot
        if snapshot is not None:
            self.machine.restore(snapshot, disk.read_snapshot(snapshot))
        self.core = WatchedCore(config, recovered, self._random, world.logger, world.facts)
        self.driver = Driver(
            self.core,
            self.storage,
            self,
            CheckedMachine(self, world),
            first_context=self._random.getrandbits(62) + 1,
            read_retry_ticks=config.election_ticks,
            catch_up_entries=world.options.catch_up_entries,
            log=world.logger,
        )
        self.later(self._random.randrange(world.options.tick_us), self._tick)

    # ------------------------------------------------------------------------------- inputs

    def propose(self, data: bytes) -> None:
        """Put `data` into the log. Raises ProposalDropped."""
        self.core.propose(data)
        self.arm()

    def propose_config(self, change: ConfigChange) -> None:
        """Put a change of the configuration into the log. Raises ProposalDropped."""
        self.core.propose_config(change)
        self.arm()

    def campaign(self) -> None:
        """Try to lead at once, as a server does that starts and knows of no leader."""
        self.core.campaign()
        self.arm()

    def read_index(self, done: Action) -> None:
        """Call `done` when the machine holds all that is committed now."""
        self.driver.read_index(done)
        self.arm()

    def receive(self, frame: bytes) -> None:
        """Take a frame from the network."""
        self.later(0, partial(self._receive, decode_envelopes(frame)))

    def arm(self) -> None:
        """Have everything done that can be, at the end of this turn of the loop."""
        if not self._armed:
            self._armed = True
            self.later(below(self._random, self._world.options.loop_us + 1), self.pump)

    def pump(self) -> None:
        """Do everything that can be done."""
        self._armed = False
        self.enter(self.driver.pump)
        core, snapshot_entries = self.core, self._world.options.snapshot_entries
        since_snapshot = core.log.applied_index - core.snapshot_index
        if snapshot_entries and since_snapshot >= snapshot_entries and not core.restoring:
            self.driver.save_snapshot()

    def enter(self, step: Action) -> None:
        """See `raft.sim.storage.Threads`."""
        step()
        self.on_step()

    def later(self, delay: int, action: Action) -> None:
        """See `raft.sim.storage.Threads`."""
        self._clock.after(delay, partial(self._run, action))

    def pause(self, delay: int) -> None:
        """Stand still for so long."""
        self.paused_until = self._world.clock.now + delay

    def resume(self) -> None:
        """Stand still no more."""
        self.paused_until = min(self.paused_until, self._world.clock.now)
        self._world.clock.after(0, self._wake)

    def end(self) -> None:
        """Be no more."""
        self.ended = True
        self.on_end()

    # ------------------------------------------------------------- what others ask of us

    def send(self, envelopes: list[Envelope]) -> None:
        """See `raft.interfaces.Transport`."""
        facts, core = self._world.facts, self.core
        for envelope in envelopes:
            facts.promised(envelope, core)
        self._surroundings.transmit(envelopes)

    def hears(self, server_id: int) -> bool:
        """Whether that server has ever sent us something."""
        return server_id in self._heard

    @property
    def waits(self) -> bool:
        """See `raft.sim.storage.Threads`."""
        return self._world.options.waits

    def draw_write_us(self) -> int:
        """See `raft.sim.storage.Threads`."""
        world = self._world
        usual = world.options.write_us
        is_laggard = self.server_id == world.options.laggard and not world.is_healed
        if is_laggard or world.clock.now < self.slow_until:
            usual = world.options.slow_us
        return usual // 2 + below(self._random, usual * 2 + 1 - usual // 2)

    def begin_write(self, write: Write) -> None:
        """See `raft.sim.storage.Threads`."""
        # As the node does: what is written may be applied before this step ends.
        self.on_step()
        self._world.facts.begin_write(self.core, write)

    def end_write(self, write: Write) -> None:
        """See `raft.sim.storage.Threads`."""
        self._world.facts.end_write(self.server_id, write)

    def disk_filled(self, *, full: bool) -> None:
        """See `raft.sim.storage.Threads`."""
        self._world.trace(f"{self.server_id:x} {'lacks' if full else 'has'} room")
        self._world.count("servers that lacked room" if full else "servers that had room again")
        self.driver.disk_filled(full=full)
        self.arm()

    # ---------------------------------------------------------------------------------- parts

    def _run(self, action: Action) -> None:
        now = self._clock.now
        if self._backlog or now < self.paused_until:
            if not self._backlog:
                self._clock.after(max(self.paused_until - now, 0), self._wake)
            self._backlog.append(action)
        elif not self.ended:
            self._do(action)

    def _wake(self) -> None:
        """Do what has come up meanwhile, unless it stands still once more."""
        wait = self.paused_until - self._world.clock.now
        if wait > 0:
            self._world.clock.after(wait, self._wake)
            return
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            if not self.ended:
                self._do(action)

    def _do(self, action: Action) -> None:
        try:
            action()
        except OSError as error:
            self._surroundings.failed(self, error)

    def _receive(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            self._heard[envelope.sender] = self._ticks
        self.driver.step(envelopes)
        self.arm()

    def _tick(self) -> None:
        world = self._world
        self.later(
            round(world.options.tick_us * (1 if world.is_healed else self._drift)), self._tick
        )
        self._ticks += 1
        self.enter(self.driver.tick)
        if world.options.check_quorum and self.core.role == "leader":
            self._require_hearers()
        self.arm()

    def _require_hearers(self) -> None:
        """Check that a leader which nobody has answered for long leads no more (thesis 6.2)."""
        core, now = self.core, self._ticks
        configuration = core.configuration
        if self._led[0] != core.term or configuration != self._led_configuration:
            # Everybody is given the time to answer.
            self._led, self._led_configuration = (core.term, now), configuration
        oldest = now - 2 * self._world.options.election_ticks - 1
        if self._led[1] >= oldest:
            return
        heard = [it for it, when in self._heard.items() if when >= oldest]
        if not has_quorum(configuration, [core.server_id, *heard]):
            raise Unsafe(f"{core.server_id:x} leads on, and hears {heard} of {configuration}")


def _nothing() -> None:
    """For who does not want to know."""


def _everybody(server_id: int) -> bool:
    return True


class CheckedMachine:
    """A machine whose every step is checked: each entry comes once, in order, and only committed.

    Invariants:
      1. The machine has applied exactly the entries up to `index`.
    """

    def __init__(self, process: Process, world: World) -> None:
        self._machine = process.machine
        self._server_id = process.server_id
        self._facts = world.facts
        self._trace = world.trace
        self._index = process.core.applied_index

    def apply(self, entries: list[Entry]) -> None:
        """See `raft.interfaces.StateMachine`."""
        for entry in entries:
            self._advance(entry)
        self._machine.apply(entries)
        self._facts.applied(self._server_id, self._index, self._machine.fingerprint())
        self._trace(f"{self._server_id:x} applied {self._index}")

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        """See `raft.interfaces.StateMachine`."""
        self._advance(entry)
        return self._machine.apply_config(entry, change)

    def configured(self, configuration: Configuration) -> None:
        """See `raft.interfaces.StateMachine`."""
        self._trace(f"{self._server_id:x} configured {configuration}")
        self._facts.configured(self._index, configuration)
        self._machine.configured(configuration)

    def capture(self) -> Iterator[bytes]:
        """See `raft.interfaces.StateMachine`."""
        return self._machine.capture()

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """See `raft.interfaces.StateMachine`."""
        if meta.index <= self._index:
            raise Unsafe(f"{self._server_id:x} goes back from {self._index} to {meta.id}")
        self._machine.restore(meta, chunks)
        self._index = meta.index
        self._facts.applied(self._server_id, self._index, self._machine.fingerprint())
        self._trace(f"{self._server_id:x} restored {meta.id}")

    def reject(self, rejected: Rejected) -> None:
        """See `raft.interfaces.StateMachine`."""
        self._machine.reject(rejected)

    def _advance(self, entry: Entry) -> None:
        if entry.index != self._index + 1:
            raise Unsafe(f"{self._server_id:x} applies {entry.index} after {self._index}")
        self._facts.apply_entry(self._server_id, entry)
        self._index = entry.index
