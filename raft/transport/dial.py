"""Dialing: one connection, one HTTP request on it, and its answer.

Written on asyncio alone: a connection is handed over to a `Stream` in the very state that the
answer left it in, bytes that follow it included, which no HTTP client promises to allow.
"""

import asyncio
import os
import re
import socket
from collections.abc import Callable
from ssl import SSLContext, SSLError
from typing import Final, NamedTuple, cast

from raft.transport.handshake import parse_url
from raft.transport.stream import Stream

_MAX_HEAD_BYTES: Final = 16 * 1024
# A refusal's text is for a person.
_MAX_TEXT_BYTES: Final = 4 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r\n)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)


class Answer(NamedTuple):
    """What came back: the body is read as text unless the status is 101."""

    status: int
    text: str


class Call(asyncio.Protocol):
    """A connection on which one request is made.

    Invariants:
      1. One task at a time waits on it.
      2. It is closed, or given to a `Stream`, by whoever dialed it.
    """

    def __init__(self) -> None:
        self.url = ""
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable = True
        self._ended: str | None = None

    @property
    def answered(self) -> bool:
        """Whether the other side has said something, or has gone: no use in sending more."""
        return bool(self._received) or self._ended is not None

    def write(self, data: bytes) -> None:
        """Send `data`, now or later; nothing once the connection is lost."""
        assert self._transport is not None, "written to before it was connected"
        # uvloop raises for a write to what is closed.
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until more may be written, or there is an answer."""
        while not self._writable and not self.answered:
            await self._wait()

    async def answer(self) -> Answer:
        """Return the answer once it is complete. Raises OSError when there is none."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if self._ended is not None or len(self._received) > _MAX_HEAD_BYTES:
                raise ConnectionError(f"{self.url}: {self._why_no_answer()}")
            await self._wait()
        head = bytes(self._received[: end + 4])
        del self._received[: end + 4]
        matched = _STATUS_LINE.match(head)
        if matched is None:
            raise ConnectionError(f"{self.url}: not an HTTP answer")
        status = int(matched[1])
        if status == 101:
            return Answer(status, "")
        length = _LENGTH.search(head)
        wanted = min(int(length[1]) if length else _MAX_TEXT_BYTES, _MAX_TEXT_BYTES)
        while len(self._received) < wanted and self._ended is None:
            await self._wait()
        text = bytes(self._received[:wanted]).decode("utf-8", "replace").strip()
        return Answer(status, text)

    def give_to(self, stream: Stream) -> None:
        """Let `stream` have the connection after an answer of 101."""
        assert self._transport is not None, "given away before it was connected"
        transport, self._transport = self._transport, None
        if self._ended is not None:
            # The loss has been told here, and will not be told again.
            stream.connection_lost(None)
        else:
            stream.take_over(transport, bytes(self._received))

    def close(self) -> None:
        """Close at once, unless the connection has been given away."""
        if self._transport is not None:
            self._transport.abort()

    def _why_no_answer(self) -> str:
        if self._ended is None:
            return "not an HTTP answer"
        if self.url.startswith("https:") and not self._received:
            # It judges our certificate only after our side of the handshake is over (RFC 8446 2),
            # and asyncio closes without a word then.
            return f"{self._ended}, which is what happens if it does not accept our certificate"
        return self._ended

    async def _wait(self) -> None:
        assert self._waiter is None, "two tasks wait on one call"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports have all the methods, but not the base class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Collect the answer."""
        self._received += data
        if len(self._received) > _MAX_HEAD_BYTES + _MAX_TEXT_BYTES:
            self.close()
        self._wake()

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        self._writable = False

    def resume_writing(self) -> None:
        """Make `drain` return."""
        self._writable = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make everybody return."""
        self._ended = str(exc) if exc is not None else "closed by peer"
        self._wake()


async def dial(
    url: str,
    *,
    method: str,
    path: str,
    headers: dict[str, str],
    tls: Callable[[], SSLContext] | None,
) -> Call:
    """Connect to `url` and send the head of a request. Raises OSError, also for a bad URL."""
    try:
        host, port, secure = parse_url(url)
    except ValueError as error:
        raise OSError(str(error)) from None
    if secure and tls is None:
        raise OSError(f"dial {url}: no certificates are configured for https")
    loop = asyncio.get_running_loop()
    context = tls() if tls is not None and secure else None
    try:
        # Nagle's algorithm is off: asyncio and uvloop do that for every TCP connection.
        _, call = await loop.create_connection(Call, host, port, ssl=context)
    except OSError as error:
        raise describe(error, f"dial tcp {address_text(host, port)}") from None
    call.url = url
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address_text(host, port)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    call.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return call


def address_text(host: str, port: int) -> str:
    """Return "host:port", an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe(error: OSError, what: str) -> OSError:
    """Return `error` as "what: cause", without what event loops put around the cause."""
    text = error.strerror or str(error)
    # The loops' own texts repeat the address, and differ. Name resolution and TLS have good texts,
    # and numbers that are not the system's.
    if error.errno is not None and not isinstance(error, socket.gaierror | SSLError):
        text = os.strerror(error.errno)
        text = text[:1].lower() + text[1:]
    described = OSError(f"{what}: {text}")
    described.errno = error.errno
    return described
