"""`GET /v2/admin/snapshot`: a backup of the running cluster, streamed.

It holds what was acknowledged by any member before the request. The state is captured at one
moment, which costs little, and encoded as the client takes it, a piece in a turn of the loop; the
bytes are those of a snapshot's file, whose checksums show that nothing is missing.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from pyetcd.api.json_body import answer_message
from pyetcd.errors import EtcdError
from pyetcd.httpd import Request, Stream
from pyetcd.server.apply import Applier
from pyetcd.server.pending import ReadDone
from pyetcd.server.surroundings import RaftNode
from raft import SnapshotMeta, encode_snapshot

# How much may wait for a client that reads slowly, and how often it is looked at.
AHEAD_BYTES: Final = 512 * 1024
LOOK_SECONDS: Final = 0.01
# A backup keeps the state of its beginning in memory: so many at a time.
MAX_BACKUPS: Final = 2

_HEAD: Final = (
    b"Content-Type: application/octet-stream\r\n"
    b'Content-Disposition: attachment; filename="etcd-%x-%d.snapshot"\r\n'
    b"X-Etcd-Cluster-Id: %x\r\nX-Etcd-Index: %d\r\nX-Raft-Index: %d\r\n"
)


class AdminServer(Protocol):
    """What the handler needs of a server."""

    @property
    def applier(self) -> Applier:
        """The state."""

    @property
    def node(self) -> RaftNode:
        """The log."""

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when the store holds all that any member has acknowledged before now."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call back from the event loop, in a later turn even for 0 seconds."""


class Admin:
    """The handler."""

    def __init__(self, server: AdminServer) -> None:
        self._server = server
        self._running = 0

    def snapshot(self, request: Request) -> None:
        """Answer `/v2/admin/snapshot`."""

        def confirmed(refused: EtcdError | None) -> None:
            if refused is None:
                # Not from within the application of entries, which may be where we are.
                self._server.call_later(0.0, lambda: self._begin(request))
            elif not request.answered:
                answer_message(request, 503, refused.cause)

        self._server.read_index(confirmed)

    def _begin(self, request: Request) -> None:
        server = self._server
        core, applier = server.node.core, server.applier
        raft_index = applier.raft_index
        # While a leader's snapshot waits to be restored, the log is ahead of the state.
        if self._running >= MAX_BACKUPS or core.restoring or core.applied_index != raft_index:
            answer_message(request, 503, "the member is busy with snapshots, try again later")
            return
        self._running += 1
        meta = SnapshotMeta(raft_index, core.log.term(raft_index), core.configuration)
        cluster = applier.cluster
        index = applier.store.index
        head = _HEAD % (cluster.id, raft_index, cluster.id, index, raft_index)
        _Backup(self, request, head, encode_snapshot(meta, applier.capture()))

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call back from the event loop."""
        self._server.call_later(seconds, callback)

    def ended(self) -> None:
        """One backup less."""
        self._running -= 1


class _Backup:
    """One backup under way."""

    __slots__ = ("_admin", "_pieces", "_stream")

    def __init__(
        self, admin: Admin, request: Request, head: bytes, pieces: Iterator[bytes]
    ) -> None:
        self._admin = admin
        self._pieces: Iterator[bytes] | None = pieces
        self._stream: Stream = request.start_stream(200, head, self._lost)
        self._next()

    def _next(self) -> None:
        pieces = self._pieces
        if pieces is None:
            return  # the client has gone
        if not self._stream.is_open:
            self._end()  # it had gone before this began
            return
        if self._stream.buffered > AHEAD_BYTES:
            self._admin.call_later(LOOK_SECONDS, self._next)
            return
        piece = next(pieces, None)
        if piece is None:
            self._end()
            self._stream.finish()
            return
        self._stream.write(piece)
        self._admin.call_later(0.0, self._next)

    def _lost(self) -> None:
        """The client has gone; or the member stops, and what was sent is no whole backup."""
        self._end()
        self._stream.abort()

    def _end(self) -> None:
        if self._pieces is not None:
            self._pieces = None
            self._admin.ended()
