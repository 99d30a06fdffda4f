"""Random adventures of a few cores: everything that may go wrong does, and safety must hold.

One run draws all its choices from one seed: messages are lost, repeated, delayed and reordered,
disks stand still, servers crash and lose what is not written, networks are cut, and the
configuration changes. Then everything is healed, and all servers must come to agree.
"""

import logging
import random
from dataclasses import dataclass, field
from typing import Any

from raft.confchange import ADD_LEARNER, ADD_VOTER, REMOVE, Change, ConfigChange
from raft.entry import Entry, EntryID
from raft.errors import NotLeader, ProposalDropped
from raft.messages import Envelope, InstallSnapshot
from raft.state import CoreConfig
from tests.raft.server import Disk, Server, State, bootstrap_disk

_QUIET = logging.Logger("chaos", logging.CRITICAL)


@dataclass(slots=True)
class Facts:
    """What the run has shown so far; everything later must agree with it."""

    # Election Safety.
    leaders: dict[int, int] = field(default_factory=dict)
    # State Machine Safety.
    applied: dict[int, Entry] = field(default_factory=dict)
    # The lowest term in which each was seen to be applied: it was committed then or before. Its
    # own term says nothing of that: an older entry commits with one of the leader's (3.6.2).
    committed_in: dict[int, int] = field(default_factory=dict)
    # Log Matching: each entry's bytes, and the entry before it.
    entries: dict[EntryID, tuple[Entry, int]] = field(default_factory=dict)
    # The highest index applied anywhere.
    last_applied: int = 0

    def see_leader(self, server: Server) -> None:
        """Check Election Safety and Leader Completeness (thesis figure 3.2)."""
        core = server.core
        other = self.leaders.setdefault(core.term, server.id)
        assert other == server.id, f"{other:x} and {server.id:x} lead term {core.term}"
        for index in range(core.log.base.index + 1, self.last_applied + 1):
            entry = self.applied[index]
            if self.committed_in[index] <= core.term:
                held = core.log.matches(index, entry.term)
                assert held, f"leader {server.id:x} of {core.term} lacks {index}@{entry.term}"

    def see_applied(self, server: Server, entries: list[Entry]) -> None:
        """Check State Machine Safety (thesis figure 3.2)."""
        term = server.core.term
        for entry in entries:
            seen_in = self.committed_in.get(entry.index, term)
            self.committed_in[entry.index] = min(seen_in, term)
            other = self.applied.setdefault(entry.index, entry)
            assert other == entry, f"{server.id:x} applied {entry}, another server {other}"
            self.last_applied = max(self.last_applied, entry.index)

    def see_log(self, server: Server) -> None:
        """Check Log Matching (thesis figure 3.2)."""
        log = server.core.log
        prev_term = log.base.term
        for entry in log.slice(log.first_index, 1 << 62):
            seen = (entry, prev_term)
            other = self.entries.setdefault(EntryID(entry.index, entry.term), seen)
            assert other == seen, f"{server.id:x} has {seen}, another server {other}"
            prev_term = entry.term


