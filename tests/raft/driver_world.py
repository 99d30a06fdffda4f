"""A driver for tests: its disk, network and state machine take notes in one list."""

import logging
import random
from collections.abc import Iterable, Iterator

from raft.confchange import ADD_VOTER, Change, ConfigChange, encode_change
from raft.core import Core
from raft.driver import Driver
from raft.entry import (
    CONFIG,
    NORMAL,
    Configuration,
    Entry,
    HardState,
    SnapshotMeta,
)
from raft.interfaces import Rejected, Write
from raft.invariants import Moment, check
from raft.messages import (
    Append,
    AppendResponse,
    Envelope,
    Heartbeat,
    Message,
    PreVoteResponse,
    VoteResponse,
)
from raft.state import CoreConfig
from raft.storage import MemoryStorage

RETRY_TICKS = 5
FIRST_CONTEXT = 7
QUIET = logging.Logger("quiet", logging.CRITICAL)


def change_entry(index: int, *changes: tuple[int, int], term: int = 1) -> Entry:
    """A configuration entry."""
    change = ConfigChange(tuple(Change(*pair) for pair in changes), b"why")
    return Entry(index, term, CONFIG, encode_change(change))


class World:
    """Server 1 of a new cluster, with a disk, a network and a state machine that take notes.

    The notes are of all three, in the order in which things happened.
    """

    def __init__(self, *voters: int, entries: Iterable[Entry] = (), **options: int) -> None:
        self.notes: list[tuple[object, ...]] = []
        self.messages: list[Envelope] = []
        self.voids_changes = False
        # Writes are durable at once.
        self.is_quick = False
        # While set, our own snapshots wait in `saves` and not in line with the writes.
        self.saves: list[object] = []
        self.disk = MemoryStorage()
        first = change_entry(1, *((ADD_VOTER, voter) for voter in voters))
        log = [first, *entries]
        self.disk.write(Write(HardState(1, 0, log[-1].index), log, None, []), lambda: None)
        self.disk.complete()
        config = CoreConfig(1, election_ticks=10, heartbeat_ticks=1, **options)
        self.core = Core(config, self.disk.recover(), random.Random(1), QUIET)
        self.driver = Driver(
            *(self.core, self, self, self),
            first_context=FIRST_CONTEXT,
            read_retry_ticks=RETRY_TICKS,
            log=QUIET,
        )
        self._moment: Moment | None = None
        self.pump()

    # ---- raft.interfaces.Storage

    def write(self, write: Write, done) -> bool:
        self.notes.append(("write", [entry.index for entry in write.entries]))

        def finished() -> None:
            self.notes.append(("durable",))
            if not self.is_quick:
                done()

        self.disk.write(write, finished)
        return self.is_quick and self.disk.complete()

    def save_snapshot(self, meta: SnapshotMeta, chunks: Iterator[bytes], done, given_up) -> None:
        self.notes.append(("save", meta.index))
        drawn = list(chunks)

        def finish() -> None:
            self.disk.install_snapshot(meta, drawn)
            done()

        self.saves.append(finish)
        self.give_up_save = given_up

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        return self.disk.read_snapshot(meta)

    # ---- raft.interfaces.Transport

    def send(self, envelopes: list[Envelope]) -> None:
        self.messages += envelopes
        self.notes.append(("send", [type(it.message).__name__ for it in envelopes]))

    # ---- raft.interfaces.StateMachine

    def apply(self, entries: list[Entry]) -> None:
        self.notes.append(("apply", [entry.index for entry in entries]))

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        self.notes.append(("change", entry.index, change.context))
        return not self.voids_changes

    def configured(self, configuration: Configuration) -> None:
        self.notes.append(("configured", configuration.voters))

    def capture(self) -> Iterator[bytes]:
        return iter([b"state at %d" % self.core.applied_index])

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        self.notes.append(("restore", meta.index, b"".join(chunks)))

    def reject(self, rejected: Rejected) -> None:
        self.notes.append(("reject", *rejected))

    # ---- what tests do

    def pump(self) -> None:
        """Let the driver work; check the core."""
        self.driver.pump()
        self._moment = check(self._moment, self.core)

    def receive(self, sender: int, *messages: Message) -> None:
        """Take messages of this term, and work."""
        term = self.core.term
        self.driver.step([Envelope(sender, 1, term, message) for message in messages])
        self.pump()

    def complete(self) -> None:
        """The write in flight reaches the disk."""
        assert self.disk.complete(), "no write is in flight"
        self._moment = check(self._moment, self.core)

    def tick(self, count: int = 1) -> None:
        """Let time pass, and work."""
        for _ in range(count):
            self.driver.tick()
            self.pump()

    def finish_save(self) -> None:
        """Our snapshot reaches the disk."""
        self.saves.pop(0)()
        self._moment = check(self._moment, self.core)

    def lead(self) -> "World":
        """Become the leader, with the no-op applied; forget how."""
        core = self.core
        others = [voter for voter in core.configuration.voters if voter != 1]
        core.campaign()
        self.pump()
        for other in others:
            if core.role == "pre_candidate":
                self.driver.step([Envelope(other, 1, core.term + 1, PreVoteResponse(True))])
                self.pump()
        self.complete()
        for other in others:
            if core.role == "candidate":
                self.receive(other, VoteResponse(True))
        assert core.role == "leader", core.role
        for other in others:
            self.receive(other, AppendResponse(core.log.last_index))
        self.disk.complete_all()
        assert core.applied_index == core.log.last_index
        self.forget()
        return self

    def follow(self, leader: int = 2) -> "World":
        """Hear from a leader; forget how."""
        self.receive(leader, Heartbeat(0, 0))
        assert self.core.leader == leader
        self.forget()
        return self

    def propose(self, data: bytes = b"x") -> None:
        """Have something proposed, and work."""
        self.core.propose(data)
        self.pump()

    def forget(self) -> None:
        """Begin new notes."""
        self.notes.clear()
        self.messages.clear()

    def did(self, *kinds: str) -> list[tuple[object, ...]]:
        """The notes of these kinds."""
        return [note for note in self.notes if note[0] in kinds]

    def sent(self, kind: type) -> list[Message]:
        """The messages of a kind that were sent."""
        return [it.message for it in self.messages if isinstance(it.message, kind)]


def append(world: World, *entries: Entry, commit: int = 0) -> Append:
    """Entries of this term's leader, at the end of our log."""
    log = world.core.log
    return Append(log.last_index, log.last_term, commit, list(entries))


def entry(index: int, data: bytes = b"x") -> Entry:
    """An entry of a user."""
    return Entry(index, 1, NORMAL, data)


def ask(world: World, times: int = 1) -> list[int]:
    """Ask for reads; the list grows by the applied index at which each is served."""
    served: list[int] = []
    for _ in range(times):
        world.driver.read_index(lambda: served.append(world.core.applied_index))
    world.pump()
    return served
