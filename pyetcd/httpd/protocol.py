"""One client's connection: bytes in, complete requests out to the pipeline.

Relies on llhttp (httptools) for the grammar of HTTP/1.1 and for refusing every ambiguous
framing; what it leaves open is decided in `head.py`. There is no timer and no task here: the
listener calls `sweep` once a second. Nothing that a client sends may raise: it is answered, or
the connection is closed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from pyetcd.httpd import head
from pyetcd.httpd.pipeline import Pipeline, Shared
from pyetcd.httpd.request import Request
from pyetcd.httpd.response import refusal

# Framing of a chunked body may cost this many bytes per byte of payload: a chunk of one byte
# takes six on the wire. More is padding that would keep a connection busy for nothing.
CHUNK_OVERHEAD = 8


class Connection:
    """One connection and the request that is being read from it.

    An asyncio.Protocol in all but the name: compiled, it can be no subclass of one.

    Invariants:
      1. `_request` is None until the head is complete, then until the message is.
      2. `_partial` says that a message has begun and is not complete.
      3. There is a parser until the connection is lost.
      4. Once `_divert` ignores the input it does so for ever: the last request was taken.
    """

    __slots__ = (
        "_body_bytes",
        "_crowd",
        "_divert",
        "_flags",
        "_fragments",
        "_has_asked",
        "_headers",
        "_method",
        "_odd_line",
        "_odd_method",
        "_parser",
        "_partial",
        "_pipeline",
        "_request",
        "_shared",
        "_stale",
        "_target",
        "_upgrade",
        "_wire_bytes",
    )

    # What `connection_lost` deletes; mypyc wants to know.
    __deletable__ = ("_parser",)

    # Set by `connection_made`, before anything else is called.
    _pipeline: Pipeline

    def __init__(self, shared: Shared, crowd: "Crowd") -> None:
        self._shared = shared
        self._crowd = crowd
        self._parser = HttpRequestParser(self)
        # Takes the input instead of the parser: a request line to rewrite, or input to ignore.
        self._divert: Callable[[bytes], None] | None = None
        # Seconds since a head or a body began, counted by sweeps.
        self._stale = 0
        self._partial = False
        # A head has been read to its end.
        self._has_asked = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._flags = 0
        self._request: Request | None = None
        # The body after its first part, which is in the request.
        self._fragments: list[bytes] = []
        self._body_bytes = 0
        # Bytes of this head or body, but for those of the read in which it began.
        self._wire_bytes = 0
        # The parser stops at this request's end, taking it for an upgrade.
        self._upgrade = False
        # A request line that llhttp refused, and whether for its method (else for its target).
        self._odd_line = b""
        self._odd_method = False
        # The method of the request, if the parser was given another in its place.
        self._method = b""

    # --- the listener's part ---

    def sweep(self) -> None:
        """Count one second; drop the client if nothing has moved for too long."""
        pipeline = self._pipeline
        pipeline.stale += 1
        self._stale += 1
        stale = pipeline.stale
        limits = self._shared.limits
        if pipeline.lingering:
            limit = limits.linger_seconds
        elif pipeline.write_paused:
            pipeline.watch_client()
            stale, limit = pipeline.stale, limits.stall_seconds
        elif pipeline.reading_paused:
            # With reading paused a client that left would not be noticed.
            limit = limits.stall_seconds
        elif not pipeline.is_idle:
            return
        elif self._partial:
            stale = self._stale
            limit = limits.head_seconds if self._request is None else limits.body_seconds
        else:
            # Who has asked may ask again; who never has is no client yet.
            limit = limits.idle_seconds if self._has_asked else limits.head_seconds
        if stale > limit:
            self.abort()

    def shut(self) -> None:
        """End the connection as soon as the started requests are answered."""
        self._divert = _ignore
        self._pipeline.shut()

    def abort(self) -> None:
        """Drop the connection."""
        self._divert = _ignore
        self._pipeline.abort()

    # --- the transport's callbacks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve the client."""
        # A cast, as uvloop's transports do not derive from asyncio's.
        self._pipeline = Pipeline(self._shared, cast(asyncio.Transport, transport))
        crowd = self._crowd
        crowd.members.add(self)
        if crowd.is_closed:
            # Accepted just before: what would answer is being stopped.
            self.shut()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who would still answer; a client's reset is not an error."""
        self._divert = _ignore
        # The parser knows us as we know it: left to the collector, which seldom looks at what has
        # lived long, every connection would cost memory for ever.
        del self._parser
        crowd = self._crowd
        crowd.members.discard(self)
        self._pipeline.lose()
        if not crowd.members and crowd.on_empty is not None:
            crowd.on_empty()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; its callbacks below do the rest."""
        if self._divert is not None:
            self._divert(data)
            return
        if self._partial:
            # Checked before adding: this read may hold the end of the message, and more.
            if self._is_oversized():
                self._refuse(head.Refused(431 if self._request is None else 413))
                return
            self._wire_bytes += len(data)
        self._feed(data)

    def eof_received(self) -> bool:
        """The client sends no more: answer what it has sent, unless it only waits.

        A client that shut down its side while it waits for an event has given up, as far as
        Go's CloseNotifier is concerned. Returns whether to keep the connection.
        """
        self._divert = _ignore
        pipeline = self._pipeline
        if pipeline.is_idle or pipeline.is_only_waiting or not pipeline.can_stay_half_open:
            return False
        pipeline.take_no_more()
        return True

    def pause_writing(self) -> None:
        """The client does not keep up: start no more requests."""
        self._pipeline.pause_writing()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._pipeline.resume_writing()

    # --- the parser's callbacks ---

    def on_url(self, part: bytes) -> None:
        """A head begins, or its target goes on."""
        if self._partial:
            self._target += part
        else:
            self._partial = True
            self._target = part
            self._headers = []
            self._flags = 0
            self._wire_bytes = 0
            self._stale = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those that matter to the connection are noted in the flags."""
        name = name.lower()
        self._headers.append((name, value))
        flag = head.FLAGS.get(name, 0)
        if flag:
            self._flags |= flag if not self._flags & flag else flag | head.TWICE

    def on_headers_complete(self) -> None:
        """Make the request. Raises Refused, which the parser carries to `_feed`."""
        target = self._target
        parser = self._parser
        method = parser.get_method()
        if self._method:
            method, self._method = self._method, b""
        path, _, query = target.partition(b"?")
        request = Request(self._pipeline, method, target, path, query, self._headers)
        if (
            self._flags & ~head.USUAL != 0
            or not self._flags & head.HOST
            or 0x25 in path  # "%"
            or target[0] != 0x2F
            or method == b"CONNECT"
            or not parser.should_keep_alive()
        ):
            head.inspect(request, self._flags, parser)
            self._upgrade = parser.should_upgrade()
            if self._flags & head.EXPECT and not request.http10 and not self._upgrade:
                self._expect_continue(request)
        self._request = request
        self._has_asked = True
        # Trailers of a chunked body go to a list that nobody reads.
        self._headers = []
        self._flags = 0
        self._wire_bytes = 0
        self._stale = 0

    def on_body(self, data: bytes) -> None:
        """A part of the body, mostly all of it."""
        request = self._request
        assert request is not None, "body before its head"
        self._body_bytes += len(data)
        if self._body_bytes > self._shared.limits.body_bytes:
            raise head.Refused(413)
        if request.body:
            self._fragments.append(data)
        else:
            request.body = data

    def on_message_complete(self) -> None:
        """The request is complete: start it now or when its turn comes."""
        request = self._request
        assert request is not None, "end of a message without a head"
        self._partial = False
        self._request = None
        if self._upgrade:
            self._request = request  # its body is still to come: see _ignore_upgrade
            return
        self._body_bytes = 0
        self._pipeline.continue_due = False
        if self._fragments:
            request.body = b"".join((request.body, *self._fragments))
            self._fragments.clear()
        if not request.keep_alive:
            self._divert = _ignore
        self._pipeline.submit(request)

    # --- reading ---

    def _feed(self, data: bytes) -> None:
        headers, partial = self._headers, self._partial
        try:
            self._parser.feed_data(data)
            return
        except (HttpParserError, HttpParserUpgrade) as stopped:
            # Handled below: while an exception is handled, the parser's next one would have it
            # as its context, in place of what its callback raised. Its traceback would lead back
            # to this very frame, a cycle that lives as long as a collector is seldom.
            error = stopped.with_traceback(None)
        if isinstance(error, HttpParserUpgrade) and self._upgrade:
            self._ignore_upgrade(data[error.args[0] :])
        elif isinstance(error, HttpParserCallbackError):
            cause = error.__context__
            if isinstance(cause, head.Refused):
                # The parser keeps it, and its frames know the parser.
                self._refuse(cause.with_traceback(None))
            else:
                self._pipeline.crash(cause or error)
        elif self._divert is not None:
            pass  # only what follows the last request
        elif (
            isinstance(error, HttpParserInvalidMethodError | HttpParserInvalidURLError)
            and self._request is None
            # The same list of headers: no other request has begun or ended in this read.
            and headers is self._headers
            and partial == self._partial
        ):
            self._begin_odd_line(data, isinstance(error, HttpParserInvalidMethodError))
        else:
            self._refuse(head.Refused(400))

    def _is_oversized(self) -> bool:
        limits = self._shared.limits
        request = self._request
        if request is None:
            return self._wire_bytes > limits.head_bytes
        length = request.header(b"content-length")
        if length is not None:
            return int(length) > limits.body_bytes
        return self._wire_bytes > limits.head_bytes + CHUNK_OVERHEAD * self._body_bytes

    def _expect_continue(self, request: Request) -> None:
        length = request.header(b"content-length")
        if length is not None and int(length) > self._shared.limits.body_bytes:
            raise head.Refused(413)
        if length is not None or request.header(b"transfer-encoding") is not None:
            self._pipeline.continue_due = True
            self._pipeline.advance()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the request again without its Upgrade header, as a server may (RFC 9110 7.8).

        The parser skips the body of a request that asks for an upgrade. Some clients ask for
        HTTP/2 in every first request, and expect an ordinary answer from servers without it.
        """
        request = self._request
        assert request is not None, "upgrade of no request"
        self._upgrade = False
        self._request = None
        self._parser = HttpRequestParser(self)
        self._feed(head.without_upgrade(request))
        self.data_received(rest)

    def _begin_odd_line(self, data: bytes, odd_method: bool) -> None:
        """Collect a request line that llhttp refuses and Go takes, to rewrite it.

        These are unknown methods, whose answer is the router's, and UTF-8 in the target, as
        curl sends what was typed. It can only be done for a request that begins a read. Of an
        unknown method whose beginning came with an earlier read only the rest is known.
        """
        if not odd_method:
            data = self._line_so_far(data)
        if not self._partial:
            self._stale = 0
        self._odd_method = odd_method
        self._odd_line = b""
        self._partial = True
        self._divert = self._collect_odd_line
        self._collect_odd_line(data)

    def _line_so_far(self, data: bytes) -> bytes:
        """The request line from its beginning, of which earlier reads may have had a part."""
        method = self._parser.get_method()
        if self._partial:
            return b"%b %b%b" % (method, self._target, data)
        data = data.lstrip()
        if not data.startswith((b"/", b"http")):
            data = data.partition(b" ")[2]
        return b"%b %b" % (method, data)

    def _collect_odd_line(self, data: bytes) -> None:
        self._odd_line += data
        line, end, rest = self._odd_line.lstrip(b"\r\n").partition(b"\n")
        try:
            if not end:
                if len(line) > self._shared.limits.head_bytes:
                    raise head.Refused(431)
                head.check_method(line)
                return
            if self._odd_method:
                self._method, line = head.rewrite_method(line)
            else:
                line = head.rewrite_target(line)
        except head.Refused as refused:
            self._refuse(refused)
            return
        self._odd_line = b""
        self._partial = False
        self._divert = None
        self._parser = HttpRequestParser(self)
        self._feed(b"%b\n%b" % (line, rest))

    def _refuse(self, refused: head.Refused) -> None:
        """Answer in place of a request that cannot be taken; the connection ends with it."""
        self._divert = _ignore
        self._partial = False
        self._request = None
        pipeline = self._pipeline
        pipeline.continue_due = False
        answer = refusal(refused.status, refused.detail, pipeline.date)
        pipeline.submit(Request.refused(pipeline, answer))


@dataclass(slots=True)
class Crowd:
    """The open connections of a listener."""

    members: set[Connection] = field(default_factory=set)
    # Whoever comes now comes too late.
    is_closed: bool = False
    # Told when the last one is gone.
    on_empty: Callable[[], None] | None = None


def _ignore(data: bytes) -> None:
    """Take input that nobody reads."""
