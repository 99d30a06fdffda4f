"""Sends a request to one endpoint of the cluster, or to the next one if that gives no answer.

The rule: a GET may be asked of everybody in turn. A write goes to a second endpoint only if it has
certainly not left for the first; otherwise it might be done twice, or undo what somebody else did
in between. Relies on aiohttp for connections; knows nothing of keys.
"""

import asyncio
import base64
import random
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final, TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from yarl import URL

from pyetcd.client.failure import Attempt, BadSetting, NoEndpoints, Unavailable
from pyetcd.client.wire import Answer, Request

# Called when the header of an answer is there, with its X-Etcd-Index.
OnHeader: TypeAlias = Callable[[int], None]
Trace: TypeAlias = Callable[[str], None]

MAX_REDIRECTS: Final = 10
# A watch is silent for hours; this finds out that the member's machine is gone.
KEEPALIVE_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and the password."""

    username: str
    password: str

    def header(self) -> str:
        """Return the value of Authorization."""
        pair = f"{self.username}:{self.password}".encode(errors="surrogateescape")
        return "Basic " + base64.b64encode(pair).decode()


@dataclass(slots=True)
class _Progress:
    """How far a request has come."""

    connected: bool = False


class _NoAnswer(Exception):
    """One endpoint gave no answer."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self.attempt = attempt


