"""The store in bytes: capturing, encoding and restoring it.

A capture is a list of immutable nodes, taken at once; it is encoded later, piece by piece, while
the store goes on. The same commands give the same bytes on every member, since the order of the
nodes is part of the state (see `tree.py`) and nothing local is written.

Format: a stream of msgpack arrays, cut into chunks anywhere. First ["store", version, index,
write counters], then in order any number of

    ["nodes", paths, values, created_indexes, modified - created, expirations]     (columns)
    ["events", [[action, refresh, now, node, prev_node] | nil, ...]]    (node: five fields | nil)

and last ["end", node count]. The events are those of history, the last one having the index of
the header; nil stands for an index that users do not see. A directory's value is nil; the root is
not written. Strings are UTF-8 with the bytes that are none kept as they were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from pyetcd.store.event import REMOVALS, WRITES, Event
from pyetcd.store.history import CAPACITY, EventHistory
from pyetcd.store.node import KeyNode
from pyetcd.store.stats import WRITE_COUNTERS, StoreStats
from pyetcd.store.tree import Tree

VERSION = 1

# A chunk holds about so many bytes (or one node, if that is larger), and no more than so many
# nodes: a millisecond of work.
_CHUNK_BYTES = 131_072
_CHUNK_NODES = 1024
# What a record costs besides its strings, roughly.
_RECORD_BYTES = 32

_MAX_INDEX = 2**64 - 1
_MAX_TIME = 2**63 - 1

_NodeFields = tuple[str, str | None, int, int, int]


class CorruptSnapshot(ValueError):
    """These bytes are no snapshot of a store, or not all of one."""


@dataclass(slots=True, eq=False)
class Capture:
    """A store at one moment; it keeps the nodes of that moment alive."""

    index: int
    nodes: list[KeyNode]
    events: list[Event | None]
    # The counters that are the same on every member.
    counters: tuple[int, ...]

    def encode(self) -> Iterator[bytes]:
        """Yield the snapshot in chunks, each of them little work."""
        pack = msgpack.Packer(unicode_errors="surrogateescape").pack
        yield pack(("store", VERSION, self.index, self.counters))
        start = 1  # after the root
        while start < len(self.nodes):
            end, size = start, 0
            while end < len(self.nodes) and end - start < _CHUNK_NODES and size < _CHUNK_BYTES:
                node = self.nodes[end]
                size += _RECORD_BYTES + len(node.path) + len(node.value or "")
                end += 1
            yield pack(("nodes", *_columns(self.nodes[start:end])))
            start = end
        batch: list[tuple[Any, ...] | None] = []
        size = 0
        for event in self.events:
            batch.append(None if event is None else _event_record(event))
            size += 0 if event is None else _event_size(event)
            if size >= _CHUNK_BYTES:
                yield pack(("events", batch))
                batch, size = [], 0
        yield pack(("events", batch))
        yield pack(("end", len(self.nodes) - 1))


class Restorer:
    """Builds a store's parts from the chunks of a snapshot."""

    def __init__(self) -> None:
        """Expect the first chunk."""
        self.tree = Tree()
        self.history = EventHistory()
        self.stats = StoreStats()
        self.index = -1
        self._events: list[Event | None] = []
        self._complete = False
        self._unpacker = msgpack.Unpacker(
            unicode_errors="surrogateescape", use_list=False, max_buffer_size=_MAX_TIME
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises CorruptSnapshot."""
        try:
            self._unpacker.feed(chunk)
            for record in self._unpacker:
                self._take(record)
        except CorruptSnapshot:
            raise
        except (ValueError, msgpack.UnpackException) as error:
            raise CorruptSnapshot(f"not msgpack: {error}") from error

    def finish(self) -> None:
        """Complete the parts after the last chunk. Raises CorruptSnapshot."""
        _require(self._complete, "it ends too early")
        events = self._events
        expected = min(self.index, CAPACITY)
        _require(len(events) == expected, f"{len(events)} events, not {expected}")
        first_index = self.index - len(events) + 1
        for index, event in enumerate(events, start=first_index):
            if event is not None:
                event.etcd_index = index
        self.history = EventHistory.restore(first_index, events)

    def _take(self, record: object) -> None:
        _require(not self._complete, "something follows its end")
        match record:
            case ("store", int(version), int(index), tuple(counters)) if self.index == -1:
                _require(version == VERSION, f"version {version} is unknown")
                _require(0 <= index <= _MAX_INDEX, f"index {index}")
                _require(len(counters) == WRITE_COUNTERS, f"{len(counters)} counters")
                _require(set(map(type, counters)) == {int}, "a counter is no number")
                self.index = index
                self.stats = StoreStats.from_writes(counters)
            case ("nodes", paths, values, created, deltas, ends) if self.index != -1:
                self._take_nodes([paths, values, created, deltas, ends])
            case ("events", tuple(records)) if self.index != -1:
                self._events.extend(map(_event_of, records))
            case ("end", int(count)) if self.index != -1:
                present = len(self.tree)
                _require(present == count, f"{present} nodes, not {count}")
                self._complete = True
            case _:
                raise CorruptSnapshot("a record that does not belong there")

    def _take_nodes(self, columns: list[Any]) -> None:
        _require(all(isinstance(column, tuple) for column in columns), "a column is none")
        _require(len(set(map(len, columns))) == 1, "columns of different length")
        paths, values, created, deltas, expirations = columns
        _require(set(map(type, paths)) <= {str}, "a path is no string")
        _require(set(map(type, values)) <= {str, type(None)}, "a value is no string")
        _require(set(map(type, created + deltas + expirations)) <= {int}, "no number")
        _require(min(created, default=1) >= 1, "a node that was never created")
        _require(min(deltas, default=0) >= 0, "a node changed before it was created")
        _require(_in_range(expirations), "an expiration out of range")
        # Most nodes were never changed: then both indexes are one object, not two.
        modified = [
            index if delta == 0 else index + delta
            for index, delta in zip(created, deltas, strict=True)
        ]
        _require(max(modified, default=0) <= self.index, "a node of the future")
        tree = self.tree
        directory: str | None = None
        siblings: dict[str, KeyNode] = {}
        nodes = map(KeyNode, paths, values, created, modified, expirations)
        for path, node, expiration in zip(paths, nodes, expirations, strict=True):
            cut = path.rfind("/")
            # Most come one after another from the same directory.
            if cut == -1 or path[:cut] != directory:
                siblings = self._siblings(path, cut)
                directory = path[:cut]
            if path in siblings or cut == len(path) - 1:
                raise CorruptSnapshot("a path that comes twice, or has no name")
            siblings[path] = node
            if expiration != 0:
                tree.expirations.put(path, expiration)

    def _siblings(self, path: str, cut: int) -> dict[str, KeyNode]:
        """Return where the node is to be put whose path has its last slash there."""
        parent = self.tree.find(path[:cut] or "/") if path.startswith("/") else None
        if parent is None or parent.value is not None:
            raise CorruptSnapshot("a path without a directory")
        return self.tree.children.setdefault(parent.path, {})


def _columns(nodes: list[KeyNode]) -> tuple[list[Any], ...]:
    return (
        [node.path for node in nodes],
        [node.value for node in nodes],
        [node.created_index for node in nodes],
        [node.modified_index - node.created_index for node in nodes],
        [node.expiration for node in nodes],
    )


def _event_size(event: Event) -> int:
    size = _RECORD_BYTES
    for node in (event.node, event.prev_node):
        if node is not None:
            size += len(node.path) + len(node.value or "")
    return size


def _event_record(event: Event) -> tuple[Any, ...]:
    return (
        event.action,
        event.refresh,
        event.now,
        _node_fields(event.node),
        _node_fields(event.prev_node),
    )


def _node_fields(node: KeyNode | None) -> _NodeFields | None:
    if node is None:
        return None
    return (node.path, node.value, node.created_index, node.modified_index, node.expiration)


def _event_of(record: object) -> Event | None:
    """Return the event of a record; its index is known only when all are there."""
    match record:
        case None:
            return None
        case (str(action), bool(refresh), int(now), node_fields, prev_fields):
            _require(action in WRITES, "an action that is none")
            _require(_in_range((now,)), "a time out of range")
            node, prev_node = _node_of(node_fields), _node_of(prev_fields)
            present = node or prev_node
            if present is None or (node is None and action not in REMOVALS):
                raise CorruptSnapshot("an event of nothing")
            if node is not None and prev_node is not None:
                _require(prev_node.path == node.path, "an event of two keys")
                _require(prev_node.value is not None or node.value is None, "a dir made a file")
            return Event(action, 0, present.path, node, prev_node, now, refresh)
        case _:
            raise CorruptSnapshot("an event that is none")


def _node_of(fields: object) -> KeyNode | None:
    match fields:
        case None:
            return None
        case (str(path), value, int(created), int(modified), int(expiration)):
            if value is not None and not isinstance(value, str):
                raise CorruptSnapshot("a value is no string")
            _require(_in_range((expiration,)), "an expiration out of range")
            return KeyNode(path, value, created, modified, expiration)
        case _:
            raise CorruptSnapshot("a node that is none")


def _in_range(times: tuple[int, ...]) -> bool:
    return not times or (min(times) >= -_MAX_TIME - 1 and max(times) <= _MAX_TIME)


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise CorruptSnapshot(complaint)
