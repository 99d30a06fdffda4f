"""What every part of the transport is told about this member, and whom it tells of the others.

Values and protocols only: nothing here does anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from ssl import SSLContext
from typing import Protocol

from raft.codec import MAX_FRAME_BYTES
from raft.entry import SnapshotMeta
from raft.errors import PeerRejected
from raft.messages import Envelope
from raft.transport.handshake import Hello
from raft.transport.stream import Stream


class Events(Protocol):
    """Whom the transport tells what happens.

    All are called from the event loop's own callbacks, never from inside `Transport.send`, and
    what they raise reaches the loop's exception handler.
    """

    def on_envelopes(self, envelopes: list[Envelope]) -> None:
        """Take messages that arrived together; all are addressed to this member."""

    def on_unreachable(self, peer_id: int) -> None:
        """Messages to this peer are lost from here on; told once, until it is reached again."""

    def on_reachable(self, peer_id: int) -> None:
        """Messages to this peer reach it from here on."""

    def on_stream_lost(self, peer_id: int) -> None:
        """The peer's connection to us has ended: if it led us, it may be dead."""

    def on_rejected(self, peer_id: int, error: PeerRejected) -> None:
        """The peer refuses us; told once per text. A `MemberRemoved` is final."""

    def on_snapshot_sent(self, peer_id: int, *, delivered: bool) -> None:
        """An `InstallSnapshot` was taken by the peer, its state durable there; or it was not."""


class SnapshotReceiver(Protocol):
    """Takes the bytes of one snapshot to the disk; may block: it has a thread of its own.

    After `write`* comes either `commit` or `abort`; after a failed `commit`, `abort`.
    """

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises OSError."""

    def commit(self) -> SnapshotMeta:
        """Verify the whole and make it durable. Raises CorruptRecord or OSError."""

    def abort(self) -> None:
        """Forget all of it."""


class SnapshotFiles(Protocol):
    """Where snapshots are read from and written to; may block: it is called in a thread."""

    def open_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The bytes of a durable snapshot, in pieces. Raises CorruptRecord or OSError."""

    def receive_snapshot(self) -> SnapshotReceiver:
        """Begin a snapshot that another member sends. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Times and bounds; the defaults suit a cluster whose members are milliseconds apart."""

    # A silent connection is given up after `silent_ticks` ticks; an idle one shows life in each.
    tick_seconds: float = 1.0
    silent_ticks: int = 5
    # For connecting and the handshake together. A host that is gone answers nothing at all, and
    # must not keep us from noticing that it is back.
    dial_seconds: float = 2.0
    # Who connects and then says nothing holds a descriptor so long: until the end of the handshake
    # of TLS, and until that of the first head, or from an answer to the end of the next head.
    handshake_seconds: float = 10.0
    head_seconds: float = 30.0
    # The wait after the first failed attempt, and the longest; see `Peer`.
    first_backoff_seconds: float = 0.02
    last_backoff_seconds: float = 0.5
    # A snapshot is given up when nothing of it moves for this long; its whole may take hours.
    stall_seconds: float = 10.0
    # For the receiver of a snapshot to verify it and make it durable, once it has all of it.
    commit_seconds: float = 120.0
    # What a peer has not taken yet is kept up to here (and one call's worth more); later
    # messages to it are dropped. Raft repeats what matters; memory is not given back so easily.
    max_buffer_bytes: int = 16 * 1024 * 1024
    max_frame_bytes: int = MAX_FRAME_BYTES
    # For what was written before `stop` to leave.
    stop_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Local:
    """This member, as the parts of its transport need to know it."""

    member_id: int
    cluster_id: int
    # Where the others can dial us.
    peer_urls: tuple[str, ...]
    server_version: str
    events: Events
    files: SnapshotFiles
    random: Random
    tuning: Tuning
    # For dialing https URLs.
    # Asked for each connection that we begin: certificates are renewed. None dials no https.
    client_tls: Callable[[], SSLContext] | None
    # Every connection that has become a stream and is not lost yet, whoever holds it.
    streams: set[Stream] = field(default_factory=set)

    def hello(self, recipient: int) -> Hello:
        """Return what we say when we dial `recipient`."""
        return Hello(
            cluster_id=self.cluster_id,
            sender=self.member_id,
            recipient=recipient,
            server_version=self.server_version,
            peer_urls=self.peer_urls,
        )
