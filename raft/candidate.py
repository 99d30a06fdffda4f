"""Candidate: one attempt to be elected in one term, or to learn whether it could be (thesis 9.6).

Relies on core to have matched the term of every envelope and to answer requests for votes. Never
touches the log.
"""

from dataclasses import dataclass, field
from typing import assert_never

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
from raft.quorum import VoteResult, vote_result
from raft.state import NOT_LEADER, Campaign, Follow, State, StepDown, Transition, Win, no_leader


@dataclass(slots=True)
class Candidate:
    """A server that asks for votes, or for pre-votes.

    Invariants:
      1. Only answers to this attempt are counted, one for each server.
      2. The votes decide nothing yet: the moment they do, the role is left.
    """

    state: State
    pre_vote: bool
    timeout_ticks: int
    elapsed_ticks: int = 0
    votes: dict[int, bool] = field(default_factory=dict)

    def canvass(self, *, transfer: bool) -> Transition | None:
        """Ask everybody for a vote, ourselves included."""
        state = self.state
        own, configuration, log = state.config.server_id, state.configuration, state.log
        for voter in sorted({*configuration.voters, *configuration.voters_outgoing} - {own}):
            if self.pre_vote:
                # The only request in a term that nobody has entered (thesis 9.6).
                message = PreVote(log.last_index, log.last_term)
                state.messages.append(Envelope(own, voter, state.term + 1, message))
            else:
                # Waits for the disk. After a crash that forgets this term we might campaign in it
                # once more, with entries lost meanwhile, and must not count the votes that were
                # granted to the longer log.
                state.promise(voter, Vote(log.last_index, log.last_term, transfer))
        if self.pre_vote:
            return self._count(own, granted=True)
        state.promise(own, VoteResponse(granted=True))
        return None

    def tick(self) -> Transition | None:
        """Let one tick pass; ask for another attempt when this one has taken too long."""
        self.elapsed_ticks += 1
        if self.elapsed_ticks < self.timeout_ticks:
            return None
        return Campaign(pre_vote=self.state.config.pre_vote)

    def step(self, envelope: Envelope) -> Transition | None:
        """Handle one message of the current term, or a granted pre-vote."""
        state = self.state
        match envelope.message:
            case VoteResponse(granted=granted):
                if not self.pre_vote:
                    return self._count(envelope.sender, granted=granted)
            case PreVoteResponse(granted=granted):
                # A grant carries the term that was asked about: others are of earlier attempts.
                asked_term = state.term + 1 if granted else state.term
                if self.pre_vote and envelope.term == asked_term:
                    return self._count(envelope.sender, granted=granted)
            case Append() | CommitTo() | Heartbeat() | InstallSnapshot():
                # Somebody else is the leader (thesis 3.4).
                return Follow(envelope.sender)
            case Propose(proposals=proposals):
                state.refuse(envelope.sender, proposals, NOT_LEADER)
            case ReadIndexResponse(context=context, read_index=read_index):
                # Asked for before this campaign, and confirmed by a leader all the same.
                state.reads.append(ReadState(context, read_index))
            case TimeoutNow() | ReadIndex():
                pass  # we campaign already; the asker asks again
            case AppendResponse() | AppendReject() | HeartbeatResponse():
                pass  # nobody answers a candidate
            case PreVote() | Vote() | ProposeReject():
                raise AssertionError(f"core handles {envelope.message} for all roles")
            case unreachable:
                assert_never(unreachable)
        return None

    def propose(self, _data: bytes) -> None:
        """Raise ProposalDropped: there is no leader."""
        raise no_leader()

    def propose_config(self, _data: bytes) -> None:
        """Raise ProposalDropped: there is no leader."""
        raise no_leader()

    def read_index(self, _context: int) -> None:
        """Raise ProposalDropped: there is no leader."""
        raise no_leader()

    def _count(self, voter: int, *, granted: bool) -> Transition | None:
        state = self.state
        # The first answer of each stands: a repeated one is not a second vote.
        self.votes.setdefault(voter, granted)
        answers = self.votes.values()
        state.logger.info(
            "%x has received %d %s and %d refusals at term %d",
            *(state.config.server_id, sum(answers), "pre-votes" if self.pre_vote else "votes"),
            *(len(answers) - sum(answers), state.term),
        )
        match vote_result(state.configuration, self.votes):
            case VoteResult.WON:
                return Campaign(pre_vote=False) if self.pre_vote else Win()
            case VoteResult.LOST:
                return StepDown("the election is lost")
            case VoteResult.PENDING:
                return None
            case unreachable:
                assert_never(unreachable)
