"""What a simulated server stands on: its log, which is a process of `raft.sim`, and its peers."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from pyetcd.server.server import Server
from raft import ConfigChange, Core, DiskDurations, Envelope, Leadership, Stopped
from raft.sim import SECOND, Process
from raft.transport import MemberRemoved, PeerStats

# How often a peer that refuses us is asked again.
_DIAL_US: Final = SECOND


class SimulatedNode:
    """`pyetcd.server.surroundings.RaftNode` on a process."""

    def __init__(self, process: Process, on_leadership: Callable[[Leadership], None]) -> None:
        self.disk_durations = DiskDurations()
        self._process = process
        self._on_leadership = on_leadership
        self._leadership = Leadership(0, 0, "follower")
        process.on_step = self._watch_leadership

    @property
    def core(self) -> Core:
        """See `RaftNode`."""
        return self._process.core

    @property
    def leadership(self) -> Leadership:
        """See `RaftNode`."""
        return self._leadership

    @property
    def disk_full(self) -> bool:
        """See `RaftNode`."""
        return self.core.log.is_full

    def propose(self, data: bytes) -> None:
        """See `RaftNode`."""
        self._process.propose(data)

    def propose_config(self, change: ConfigChange) -> None:
        """See `RaftNode`."""
        self._process.propose_config(change)

    def read_index(self, done: Callable[[], None]) -> None:
        """See `RaftNode`."""
        self._process.read_index(done)

    def save_snapshot(self, given_up: Callable[[], None]) -> bool:
        """See `RaftNode`."""
        return self._process.driver.save_snapshot(given_up)

    async def transfer_leadership(self, transferee: int, timeout_seconds: float) -> None:
        """See `RaftNode`. Nobody stops a simulated server politely."""
        raise Stopped(f"no transfer to {transferee:x}")

    def campaign(self) -> None:
        """See `RaftNode`."""
        self._process.campaign()

    def receive(self, envelopes: list[Envelope]) -> None:
        """See `RaftNode`."""
        self._process.driver.step(envelopes)
        self._process.arm()

    def report_unreachable(self, server_id: int) -> None:
        """See `RaftNode`."""
        self.core.report_unreachable(server_id)

    def report_reachable(self, server_id: int) -> None:
        """See `RaftNode`."""
        self.core.report_reachable(server_id)
        self._process.arm()

    def report_leader_lost(self) -> None:
        """See `RaftNode`."""
        self.core.report_leader_lost()

    def report_snapshot(self, server_id: int, delivered: bool) -> None:
        """See `RaftNode`."""
        self.core.report_snapshot(server_id, delivered=delivered)
        self._process.arm()

    def _watch_leadership(self) -> None:
        core, known = self.core, self._leadership
        if (core.term, core.leader, core.role) != (known.term, known.leader, known.role):
            self._leadership = Leadership(core.term, core.leader, core.role)
            self._on_leadership(self._leadership)


class SimulatedPeers:
    """`pyetcd.server.surroundings.Peers`: messages leave only for members that it was told of.

    As in the real transport, a server that we have heard from can be answered, and whoever was
    removed is refused and told so: also who has nothing to send, since all are dialled again.
    """

    def __init__(self, process: Process, directory: "Directory") -> None:
        self.removed: set[int] = set()
        self._process = process
        self._directory = directory
        self._urls: dict[int, list[str]] = {}
        process.knows = self._knows
        process.later(_DIAL_US, self._dial)

    def attach(self, server: Server) -> None:
        """Give it whom it tells that we were removed."""
        self._server = server

    @property
    def peer_ids(self) -> list[int]:
        """See `Peers`."""
        return sorted(self._urls)

    def active_since(self, peer_id: int) -> float | None:
        """See `Peers`."""
        if peer_id not in self._urls:
            return None
        return self._directory.active_since(self._process.server_id, peer_id)

    def is_connected(self, peer_id: int) -> bool:
        """See `Peers`."""
        return self.active_since(peer_id) is not None

    def stats(self, peer_id: int) -> PeerStats | None:
        """See `Peers`: nobody counts."""
        return None

    def add_peer(self, peer_id: int, urls: list[str]) -> None:
        """See `Peers`."""
        if peer_id not in self.removed:
            self._urls[peer_id] = urls

    def update_peer(self, peer_id: int, urls: list[str]) -> None:
        """See `Peers`."""
        if peer_id in self._urls:
            self._urls[peer_id] = urls

    def remove_peer(self, peer_id: int) -> None:
        """See `Peers`."""
        self._urls.pop(peer_id, None)

    def mark_removed(self, member_ids: Iterable[int]) -> None:
        """See `Peers`."""
        for member_id in member_ids:
            self.removed.add(member_id)
            self.remove_peer(member_id)

    def _dial(self) -> None:
        for peer_id in self.peer_ids:
            self._knows(peer_id)
        self._process.later(_DIAL_US, self._dial)

    def _knows(self, peer_id: int) -> bool:
        own = self._process.server_id
        if peer_id in self.removed:
            return False
        if peer_id not in self._urls and not self._process.hears(peer_id):
            return False
        if self._directory.is_removed_by(own, peer_id):
            error = MemberRemoved(f"{own:x} was removed")
            tell = partial(self._server.on_rejected_by_peer, peer_id, error)
            self._process.later(0, tell)
            return False
        return True


class Directory:
    """Who runs, and who can talk with whom."""

    def __init__(self) -> None:
        # The peers of each member that runs, since when it does, and the links that are cut.
        self.running: dict[int, tuple[SimulatedPeers, float]] = {}
        self.blocked: set[tuple[int, int]] = set()

    def active_since(self, own: int, peer_id: int) -> float | None:
        """Return since when both run, if they can talk; nobody is a peer of itself."""
        if peer_id == own or peer_id not in self.running or own not in self.running:
            return None
        if (own, peer_id) in self.blocked or (peer_id, own) in self.blocked:
            return None
        return max(self.running[own][1], self.running[peer_id][1])

    def is_removed_by(self, own: int, peer_id: int) -> bool:
        """Whether the peer runs, can be reached, and knows that we were removed."""
        if self.active_since(own, peer_id) is None:
            return False
        return own in self.running[peer_id][0].removed
