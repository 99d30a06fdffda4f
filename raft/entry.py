"""The values that raft keeps on disk: entries, the hard state, configurations, snapshots' names.

Log indexes and terms begin at 1; 0 means "none". Server ids are positive 64-bit integers; 0 means
"nobody". All of these are compared by value and never changed, and all but entries are tuples,
which msgpack packs as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mypy_extensions import mypyc_attr

# The kinds of entries. Only the user's own entries (NORMAL) reach `StateMachine.apply`.
NOOP: Final = 0  # a new leader's first entry (thesis 3.6.2, 6.4)
NORMAL: Final = 1  # `data` is the user's
CONFIG: Final = 2  # `data` is an encoded `confchange.ConfigChange`


class EntryID(NamedTuple):
    """Names one entry for ever: two entries with equal ids are equal (thesis 3.5, Log Matching)."""

    # `index` hides tuple.index, which nobody asks of an entry; so in `SnapshotMeta`.
    index: int  # type: ignore[assignment]  # >= 0; 0 is the place before the first entry
    term: int  # >= 0; 0 only together with index 0

    def __str__(self) -> str:
        return f"{self.index}@{self.term}"


# No tuple, as the collector would look at every one: a log holds a hundred thousand of them.
@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Entry:
    """One entry of the log."""

    index: int  # >= 1
    term: int  # >= 1; the term of the leader that made it
    kind: int  # NOOP, NORMAL or CONFIG
    data: bytes  # empty for NOOP

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(self, index: int, term: int, kind: int, data: bytes) -> None:
        self.index = index
        self.term = term
        self.kind = kind
        self.data = data


class HardState(NamedTuple):
    """What a server must remember over a crash besides its log (thesis figure 3.1)."""

    term: int  # the latest term seen; 0 before the first
    vote: int  # who got our vote in `term`; 0 when nobody did
    commit: int  # the highest index known to be committed; may lag behind after a crash


class Configuration(NamedTuple):
    """Who belongs to the cluster, as of some entry (thesis chapter 4). All tuples are sorted.

    Invariants: those numbered in `raft.confchange`, whose `check` asserts them.
    """

    voters: tuple[int, ...] = ()
    # The voters of the old configuration while a joint one is in force (thesis 4.3); else empty.
    voters_outgoing: tuple[int, ...] = ()
    # Receive the log but neither vote nor count (thesis 4.2.1).
    learners: tuple[int, ...] = ()
    # Voters of the old configuration that become learners when the joint one is left.
    learners_next: tuple[int, ...] = ()

    @property
    def servers(self) -> tuple[int, ...]:
        """Everybody who is sent the log, sorted, for determinism."""
        return tuple(sorted({*self.voters, *self.voters_outgoing, *self.learners}))

    def __str__(self) -> str:
        """Return it for a log line: only what is there, ids as they are printed everywhere."""
        parts = [
            f"{name}: [{' '.join(f'{server:x}' for server in servers)}]"
            for name, servers in zip(self._fields, self, strict=True)
            if servers
        ]
        return f"({', '.join(parts)})"


class SnapshotMeta(NamedTuple):
    """Names a snapshot: the state after applying `index`, and the configuration at that point."""

    index: int  # type: ignore[assignment]  # >= 1
    term: int  # >= 1
    configuration: Configuration

    @property
    def id(self) -> EntryID:
        """The last entry that the snapshot replaces."""
        return EntryID(self.index, self.term)


# Makes a NamedTuple of a tuple at half the cost of calling its class.
new_tuple: Final[Callable[[Any, tuple[Any, ...]], Any]] = tuple.__new__


def make_hard_state(term: int, vote: int, commit: int) -> HardState:
    """Return a `HardState`, faster than its class does: there is one for each write."""
    hard_state: HardState = new_tuple(HardState, (term, vote, commit))
    return hard_state


NO_ENTRY: Final = EntryID(0, 0)
NO_HARD_STATE: Final = HardState(0, 0, 0)
