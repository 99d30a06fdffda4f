"""The dumps in docs/wal-format.md are files of this very format."""

import re
from pathlib import Path

from raft.entry import Configuration, HardState, SnapshotMeta
from raft.files import DiskFiles
from raft.snapshots import verify
from raft.wal import Wal
from tests.raft.crash_files import UnflushedFiles


def documented(number: int) -> bytes:
    """The bytes of one of the dumps in docs/wal-format.md."""
    text = (Path(__file__).parents[2] / "docs/wal-format.md").read_text()
    dumps = re.findall(r"(?:^    [0-9a-f]{4}  [0-9a-f]{2} .*\n)+", text, re.MULTILINE)
    return b"".join(bytes.fromhex(line[10:57]) for line in dumps[number].splitlines())


def test_documented_log_is_read(tmp_path: Path) -> None:
    """The dump is one of this very format."""
    head = documented(0)
    path = tmp_path / "0000000000000001-0000000000000001.wal"
    path.write_bytes(head + bytes(8192 - len(head)))
    wal, image, metadata = Wal.open(UnflushedFiles(), tmp_path, 0)
    wal.close()
    assert metadata == b"member 1"
    assert image.hard_state == HardState(1, 1, 1)
    assert [entry.data for entry in image.entries] == [b"", b"hello", b"world"]


def test_documented_snapshot_is_read(tmp_path: Path) -> None:
    """And so is this one."""
    path = tmp_path / "0000000000000001-0000000000000002.snap"
    path.write_bytes(documented(1))
    assert verify(DiskFiles(), path) == SnapshotMeta(2, 1, Configuration(voters=(1,)))
