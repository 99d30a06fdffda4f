"""Bytes for the network and the disk: msgpack of envelopes, of what a `Write` holds, of names.

Everything is arrays of integers and byte strings; docs/peer-protocol.md and docs/wal-format.md
show them. Whatever is decoded here came from another server or from a disk, so that each value is
checked for type and range, and for what its class promises about its fields together; what is
wrong raises `DecodeError`. Nothing here asserts anything about such bytes, or reads a file.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import msgpack

from raft.entry import (
    CONFIG,
    NOOP,
    NORMAL,
    Configuration,
    Entry,
    HardState,
    SnapshotMeta,
    new_tuple,
)
from raft.errors import RaftError
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    TimeoutNow,
    Vote,
    VoteResponse,
)

# The first byte of every frame. A frame of another version is refused, not guessed at.
FRAME_VERSION: Final = 1
# More than any honest frame: a batch of entries is cut by the core long before.
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
MAX_SERVERS: Final = 1024
_MAX_INTEGER: Final = 2**64 - 1
_VERSION_BYTE: Final = bytes([FRAME_VERSION])
_INT_ONLY: Final = {int}
_BYTES_ONLY: Final = {bytes}
_ROWS_ONLY: Final = {tuple}
_FOUR_ONLY: Final = {4}
_ENTRY_KINDS: Final = {NOOP, NORMAL, CONFIG}
_PROPOSAL_KINDS: Final = {NORMAL, CONFIG}


# To make a packer takes more time than to pack a small message. Frames are packed in one thread and
# batches in another, and may share it: what is packed here runs no Python code, so that a packer
# keeps the interpreter to itself until it has done.
_packer: Final = msgpack.Packer()
# How a frame begins that holds an Append alone, and a batch: arrays of one, of eight and of three.
_APPEND_START: Final = _VERSION_BYTE + b"\x91\x98"
_BATCH_START: Final = b"\x93"
# The entries that passed last, and their msgpack. One object, so that no thread sees half of it.
_latest: tuple[list[Entry], bytes] = ([], b"\x90")
_T = TypeVar("_T")
_Row: TypeAlias = tuple[object, ...]


class DecodeError(RaftError):
    """These bytes are not what they should be; the text says in what way."""


class Batch(NamedTuple):
    """What one `Write` leaves in the log, carried out in this order."""

    snapshot: SnapshotMeta | None
    entries: list[Entry]
    hard_state: HardState


def make_batch(snapshot: SnapshotMeta | None, entries: list[Entry], hard_state: HardState) -> Batch:
    """Return a `Batch`, faster than its class does: there is one for each write."""
    batch: Batch = new_tuple(Batch, (snapshot, entries, hard_state))
    return batch


# ----------------------------------------------------------------------------------- the network


def encode_envelopes(envelopes: list[Envelope]) -> bytes:
    """Put messages into one frame."""
    entries = _entries_of(envelopes)
    if entries:
        message = envelopes[0].message
        assert type(message) is Append, f"entries of {message}"
        without = Append(message.prev_index, message.prev_term, message.commit, [])
        return _start_of_append(_row(envelopes[0], without)) + _pack_entries(entries)
    return _VERSION_BYTE + _pack([_row(envelope, envelope.message) for envelope in envelopes])


def decode_envelopes(data: bytes) -> list[Envelope]:
    """Take the messages out of a frame. Raises DecodeError for the frame as a whole."""
    if len(data) > MAX_FRAME_BYTES:
        raise DecodeError(f"a frame of {len(data)} bytes; at most {MAX_FRAME_BYTES} are taken")
    if data[:1] != _VERSION_BYTE:
        raise DecodeError(f"a frame of version {data[:1].hex() or 'none'}, not {FRAME_VERSION}")
    rows = unpack(data[1:])
    if type(rows) is not tuple:
        raise DecodeError("a frame is not an array")
    envelopes = [_envelope(row) for row in rows]
    entries = _entries_of(envelopes)
    if entries:
        start = _start_of_append(rows[0])
        # The bytes in which they came go to the disk as they are. If it begins otherwise, somebody
        # has packed it in another way, which is as good, but not ours.
        if data.startswith(start):
            _remember(entries, data[len(start) :])
    return envelopes


def _entries_of(envelopes: list[Envelope]) -> list[Entry]:
    """Return the entries of an Append that has a frame to itself; else none."""
    if len(envelopes) == 1:
        message = envelopes[0].message
        if type(message) is Append:
            return message.entries
    return []


def _row(envelope: Envelope, message: Message) -> _Row:
    layout = _LAYOUTS[type(message)]
    head = (layout.tag, envelope.sender, envelope.recipient, envelope.term)
    return head + layout.get(message)


def _entry_rows(entries: list[Entry]) -> list[_Row]:
    return [(entry.index, entry.term, entry.kind, entry.data) for entry in entries]


def _start_of_append(row: _Row) -> bytes:
    """Return the bytes of its frame up to its entries, which are the last of its fields."""
    return _APPEND_START + _pack(row[:-1])[1:]


def _envelope(row: object) -> Envelope:
    if type(row) is not tuple or len(row) < 4:
        raise DecodeError("an envelope is not an array of four or more")
    tag = row[0]
    layout = _BY_TAG.get(tag) if type(tag) is int else None
    if layout is None:
        raise DecodeError(f"an unknown message type {tag!r:.40}")
    if len(row) != layout.size:
        raise DecodeError(f"{layout.name} has {len(row) - 4} fields, not {layout.size - 4}")
    envelope = Envelope(_positive(row[1]), _positive(row[2]), _positive(row[3]), layout.make(row))
    if layout.check_all is not None:
        layout.check_all(envelope, envelope.message)
    return envelope


# -------------------------------------------------------------------------------------- the disk


def encode_batch(batch: Batch) -> bytes:
    """The payload of one record of the log."""
    entries = _pack_entries(batch.entries)
    return b"".join((_BATCH_START, _pack(batch.snapshot), entries, _pack(batch.hard_state)))


def decode_batch(data: bytes | memoryview) -> Batch:
    """Undo `encode_batch`. Raises DecodeError."""
    row = unpack(data)
    if type(row) is not tuple or len(row) != 3:
        raise DecodeError("a batch is not an array of three")
    snapshot, entries, hard_state = row
    return Batch(
        None if snapshot is None else _meta(snapshot),
        _entries(entries),
        decode_hard_state(hard_state),
    )


def encode_meta(meta: SnapshotMeta) -> bytes:
    """The name of a snapshot, for the head of its file."""
    return _pack(meta)


def decode_meta(data: bytes | memoryview) -> SnapshotMeta:
    """Undo `encode_meta`. Raises DecodeError."""
    return _meta(unpack(data))


def decode_hard_state(row: object) -> HardState:
    """Check an array that should be a hard state. Raises DecodeError."""
    if type(row) is not tuple or len(row) != 3:
        raise DecodeError("a hard state is not an array of three")
    term, vote, commit = [natural(value) for value in row]
    if vote and not term:
        raise DecodeError("a vote in no term")
    return HardState(term, vote, commit)


def pack(value: object) -> bytes:
    """The msgpack of integers, byte strings, None and tuples or lists of these."""
    return _pack(value)


def unpack(data: bytes | memoryview) -> object:
    """Undo `pack`; arrays come back as tuples. Raises DecodeError."""
    try:
        return msgpack.unpackb(data, use_list=False)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DecodeError(f"not msgpack: {error}") from error


def _pack(value: Any) -> bytes:
    packed: bytes = _packer.pack(value)
    return packed


def _pack_entries(entries: list[Entry]) -> bytes:
    """Pack entries, unless they are those that passed last.

    A leader sends the same ones to every follower and writes them to its disk; a follower writes
    what it has just received.
    """
    known, packed = _latest
    if known != entries:
        packed = _pack(_entry_rows(entries))
        _remember(entries, packed)
    return packed


def _remember(entries: list[Entry], packed: bytes) -> None:
    global _latest
    # A list of our own, which nobody changes.
    _latest = (entries.copy(), packed)


# ------------------------------------------------------------------------------------ the checks
# Each takes what msgpack gave and returns it with its type known, or raises DecodeError.


def natural(value: object) -> int:
    """Check a number that may be 0."""
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise DecodeError(f"not a natural number: {value!r:.40}")
    return value


def _positive(value: object) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_INTEGER:
        raise DecodeError(f"not a positive number: {value!r:.40}")
    return value


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise DecodeError(f"not a flag: {value!r:.40}")
    return value


def _reason(value: object) -> str:
    if type(value) is not str or not value:
        raise DecodeError(f"not a reason: {value!r:.40}")
    return value


def _entries(rows: object) -> list[Entry]:
    """Check entries column by column: thousands of them pass here, and a loop would cost more."""
    if type(rows) is not tuple:
        raise DecodeError("entries are not an array")
    if len(rows) < 2:
        return [_entry(row) for row in rows]
    if set(map(type, rows)) != _ROWS_ONLY or set(map(len, rows)) != _FOUR_ONLY:
        raise DecodeError("an entry is not an array of four")
    indexes, terms, kinds, data = zip(*rows, strict=True)
    first = indexes[0]
    if set(map(type, indexes)) != _INT_ONLY or first < 1:
        raise DecodeError(f"an entry at index {first!r:.40}")
    if indexes != tuple(range(first, first + len(indexes))):
        raise DecodeError(f"entries after {first} are not consecutive")
    if set(map(type, terms)) != _INT_ONLY or terms[0] < 1:
        raise DecodeError(f"entry {first} has no term")
    if terms != tuple(sorted(terms)):
        raise DecodeError(f"the terms of the entries after {first} go back")
    if set(map(type, kinds)) != _INT_ONLY or not _ENTRY_KINDS.issuperset(kinds):
        raise DecodeError(f"entries after {first} are of an unknown kind")
    if set(map(type, data)) != _BYTES_ONLY:
        raise DecodeError(f"entries after {first} hold no bytes")
    if NOOP in kinds and any(map(_is_filled_noop, kinds, data)):
        raise DecodeError(f"entries after {first}: a no-op holds bytes")
    checked = cast(tuple[tuple[int, int, int, bytes], ...], rows)
    return [Entry(raft_index, term, kind, value) for raft_index, term, kind, value in checked]


def _entry(row: object) -> Entry:
    """Check an entry that is alone, as most are when there is little to do."""
    if type(row) is not tuple or len(row) != 4:
        raise DecodeError("an entry is not an array of four")
    raft_index, term, kind, data = row
    _positive(raft_index)
    _positive(term)
    if type(kind) is not int or kind not in _ENTRY_KINDS:
        raise DecodeError(f"entry {raft_index} is of the unknown kind {kind!r:.40}")
    if type(data) is not bytes or (data and kind == NOOP):
        raise DecodeError(f"entry {raft_index} holds what its kind does not")
    return Entry(raft_index, term, kind, data)


def _is_filled_noop(kind: int, data: bytes) -> bool:
    return kind == NOOP and data != b""


def _proposals(rows: object) -> list[tuple[int, bytes]]:
    if type(rows) is not tuple or not rows:
        raise DecodeError("proposals are not an array of one or more")
    for row in rows:
        if type(row) is not tuple or len(row) != 2:
            raise DecodeError("a proposal is not an array of two")
        if type(row[0]) is not int or row[0] not in _PROPOSAL_KINDS or type(row[1]) is not bytes:
            raise DecodeError(f"a proposal of kind {row[0]!r:.40}")
    return list(rows)


def _servers(value: object) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > MAX_SERVERS:
        raise DecodeError("servers are not an array, or too many")
    servers = tuple(map(_positive, value))
    if any(a >= b for a, b in pairwise(servers)):
        raise DecodeError("servers are not sorted")
    return servers


def _meta(row: object) -> SnapshotMeta:
    if type(row) is not tuple or len(row) != 3:
        raise DecodeError("a snapshot's name is not an array of three")
    raft_index, term, configuration = row
    if type(configuration) is not tuple or len(configuration) != 4:
        raise DecodeError("a configuration is not an array of four")
    return SnapshotMeta(
        _positive(raft_index), _positive(term), Configuration(*map(_servers, configuration))
    )


def _entry_id(raft_index: int, term: int) -> None:
    if (raft_index == 0) != (term == 0):
        raise DecodeError(f"no entry is named {raft_index}@{term}")


def _check_vote(_: Envelope, message: Vote | PreVote) -> None:
    _entry_id(message.last_index, message.last_term)


def _check_vote_response(_: Envelope, message: VoteResponse | PreVoteResponse) -> None:
    _entry_id(message.commit_index, message.commit_term)


def _check_append(envelope: Envelope, message: Append) -> None:
    _entry_id(message.prev_index, message.prev_term)
    last_term = message.prev_term
    if message.entries:
        first = message.entries[0]
        if first.index != message.prev_index + 1:
            raise DecodeError(f"entry {first.index} cannot follow {message.prev_index}")
        if first.term < last_term:
            raise DecodeError(f"term {first.term} cannot follow {last_term}")
        last_term = message.entries[-1].term
    if last_term > envelope.term:
        raise DecodeError(f"a leader of term {envelope.term} has no entry of term {last_term}")


def _check_append_reject(_: Envelope, message: AppendReject) -> None:
    _entry_id(message.hint_index, message.hint_term)
    if message.hint_index > message.rejected_index:
        raise DecodeError(f"hint {message.hint_index} is beyond {message.rejected_index}")


# ------------------------------------------------------------------------------------- the table


class _Layout:
    """How one class of message travels: [tag, sender, recipient, term, its fields in order]."""

    def __init__(
        self,
        tag: int,
        kind: type,
        get: Callable[[Any], tuple[object, ...]],
        make: Callable[[_Row], Message],
        check_all: Callable[[Envelope, Any], None] | None,
    ) -> None:
        self.tag = tag
        self.name = kind.__name__
        # The length of the whole row.
        self.size = 4 + len(dataclasses.fields(kind))
        # The fields of a message, and the message of a row, each of whose fields it checks.
        self.get = get
        self.make = make
        # What no field can tell alone.
        self.check_all = check_all


_LAYOUTS: Final[dict[type, _Layout]] = {}
_BY_TAG: Final[dict[int, _Layout]] = {}


def _layout(
    tag: int,
    kind: type[_T],
    get: Callable[[_T], tuple[object, ...]],
    make: Callable[[_Row], _T],
    check_all: Callable[[Envelope, _T], None] | None = None,
) -> None:
    layout = _Layout(tag, kind, get, cast(Callable[[_Row], Message], make), check_all)
    assert tag not in _BY_TAG, f"two messages have tag {tag}"
    _BY_TAG[tag] = _LAYOUTS[kind] = layout


# A tag is never used again for another class or other fields: that takes a new FRAME_VERSION.
_layout(
    *(1, PreVote),
    lambda it: (it.last_index, it.last_term),
    lambda row: PreVote(natural(row[4]), natural(row[5])),
    _check_vote,
)
_layout(
    *(2, PreVoteResponse),
    lambda it: (it.granted, it.commit_index, it.commit_term),
    lambda row: PreVoteResponse(_flag(row[4]), natural(row[5]), natural(row[6])),
    _check_vote_response,
)
_layout(
    *(3, Vote),
    lambda it: (it.last_index, it.last_term, it.transfer),
    lambda row: Vote(natural(row[4]), natural(row[5]), _flag(row[6])),
    _check_vote,
)
_layout(
    *(4, VoteResponse),
    lambda it: (it.granted, it.commit_index, it.commit_term),
    lambda row: VoteResponse(_flag(row[4]), natural(row[5]), natural(row[6])),
    _check_vote_response,
)
_layout(5, TimeoutNow, lambda it: (), lambda row: TimeoutNow())
_layout(
    *(6, Append),
    lambda it: (it.prev_index, it.prev_term, it.commit, _entry_rows(it.entries)),
    lambda row: Append(natural(row[4]), natural(row[5]), natural(row[6]), _entries(row[7])),
    _check_append,
)
_layout(
    *(7, AppendResponse),
    lambda it: (it.match_index,),
    lambda row: AppendResponse(natural(row[4])),
)
_layout(
    *(8, AppendReject),
    lambda it: (it.rejected_index, it.hint_index, it.hint_term),
    lambda row: AppendReject(natural(row[4]), natural(row[5]), natural(row[6])),
    _check_append_reject,
)
_layout(9, InstallSnapshot, lambda it: (it.meta,), lambda row: InstallSnapshot(_meta(row[4])))
_layout(
    *(10, Heartbeat),
    lambda it: (it.commit, it.read_round),
    lambda row: Heartbeat(natural(row[4]), natural(row[5])),
)
_layout(
    *(11, HeartbeatResponse),
    lambda it: (it.read_round,),
    lambda row: HeartbeatResponse(natural(row[4])),
)
_layout(12, Propose, lambda it: (it.proposals,), lambda row: Propose(_proposals(row[4])))
_layout(
    *(13, ProposeReject),
    lambda it: (it.reason, it.proposals),
    lambda row: ProposeReject(_reason(row[4]), _proposals(row[5])),
)
_layout(14, ReadIndex, lambda it: (it.context,), lambda row: ReadIndex(_positive(row[4])))
_layout(
    *(15, ReadIndexResponse),
    lambda it: (it.context, it.read_index),
    lambda row: ReadIndexResponse(_positive(row[4]), _positive(row[5])),
)
_layout(16, CommitTo, lambda it: (it.commit,), lambda row: CommitTo(_positive(row[4])))
