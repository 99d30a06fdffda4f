"""Store: etcd 2's tree of keys, its index, history, watchers and statistics.

Deterministic: the same commands in the same order give the same state on every member. Time comes
in as an argument, in nanoseconds since the epoch (UTC): `now` is the clock of whoever proposed the
command, by which the ttl in its event is computed; an expiration is absolute, 0 means none, and
both fit into 64 bits with a sign. No clock, no input or output here, and nothing waits.

Paths are clean: "/" or "/part/part". Strings may hold escaped bytes (see `json_text.py`). A
refused command raises an EtcdError and changes nothing but the statistics. Those count as etcd
2.3.8 does, which takes some refusals for successes: `update` and `compare_and_swap` of the root,
`delete` of the root, an `update` with a value on a directory, and every refused
`compare_and_delete` of a key that exists.
"""

from collections.abc import Callable, Iterable, Iterator

from pyetcd.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    EtcdError,
    KeyExists,
    KeyNotFound,
    NotFile,
    RootReadOnly,
)
from pyetcd.store.event import (
    COMPARE_AND_DELETE,
    COMPARE_AND_SWAP,
    CREATE,
    DELETE,
    EXPIRE,
    GET,
    SET,
    UPDATE,
    Event,
)
from pyetcd.store.listing import Listing
from pyetcd.store.node import KeyNode
from pyetcd.store.snapshot import Capture, Restorer
from pyetcd.store.stats import StoreStats
from pyetcd.store.tree import Tree
from pyetcd.store.watch import Watcher, WatcherHub

# The year 2000: set and create take an earlier expiration for none (a ttl that overflowed).
_EARLIEST_EXPIRATION = 946_684_800 * 1_000_000_000


def _ignore() -> None:
    pass


