"""A core that is checked after every single input.

It inherits from the real one, so that the driver cannot tell them apart, and adds nothing but
looking. `raft.invariants` compares two moments with one input between them, so that a look after
everything that the driver does at a time would come too late.
"""

import logging
import random

from raft.confchange import ConfigChange
from raft.core import Core
from raft.entry import Configuration, Entry, SnapshotMeta
from raft.interfaces import Ready, Recovered, Write
from raft.invariants import observe
from raft.messages import (
    Append,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    PreVote,
    PreVoteResponse,
    Vote,
)
from raft.sim.checkers import Facts
from raft.sim.errors import Unsafe
from raft.state import CoreConfig


class WatchedCore(Core):
    """One server of the simulation."""

    __slots__ = ("_election_ticks", "_facts", "_max_uncommitted_bytes", "_moment", "_silent_ticks")

    def __init__(
        self,
        config: CoreConfig,
        recovered: Recovered,
        rng: random.Random,
        log: logging.Logger,
        facts: Facts,
    ) -> None:
        super().__init__(config, recovered, rng, log)
        self._facts = facts
        self._moment = observe(self)
        # Without the check of the quorum nobody is protected, and so nobody counts as heard.
        self._election_ticks = config.election_ticks if config.check_quorum else 0
        self._max_uncommitted_bytes = config.max_uncommitted_bytes
        # Since the leader was heard from.
        self._silent_ticks = 0
        facts.came_up(self)

    def _look(self) -> None:
        self._moment = self._facts.after_step(self._moment, self)

    def tick(self) -> None:
        self._silent_ticks += 1
        super().tick()
        self._look()

    def step(self, envelope: Envelope) -> None:
        state = self._state
        before = (state.term, state.vote, state.leader)
        if envelope.sender == self.server_id:
            self._facts.promised(envelope, self)
        message = envelope.message
        if isinstance(message, Append):
            commit_index, last = self.log.commit_index, self.log.last_id
            fits = self._fits(message)
            super().step(envelope)
            self._look()
            problem = self._misheard(envelope, *before) or self._misjudged(message, commit_index)
            if not fits and self.log.last_id != last:
                problem = f"the entry before is another one, and {self.log.last_id} was appended"
        else:
            super().step(envelope)
            self._look()
            problem = self._misheard(envelope, *before)
        if problem:
            raise Unsafe(f"{self.server_id:x} at {before} got {envelope}: {problem}")

    def _fits(self, message: Append) -> bool:
        """Say whether the log holds the entry that an Append builds on (thesis 3.5)."""
        if message.prev_index < self.log.commit_index:
            return True
        return self.log.matches(message.prev_index, message.prev_term)

    def _misheard(self, envelope: Envelope, term: int, vote: int, leader: int) -> str:
        """Say which rule on terms and votes the answer to a message has broken; "" if none."""
        message = envelope.message
        match message:
            case AppendResponse() | HeartbeatResponse():
                pass  # the most frequent ones first
            case Append() | CommitTo() | Heartbeat() | InstallSnapshot():
                state = self._state
                if envelope.term == state.term:
                    self._silent_ticks = 0
                    if state.leader != envelope.sender:
                        return "whoever hears the leader of its term follows it (thesis 3.4)"
            case Vote(transfer=is_transfer):
                hears = self._silent_ticks < self._election_ticks
                if leader and hears and not is_transfer and self.term > term:
                    return "a leader that is heard is not deposed (thesis 4.2.3)"
                if self.vote == envelope.sender and (term, vote) != (self.term, self.vote):
                    last = self.log.last_id
                    if (message.last_term, message.last_index) < (last.term, last.index):
                        return f"a log that ends at {last} is more up to date (thesis 3.6.1)"
                return ""
            case PreVote() | PreVoteResponse():
                return ""
            case _:
                pass
        if envelope.term > self._state.term:
            return "a higher term is taken over (thesis 3.3)"
        return ""

    def _misjudged(self, message: Append, commit_index: int) -> str:
        """Say whether more was committed than an Append shows to match; "" if not."""
        last_new_index = message.prev_index + len(message.entries)
        if self.log.commit_index > max(commit_index, last_new_index):
            return f"{self.log.commit_index} is not known to match (thesis figure 3.1)"
        return ""

    def propose(self, data: bytes) -> None:
        log = self.log
        before, waiting = log.last_index, log.size_since(log.commit_index)
        super().propose(data)
        self._look()
        if log.last_index > before and waiting > self._max_uncommitted_bytes:
            raise Unsafe(
                f"{self.server_id:x} takes one more, and {waiting} bytes wait for a quorum"
            )

    def propose_config(self, change: ConfigChange) -> None:
        super().propose_config(change)
        self._look()

    def read_index(self, context: int) -> None:
        super().read_index(context)
        self._look()

    def transfer_leadership(self, transferee: int) -> None:
        super().transfer_leadership(transferee)
        self._look()

    def campaign(self) -> None:
        super().campaign()
        self._look()

    def report_leader_lost(self) -> None:
        super().report_leader_lost()
        self._look()

    def report_reachable(self, server_id: int) -> None:
        super().report_reachable(server_id)
        self._look()

    def report_unreachable(self, server_id: int) -> None:
        super().report_unreachable(server_id)
        self._look()

    def report_snapshot(self, server_id: int, *, delivered: bool) -> None:
        super().report_snapshot(server_id, delivered=delivered)
        self._look()

    def ready(self) -> Ready:
        ready = super().ready()
        self._look()
        return ready

    def written(self, write: Write) -> None:
        super().written(write)
        self._look()

    def applied(self, raft_index: int) -> None:
        super().applied(raft_index)
        self._look()

    def apply_config(self, entry: Entry, change: ConfigChange | None) -> Configuration:
        configuration = super().apply_config(entry, change)
        self._look()
        return configuration

    def compact(self, raft_index: int) -> None:
        super().compact(raft_index)
        self._look()

    def snapshot_saved(self, meta: SnapshotMeta) -> None:
        super().snapshot_saved(meta)
        self._look()
