"""Leader: extends the log, sends it to everybody, commits what a quorum holds (thesis 3.5, 3.6).

Relies on core to have matched the term of every envelope and to answer requests for votes. Entries
and commit indexes are sent by `flush`, once for everything that happened since the last one. The
leader counts itself only by its own AppendResponse, which core queues behind the disk write
(thesis 10.2.1).
"""

from typing import Final, assert_never

from raft.confchange import ConfigChange, apply_change, decode_change, encode_change
from raft.entry import CONFIG, NOOP, NORMAL, Entry
from raft.errors import ProposalDropped
from raft.handover import Handover
from raft.interfaces import ReadState
from raft.log import ENTRY_OVERHEAD
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVote,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    TimeoutNow,
    Vote,
    VoteResponse,
)
from raft.progress import Progress, ProgressState
from raft.quorum import has_quorum, joint_committed_index
from raft.read_index import ReadQueue
from raft.state import (
    CHANGE_PENDING,
    LOG_FULL,
    NO_ROOM,
    TERM_TOO_YOUNG,
    FollowerStatus,
    State,
    StepDown,
    Transition,
)

_LEAVE_JOINT: Final = encode_change(ConfigChange(()))


class Leader:
    """The one server that may append to the log in this term.

    Invariants:
      1. There is a `Progress` for every server of the configuration, and for no other.
      2. No configuration change is appended before the one at `pending_config_index` is applied.
      3. Reads wait in `held_reads` until an entry of this term is committed, and only so long.
    """

    __slots__ = (
        "_nudged",
        "_ticks",
        "first_index",
        "flush_wanted",
        "handover",
        "held_reads",
        "pending_config_index",
        "progress",
        "reads",
        "state",
        "uncommitted_bytes",
    )

    def __init__(self, state: State) -> None:
        """Take office: append the no-op which lets older entries commit (thesis 3.6.2, 6.4)."""
        self.state = state
        log = state.log
        # Sorted, and never reordered: messages leave in the order of ids, for determinism.
        self.progress = {
            server_id: self._new_progress(log.last_index + 1)
            for server_id in state.configuration.servers
        }
        self.first_index = log.last_index + 1
        # Also an inherited change must be applied before the next, and the no-op committed: else
        # a change unknown to us may be committed by a quorum that ours does not meet (thesis 4.1,
        # as corrected on raft-dev in 2015).
        self.pending_config_index = self.first_index
        log.append([Entry(self.first_index, state.term, NOOP, b"")])
        self.uncommitted_bytes = log.size_since(log.commit_index)
        self.reads = ReadQueue()
        # (requester, context) of reads that came too early to be given an index (thesis 6.4).
        self.held_reads: list[(tuple[int, int])] = []
        self.handover = Handover(state)
        self._ticks = 0
        # Whether `flush` might send anything.
        self.flush_wanted = True
        # Have answered a heartbeat and miss entries: are sent an Append, even an empty one, whose
        # rejection tells whether something was lost.
        self._nudged: set[int] = set()

    # ------------------------------------------------------------------------------- inputs

    def tick(self) -> Transition | None:
        """Let one tick pass: heartbeats, and whether a quorum still answers (thesis 6.2)."""
        config = self.state.config
        self._ticks += 1
        self.handover.tick(self._ticks)
        if self._ticks % config.election_ticks == 0 and not self._check_quorum():
            return StepDown("a quorum is not active")
        if self._ticks % config.heartbeat_ticks == 0:
            self._send_heartbeats()
            if self.handover.leaving or self.state.log.is_full:
                self.handover.find_successor(self.progress)
        return None

    def step(self, envelope: Envelope) -> Transition | None:
        """Handle one message of the current term."""
        sender = envelope.sender
        match envelope.message:
            case AppendResponse(match_index=match_index):
                self._acknowledged(sender, match_index)
            case HeartbeatResponse(read_round=read_round):
                self._heartbeat_answered(sender, read_round)
            case AppendReject() as reject:
                self._rejected(sender, reject)
            case Propose(proposals=proposals):
                self._take_proposals(sender, proposals)
            case ReadIndex(context=context):
                self._add_read(sender, context)
            case Append() | CommitTo() | Heartbeat() | InstallSnapshot():
                # At most one leader can be elected in a term (thesis 3.4).
                self.state.logger.error(
                    "%x ignored a message of %x, which claims to lead term %d too",
                    *(self.state.config.server_id, sender, self.state.term),
                )
            case VoteResponse() | PreVoteResponse() | TimeoutNow():
                pass  # late: the election is won
            case ReadIndexResponse():
                pass  # this term has no other leader that we could have asked
            case PreVote() | Vote() | ProposeReject():
                raise AssertionError(f"core handles {envelope.message} for all roles")
            case unreachable:
                assert_never(unreachable)
        return None

    def propose(self, data: bytes) -> None:
        """Append a proposal to the log. Raises ProposalDropped."""
        self._append(NORMAL, data)

    def propose_config(self, data: bytes) -> None:
        """Append an encoded configuration change. Raises ProposalDropped."""
        state = self.state
        applied_index = state.log.applied_index
        if applied_index < self.first_index:
            raise ProposalDropped(TERM_TOO_YOUNG)
        if applied_index < self.pending_config_index:
            raise ProposalDropped(CHANGE_PENDING)
        try:
            apply_change(state.configuration, decode_change(data))
        except ValueError as error:
            raise ProposalDropped(str(error)) from error
        self._append(CONFIG, data)
        self.pending_config_index = state.log.last_index

    def read_index(self, context: int) -> None:
        """Find out an index that a read of our own may rely on."""
        self._add_read(self.state.config.server_id, context)

    def transfer(self, transferee: int) -> None:
        """Begin to hand over to `transferee` (thesis 3.10). Raises ProposalDropped."""
        if self.handover.begin(transferee, self._ticks):
            self.handover.matched(transferee, self.progress[transferee].match_index)

    def unreachable(self, server_id: int) -> None:
        """Note that a message to this server was lost."""
        progress = self.progress.get(server_id)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe()
            self.flush_wanted = True

    def reachable(self, server_id: int) -> None:
        """Let this server hear now who leads, as whatever was sent to it before was lost.

        Its answer brings what it lacks, if it is still probed.
        """
        progress = self.progress.get(server_id)
        if progress is not None:
            self._send_heartbeat(server_id, progress, self.reads.round)

    def snapshot_reported(self, server_id: int, *, delivered: bool) -> None:
        """Note what became of the snapshot that was sent to this server."""
        progress = self.progress.get(server_id)
        if progress is not None:
            progress.snapshot_reported(delivered=delivered)

    def applied(self) -> None:
        """Leave a joint configuration as soon as it is in force everywhere it must be."""
        state = self.state
        if state.configuration.voters_outgoing:
            if self.pending_config_index <= state.log.applied_index:
                entry = Entry(state.log.last_index + 1, state.term, CONFIG, _LEAVE_JOINT)
                state.log.append([entry])
                self.pending_config_index = entry.index
                self.uncommitted_bytes += len(entry.data) + ENTRY_OVERHEAD
                self.flush_wanted = True

    def configured(self) -> None:
        """Adapt to the configuration that has come into force."""
        state = self.state
        known = self.progress
        self.progress = {}
        for server_id in state.configuration.servers:
            progress = known.get(server_id)
            if progress is None:
                progress = self._new_progress(state.log.last_index + 1)
                # It must be given the time to answer before it counts as silent.
                progress.recent_active = True
            self.progress[server_id] = progress
        for server_id in sorted(known.keys() - self.progress.keys() - {state.config.server_id}):
            self._say_farewell(server_id, known[server_id])
        self.handover.configured()
        # A smaller quorum may hold, or have confirmed, more than the one before.
        self._advance_commit()
        self._confirm_reads()
        self.flush_wanted = True

    # ------------------------------------------------------------------------------ outputs

    def describe_followers(self) -> dict[int, FollowerStatus]:
        """Return where every other server stands."""
        return {
            server_id: FollowerStatus.of(progress)
            for server_id, progress in self.progress.items()
            if server_id != self.state.config.server_id
        }

    def flush(self) -> None:
        """Send every follower what it lacks: entries, the commit index, or the round of reads."""
        if not self.flush_wanted:
            return
        self.flush_wanted = False
        if self.reads.needs_heartbeat:
            self._send_heartbeats()
            self._confirm_reads()  # alone, no answer is needed
        own = self.state.config.server_id
        # Followers that are equally far share one message, so that it can be encoded once.
        shared: dict[int, Append] = {}
        for server_id, progress in self.progress.items():
            if server_id != own and not progress.is_paused():
                self._send_log(server_id, progress, shared)
        self._nudged.clear()

    # -------------------------------------------------------------------------------- parts

    def _new_progress(self, next_index: int) -> Progress:
        config = self.state.config
        return Progress(next_index, config.max_inflight_messages, config.max_inflight_bytes)

    def _append(self, kind: int, data: bytes) -> None:
        if self.state.log.is_full and kind == NORMAL:
            raise ProposalDropped(NO_ROOM)
        handover = self.handover
        if handover.transferee or handover.leaving:
            raise ProposalDropped(handover.refusal())
        state = self.state
        before = self.uncommitted_bytes
        after = before + len(data) + ENTRY_OVERHEAD
        # A single proposal is taken however large, or it never would be.
        if after > state.config.max_uncommitted_bytes and before > 0:
            raise ProposalDropped(LOG_FULL)
        self.uncommitted_bytes = after
        log = state.log
        log.append((Entry(log.last_index + 1, state.term, kind, data),))
        self.flush_wanted = True

    def _take_proposals(self, proposer: int, proposals: list[tuple[int, bytes]]) -> None:
        refused: dict[str, list[tuple[int, bytes]]] = {}
        for kind, data in proposals:
            try:
                if kind == NORMAL:
                    self._append(NORMAL, data)
                elif kind == CONFIG:
                    self.propose_config(data)
                else:
                    raise ProposalDropped(f"{kind} is no kind of proposal")
            except ProposalDropped as error:
                refused.setdefault(error.reason, []).append((kind, data))
        for reason, dropped in refused.items():
            self.state.refuse(proposer, dropped, reason)

    def _send_log(self, server_id: int, progress: Progress, shared: dict[int, Append]) -> None:
        """Send Appends until the follower has been sent everything, or must answer first."""
        log = self.state.log
        # A probe is sent even if empty: where the logs agree is what it is to find out.
        is_due = progress.state is ProgressState.PROBE or server_id in self._nudged
        while not progress.is_paused():
            next_index = progress.next_index
            if next_index > log.last_index:
                if not is_due:
                    self._send_commit(server_id, progress)
                    return
            elif next_index <= log.base.index:
                self._send_snapshot(server_id, progress)
                return
            is_due = False
            if progress.inflight_full:
                # Everything in flight may be lost: without an empty Append nobody would notice.
                append = self._make_append(next_index, with_entries=False)
            else:
                found = shared.get(next_index)
                append = found or self._make_append(next_index, with_entries=True)
                shared[next_index] = append
            self.state.send(server_id, append)
            last_index = append.prev_index + len(append.entries)
            size_bytes = log.size_since(append.prev_index) - log.size_since(last_index)
            progress.sent_entries(last_index, size_bytes)
            progress.sent_commit = append.commit

    def _send_commit(self, server_id: int, progress: Progress) -> None:
        """Tell the commit index to a follower that has been sent all entries.

        One that has not acknowledged so much is told when it does: its answer is on its way.
        """
        commit_index = self.state.log.commit_index
        if progress.sent_commit < commit_index <= progress.match_index:
            self.state.send(server_id, CommitTo(commit_index))
            progress.sent_commit = commit_index

    def _make_append(self, next_index: int, *, with_entries: bool) -> Append:
        log = self.state.log
        max_bytes = self.state.config.max_append_bytes
        entries = log.slice(next_index, max_bytes) if with_entries else []
        return Append(next_index - 1, log.term(next_index - 1), log.commit_index, entries)

    def _say_farewell(self, server_id: int, progress: Progress) -> None:
        """Tell a server that has left that it has: nobody sends it anything after this."""
        is_compacted = progress.next_index <= self.state.log.base.index
        if progress.state is ProgressState.REPLICATE and not is_compacted:
            self.state.send(server_id, self._make_append(progress.next_index, with_entries=False))

    def _send_snapshot(self, server_id: int, progress: Progress) -> None:
        state = self.state
        if not progress.recent_active:
            return  # a snapshot is too much to send to somebody who is perhaps not there
        meta = state.snapshot
        assert meta is not None, f"log begins at {state.log.first_index} without a snapshot"
        state.logger.info(
            "%x sends snapshot %s to %x, which needs entry %d; the log begins at %d",
            *(state.config.server_id, meta.id, server_id, progress.next_index),
            state.log.first_index,
        )
        progress.become_snapshot(meta.index)
        state.send(server_id, InstallSnapshot(meta))

    def _send_heartbeats(self) -> None:
        own = self.state.config.server_id
        read_round = self.reads.begin_round()
        for server_id, progress in self.progress.items():
            if server_id != own:
                self._send_heartbeat(server_id, progress, read_round)

    def _send_heartbeat(self, server_id: int, progress: Progress, read_round: int) -> None:
        state = self.state
        # Never beyond what the follower is known to hold: the rest may not match.
        commit = min(state.log.commit_index, progress.match_index)
        state.send(server_id, Heartbeat(commit, read_round))

    def _acknowledged(self, server_id: int, match_index: int) -> None:
        progress = self.progress.get(server_id)
        log = self.state.log
        if progress is None:
            return  # removed meanwhile
        if match_index > log.last_index:
            self.state.logger.error(
                "%x ignored that %x acknowledges entry %d; the log ends at %d",
                *(self.state.config.server_id, server_id, match_index, log.last_index),
            )
            return
        progress.recent_active = True
        progress.acknowledged(match_index)
        if match_index > log.commit_index:
            self._advance_commit()
        if server_id == self.state.config.server_id:
            return
        if progress.next_index <= log.last_index or progress.sent_commit < log.commit_index:
            self.flush_wanted = True
        self.handover.matched(server_id, match_index)

    def _rejected(self, server_id: int, reject: AppendReject) -> None:
        progress = self.progress.get(server_id)
        if progress is None:
            return
        progress.recent_active = True
        # Skip all of our entries that cannot be in the follower's log either (thesis 3.5).
        hint = self.state.log.find_hint(reject.hint_index, reject.hint_term)
        if progress.rejected(reject.rejected_index, hint.index + 1):
            self.flush_wanted = True

    def _heartbeat_answered(self, server_id: int, read_round: int) -> None:
        progress = self.progress.get(server_id)
        if progress is None:
            return
        progress.heartbeat_answered()
        is_probed = progress.state is ProgressState.PROBE
        if is_probed or progress.match_index < self.state.log.last_index:
            self._nudged.add(server_id)
            self.flush_wanted = True
        self.reads.acknowledged(server_id, read_round)
        self._confirm_reads()

    def _match_index(self, server_id: int) -> int:
        return self.progress[server_id].match_index

    def _advance_commit(self) -> None:
        """Commit what a quorum holds, if that includes an entry of our term (thesis 3.6.2)."""
        state = self.state
        log = state.log
        raft_index = joint_committed_index(state.configuration, self._match_index)
        if raft_index > log.commit_index and log.term(raft_index) == state.term:
            log.commit_to(raft_index)
            self.uncommitted_bytes = log.size_since(raft_index)
            self.flush_wanted = True
            held, self.held_reads = self.held_reads, []
            for requester, context in held:
                self.reads.add(requester, context, raft_index)

    def _add_read(self, requester: int, context: int) -> None:
        commit_index = self.state.log.commit_index
        if commit_index < self.first_index:
            # Entries of earlier terms may be committed without our knowing it (thesis 6.4).
            self.held_reads.append((requester, context))
        else:
            self.reads.add(requester, context, commit_index)
            self.flush_wanted = True

    def _confirm_reads(self) -> None:
        state = self.state
        own = state.config.server_id
        for read in self.reads.take_confirmed(state.configuration, own):
            if read.requester == own:
                state.reads.append(ReadState(read.context, read.read_index))
            else:
                state.send(read.requester, ReadIndexResponse(read.context, read.read_index))

    def _check_quorum(self) -> bool:
        """Whether a quorum was heard from since the last time this was asked."""
        state = self.state
        own = state.config.server_id
        active = {own}
        for server_id, progress in self.progress.items():
            if progress.recent_active:
                active.add(server_id)
                progress.recent_active = False
        return has_quorum(state.configuration, active) or not state.config.check_quorum