class Endpoints:
    """The endpoints of a cluster; the one that answered last is asked first.

    Use it in one event loop, and close it.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = 0.0,
        trace: Trace | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Keep the settings; connections are made on demand.

        `timeout_seconds` limits the wait for the header of an answer, and 0 does not; watches are
        not limited. `trace` gets each request as a curl command line. The order in which endpoints
        are asked is drawn from `rng`, which spreads clients over the members.

        Raises BadSetting for a text that is no URL, and NoEndpoints.
        """
        self._rng = rng or random.Random()
        self._credentials = credentials
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._trace = trace
        self._session: aiohttp.ClientSession | None = None
        self._pinned = 0
        self._urls: tuple[str, ...] = ()
        self.replace(urls)

    @property
    def urls(self) -> tuple[str, ...]:
        """The endpoints in the order in which they are asked."""
        return self._urls

    def replace(self, urls: Iterable[str]) -> None:
        """Use other endpoints from here on; the same ones in another order change nothing."""
        parsed = [self._parse(url) for url in urls]
        if not parsed:
            raise NoEndpoints
        if sorted(parsed) != sorted(self._urls):
            self._rng.shuffle(parsed)
            self._urls, self._pinned = tuple(parsed), 0

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request, on_header: OnHeader | None = None) -> Answer:
        """Return the first answer that is not a 5xx.

        Raises Unavailable if there is none, or if a write may have arrived without an answer.
        """
        attempts: list[Attempt] = []
        urls, pinned = self._urls, self._pinned
        for offset in range(len(urls)):
            number = (pinned + offset) % len(urls)
            try:
                answer = await self.send_to(urls[number], request, on_header)
            except _NoAnswer as none:
                attempts.append(none.attempt)
            else:
                if answer.status < 500:
                    if urls is self._urls:
                        self._pinned = number
                    return answer
                attempts.append(_server_error(urls[number], answer.status))
            if not request.repeatable and not attempts[-1].unsent:
                raise Unavailable(tuple(attempts), maybe_done=True)
        raise Unavailable(tuple(attempts))

    async def ask(self, url: str, request: Request) -> Answer:
        """Return the answer of one server, whatever its status; raises Unavailable."""
        try:
            return await self.send_to(self._parse(url), request)
        except _NoAnswer as none:
            raise Unavailable((none.attempt,)) from none

    async def send_to(
        self, endpoint: str, request: Request, on_header: OnHeader | None = None
    ) -> Answer:
        """Return the answer of one endpoint, with redirects followed; raises _NoAnswer."""
        url = endpoint + request.target
        for _ in range(MAX_REDIRECTS + 1):
            if self._trace is not None:
                self._trace(f"cURL Command: {request.curl(url.removesuffix(request.target))}")
            answer, location = await self._exchange(endpoint, url, request, on_header)
            if answer.status // 100 != 3:
                return answer
            if not location:
                raise _NoAnswer(Attempt(endpoint, "Location header not set", unreachable=False))
            url = urljoin(url, location)
            if urlsplit(url).scheme not in ("http", "https"):
                reason = f"Location header not valid URL: {location}"
                raise _NoAnswer(Attempt(endpoint, reason, unreachable=False))
        raise _NoAnswer(Attempt(endpoint, "client: too many redirects", unreachable=False))

    async def _exchange(
        self, endpoint: str, url: str, request: Request, on_header: OnHeader | None
    ) -> tuple[Answer, str]:
        """Send once to one URL; return the answer and its Location."""
        progress = _Progress()
        limit = None if request.waits else self._timeout_seconds or None
        try:
            async with asyncio.timeout(limit) as deadline:
                response = await self._connections().request(
                    request.method,
                    URL(url, encoded=True),
                    data=request.body or None,
                    headers=self._headers(request, url),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=limit),
                    trace_request_ctx=progress,
                )
                deadline.reschedule(None)
                async with response:
                    etcd_index = _index(response.headers)
                    if on_header is not None:
                        on_header(etcd_index)
                    body = await _body(response, request)
        except TimeoutError:
            reason = f"client: endpoint {endpoint} exceeded header timeout"
            attempt = Attempt(endpoint, reason, not progress.connected, unreachable=False)
            raise _NoAnswer(attempt) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason, is_unreachable = _reason(error), _is_unreachable(error)
            attempt = Attempt(endpoint, reason, not progress.connected, is_unreachable)
            raise _NoAnswer(attempt) from error
        return Answer(response.status, body, etcd_index), response.headers.get("Location", "")

    def _headers(self, request: Request, url: str) -> dict[str, str]:
        headers = {"Content-Type": request.content_type} if request.content_type else {}
        # A password is for the members, not for whoever a redirect names.
        if self._credentials is not None and any(
            url.startswith(known + "/") for known in self._urls
        ):
            headers["Authorization"] = self._credentials.header()
        return headers

    def _connections(self) -> aiohttp.ClientSession:
        """Return the session, made here because it needs a running loop."""
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_note_connected)
            trace.on_connection_reuseconn.append(_note_connected)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),
                trace_configs=[trace],
                skip_auto_headers=("Content-Type",),
            )
            # aiohttp repeats a PUT or DELETE by itself if the connection breaks under it: here
            # that would be a write done twice. It has no public switch.
            self._session._retry_connection = False
        return self._session

    def _parse(self, text: str) -> str:
        """Return an endpoint without a slash at its end; takes a user and a password out of it."""
        url = text.strip()
        if "://" not in url:
            url = "http://" + url
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise BadSetting(f"parse {url}: {error}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise BadSetting(f"endpoint {url} is not of the form http://host:port")
        if parts.username and self._credentials is None:
            self._credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


async def _note_connected(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object
) -> None:
    context.trace_request_ctx.connected = True


async def _body(response: aiohttp.ClientResponse, request: Request) -> bytes:
    """Read the body; a wait that breaks off has ended without an event."""
    if not request.waits:
        return await response.read()
    _keep_alive(response)
    try:
        return await response.read()
    except (aiohttp.ClientError, OSError):
        # Not for the next endpoint as it stands: the caller has learned from the header of this
        # answer from which index on to wait.
        return b""


def _server_error(endpoint: str, status: int) -> Attempt:
    """Name a 5xx as etcd's client does."""
    if status in (500, 503):
        reason = f"client: etcd member {endpoint} has no leader"
    else:
        reason = f"client: etcd member {endpoint} returns server error [{status}]"
    return Attempt(endpoint, reason, unreachable=False)


def _is_unreachable(error: Exception) -> bool:
    """Tell whether etcdctl would take it for no connection: not if TLS is what fails."""
    if isinstance(error, aiohttp.ClientSSLError) or isinstance(error.__cause__, ssl.SSLError):
        return False
    return isinstance(error, OSError)


def _reason(error: Exception) -> str:
    """Return why there is no answer, in words that do not need a traceback."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"dial tcp: lookup {error.host}: {error.os_error.strerror or error.os_error}"
        case aiohttp.ClientConnectorCertificateError():
            return f"dial tcp {error.host}:{error.port}: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            cause = error.os_error
            if isinstance(cause, ConnectionRefusedError):
                return f"dial tcp {error.host}:{error.port}: connect: connection refused"
            return f"dial tcp {error.host}:{error.port}: {cause.strerror or cause}"
        case aiohttp.ServerDisconnectedError():
            return "EOF"
        case _:
            return str(error) or type(error).__name__


def _index(headers: Mapping[str, str]) -> int:
    """Return X-Etcd-Index; 0 if there is none."""
    text = headers.get("X-Etcd-Index", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """Let the system find out when the other machine is gone."""
    connection = response.connection
    transport = None if connection is None else connection.transport
    handle = None if transport is None else transport.get_extra_info("socket")
    if handle is not None:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
