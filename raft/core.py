"""Core: one server of the Raft cluster, without I/O, clock or randomness of its own.

The rules on terms and votes are here (thesis 3.3, 3.4), and this is the only place where a role
changes. Inputs are ticks, messages, proposals, and reports on what the driver has done; what they
lead to waits for `ready()`. Input from the network may be any nonsense: it is dropped and logged.
What the driver must not do is asserted.
"""

import logging
import random
from typing import TypeAlias, assert_never

from raft.candidate import Candidate
from raft.confchange import ConfigChange, ImpossibleChange, apply_change, encode_change
from raft.entry import CONFIG, Configuration, Entry, SnapshotMeta, make_hard_state
from raft.errors import NotLeader
from raft.follower import Follower
from raft.interfaces import Ready, Recovered, Write
from raft.leader import Leader
from raft.messages import (
    Append,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    InstallSnapshot,
    PreVote,
    PreVoteResponse,
    ProposeReject,
    Vote,
    VoteResponse,
)
from raft.state import Campaign, CoreConfig, Follow, Status, StepDown, Transition, Win, recover

Role: TypeAlias = Follower | Candidate | Leader


class Core:
    """One server.

    Invariants: those numbered in `raft.invariants`.
    """

    __slots__ = (
        "_config_index",
        "_handed_index",
        "_hard_state",
        "_restore",
        "_role",
        "_state",
        "_writing",
        "applied_index",
        "log",
        "server_id",
    )

    def __init__(
        self,
        config: CoreConfig,
        recovered: Recovered,
        random: random.Random,
        log: logging.Logger,
    ) -> None:
        """Come up as a follower. Raises RaftError when storage has lost committed entries."""
        state = recover(config, recovered, random, log)
        self.server_id = config.server_id
        self.log = state.log
        self._state = state
        self._role: Role = Follower(state, state.draw_timeout())
        # What is on disk; its commit index may be behind.
        self._hard_state = recovered.hard_state
        # The one write in flight.
        self._writing: Write | None = None
        # Durable, and not given out for restoring yet.
        self._restore: SnapshotMeta | None = None
        # What the state machine holds: the log's applied index, but for the time between accepting
        # a snapshot, which begins the log anew, and having restored it.
        self.applied_index = self.log.applied_index
        # The last entry given out for applying; more are only when it is applied.
        self._handed_index = self.applied_index
        # The last entry to have changed the configuration.
        self._config_index = 0

    # -------------------------------------------------------------------------- read-only state

    @property
    def term(self) -> int:
        """The latest term seen; 0 before the first."""
        return self._state.term

    @property
    def vote(self) -> int:
        """Who has our vote in this term; 0 for nobody."""
        return self._state.vote

    @property
    def leader(self) -> int:
        """The leader of this term; 0 while unknown."""
        return self._state.leader

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self._state.configuration

    @property
    def snapshot_index(self) -> int:
        """The end of the newest durable snapshot; 0 without one."""
        snapshot = self._state.snapshot
        return snapshot.index if snapshot else 0

    @property
    def restoring(self) -> bool:
        """Whether a snapshot was accepted that the state machine has not restored yet."""
        return self._state.restoring is not None

    @property
    def role(self) -> str:
        """One of "follower", "pre_candidate", "candidate" and "leader"."""
        match self._role:
            case Follower():
                return "follower"
            case Candidate(pre_vote=pre_vote):
                return "pre_candidate" if pre_vote else "candidate"
            case Leader():
                return "leader"
            case unreachable:
                assert_never(unreachable)

    def status(self) -> Status:
        """Return where this server stands."""
        role, log = self._role, self.log
        leading = role if isinstance(role, Leader) else None
        return Status(
            *(self.server_id, self.term, self.vote, self.role, self.leader),
            *(log.last_index, log.commit_index, self.applied_index),
            transferee=leading.handover.transferee if leading else 0,
            followers=leading.describe_followers() if leading else {},
        )

    # ----------------------------------------------------------------------------------- inputs

    def tick(self) -> None:
        """Let one tick of time pass."""
        self._change_role(self._role.tick())

    def step(self, envelope: Envelope) -> None:
        """Take a message: from the network, or one of our own that the disk has released."""
        state = self._state
        message, own = envelope.message, self.server_id
        if envelope.recipient != own or (
            envelope.sender == own and not isinstance(message, (AppendResponse, VoteResponse))
        ):
            state.logger.error("%x ignored a message that is not for it: %s", own, envelope)
            return
        # Some of what these say stands whatever their term.
        if isinstance(message, (ProposeReject, VoteResponse, PreVoteResponse)):
            state.take_news(envelope.sender, message)
            if isinstance(self._role, Candidate):
                # A configuration may turn out to be committed by which votes would have to be
                # counted from now on; those that are there were counted by the one before.
                reason = state.cannot_campaign_because()
                self._change_role(StepDown(reason) if reason else None)
        if envelope.term != state.term and not self._match_term(envelope):
            return
        if isinstance(message, (PreVote, Vote)):
            self._answer_request(envelope.sender, envelope.term, message)
        elif not isinstance(message, ProposeReject):
            transition = self._role.step(envelope)
            self._change_role(transition)
            if isinstance(transition, Follow):
                again = self._role.step(envelope)
                assert again is None, f"{transition} led to {again}"

    def propose(self, data: bytes) -> None:
        """Have `data` put into the log. Raises ProposalDropped."""
        self._role.propose(data)

    def propose_config(self, change: ConfigChange) -> None:
        """Have a configuration change put into the log. Raises ProposalDropped."""
        self._role.propose_config(encode_change(change))

    def read_index(self, context: int) -> None:
        """Ask for an index that a linearizable read may rely on. Raises ProposalDropped."""
        self._role.read_index(context)

    def transfer_leadership(self, transferee: int) -> None:
        """Begin to hand over to another voter. Raises NotLeader, ProposalDropped."""
        if not isinstance(self._role, Leader):
            raise NotLeader(self.leader)
        self._role.transfer(transferee)

    def campaign(self) -> None:
        """Start an election now, if this server may."""
        if not isinstance(self._role, Leader):
            self._change_role(Campaign(pre_vote=self._state.config.pre_vote))

    def report_leader_lost(self) -> None:
        """Tell that the leader's process seems to have ended: an election need not wait.

        To be wrong costs a question: who hears the leader refuses the pre-vote (thesis 9.6).
        """
        state, role = self._state, self._role
        if isinstance(role, Follower) and self.leader and state.config.pre_vote:
            role.lose_leader()

    def report_unreachable(self, server_id: int) -> None:
        """Tell that the last message to this server was lost."""
        if isinstance(self._role, Leader):
            self._role.unreachable(server_id)

    def report_reachable(self, server_id: int) -> None:
        """Tell that messages to this server arrive again."""
        if isinstance(self._role, Leader):
            self._role.reachable(server_id)

    def report_snapshot(self, server_id: int, *, delivered: bool) -> None:
        """Tell what became of the snapshot for this server, whether or not it is of this term."""
        if isinstance(self._role, Leader):
            self._role.snapshot_reported(server_id, delivered=delivered)

    # ------------------------------------------------------------------------------ the driver

    def has_ready(self) -> bool:
        """Whether there might be something to do."""
        state, role = self._state, self._role
        if state.messages or state.forwards or state.reads or state.rejected:
            return True
        if isinstance(role, Leader) and role.flush_wanted:
            return True
        if self._writing is None and (state.promises or self._needs_write()):
            return True
        return self._restore is not None or self._may_apply()

    def ready(self) -> Ready:
        """Return what is to be done, once."""
        state = self._state
        if state.forwards:
            state.send_forwards()
        if isinstance(self._role, Leader):
            self._role.flush()
        ready = Ready(state.messages, state.reads, state.rejected)
        state.messages, state.reads, state.rejected = [], [], []
        if self._writing is None:
            if self._needs_write():
                ready.write = self._writing = self._make_write()
            elif state.promises:
                # All that they vouch for is on disk already.
                ready.messages += state.promises
                state.promises = []
        if self._restore is not None:
            ready.restore, self._restore = self._restore, None
        elif self._may_apply():
            ready.committed = self.log.committed_slice(state.config.max_apply_bytes)
            self._handed_index = ready.committed[-1].index
        return ready

    def written(self, write: Write) -> None:
        """Tell that `write` is durable; its messages are to be delivered after this."""
        assert write is self._writing, f"{write} is not the write in flight, {self._writing}"
        self._writing = None
        self._hard_state = write.hard_state
        if write.snapshot is not None:
            self._state.snapshot = self._restore = write.snapshot
        if write.entries:
            last = write.entries[-1]
            self.log.mark_stable(last.index, last.term)

    def applied(self, raft_index: int) -> None:
        """Tell that the state machine has applied the entries, or the snapshot, up to there."""
        state = self._state
        restoring = state.restoring
        if restoring is not None:
            assert self._restore is None, f"applied {raft_index} before restoring {restoring.id}"
            assert state.snapshot == restoring, f"{state.snapshot} is not yet {restoring}"
            assert raft_index == restoring.index, f"applied {raft_index}, not {restoring.id}"
            state.restoring = None
            self._handed_index = raft_index
        assert raft_index <= self._handed_index, f"{raft_index} beyond {self._handed_index}"
        self.log.applied_to(raft_index)
        self.applied_index = raft_index
        if isinstance(self._role, Leader):
            self._role.applied()

    def apply_config(self, entry: Entry, change: ConfigChange | None) -> Configuration:
        """Put a committed change in force, or make it void; return what is in force then."""
        state = self._state
        assert entry.kind == CONFIG, f"{entry} is no configuration change"
        assert self.log.applied_index < entry.index, f"{entry} is applied already"
        assert entry.index <= self._handed_index, f"{entry} was not given out for applying"
        if change is not None:
            try:
                state.configuration = apply_change(state.configuration, change)
            except ImpossibleChange as error:
                # No leader of ours proposes such a change. It is void on every server alike.
                state.logger.error("configuration entry %d is void: %s", entry.index, error)
        state.logger.info("%x switched to configuration %s", self.server_id, state.configuration)
        if isinstance(self._role, Leader):
            self._role.configured()
        self._config_index = entry.index
        return state.configuration

    def compact(self, raft_index: int) -> None:
        """Drop the entries up to raft_index, which the newest durable snapshot contains."""
        assert raft_index <= self.snapshot_index, f"{raft_index} beyond {self._state.snapshot}"
        self.log.compact(raft_index)

    def snapshot_saved(self, meta: SnapshotMeta) -> None:
        """Tell that a snapshot of our own is durable."""
        assert meta.index <= self.applied_index, f"{meta} beyond {self.applied_index}"
        assert meta.index > self.snapshot_index, f"{meta} is older than {self._state.snapshot}"
        self._state.snapshot = meta

    # -------------------------------------------------------------------------- ready, in parts

    def _needs_write(self) -> bool:
        """Whether something must reach the disk; a commit index alone can wait (figure 3.1)."""
        state, hard_state, log = self._state, self._hard_state, self.log
        return (
            log.handed_index < log.last_index
            or state.term != hard_state.term
            or state.vote != hard_state.vote
            or state.unwritten_snapshot is not None
            # Unless it committed a configuration. To forget that after a crash would be to ask
            # servers for their votes that have left and are switched off.
            or self._config_index > hard_state.commit
        )

    def _make_write(self) -> Write:
        state, log = self._state, self.log
        entries = log.unwritten()
        log.mark_handed()
        if entries and isinstance(self._role, Leader):
            # Our own acknowledgement, which counts like any other (thesis 10.2.1).
            state.promise(self.server_id, AppendResponse(log.last_index))
        hard_state = make_hard_state(state.term, state.vote, log.commit_index)
        write = Write(hard_state, entries, state.unwritten_snapshot, state.promises)
        state.unwritten_snapshot, state.promises = None, []
        return write

    def _may_apply(self) -> bool:
        log = self.log
        if log.applied_index >= log.commit_index or log.applied_index >= log.stable_index:
            return False
        return self._handed_index <= log.applied_index and self._state.restoring is None

    # --------------------------------------------------------------------------- terms and votes

    def _match_term(self, envelope: Envelope) -> bool:
        """Apply the rules on terms (thesis 3.3); return whether the message is to be handled."""
        if envelope.term < self.term:
            self._state.answer_lower_term(envelope)
            return False
        sender, message = envelope.sender, envelope.message
        match message:
            case PreVote() | PreVoteResponse(granted=True):
                return True  # carry a term that nobody has entered
            case Vote(transfer=False) if self._hears_leader():
                self._state.logger.info(
                    "%x [term: %d] ignored a vote request of %x for term %d: leader %x is alive",
                    *(self.server_id, self.term, sender, envelope.term, self.leader),
                )
                return False
            case Append() | CommitTo() | Heartbeat() | InstallSnapshot():
                leader = sender
            case _:
                leader = 0
        self._state.logger.info(
            "%x [term: %d] received a %s message with higher term from %x [term: %d]",
            *(self.server_id, self.term, type(message).__name__, sender, envelope.term),
        )
        self._become_follower(envelope.term, leader)
        return True

    def _hears_leader(self) -> bool:
        """Whether there is a leader to protect from elections (thesis 4.2.3, 6.2)."""
        config = self._state.config
        # A leader that no one hears steps down only if it checks its quorum: without that, its
        # followers must not cling to it.
        if self.leader == 0 or not config.check_quorum:
            return False
        if isinstance(self._role, Follower):
            return self._role.elapsed_ticks < config.election_ticks
        return True

    def _answer_request(self, candidate: int, term: int, message: PreVote | Vote) -> None:
        state = self._state
        is_vote = isinstance(message, Vote)
        if is_vote:
            # One vote a term; who knows the term's leader has none to give (thesis 3.4).
            granted = state.vote == candidate or (state.vote == 0 and state.leader == 0)
        else:
            granted = term > state.term and not self._hears_leader()
        granted = granted and self.log.is_up_to_date(message.last_index, message.last_term)
        state.logger.info(
            "%x [logterm: %d, index: %d, vote: %x] %s %s for %x [logterm: %d, index: %d] "
            "at term %d",
            *(self.server_id, self.log.last_term, self.log.last_index, state.vote),
            *("cast" if granted else "rejected", type(message).__name__),
            *(candidate, message.last_term, message.last_index, self.term),
        )
        commit_id = self.log.commit_id
        if not granted:
            refusal = VoteResponse if is_vote else PreVoteResponse
            state.send(candidate, refusal(False, *commit_id))
        elif is_vote:
            state.vote = candidate
            state.promise(candidate, VoteResponse(True, *commit_id))
            self._wait_for(candidate)
        else:
            # In the term asked about, and without any effect on our timer: a pre-candidate that
            # nobody else supports must not put off an election that is due.
            response = PreVoteResponse(True, *commit_id)
            state.messages.append(Envelope(self.server_id, candidate, term, response))

    def _wait_for(self, candidate: int) -> None:
        """Give the candidate that has our vote the time to win (thesis 3.4)."""
        role = self._role
        if isinstance(role, Follower):
            role.elapsed_ticks = 0
            return
        assert self.role == "pre_candidate", f"a {self.role} has voted for {candidate:x}"
        self._become_follower(self.term, 0)

    # --------------------------------------------------------------------------------- changes

    def _change_role(self, transition: Transition | None) -> None:
        """Carry out what a role asks for."""
        while transition is not None:
            match transition:
                case Follow(leader=leader):
                    self._follow(leader)
                    return
                case StepDown(reason=reason):
                    self._state.logger.info(
                        "%x steps down at term %d: %s", self.server_id, self.term, reason
                    )
                    self._become_follower(self.term, 0)
                    return
                case Win():
                    self._become_leader()
                    return
                case Campaign(pre_vote=pre_vote, transfer=transfer):
                    # A pre-candidate that needs no other vote goes on at once.
                    transition = self._become_candidate(pre_vote=pre_vote, transfer=transfer)
                case unreachable:
                    assert_never(unreachable)

    def _become_follower(self, term: int, leader: int) -> None:
        state = self._state
        self._enter_term(term)
        self._role = Follower(state, state.draw_timeout())
        state.logger.info("%x became follower at term %d", self.server_id, term)
        state.set_leader(leader)

    def _follow(self, leader: int) -> None:
        """Follow the leader of this term, which has been found."""
        if isinstance(self._role, Follower):
            self._state.set_leader(leader)
        else:
            self._become_follower(self.term, leader)

    def _become_candidate(self, *, pre_vote: bool, transfer: bool) -> Transition | None:
        state = self._state
        reason = state.cannot_campaign_because()
        if reason:
            state.logger.warning(
                "%x cannot campaign at term %d: %s", self.server_id, self.term, reason
            )
            if isinstance(self._role, Candidate):
                self._become_follower(self.term, 0)
            return None
        if not pre_vote:
            self._enter_term(self.term + 1)
            state.vote = self.server_id
        candidate = Candidate(state, pre_vote, state.draw_timeout())
        self._role = candidate
        name = "pre-candidate" if pre_vote else "candidate"
        state.logger.info("%x became %s at term %d", self.server_id, name, self.term)
        state.set_leader(0)
        return candidate.canvass(transfer=transfer)

    def _become_leader(self) -> None:
        state = self._state
        assert state.vote == self.server_id, f"term {self.term} won with a vote for {state.vote:x}"
        self._role = Leader(state)
        state.logger.info("%x became leader at term %d", self.server_id, self.term)
        state.set_leader(self.server_id)
        assert self.log.last_term == self.term, f"{self.log.last_id} is no entry of {self.term}"

    def _enter_term(self, term: int) -> None:
        state = self._state
        assert term >= state.term, f"term {term} after {state.term}"
        if term > state.term:
            state.term, state.vote = term, 0
            # Promises made in an earlier term are of no use to anybody, and the entries that they
            # vouch for may be replaced before they leave.
            state.promises.clear()
            # Proposals are of their term or of none: an entry of a later one tells of their loss.
            state.reject_forwards()
