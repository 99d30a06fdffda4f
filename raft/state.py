"""What all roles share: their state, the two outboxes, and the transitions they ask for.

A role decides and never changes role: its methods return a `Transition`, which `raft.core` carries
out. Messages wait in one of two outboxes: `send` for those that may leave at once, `promise` for
those that vouch for something that a crash must not undo, and so wait for the disk (thesis 3.8).
"""

import logging
import random
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from raft.entry import CONFIG, NO_ENTRY, Configuration, EntryID, SnapshotMeta
from raft.errors import ProposalDropped, RaftError
from raft.interfaces import ReadState, Recovered, Rejected
from raft.log import ENTRY_OVERHEAD, Log
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
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

# Why a proposal is dropped; texts for a person.
NO_LEADER: Final = "no leader"
NOT_LEADER: Final = "not the leader"
TRANSFERRING: Final = "leadership is being transferred"
LOG_FULL: Final = "too many proposals are not committed yet"
NO_ROOM: Final = "no space left on the disk"
LEAVING: Final = "the leader has left the cluster and waits for the next one"
TERM_TOO_YOUNG: Final = "the leader has not committed an entry of its own term yet"
CHANGE_PENDING: Final = "another configuration change is not applied yet"

_EVERYTHING: Final = 1 << 62


@dataclass(slots=True)
class CoreConfig:
    """One server's settings; a ValueError says which one makes no sense."""

    server_id: int
    # A follower campaigns after this many silent ticks, up to twice as many (thesis 3.4).
    election_ticks: int
    heartbeat_ticks: int
    # One Append or Propose carries about this much: small enough not to hold up a heartbeat.
    max_append_bytes: int = 1 << 20
    # What may be on its way to one follower before it has acknowledged any of it.
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 16 << 20
    # A leader without a quorum must not collect proposals for ever.
    max_uncommitted_bytes: int = 64 << 20
    # One `Ready.committed` holds about this much, so that applying it stays short.
    max_apply_bytes: int = 1 << 20
    pre_vote: bool = True
    check_quorum: bool = True

    def __post_init__(self) -> None:
        """Validate. Raises ValueError."""
        for name in ("server_id", "heartbeat_ticks", "max_append_bytes", "max_inflight_messages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError(
                f"election_ticks {self.election_ticks} must exceed "
                f"heartbeat_ticks {self.heartbeat_ticks}"
            )
        for name in ("max_inflight_bytes", "max_uncommitted_bytes", "max_apply_bytes"):
            if getattr(self, name) < self.max_append_bytes:
                raise ValueError(
                    f"{name} {getattr(self, name)} is below max_append_bytes "
                    f"{self.max_append_bytes}"
                )


