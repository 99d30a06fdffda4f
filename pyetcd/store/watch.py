"""Watchers and the hub that tells them of events.

A watcher is told by a callback inside the write, before the write returns; so nothing can happen
between a look into history and the registration. A callback only takes the event (and hands it
to a connection later): it must not write to the store. Removing a watcher, also one's own inside
a callback, is allowed and costs the same however many there are.

The rules, as in etcd 2.3.8: a watcher sees events of its own path; a recursive one also events
below it, unless a name between the two begins with "_"; when a directory is removed, watchers of
every node in it are told. The removed key's own watchers are told twice, which only a stream
notices. Refreshes tell nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyetcd.store.event import Event
from pyetcd.store.history import EventHistory

# Later than any index, so that one comparison also stops a watcher that has been removed.
_NEVER = 1 << 64


@dataclass(slots=True, eq=False, init=False)
class Watcher:
    """One watch of a client."""

    path: str
    recursive: bool
    # A stream goes on after its first event; any other watcher is removed by it.
    stream: bool
    # Events before this index are not for it.
    since_index: int
    # The index of the store when the watch began, for the response's header.
    start_index: int
    on_event: Callable[[Event], None]
    # Called instead of on_event when events were lost by the installation of a snapshot.
    on_lost: Callable[[], None]
    hub: "WatcherHub"
    # The event that history had. Then the watcher was never registered, not even a stream: etcd
    # sends such a stream one event and then nothing.
    history_event: Event | None

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(
        self,
        path: str,
        recursive: bool,
        stream: bool,
        since_index: int,
        start_index: int,
        on_event: Callable[[Event], None],
        on_lost: Callable[[], None],
        hub: "WatcherHub",
    ) -> None:
        self.path = path
        self.recursive = recursive
        self.stream = stream
        self.since_index = since_index
        self.start_index = start_index
        self.on_event = on_event
        self.on_lost = on_lost
        self.hub = hub
        self.history_event = None

    def remove(self) -> None:
        """Tell nothing any more; may be called at any time and twice."""
        self.hub.remove(self)


class WatcherHub:
    """The registered watchers by path, and the history that they may ask for.

    Invariants:
      1. No path has an empty group.
      2. `count` is the number of watchers in all groups.
    """

    __slots__ = ("_exact", "_recursive", "count", "history")

    def __init__(self) -> None:
        """Start without watchers and history."""
        self.history = EventHistory()
        self.count = 0
        # Groups are dictionaries for their order: watchers are told first come, first served.
        self._exact: dict[str, dict[Watcher, None]] = {}
        self._recursive: dict[str, dict[Watcher, None]] = {}

    def watch(self, watcher: Watcher) -> None:
        """Give the watcher its event from history, or register it. Raises EventIndexCleared."""
        watcher.history_event = self.history.scan(
            watcher.path, watcher.since_index, recursive=watcher.recursive
        )
        if watcher.history_event is None:
            groups = self._recursive if watcher.recursive else self._exact
            groups.setdefault(watcher.path, {})[watcher] = None
            self.count += 1

    def remove(self, watcher: Watcher) -> None:
        """Forget the watcher, if it is registered."""
        groups = self._recursive if watcher.recursive else self._exact
        group = groups.get(watcher.path)
        if group is None or watcher not in group:
            return
        del group[watcher]
        if not group:
            del groups[watcher.path]
        watcher.since_index = _NEVER
        self.count -= 1

    def notify(self, event: Event) -> None:
        """Add the event to history; tell those who watch its key or a directory above."""
        self.history.append(event)
        if self._exact:
            group = self._exact.get(event.key)
            if group is not None:
                _tell(group, event)
        if self._recursive:
            self._notify_upward(event)

    def notify_removed(self, path: str, event: Event) -> None:
        """Tell those who watch a node that the event removed."""
        for groups in (self._exact, self._recursive):
            group = groups.get(path)
            if group is not None:
                _tell(group, event)

    def _notify_upward(self, event: Event) -> None:
        path = event.key
        while True:
            group = self._recursive.get(path)
            if group is not None:
                _tell(group, event)
            if path == "/":
                return
            cut = path.rindex("/")
            if path.startswith("_", cut + 1):
                return  # hidden from all that is further up
            path = path[:cut] or "/"

    def install(self, history: EventHistory) -> None:
        """Continue with the history of a snapshot; tell watchers what they missed.

        A watcher that misses more than history has is removed and told so.
        """
        missed_from = self.history.last_index + 1
        self.history = history
        for groups in (self._exact, self._recursive):
            for watcher in [watcher for group in groups.values() for watcher in group]:
                self._catch_up(watcher, max(missed_from, watcher.since_index))

    def _catch_up(self, watcher: Watcher, since: int) -> None:
        if since < self.history.first_index:
            watcher.remove()
            watcher.on_lost()
            return
        for event in self.history.events(since):
            if event is not None and _concerns(event, watcher):
                _tell({watcher: None}, event)

    def check(self) -> None:
        """Assert the invariants above."""
        groups = [*self._exact.values(), *self._recursive.values()]
        assert all(groups), "an empty group was left behind"
        counted = sum(map(len, groups))
        assert counted == self.count, f"{counted} watchers, but the count says {self.count}"


def _tell(group: dict[Watcher, None], event: Event) -> None:
    # The hot loop of a fan-out: a comparison, a test and a call for each watcher. The copy is
    # there because callbacks may remove watchers.
    index = event.etcd_index
    for watcher in list(group):
        if watcher.since_index <= index:
            if not watcher.stream:
                watcher.remove()
            watcher.on_event(event)


def _concerns(event: Event, watcher: Watcher) -> bool:
    """Tell whether a registered watcher would have been told of this event."""
    if event.refresh:
        return False
    path, key = watcher.path, event.key
    if key == path:
        return True
    if event.removes_directory and path.startswith(key + "/"):
        # Whether the watched node was there when the directory went is not known here. To be
        # told of a removal too often is harmless.
        return True
    below = key[len(path) :] if path != "/" else key
    return (
        watcher.recursive and below.startswith("/") and key.startswith(path) and "/_" not in below
    )
