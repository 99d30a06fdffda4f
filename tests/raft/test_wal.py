"""The log's files: what a crash does to them is repaired, what damage does to them is refused."""

import logging
import struct
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raft.codec import Batch, encode_batch, pack
from raft.entry import NO_HARD_STATE, NORMAL, Configuration, Entry, HardState, SnapshotMeta
from raft.errors import CorruptRecord
from raft.files import DiskFiles
from raft.recovery import LogImage
from raft.segment import MAGIC, SECTOR, Reader, encode_record
from raft.wal import Wal, list_segments
from tests.raft.crash_files import UnflushedFiles

SEGMENT = 8192


def entries(first: int, count: int, size: int = 30, term: int = 1) -> list[Entry]:
    return [Entry(i, term, NORMAL, b"\xab" * size) for i in range(first, first + count)]


def create(directory: Path) -> Wal:
    return Wal.create(UnflushedFiles(), directory, b"me", SEGMENT)


def load(directory: Path, snapshot_index: int = 0) -> LogImage:
    wal, image, metadata = Wal.open(UnflushedFiles(), directory, snapshot_index, SEGMENT)
    wal.close()
    assert metadata == b"me"
    return image


def written(directory: Path, *sizes: int) -> tuple[Path, list[int]]:
    """A log of one segment with records of so many bytes of data: its file, their offsets."""
    wal = create(directory)
    for at, size in enumerate(sizes, start=1):
        wal.write(Batch(None, entries(at, 1, size), HardState(1, 1, at - 1)))
    wal.close()
    (path,) = directory.glob("*.wal")
    reader = Reader(path.read_bytes(), str(path))
    offsets = [reader.end]
    for _ in reader.read():
        offsets.append(reader.end)
    # `end` moves on only after a record was taken: the first came twice.
    return path, [*offsets[1:], reader.end]


# ------------------------------------------------------------------------------------ round trips

BATCHES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 700)), min_size=1, max_size=25
)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(BATCHES)
def test_log_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, int]]
) -> None:
    """Against a list: appends and conflicts of any size, over segments, opened in between."""
    directory = tmp_path_factory.mktemp("wal")
    wal = create(directory)
    model: list[Entry] = []
    hard_state = NO_HARD_STATE
    for term, (count, back, size) in enumerate(drawn, start=1):
        del model[max(0, len(model) - back) :]
        new = entries(len(model) + 1, count, size, term)
        model += new
        if not new:
            model = [*model, *(new := entries(len(model) + 1, 1, 0, term))]
        hard_state = HardState(term, count, 0)
        wal.write(Batch(None, new, hard_state))
        if size % 7 == 0:
            wal.close()
            wal, image, _ = Wal.open(UnflushedFiles(), directory, 0, SEGMENT)
            assert image.entries == model
    wal.close()
    image = load(directory)
    assert image.entries == model
    assert image.hard_state == hard_state


def test_marker_begins_the_log_anew(tmp_path: Path) -> None:
    """What was before a received snapshot is gone; entries go on after it."""
    wal = create(tmp_path)
    wal.write(Batch(None, entries(1, 3), HardState(1, 1, 0)))
    meta = SnapshotMeta(70, 2, Configuration(voters=(1, 2)))
    wal.write(Batch(meta, entries(71, 2, term=2), HardState(2, 0, 70)))
    wal.close()
    image = load(tmp_path, 70)
    assert (image.base_index, image.base_term, image.marker) == (70, 2, (70, 2))
    assert image.entries == entries(71, 2, term=2)


def test_record_larger_than_a_segment_gets_one_of_its_own_size(tmp_path: Path) -> None:
    """No record is cut in two, and none grows a file."""
    wal = create(tmp_path)
    wal.write(Batch(None, entries(1, 1), HardState(1, 1, 0)))
    wal.write(Batch(None, entries(2, 1, size=3 * SEGMENT), HardState(1, 1, 0)))
    wal.write(Batch(None, entries(3, 1), HardState(1, 1, 0)))
    wal.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert sizes[0] == SEGMENT
    assert 3 * SEGMENT < sizes[1] <= 4 * SEGMENT
    assert [len(entry.data) for entry in load(tmp_path).entries] == [30, 3 * SEGMENT, 30]


