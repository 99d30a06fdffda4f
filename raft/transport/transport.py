"""The transport: messages between the members of one cluster, over streams that keep themselves up.

Owns the peers, the peer port and the tasks; relies on an asyncio event loop, in whose thread all
of it is called. Knows nothing of core or storage: what arrives goes to `Events`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from random import Random
from ssl import SSLContext
from typing import Final

from raft.messages import Envelope
from raft.transport.exchange import Exchanges, PeerStats
from raft.transport.handshake import Hello, Refusal, admit
from raft.transport.local import Events, Local, SnapshotFiles, Tuning
from raft.transport.peer import Peer
from raft.transport.server import Page, Server
from raft.transport.snapshot_sender import SnapshotSender
from raft.transport.stream import Stream

log = logging.getLogger(__name__)

# Members that we do not know yet, or dialers who say so: each costs a stream each way.
MAX_GUESTS: Final = 16


class Transport:
    """One member's side of the network; implements `raft.interfaces.Transport`.

    Invariants:
      1. What reaches `on_envelopes` came from the member that it names as sender, and is for us.
      2. An `InstallSnapshot` reaches it only with its file committed.
      3. A member that was removed has neither peer nor stream, and gets none.
    """

    def __init__(
        self,
        member_id: int,
        cluster_id: int,
        *,
        events: Events,
        files: SnapshotFiles,
        random: Random,
        peer_urls: Iterable[str] = (),
        server_version: str = "",
        tuning: Tuning | None = None,
        server_tls: SSLContext | None = None,
        client_tls: Callable[[], SSLContext] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens nothing yet."""
        assert member_id > 0, f"ids begin at 1, not {member_id}"
        assert cluster_id > 0, f"ids begin at 1, not {cluster_id}"
        self._local = Local(
            member_id=member_id,
            cluster_id=cluster_id,
            peer_urls=tuple(peer_urls),
            server_version=server_version,
            events=events,
            files=files,
            random=random,
            tuning=tuning or Tuning(),
            client_tls=client_tls,
        )
        self._server = Server(
            self._local,
            admit=self._admit,
            accept=self._accept,
            tls=server_tls,
            wall_clock=wall_clock,
        )
        self._snapshots = SnapshotSender(self._local, self._spawn)
        self._peers: dict[int, Peer] = {}
        self._exchanges = Exchanges(self._send_snapshot)
        # Send each to its recipient; never waits, never raises, may drop. All messages go this
        # way, which is as short as can be.
        self.send: Callable[[list[Envelope]], None] = self._exchanges.send
        self._removed: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._is_running = False

    def serve_page(self, page: Page) -> None:
        """Have `page` answer what is asked on the peer port and is none of the transport's own."""
        self._server.page = page

    # ------------------------------------------------------------------------- start and stop

    async def start(
        self, addresses: list[tuple[str, int]], *, plain: Collection[tuple[str, int]] = ()
    ) -> list[tuple[str, int]]:
        """Listen on `addresses`, dial the peers; return the addresses with the chosen ports.

        With certificates, those in `plain` are served without TLS all the same.

        Raises OSError, whose text names the address that cannot be listened on.
        """
        assert not self._is_running, "started twice"
        bound = await self._server.start(addresses, plain)
        self._is_running = True
        for peer in self._peers.values():
            peer.start(self._spawn)
        self._ticker = asyncio.get_running_loop().call_later(
            self._local.tuning.tick_seconds, self._tick
        )
        return bound

    async def stop(self) -> None:
        """Send what was written, close everything, and tell nothing more."""
        self._is_running = False
        if self._ticker is not None:
            self._ticker.cancel()
        self._server.stop_listening()
        self._snapshots.stop()
        for peer_id in list(self._peers):
            self._drop_peer(peer_id, "this member stops")
        if self._tasks:
            await asyncio.wait(self._tasks)
        streams = [stream.lost for stream in self._local.streams]
        if streams:
            await asyncio.wait(streams, timeout=self._local.tuning.stop_seconds)
        for stream in list(self._local.streams):
            stream.abort("not flushed in time")
        await self._server.stop()

    # ---------------------------------------------------------------------------------- peers

    def add_peer(self, peer_id: int, urls: list[str]) -> None:
        """Exchange messages with this member from now on; known already, it gets these URLs."""
        if peer_id in self._removed:
            log.error("member %x was removed and cannot come back", peer_id)
            return
        peer = self._peers.get(peer_id)
        if peer is None:
            self._add(peer_id, urls, is_guest=False)
        else:
            peer.is_guest = False
            peer.update(urls)

    def update_peer(self, peer_id: int, urls: list[str]) -> None:
        """Dial the member at these URLs; nothing if it is none of ours."""
        if peer_id in self._peers:
            self._peers[peer_id].update(urls)

    def remove_peer(self, peer_id: int) -> None:
        """Exchange nothing more with this member; what was sent to it still leaves."""
        self._drop_peer(peer_id, "it is no longer a member")

    def mark_removed(self, member_ids: Iterable[int]) -> None:
        """Refuse these members for ever, and remove their peers."""
        for member_id in member_ids:
            self._removed.add(member_id)
            self._drop_peer(member_id, "it was removed from the cluster")

    @property
    def peer_ids(self) -> list[int]:
        """The members that messages are exchanged with, sorted; no guests."""
        return sorted(peer_id for peer_id, peer in self._peers.items() if not peer.is_guest)

    def active_since(self, peer_id: int) -> float | None:
        """Since when, in the event loop's clock, the peer can be sent to; None if it cannot."""
        peer = self._peers.get(peer_id)
        return peer.active_since if peer is not None else None

    def is_connected(self, peer_id: int) -> bool:
        """Whether there are streams to the peer and from it: a question will have its answer."""
        peer = self._peers.get(peer_id)
        return (
            peer is not None
            and peer.exchange.outgoing is not None
            and peer.exchange.incoming is not None
        )

    def stats(self, peer_id: int) -> PeerStats | None:
        """The live counters of a peer."""
        peer = self._peers.get(peer_id)
        return peer.exchange.stats if peer is not None else None

    def _add(self, peer_id: int, urls: list[str], *, is_guest: bool) -> Peer:
        peer = self._peers[peer_id] = Peer(peer_id, urls, local=self._local, is_guest=is_guest)
        self._exchanges.add(peer_id, peer.exchange)
        if self._is_running:
            peer.start(self._spawn)
        return peer

    def _drop_peer(self, peer_id: int, reason: str) -> None:
        peer = self._peers.pop(peer_id, None)
        if peer is not None:
            self._exchanges.remove(peer_id)
            self._snapshots.cancel(peer_id)
            peer.stop(reason)

    # -------------------------------------------------------------------------------- sending

    def _send_snapshot(self, envelope: Envelope) -> None:
        peer = self._peers.get(envelope.recipient)
        if peer is not None and self._is_running:
            self._snapshots.send(peer, envelope)

    # ------------------------------------------------------------------------------ receiving

    def _admit(self, headers: Mapping[str, str]) -> Hello:
        if not self._is_running:
            raise Refusal(503, "this member stops")
        return admit(
            headers,
            member_id=self._local.member_id,
            cluster_id=self._local.cluster_id,
            removed=self._removed,
        )

    def _accept(self, hello: Hello) -> Stream:
        peer = self._peers.get(hello.sender)
        if peer is None:
            if sum(peer.is_guest for peer in self._peers.values()) >= MAX_GUESTS:
                raise Refusal(503, "too many members that are not known here")
            # A member that was added by entries we have yet to receive. It needs our answers, to
            # send them, and so we dial it where it says that it is.
            log.info("%x is not known here yet", hello.sender)
            peer = self._add(hello.sender, list(hello.peer_urls), is_guest=True)
        tuning = self._local.tuning
        stream = Stream(
            on_frames=peer.exchange.receive,
            on_lost=partial(self._lost, peer),
            max_frame_bytes=tuning.max_frame_bytes,
            max_silent_ticks=tuning.silent_ticks,
            streams=self._local.streams,
        )
        peer.accept(stream)
        return stream

    def _lost(self, peer: Peer, stream: Stream, reason: str) -> None:
        if stream is not peer.exchange.incoming:
            return
        peer.exchange.incoming = None
        log.debug("the stream from %x ended: %s", peer.peer_id, reason)
        if peer.is_guest:
            self._drop_peer(peer.peer_id, "it has left")
        else:
            self._local.events.on_stream_lost(peer.peer_id)

    # ---------------------------------------------------------------------------------- tasks

    def _tick(self) -> None:
        for stream in list(self._local.streams):
            stream.tick()
        self._ticker = asyncio.get_running_loop().call_later(
            self._local.tuning.tick_seconds, self._tick
        )

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Not a failure of the network, which is expected: a bug, and the end of the process.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "in the peer transport", "exception": error, "task": task}
            )
