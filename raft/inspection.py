"""Looking at the storage of a server without changing it, and cutting off what is damaged.

`inspect` reads what `DiskStorage.open` would, and says what that would find, whether or not the
server runs. `cut` takes damaged and later parts of a log away for good; copies go to a directory
of their own first, so that nothing is lost that a person might still read.

A server that reads its log while another process writes it may see half a record: whoever inspects
a running server's storage looks twice before believing in damage.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from raft.entry import SnapshotMeta
from raft.errors import CorruptRecord
from raft.files import DiskFiles
from raft.interfaces import Recovered
from raft.recovery import Unrecoverable, recover
from raft.segment import Reader
from raft.snapshots import BROKEN, Snapshots, read_snapshot, verify
from raft.storage import LOCK, StorageConfig, lock, unlock
from raft.wal import SPARE, TEMPORARY, Segment, list_segments, load

_COPY_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Inspection:
    """What is in a storage, and what keeps a server from starting with it."""

    # Another process has it.
    in_use: bool = False
    segments: list[Segment] = field(default_factory=list)
    # The readable snapshots, newest first, and those that are not.
    snapshots: list[SnapshotMeta] = field(default_factory=list)
    broken: list[CorruptRecord] = field(default_factory=list)
    # What crashes have left; the next start removes it.
    unfinished: list[Path] = field(default_factory=list)
    # The last record, if a crash has cut it off: its file and the range of its bytes.
    torn: tuple[Path, int, int] | None = None
    # What is wrong with the log; a server refuses to start then.
    damage: CorruptRecord | None = None
    # Why log and snapshot do not fit together.
    contradiction: Unrecoverable | None = None
    # What a server would begin with; None if it would not.
    recovered: Recovered | None = None


def inspect(config: StorageConfig) -> Inspection:
    """Read the storage. Raises OSError, FileNotFoundError if a file is removed meanwhile."""
    files = DiskFiles()
    found = Inspection(in_use=_is_locked(config.directory) or _is_locked(config.wal_path))
    found.unfinished = sorted(
        path
        for directory in (config.snapshot_path, config.wal_path)
        for path in files.list_directory(directory)
        # The log has a spare file at any time.
        if path.suffix == TEMPORARY and path.name != SPARE
    )
    snapshots = Snapshots(files, config.snapshot_path)
    for path in snapshots.list_files():
        try:
            meta = verify(files, path)
            if snapshots.path(meta) != path:
                raise CorruptRecord(str(path), 0, f"the snapshot of {meta.id}")
            found.snapshots.append(meta)
        except CorruptRecord as error:
            found.broken.append(error)
    found.segments = list_segments(files, config.wal_path)
    if found.segments:
        _inspect_log(files, found)
    return found


@contextmanager
def hold(config: StorageConfig) -> Iterator[None]:
    """Keep every server away from the storage meanwhile.

    Raises RaftError if one has it, and OSError. `inspect` finds it in use then, by us.
    """
    locks = lock(DiskFiles(), config)
    try:
        yield
    finally:
        unlock(locks)


def read_newest_snapshot(config: StorageConfig, meta: SnapshotMeta) -> Iterator[bytes]:
    """Return the chunks of a snapshot that `inspect` found. Raises CorruptRecord or OSError."""
    return read_snapshot(Snapshots(DiskFiles(), config.snapshot_path).path(meta))[1]


def cut(config: StorageConfig, damage: CorruptRecord, aside: Path) -> list[Path]:
    """End the log before the damage; return what was put `aside`, a directory to be made.

    To be called while the storage is held. Raises OSError, and CorruptRecord when nothing of the
    log would be left.
    """
    segments = list_segments(DiskFiles(), config.wal_path)
    at = next(i for i, segment in enumerate(segments) if str(segment.path) == damage.path)
    keep = damage.offset >= _records_begin(segments[at].path)
    if not keep and at == 0:
        raise damage
    aside.mkdir(mode=0o700, parents=True)
    kept = []
    for segment in segments[at:]:
        kept.append(aside / segment.path.name)
        shutil.copyfile(segment.path, kept[-1])
        _flush(kept[-1])
    _flush(aside)
    # The last ones first: a gap would make what is before it useless.
    for segment in reversed(segments[at + keep :]):
        segment.path.unlink()
        _flush(config.wal_path)
    if keep:
        _zero(segments[at].path, damage.offset)
    return kept


def set_aside(config: StorageConfig, broken: CorruptRecord) -> Path:
    """Give a broken snapshot another name, as a start does. Raises OSError."""
    path = Path(broken.path)
    target = path.with_name(path.name + BROKEN)
    path.rename(target)
    _flush(config.snapshot_path)
    return target


def _inspect_log(files: DiskFiles, found: Inspection) -> None:
    newest = found.snapshots[0] if found.snapshots else None
    try:
        image, reader = load(files, found.segments, newest.index if newest is not None else 0)
        torn = reader.find_torn()
    except CorruptRecord as error:
        found.damage = error
        return
    if torn is not None:
        found.torn = (Path(reader.path), *torn)
    try:
        found.recovered, _ = recover(image, newest, reader.head.metadata)
    except Unrecoverable as error:
        found.contradiction = error


def _is_locked(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody has ever had it, or we may not know
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _records_begin(path: Path) -> int:
    """Where the records of a segment begin; beyond its end if its head can't be read."""
    data = path.read_bytes()
    try:
        return Reader(data, str(path)).end
    except CorruptRecord:
        return len(data) + 1


def _zero(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(offset)
        while (left := size - file.tell()) > 0:
            file.write(bytes(min(left, _COPY_BYTES)))
        file.flush()
        os.fdatasync(file.fileno())


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