def test_segment_names_tell_number_and_first_index(tmp_path: Path) -> None:
    """As an operator sees them; each is set aside on disk in full."""
    wal = create(tmp_path)
    for i in range(1, 30):
        wal.write(Batch(None, entries(i, 1, size=1000), HardState(1, 1, 0)))
    wal.close()
    segments = list_segments(DiskFiles(), tmp_path)
    assert segments[0].path.name == "0000000000000001-0000000000000001.wal"
    assert segments[1].path.name == "0000000000000002-0000000000000008.wal"
    assert all(segment.path.stat().st_size == SEGMENT for segment in segments)
    assert all(segment.path.stat().st_blocks * 512 >= SEGMENT for segment in segments)


# ------------------------------------------------------------------------------------------ damage


def test_byte_flipped_anywhere_loses_nothing_silently(tmp_path: Path) -> None:
    """Flips in records, heads, fillings and the zeros after them: the same state, or refusal."""
    path, offsets = written(tmp_path, 3, 400, 3)
    good = path.read_bytes()
    whole = load(tmp_path)
    for at in [*range(offsets[-1] + 40), offsets[-1] + 600, SEGMENT - 1]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        try:
            image = load(tmp_path)
        except CorruptRecord:
            continue
        # Only in fillings and in sectors that were never written.
        assert image == whole, f"byte {at}"


def test_damage_in_an_earlier_record_names_file_and_offset(tmp_path: Path) -> None:
    """What an operator must know to look at it."""
    path, offsets = written(tmp_path, 30, 700, 30)
    data = bytearray(path.read_bytes())
    data[offsets[1] + 100] ^= 1
    path.write_bytes(data)
    expected = f"{path}: a damaged record with records after it at offset {offsets[1]}"
    with pytest.raises(CorruptRecord) as caught:
        load(tmp_path)
    assert str(caught.value) == expected


