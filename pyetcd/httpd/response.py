"""What goes out: status lines, header lines, chunk framing, and streamed answers.

Knows the bytes of HTTP/1.1 and nothing of requests. A stream writes to its connection through
`Outlet`; it must never hold more than the connection's bound for a client that does not read.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import gmtime, strftime
from typing import Final, Protocol

# The reason phrases of Go's net/http, which clients of etcd have seen for years.
REASONS: Mapping[int, bytes] = {
    100: b"Continue",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    206: b"Partial Content",
    301: b"Moved Permanently",
    302: b"Found",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Request Entity Too Large",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}
# Complete for every status a proxy might pass on; the unnamed ones read as in Go.
STATUS_LINES: Final[Mapping[int, bytes]] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"status code %d" % status))
    for status in range(100, 600)
}
# These answers have neither a body nor a Content-Length (RFC 9110 8.6).
BODYLESS: Final = frozenset((204, 304))

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
TEXT_PLAIN: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
# The head of Go's http.Error.
ERROR_HEAD = TEXT_PLAIN + b"X-Content-Type-Options: nosniff\r\n"


class Outlet(Protocol):
    """The connection as a stream sees it."""

    # None when the connection is lost.
    transport: asyncio.Transport | None
    # The client reads more slowly than we write.
    write_paused: bool

    @property
    def stream_bytes(self) -> int:
        """How much may wait for a client that does not read."""

    def end_stream(self, stream: "Stream") -> None:
        """The last byte of the answer was written."""

    def abort(self) -> None:
        """Drop the connection and what waits in it."""


class Stream:
    """An answer that is written in pieces.

    Invariants:
      1. Nothing is written before `open`: earlier answers of the connection come first.
      2. Held and buffered bytes stay below the connection's bound plus one write.
      3. Writes after `finish`, or after the client has gone, do nothing.
    """

    __slots__ = ("_body", "_chunked", "_direct", "_finished", "_held", "_outlet", "on_disconnect")

    def __init__(
        self,
        outlet: Outlet,
        head: bytes,
        on_disconnect: Callable[[], None] | None,
        *,
        chunked: bool,
        body: bool,
    ) -> None:
        self._outlet = outlet
        # What was written before the stream's turn came; None afterwards.
        self._held: list[bytes] | None = [head]
        # The transport's write, while a chunk may go straight to it: the stream is open, and its
        # client keeps up.
        self._direct: Callable[[bytes], None] | None = None
        self._finished = False
        self._chunked = chunked
        # False for HEAD, whose answer ends with its head.
        self._body = body
        # Called once when the client goes away, or right before the server ends the stream, unless
        # it is finished; in the latter case what it writes still reaches the client.
        self.on_disconnect = on_disconnect

    @property
    def buffered(self) -> int:
        """Bytes that the client has not taken yet."""
        if self._held is not None:
            return sum(map(len, self._held))
        transport = self._outlet.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    @property
    def is_open(self) -> bool:
        """Whether writes still reach the client."""
        return not self._finished and self._outlet.transport is not None

    @property
    def is_opened(self) -> bool:
        """Whether its turn has come."""
        return self._held is None

    def write(self, payload: bytes) -> None:
        """Send these bytes as one chunk."""
        self.write_chunk(chunk(payload))

    def write_chunk(self, framed: bytes) -> None:
        """Send what `chunk` has framed: one chunk, or several joined for a single write.

        Many streams can share the same bytes.
        """
        direct = self._direct
        if direct is not None:
            direct(framed)
        else:
            self._write_slowly(framed)

    def finish_with(self, framed: bytes) -> None:
        """Send chunks of which the last is LAST_CHUNK, and so end the answer in one write."""
        direct = self._direct
        if direct is not None:
            self._finished = True
            self._direct = None
            self.on_disconnect = None
            direct(framed)
            self._outlet.end_stream(self)
        else:
            self.write_chunk(framed.removesuffix(LAST_CHUNK))
            self.finish()

    def finish(self) -> None:
        """End the answer; the connection goes on to the next request if it may."""
        if self._finished:
            return
        self._finished = True
        self._direct = None
        self.on_disconnect = None
        if self._chunked and self._body:
            self._emit(LAST_CHUNK)
        if self._held is None:
            self._outlet.end_stream(self)

    def abort(self) -> None:
        """Drop the connection: the client shall not take what it has for the whole answer."""
        if self.is_open:
            self._finished = True
            self._direct = None
            self.on_disconnect = None
            self._outlet.abort()

    def open(self) -> None:
        """Earlier answers are written: send what was held, and from here on directly."""
        assert self._held is not None, "stream opened twice"
        held, self._held = self._held, None
        transport = self._outlet.transport
        assert transport is not None, "stream opened on a lost connection"
        transport.write(b"".join(held))
        if self._finished:
            self._outlet.end_stream(self)
        else:
            self.resume()

    def pause(self) -> None:
        """The client does not keep up: what is written is counted from here on."""
        self._direct = None

    def resume(self) -> None:
        """The client has caught up."""
        outlet, transport = self._outlet, self._outlet.transport
        if self._finished or self._held is not None or transport is None or outlet.write_paused:
            return
        if self._chunked and self._body:
            self._direct = transport.write

    def _write_slowly(self, framed: bytes) -> None:
        if not self.is_open or not self._body or not framed:
            return
        if self.buffered + len(framed) > self._outlet.stream_bytes:
            # A client this far behind is dropped rather than fed from unbounded memory. The
            # callback is left to the loop's next turn: the caller may be walking its watchers.
            self._outlet.abort()
        else:
            self._emit(framed if self._chunked else unframed(framed))

    def _emit(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif self._outlet.transport is not None:
            self._outlet.transport.write(data)


def chunk(payload: bytes) -> bytes:
    """Frame one chunk; no bytes for an empty payload, whose frame would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def unframed(framed: bytes) -> bytes:
    """The payload of one chunk or several joined ones, for clients of HTTP/1.0."""
    payloads = []
    position = 0
    while position < len(framed):
        start = framed.index(b"\r\n", position) + 2
        end = start + int(framed[position : start - 2], 16)
        payloads.append(framed[start:end])
        position = end + 2
    return b"".join(payloads)


def date_line(seconds: float) -> bytes:
    """The Date header for a Unix time."""
    # The names are English: nobody here sets a locale.
    return strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime(seconds)).encode()


def status_line(status: int, *, http10: bool) -> bytes:
    """The first line, in the client's own version as Go has it."""
    line = STATUS_LINES[status]
    return b"HTTP/1.0" + line[8:] if http10 else line


def refusal(status: int, detail: bytes, date: bytes) -> bytes:
    """The whole answer to a request that could not be read; the connection ends with it."""
    text = b"%d %b" % (status, REASONS[status]) + (b": " + detail if detail else b"")
    return b"%b%b%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
        STATUS_LINES[status],
        TEXT_PLAIN,
        date,
        len(text),
        text,
    )
