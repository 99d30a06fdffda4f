"""Sending snapshots: the state of this member streamed to the disk of another.

Each goes in a request of its own and is read in a thread, a piece at a time, so that neither the
event loop nor the memory notices how large a state is.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from raft.codec import encode_envelopes
from raft.entry import SnapshotMeta
from raft.errors import RaftError
from raft.messages import Envelope, InstallSnapshot
from raft.transport.dial import Call, dial
from raft.transport.handshake import ENVELOPE_HEADER, SNAPSHOT_PATH, failure
from raft.transport.local import Local
from raft.transport.peer import Peer

log = logging.getLogger(__name__)

# What is written to a connection before it is waited for.
_PIECE_BYTES: Final = 64 * 1024


class _Transfer(NamedTuple):
    envelope: Envelope
    task: asyncio.Task[None]


class SnapshotSender:
    """Sends snapshots, one at a time to each peer.

    Invariants:
      1. Every `send` ends in one `on_snapshot_sent`, unless it repeats one that is under way, is
         superseded by another, or cancelled.
    """

    def __init__(
        self, local: Local, spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
    ) -> None:
        self._local = local
        self._spawn = spawn
        # One thread, so that a reader is closed only after the read that was under way.
        self._thread = ThreadPoolExecutor(1, "raft-snapshot-send")
        self._transfers: dict[int, _Transfer] = {}

    def send(self, peer: Peer, envelope: Envelope) -> None:
        """Begin to send the snapshot that `envelope` names."""
        running = self._transfers.get(peer.peer_id)
        if running is not None:
            if running.envelope == envelope:
                return
            running.task.cancel()
        task = self._spawn(self._send(peer, envelope))
        self._transfers[peer.peer_id] = _Transfer(envelope, task)

    def cancel(self, peer_id: int) -> None:
        """Send no more to this peer, and tell nothing of it."""
        transfer = self._transfers.pop(peer_id, None)
        if transfer is not None:
            transfer.task.cancel()

    def stop(self) -> None:
        """Cancel everything; the thread ends with what it is doing."""
        for peer_id in list(self._transfers):
            self.cancel(peer_id)
        self._thread.shutdown(wait=False)

    async def _send(self, peer: Peer, envelope: Envelope) -> None:
        assert isinstance(envelope.message, InstallSnapshot), f"{envelope} is no snapshot"
        meta = envelope.message.meta
        peer_id = peer.peer_id
        log.info("sending the snapshot at index %d to %x", meta.index, peer_id)
        try:
            await self._transfer(peer, envelope, meta)
        except (RaftError, OSError) as error:
            peer.exchange.complain(f"the snapshot at index {meta.index} was not delivered: {error}")
            delivered = False
        else:
            log.info("%x has the snapshot at index %d", peer_id, meta.index)
            delivered = True
        del self._transfers[peer_id]
        self._local.events.on_snapshot_sent(peer_id, delivered=delivered)

    async def _transfer(self, peer: Peer, envelope: Envelope, meta: SnapshotMeta) -> None:
        """Raises RaftError or OSError if it was not delivered."""
        in_thread = asyncio.get_running_loop().run_in_executor
        tuning = self._local.tuning
        url = peer.url
        if url is None:
            raise OSError("no URL of it is known")
        # Reading is not timed: a slow disk of ours is not the peer's fault.
        chunks = await in_thread(self._thread, self._local.files.open_snapshot, meta)
        call: Call | None = None
        try:
            async with limit(tuning.dial_seconds, f"dial {url}"):
                call = await dial(
                    url,
                    method="POST",
                    path=SNAPSHOT_PATH,
                    headers=self._headers(envelope),
                    tls=self._local.client_tls,
                )
            while not call.answered:
                chunk = await in_thread(self._thread, next, chunks, None)
                if chunk is None:
                    call.write(b"0\r\n\r\n")
                    break
                await self._write(call, chunk)
            async with limit(tuning.commit_seconds, "wait for the answer"):
                answer = await call.answer()
        finally:
            if call is not None:
                call.close()
            self._thread_close(chunks)
        if answer.status != 204:
            raise failure(answer.status, answer.text, peer_id=peer.peer_id, url=url)

    async def _write(self, call: Call, chunk: bytes) -> None:
        """Write one piece after another, for as long as the peer takes them."""
        # An empty chunk must not be written: in HTTP it would end the body.
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = chunk[start : start + _PIECE_BYTES]
            call.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            async with limit(self._local.tuning.stall_seconds, "write"):
                await call.drain()
            if call.answered:
                return

    def _headers(self, envelope: Envelope) -> dict[str, str]:
        headers = self._local.hello(envelope.recipient).headers()
        headers[ENVELOPE_HEADER] = base64.b64encode(encode_envelopes([envelope])).decode("ascii")
        headers["Content-Type"] = "application/octet-stream"
        headers["Transfer-Encoding"] = "chunked"
        headers["Connection"] = "close"
        return headers

    def _thread_close(self, chunks: Iterator[bytes]) -> None:
        if isinstance(chunks, Generator):
            try:
                self._thread.submit(chunks.close)
            except RuntimeError:
                pass  # stopped: the generator goes with its last reference


@asynccontextmanager
async def limit(seconds: float, what: str) -> AsyncIterator[None]:
    """Raise OSError, which says what was waited for, when that takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise OSError(f"{what}: no progress for {seconds:g} s") from None
