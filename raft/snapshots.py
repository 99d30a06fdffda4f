"""Snapshots as files: one each, named after the last entry that it replaces, term first.

    magic (8)
    frame   length (4) crc (4) bytes (length)     the first holds the snapshot's meta
    ...                                           one for each chunk, as it was given
    end     0 (4) crc (4)                         and nothing after it

The crc runs on from frame to frame, so that none can be missing, doubled or swapped. A file is
written under another name and flushed as it grows: one flush of all of it at the end would hold up
the log's. It gets its name, durably, when it is whole; a crash before that leaves a `.tmp` file,
which the next start removes. The bytes that travel to another server are those of the file.

Any thread may read and write snapshots; each writer and receiver belongs to one thread at a time.
"""

import logging
import re
import struct
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from raft.codec import DecodeError, decode_meta, encode_meta
from raft.entry import SnapshotMeta
from raft.errors import CorruptRecord
from raft.files import Files

# The last byte is the version of the format.
MAGIC: Final = b"raftsnp\x01"
# A longer frame is taken for damage, rather than for a reason to ask for that much memory.
MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
TEMPORARY: Final = ".tmp"
BROKEN: Final = ".broken"
_FLUSH_BYTES: Final = 4 * 1024 * 1024
_TRANSFER_BYTES: Final = 256 * 1024
_FRAME: Final = struct.Struct("<II")
_LENGTH: Final = struct.Struct("<I")
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")

log = logging.getLogger(__name__)


