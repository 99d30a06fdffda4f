"""Registers: the state machine of the simulation, and the requests that change it.

A register holds a number. Every request has an id that no other has, and its answer shows what it
found, so that a history of answers leaves little to guess. The ids of all requests are part of the
state: one that is applied twice is seen at once.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import msgpack

from raft.codec import natural, pack, unpack
from raft.confchange import ConfigChange
from raft.entry import NORMAL, Configuration, Entry, SnapshotMeta
from raft.errors import CorruptRecord
from raft.interfaces import Rejected
from raft.sim.errors import Unsafe

PUT: Final = 1
SWAP: Final = 2  # compare and swap

_CHUNK_ITEMS: Final = 16


class Request(NamedTuple):
    """One change of one register."""

    request_id: int
    kind: int
    key: int
    value: int
    expected: int  # of SWAP
    filling: bytes = b""


class Answer(NamedTuple):
    """What became of a request."""

    # What the register held before; 0 at first.
    found: int
    raft_index: int


class Registers:
    """`raft.interfaces.StateMachine`: numbers by key."""

    def __init__(
        self, answer: Callable[[int, Answer], None], rejected: Callable[[int], None]
    ) -> None:
        self.values: dict[int, int] = {}
        self.configuration = Configuration()
        self._answer = answer
        self._rejected = rejected
        # The ids of all requests that were applied.
        self.seen: set[int] = set()

    def apply(self, entries: list[Entry]) -> None:
        """See `raft.interfaces.StateMachine`."""
        for entry in entries:
            if entry.kind == NORMAL:
                self._apply(entry)

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        """See `raft.interfaces.StateMachine`."""
        return True

    def configured(self, configuration: Configuration) -> None:
        """See `raft.interfaces.StateMachine`."""
        self.configuration = configuration

    def capture(self) -> Iterator[bytes]:
        """See `raft.interfaces.StateMachine`."""
        items = [*sorted(self.values.items()), *((0, seen) for seen in sorted(self.seen))]
        return (pack(items[at : at + _CHUNK_ITEMS]) for at in range(0, len(items), _CHUNK_ITEMS))

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """See `raft.interfaces.StateMachine`."""
        values: dict[int, int] = {}
        seen: set[int] = set()
        for chunk in chunks:
            items = unpack(chunk)
            if type(items) is not tuple:
                raise CorruptRecord(f"snapshot {meta.id}", 0, "not an array")
            for key, value in items:
                if key:
                    values[natural(key)] = natural(value)
                else:
                    seen.add(natural(value))
        self.values, self.seen = values, seen

    def reject(self, rejected: Rejected) -> None:
        """See `raft.interfaces.StateMachine`."""
        if rejected.kind == NORMAL:
            self._rejected(decode(rejected.data).request_id)

    def fingerprint(self) -> int:
        """Return what is equal for equal states, and different for most others."""
        return zlib.crc32(repr((sorted(self.values.items()), len(self.seen))).encode())

    def _apply(self, entry: Entry) -> None:
        request = decode(entry.data)
        if request.request_id in self.seen:
            raise Unsafe(f"request {request.request_id} is applied again, at {entry.index}")
        self.seen.add(request.request_id)
        found = self.values.get(request.key, 0)
        if request.kind == PUT or found == request.expected:
            self.values[request.key] = request.value
        self._answer(request.request_id, Answer(found, entry.index))


def encode(request: Request) -> bytes:
    """Return what `decode` turns back."""
    return pack(request)


def decode(data: bytes) -> Request:
    """Return the request that was encoded."""
    row: tuple[int, int, int, int, int, bytes] = msgpack.unpackb(data, use_list=False)
    return Request(*row)
