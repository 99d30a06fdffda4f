"""The mutants of the log and of reads."""

from typing import Final

from tests.mutants.patch import CONTESTED, mutant

CORE: Final = "raft.core:Core."
STATE: Final = "raft.state:"
FOLLOWER: Final = "raft.follower:Follower."
LEADER: Final = "raft.leader:Leader."
LOG: Final = "raft.log:Log."
DRIVER: Final = "raft.driver:Driver."

REPLICATION: Final = (
    mutant(
        "M14",
        "entries of older terms are committed by counting",
        (LEADER + "_advance_commit", " and log.term(raft_index) == state.term", ""),
        killer=CONTESTED,
    ),
    mutant(
        "M15",
        "an append that was overtaken cuts off what came after it",
        (LOG + "merge", "entries = entries[self._count_known(entries) :]", "pass"),
    ),
    mutant(
        "M16",
        "the term of the entry before is not compared",
        (
            FOLLOWER + "_append",
            "not log.matches(prev_index, prev_term)",
            "prev_index > log.last_index",
        ),
        killer=CONTESTED,
    ),
    mutant(
        "M17",
        "a follower commits what it does not know to match",
        (
            FOLLOWER + "_append",
            "min(message.commit, last_new_index)",
            "min(message.commit, log.last_index)",
        ),
    ),
    mutant(
        "M17b",
        "a heartbeat commits what the follower is not known to hold",
        (
            LEADER + "_send_heartbeat",
            "min(state.log.commit_index, progress.match_index)",
            "state.log.commit_index",
        ),
    ),
    mutant(
        "M18",
        "the match index goes back",
        ("raft.progress:Progress.acknowledged", "if match_index < self.match_index:", "if False:"),
    ),
    mutant(
        "M19",
        "an append is acknowledged before it is on disk",
        (
            STATE + "State.promise_match",
            "self.promise(leader, AppendResponse(match_index))",
            "self.send(leader, AppendResponse(match_index))",
        ),
    ),
    mutant(
        "M20",
        "a leader counts itself before its own disk has",
        (
            LEADER + "_match_index",
            "return self.progress[server_id].match_index",
            "return self.state.log.last_index if server_id == self.state.config.server_id "
            "else self.progress[server_id].match_index",
        ),
    ),
    mutant(
        "M21",
        "a failed write is taken for a success",
        (
            "raft.wal:Wal.write",
            "    self._files.write_durably(self._descriptor, self._whole_pages(record), offset)",
            "    try:\n        self._files.write_durably("
            "self._descriptor, self._whole_pages(record), offset)\n"
            "    except OSError:\n        pass",
        ),
    ),
    mutant(
        "M22",
        "a new leader appends no entry of its own",
        (
            LEADER + "__init__",
            '    log.append([Entry(self.first_index, state.term, NOOP, b"")])\n',
            "",
        ),
    ),
    mutant(
        "M23",
        "a rejection does not move the leader back",
        (
            "raft.progress:Progress.rejected",
            "self.next_index = max(self.match_index + 1, min(rejected_index, hint_next))",
            "pass",
        ),
    ),
    mutant(
        "M24",
        "entries are applied before they are committed",
        (LOG + "committed_slice", "min(self.commit_index, self.stable_index)", "self.stable_index"),
    ),
    mutant(
        "M24b",
        "entries are applied twice",
        (CORE + "_may_apply", "self._handed_index <= log.applied_index and", ""),
        (
            DRIVER + "_apply",
            "self.core.applied(entries[-1].index)",
            "self.core.applied(max(entries[0].index - 1, self.core.applied_index) or 1)",
        ),
    ),
    mutant(
        "M25",
        "a proposal is passed on twice",
        (
            STATE + "State.send_forwards",
            "        batch_bytes += size_bytes\n    self.send(self.leader, Propose(batch))",
            "        batch_bytes += size_bytes\n"
            "    self.send(self.leader, Propose(batch)); self.send(self.leader, Propose(batch))",
        ),
    ),
    mutant(
        "M27",
        "what is not committed grows without bound",
        (LEADER + "_append", "after > state.config.max_uncommitted_bytes and before > 0", "False"),
    ),
)

READS: Final = (
    mutant(
        "M45",
        "reads are served without asking whether we still lead",
        (
            LEADER + "_add_read",
            "self.reads.add(requester, context, commit_index)",
            "self.state.reads.append(ReadState(context, commit_index)) "
            "if requester == self.state.config.server_id "
            "else self.state.send(requester, ReadIndexResponse(context, commit_index))",
        ),
    ),
    mutant(
        "M45b",
        "a read is confirmed by a round that began before it",
        ("raft.read_index:ReadQueue.add", "self.round + 1", "self.round"),
    ),
    mutant(
        "M46",
        "a read index is given before an entry of the term is committed",
        (LEADER + "_add_read", "if commit_index < self.first_index:", "if False:"),
    ),
    mutant(
        "M47",
        "a read asked again takes the answer to the first question",
        (
            DRIVER + "_age_reads",
            "self._new_reads.extend(reads)",
            "self._new_reads.extend(reads); self._next_context -= 1",
        ),
    ),
    mutant(
        "M48",
        "a read is served before what it must see is applied",
        (DRIVER + "_serve_reads", "if read_index <= applied_index:", "if True:"),
    ),
)