def test_file_cut_at_any_length_is_refused(tmp_path: Path) -> None:
    """A file has its full size before its first record: a shorter one was cut by somebody."""
    path, _ = written(tmp_path, 30, 700, 30)
    good = path.read_bytes()
    for length in [*range(0, 1500, 7), *range(1500, SEGMENT, 97), SEGMENT - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(CorruptRecord):
            load(tmp_path)
    path.write_bytes(good + b"\0")
    with pytest.raises(CorruptRecord, match="should end at 8192"):
        load(tmp_path)


def test_sectors_lost_of_an_earlier_record_are_refused(tmp_path: Path) -> None:
    """A synced record is never taken for a torn one, not even when its head is zero (M33)."""
    path, offsets = written(tmp_path, 30, 2000, 30)
    good = path.read_bytes()
    first = offsets[1] - offsets[1] % SECTOR + SECTOR
    for at in (first, first + SECTOR):
        path.write_bytes(good[:at] + bytes(SECTOR) + good[at + SECTOR :])
        with pytest.raises(CorruptRecord, match="a damaged record with records after it"):
            load(tmp_path)
    zeroed = good[: offsets[1]] + bytes(first - offsets[1]) + good[first:]
    path.write_bytes(zeroed)
    with pytest.raises(CorruptRecord, match="a lost record, with record 2 after it"):
        load(tmp_path)
    path.write_bytes(good[: offsets[1]] + bytes(16) + good[offsets[1] + 16 :])
    with pytest.raises(CorruptRecord, match="a record without a head"):
        load(tmp_path)


def test_damage_in_an_earlier_segment_is_refused(tmp_path: Path) -> None:
    """Even at its end: a later segment proves that all of it was durable."""
    wal = create(tmp_path)
    for i in range(1, 20):
        wal.write(Batch(None, entries(i, 1, size=1000), HardState(1, 1, 0)))
    wal.close()
    path = list_segments(DiskFiles(), tmp_path)[0].path
    good = path.read_bytes()
    reader = Reader(good, str(path))
    offsets = [reader.end for _ in reader.read()]
    path.write_bytes(good[: offsets[-1]] + bytes(len(good) - offsets[-1]))
    with pytest.raises(CorruptRecord, match="6 records are left of 7"):
        load(tmp_path)
    path.write_bytes(good[:-8] + b"scribble")
    with pytest.raises(CorruptRecord, match="a damaged record with records after it"):
        load(tmp_path)
    path.write_bytes(good)
    assert len(load(tmp_path).entries) == 19


def test_segment_under_anothers_name_is_refused(tmp_path: Path) -> None:
    """A log put together from files of several is none."""
    path, _ = written(tmp_path, 30)
    path.rename(tmp_path / "0000000000000001-0000000000000002.wal")
    with pytest.raises(CorruptRecord, match="another file's name"):
        load(tmp_path, 1)


def test_segment_of_another_log_is_refused(tmp_path: Path) -> None:
    """Numbers and names may fit: what it says of the one before does not."""
    logs = []
    for name, term in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        wal = create(tmp_path / name)
        for i in range(1, 12):
            wal.write(Batch(None, entries(i, 1, size=1000, term=term), HardState(term, 1, 0)))
        wal.close()
        logs.append(list_segments(DiskFiles(), tmp_path / name))
    logs[0][1].path.write_bytes(logs[1][1].path.read_bytes())
    with pytest.raises(CorruptRecord, match="does not go on where the last one ended"):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"\xc1", "not msgpack"),
        (pack((None, (), (1, 2))), "not an array of three"),
        (encode_batch(Batch(None, entries(5, 1), HardState(1, 0, 0))), "entry 5 after entry 1@1"),
        (encode_batch(Batch(None, entries(2, 1), HardState(0, 0, 0))), "term 0 after 1"),
    ],
)
def test_good_record_with_bad_content_is_refused(
    tmp_path: Path, payload: bytes, problem: str
) -> None:
    """A crc says that bytes are unchanged, not that they make sense."""
    path, offsets = written(tmp_path, 30)
    data = bytearray(path.read_bytes())
    salt = Reader(bytes(data), str(path)).head.salt
    record = encode_record(salt, 1, payload)
    data[offsets[-1] : offsets[-1] + len(record)] = record
    path.write_bytes(data)
    with pytest.raises(CorruptRecord, match=problem) as caught:
        load(tmp_path)
    assert caught.value.offset == offsets[-1]


# -------------------------------------------------------------------------------------- torn tails


def test_last_record_torn_in_any_way_is_undone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever sectors of the last write are missing: the others stay, and the log goes on."""
    path, offsets = written(tmp_path, 30, 200, 2000)
    good = path.read_bytes()
    start, stop = offsets[2], offsets[3]
    bounds = [start, *range(start - start % SECTOR + SECTOR, stop, SECTOR), stop]
    pieces = list(pairwise(bounds))
    for lost in range(1, 2 ** len(pieces)):
        data = bytearray(good)
        for at, (a, b) in enumerate(pieces):
            if lost >> at & 1:
                data[a:b] = bytes(b - a)
        path.write_bytes(data)
        wal, image, _ = Wal.open(UnflushedFiles(), tmp_path, 0, SEGMENT)
        assert [entry.index for entry in image.entries] == [1, 2], f"lost {lost:b}"
        wal.write(Batch(None, entries(3, 1, size=9), HardState(7, 1, 2)))
        wal.close()
        again = load(tmp_path)
        assert again.hard_state == HardState(7, 1, 2)
        assert len(again.entries) == 3
    assert "was cut off by a crash, it is undone" in caplog.text


def test_last_record_that_is_whole_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may not have been confirmed, but nothing of it is missing; nothing is repaired."""
    caplog.set_level(logging.WARNING)
    written(tmp_path, 30, 700)
    assert len(load(tmp_path).entries) == 2
    assert caplog.text == ""


