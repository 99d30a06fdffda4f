"""The bytes of one log file: its head, its records, and what its end says about a crash.

    head    magic (8) salt (4) length (4) crc (4) payload (length)              padded to 16
    record  length (4) sequence (4) head crc (4) payload crc (4) payload        filled to 16
    ...
    zeros   up to the size that the head names

A file has its whole size, in zeros, before the first record, and each record is one durable write
that is over before the next begins. So a crash can harm only the last record, and harms it by
leaving some of its sectors zero; docs/wal-format.md draws all of it. A head of a record is 16
bytes at a multiple of 16: it never spans two sectors, hence it is either all there or all zeros.

Everything here is a function of bytes: `raft.wal` does the reading and the writing.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import shake_128
from typing import Final
from zlib import crc32

from raft.codec import DecodeError, decode_hard_state, natural, pack, unpack
from raft.entry import EntryID, HardState
from raft.errors import CorruptRecord

# The last byte is the version of the format.
MAGIC: Final = b"raftwal\x01"
# The smallest piece that a disk writes as a whole. Larger ones are multiples of it.
SECTOR: Final = 512
ALIGNMENT: Final = 16
MAX_METADATA_BYTES: Final = 64 * 1024

_HEAD: Final = struct.Struct("<8sIII")
_RECORD: Final = struct.Struct("<IIII")
_RECORD_START: Final = struct.Struct("<II")
# A record ends with 1 to 16 of these, so that none of its last bytes are zeros by themselves.
_FILLING: Final = [b"\xff" * (ALIGNMENT - rest) for rest in range(ALIGNMENT)]
# Set in the length of a record whose payload is masked: it holds as many zeros as a sector, which
# would look like a lost one.
_MASKED: Final = 1 << 31
_LOST_SECTOR: Final = bytes(SECTOR)
# The largest piece for which zlib does not give up the interpreter. The thread that writes would
# have to win it back from a busy event loop, which can take a thousand times as long as the crc.
_CRC_BYTES: Final = 5 * 1024


@dataclass(slots=True)
class Head:
    """What a segment says about itself: enough to begin reading the log here."""

    # Segments are numbered from 1, without gaps.
    number: int
    # The size of the file, fixed when it is made.
    file_bytes: int
    # How many records the segment before this one holds; 0 in the first.
    records_before: int
    # The last entry of the log when the segment was begun.
    base: EntryID
    hard_state: HardState
    # The user's own bytes, the same in all segments.
    metadata: bytes
    # Goes into the crc of each record. It is drawn at random for each segment, so that no value
    # of a user's, not even a copy of a log, looks like one of its records.
    salt: int


def encode_head(head: Head) -> bytes:
    """The first bytes of a segment."""
    payload = pack(
        (
            head.number,
            head.file_bytes,
            head.records_before,
            head.base,
            head.hard_state,
            head.metadata,
        )
    )
    crc = _head_crc(head.salt, payload)
    return _padded(_HEAD.pack(MAGIC, head.salt, len(payload), crc) + payload)


def decode_head(data: bytes, path: str) -> tuple[Head, int]:
    """The head of a segment, and where its records begin. Raises CorruptRecord.

    A segment gets its name only when its head is durable, so that there is no torn head.
    """
    if len(data) < _HEAD.size:
        raise CorruptRecord(path, len(data), "the file is cut short")
    magic, salt, length, crc = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CorruptRecord(path, 0, "not a log file, or one of another version")
    payload = memoryview(data)[_HEAD.size : _HEAD.size + length]
    if len(payload) != length or _head_crc(salt, payload) != crc:
        raise CorruptRecord(path, 0, "the head of the file is damaged")
    try:
        head = _checked_head(unpack(payload), salt)
    except DecodeError as error:
        raise CorruptRecord(path, 0, str(error)) from error
    if len(data) != head.file_bytes:
        raise CorruptRecord(path, len(data), f"the file should end at {head.file_bytes}, but ends")
    return head, _aligned(_HEAD.size + length)


def _checked_head(row: object, salt: int) -> Head:
    if not isinstance(row, tuple) or len(row) != 6:
        raise DecodeError("the head of the file is not an array of six")
    *numbers, base, hard_state, metadata = row
    if not isinstance(base, tuple) or len(base) != 2 or not isinstance(metadata, bytes):
        raise DecodeError("the head of the file has other fields")
    values = [natural(value) for value in (*numbers, *base)]
    number, file_bytes, records_before, base_index, base_term = values
    return Head(
        number,
        file_bytes,
        records_before,
        EntryID(base_index, base_term),
        decode_hard_state(hard_state),
        metadata,
        salt,
    )


def encode_record(salt: int, sequence: int, payload: bytes) -> bytes:
    """One record; `sequence` counts the records of a segment from 0."""
    length = len(payload)
    assert length < _MASKED, f"a record of {length} bytes"
    if length >= SECTOR and _LOST_SECTOR in payload:
        payload = _mask(payload, salt)
        length |= _MASKED
    start = _RECORD_START.pack(length, sequence)
    head_crc = crc32(start, salt)
    return b"".join(
        (
            _RECORD.pack(length, sequence, head_crc, _crc_of(payload, head_crc)),
            payload,
            _FILLING[len(payload) % ALIGNMENT],
        )
    )


def record_bytes(payload_bytes: int) -> int:
    """How much room a record with such a payload takes."""
    return _RECORD.size + payload_bytes + ALIGNMENT - payload_bytes % ALIGNMENT


def head_bytes(head: Head) -> int:
    """How much room a head takes."""
    return len(encode_head(head))


class Reader:
    """Reads the records of one segment, and judges what comes after the last good one."""

    def __init__(self, data: bytes, path: str) -> None:
        """Read the head. Raises CorruptRecord."""
        self.path = path
        self.head, self.end = decode_head(data, path)
        # The number of good records before `end`.
        self.records = 0
        self._data = data

    def read(self) -> Iterator[memoryview]:
        """The payloads of all good records in order; `end` is then where they end."""
        data = self._data
        view = memoryview(data)
        salt = self.head.salt
        unpack_record = _RECORD.unpack_from
        size = _RECORD.size
        limit = len(data) - size
        while self.end <= limit:
            offset = self.end
            length, sequence, head_crc, payload_crc = unpack_record(data, offset)
            is_masked = length & _MASKED
            length &= ~_MASKED
            start = offset + size
            payload = view[start : start + length]
            if (
                length == 0
                or sequence != self.records
                or crc32(view[offset : offset + 8], salt) != head_crc
                or len(payload) != length
                or crc32(payload, head_crc) != payload_crc
            ):
                return
            yield memoryview(_mask(payload, salt)) if is_masked else payload
            self.records += 1
            self.end = (start + length + ALIGNMENT) & -ALIGNMENT

    def before_end(self, unit: int) -> bytes:
        """After `read`: the bytes between the last multiple of `unit` and `end`."""
        return self._data[self.end - self.end % unit : self.end]

    def find_torn(self) -> tuple[int, int] | None:
        """After `read`: the range of bytes that a torn record left, or None for a clean end.

        What cannot have come from a crash in the middle of the last write raises CorruptRecord:
        cutting it off would lose what was durable once, a vote or an acknowledged entry.
        """
        if self._is_zero_from(self.end):
            return None
        rest = self._data[self.end :]
        dirty = self.end + len(rest) - len(rest.lstrip(b"\0"))
        if dirty < self.end + _RECORD.size:
            self._check_torn_payload()
        else:
            self._check_torn_head(dirty)
        return self.end, len(self._data.rstrip(b"\0"))

    def check_ends_clean(self) -> None:
        """After `read`, in a segment that is not the last: nothing may follow."""
        if not self._is_zero_from(self.end):
            raise self._corrupt("a damaged record with records after it")

    def _is_zero_from(self, offset: int) -> bool:
        rest = self._data[offset:]
        return rest == bytes(len(rest))

    def _check_torn_payload(self) -> None:
        """The head of the broken record is there: it must be good and a sector after it lost."""
        length, sequence, head_crc, _ = _RECORD.unpack_from(self._data, self.end)
        if crc32(_RECORD_START.pack(length, sequence), self.head.salt) != head_crc:
            raise self._corrupt("a record with a damaged head")
        length &= ~_MASKED
        stop = self.end + record_bytes(length)
        if sequence != self.records or length == 0 or stop > len(self._data):
            raise self._corrupt("a record that does not belong here")
        if not self._is_zero_from(stop):
            raise self._corrupt("a damaged record with records after it")
        if not self._has_lost_sector(stop):
            raise self._corrupt("a damaged record, all sectors of which were written")

    def _has_lost_sector(self, stop: int) -> bool:
        start = self.end - self.end % SECTOR + SECTOR
        zeros = bytes(SECTOR)
        for at in range(start, stop, SECTOR):
            piece = self._data[at : min(at + SECTOR, stop)]
            if piece == zeros[: len(piece)]:
                return True
        return False

    def _check_torn_head(self, dirty: int) -> None:
        """The head of the broken record is zero: so must be its sector, and no record follows."""
        if dirty < self.end - self.end % SECTOR + SECTOR:
            raise self._corrupt("a record without a head")
        for offset in range(dirty - dirty % SECTOR, len(self._data) - _RECORD.size, ALIGNMENT):
            length, sequence, head_crc, payload_crc = _RECORD.unpack_from(self._data, offset)
            if not length or crc32(self._data[offset : offset + 8], self.head.salt) != head_crc:
                continue
            length &= ~_MASKED
            start = offset + _RECORD.size
            payload = self._data[start : start + length]
            if len(payload) == length and crc32(payload, head_crc) == payload_crc:
                raise self._corrupt(f"a lost record, with record {sequence} after it,")

    def _corrupt(self, problem: str) -> CorruptRecord:
        return CorruptRecord(self.path, self.end, problem)


def _mask(payload: bytes | memoryview, salt: int) -> bytes:
    """Mix the payload with bytes that follow from the salt; the second time undoes the first.

    No user can foresee these, so that no value turns into zeros by itself.
    """
    size = len(payload)
    mask = shake_128(struct.pack("<I", salt)).digest(size)
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
    return mixed.to_bytes(size, "little")


def _crc_of(payload: bytes, crc: int) -> int:
    if len(payload) <= _CRC_BYTES:
        return crc32(payload, crc)
    view = memoryview(payload)
    for at in range(0, len(payload), _CRC_BYTES):
        crc = crc32(view[at : at + _CRC_BYTES], crc)
    return crc


def _head_crc(salt: int, payload: bytes | memoryview) -> int:
    return crc32(payload, crc32(struct.pack("<II", salt, len(payload))))


def _aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) & -ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
