"""The one history that all members have committed, index by index, and what every key was then.

It is learned from whichever member applies an entry first; `raft.sim` sees to it that no other
member comes to another state at the same index. What an event may do to a key is said here once
more, apart from the store: an event that contradicts what was there before is `Unsafe`.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyetcd.sim.rights import Rights
from pyetcd.store import Event, Store
from raft.sim import Unsafe

_CREATING = ("set", "create")
_CHANGING = ("update", "compareAndSwap")
_REMOVING = ("delete", "compareAndDelete", "expire")


class Version(NamedTuple):
    """A key with a value, as it was from one index to another."""

    value: str
    created_index: int
    modified_index: int
    expiration: int


class Chronicle:
    """All events so far.

    Invariants:
      1. `events[i]` took index i, or is None for a change that users do not see; 0 is no index.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        """`on_event` is told of each event once, in order."""
        self.events: list[Event | None] = [None]
        self._on_event = on_event
        self._versions: dict[str, list[tuple[int, Version | None]]] = {}
        self._present: dict[str, Version] = {}
        self._rights: list[tuple[int, Rights]] = [(0, Rights())]

    @property
    def last_index(self) -> int:
        """The newest index that some member has applied."""
        return len(self.events) - 1

    @property
    def rights_index(self) -> int:
        """The index at which users, roles or the switch have changed last."""
        return self._rights[-1][0]

    @property
    def present(self) -> dict[str, Version]:
        """All keys that have a value, as of the last index."""
        return self._present

    def learn(self, store: Store, rights: Rights | None) -> None:
        """Take what this member is ahead with; `rights` if the last entry has changed them."""
        if store.index <= self.last_index:
            return
        for event in store.history(self.last_index + 1):
            index = len(self.events)
            if event is not None:
                if event.etcd_index != index:
                    raise Unsafe(f"{_show(event)} has the place of index {index}")
                self._take(event)
            self.events.append(event)
            if event is not None:
                self._on_event(event)
        if self.last_index != store.index:
            raise Unsafe(f"history ends at {self.last_index}, and the store is at {store.index}")
        if rights is not None:
            self._rights.append((store.index, rights))

    def version(self, key: str, etcd_index: int) -> Version | None:
        """Return what the key was at this index; None if it was not there or is a directory."""
        versions = self._versions.get(key, [])
        position = bisect_right(versions, etcd_index, key=lambda it: it[0])
        return versions[position - 1][1] if position else None

    def below(self, directory: str, etcd_index: int) -> dict[str, Version]:
        """Return all keys with values below a directory at this index."""
        found = {}
        for key in self._versions:
            if key.startswith(directory + "/"):
                if version := self.version(key, etcd_index):
                    found[key] = version
        return found

    def rights(self, etcd_index: int) -> Rights:
        """Return who was allowed what, right after this index."""
        position = bisect_right(self._rights, etcd_index, key=lambda it: it[0])
        return self._rights[position - 1][1]

    def rights_between(self, first: int, last: int) -> Iterator[Rights]:
        """Yield all that were in force at some index from the one to the other."""
        yield self.rights(first)
        for index, rights in self._rights:
            if first < index <= last:
                yield rights

    # ---------------------------------------------------------------------------------- inside

    def _take(self, event: Event) -> None:
        problem = self._contradiction(event)
        if problem:
            raise Unsafe(f"{_show(event)}: {problem}")
        if event.node is not None and event.node.value is not None:
            node = event.node
            version = Version(
                node.value or "", node.created_index, node.modified_index, node.expiration
            )
            self._put(event.key, event.etcd_index, version)
        elif event.node is None:
            gone = [event.key]
            if event.removes_directory:
                gone = [key for key in self._present if key.startswith(event.key + "/")]
            for key in gone:
                self._put(key, event.etcd_index, None)

    def _put(self, key: str, etcd_index: int, version: Version | None) -> None:
        self._versions.setdefault(key, []).append((etcd_index, version))
        if version is None:
            del self._present[key]
        else:
            self._present[key] = version

    def _contradiction(self, event: Event) -> str:
        """Say what of the event cannot be; "" if nothing."""
        index, node, before = event.etcd_index, event.node, self._present.get(event.key)
        shown = event.prev_node
        if shown is not None and shown.value is not None:
            found = Version(
                shown.value, shown.created_index, shown.modified_index, shown.expiration
            )
            if found != before:
                return f"the key was {before}"
        elif before is not None:
            return f"it hides that the key was {before}"
        if event.action in _REMOVING:
            if node is not None or shown is None:
                return "it removes nothing, or leaves something"
            if event.action == "expire" and not 0 < shown.expiration <= event.now:
                return f"the key was to expire at {shown.expiration}, not at {event.now}"
            return ""
        if node is None or node.modified_index != index:
            return "what it leaves is of another index"
        if event.action in _CREATING:
            if node.created_index != index or (event.action == "create" and shown is not None):
                return "it creates what was there"
        elif event.action not in _CHANGING:
            return "nobody knows this action"
        elif shown is None or node.created_index != shown.created_index:
            return "it changes what was not there"
        if event.refresh and (shown is None or node.value != shown.value):
            return "a refresh has changed the value"
        return ""


def _show(event: Event) -> str:
    return f"{event.action} of {event.key} at {event.etcd_index}"
