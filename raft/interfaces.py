"""What passes between the core and the world, and the seams where the world is plugged in.

The core answers `ready()` with a `Ready`; the driver carries it out against a `Storage`, a
`Transport` and a `StateMachine`. The node runs it with files and sockets, the simulator with
pretended ones. Nothing here does anything.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mypy_extensions import mypyc_attr

from raft.confchange import ConfigChange
from raft.entry import NO_HARD_STATE, Configuration, Entry, HardState, SnapshotMeta
from raft.messages import Envelope


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Write:
    """What must be on disk, as one unit, before `messages` may leave.

    Carried out in this order: `snapshot`, `entries`, `hard_state`.
    """

    hard_state: HardState
    # Consecutive. An entry replaces any other at its index and all after it.
    entries: list[Entry]
    # The log begins anew after this snapshot, whose file is durable already.
    snapshot: SnapshotMeta | None
    # Votes and acknowledgements; those to ourselves go back into the core (thesis 10.2.1).
    messages: list[Envelope]

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(
        self,
        hard_state: HardState,
        entries: list[Entry],
        snapshot: SnapshotMeta | None,
        messages: list[Envelope],
    ) -> None:
        self.hard_state = hard_state
        self.entries = entries
        self.snapshot = snapshot
        self.messages = messages


class ReadState(NamedTuple):
    """Reads asked for under `context` may be served once `read_index` is applied."""

    context: int
    read_index: int


class Rejected(NamedTuple):
    """A proposal of ours that a leader did not take; nothing of it is in any log."""

    kind: int
    data: bytes
    reason: str


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Ready:
    """What the core wants done; empty lists and None where there is nothing."""

    # May leave at once, before `write` is on disk.
    messages: list[Envelope]
    # None also while an earlier one is not yet confirmed by `Core.written`.
    write: Write | None
    # Committed and durable here; to be applied in this order, then `Core.applied` is told.
    committed: list[Entry]
    # The snapshot to restore the state machine from, once: its `Write` is confirmed.
    restore: SnapshotMeta | None
    reads: list[ReadState]
    rejected: list[Rejected]

    def __init__(
        self, messages: list[Envelope], reads: list[ReadState], rejected: list[Rejected]
    ) -> None:
        self.messages = messages
        self.write = None
        self.committed = []
        self.restore = None
        self.reads = reads
        self.rejected = rejected


@dataclass(slots=True)
class Recovered:
    """What storage found at start; the defaults are those of a server that is new."""

    # The user's own bytes, given when the storage was created.
    metadata: bytes = b""
    hard_state: HardState = NO_HARD_STATE
    # The newest readable one; the state machine is restored from it before the first `Ready`.
    snapshot: SnapshotMeta | None = None
    # All those after `snapshot`, consecutive; some may be uncommitted.
    entries: list[Entry] = field(default_factory=list)


class Storage(Protocol):
    """The disk, as the driver sees it. `done` is called later, never from inside the call."""

    def write(self, write: Write, done: Callable[[], None]) -> bool:
        """Make `write` durable, then call `done`; or return True, if it is durable already.

        One at a time; a failure ends the process. While the disk is full it waits.
        """

    def save_snapshot(
        self,
        meta: SnapshotMeta,
        chunks: Iterator[bytes],
        done: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        """Make a snapshot of our own durable, then call `done`; or `given_up` if it has no room."""

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The chunks of a durable snapshot, as they were given. Raises CorruptRecord."""


class Transport(Protocol):
    """The network, as the driver sees it: messages leave, and may get lost."""

    def send(self, envelopes: list[Envelope]) -> None:
        """Send each to its recipient; never waits, never raises, may drop."""


class StateMachine(Protocol):
    """What the log is for. All methods are deterministic: same calls, same state."""

    def apply(self, entries: list[Entry]) -> None:
        """Apply committed entries in order. All are NORMAL or NOOP."""

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        """Tell of a committed change; False to make it void, on every server alike."""

    def configured(self, configuration: Configuration) -> None:
        """The configuration in force is this one: told after a change, a restore, and at start."""

    def capture(self) -> Iterator[bytes]:
        """The state as of this moment; it may be encoded later, as the iterator is drawn."""

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by a captured one. Raises CorruptRecord for bad bytes."""

    def reject(self, rejected: Rejected) -> None:
        """A proposal made here came back; it is in no log."""
