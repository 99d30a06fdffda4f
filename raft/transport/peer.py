"""A peer: another member, the stream that we dial to it, and the one that it dials to us.

Keeps the outgoing stream up for as long as the peer is one of ours, and tells of its changes. What
travels on the streams is the business of `raft.transport.exchange`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from raft.errors import PeerRejected
from raft.transport.dial import Call, dial
from raft.transport.exchange import Exchange
from raft.transport.handshake import STREAM_PATH, UPGRADE, failure
from raft.transport.local import Local
from raft.transport.stream import Stream

log = logging.getLogger(__name__)


class Peer:
    """One other member.

    Invariants:
      1. There is at most one outgoing and one incoming stream.
      2. `active_since` is not None exactly while there is an outgoing stream.
    """

    def __init__(self, peer_id: int, urls: list[str], *, local: Local, is_guest: bool) -> None:
        """A guest dialed us before we knew it, and is forgotten when it leaves."""
        assert peer_id != local.member_id, f"{peer_id:x} is this member itself"
        self.peer_id = peer_id
        self.is_guest = is_guest
        self.exchange = Exchange(peer_id, local)
        # In the event loop's clock.
        self.active_since: float | None = None
        self._local = local
        self._urls = list(urls)
        self._url_turn = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._last_failure = ""

    @property
    def url(self) -> str | None:
        """The URL that is dialed, or would be next; None when there is none."""
        return self._urls[self._url_turn % len(self._urls)] if self._urls else None

    def start(self, spawn: Callable[[Coroutine[None, None, None]], asyncio.Task[None]]) -> None:
        """Begin to dial."""
        assert self._task is None, f"{self.peer_id:x} is dialed already"
        self._task = spawn(self._run())

    def stop(self, reason: str) -> None:
        """Dial no more, close both streams once they are flushed, and tell nothing of it."""
        if self._task is not None:
            self._task.cancel()
        exchange = self.exchange
        for stream in (exchange.outgoing, exchange.incoming):
            if stream is not None:
                stream.close(reason)
        if exchange.outgoing is not None:
            self._deactivate(reason)
        exchange.stop()

    def accept(self, stream: Stream) -> None:
        """Take a stream that the peer has dialed; it replaces an older one."""
        older, self.exchange.incoming = self.exchange.incoming, stream
        if older is not None:
            older.close("replaced by a newer one")
        self.hurry()

    def update(self, urls: list[str]) -> None:
        """Dial these from the next time on; a stream that works is kept.

        The peer may not be there yet, and may have to learn by this stream that it is to move.
        """
        if urls != self._urls:
            self._urls = list(urls)
            self._url_turn = 0
            self.hurry()

    def hurry(self) -> None:
        """Dial at once if there is no stream: there is news of the peer."""
        if self.exchange.outgoing is None:
            self._wake.set()

    async def _run(self) -> None:
        """Keep the outgoing stream up until cancelled.

        Between attempts it waits, each time twice as long and by chance up to half less, so that
        members which lost each other together do not come back in step.
        """
        tuning = self._local.tuning
        while True:
            self._wake.clear()
            stream = await self._try_urls()
            if stream is not None:
                # Not awaited itself: to cancel this task must not cancel the future.
                await asyncio.wait([stream.lost])
            if stream is not None and stream.age_ticks > 0:
                self._failures = 0
            wait_seconds = min(
                tuning.first_backoff_seconds * 2 ** min(self._failures, 16),
                tuning.last_backoff_seconds,
            ) * self._local.random.uniform(0.5, 1.0)
            self._failures += 1
            try:
                async with asyncio.timeout(wait_seconds if self._urls else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _try_urls(self) -> Stream | None:
        """Dial every URL once, the one that worked last first; None when all failed."""
        failures: list[str] = []
        for _ in range(len(self._urls)):
            url = self.url
            assert url is not None, "the URLs went away while they were tried"
            try:
                async with asyncio.timeout(self._local.tuning.dial_seconds):
                    stream = await self._dial(url)
            except TimeoutError:
                failures.append(f"dial {url}: timed out")
            except PeerRejected as error:
                failures.append(str(error))
                self._rejected(error)
            except OSError as error:
                failures.append(str(error))
            else:
                return stream
            self._url_turn += 1
        self._failed("; ".join(failures))
        return None

    async def _dial(self, url: str) -> Stream:
        local = self._local
        headers = {"Connection": "Upgrade", "Upgrade": UPGRADE}
        headers |= local.hello(self.peer_id).headers()
        call: Call | None = None
        try:
            call = await dial(
                url, method="GET", path=STREAM_PATH, headers=headers, tls=local.client_tls
            )
            answer = await call.answer()
            if answer.status != 101:
                raise failure(answer.status, answer.text, peer_id=self.peer_id, url=url)
            stream = Stream(
                on_frames=self._got_answer_frames,
                on_lost=self._lost_outgoing,
                max_frame_bytes=local.tuning.max_frame_bytes,
                max_silent_ticks=local.tuning.silent_ticks,
                streams=local.streams,
            )
            self._activate(stream)
            call.give_to(stream)
            local.events.on_reachable(self.peer_id)
            return stream
        finally:
            if call is not None:
                call.close()

    def _got_answer_frames(self, stream: Stream, frames: list[bytes]) -> None:
        # Messages come on the stream that the peer dials; on this one it only shows life.
        stream.abort(f"{len(frames)} frames on a stream that is ours to write")

    def _activate(self, stream: Stream) -> None:
        self.exchange.begin_sending(stream)
        self.active_since = asyncio.get_running_loop().time()
        self._last_failure = ""
        log.info("the connection with %x became active", self.peer_id)

    def _lost_outgoing(self, stream: Stream, reason: str) -> None:
        if stream is self.exchange.outgoing:
            self._deactivate(reason)
            self.exchange.tell_unreachable()

    def _deactivate(self, reason: str) -> None:
        self.exchange.outgoing = None
        self.active_since = None
        log.info("the connection with %x became inactive: %s", self.peer_id, reason)

    def _failed(self, text: str) -> None:
        if text and text != self._last_failure:
            self._last_failure = text
            log.warning("no connection with %x: %s", self.peer_id, text)

    def _rejected(self, error: PeerRejected) -> None:
        # The round that this is part of is logged, and so made known, when it is over.
        if str(error) not in self._last_failure:
            self._local.events.on_rejected(self.peer_id, error)
