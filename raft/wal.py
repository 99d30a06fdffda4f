"""The write-ahead log: the files that hold the entries, the hard state and the user's metadata.

Relies on `raft.segment` for the bytes and on `raft.files` for the disk. Each `write` is one record,
one system call, durable when it returns. It writes whole pages: what the first one holds already is
written once more, as it is, and zeros after the record. The log is read only when it is opened.

A crash leaves behind, and `open` makes of it:

1. while the first segment is made: no segment, perhaps a file `.tmp`. There is no log yet.
2. while a further segment is made: perhaps a file `.tmp`, which is removed. A segment is whole and
   durable before it gets its name.
3. during a write: a record of which some sectors are still zeros, the last of the last segment.
   It was never confirmed; it is overwritten with zeros. If all its sectors made it, it counts.
4. while segments are purged: a gap in the numbers. What lies before the gap is ignored.

Whatever else is not as it was written is damage, and is refused: see `Reader.find_torn`. A failed
write or flush is final: the log takes no further write, since nobody knows what the disk holds.
A full disk is another matter, because a segment has all its room from the start: only to set the
next one aside can fail, and that has changed nothing. It is done ahead of need (`make_room`), so
that one can stop in time to take entries, and what little raft must still write finds room.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raft.codec import Batch, DecodeError, decode_batch, encode_batch
from raft.entry import NO_HARD_STATE, EntryID
from raft.errors import CorruptRecord
from raft.files import PAGE, Files, NoRoom, is_full
from raft.recovery import LogImage
from raft.ring import MAX_BYTES, Ring
from raft.segment import (
    MAX_METADATA_BYTES,
    Head,
    Reader,
    encode_head,
    encode_record,
    head_bytes,
    record_bytes,
)

# Small enough that the few segments which are kept take little room, large enough that making one
# (half a millisecond) is rare.
SEGMENT_BYTES: Final = 8 * 1024 * 1024
TEMPORARY: Final = ".tmp"
# The next segment is set aside when this one is half full. While it can't be, the last quarter is
# for what raft writes of its own: thousands of terms and votes.
_RESERVE_SHARE: Final = 4
SPARE: Final = "spare" + TEMPORARY
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
_REPAIR_BYTES: Final = 1024 * 1024
# The longest record for the ring: pages before and after it may come with it.
_RING_BYTES: Final = MAX_BYTES - 2 * PAGE

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Segment:
    """One file of the log, as its name describes it."""

    path: Path
    number: int
    # The end of the log when the segment was begun: no earlier segment is needed by a server that
    # has a snapshot at or beyond it.
    base_index: int


def list_segments(files: Files, directory: Path) -> list[Segment]:
    """The segments in a directory up to the last one, without those that a gap makes useless."""
    found = []
    for path in files.list_directory(directory):
        if path.suffix != ".wal":
            continue
        if (name := _NAME.fullmatch(path.name)) is None:
            log.warning("%s is not the name of a log file, it is ignored", path)
        else:
            found.append(Segment(path, int(name[1], 16), int(name[2], 16) - 1))
    found.sort(key=lambda segment: segment.number)
    for at in range(len(found) - 1, 0, -1):
        if found[at].number != found[at - 1].number + 1:
            log.warning("%s and earlier log files are ignored: a gap follows", found[at - 1].path)
            return found[at:]
    return found


class Wal:
    """An open log.

    Invariants:
      1. Everything before `_offset` in the last segment, and all earlier ones, is durable.
      2. After it there are zeros.
      3. `_tail` is what the page of `_offset` holds before it.
    """

    def __init__(self, files: Files, directory: Path, segment_bytes: int) -> None:
        """For `create` and `open` only."""
        self._files = files
        self._directory = directory
        self._segment_bytes = segment_bytes + -segment_bytes % PAGE
        self._segments: list[Segment] = []
        self._metadata = b""
        # The last entry of the log, or of the snapshot that it follows.
        self._last_index = 0
        self._last_term = 0
        self._hard_state = NO_HARD_STATE
        # Where the next record goes.
        self._descriptor = -1
        self._salt = 0
        self._file_bytes = 0
        self._records = 0
        self._offset = 0
        self._tail = b""
        # The next segment's file, without a name that counts: -1 while there is none.
        self._spare = -1
        # Set while a write is under way, and for ever once one has failed.
        self._unsure = False
        # What writes while our threads go on; None where there is none, or none was asked for.
        self._ring: Ring | None = None
        # The last segment as the ring writes to it, past the kernel's cache; -1 if through it.
        self._direct = -1
        # What it writes, and how long that is as a record.
        self._begun: Batch | None = None
        self._begun_bytes = 0

    @classmethod
    def create(
        cls, files: Files, directory: Path, metadata: bytes, segment_bytes: int = SEGMENT_BYTES
    ) -> "Wal":
        """Make a log in an empty directory; there is one once this has returned."""
        assert len(metadata) <= MAX_METADATA_BYTES, f"{len(metadata)} bytes of metadata"
        wal = cls(files, directory, segment_bytes)
        wal._metadata = metadata
        wal._begin_segment(0)
        return wal

    @classmethod
    def open(
        cls,
        files: Files,
        directory: Path,
        snapshot_index: int,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple["Wal", LogImage, bytes]:
        """Open a log that exists: the log, what it says, and the metadata.

        Only what a server needs that has a snapshot at `snapshot_index` is read. Raises
        CorruptRecord.
        """
        wal = cls(files, directory, segment_bytes)
        wal._segments = list_segments(files, directory)
        assert wal._segments, f"there is no log in {directory}"
        image, reader = load(files, wal._segments, snapshot_index)
        wal._continue(reader, image)
        return wal, image, wal._metadata

    def write(self, batch: Batch) -> None:
        """Make one batch durable. After an error nothing more can be written, but for NoRoom.

        Raises NoRoom when the disk is full; the same batch may be tried again later.
        """
        assert not self._unsure, "a write after one that failed, or during another"
        self._unsure = True
        payload = encode_batch(batch)
        if self._offset + record_bytes(len(payload)) > self._file_bytes:
            try:
                self._begin_segment(record_bytes(len(payload)))
            except NoRoom:
                self._unsure = False
                raise
        record = encode_record(self._salt, self._records, payload)
        offset = self._offset & -PAGE
        self._files.write_durably(self._descriptor, self._whole_pages(record), offset)
        self._written(batch, len(record))

    def open_ring(self) -> int:
        """Get ready for `begin`; return what is readable when a write has ended, or -1.

        Raises OSError.
        """
        self._ring = self._files.open_ring()
        if self._ring is None:
            return -1
        start = self._offset + -self._offset % PAGE
        try:
            self._direct = self._files.open_direct(self._segments[-1].path, start, self._file_bytes)
        except OSError as error:
            if not is_full(error):
                raise
        return self._ring.fileno()

    def begin(self, batch: Batch, wait_seconds: float) -> bool:
        """Begin to make a batch durable by the ring, and wait so long for it at most.

        False if it takes more than a single write, or a larger one than the ring's: then it is for
        `write`. Raises OSError, after which nothing more can be written.
        """
        assert not self._unsure, "a write after one that failed, or during another"
        assert self._ring is not None, "begun without a ring"
        payload = encode_batch(batch)
        size = record_bytes(len(payload))
        if size > _RING_BYTES or self._offset + size > self._file_bytes:
            return False
        self._unsure = True
        pages = self._whole_pages(encode_record(self._salt, self._records, payload))
        direct = self._direct >= 0
        descriptor = self._direct if direct else self._descriptor
        self._ring.begin(descriptor, pages, self._offset & -PAGE, wait_seconds, direct=direct)
        self._begun, self._begun_bytes = batch, size
        return True

    def finish(self) -> bool:
        """Whether what was begun is durable. After an OSError nothing more can be written."""
        batch = self._begun
        assert self._ring is not None, "finished without a ring"
        assert batch is not None, "finished before it was begun"
        if not self._ring.finish():
            return False
        self._begun = None
        self._written(batch, self._begun_bytes)
        return True

    @property
    def is_writing(self) -> bool:
        """Whether something was begun that has neither ended nor failed."""
        return self._ring is not None and self._ring.is_busy

    def _whole_pages(self, record: bytes) -> bytes:
        """What is to be written for the record that comes next."""
        pages = self._tail + record
        self._tail = pages[len(pages) & -PAGE :]
        return pages + bytes(-len(pages) % PAGE)

    def _written(self, batch: Batch, size: int) -> None:
        """Go on behind a record that is durable."""
        self._offset += size
        self._records += 1
        if batch.snapshot is not None:
            self._last_index, self._last_term = batch.snapshot.id
        if batch.entries:
            first, last = batch.entries[0], batch.entries[-1]
            assert first.index <= self._last_index + 1, f"{first.index} after {self._last_index}"
            self._last_index, self._last_term = last.index, last.term
        self._hard_state = batch.hard_state
        self._unsure = False

    @property
    def wants_room(self) -> bool:
        """Whether it is time for `make_room`."""
        return self._spare < 0 and 2 * self._offset >= self._file_bytes

    @property
    def is_short(self) -> bool:
        """Whether what is left is the reserve."""
        left = self._file_bytes - self._offset
        return self._spare < 0 and left <= self._file_bytes // _RESERVE_SHARE

    def make_room(self) -> bool:
        """Set the next segment aside if need be; False while what is left is the reserve.

        Raises OSError, but not for a full disk.
        """
        if self.wants_room:
            try:
                self._spare = self._set_aside(self._directory / SPARE, self._segment_bytes)
            except NoRoom:
                return not self.is_short
        return True

    def purge(self, up_to_index: int, keep: int) -> None:
        """Remove the oldest segments but `keep`, as far as a snapshot at `up_to_index` allows."""
        removed = 0
        while len(self._segments) > max(keep, 1) and self._segments[1].base_index <= up_to_index:
            segment = self._segments.pop(0)
            self._files.remove(segment.path)
            log.debug("removed %s", segment.path)
            removed += 1
        if removed:
            self._files.flush_directory(self._directory)

    def close(self) -> None:
        """Close the files. All that was written is durable already."""
        for descriptor in (self._descriptor, self._direct, self._spare):
            if descriptor >= 0:
                self._files.close(descriptor)
        self._descriptor = self._direct = self._spare = -1
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    # ---------------------------------------------------------------------------------- writing

    def _begin_segment(self, least_bytes: int) -> None:
        """Make the next segment, with room for `least_bytes` at least. Raises NoRoom."""
        number = self._segments[-1].number + 1 if self._segments else 1
        head = Head(
            number=number,
            file_bytes=0,
            records_before=self._records,
            base=EntryID(self._last_index, self._last_term),
            hard_state=self._hard_state,
            metadata=self._metadata,
            salt=self._files.draw_salt(),
        )
        # The size in the head takes a few bytes itself: one page more is room for that.
        least_bytes += head_bytes(head) + PAGE
        head.file_bytes = max(self._segment_bytes, least_bytes + -least_bytes % PAGE)
        data = encode_head(head)
        path = self._directory / f"{number:016x}-{self._last_index + 1:016x}.wal"
        if self._spare >= 0 and head.file_bytes == self._segment_bytes:
            temporary, descriptor = self._directory / SPARE, self._spare
            self._spare = -1
        else:
            temporary = path.with_name(path.name + TEMPORARY)
            descriptor = self._set_aside(temporary, head.file_bytes)
        self._files.write(descriptor, data, 0)
        self._files.flush(descriptor)
        self._files.rename(temporary, path)
        self._files.flush_directory(self._directory)
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
        self._descriptor = descriptor
        if self._direct >= 0:
            self._files.close(self._direct)
            self._direct = self._files.open_direct(path, 0, 0)
        self._segments.append(Segment(path, number, self._last_index))
        self._salt = head.salt
        self._file_bytes = head.file_bytes
        self._records = 0
        self._offset = len(data)
        self._tail = data[len(data) & -PAGE :]

    def _set_aside(self, path: Path, size: int) -> int:
        """Make a file of so many zeros. Raises NoRoom and leaves nothing behind, or OSError."""
        descriptor = -1
        try:
            descriptor = self._files.create(path)
            self._files.allocate(descriptor, size)
            if self._direct >= 0 and (filled := self._files.open_direct(path, 0, size)) >= 0:
                self._files.close(filled)
        except OSError as error:
            if not is_full(error):
                raise
            if descriptor >= 0:
                self._files.close(descriptor)
                self._files.remove(path)
            raise NoRoom(
                error.errno, f"no room for a log file of {size} bytes", str(path)
            ) from error
        return descriptor

    # ---------------------------------------------------------------------------------- loading

    def _continue(self, reader: Reader, image: LogImage) -> None:
        """Go on writing at the end of the last segment, once all of it is durable."""
        torn = reader.find_torn()
        path = self._segments[-1].path
        self._descriptor = self._files.open(path)
        if torn is not None:
            start, stop = torn
            log.warning(
                "the last write to %s was cut off by a crash, it is undone: bytes %d to %d",
                path,
                start,
                stop,
            )
            for at in range(start, stop, _REPAIR_BYTES):
                zeros = bytes(min(_REPAIR_BYTES, stop - at))
                self._files.write(self._descriptor, zeros, at)
        # What was read may be in memory only, if just the process was killed. We are going to act
        # upon it, so that it must not be lost when the machine fails next.
        self._files.flush(self._descriptor)
        self._files.flush_directory(self._directory)
        self._metadata = reader.head.metadata
        self._salt = reader.head.salt
        # Of a file that others made, with another size, whole pages only.
        self._file_bytes = reader.head.file_bytes & -PAGE
        self._records = reader.records
        self._offset = reader.end
        self._tail = reader.before_end(PAGE)
        self._last_index, self._last_term = image.last
        self._hard_state = image.hard_state


def load(files: Files, segments: list[Segment], snapshot_index: int) -> tuple[LogImage, Reader]:
    """Replay what a server needs that has a snapshot at `snapshot_index`; changes nothing.

    The reader has read the last segment, whose end is still to be judged. Raises CorruptRecord.
    """
    start = 0
    for at, segment in enumerate(segments):
        if segment.base_index <= snapshot_index:
            start = at
    image: LogImage | None = None
    reader: Reader | None = None
    for segment in segments[start:]:
        before = reader
        reader = Reader(files.read(segment.path), str(segment.path))
        _check_name(segment, reader)
        if before is None or image is None:
            base = reader.head.base
            image = LogImage(base.index, base.term, [], reader.head.hard_state)
        else:
            before.check_ends_clean()
            _check_follows(reader, before, image)
        _replay(reader, image)
    assert reader is not None, "no segments"
    assert image is not None, "no segments"
    return image, reader


def _check_name(segment: Segment, reader: Reader) -> None:
    head = reader.head
    if (head.number, head.base.index) != (segment.number, segment.base_index):
        raise CorruptRecord(reader.path, 0, "the file has another file's name")


def _check_follows(reader: Reader, before: Reader, image: LogImage) -> None:
    """A segment says where the one before it ended: nothing can have been lost between them."""
    head = reader.head
    if head.records_before != before.records:
        problem = f"{before.records} records are left of {head.records_before}"
        raise CorruptRecord(before.path, before.end, problem)
    if head.base != image.last or head.hard_state != image.hard_state:
        raise CorruptRecord(reader.path, 0, "the file does not go on where the last one ended")


def _replay(reader: Reader, image: LogImage) -> None:
    for payload in reader.read():
        try:
            image.replay(decode_batch(payload))
        except DecodeError as error:
            raise CorruptRecord(reader.path, reader.end, str(error)) from error
