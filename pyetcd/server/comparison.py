"""Comparison: members prove to each other, through the log, that they hold the same state.

Every member keeps a running digest of what it applies and of what comes of it: the entry, the
store's index after it, the error, or the node that was replaced. After each `BLOCK_ENTRIES`
entries the digest begins anew, and every member puts the one it came to into the log. Whoever reads
there that a majority of the members came to another one holds another state than the cluster:
memory that failed, a damaged file that its checksum did not show, or a bug. It must not go on
serving, and ends. An idle cluster writes nothing.

A digest tells what the entries of its block have touched; a key that differs and is left alone
shows when it is next written. A member that was restored from a snapshot, or that joined, has its
first digest at the end of the next block. Nothing of this is in a snapshot, since nothing of it
changes the state: who is behind, or alone, has less to compare, and that is all.

Pure, like the applier that feeds it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final
from zlib import crc32

from pyetcd.errors import EtcdError
from pyetcd.store import Event

log = logging.getLogger(__name__)

# Three small entries in a thousand are no burden; a second of load at most passes undetected.
BLOCK_ENTRIES: Final = 1_000
# A report comes soon after its block, unless thousands of entries were under way at once.
BLOCKS_KEPT: Final = 16
# Of long data both ends and the length, and of a value that is replaced the beginning: its entry
# had all of it. Every write pays for this, on every member.
_END_BYTES: Final = 2_048
_LONG_BYTES: Final = 2 * _END_BYTES
_VALUE_CHARACTERS: Final = 64
# What is gathered is digested when it is about so much. For more, zlib would give up the
# interpreter, and the busy loop would have to win it back from the log's thread.
_GATHERED_BYTES: Final = 4_096
# The digest of the numbers has 30 bits: what is larger is slow to multiply.
_FACTOR: Final = 31
_MASK: Final = 0x3FFF_FFFF


class Diverged(Exception):
    """This member's state is not the one that the majority of the cluster has."""

    def __init__(self, raft_index: int, own: int, others: int) -> None:
        super().__init__(
            f"the state of this member at entry {raft_index} (digest {own:08x}) is not that of the "
            f"majority ({others:08x}): its memory or its files are damaged, or pyetcd has a bug. "
            "It must not be served. Start the member again; should this come back, remove the "
            "member and add it anew with an empty data directory, see docs/recovery.md"
        )
        self.raft_index = raft_index


class Comparison:
    """What this member and the others came to, of the newest blocks.

    Invariants:
      1. The digests, with what is gathered for them, cover every entry since the last multiple of
         BLOCK_ENTRIES; or `_is_known` is False.
      2. At most BLOCKS_KEPT blocks are remembered.
    """

    def __init__(self) -> None:
        # Called with the index and the digest of each block; None while nobody is to be told.
        self.report: Callable[[int, int], None] | None = None
        # Of the data, of the values that were replaced, and of the indexes and error codes.
        self._data_digest = 0
        self._value_digest = 0
        self._number_digest = 0
        # Not digested yet.
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._values: list[str] = []
        self._is_known = True
        self._own: dict[int, int] = {}
        self._reports: dict[int, dict[int, int]] = {}

    def add(self, raft_index: int, data: bytes, etcd_index: int, result: object) -> None:
        """An entry was applied; `etcd_index` is the store's after it."""
        if self._is_known:
            size = len(data)
            number = self._number_digest * _FACTOR + etcd_index + size
            if size > _LONG_BYTES:
                data = data[:_END_BYTES] + data[-_END_BYTES:]
                size = _LONG_BYTES
            self._data.append(data)
            if type(result) is Event:
                node = result.prev_node
                if node is not None:
                    number = (number & _MASK) * _FACTOR + node.modified_index
                    value = node.value
                    if value is not None:
                        number += len(value)
                        self._values.append(value[:_VALUE_CHARACTERS])
            elif isinstance(result, EtcdError):
                number += result.code << 16
            self._number_digest = number & _MASK
            self._data_bytes += size
            if self._data_bytes >= _GATHERED_BYTES:
                self._digest_gathered()
        if raft_index % BLOCK_ENTRIES == 0:
            self._end_block(raft_index)

    def skip(self, raft_index: int, data: bytes, etcd_index: int, result: object) -> None:
        """As `add`, by a member that is alone: there is nobody to compare with."""
        if self._is_known or raft_index % BLOCK_ENTRIES == 0:
            self.restored(raft_index)

    def restored(self, raft_index: int) -> None:
        """The state has come as a snapshot: what led to it is not known."""
        self._begin_block()
        self._is_known = raft_index % BLOCK_ENTRIES == 0

    def take(self, reporter: int, raft_index: int, digest: int, members: Collection[int]) -> None:
        """A member's report was applied. Raises Diverged when we are the one that differs."""
        if reporter not in members:
            return
        reports = self._reports.setdefault(raft_index, {})
        reports[reporter] = digest
        _drop_oldest(self._reports)
        own = self._own.get(raft_index)
        if own is None:
            return
        counted = Counter(it for member, it in reports.items() if member in members)
        most, count = max(counted.items(), key=lambda item: item[1])
        if 2 * count > len(members):
            if most != own:
                raise Diverged(raft_index, own, most)
        elif len(reports) == len(members) and len(counted) > 1:
            log.error(
                "the members differ at entry %d, and no majority agrees: %s",
                raft_index,
                ", ".join(f"{member:x} has {it:08x}" for member, it in sorted(reports.items())),
            )

    def _digest_gathered(self) -> None:
        self._data_digest = crc32(b"".join(self._data), self._data_digest)
        values = "".join(self._values).encode("utf-8", "surrogateescape")
        self._value_digest = crc32(values, self._value_digest)
        self._data, self._data_bytes, self._values = [], 0, []

    def _begin_block(self) -> None:
        self._data_digest = self._value_digest = self._number_digest = 0
        self._data, self._data_bytes, self._values = [], 0, []
        self._is_known = True

    def _end_block(self, raft_index: int) -> None:
        is_known = self._is_known
        if is_known:
            self._digest_gathered()
        parts = self._data_digest, self._value_digest, self._number_digest
        self._begin_block()
        if not is_known:
            return
        digest = crc32(b"%d %d %d" % parts)
        self._own[raft_index] = digest
        _drop_oldest(self._own)
        if self.report is not None:
            self.report(raft_index, digest)


def _drop_oldest(blocks: dict[int, int] | dict[int, dict[int, int]]) -> None:
    while len(blocks) > BLOCKS_KEPT:
        del blocks[min(blocks)]