def test_torn_record_that_holds_a_copy_of_a_log_is_still_torn(tmp_path: Path) -> None:
    """A user's value may be anything, also what looks like a record (the salt)."""
    path, offsets = written(tmp_path, 30, 30)
    copied = path.read_bytes()[: offsets[-1]]
    wal, _, _ = Wal.open(UnflushedFiles(), tmp_path, 0, SEGMENT)
    other_salt = encode_record(7, 3, b"payload")
    value = bytes(600) + copied + bytes(-len(copied) % 16) + other_salt * 40
    wal.write(Batch(None, [Entry(3, 1, NORMAL, value)], HardState(1, 1, 2)))
    wal.close()
    data = bytearray(path.read_bytes())
    start = offsets[-1]
    data[start : start - start % SECTOR + SECTOR] = bytes(SECTOR - start % SECTOR)
    path.write_bytes(data)
    assert len(load(tmp_path).entries) == 2


def test_last_record_damaged_but_wholly_written_is_refused(tmp_path: Path) -> None:
    """All sectors are there, so it was not a crash: it may have been confirmed."""
    path, offsets = written(tmp_path, 30, 2000)
    data = bytearray(path.read_bytes())
    data[offsets[1] + 900] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptRecord, match="all sectors of which were written"):
        load(tmp_path)


def test_damage_is_told_from_a_tear_wherever_the_last_record_ends(tmp_path: Path) -> None:
    """No ending looks like a lost sector by itself, also when few bytes reach into the last."""
    for size in range(380, 380 + SECTOR, 9):
        directory = tmp_path / str(size)
        directory.mkdir()
        wal = create(directory)
        wal.write(Batch(None, entries(1, 1, size), HardState(0, 0, 0)))
        wal.close()
        (path,) = directory.glob("*.wal")
        data = bytearray(path.read_bytes())
        data[300] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptRecord, match="all sectors of which were written"):
            load(directory)


def test_record_out_of_its_place_is_refused(tmp_path: Path) -> None:
    """A head that is good, with another number or a length beyond the file, was never written."""
    path, offsets = written(tmp_path, 30)
    good = path.read_bytes()
    salt = Reader(good, str(path)).head.salt
    for record in (encode_record(salt, 5, b"x"), encode_record(salt, 1, bytes(SEGMENT))[:64]):
        path.write_bytes(
            good[: offsets[-1]] + record + bytes(len(good) - offsets[-1] - len(record))
        )
        with pytest.raises(CorruptRecord, match="a record that does not belong here"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"\xc1", "not msgpack"),
        (pack((1, 2, 3)), "not an array of six"),
        (pack((1, SEGMENT, 0, None, (0, 0, 0), b"")), "has other fields"),
        (pack((1, SEGMENT, -1, (0, 0), (0, 0, 0), b"")), "not a natural number: -1"),
    ],
)
def test_head_with_bad_content_is_refused(tmp_path: Path, payload: bytes, problem: str) -> None:
    """Also when its crc is good."""
    path, _ = written(tmp_path, 30)
    start = struct.pack("<II", 7, len(payload))
    crc = crc32(payload, crc32(start))
    data = MAGIC + start + struct.pack("<I", crc) + payload
    path.write_bytes(data + bytes(SEGMENT - len(data)))
    with pytest.raises(CorruptRecord, match=problem):
        load(tmp_path)


def test_unfinished_segment_is_no_part_of_the_log(tmp_path: Path) -> None:
    """A crash while one is made leaves a file under another name."""
    wal = create(tmp_path)
    wal.write(Batch(None, entries(1, 2), HardState(1, 1, 0)))
    wal.close()
    (tmp_path / "0000000000000002-0000000000000003.wal.tmp").write_bytes(b"half")
    assert len(load(tmp_path).entries) == 2


# ------------------------------------------------------------------------------------------- purge


def filled(directory: Path) -> tuple[Wal, list[int]]:
    """A log of several segments, and their first indexes."""
    wal = create(directory)
    for i in range(1, 60):
        wal.write(Batch(None, entries(i, 1, size=1000), HardState(1, 1, i - 1)))
    return wal, [segment.base_index + 1 for segment in list_segments(DiskFiles(), directory)]


