"""What a server stands on, as it sees it: its raft node, and the way to its peers.

`raft.Node` and `raft.transport.Transport` are these in a process; the simulation has its own.
Nothing here does anything.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from raft import ConfigChange, Core, DiskDurations, Envelope, Leadership
from raft.transport import PeerStats


class RaftNode(Protocol):
    """The member's log; see `raft.Node`."""

    @property
    def core(self) -> Core:
        """To look at, never to change."""

    @property
    def leadership(self) -> Leadership:
        """Who leads."""

    @property
    def disk_full(self) -> bool:
        """Whether proposals are refused, because the disk has no room for the log."""

    @property
    def disk_durations(self) -> DiskDurations:
        """How long the disk has taken so far."""

    def propose(self, data: bytes) -> None:
        """Put `data` into the log. Raises ProposalDropped; Stopped."""

    def propose_config(self, change: ConfigChange) -> None:
        """Put a membership change into the log. Raises ProposalDropped; Stopped."""

    def read_index(self, done: Callable[[], None]) -> None:
        """Call `done` when the state machine holds all that is committed now. Raises Stopped."""

    def save_snapshot(self, given_up: Callable[[], None]) -> bool:
        """Begin a snapshot; False while one is being written, or when there is nothing new.

        `given_up` is called when the disk has no room for it.
        """

    async def transfer_leadership(self, transferee: int, timeout_seconds: float) -> None:
        """Hand the leadership over. Raises RaftError or TimeoutError."""

    def campaign(self) -> None:
        """Try to become leader now, if the others know of none."""

    def receive(self, envelopes: list[Envelope]) -> None:
        """Take messages from the transport."""

    def report_unreachable(self, server_id: int) -> None:
        """Messages to this server are being lost."""

    def report_reachable(self, server_id: int) -> None:
        """There is a connection to this server again."""

    def report_leader_lost(self) -> None:
        """The leader's connections have broken."""

    def report_snapshot(self, server_id: int, delivered: bool) -> None:
        """A snapshot has reached its follower, or has not."""


class Peers(Protocol):
    """The way to the other members; see `raft.transport.Transport`."""

    @property
    def peer_ids(self) -> list[int]:
        """The members that messages are exchanged with, sorted."""

    def active_since(self, peer_id: int) -> float | None:
        """Since when, in the event loop's clock, the peer can be sent to; None if it cannot."""

    def is_connected(self, peer_id: int) -> bool:
        """Whether the peer can be sent to and can answer."""

    def stats(self, peer_id: int) -> PeerStats | None:
        """The live counters of a peer."""

    def add_peer(self, peer_id: int, urls: list[str]) -> None:
        """Exchange messages with this member from now on; known already, it gets these URLs."""

    def update_peer(self, peer_id: int, urls: list[str]) -> None:
        """Dial the member at these URLs; nothing if it is none of ours."""

    def remove_peer(self, peer_id: int) -> None:
        """Exchange nothing more with this member."""

    def mark_removed(self, member_ids: Iterable[int]) -> None:
        """Refuse these members for ever, and remove their peers."""
