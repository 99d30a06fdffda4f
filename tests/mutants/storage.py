"""The mutants of the disk and of snapshots."""

from typing import Final

from tests.mutants.patch import FLIPPED, mutant

CORE: Final = "raft.core:Core."
FOLLOWER: Final = "raft.follower:Follower."
LOG: Final = "raft.log:Log."
DRIVER: Final = "raft.driver:Driver."

STORAGE: Final = (
    mutant(
        "M28",
        "a snapshot leaves the old entries in the log",
        (LOG + "restore", "self._entries.clear()", "pass"),
    ),
    mutant(
        "M28b",
        "a snapshot's configuration is not taken over",
        (FOLLOWER + "_install_snapshot", "state.configuration = meta.configuration", "pass"),
    ),
    mutant(
        "M28c",
        "a snapshot is not marked in the log on disk",
        (
            CORE + "_make_write",
            "entries, state.unwritten_snapshot, state.promises)",
            "entries, None, state.promises)",
        ),
        (
            CORE + "written",
            "if write.snapshot is not None:",
            "if self._state.restoring is not None:",
        ),
        (CORE + "written", "= write.snapshot", "= self._state.restoring"),
    ),
    mutant(
        "M65",
        "a full follower acknowledges entries that it does not take",
        (
            FOLLOWER + "_append",
            "        return\n    if not _is",
            "        return state.promise_match(leader, prev_index + len(entries))\n    if not _is",
        ),
    ),
    mutant(
        "M29",
        "installing a snapshot does not replace the state",
        (
            DRIVER + "_restore",
            "self._machine.restore(meta, self._storage.read_snapshot(meta))",
            "self._machine._index = meta.index",
        ),
    ),
    mutant(
        "M30",
        "a snapshot older than what is committed is installed",
        (FOLLOWER + "_install_snapshot", "if meta.index <= log.commit_index:", "if False:"),
        (FOLLOWER + "_install_snapshot", "elif log.matches(meta.index, meta.term):", "elif False:"),
        (LOG + "restore", "assert base.index > self.commit_index", "assert True"),
    ),
    mutant(
        "M31",
        "a snapshot gets its name before it is flushed",
        (
            "raft.snapshots:_NewFile.commit",
            "    self._files.flush(self._descriptor)\n    self._files.rename(self.path, path)",
            "    self._files.rename(self.path, path)",
        ),
    ),
    mutant(
        "M32",
        "the log is purged up to a snapshot that is not durable",
        (
            "raft.sim.storage:TimedStorage._begin_snapshot",
            "self._draw_chunk(",
            "self.disk.wal.purge(meta.index, 1); self._draw_chunk(",
        ),
    ),
    mutant(
        "M33",
        "a damaged record at the end is cut off like a torn one",
        (
            "raft.segment:Reader._check_torn_payload",
            "if not self._has_lost_sector(stop):",
            "if False:",
        ),
    ),
    mutant(
        "M33d",
        "zeros of a user's look like a lost sector",
        ("raft.segment:encode_record", "_LOST_SECTOR in payload", "False"),
        killer=FLIPPED,
    ),
    mutant(
        "M33b",
        "damage in the middle of the log is cut off with all that follows",
        ("raft.segment:Reader.find_torn", "        self._check_torn_payload()", "        pass"),
        ("raft.segment:Reader.find_torn", "        self._check_torn_head(dirty)", "        pass"),
        (
            "raft.segment:Reader.check_ends_clean",
            "if not self._is_zero_from(self.end):",
            "if False:",
        ),
    ),
    mutant(
        "M33c",
        "the crc of a record is not compared",
        ("raft.segment:Reader.read", "crc32(payload, head_crc) != payload_crc", "False"),
    ),
    mutant(
        "M35",
        "a snapshot's directory is not flushed after the rename",
        ("raft.snapshots:_NewFile.commit", "self._files.flush_directory(path.parent)", "pass"),
    ),
    mutant(
        "M35b",
        "the log's directory is not flushed after a rename",
        ("raft.wal:Wal._begin_segment", "self._files.flush_directory(self._directory)", "pass"),
    ),
    mutant(
        "M35c",
        "a write to the log is not flushed",
        ("raft.wal:Wal.write", "self._files.write_durably(", "self._files.write("),
    ),
    mutant(
        "M35d",
        "a ring's write to the log is not flushed",
        ("raft.ring:Ring.__init__", "os.RWF_DSYNC", "0"),
        killer="tests/raft/test_ring.py",
    ),
    mutant(
        "M35e",
        "a ring's write counts as durable when it is begun",
        (
            "raft.loop_storage:LoopStorage._write_by_ring",
            "if self._wal.finish():",
            "if True:",
        ),
        killer="tests/raft/test_loop_storage.py",
    ),
    mutant(
        "M35f",
        "what a page of the log holds already is not written with it again",
        ("raft.wal:Wal._whole_pages", "self._tail + record", "bytes(len(self._tail)) + record"),
    ),
    mutant(
        "M35g",
        "a log that is opened forgets what its last page holds",
        (
            "raft.wal:Wal._continue",
            "self._tail = reader.before_end(PAGE)",
            "self._tail = bytes(reader.end % PAGE)",
        ),
    ),
    mutant(
        "M37",
        "a second snapshot is taken while the first is being restored",
        (FOLLOWER + "_install_snapshot", "elif state.restoring is not None:", "elif False:"),
    ),
)
