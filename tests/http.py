"""Bytes in, bytes out: a transport that records, and a strict reader of responses.

`Wire` plays one client of a listener without sockets or clock. `read_responses` is written apart
from the code under test, so that a wrong frame cannot pass because both sides share it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyetcd.httpd.listener import Listener
from pyetcd.httpd.pipeline import Handler, Limits
from pyetcd.httpd.protocol import Connection


@dataclass(slots=True)
class Response:
    """One response as a client reads it."""

    version: str
    status: int
    reason: str
    # Names as they were sent.
    headers: list[tuple[str, str]]
    body: bytes = b""
    # "length", "chunked", "close" or "none".
    framing: str = "none"
    chunks: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The value of a header that may occur once."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} occurs {len(values)} times"
        return values[0] if values else None


class FakeTransport(asyncio.Transport):
    """Records what is written; `blocked` plays a client that does not read."""

    def __init__(self, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self.protocol: Connection | None = None
        self.sent = bytearray()
        self.writes: list[bytes] = []
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof_sent = False
        self.half_closes = True
        self.blocked = False
        self.buffer = bytearray()
        self.high_water = 1 << 16

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof_sent, "write after end of output"
        if self.closing or not data:
            return
        self.writes.append(bytes(data))
        was_below = len(self.buffer) <= self.high_water
        self.buffer += data
        if not self.blocked:
            self.sent += self.buffer
            self.buffer.clear()
        elif was_below and len(self.buffer) > self.high_water:
            assert self.protocol is not None
            self.protocol.pause_writing()

    def take(self, count: int) -> None:
        """The client reads so many bytes of what is buffered."""
        was_above = len(self.buffer) > self.high_water
        self.sent += self.buffer[:count]
        del self.buffer[:count]
        if was_above and not self.buffer and not self.closing:
            assert self.protocol is not None
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def pause_reading(self) -> None:
        assert self.reading, "reading paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "reading resumed twice"
        self.reading = True

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write_eof(self) -> None:
        assert self.half_closes, "this transport cannot close half"
        self.eof_sent = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.buffer.clear()


class Wire:
    """One client of a listener whose clock and turns are the test's."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits | None = None,
        *,
        listener: Listener | None = None,
        tls: bool = False,
        peer: Any = ("127.0.0.1", 4711),
    ) -> None:
        self.crashes: list[BaseException] = []
        self.now = 0.0
        self.listener = listener or Listener(
            handler, clock=lambda: self.now, on_crash=self.crashes.append, limits=limits
        )
        extra = {"peername": peer, "sslcontext": object() if tls else None}
        self.transport = FakeTransport(extra)
        self.protocol = self.listener.connect()
        self.transport.protocol = self.protocol
        self.lost = False
        self.protocol.connection_made(self.transport)

    def send(self, *parts: bytes) -> "Wire":
        """Let the server read these parts, one read each, as far as it reads at all."""
        for part in parts:
            if not self.transport.closing:
                self.protocol.data_received(part)
        return self.settle()

    def settle(self) -> "Wire":
        """Let a closed connection end, as the loop does in its next turn."""
        if self.transport.closing and not self.transport.buffer and not self.lost:
            self.lost = True
            self.protocol.connection_lost(None)
        return self

    def send_eof(self) -> "Wire":
        """The client has sent its last byte."""
        if not self.protocol.eof_received():
            self.transport.close()
        return self.settle()

    def disconnect(self) -> None:
        """The client resets the connection."""
        self.transport.abort()
        self.lost = True
        self.protocol.connection_lost(ConnectionResetError())

    def pass_seconds(self, count: int) -> "Wire":
        """Let time pass as the listener's timer does."""
        for _ in range(count):
            self.now += 1
            self.listener.tick()
            self.settle()
        return self

    @property
    def sent(self) -> bytes:
        """Everything the client has received."""
        return bytes(self.transport.sent)

    def responses(self, *methods: str) -> list[Response]:
        """What the client has received, as answers to requests of these methods."""
        return read_responses(self.sent, methods, closed=self.lost or self.transport.eof_sent)

    def response(self, method: str = "GET") -> Response:
        """The only response."""
        (response,) = self.responses(method)
        return response


def read_responses(
    data: bytes, methods: Sequence[str] = (), *, closed: bool = False
) -> list[Response]:
    """Split what a server sent; fails on anything a strict client would refuse."""
    responses: list[Response] = []
    while data:
        method = methods[len(responses)] if len(responses) < len(methods) else "GET"
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"head is not complete: {head!r}"
        lines = head.decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        headers = [(n, v) for n, v in (line.split(": ", 1) for line in lines[1:])]
        response = Response(version, int(status), reason, headers)
        if response.status != 100:
            data = _read_body(response, method, data, closed)
            responses.append(response)
    return responses


def _read_body(response: Response, method: str, data: bytes, closed: bool) -> bytes:
    length = response.header("Content-Length")
    coding = response.header("Transfer-Encoding")
    assert length is None or coding is None, "two framings"
    if method == "HEAD" or response.status in (204, 304):
        return data
    if length is not None:
        assert len(data) >= int(length), f"{len(data)} bytes of {length}"
        response.framing, response.body = "length", data[: int(length)]
        return data[int(length) :]
    if coding is None:
        assert closed, "a body without an end"
        response.framing, response.body = "close", data
        return b""
    assert coding == "chunked", coding
    response.framing = "chunked"
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        payload, data = data[:count], data[count:]
        assert data.startswith(b"\r\n"), f"chunk of {count} bytes does not end: {data[:9]!r}"
        data = data[2:]
        if count == 0:
            response.body = b"".join(response.chunks)
            return data
        response.chunks.append(payload)
    response.framing = "chunked, not ended"
    response.body = b"".join(response.chunks)
    return b""


def request(
    method: str = "GET",
    target: str = "/",
    body: bytes = b"",
    headers: Sequence[str] = (),
    version: str = "1.1",
) -> bytes:
    """The bytes of a request; Host and, with a body, Content-Length are added."""
    lines = [f"{method} {target} HTTP/{version}", *headers]
    if version == "1.1":
        lines.append("Host: x")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def answer_with(status: int, body: bytes = b"", head: bytes = b"") -> Handler:
    """A handler that always answers the same."""
    return lambda request: request.respond(status, head, body)


def never(*_: object) -> None:
    """A callback that must not be called."""
    raise AssertionError("called")
