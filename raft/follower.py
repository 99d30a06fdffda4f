"""Follower: takes the leader's log, and campaigns when the leader falls silent (thesis 3.4, 3.5).

Relies on core to have matched the term of every envelope and to answer requests for votes. Learners
and servers outside the configuration are followers too; they never campaign.
"""

from dataclasses import dataclass
from typing import Final, assert_never

from raft.entry import CONFIG, NORMAL, Entry
from raft.errors import LogLost, ProposalDropped
from raft.interfaces import ReadState
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
from raft.state import NO_ROOM, NOT_LEADER, Campaign, Follow, State, Transition, no_leader

# What an election takes when nothing stands in its way; the next follower in line waits as long.
LOST_LEADER_TICKS: Final = 2


@dataclass(slots=True)
class Follower:
    """A server that leads nobody and wants no votes.

    Invariants:
      1. Only messages of `state.leader` change the log.
      2. What it tells the leader to hold matches the leader's log, and is on disk by then.
    """

    state: State
    timeout_ticks: int
    # Since the leader was heard from, or a vote was granted.
    elapsed_ticks: int = 0

    def tick(self) -> Transition | None:
        """Let one tick pass; ask for an election when the leader has been silent too long."""
        state = self.state
        self.elapsed_ticks += 1
        if state.is_only_voter:
            # Nobody else can have been elected meanwhile: there is nothing to wait for or to ask.
            may_campaign = True
        else:
            may_campaign = self.elapsed_ticks >= self.timeout_ticks
        if not may_campaign or state.cannot_campaign_because():
            return None  # asked again at the next tick
        return Campaign(pre_vote=state.config.pre_vote and not state.is_only_voter)

    def lose_leader(self) -> None:
        """Campaign soon; one follower after the other, so that votes do not split."""
        state = self.state
        voters = sorted({*state.configuration.voters, *state.configuration.voters_outgoing})
        others = [voter for voter in voters if voter != state.leader]
        own = state.config.server_id
        rank = others.index(own) if own in others else len(others)
        # Who has not heard from a leader for so long does not stand in the way of an election.
        self.elapsed_ticks = max(self.elapsed_ticks, state.config.election_ticks)
        self.timeout_ticks = self.elapsed_ticks + 1 + rank * LOST_LEADER_TICKS

    def step(self, envelope: Envelope) -> Transition | None:
        """Handle one message of the current term."""
        match envelope.message:
            case (Append() | CommitTo() | Heartbeat() | InstallSnapshot()) as message:
                return self._hear(envelope.sender, message)
            case TimeoutNow():
                return self._campaign_for_transfer(envelope.sender)
            case Propose(proposals=proposals):
                self.state.refuse(envelope.sender, proposals, NOT_LEADER)
            case ReadIndexResponse(context=context, read_index=read_index):
                self.state.reads.append(ReadState(context, read_index))
            case ReadIndex():
                pass  # the asker asks again, when it knows the leader
            case AppendResponse() | AppendReject() | HeartbeatResponse():
                pass  # nobody answers a follower
            case PreVoteResponse() | VoteResponse():
                pass  # late answers to a campaign that has ended
            case PreVote() | Vote() | ProposeReject():
                raise AssertionError(f"core handles {envelope.message} for all roles")
            case unreachable:
                assert_never(unreachable)
        return None

    def propose(self, data: bytes) -> None:
        """Pass a proposal on to the leader. Raises ProposalDropped when none is known.

        Also when our disk is full: it would be decided, and this server could not tell how.
        """
        if self.state.leader == 0:
            raise no_leader()
        if self.state.log.is_full:
            raise ProposalDropped(NO_ROOM)
        self.state.forwards.append((NORMAL, data))

    def propose_config(self, data: bytes) -> None:
        """Pass a configuration change on to the leader. Raises ProposalDropped."""
        if self.state.leader == 0:
            raise no_leader()
        self.state.forwards.append((CONFIG, data))

    def read_index(self, context: int) -> None:
        """Ask the leader for a read index. Raises ProposalDropped when none is known."""
        if self.state.leader == 0:
            raise no_leader()
        self.state.send(self.state.leader, ReadIndex(context))

    def _hear(
        self, leader: int, message: Append | CommitTo | Heartbeat | InstallSnapshot
    ) -> Transition | None:
        state = self.state
        if state.leader != leader:
            if state.leader == 0:
                return Follow(leader)
            state.logger.error(
                "%x ignored a message of %x, since %x is the leader of term %d",
                *(state.config.server_id, leader, state.leader, state.term),
            )
            return None
        self.elapsed_ticks = 0
        match message:
            case Append():
                self._append(leader, message)
            case CommitTo(commit=commit):
                self._commit_to(commit)
            case Heartbeat(commit=commit, read_round=read_round):
                self._commit_to(commit)
                state.send(leader, HeartbeatResponse(read_round))
            case InstallSnapshot():
                self._install_snapshot(leader, message)
            case unreachable:
                assert_never(unreachable)
        return None

    def _append(self, leader: int, message: Append) -> None:
        state = self.state
        log = state.log
        prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
        if log.is_full and any(entry.kind == NORMAL for entry in entries):
            # As if the network had lost it: the leader goes on asking, at each heartbeat.
            return
        if not _is_consecutive(message, state.term):
            state.logger.error(
                "%x ignored a malformed append from %x", state.config.server_id, leader
            )
            return
        last_new_index = prev_index + len(entries)
        if prev_index < log.commit_index:
            # Up to there the logs agree for certain (thesis 3.6.3), also where ours is compacted.
            entries = entries[log.commit_index - prev_index :]
            last_new_index = max(last_new_index, log.commit_index)
        elif not log.matches(prev_index, prev_term):
            hint = log.find_hint(min(prev_index, log.last_index), prev_term)
            state.logger.debug(
                "%x rejected entries after %d@%d from %x; hint %s",
                *(state.config.server_id, prev_index, prev_term, leader, hint),
            )
            state.send(leader, AppendReject(prev_index, hint.index, hint.term))
            return
        if entries:
            log.merge(entries)
        # Entries of ours after these may be another leader's: not known to match (figure 3.1).
        log.commit_to(min(message.commit, last_new_index))
        state.promise_match(leader, last_new_index)

    def _commit_to(self, commit: int) -> None:
        """Commit what the leader knows this server to hold. Raises LogLost if it does not.

        A leader tells nobody to commit more than was acknowledged to it in this term.
        """
        log = self.state.log
        if commit > log.last_index:
            raise LogLost(commit, log.last_index)
        log.commit_to(commit)

    def _install_snapshot(self, leader: int, message: InstallSnapshot) -> None:
        state = self.state
        log, meta = state.log, message.meta
        if meta.term > state.term:
            state.logger.error(
                "%x ignored a malformed snapshot from %x", state.config.server_id, leader
            )
        elif meta.index <= log.commit_index:
            # Older than what we have: to restore it would undo what was applied.
            state.promise_match(leader, log.commit_index)
        elif state.restoring is not None:
            state.logger.info(
                "%x ignored snapshot %s from %x while it restores %s",
                *(state.config.server_id, meta.id, leader, state.restoring.id),
            )
        elif log.matches(meta.index, meta.term):
            # The entries are all here, and committed: they need only be applied.
            log.commit_to(meta.index)
            state.promise_match(leader, meta.index)
        else:
            state.logger.info(
                "%x [commit: %d, lastindex: %d] starts to restore snapshot [index: %d, term: %d]",
                *(state.config.server_id, log.commit_index, log.last_index, meta.index, meta.term),
            )
            # The whole log goes: what lies behind `meta` conflicts with it (thesis chapter 5).
            log.restore(meta.id)
            state.configuration = meta.configuration
            state.restoring = state.unwritten_snapshot = meta
            state.promise_match(leader, meta.index)

    def _campaign_for_transfer(self, leader: int) -> Transition | None:
        state = self.state
        if state.log.is_full:
            return None  # a leader with a full disk asks one after the other, until one can
        reason = state.cannot_campaign_because()
        if reason:
            state.logger.info(
                "%x ignored the transfer of leadership from %x: %s",
                *(state.config.server_id, leader, reason),
            )
            return None
        # No pre-vote: the others hear from the leader still and would refuse (thesis 3.10).
        return Campaign(pre_vote=False, transfer=True)


def _is_consecutive(message: Append, term: int) -> bool:
    """Whether the entries follow `prev` and one another, in terms that do not fall."""
    expected_index, last_term = message.prev_index, message.prev_term
    entry: Entry
    for entry in message.entries:
        expected_index += 1
        if entry.index != expected_index or entry.term < last_term:
            return False
        last_term = entry.term
    return last_term <= term
