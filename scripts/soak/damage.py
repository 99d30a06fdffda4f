"""Damage to the files of a member that does not run: where what is kept, and how to spoil it."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from raft.codec import decode_batch
from raft.files import DiskFiles
from raft.segment import Reader, record_bytes
from raft.wal import list_segments

_LENGTH: Final = struct.Struct("<I")
# The uppermost bit of a record's length says how its payload is stored.
_LENGTH_MASK: Final = 0x7FFF_FFFF


class Place(NamedTuple):
    """Bytes of a file that hold one thing."""

    kind: str
    path: Path
    start: int
    stop: int


def places(data_dir: Path) -> list[Place]:
    """Everything that the log and the snapshots of a member hold."""
    found: list[Place] = []
    for segment in list_segments(DiskFiles(), data_dir / "member" / "wal"):
        found += _of_segment(segment.path)
    for path in snapshots(data_dir):
        size = path.stat().st_size
        found.append(Place("snapshot", path, 8, size - 8))
        found.append(Place("snapshot's end", path, size - 8, size))
    return found


def _of_segment(path: Path) -> Iterator[Place]:
    data = path.read_bytes()
    reader = Reader(data, str(path))
    at = reader.end
    # Not the zeros that fill it up: nobody reads them.
    yield Place("head", path, 0, len(data[:at].rstrip(b"\0")))
    payloads = list(reader.read())
    for number, payload in enumerate(payloads):
        (length,) = _LENGTH.unpack_from(data, at)
        stop = at + record_bytes(length & _LENGTH_MASK)
        batch = decode_batch(payload)
        kind = "entries" if batch.entries else "hard state"
        if batch.snapshot is not None:
            kind = "snapshot marker"
        if number == len(payloads) - 1:
            kind = "last record"
        # The head of a record is 16 bytes, the filling at its end no more than 16.
        yield Place(kind, path, at, at + 16 + (length & _LENGTH_MASK))
        at = stop


def snapshots(data_dir: Path) -> list[Path]:
    """The snapshots, oldest first."""
    return sorted((data_dir / "member" / "snap").glob("*.snap"))


def segments(data_dir: Path) -> list[Path]:
    """The files of the log, oldest first."""
    return [it.path for it in list_segments(DiskFiles(), data_dir / "member" / "wal")]


def flip_bit(place: Place, rng: random.Random) -> int:
    """Turn one bit over; where it is in the file."""
    offset = rng.randrange(place.start, place.stop)
    with place.path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return offset


def truncate(path: Path, rng: random.Random) -> int:
    """Cut a file off somewhere; its new size."""
    size = rng.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.truncate(size)
    return size
