"""Sends a client's request on to another HTTP server, and that server's answer back.

The answer passes through as it comes: short ones whole, endless ones (watches) piece by piece.
Whether a failed request may have been read by the other side is in the exception, because a write
must not be sent a second time then. aiohttp would do just that with PUT and DELETE: see `_once`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from pyetcd.httpd import Request, Stream
from pyetcd.tls import Certificates, context_for

# Headers that concern one connection only (RFC 9110 7.6.1), the list of etcd 2.3.8 and of HTTP.
HOP_HEADERS: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Of a request: what our client writes itself, or has answered already.
_NOT_SENT_ON: Final = HOP_HEADERS | {b"host", b"content-length", b"expect"}
# Of an answer: what our listener writes itself.
_NOT_SENT_BACK: Final = HOP_HEADERS | {b"content-length", b"date"}
# aiohttp must not add these to what the client sent.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_BODYLESS: Final = (204, 304)
# A body is handed to the kernel in such pieces, each with its own limit of time.
PIECE_BYTES: Final = 64 << 10
# Beyond this a client is too slow, and the other side has to wait for it.
BEHIND_BYTES: Final = 1 << 20
BEHIND_SECONDS: Final = 0.02

Headers: TypeAlias = Sequence[tuple[str, str]]


class RelayError(Exception):
    """There is no answer; the text says why."""


class NotSent(RelayError):
    """No connection was made, so nobody has read the request."""


class MaybeSent(RelayError):
    """The request may have been read, and even been obeyed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the other side may take, in seconds; 0 is no limit."""

    connect_seconds: float
    # For each piece of a body.
    write_seconds: float
    # Between two pieces of an answer, and before the first.
    read_seconds: float


class Relay:
    """The connections to other servers; made and used in one event loop."""

    def __init__(self, limits: Limits, certificates: Certificates | None = None) -> None:
        self._limits = limits
        self._certificates = certificates
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=limits.connect_seconds or None,
                sock_read=limits.read_seconds or None,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            auto_decompress=False,
            middlewares=(_once,),
        )

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes = b""
    ) -> ClientResponse:
        """Send a request once and return the head of the answer.

        Raises NotSent or MaybeSent.
        """
        certificates = self._certificates
        pairs = list(headers)
        if body:
            pairs.append(("Content-Length", f"{len(body)}"))
        elif method in ("PUT", "POST", "DELETE", "PATCH"):
            pairs.append(("Content-Length", "0"))
        try:
            async with asyncio.timeout(None) as limit:
                response = await self._session.request(
                    method,
                    URL(url, encoded=True),
                    headers=pairs,
                    data=self._pieces(body, limit) if body else None,
                    allow_redirects=False,
                    ssl=context_for(url) if certificates is None else certificates.client(),
                )
        except (aiohttp.ClientError, ValueError) as error:
            # Not even begun: what the client wrote is no URL or header to aiohttp.
            raise NotSent(_reason(error)) from error
        except TimeoutError:
            raise MaybeSent(f"write took more than {self._limits.write_seconds:g} s") from None
        if not 200 <= response.status < 600:
            response.close()
            raise MaybeSent(f"status {response.status} is none of HTTP's")
        return response

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _pieces(self, body: bytes, limit: asyncio.Timeout) -> AsyncIterator[bytes]:
        """Give out the body; each piece must be taken within the limit."""
        time = asyncio.get_running_loop().time
        seconds = self._limits.write_seconds
        for start in range(0, len(body), PIECE_BYTES):
            if seconds and not limit.expired():
                _reschedule(limit, time() + seconds)
            yield body[start : start + PIECE_BYTES]
        _reschedule(limit, None)


async def answer(
    request: Request,
    response: ClientResponse,
    *,
    more: bytes = b"",
    drop: Callable[[bytes], bool] = lambda name: False,
) -> None:
    """Pass an answer back, with `more` header lines and without those of which `drop` is true.

    Raises MaybeSent if it breaks off before anything was passed back; later the client's connection
    is dropped, so that the rest is missed.
    """
    head = more + response_head(response, drop)
    status = response.status
    length = response.content_length
    if request.method == b"HEAD" or status in _BODYLESS:
        # The length, not the body, is what HEAD asks for.
        request.respond(status, head, bytes(length or 0) if request.method == b"HEAD" else b"")
    elif length is not None:
        try:
            body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise MaybeSent(_reason(error)) from error
        request.respond(status, head, body)
    else:
        await _stream(request, response, head)


def request_headers(request: Request) -> list[tuple[str, str]]:
    """Return the headers to send on, with the client's address added (X-Forwarded-For)."""
    named = _named_by_connection(request.headers)
    kept: list[tuple[str, str]] = []
    forwarded: list[str] = []
    for name, value in request.headers:
        if name in _NOT_SENT_ON or name in named:
            continue
        text = value.strip().decode("utf-8", "replace")
        if name == b"x-forwarded-for":
            forwarded.append(text)
        else:
            kept.append((name.decode("latin-1"), text))
    client = request.remote_address.rpartition(":")[0].strip("[]")
    if client:
        forwarded.append(client)
    if forwarded:
        kept.append(("X-Forwarded-For", ", ".join(forwarded)))
    return kept


def response_head(response: ClientResponse, drop: Callable[[bytes], bool]) -> bytes:
    """Return the header lines to send back."""
    raw = [(name.lower(), name, value) for name, value in response.raw_headers]
    named = _named_by_connection((lower, value) for lower, _, value in raw)
    lines = (
        b"%b: %b\r\n" % (name, value)
        for lower, name, value in raw
        if lower not in _NOT_SENT_BACK and lower not in named and not drop(lower)
    )
    return b"".join(lines)


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Middleware of aiohttp: say whether the request may have been sent, and end it there.

    aiohttp sends a request with an idempotent method again when its connection breaks. For etcd
    that is no repetition: a PUT with prevExist, or a PUT that another client has overwritten
    meanwhile, does something else the second time. These exceptions it passes on.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotSent(_reason(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise MaybeSent(_reason(error)) from error


async def _stream(request: Request, response: ClientResponse, head: bytes) -> None:
    task = asyncio.current_task()
    assert task is not None, "a stream outside of a task"
    stream = request.start_stream(response.status, head, partial(_cancel, task))
    try:
        async for piece in response.content.iter_any():
            stream.write(piece)
            await _wait_for_client(stream)
    except (aiohttp.ClientError, OSError):
        stream.abort()
    else:
        stream.finish()


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


async def _wait_for_client(stream: Stream) -> None:
    """Return when the client has taken most of it."""
    # A stream does not tell when it has been read.
    while stream.is_open and stream.buffered > BEHIND_BYTES:  # noqa: ASYNC110
        await asyncio.sleep(BEHIND_SECONDS)


def _reschedule(limit: asyncio.Timeout, when: float | None) -> None:
    try:
        limit.reschedule(when)
    except RuntimeError:
        pass  # the answer began before the body ended, and nothing is limited any more


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return the names that `Connection` lists."""
    return frozenset(
        word.strip().lower()
        for name, value in headers
        if name == b"connection"
        for word in value.split(b",")
    )


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