@dataclass(slots=True)
class State:
    """One server's share of raft's state, whatever its role.

    Invariants: those numbered in `raft.invariants`.
    """

    config: CoreConfig
    random: random.Random
    logger: logging.Logger
    log: Log
    # In force: as of the last applied entry, or of the snapshot being restored.
    configuration: Configuration
    term: int
    vote: int  # in `term`; 0 when nobody has it
    # The newest durable snapshot: what a follower far behind is sent.
    snapshot: SnapshotMeta | None
    # The leader of `term`, 0 while unknown.
    leader: int = 0
    # Accepted, and not yet restored by the state machine.
    restoring: SnapshotMeta | None = None
    # The same, while it is not in a `Write` yet.
    unwritten_snapshot: SnapshotMeta | None = None
    # Leave with the next `Ready`.
    messages: list[Envelope] = field(default_factory=list)
    # Leave when everything up to this moment is on disk. All of them are of `term`.
    promises: list[Envelope] = field(default_factory=list)
    # Our own proposals on their way to the leader: one message for all of a turn.
    forwards: list[tuple[int, bytes]] = field(default_factory=list)
    reads: list[ReadState] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def is_voter(self) -> bool:
        """Whether this server counts in elections and commits."""
        configuration, own = self.configuration, self.config.server_id
        return own in configuration.voters or own in configuration.voters_outgoing

    @property
    def is_only_voter(self) -> bool:
        """Whether nobody else can be, or make, a leader."""
        configuration = self.configuration
        return configuration.voters == (self.config.server_id,) and not (
            configuration.voters_outgoing
        )

    def send(self, recipient: int, message: Message) -> None:
        """Queue a message that promises nothing."""
        self.messages.append(Envelope(self.config.server_id, recipient, self.term, message))

    def promise(self, recipient: int, message: Message) -> None:
        """Queue a message that must not leave before what it vouches for is on disk."""
        self.promises.append(Envelope(self.config.server_id, recipient, self.term, message))

    def promise_match(self, leader: int, match_index: int) -> None:
        """Queue an AppendResponse; of several that wait together only the highest is needed."""
        promises = self.promises
        if promises:
            last = promises[-1]
            if last.recipient == leader and isinstance(last.message, AppendResponse):
                promises.pop()
                match_index = max(match_index, last.message.match_index)
        self.promise(leader, AppendResponse(match_index))

    def refuse(self, proposer: int, proposals: list[tuple[int, bytes]], reason: str) -> None:
        """Send proposals back to the server that passed them on."""
        self.send(proposer, ProposeReject(reason, proposals))

    def send_forwards(self) -> None:
        """Pass our proposals on to the leader, in few messages; hand them back without one."""
        if self.leader == 0:
            self.reject_forwards()
            return
        proposals, self.forwards = self.forwards, []
        batch: list[tuple[int, bytes]] = []
        batch_bytes = 0
        for proposal in proposals:
            size_bytes = len(proposal[1]) + ENTRY_OVERHEAD
            if batch and batch_bytes + size_bytes > self.config.max_append_bytes:
                self.send(self.leader, Propose(batch))
                batch, batch_bytes = [], 0
            batch.append(proposal)
            batch_bytes += size_bytes
        self.send(self.leader, Propose(batch))

    def reject_forwards(self) -> None:
        """Hand our proposals back: there is no leader that they could be passed on to."""
        self.rejected += (Rejected(kind, data, NO_LEADER) for kind, data in self.forwards)
        self.forwards.clear()

    def answer_lower_term(self, envelope: Envelope) -> None:
        """Tell a server that is behind of our term, wherever it waits for an answer."""
        send, sender = self.send, envelope.sender
        match envelope.message:
            case Append() | CommitTo() | Heartbeat() | InstallSnapshot():
                send(sender, AppendResponse(0))
            case PreVote():
                send(sender, PreVoteResponse(False, *self.log.commit_id))
            case Vote():
                send(sender, VoteResponse(False, *self.log.commit_id))
            case Propose(proposals=proposals):
                self.refuse(sender, proposals, NOT_LEADER)
            case (
                PreVoteResponse()
                | VoteResponse()
                | TimeoutNow()
                | AppendResponse()
                | AppendReject()
                | HeartbeatResponse()
                | ProposeReject()
                | ReadIndex()
                | ReadIndexResponse()
            ):
                pass
            case unreachable:
                assert_never(unreachable)

    def take_news(
        self, sender: int, message: ProposeReject | VoteResponse | PreVoteResponse
    ) -> None:
        """Take from a message what stands whatever its term."""
        match message:
            case ProposeReject(reason=reason, proposals=proposals):
                self.rejected += (Rejected(kind, data, reason) for kind, data in proposals)
            case VoteResponse(_, index, term) | PreVoteResponse(_, index, term):
                # A leader commits all that it holds, by its own entry.
                if self.leader != self.config.server_id:
                    self._learn_commit(sender, EntryID(index, term))
            case unreachable:
                assert_never(unreachable)

    def _learn_commit(self, voter: int, entry_id: EntryID) -> None:
        """Commit up to what `voter` knows to be committed, if that is here.

        An entry of that index and term is that very entry, and all before it are the same too
        (thesis 3.5, Log Matching): no leader need say so.
        """
        log = self.log
        if log.matches(*entry_id) and log.commit_to(entry_id.index):
            self.logger.info(
                "%x learned from %x that %s is committed", self.config.server_id, voter, entry_id
            )

    def set_leader(self, leader: int) -> None:
        """Note who leads, 0 for nobody; only core may call this."""
        before, self.leader = self.leader, leader
        own, term, log = self.config.server_id, self.term, self.logger.info
        if before == leader:
            return
        if leader == 0:
            log("raft.node: %x lost leader %x at term %d", own, before, term)
        elif before == 0:
            log("raft.node: %x elected leader %x at term %d", own, leader, term)
        else:
            log("raft.node: %x changed leader from %x to %x at term %d", own, before, leader, term)

    def draw_timeout(self) -> int:
        """Return a new election timeout; different ones keep votes from splitting (thesis 3.4)."""
        return self.config.election_ticks + self.random.randrange(self.config.election_ticks)

    def cannot_campaign_because(self) -> str:
        """Say why this server must not start an election; empty when it may."""
        if not self.is_voter:
            return "it is not a voter"
        if self.restoring is not None:
            return "it is restoring a snapshot"
        # The configuration that such an entry makes is decided already: votes counted by the one
        # in force could elect a second leader beside one that is further on.
        log = self.log
        if log.applied_index < log.commit_index:
            for entry in log.slice(log.applied_index + 1, _EVERYTHING):
                if entry.index > log.commit_index:
                    break
                if entry.kind == CONFIG:
                    return f"configuration change {entry.index} is not applied yet"
        return ""


