"""One server for tests: a core with a disk and a state machine that are plain memory.

The disk forgets on `crash` whatever was not finished. The state machine is the list of what was
applied. All invariants are checked after every input.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raft.confchange import ADD_VOTER, Change, ConfigChange, decode_change, encode_change
from raft.core import Core
from raft.entry import (
    CONFIG,
    NO_HARD_STATE,
    NORMAL,
    Entry,
    EntryID,
    HardState,
    SnapshotMeta,
)
from raft.interfaces import ReadState, Ready, Recovered, Rejected, Write
from raft.invariants import Moment, check
from raft.messages import Envelope, Message, PreVoteResponse, VoteResponse
from raft.state import CoreConfig

State = tuple[EntryID, ...]

# What a server of a new cluster finds on its disk.
FIRST_HARD_STATE = HardState(term=1, vote=0, commit=1)

_QUIET = logging.Logger("quiet", logging.CRITICAL)


@dataclass(slots=True)
class Disk:
    """What survives a crash."""

    hard_state: HardState = NO_HARD_STATE
    snapshot: SnapshotMeta | None = None
    # What the snapshot contains: the ids of all NORMAL entries up to it.
    snapshot_state: State = ()
    entries: list[Entry] = field(default_factory=list)

    def write(self, write: Write, fetch: Callable[[EntryID], State]) -> None:
        """Make a write durable."""
        if write.snapshot is not None:
            self.save(write.snapshot, fetch(write.snapshot.id))
            self.entries = []
        if write.entries:
            first_index = write.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first_index]
            self.entries += write.entries
        self.hard_state = write.hard_state

    def save(self, meta: SnapshotMeta, state: State) -> None:
        """Make a snapshot durable."""
        self.snapshot, self.snapshot_state = meta, state

    def recovered(self) -> Recovered:
        """Return what a start finds."""
        base_index = self.snapshot.index if self.snapshot else 0
        entries = [entry for entry in self.entries if entry.index > base_index]
        return Recovered(hard_state=self.hard_state, snapshot=self.snapshot, entries=entries)


def bootstrap_disk(voters: tuple[int, ...]) -> Disk:
    """Return the disk of a server of a new cluster: its first entry names all voters."""
    change = ConfigChange(tuple(Change(ADD_VOTER, voter) for voter in voters))
    entry = Entry(1, 1, CONFIG, encode_change(change))
    return Disk(hard_state=FIRST_HARD_STATE, entries=[entry])


def make_server(
    server_id: int = 1,
    *,
    voters: tuple[int, ...] = (1, 2, 3),
    terms: tuple[int, ...] = (1,),
    hard_state: HardState = FIRST_HARD_STATE,
    **options: int,
) -> "Server":
    """Return a server whose log holds entries of `terms`; the first one names the voters."""
    disk = bootstrap_disk(voters)
    for index, term in enumerate(terms[1:], 2):
        disk.entries.append(Entry(index, term, NORMAL, b"given"))
    disk.hard_state = hard_state
    settings: dict[str, Any] = {"election_ticks": 10, "heartbeat_ticks": 1, **options}
    server = Server(CoreConfig(server_id, **settings), disk, 1, _QUIET, lambda _: ())
    server.run()
    return server


def make_leader(server_id: int = 1, **options: Any) -> "Server":
    """Return a server that all others have elected, with the Appends of its no-op sent."""
    server = make_server(server_id, **options)
    core = server.core
    others = [it for it in core.configuration.servers if it != server_id]
    server.do(lambda core: core.campaign())
    for other in others:
        if core.role == "pre_candidate":
            server.step(Envelope(other, server_id, core.term + 1, PreVoteResponse(True)))
    for other in others:
        if core.role == "candidate":
            server.step(Envelope(other, server_id, core.term, VoteResponse(True)))
    assert core.role == "leader", f"{core.role} and not leader"
    return server


class Server:
    """A core and everything around it, driven by hand."""

    def __init__(
        self,
        config: CoreConfig,
        disk: Disk,
        seed: int,
        logger: logging.Logger,
        fetch: Callable[[EntryID], State],
    ) -> None:
        """`fetch` returns the state that a snapshot contains, as the transport would."""
        self.config = config
        self.disk = disk
        self.fetch = fetch
        self.core = Core(config, disk.recovered(), random.Random(seed), logger)
        self.state: list[EntryID] = list(disk.snapshot_state)
        # What the state machine was told, in order: data of NORMAL entries since the start.
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []
        self.rejected: list[Rejected] = []
        self.restored: list[SnapshotMeta] = []
        self.writing: Write | None = None
        # While set, writes do not finish by themselves.
        self.holds_writes = False
        # Configuration changes that the state machine makes void.
        self.voids_changes = False
        self._moment: Moment | None = None
        self.check()

    @property
    def id(self) -> int:
        """The server's id."""
        return self.config.server_id

    def forget(self) -> None:
        """Do not compare the next moment with the last one: more than one step lies between."""
        self._moment = None

    def check(self) -> None:
        """Assert the core's invariants."""
        self._moment = check(self._moment, self.core)

    def tick(self, count: int = 1) -> list[Envelope]:
        """Let time pass; return what is sent."""
        sent: list[Envelope] = []
        for _ in range(count):
            self.core.tick()
            self.check()
            sent += self.run()
        return sent

    def step(self, envelope: Envelope) -> list[Envelope]:
        """Take a message; return what is sent."""
        self.core.step(envelope)
        self.check()
        return self.run()

    def do(self, action: Callable[[Core], None]) -> list[Envelope]:
        """Do something to the core; return what is sent."""
        action(self.core)
        self.check()
        return self.run()

    def run(self) -> list[Envelope]:
        """Carry out what the core wants until it wants nothing; return what is sent."""
        sent: list[Envelope] = []
        while self.core.has_ready():
            ready = self.core.ready()
            self.check()
            sent += self._carry_out(ready)
        return sent

    def receive(self, sender: int, message: Message, term: int | None = None) -> list[Envelope]:
        """Take a message of `sender`, of our own term unless another is given."""
        own_term = self.core.term
        return self.step(Envelope(sender, self.id, own_term if term is None else term, message))

    def finish_write(self) -> list[Envelope]:
        """Let the write in flight reach the disk; return what is sent."""
        write, self.writing = self.writing, None
        assert write is not None, "no write is in flight"
        self.disk.write(write, self.fetch)
        self.core.written(write)
        self.check()
        sent: list[Envelope] = []
        for envelope in write.messages:
            if envelope.recipient == self.id:
                self.core.step(envelope)
                self.check()
            else:
                sent.append(envelope)
        return sent + self.run()

    def save_snapshot(self) -> SnapshotMeta:
        """Make a snapshot of what is applied."""
        log = self.core.log
        index = log.applied_index
        meta = SnapshotMeta(index, log.term(index), self.core.configuration)
        self.disk.save(meta, tuple(self.state))
        self.core.snapshot_saved(meta)
        self.check()
        return meta

    def compact(self, raft_index: int) -> None:
        """Drop the log up to raft_index."""
        self.core.compact(raft_index)
        self.check()

    def _carry_out(self, ready: Ready) -> list[Envelope]:
        sent = list(ready.messages)
        assert all(envelope.recipient != self.id for envelope in sent), f"to itself: {sent}"
        if ready.write is not None:
            assert self.writing is None, f"{self.writing} is in flight"
            self.writing = ready.write
        if ready.restore is not None:
            assert self.disk.snapshot == ready.restore, f"{ready.restore} is not durable"
            self.state = list(self.disk.snapshot_state)
            self.restored.append(ready.restore)
            self.core.applied(ready.restore.index)
            self.check()
        for entry in ready.committed:
            self._apply(entry)
        if ready.committed:
            self.core.applied(ready.committed[-1].index)
            self.check()
        self.reads += ready.reads
        self.rejected += ready.rejected
        if ready.write is not None and not self.holds_writes:
            sent += self.finish_write()
        return sent

    def _apply(self, entry: Entry) -> None:
        durable = {EntryID(entry.index, entry.term) for entry in self.disk.entries}
        assert (entry.index, entry.term) in durable, f"{entry} is applied before it is on disk"
        self.applied.append(entry)
        if entry.kind == NORMAL:
            self.state.append(EntryID(entry.index, entry.term))
        elif entry.kind == CONFIG:
            change = None if self.voids_changes else decode_change(entry.data)
            self.core.apply_config(entry, change)
            self.check()
