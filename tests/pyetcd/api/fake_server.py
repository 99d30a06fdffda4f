"""A server for the handlers of members and information: it remembers what it was asked."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pyetcd.auth import Auth
from pyetcd.cluster import Cluster, Member
from pyetcd.server.apply import Done
from pyetcd.server.server import ReadDone
from pyetcd.store import Store
from pyetcd.urls import Urls
from raft import Status
from raft.transport import PeerStats

FIRST = Member(0xA, "first", ("http://127.0.0.1:7001",), ("http://127.0.0.1:4001",))
SECOND = Member(0xB, "second", ("http://127.0.0.1:7002",), ("http://127.0.0.1:4002",))
# Added, and not started yet.
THIRD = Member(0xC, "", ("http://127.0.0.1:7003",))


class FakeTransport:
    """Counters of peers."""

    def __init__(self) -> None:
        self.peers: dict[int, PeerStats] = {}

    @property
    def peer_ids(self) -> list[int]:
        return sorted(self.peers)

    def stats(self, peer_id: int) -> PeerStats | None:
        return self.peers.get(peer_id)


@dataclass
class FakeCore:
    """Answers with the status it is given."""

    answer: Status

    def status(self) -> Status:
        return self.answer


@dataclass
class FakeNode:
    """Has a core, and a disk."""

    core: FakeCore
    disk_full: bool = False


@dataclass
class FakeServer:
    """One member of a cluster of two, led by it."""

    name: str = "first"
    member_id: int = FIRST.id
    cluster_id: int = 0xC1
    leader: int = FIRST.id
    is_leader: bool = True
    # Five seconds ago, by `loop_time` in the tests.
    leader_since: float = 100.0
    started_at: int = 1_453_748_462_000_000_000
    wall_time: int = 1_453_748_472_500_000_000
    term: int = 3
    raft_index: int = 12
    members: tuple[Member, ...] = (SECOND, FIRST)
    store: Store = field(default_factory=Store)
    auth: Auth = field(default_factory=Auth)
    transport: FakeTransport = field(default_factory=FakeTransport)
    # What is under way, in the order in which it was asked for.
    changes: list[tuple[str, int, Urls]] = field(default_factory=list)
    waiting: list[Done] = field(default_factory=list)
    readers: list[ReadDone] = field(default_factory=list)
    timers: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.cluster_id, {member.id: member for member in self.members})
        status = Status(self.member_id, 3, self.leader, "leader", self.leader, 13, 12, 12, 0)
        self.node = FakeNode(FakeCore(status))

    def now(self) -> int:
        return self.wall_time

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        self.timers.append((seconds, callback))

    def read_index(self, done: ReadDone) -> None:
        self.readers.append(done)

    def propose(self, command: object, done: Done, last_sweep: int = 0) -> None:
        self.waiting.append(done)

    def add_member(self, peer_urls: Urls, done: Done) -> Member:
        self.changes.append(("add", THIRD.id, peer_urls))
        self.waiting.append(done)
        return Member(THIRD.id, "", peer_urls)

    def remove_member(self, member: int, done: Done) -> None:
        self.changes.append(("remove", member, ()))
        self.waiting.append(done)

    def update_member(self, member: int, peer_urls: Urls, done: Done) -> None:
        self.changes.append(("update", member, peer_urls))
        self.waiting.append(done)