class Snapshots:
    """A directory of snapshots."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory
        # Several files may be in the making, even of one snapshot: ours, and a leader's.
        self._numbers = count(1)

    def begin(self, meta: SnapshotMeta) -> "SnapshotWriter":
        """Begin a snapshot of our own. Raises OSError, and leaves nothing behind then."""
        file = self._new_file()
        try:
            return SnapshotWriter(file, meta, self.path(meta))
        except OSError:
            file.abort()
            raise

    def receive(self) -> "SnapshotReceiver":
        """Begin a file that another server sends."""
        return SnapshotReceiver(self._new_file(), self)

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The chunks of a snapshot, each verified. Raises CorruptRecord, and OSError at once."""
        path = self.path(meta)
        return _read_chunks(self._files.open_for_reading(path), str(path), meta)

    def open_raw(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The bytes of a snapshot's file, for another server's receiver. Raises OSError."""
        return _read_pieces(self._files.open_for_reading(self.path(meta)))

    def find_newest(self) -> SnapshotMeta | None:
        """The newest snapshot that is readable to its end; broken ones get another name."""
        for path in self.list_files():
            try:
                meta = verify(self._files, path)
                if self.path(meta) != path:
                    raise CorruptRecord(str(path), len(MAGIC), f"the snapshot of {meta.id}")
                return meta
            except CorruptRecord as error:
                log.error("a snapshot can't be used, it is set aside: %s", error)
                self._files.rename(path, path.with_name(path.name + BROKEN))
                self._files.flush_directory(self._directory)
        return None

    def list_files(self) -> list[Path]:
        """The snapshots' files, newest first."""
        named = []
        for path in self._files.list_directory(self._directory):
            if path.suffix != ".snap":
                continue
            if (name := _NAME.fullmatch(path.name)) is None:
                log.warning("%s is not the name of a snapshot, it is ignored", path)
            else:
                # By index: a snapshot is of committed state, so that a later one has all of it.
                named.append((int(name[2], 16), int(name[1], 16), path))
        return [path for _, _, path in sorted(named, reverse=True)]

    def purge(self, up_to: SnapshotMeta, keep: int) -> None:
        """Remove the oldest snapshots but `keep`; never `up_to`, nor what is newer."""
        kept = self.list_files()
        newest = kept.index(self.path(up_to)) + 1 if self.path(up_to) in kept else len(kept)
        unneeded = kept[max(keep, newest) :]
        for path in reversed(unneeded):
            self._files.remove(path)
        if unneeded:
            self._files.flush_directory(self._directory)

    def remove_unfinished(self) -> None:
        """Remove what a crash left half written."""
        for path in sorted(self._files.list_directory(self._directory)):
            if path.suffix == TEMPORARY:
                self._files.remove(path)

    def path(self, meta: SnapshotMeta) -> Path:
        """The file of a snapshot."""
        return self._directory / f"{meta.term:016x}-{meta.index:016x}.snap"

    def _new_file(self) -> "_NewFile":
        return _NewFile(self._files, self._directory / f"{next(self._numbers)}.snap{TEMPORARY}")


class SnapshotWriter:
    """Writes one snapshot. After `write`*, either `commit` or `abort`."""

    def __init__(self, file: "_NewFile", meta: SnapshotMeta, path: Path) -> None:
        self._file = file
        self._path = path
        self._crc = 0
        file.write(MAGIC)
        self._write_frame(encode_meta(meta))

    def write(self, chunk: bytes) -> None:
        """Add a chunk; an empty one leaves no trace. Raises OSError."""
        assert len(chunk) <= MAX_CHUNK_BYTES, f"a chunk of {len(chunk)} bytes"
        if chunk:
            self._write_frame(chunk)

    def commit(self) -> None:
        """Make the snapshot durable under its name. Raises OSError."""
        self._write_frame(b"")
        self._file.commit(self._path)

    def abort(self) -> None:
        """Forget the snapshot."""
        self._file.abort()

    def _write_frame(self, data: bytes) -> None:
        self._crc, frame = _frame(self._crc, data)
        self._file.write(frame)


class SnapshotReceiver:
    """Takes the bytes of another server's snapshot. After `write`*, either `commit` or `abort`.

    After a `commit` that failed comes `abort`.
    """

    def __init__(self, file: "_NewFile", snapshots: Snapshots) -> None:
        self._file = file
        self._snapshots = snapshots

    def write(self, data: bytes) -> None:
        """Add bytes as they arrive. Raises OSError."""
        self._file.write(data)

    def commit(self) -> SnapshotMeta:
        """Verify the file and make it durable under its name. Raises CorruptRecord or OSError."""
        meta = self._file.verify()
        self._file.commit(self._snapshots.path(meta))
        return meta

    def abort(self) -> None:
        """Forget what arrived."""
        self._file.abort()


class _NewFile:
    """A file that gets its name once it is whole."""

    def __init__(self, files: Files, path: Path) -> None:
        self.path = path
        self._files = files
        self._descriptor = files.create(path)
        self._offset = 0
        self._flushed = 0
        # Set for ever once anything has failed: nobody knows what the disk holds then.
        self._unsure = False

    def write(self, data: bytes) -> None:
        assert not self._unsure, f"{self.path}: a write after one that failed"
        self._unsure = True
        self._files.write(self._descriptor, data, self._offset)
        self._offset += len(data)
        if self._offset - self._flushed >= _FLUSH_BYTES:
            self._files.flush(self._descriptor)
            self._flushed = self._offset
        self._unsure = False

    def verify(self) -> SnapshotMeta:
        return verify(self._files, self.path)

    def commit(self, path: Path) -> None:
        assert not self._unsure, f"{self.path}: a commit after a write that failed"
        self._unsure = True
        self._files.flush(self._descriptor)
        self._files.rename(self.path, path)
        self._files.flush_directory(path.parent)
        self._files.close(self._descriptor)

    def abort(self) -> None:
        self._files.close(self._descriptor)
        self._files.remove(self.path)


def encode_snapshot(meta: SnapshotMeta, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a snapshot's file, without a file."""
    crc, frame = _frame(0, encode_meta(meta))
    yield MAGIC + frame
    for chunk in chunks:
        assert len(chunk) <= MAX_CHUNK_BYTES, f"a chunk of {len(chunk)} bytes"
        if chunk:
            crc, frame = _frame(crc, chunk)
            yield frame
    yield _frame(crc, b"")[1]


def read_snapshot(path: Path) -> tuple[SnapshotMeta, Iterator[bytes]]:
    """Read a snapshot's file wherever it is: its meta, and its chunks, each verified.

    Only the last chunk's end shows that none is missing. Raises CorruptRecord or OSError, the
    iterator too.
    """
    file = path.open("rb")
    try:
        meta, frames = _read_head(file, str(path))
    except BaseException:
        file.close()
        raise
    return meta, _closing(file, frames)


def verify(files: Files, path: Path) -> SnapshotMeta:
    """Read a whole snapshot; its meta. Raises CorruptRecord or OSError."""
    with files.open_for_reading(path) as file:
        meta, frames = _read_head(file, str(path))
        for _ in frames:
            pass
    return meta


def _read_chunks(file: BinaryIO, path: str, expected: SnapshotMeta) -> Iterator[bytes]:
    with file:
        meta, frames = _read_head(file, path)
        if meta != expected:
            raise CorruptRecord(path, len(MAGIC), f"the snapshot of {meta.id} and no other")
        yield from frames


def _read_head(file: BinaryIO, path: str) -> tuple[SnapshotMeta, Iterator[bytes]]:
    if file.read(len(MAGIC)) != MAGIC:
        raise CorruptRecord(path, 0, "not a snapshot, or one of another version")
    frames = _read_frames(file, path)
    try:
        return decode_meta(next(frames, b"")), frames
    except DecodeError as error:
        raise CorruptRecord(path, len(MAGIC), str(error)) from error


def _read_frames(file: BinaryIO, path: str) -> Iterator[bytes]:
    offset = len(MAGIC)
    crc = 0
    while True:
        head = file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            raise CorruptRecord(path, offset, "the file is cut short")
        length, expected = _FRAME.unpack(head)
        if length > MAX_CHUNK_BYTES:
            raise CorruptRecord(path, offset, f"a frame of {length} bytes")
        data = file.read(length)
        crc = _run_on(crc, data)
        if len(data) < length or crc != expected:
            raise CorruptRecord(path, offset, "a damaged frame")
        offset += _FRAME.size + length
        if length == 0:
            break
        yield data
    if file.read(1):
        raise CorruptRecord(path, offset, "bytes after the end")


def _read_pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_TRANSFER_BYTES):
            yield piece


def _closing(file: BinaryIO, frames: Iterator[bytes]) -> Iterator[bytes]:
    with file:
        yield from frames


def _frame(crc: int, data: bytes) -> tuple[int, bytes]:
    """Return the crc that has run on, and the frame."""
    crc = _run_on(crc, data)
    return crc, _FRAME.pack(len(data), crc) + data


def _run_on(crc: int, data: bytes) -> int:
    return crc32(data, crc32(_LENGTH.pack(len(data)), crc))