@dataclass(slots=True)
class FollowerStatus:
    """A follower, as its leader sees it."""

    match_index: int
    next_index: int
    state: ProgressState
    recent_active: bool

    @classmethod
    def of(cls, progress: Progress) -> "FollowerStatus":
        """Return what is to be shown of `progress`."""
        return cls(
            *(progress.match_index, progress.next_index),
            *(progress.state, progress.recent_active),
        )


@dataclass(slots=True)
class Status:
    """Where a server stands, for people and tests."""

    server_id: int
    term: int
    vote: int
    role: str  # "follower", "pre_candidate", "candidate" or "leader"
    leader: int
    last_index: int
    commit_index: int
    applied_index: int
    transferee: int  # 0 when no transfer is under way
    followers: dict[int, FollowerStatus] = field(default_factory=dict)  # empty but on a leader


@dataclass(slots=True)
class Campaign:
    """Start an election, or the question whether one could be won (thesis 9.6)."""

    pre_vote: bool
    # The leader asked for it, to hand over (thesis 3.10).
    transfer: bool = False


@dataclass(slots=True)
class Win:
    """A quorum has voted for us."""


@dataclass(slots=True)
class Follow:
    """This term's leader has shown itself; its message is to be stepped again as its follower."""

    leader: int


@dataclass(slots=True)
class StepDown:
    """Become a follower of nobody in the same term."""

    reason: str


Transition: TypeAlias = Campaign | Win | Follow | StepDown


def recover(
    config: CoreConfig, recovered: Recovered, random: random.Random, logger: logging.Logger
) -> State:
    """Return the state to start from. Raises RaftError when committed entries are missing."""
    snapshot, hard_state, entries = recovered.snapshot, recovered.hard_state, recovered.entries
    base = snapshot.id if snapshot else NO_ENTRY
    last = EntryID(entries[-1].index, entries[-1].term) if entries else base
    # The snapshot is durable before the hard state that goes with it.
    commit_index = max(base.index, hard_state.commit)
    if commit_index > last.index:
        raise RaftError(
            f"entries up to {commit_index} are committed, but the log on disk ends at {last}"
        )
    # A change is proposed only after the one before it is applied, so that this is committed even
    # if a crash kept the hard state that says so from the disk. To campaign in a configuration two
    # changes old could elect a second leader.
    changes = [entry.index for entry in entries if entry.kind == CONFIG]
    if len(changes) > 1:
        commit_index = max(commit_index, changes[-2])
    log = Log(base=base, entries=entries, commit_index=commit_index, applied_index=base.index)
    configuration = snapshot.configuration if snapshot else Configuration()
    # A snapshot that was brought here from elsewhere comes without a hard state.
    term, vote = hard_state.term, hard_state.vote
    if term < last.term:
        term, vote = last.term, 0
    logger.info(
        "newRaft %x [peers: [%s], term: %d, commit: %d, applied: %d, lastindex: %d, lastterm: %d]",
        *(config.server_id, ",".join(f"{voter:x}" for voter in configuration.voters)),
        *(term, commit_index, base.index, last.index, last.term),
    )
    return State(config, random, logger, log, configuration, term, vote, snapshot)


def no_leader() -> ProposalDropped:
    """Return the error for what only a leader could take."""
    return ProposalDropped(NO_LEADER)
