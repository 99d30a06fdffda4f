"""The order of one connection's requests and answers, and what may wait in between.

`protocol.py` submits complete requests here; requests and streams write their answers here.
Safe requests that were pipelined are handled side by side, any other waits for the answers
before it (RFC 9112 9.3.2). Reading stops before a client can make us keep unbounded memory.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from pyetcd.httpd.request import Request
from pyetcd.httpd.response import CONTINUE, Stream
from pyetcd.httpd.vigil import Vigil

Handler: TypeAlias = Callable[[Request], None]

# Methods that change nothing, so that requests may overlap (RFC 9110 9.2.1).
SAFE_METHODS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
# Parsed requests that wait behind unanswered ones may hold this much before reading stops.
BACKLOG_BYTES: Final = 64 << 10


class Limits(NamedTuple):
    """What one client may cost. Sizes are exceeded by at most one read of the socket."""

    # As Go's DefaultMaxHeaderBytes.
    head_bytes: int = 1 << 20
    # More than the largest form, whose refusal is an answer of the API.
    body_bytes: int = 16 << 20
    # Unanswered requests of one connection.
    pipelined: int = 32
    # What may wait in a stream for a client that does not read.
    stream_bytes: int = 4 << 20
    # An idle connection is kept this long.
    idle_seconds: int = 300
    # A head must be complete this long after its first byte, or after the connection's beginning if
    # it is the first one; a body after its head.
    head_seconds: int = 30
    body_seconds: int = 300
    # A client that takes none of its answer, or sends more than may wait, is dropped after this.
    stall_seconds: int = 300
    # After a refusal: how long the client may go on sending what is thrown away.
    linger_seconds: int = 2


@dataclass(slots=True)
class Shared:
    """What all connections of a listener have in common."""

    handler: Handler
    # An exception of our own code reached the loop; the process should end.
    on_crash: Callable[[BaseException], None]
    limits: Limits
    # The Date header line of this second.
    date: bytes
    # Has something called in the next turn of the loop, once the listener has one.
    call_soon: Callable[[Callable[[], None]], object] | None = None
    _vigil: Vigil = field(default_factory=Vigil)

    def answered(self) -> None:
        """An answer was written, whose client may ask again at once."""
        if self.call_soon is not None and self._vigil.answered(time.perf_counter()):
            self.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        assert self.call_soon is not None, "awake without a loop"
        if self._vigil.goes_on(time.perf_counter()):
            os.sched_yield()
            self.call_soon(self._stay_awake)


class Pipeline:
    """The requests of one connection from their last byte read to their last byte answered.

    Invariants:
      1. Answers leave in the order of their requests.
      2. `_pending` holds the started requests that are unanswered or wait for their turn; it
         holds an unsafe request only alone.
      3. `_backlog` holds requests that are not started; beyond `pipelined` requests, or
         BACKLOG_BYTES of bodies, it grows by no more than what one read brought.
      4. After `lose` both are empty and `transport` is None.
    """

    __slots__ = (
        "_advancing",
        "_backlog",
        "_backlog_bytes",
        "_ending",
        "_pending",
        "_shared",
        "_unread",
        "_write",
        "continue_due",
        "lingering",
        "reading_paused",
        "stale",
        "transport",
        "write_paused",
    )

    def __init__(self, shared: Shared, transport: asyncio.Transport) -> None:
        self._shared = shared
        # None when the connection is lost.
        self.transport: asyncio.Transport | None = transport
        self._write: Callable[[bytes], None] = transport.write
        self._pending: deque[Request] = deque()
        self._backlog: deque[Request] = deque()
        self._backlog_bytes = 0
        self._advancing = False
        # The last answer is written, or will never be.
        self._ending = False
        # It was a refusal: what the client still sends is read and dropped.
        self.lingering = False
        # The client waits for 100 Continue.
        self.continue_due = False
        # The client reads more slowly than we write.
        self.write_paused = False
        self.reading_paused = False
        # Seconds since an answer was written, or the client took a part of one.
        self.stale = 0
        # What the client had not taken at the last `watch_client`.
        self._unread = 0

    # --- for requests and streams (Carrier) ---

    @property
    def date(self) -> bytes:
        """The Date header line of this second."""
        return self._shared.date

    @property
    def stream_bytes(self) -> int:
        """How much a stream may keep for a client that does not read."""
        return self._shared.limits.stream_bytes

    @property
    def remote_address(self) -> str:
        """The client, as `host:port`; empty for a unix socket or a lost connection."""
        name = None if self.transport is None else self.transport.get_extra_info("peername")
        if not isinstance(name, tuple):
            return ""
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def deliver(self, request: Request, data: bytes) -> None:
        """Write a whole answer, or keep it until the earlier ones are written."""
        pending = self._pending
        if not pending or pending[0] is not request:
            request.answer = data
            return
        self._write(data)
        self._answered(request)

    def begin_stream(self, request: Request, stream: Stream) -> None:
        """Open the stream, or keep it until the earlier answers are written."""
        request.stream = stream
        if self._pending and self._pending[0] is request:
            stream.open()

    def end_stream(self, stream: Stream) -> None:
        """The stream is complete; it can only be the one at the front."""
        if self._pending and self._pending[0].stream is stream:
            self._answered(self._pending[0])

    def abort(self) -> None:
        """Drop the connection; its requests are told in the loop's next turn."""
        self._ending = True
        if self.transport is not None:
            self.transport.abort()

    # --- for the connection ---

    @property
    def is_idle(self) -> bool:
        """Whether every request so far is answered."""
        return not self._pending and not self._backlog

    @property
    def can_stay_half_open(self) -> bool:
        """Whether answers can still be written when the client has sent its last byte."""
        transport = self.transport
        return transport is not None and transport.get_extra_info("sslcontext") is None

    @property
    def is_only_waiting(self) -> bool:
        """Whether some request may never be answered, and its client can be told to go."""
        return any(r.on_disconnect is not None or r.stream is not None for r in self._pending)

    @property
    def _stream(self) -> Stream | None:
        """The one whose turn it is."""
        return self._pending[0].stream if self._pending else None

    def submit(self, request: Request) -> None:
        """Start the request, or let it wait."""
        if not self._backlog and self._may_start(request):
            self._start(request)
        elif not self._ending:
            self._backlog.append(request)
            self._backlog_bytes += len(request.body)
            limits = self._shared.limits
            if len(self._backlog) >= limits.pipelined or self._backlog_bytes > BACKLOG_BYTES:
                self._pause_reading()

    def advance(self) -> None:
        """Send and start what the end of an answer, or a client's reading, made possible."""
        if self._advancing:
            return  # called by an answer given in the loop below, which sees to the rest
        self._advancing = True
        while self._step():
            pass
        self._advancing = False
        if not self._backlog and not self._ending:
            self._resume_reading()

    def pause_writing(self) -> None:
        """The client does not keep up: start no more requests."""
        self.write_paused = True
        stream = self._stream
        if stream is not None:
            stream.pause()
        self.stale = 0
        self.watch_client()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        stream = self._stream
        if stream is not None:
            stream.resume()
        self.stale = 0
        self.advance()

    def watch_client(self) -> None:
        """Note whether the client took something since the last call."""
        unread = 0 if self.transport is None else self.transport.get_write_buffer_size()
        if unread < self._unread:
            self.stale = 0
        self._unread = unread

    def take_no_more(self) -> None:
        """The request submitted last is the last one."""
        (self._backlog or self._pending)[-1].be_last()

    def shut(self) -> None:
        """End as soon as the started requests are answered.

        Streams end here, with their last chunk; whoever writes them is told (`on_disconnect`)
        before that. Whoever waits for what may never happen is told, and not answered.
        """
        self._backlog.clear()
        if not self._pending:
            self.end()
            return
        self.take_no_more()
        for request in list(self._pending):
            if request.stream is not None:
                notify, request.stream.on_disconnect = request.stream.on_disconnect, None
                if notify is not None:
                    self.call(notify)
                request.stream.finish()
        if any(request.on_disconnect is not None for request in self._pending):
            self.end()

    def end(self, *, linger: bool = False) -> None:
        """Close when everything is written; with `linger` let the client read it first.

        Closing a socket with unread input resets it, which can destroy the answer on its way.
        """
        self._ending = True
        self._backlog.clear()
        transport = self.transport
        assert transport is not None, "end of a lost connection"
        if linger and transport.can_write_eof():
            self.lingering = True
            self._resume_reading()
            transport.write_eof()
        else:
            transport.close()

    def lose(self) -> None:
        """The connection is gone: tell everybody who would still answer."""
        self.transport = None
        self._write = _drop
        self._ending = True
        pending = list(self._pending)
        self._pending.clear()
        self._backlog.clear()
        for request in pending:
            told = request if request.stream is None else request.stream
            notify, told.on_disconnect = told.on_disconnect, None
            if notify is not None:
                self.call(notify)

    def call(self, notify: Callable[[], None]) -> None:
        """Tell somebody, who may fail."""
        try:
            notify()
        except Exception as exc:
            self.crash(exc)

    def crash(self, exc: BaseException) -> None:
        """Our own code failed: the process should not go on, this connection cannot."""
        self.abort()
        self._shared.on_crash(exc)

    def _may_start(self, request: Request) -> bool:
        if self.write_paused or self._ending:
            return False
        pending = self._pending
        return not pending or (
            len(pending) < self._shared.limits.pipelined
            and request.method in SAFE_METHODS
            and pending[-1].method in SAFE_METHODS
        )

    def _start(self, request: Request) -> None:
        self._pending.append(request)
        if request.answer is not None:
            self.deliver(request, request.answer)
            return
        try:
            self._shared.handler(request)
        except Exception as exc:
            self.crash(exc)

    def _answered(self, request: Request) -> None:
        """Go on from the first of the pending requests, whose answer is written."""
        pending = self._pending
        pending.popleft()
        self.stale = 0
        self._shared.answered()
        if not request.keep_alive:
            self.end(linger=request.is_refusal)
        elif pending or self._backlog or self.continue_due:
            self.advance()

    def _step(self) -> bool:
        """Do one thing that is due; False when nothing is."""
        if self._pending:
            first = self._pending[0]
            if first.answer is not None:
                self.deliver(first, first.answer)
                return True
            if first.stream is not None and not first.stream.is_opened:
                first.stream.open()
                return True
        if self._backlog and self._may_start(self._backlog[0]):
            request = self._backlog.popleft()
            self._backlog_bytes -= len(request.body)
            self._start(request)
            return True
        if self.continue_due and self.is_idle:
            self.continue_due = False
            self._write(CONTINUE)
        return False

    def _pause_reading(self) -> None:
        if not self.reading_paused and self.transport is not None:
            self.reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.reading_paused and self.transport is not None:
            self.reading_paused = False
            self.transport.resume_reading()


def _drop(data: bytes) -> None:
    """Take an answer that nobody gets."""
