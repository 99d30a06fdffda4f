"""What a server stands on, as the test wants it: a raft node, a transport and a clock.

The node takes proposals and keeps them until the test says what becomes of them. Time is the
virtual loop's.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyetcd.cluster import Cluster, Member
from pyetcd.command import AskTime, Command, Request, TellTime, decode, decode_member_change
from pyetcd.config import Config, parse
from pyetcd.server.clock import ClusterClock
from pyetcd.server.server import Server
from raft import (
    CONFIG,
    NOOP,
    NORMAL,
    ConfigChange,
    Configuration,
    Entry,
    EntryID,
    Envelope,
    Leadership,
    ProposalDropped,
    Rejected,
    Status,
    Stopped,
    decode_change,
    encode_change,
)
from raft.progress import ProgressState
from raft.state import FollowerStatus

# 2016-01-26, in nanoseconds since the epoch.
EPOCH = 1_453_748_462_000_000_000
OWN = 0xA
OTHERS = (0xB, 0xC)
CONFIGURATION = Configuration(voters=(OWN, *OTHERS))


def member(member_id: int, name: str = "") -> Member:
    """A member with URLs of its own; with a name, it has started."""
    return Member(member_id, name, (f"http://peer:{member_id}",))


class FakeLog:
    """As long as the test says."""

    def __init__(self) -> None:
        self.base = EntryID(0, 0)
        # Bytes of every entry.
        self.entry_bytes = 100
        self.last_index = 0

    def size_since(self, raft_index: int) -> int:
        return (self.last_index - max(raft_index, self.base.index)) * self.entry_bytes


@dataclass
class FakeCore:
    """What a core shows."""

    leader: int = OWN
    term: int = 2
    snapshot_index: int = 0
    configuration: Configuration = CONFIGURATION
    log: FakeLog = field(default_factory=FakeLog)
    followers: dict[int, FollowerStatus] = field(default_factory=dict)

    def status(self) -> Status:
        return Status(OWN, self.term, 0, "leader", self.leader, 0, 0, 0, 0, self.followers)


class FakeNode:
    """Takes proposals while there is a leader, and nothing happens to them by itself."""

    def __init__(self) -> None:
        self.core = FakeCore()
        self.leadership = Leadership(2, OWN, "leader")
        self.proposed: list[tuple[int, bytes]] = []
        # Apart from these: what members tell each other about the time.
        self.about_time: list[bytes] = []
        self.readers: list[Callable[[], None]] = []
        # Why proposals are dropped; empty while they are taken.
        self.drops = ""
        self.stopped = False
        self.snapshots_begun: list[int] = []
        # Whether a snapshot can begin.
        self.saves = True
        self.give_up_snapshot: Callable[[], None] = lambda: None
        self.disk_full = False
        # Those asked to take over; `transfer_error` is what comes of it.
        self.transfers: list[int] = []
        self.transfer_error: Exception | None = None
        self.campaigns = 0
        self.told: list[tuple[object, ...]] = []

    def propose(self, data: bytes) -> None:
        self._take(NORMAL, data)

    def propose_config(self, change: ConfigChange) -> None:
        self._take(CONFIG, encode_change(change))

    def _take(self, kind: int, data: bytes) -> None:
        if self.stopped:
            raise Stopped("stopped")
        if self.core.leader == 0 or self.drops:
            raise ProposalDropped(self.drops or "no leader")
        if kind == NORMAL and isinstance(decode(data).command, AskTime | TellTime):
            self.about_time.append(data)
        else:
            self.proposed.append((kind, data))

    def read_index(self, done: Callable[[], None]) -> None:
        if self.stopped:
            raise Stopped("stopped")
        self.readers.append(done)

    def save_snapshot(self, given_up: Callable[[], None]) -> bool:
        self.give_up_snapshot = given_up
        if self.saves:
            self.snapshots_begun.append(self.core.log.last_index)
        return self.saves

    async def transfer_leadership(self, transferee: int, timeout_seconds: float) -> None:
        self.transfers.append(transferee)
        await asyncio.sleep(timeout_seconds / 2)
        if self.transfer_error is not None:
            raise self.transfer_error

    def campaign(self) -> None:
        self.campaigns += 1

    def receive(self, envelopes: list[Envelope]) -> None:
        self.told.append(("receive", len(envelopes)))

    def report_unreachable(self, server_id: int) -> None:
        self.told.append(("unreachable", server_id))

    def report_reachable(self, server_id: int) -> None:
        self.told.append(("reachable", server_id))

    def report_leader_lost(self) -> None:
        self.told.append(("leader lost",))

    def report_snapshot(self, server_id: int, delivered: bool) -> None:
        self.told.append(("snapshot", server_id, delivered))


class FakeTransport:
    """Knows whom it reaches, and since when."""

    def __init__(self) -> None:
        self.active: dict[int, float] = dict.fromkeys(OTHERS, 0.0)
        # Those that have no connection to us yet.
        self.deaf: set[int] = set()
        self.peers: dict[int, list[str]] = {}
        self.removed: set[int] = set()

    @property
    def peer_ids(self) -> list[int]:
        return sorted(self.peers)

    def active_since(self, peer_id: int) -> float | None:
        return self.active.get(peer_id)

    def is_connected(self, peer_id: int) -> bool:
        return peer_id in self.active and peer_id not in self.deaf

    def add_peer(self, peer_id: int, urls: list[str]) -> None:
        self.peers[peer_id] = urls

    def update_peer(self, peer_id: int, urls: list[str]) -> None:
        self.peers[peer_id] = urls

    def remove_peer(self, peer_id: int) -> None:
        self.peers.pop(peer_id, None)

    def mark_removed(self, member_ids: list[int]) -> None:
        self.removed.update(member_ids)


def config(**changes: object) -> Config:
    """The configuration of a member, with changes."""
    flags = ["-name", "first", "-data-dir", "nowhere"]
    if "snapshot_count" in changes:
        flags += ["-snapshot-count", str(changes.pop("snapshot_count"))]
    return replace(parse(flags, {}), **changes)


class World:
    """A server of a cluster of three, which it leads; to be made inside a virtual loop."""

    def __init__(
        self, *, started: bool = True, wrong: int = 0, knows_time: bool = True, **changes: object
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.node = FakeNode()
        self.transport = FakeTransport()
        self.removals = 0
        # How far ahead the wall clock is.
        self.wrong = wrong
        members = {it: member(it, "started") for it in (OWN, *OTHERS)}
        self.config = config(data_dir=Path("nowhere"), **changes)
        self.server = Server(
            self.config,
            OWN,
            "first",
            Cluster(0xC1, members, version="2.3.0"),
            clock=ClusterClock(self.wall, self.now),
            on_removed=self._removed,
        )
        if knows_time:
            self.server.clock.set(self.now(), by_walls=False)
        self.server.attach_transport(self.transport)
        self.server.attach_node(self.node)
        if knows_time:
            # As if the first entry of its term had been applied long ago.
            self.server.timekeeper.on_term_began(self.node.core.term)
            self.node.about_time.clear()
        if started:
            self.server.start()
            self.commit()

    def _removed(self) -> None:
        self.removals += 1

    def now(self) -> int:
        return EPOCH + round(self.loop.time() * 1e9)

    def wall(self) -> int:
        return self.now() + self.wrong

    async def stop(self) -> None:
        """Stop the server, as its member does."""
        await self.server.leave_office()
        self.server.stop()

    # ---- what the cluster does

    def commit(self, count: int | None = None) -> None:
        """Have the oldest proposals, or all, committed and applied."""
        proposed = self.node.proposed
        taken, proposed[:] = proposed[:count], proposed[count:] if count is not None else []
        for kind, data in taken:
            self.apply(kind, data)

    def lose(self) -> list[tuple[int, bytes]]:
        """Forget what was proposed."""
        lost = list(self.node.proposed)
        self.node.proposed.clear()
        return lost

    def apply(self, kind: int, data: bytes = b"") -> None:
        """Apply the next entry, in the current term."""
        log = self.node.core.log
        log.last_index += 1
        entry = Entry(log.last_index, self.node.core.term, kind, data)
        if kind == CONFIG:
            self.server.applier.apply_config(entry, decode_change(data))
        else:
            self.server.applier.apply([entry])

    def lead(self, leader: int, term: int | None = None) -> None:
        """Let there be this leader, 0 for none, and its first entry be applied."""
        core = self.node.core
        core.leader = leader
        core.term = core.term + 1 if term is None else term
        role = "leader" if leader == OWN else "follower"
        self.node.leadership = Leadership(core.term, leader, role)
        self.server.on_leadership(self.node.leadership)

    def begin_term(self) -> None:
        """Apply the leader's first entry."""
        self.apply(NOOP)

    def reject(self, kind: int, data: bytes, reason: str = "no leader") -> None:
        """Hand a proposal back."""
        self.server.applier.reject(Rejected(kind, data, reason))

    # ---- what tests look at

    def propose(self, command: Command) -> list[object]:
        """Propose; the list gets the results."""
        results: list[object] = []
        self.server.propose(command, results.append)
        return results

    def read(self) -> list[object]:
        """Ask for a read; the list gets the errors, None for none."""
        results: list[object] = []
        self.server.read_index(results.append)
        return results

    def about_time(self) -> list[Command]:
        """What has been said about the time, and is not committed."""
        return [decode(data).command for data in self.node.about_time]

    def commit_time(self) -> None:
        """Have that committed and applied."""
        said, self.node.about_time[:] = list(self.node.about_time), []
        for data in said:
            self.apply(NORMAL, data)

    def requests(self) -> list[Request]:
        """The commands that are proposed and not committed."""
        return [decode(data) for kind, data in self.node.proposed if kind == NORMAL]

    def commands(self) -> list[Command]:
        """Without what is around them."""
        return [request.command for request in self.requests()]

    def changes(self) -> list[object]:
        """The membership changes that are proposed and not committed."""
        return [
            decode_member_change(decode_change(data).context)
            for kind, data in self.node.proposed
            if kind == CONFIG
        ]


def follower(match_index: int, *, recent_active: bool = True) -> FollowerStatus:
    """A follower as the leader sees it."""
    return FollowerStatus(match_index, match_index + 1, ProgressState.REPLICATE, recent_active)


async def turn() -> None:
    """Let the loop do what is due."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
