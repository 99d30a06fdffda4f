"""An applier that is fed entry by entry, and remembers what it told."""

from pyetcd.cluster import Cluster, Member
from pyetcd.command import (
    Command,
    MemberChange,
    encode,
    encode_member_change,
)
from pyetcd.server.apply import Applier, Result, Waiter
from pyetcd.store import Event, Store
from raft import (
    ADD_VOTER,
    CONFIG,
    NORMAL,
    REMOVE,
    Change,
    ConfigChange,
    Configuration,
    Entry,
    Rejected,
    SnapshotMeta,
    encode_change,
)

# 2016-01-26, in nanoseconds since the epoch.
NOW = 1_453_748_462_000_000_000
SECOND = 1_000_000_000
# Of all entries.
TERM = 3
FIRST = Member(0xA, "", ("http://a:2380",))
OTHER = Member(0xB, "", ("http://b:2380",))
META = SnapshotMeta(50, 4, Configuration(voters=(0xA,)))


class Notes:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def on_member_added(self, member: Member) -> None:
        self.told.append(("added", member.id))

    def on_member_removed(self, member_id: int) -> None:
        self.told.append(("removed", member_id))

    def on_member_updated(self, member: Member) -> None:
        self.told.append(("updated", member.id, member.peer_urls))

    def on_cluster_replaced(self) -> None:
        self.told.append(("replaced",))

    def on_configured(self, configuration: Configuration) -> None:
        self.told.append(("configured", configuration.voters))

    def on_term_began(self, term: int) -> None:
        self.told.append(("term", term))

    def on_time_asked(self, member_id: int, time: int, known: bool) -> None:
        self.told.append(("question", member_id, time, known))

    def on_time_told(self, time: int, term: int) -> None:
        self.told.append(("time", time, term))

    def on_applied(self) -> None:
        self.told.append(("applied",))

    def on_rejected(self, rejected: Rejected) -> None:
        self.told.append(("rejected", rejected))


class World:
    """An applier of a cluster with one member, fed entry by entry."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.applier = Applier(Store(), Cluster(0xC), self.notes)
        self.entries: list[Entry] = []
        self.change(FIRST)
        self.base = self.applier.store.index
        self.notes.told.clear()

    @property
    def store(self) -> Store:
        return self.applier.store

    @property
    def index(self) -> int:
        """How many indexes of the store were taken since the beginning."""
        return self.store.index - self.base

    def wait(self, request_id: int) -> list[Result]:
        """Wait for a request; the list gets its results."""
        results: list[Result] = []
        waiter = Waiter(results.append, 1, NORMAL, b"", 1, 1)
        self.applier.waiters[request_id] = waiter
        return results

    def entry(self, kind: int, data: bytes) -> Entry:
        """The next entry of the log."""
        self.entries.append(Entry(len(self.entries) + 1, TERM, kind, data))
        return self.entries[-1]

    def run(self, command: Command, now: int = NOW) -> Result:
        """Apply a command as an entry of its own; return what its requester is told."""
        request_id = len(self.entries) + 100
        results = self.wait(request_id)
        self.applier.apply(
            [
                self.entry(
                    NORMAL, encode(request_id, now, command, self.applier.auth.revision_in_force)
                )
            ]
        )
        (result,) = results
        return result

    def event(self, command: Command) -> Event:
        """Apply a command that succeeds."""
        result = self.run(command)
        assert isinstance(result, Event), result
        return result

    def change(self, added: Member | None, removed_id: int = 0) -> tuple[bool, Result]:
        """Apply a membership change; return whether it is valid, and what its requester is told."""
        request_id = len(self.entries) + 100
        results = self.wait(request_id)
        context = encode_member_change(MemberChange(request_id, added, removed_id))
        kind, member_id = (ADD_VOTER, added.id) if added else (REMOVE, removed_id)
        change = ConfigChange((Change(kind, member_id),), context)
        valid = self.applier.apply_config(self.entry(CONFIG, encode_change(change)), change)
        (result,) = results
        return valid, result

    def value(self, path: str) -> str:
        found = self.store.get(path, NOW)
        assert isinstance(found, Event)
        assert found.node is not None
        assert found.node.value is not None
        return found.node.value

    def state(self) -> bytes:
        """Everything that must be the same on every member."""
        return b"".join(self.applier.capture())