class Store:
    """The replicated state that users see.

    Invariants:
      1. Every index from 1 to `index` was taken by one change, and has its place in history.
      2. No node has an index above `index`.
    """

    __slots__ = ("_hub", "_tree", "index", "stats")

    def __init__(self) -> None:
        """Start with an empty root at index 0."""
        self.index = 0
        self.stats = StoreStats()
        self._hub = WatcherHub()
        self._tree = Tree()

    # -- reading

    def get(
        self, path: str, now: int, *, recursive: bool = False, sort: bool = False
    ) -> Event | Listing:
        """Return a key with its value, or the listing of a directory. Raises EtcdError."""
        node = self._tree.find(path)
        if node is None:
            self.stats.gets_fail += 1
            raise self._missing(path)
        self.stats.gets_success += 1
        if node.value is not None:
            return Event(GET, self.index, path, node, None, now)
        contents = self._tree.contents(path, recursive=recursive)
        return Listing(self.index, node, contents, sort, now)

    def watch(
        self,
        path: str,
        on_event: Callable[[Event], None],
        *,
        recursive: bool = False,
        stream: bool = False,
        since_index: int = 0,
        on_lost: Callable[[], None] = _ignore,
    ) -> Watcher:
        """Return a watcher that is told of events from that index on; 0 means from now on.

        Look at its `history_event` first. Raises EventIndexCleared.
        """
        since = since_index or self.index + 1
        watcher = Watcher(path, recursive, stream, since, self.index, on_event, on_lost, self._hub)
        self._hub.watch(watcher)
        return watcher

    @property
    def watcher_count(self) -> int:
        """Return the number of watchers that wait."""
        return self._hub.count

    def stats_body(self) -> bytes:
        """Return the JSON document of the statistics, which has no newline."""
        return self.stats.body(watchers=self._hub.count)

    def nodes(self) -> Iterator[KeyNode]:
        """Yield all nodes, the root first; their order is part of the state."""
        return self._tree.nodes()

    def history(self, since_index: int) -> Iterator[Event | None]:
        """Yield what history has from that index on; None for changes that no user can see."""
        history = self._hub.history
        return history.events(max(since_index, history.first_index))

    # -- writing

    def set(
        self,
        path: str,
        value: str,
        now: int,
        *,
        directory: bool = False,
        expiration: int = 0,
        refresh: bool = False,
    ) -> Event:
        """Create a key or replace it; a refresh keeps its value and needs it to be there."""
        prev_node = self._tree.find(path)
        if prev_node is None:
            self._prepare_set(path, refresh=refresh)
        elif prev_node.value is None:
            self.stats.sets_fail += 1
            raise self._root_read_only() if path == "/" else NotFile(path, self.index)
        elif refresh:
            value = prev_node.value
        if expiration < _EARLIEST_EXPIRATION:
            expiration = 0
        index = self.index + 1
        node = KeyNode(path, None if directory else value, index, index, expiration)
        if prev_node is None:
            self._tree.add(node)
        else:
            self._tree.replace(prev_node, node)
        self.stats.sets_success += 1
        return self._commit(Event(SET, index, path, node, prev_node, now, refresh))

    def create(
        self, path: str, value: str, now: int, *, directory: bool = False, expiration: int = 0
    ) -> Event:
        """Create a key that does not exist yet, with the directories above it."""
        if path == "/":
            self.stats.create_fail += 1
            raise self._root_read_only()
        index = self.index + 1
        present = self._tree.find(path)
        if present is not None:
            self.stats.create_fail += 1
            raise KeyExists(path, self.index)
        try:
            self._tree.make_directories(path[: path.rindex("/")] or "/", index)
        except EtcdError:
            self.stats.create_fail += 1
            self.stats.sets_fail += 1  # etcd counts a way that is blocked by a file twice
            raise
        if expiration < _EARLIEST_EXPIRATION:
            expiration = 0
        node = KeyNode(path, None if directory else value, index, index, expiration)
        self._tree.add(node)
        self.stats.create_success += 1
        return self._commit(Event(CREATE, index, path, node, None, now))

    def create_in_order(
        self, path: str, value: str, now: int, *, directory: bool = False, expiration: int = 0
    ) -> Event:
        """Create a key below this directory, named by the index in 20 digits."""
        parent = "" if path == "/" else path
        name = f"{parent}/{self.index + 1:020d}"
        return self.create(name, value, now, directory=directory, expiration=expiration)

    def update(
        self, path: str, value: str, now: int, *, expiration: int = 0, refresh: bool = False
    ) -> Event:
        """Change the value and the expiration of a key that exists, or a directory's expiration.

        The event of a directory shows a new modified_index; the directory itself keeps its own.
        """
        if path == "/":
            self.stats.update_success += 1
            raise self._root_read_only()
        prev_node = self._tree.find(path)
        if prev_node is None:
            self.stats.update_fail += 1
            raise self._missing(path)
        self.stats.update_success += 1
        if prev_node.value is None and value != "":
            raise NotFile(path, self.index)
        index = self.index + 1
        created = prev_node.created_index
        if prev_node.value is None:
            shown = KeyNode(path, None, created, index, expiration)
            kept = KeyNode(path, None, created, prev_node.modified_index, expiration)
        else:
            shown = KeyNode(path, prev_node.value if refresh else value, created, index, expiration)
            kept = shown
        self._tree.replace(prev_node, kept)
        return self._commit(Event(UPDATE, index, path, shown, prev_node, now, refresh))

    def compare_and_swap(
        self,
        path: str,
        value: str,
        now: int,
        *,
        prev_value: str = "",
        prev_index: int = 0,
        expiration: int = 0,
        refresh: bool = False,
    ) -> Event:
        """Change a key if its value and modified_index are these; "" and 0 ask for nothing."""
        if path == "/":
            self.stats.compare_and_swap_success += 1
            raise self._root_read_only()
        try:
            prev_node = self._compared(path, prev_value, prev_index)
        except EtcdError:
            self.stats.compare_and_swap_fail += 1
            raise
        index = self.index + 1
        new_value = prev_node.value if refresh else value
        node = KeyNode(path, new_value, prev_node.created_index, index, expiration)
        self._tree.replace(prev_node, node)
        self.stats.compare_and_swap_success += 1
        return self._commit(Event(COMPARE_AND_SWAP, index, path, node, prev_node, now, refresh))

    def delete(
        self, path: str, now: int, *, directory: bool = False, recursive: bool = False
    ) -> Event:
        """Remove a key; an empty directory needs `directory`, a full one `recursive`."""
        if path == "/":
            self.stats.delete_success += 1
            raise self._root_read_only()
        prev_node = self._tree.find(path)
        error: EtcdError | None = None
        if prev_node is None:
            error = self._missing(path)
        elif prev_node.value is None and not recursive:
            if not directory:
                error = NotFile(path, self.index)
            elif not self._tree.is_empty(path):
                error = DirectoryNotEmpty(path, self.index)
        if error is not None:
            self.stats.delete_fail += 1
            raise error
        self.stats.delete_success += 1
        return self._remove(Event(DELETE, self.index + 1, path, None, prev_node, now))

    def compare_and_delete(
        self, path: str, now: int, *, prev_value: str = "", prev_index: int = 0
    ) -> Event:
        """Remove a key if its value and modified_index are these; "" and 0 ask for nothing."""
        try:
            prev_node = self._compared(path, prev_value, prev_index)
        except EtcdError:
            if self._tree.find(path) is not None:
                self.stats.compare_and_delete_success += 1
            else:
                self.stats.compare_and_delete_fail += 1
            raise
        self.stats.compare_and_delete_success += 1
        return self._remove(Event(COMPARE_AND_DELETE, self.index + 1, path, None, prev_node, now))

    def expire(self, cutoff: int, limit: int) -> list[Event]:
        """Remove the keys whose time has come by then, at most so many, the earliest first."""
        events: list[Event] = []
        while len(events) < limit:
            first = self._tree.expirations.first()
            if first is None or first[0] > cutoff:
                break
            path = first[1]
            node = self._tree.find(path)
            event = Event(EXPIRE, self.index + 1, path, None, node, cutoff)
            self.stats.expire_count += 1
            events.append(self._remove(event))
        return events

    def next_expiration(self) -> int | None:
        """Return when the first key expires, or None while no key does."""
        first = self._tree.expirations.first()
        return None if first is None else first[0]

    def advance_index(self) -> int:
        """Take an index for a change that is no key of the user, and return it.

        etcd 2 keeps members, the cluster's version and users as hidden keys: each change of them
        takes an index and a place in history.
        """
        self.index += 1
        self._hub.history.append(None)
        return self.index

    # -- snapshots

    def capture(self) -> Capture:
        """Return the state of this moment, for encoding it while the store goes on."""
        history = self._hub.history
        events = list(history.events(max(1, history.first_index)))
        return Capture(self.index, list(self._tree.nodes()), events, self.stats.writes())

    @classmethod
    def restore(cls, chunks: Iterable[bytes]) -> "Store":
        """Return the store of a snapshot. Raises CorruptSnapshot."""
        restorer = Restorer()
        for chunk in chunks:
            restorer.feed(chunk)
        restorer.finish()
        return cls.from_restorer(restorer)

    @classmethod
    def from_restorer(cls, restorer: Restorer) -> "Store":
        """Return the store of a snapshot that was fed and finished, perhaps in slices."""
        store = cls()
        store.index = restorer.index
        store.stats = restorer.stats
        store._hub.history = restorer.history
        store._tree = restorer.tree
        return store

    def install(self, newer: "Store") -> None:
        """Become that store, which must not be used any more, but keep the watchers.

        They are told what they missed, as far as history goes back. The reads counted so far
        stay counted.
        """
        assert newer.index >= self.index, f"from index {self.index} back to {newer.index}"
        newer.stats.gets_success += self.stats.gets_success
        newer.stats.gets_fail += self.stats.gets_fail
        self.index = newer.index
        self.stats = newer.stats
        self._tree = newer._tree
        self._hub.install(newer._hub.history)

    def check(self) -> None:
        """Assert the invariants; costs as much as reading everything."""
        history = self._hub.history
        assert history.last_index == self.index, f"history ends at {history.last_index}"
        newest = max(node.modified_index for node in self._tree.nodes())
        assert newest <= self.index, f"a node has index {newest} of {self.index}"
        self._tree.check()
        self._hub.check()

    # -- inside

    def _commit(self, event: Event) -> Event:
        self.index = event.etcd_index
        if event.refresh:
            self._hub.history.append(event)
        else:
            self._hub.notify(event)
        return event

    def _remove(self, event: Event) -> Event:
        removed = self._tree.remove(event.key)
        self.index = event.etcd_index
        if self._hub.count:
            for path in removed:
                self._hub.notify_removed(path, event)
        self._hub.notify(event)
        return event

    def _prepare_set(self, path: str, *, refresh: bool) -> None:
        """Make the directories above a key that set is about to create."""
        try:
            if refresh:
                raise self._missing(path)
            self._tree.make_directories(path[: path.rindex("/")] or "/", self.index + 1)
        except EtcdError:
            self.stats.sets_fail += 1
            raise

    def _compared(self, path: str, prev_value: str, prev_index: int) -> KeyNode:
        """Return the file at this path, whose value and modified_index are these."""
        node = self._tree.find(path)
        if node is None:
            raise self._missing(path)
        if node.value is None:
            # etcd trims its internal prefix from the cause: nothing of the root is left.
            raise NotFile("" if path == "/" else path, self.index)
        failures = []
        if prev_value not in ("", node.value):
            failures.append(f"[{prev_value} != {node.value}]")
        if prev_index not in (0, node.modified_index):
            failures.append(f"[{prev_index} != {node.modified_index}]")
        if failures:
            raise CompareFailed(" ".join(failures), self.index)
        return node

    def _missing(self, path: str) -> EtcdError:
        """Return why this path, which is not there, cannot be read."""
        return self._tree.obstacle(path, self.index) or KeyNotFound(path, self.index)

    def _root_read_only(self) -> EtcdError:
        return RootReadOnly("/", self.index)