class Chaos:
    """One run."""

    def __init__(self, seed: int, **options: int) -> None:
        """Start a cluster whose size, settings and troubles follow from `seed`."""
        self.random = random.Random(seed)
        self.options: dict[str, Any] = {
            "election_ticks": self.random.choice((4, 10)),
            "heartbeat_ticks": self.random.choice((1, 2)),
            "max_append_bytes": self.random.choice((60, 1 << 20)),
            "max_inflight_messages": self.random.choice((1, 3, 256)),
            "pre_vote": self.random.random() < 0.8,
            "check_quorum": self.random.random() < 0.8,
            **options,
        }
        voters = tuple(range(1, self.random.choice((1, 2, 3, 3, 4, 5)) + 1))
        self.facts = Facts()
        self.under_way: list[Envelope] = []
        self.disks = {server_id: bootstrap_disk(voters) for server_id in voters}
        for server_id in range(len(voters) + 1, len(voters) + 3):
            self.disks[server_id] = Disk()
        self.snapshots: dict[EntryID, State] = {}
        self.servers: dict[int, Server] = {}
        self.seen_applied: dict[int, int] = {}
        self.asked_reads: dict[tuple[int, int], int] = {}
        self.next_context = 1
        self.cut: set[int] = set()
        self.loss = self.random.choice((0.0, 0.05, 0.3))
        self.repetition = self.random.choice((0.0, 0.1))
        self.disorder = self.random.choice((0.02, 0.2, 0.7))
        rates = self.random
        self.weights = {
            self.tick: rates.choice((40, 120)),
            self.campaign: rates.choice((0, 4, 12)),
            self.deliver: 200,
            self.propose: 20,
            self.finish_write: 40,
            self.hold: rates.choice((0, 4)),
            self.crash: rates.choice((0, 2, 5)),
            self.start: 6,
            self.cut_off: rates.choice((0, 4)),
            self.mend: 4,
            self.save_snapshot: rates.choice((0, 3)),
            self.read: 10,
            self.transfer: rates.choice((0, 1)),
            self.change: rates.choice((0, 2)),
            self.unreachable: rates.choice((0, 2)),
        }
        for server_id in sorted(self.disks):
            self.start_server(server_id)

    def run(self, steps: int) -> None:
        """Let `steps` things happen, then heal everything and demand agreement."""
        actions, weights = list(self.weights), list(self.weights.values())
        for i in range(steps):
            self.random.choices(actions, weights)[0]()
            if i % 64 == 0:
                for server in self.servers.values():
                    self.facts.see_log(server)
        self.heal()

    def heal(self) -> None:
        """End all troubles; all that belong to the cluster must come to hold the same."""
        self.loss, self.repetition, self.cut = 0.0, 0.0, set()
        for server_id in sorted(self.disks):
            if server_id not in self.servers:
                self.start_server(server_id)
        if not (self.options["pre_vote"] and self.options["check_quorum"]):
            self.switch_off_removed()
        for server in self.servers.values():
            server.holds_writes = False
        ticks = 40 * self.options["election_ticks"]
        for i in range(ticks):
            for server in list(self.servers.values()):
                if server.writing is not None:
                    self.take(server, server.finish_write())
                self.take(server, server.tick())
            self.deliver_all()
            if i == ticks // 2:
                # One that was switched off may have been added again meanwhile.
                for server_id in self.leader().core.configuration.servers:
                    if server_id not in self.servers:
                        self.start_server(server_id)
            if i == ticks * 3 // 4:
                self.propose_anywhere()
        leader = self.leader()
        for server_id in leader.core.configuration.servers:
            server = self.servers[server_id]
            self.facts.see_log(server)
            applied = server.core.log.applied_index
            assert applied == leader.core.log.last_index, f"{server_id:x} stands at {applied}"
            assert server.state == leader.state, f"{server.state} is not {leader.state}"
        assert not leader.core.configuration.voters_outgoing, "the configuration stays joint"

    def switch_off_removed(self) -> None:
        """Stop those that have been removed: only pre-votes keep them from disturbing."""
        newest = max(self.servers.values(), key=lambda server: server.core.applied_index)
        for server_id in set(self.servers) - set(newest.core.configuration.servers):
            if self.servers[server_id].core._state.is_voter:
                del self.servers[server_id]

    def leader(self) -> Server:
        """Return the leader of the latest term."""
        leaders = [server for server in self.servers.values() if server.core.role == "leader"]
        assert leaders, f"nobody leads: {[it.core.status() for it in self.servers.values()]}"
        return max(leaders, key=lambda server: server.core.term)

    def propose_anywhere(self) -> None:
        """Propose at every server that knows a leader."""
        for server in list(self.servers.values()):
            if server.core.leader:
                self.take(server, server.do(lambda core: core.propose(b"healed")))

    # -------------------------------------------------------------------------------- troubles

    def tick(self) -> None:
        """Let time pass for one server."""
        if server := self.any_server():
            self.take(server, server.tick())

    def campaign(self) -> None:
        """Let a server start an election for no reason."""
        if server := self.any_server():
            self.take(server, server.do(lambda core: core.campaign()))

    def deliver(self) -> None:
        """Deliver any message, lose it, or deliver it twice."""
        if not self.under_way:
            return
        position = 0
        if self.random.random() < self.disorder:
            position = self.random.randrange(len(self.under_way))
        envelope = self.under_way[position]
        if self.random.random() >= self.repetition:
            del self.under_way[position]
        self.deliver_one(envelope, is_lost=self.random.random() < self.loss)

    def propose(self) -> None:
        """Propose a few things at one server."""
        if server := self.any_server():
            count = self.random.randrange(1, 4)
            try:
                for _ in range(count):
                    server.core.propose(self.random.randbytes(4))
            except ProposalDropped:
                pass  # as it may; those before it stay proposed
            self.take(server, server.run())

    def finish_write(self) -> None:
        """Let a write that stood still reach the disk."""
        server = self.any_server()
        if server and server.writing is not None:
            self.take(server, server.finish_write())

    def hold(self) -> None:
        """Let a disk stand still, or go on."""
        if server := self.any_server():
            server.holds_writes = not server.holds_writes

    def crash(self) -> None:
        """Stop a server; some of its write in flight may have become durable."""
        if server := self.any_server():
            if server.writing is not None and self.random.random() < 0.3:
                server.disk.write(server.writing, self.snapshots.__getitem__)
            del self.servers[server.id]

    def start(self) -> None:
        """Start a server that has crashed."""
        stopped = sorted(set(self.disks) - set(self.servers))
        if stopped:
            self.start_server(self.random.choice(stopped))

    def cut_off(self) -> None:
        """Cut some servers off the others."""
        self.cut = {server_id for server_id in self.disks if self.random.random() < 0.4}

    def mend(self) -> None:
        """Mend the network."""
        self.cut = set()

    def save_snapshot(self) -> None:
        """Save a snapshot and compact some of the log."""
        server = self.any_server()
        if server is None or server.core.restoring:
            return
        if server.core.applied_index > server.core.snapshot_index:
            meta = server.save_snapshot()
            self.snapshots[meta.id] = tuple(server.state)
            log = server.core.log
            server.compact(self.random.randint(log.base.index, meta.index))

    def read(self) -> None:
        """Ask for a read index: it must cover everything applied anywhere before."""
        if server := self.any_server():
            context = self.next_context
            self.next_context += 1
            self.asked_reads[server.id, context] = self.facts.last_applied
            try:
                sent = server.do(lambda core: core.read_index(context))
            except ProposalDropped:
                return
            self.take(server, sent)

    def transfer(self) -> None:
        """Hand over leadership to anybody."""
        if server := self.any_server():
            transferee = self.random.choice(sorted(self.disks))
            try:
                sent = server.do(lambda core: core.transfer_leadership(transferee))
            except (NotLeader, ProposalDropped):
                return
            self.take(server, sent)

    def change(self) -> None:
        """Propose to change the configuration."""
        if server := self.any_server():
            kinds = (ADD_VOTER, ADD_LEARNER, REMOVE)
            targets = self.random.sample(sorted(self.disks), self.random.choice((1, 1, 2)))
            change = ConfigChange(tuple(Change(self.random.choice(kinds), it) for it in targets))
            try:
                sent = server.do(lambda core: core.propose_config(change))
            except ProposalDropped:
                return
            self.take(server, sent)

    def unreachable(self) -> None:
        """Report at random that somebody was not reached."""
        if server := self.any_server():
            other = self.random.choice(sorted(self.disks))
            self.take(server, server.do(lambda core: core.report_unreachable(other)))

    # ----------------------------------------------------------------------------------- parts

    def any_server(self) -> Server | None:
        """Return any running server."""
        return self.random.choice(list(self.servers.values())) if self.servers else None

    def start_server(self, server_id: int) -> None:
        """Start a server from its disk."""
        config = CoreConfig(server_id, **self.options)
        seed = self.random.getrandbits(32)
        fetch = self.snapshots.__getitem__
        server = Server(config, self.disks[server_id], seed, _QUIET, fetch)
        self.servers[server_id] = server
        self.seen_applied[server_id] = 0
        self.take(server, server.run())

    def take(self, server: Server, sent: list[Envelope]) -> None:
        """Judge what a server did; put what it sent on its way."""
        seen = self.seen_applied[server.id]
        if len(server.applied) > seen:
            self.facts.see_applied(server, server.applied[seen:])
            self.seen_applied[server.id] = len(server.applied)
        for context, read_index in server.reads:
            asked_at = self.asked_reads[server.id, context]
            assert read_index >= asked_at, f"read at {read_index}, {asked_at} was applied before"
        server.reads.clear()
        if server.core.role == "leader":
            self.facts.see_leader(server)
        self.under_way += sent

    def deliver_all(self) -> None:
        """Deliver until nothing is under way."""
        budget = 20_000
        while self.under_way:
            budget -= 1
            assert budget > 0, f"messages without end: {self.under_way[:5]}"
            self.deliver_one(self.under_way.pop(0))

    def deliver_one(self, envelope: Envelope, *, is_lost: bool = False) -> None:
        """Deliver a message, if its recipient runs and is not cut off."""
        is_cut = (envelope.sender in self.cut) != (envelope.recipient in self.cut)
        recipient = None if is_cut or is_lost else self.servers.get(envelope.recipient)
        if isinstance(envelope.message, InstallSnapshot) and envelope.sender in self.servers:
            sender = self.servers[envelope.sender]
            delivered, to = recipient is not None, envelope.recipient
            sent = sender.do(lambda core: core.report_snapshot(to, delivered=delivered))
            self.take(sender, sent)
        if recipient is not None:
            self.take(recipient, recipient.step(envelope))