def test_purge_leaves_what_the_snapshot_lacks(tmp_path: Path) -> None:
    """A segment goes when the next one begins at or below the snapshot's end."""
    wal, firsts = filled(tmp_path)
    wal.purge(firsts[3] - 2, keep=1)
    assert [segment.base_index + 1 for segment in list_segments(DiskFiles(), tmp_path)] == firsts[
        2:
    ]
    wal.purge(firsts[3] - 1, keep=1)
    assert [segment.base_index + 1 for segment in list_segments(DiskFiles(), tmp_path)] == firsts[
        3:
    ]
    wal.purge(59, keep=2)
    assert [segment.base_index + 1 for segment in list_segments(DiskFiles(), tmp_path)] == firsts[
        -2:
    ]
    wal.purge(59, keep=0)
    wal.close()
    image = load(tmp_path, 59)
    assert image.hard_state == HardState(1, 1, 58)
    assert image.last == (59, 1)


def test_open_reads_no_segment_that_the_snapshot_makes_useless(tmp_path: Path) -> None:
    """Damage there does no harm, and a start does not take longer for what is kept."""
    wal, firsts = filled(tmp_path)
    wal.close()
    list_segments(DiskFiles(), tmp_path)[0].path.write_bytes(b"rubbish")
    assert load(tmp_path, firsts[3] + 1).base_index == firsts[3] - 1
    with pytest.raises(CorruptRecord, match="is cut short"):
        load(tmp_path, 1)


def test_segments_before_a_gap_are_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A purge that a crash cut off may leave them; names that are no segments' are none."""
    wal, firsts = filled(tmp_path)
    wal.close()
    (tmp_path / "notes.wal").write_bytes(b"")
    list_segments(DiskFiles(), tmp_path)[1].path.unlink()
    assert [segment.base_index + 1 for segment in list_segments(DiskFiles(), tmp_path)] == firsts[
        2:
    ]
    assert "a gap follows" in caplog.text
    assert "notes.wal is not the name" in caplog.text


def test_entries_replaced_behind_the_place_of_reading_are_found(tmp_path: Path) -> None:
    """A segment may begin with a conflict that reaches back into the one before."""
    wal = create(tmp_path)
    wal.write(Batch(None, entries(1, 20, size=300), HardState(1, 1, 0)))
    wal.write(Batch(None, entries(15, 10, size=300, term=2), HardState(2, 1, 0)))
    wal.close()
    second = list_segments(DiskFiles(), tmp_path)[1]
    assert second.base_index == 20
    image = load(tmp_path, 20)
    assert image.base_index == 14
    assert image.entries == entries(15, 10, size=300, term=2)


def test_terms_that_go_back_between_batches_are_refused(tmp_path: Path) -> None:
    """No leader appends an entry of an earlier term (thesis 3.5)."""
    wal = create(tmp_path)
    wal.write(Batch(None, entries(1, 2, term=2), HardState(2, 1, 0)))
    wal.write(Batch(None, entries(3, 2, term=1), HardState(2, 1, 0)))
    wal.close()
    with pytest.raises(CorruptRecord, match="entry 3@1 after one of term 2"):
        load(tmp_path)


@pytest.mark.parametrize("filling", [bytes(4 * 512), b"x" * 700 + bytes(1024)])
def test_flip_in_a_record_that_holds_zeros_is_refused(tmp_path: Path, filling: bytes) -> None:
    """A user's zeros do not look like a lost sector: damage to them is no torn write."""
    wal = create(tmp_path)
    wal.write(Batch(None, [Entry(1, 1, NORMAL, filling)], HardState(1, 0, 0)))
    wal.close()
    path = list_segments(DiskFiles(), tmp_path)[0].path
    good = path.read_bytes()
    wal, image, _ = Wal.open(UnflushedFiles(), tmp_path, 0, SEGMENT)
    wal.close()
    assert image.entries[0].data == filling
    end = len(good.rstrip(b"\0"))
    for offset in range(end - 600, end, 37):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 4]) + good[offset + 1 :])
        with pytest.raises(CorruptRecord):
            Wal.open(UnflushedFiles(), tmp_path, 0, SEGMENT)
