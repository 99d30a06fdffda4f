"""Snapshots as files: nothing that is damaged is ever used, nothing whole is lost."""

import struct
from pathlib import Path
from zlib import crc32

import pytest

from raft.entry import Configuration, SnapshotMeta
from raft.errors import CorruptRecord
from raft.files import DiskFiles
from raft.snapshots import MAGIC, MAX_CHUNK_BYTES, Snapshots, verify
from tests.raft.crash_files import UnflushedFiles

CHUNKS = [b"first", b"x" * 150, b"last"]


def meta(raft_index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(raft_index, term, Configuration(voters=(1, 2, 3), learners=(9,)))


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(UnflushedFiles(), tmp_path)


def save(snapshots: Snapshots, named: SnapshotMeta) -> Path:
    writer = snapshots.begin(named)
    for chunk in CHUNKS:
        writer.write(chunk)
    writer.commit()
    return snapshots.path(named)


def test_snapshot_gives_back_its_chunks(snapshots: Snapshots) -> None:
    """Chunk by chunk, as they were given; its name tells term and index."""
    path = save(snapshots, meta(255, 16))
    assert path.name == "0000000000000010-00000000000000ff.snap"
    assert list(snapshots.read(meta(255, 16))) == CHUNKS
    assert verify(DiskFiles(), path) == meta(255, 16)


def test_snapshot_of_nothing_is_whole(snapshots: Snapshots) -> None:
    """Empty chunks leave no trace, not even the mark of the end."""
    writer = snapshots.begin(meta(1))
    writer.write(b"")
    writer.commit()
    assert list(snapshots.read(meta(1))) == []


def test_snapshot_under_way_is_not_found(snapshots: Snapshots, tmp_path: Path) -> None:
    """Until it is committed, and not after it was given up."""
    writer = snapshots.begin(meta(5))
    writer.write(b"half")
    assert snapshots.find_newest() is None
    assert len(list(tmp_path.iterdir())) == 1
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_snapshot_left_unfinished_by_a_crash_is_removed(
    snapshots: Snapshots, tmp_path: Path
) -> None:
    """The next start cleans up, and does not touch what is whole."""
    path = save(snapshots, meta(4))
    snapshots.begin(meta(5)).write(b"half")
    Snapshots(UnflushedFiles(), tmp_path).remove_unfinished()
    assert list(tmp_path.iterdir()) == [path]


def test_snapshots_of_one_meta_may_be_written_together(snapshots: Snapshots) -> None:
    """Ours and a leader's do not meet in one temporary file."""
    ours, other = snapshots.begin(meta(5)), snapshots.begin(meta(5))
    ours.write(b"same")
    other.write(b"same")
    other.commit()
    ours.commit()
    assert list(snapshots.read(meta(5))) == [b"same"]


def test_newest_is_by_index_and_readable(snapshots: Snapshots) -> None:
    """A higher term does not make an older index newer."""
    save(snapshots, meta(9, 7))
    save(snapshots, meta(10, 3))
    newest = save(snapshots, meta(11, 3))
    assert snapshots.find_newest() == meta(11, 3)
    newest.write_bytes(b"")
    assert snapshots.find_newest() == meta(10, 3)
    assert newest.with_name(newest.name + ".broken").exists()


def test_snapshot_under_anothers_name_is_broken(snapshots: Snapshots) -> None:
    """A copied or renamed file must not pass for another state."""
    save(snapshots, meta(3)).rename(snapshots.path(meta(8)))
    assert snapshots.find_newest() is None
    save(snapshots, meta(3)).rename(snapshots.path(meta(8)))
    with pytest.raises(CorruptRecord, match="the snapshot of 3@1 and no other"):
        list(snapshots.read(meta(8)))


def test_stranger_among_snapshots_is_left_alone(snapshots: Snapshots, tmp_path: Path) -> None:
    """What is not named like a snapshot is not ours to read or remove."""
    (tmp_path / "mine.snap").write_bytes(b"")
    assert snapshots.list_files() == []


def test_snapshot_with_any_byte_flipped_is_refused(snapshots: Snapshots) -> None:
    """Every byte of the file is covered."""
    path = save(snapshots, meta(7))
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(CorruptRecord):
            list(snapshots.read(meta(7)))


def test_snapshot_of_any_other_length_is_refused(snapshots: Snapshots) -> None:
    """A cut file, even between two frames, and one that goes on."""
    path = save(snapshots, meta(7))
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(CorruptRecord):
            verify(DiskFiles(), path)
    path.write_bytes(good + b"\0")
    with pytest.raises(CorruptRecord, match="bytes after the end"):
        verify(DiskFiles(), path)


def test_snapshot_with_frames_swapped_is_refused(snapshots: Snapshots) -> None:
    """The crc runs on: frames that are whole each do not make a whole file."""
    writer = snapshots.begin(meta(7))
    writer.write(b"aaaa")
    writer.write(b"bbbb")
    writer.commit()
    path = snapshots.path(meta(7))
    good = path.read_bytes()
    one, other, end = good[-32:-20], good[-20:-8], good[-8:]
    path.write_bytes(good[:-32] + other + one + end)
    with pytest.raises(CorruptRecord, match="a damaged frame"):
        verify(DiskFiles(), path)


def test_snapshot_with_another_head_is_refused(snapshots: Snapshots) -> None:
    """A crc says that bytes are unchanged, not that they name a snapshot."""
    path = save(snapshots, meta(7))
    payload = b"\x93\x00\x01\x90"
    frame = struct.pack("<I", len(payload))
    crc = crc32(payload, crc32(frame))
    path.write_bytes(MAGIC + frame + struct.pack("<I", crc) + payload)
    with pytest.raises(CorruptRecord, match="not an array of four"):
        verify(DiskFiles(), path)


def test_frame_of_absurd_length_is_refused_without_reading_it(snapshots: Snapshots) -> None:
    """Damage must not make us ask for gigabytes."""
    path = save(snapshots, meta(7))
    path.write_bytes(path.read_bytes()[:8] + b"\xff\xff\xff\xff" + bytes(4))
    with pytest.raises(CorruptRecord, match="a frame of 4294967295 bytes"):
        verify(DiskFiles(), path)
    writer = snapshots.begin(meta(8))
    with pytest.raises(AssertionError, match="a chunk of"):
        writer.write(bytes(MAX_CHUNK_BYTES + 1))
    writer.abort()


def test_received_snapshot_is_verified_before_it_counts(
    snapshots: Snapshots, tmp_path: Path
) -> None:
    """What was cut or changed on its way is refused and leaves nothing behind."""
    good = save(snapshots, meta(7)).read_bytes()
    (tmp_path / "other").mkdir()
    other = Snapshots(UnflushedFiles(), tmp_path / "other")
    for bad in (good[:-9], good[:30] + b"?" + good[31:], b""):
        receiver = other.receive()
        receiver.write(bad)
        with pytest.raises(CorruptRecord):
            receiver.commit()
        receiver.abort()
    assert list((tmp_path / "other").iterdir()) == []
    receiver = other.receive()
    for piece in snapshots.open_raw(meta(7)):
        receiver.write(piece)
    assert receiver.commit() == meta(7)
    assert list(other.read(meta(7))) == CHUNKS


def test_read_of_a_snapshot_that_is_gone_fails_at_once(snapshots: Snapshots) -> None:
    """The caller learns it before it has begun anything."""
    with pytest.raises(FileNotFoundError):
        snapshots.read(meta(7))
    with pytest.raises(FileNotFoundError):
        snapshots.open_raw(meta(7))


def test_purge_keeps_the_newest_and_what_it_is_told(snapshots: Snapshots) -> None:
    """Nothing newer than the durable one goes, however few may stay."""
    paths = [save(snapshots, meta(i)) for i in (1, 2, 3, 4)]
    snapshots.purge(meta(3), 1)
    assert snapshots.list_files() == [paths[3], paths[2]]
    snapshots.purge(meta(9), 1)
    assert snapshots.list_files() == [paths[3], paths[2]]
    snapshots.purge(meta(4), 1)
    assert snapshots.list_files() == [paths[3]]


def test_purge_while_a_snapshot_is_read_does_not_disturb_the_reader(snapshots: Snapshots) -> None:
    """A slow follower gets the whole of what it began to get."""
    save(snapshots, meta(1))
    save(snapshots, meta(2))
    reader = snapshots.read(meta(1))
    assert next(reader) == CHUNKS[0]
    snapshots.purge(meta(2), 1)
    assert list(reader) == CHUNKS[1:]


class CountingFiles(UnflushedFiles):
    """Counts flushes, and fails one when told."""

    flushes = 0
    failing = False

    def flush(self, descriptor: int) -> None:
        self.flushes += 1
        if self.failing:
            self.failing = False
            raise OSError(28, "No space left on device")


def test_large_snapshot_is_flushed_as_it_grows(tmp_path: Path) -> None:
    """One flush of everything at the end would hold up the log."""
    files = CountingFiles()
    writer = Snapshots(files, tmp_path).begin(meta(1))
    for _ in range(9):
        writer.write(bytes(1024 * 1024))
    assert files.flushes == 2
    writer.abort()


def test_snapshot_after_a_failed_flush_is_never_committed(tmp_path: Path) -> None:
    """A second flush may succeed without the pages that the first one lost (M21)."""
    files = CountingFiles()
    snapshots = Snapshots(files, tmp_path)
    writer = snapshots.begin(meta(1))
    files.failing = True
    with pytest.raises(OSError, match="No space left"):
        writer.write(bytes(5 * 1024 * 1024))
    with pytest.raises(AssertionError, match="after one that failed"):
        writer.write(b"more")
    with pytest.raises(AssertionError, match="after one that failed"):
        writer.commit()
    writer.abort()
    assert snapshots.find_newest() is None


def test_snapshot_on_the_real_disk_is_read_back(tmp_path: Path) -> None:
    """With real flushes."""
    snapshots = Snapshots(DiskFiles(), tmp_path)
    save(snapshots, meta(1))
    assert list(snapshots.read(meta(1))) == CHUNKS
