"""Forwards requests of clients to members, and the members' answers to the clients.

A request goes to the first member that takes it. One that only reads is sent to the next member if
the answer fails to come; a write is so only if the member had not been connected to, since it could
otherwise be obeyed twice. Each request carries the ids of the proxies that it passed, so that one
which comes back ends here, however the proxies point at each other.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Iterable
from socket import socket
from typing import Final

from pyetcd.bootstrap import Network, find_peer_urls
from pyetcd.bootstrap.remote import Answer, http_get, resolve_host
from pyetcd.config import Config
from pyetcd.httpd import Handler, Listener, Request, bind_tcp
from pyetcd.proxy.cluster_file import ClusterFile
from pyetcd.proxy.director import Director, Endpoint
from pyetcd.proxy.metrics import (
    LOOP,
    NO_RESPONSE,
    NOT_SENT,
    PATH,
    ZERO_ENDPOINTS,
    Counts,
    Metrics,
    method_of,
)
from pyetcd.relay import Headers, Limits, MaybeSent, NotSent, Relay, answer, request_headers
from pyetcd.tls import Certificates
from pyetcd.urls import Urls, address, is_secure

log = logging.getLogger(__name__)

# Ids of the proxies that a request has passed, separated by commas.
LOOP_HEADER: Final = "X-Etcd-Proxy"
_LOOP_HEADER: Final = LOOP_HEADER.lower().encode()
CONFIG_PATH: Final = b"/v2/config/local/proxy"
# Methods that change nothing: they may be sent again.
SAFE_METHODS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
# What has begun when the proxy stops may take so long to finish.
GRACE_SECONDS: Final = 1.0

_JSON_HEAD: Final = b"Content-Type: application/json\r\n"


class Forwarder:
    """Answers requests with what members say."""

    def __init__(
        self,
        director: Director,
        relay: Relay,
        *,
        proxy_id: str,
        readonly: bool,
        on_crash: Callable[[BaseException], None],
        drops_cors: bool = False,
    ) -> None:
        self._director = director
        self._relay = relay
        self._proxy_id = proxy_id
        self._readonly = readonly
        self._on_crash = on_crash
        # Whether the headers for pages of other origins are the proxy's own.
        self._drops_cors = drops_cors
        self._counts = Counts()
        self._metrics = Metrics(self._counts, director)
        self._tasks: set[asyncio.Task[None]] = set()
        # Those of them that may change something.
        self._writes: set[asyncio.Task[None]] = set()

    def handle(self, request: Request) -> None:
        """Answer a request, mostly later."""
        if request.path == PATH:
            self._metrics.get(request)
        elif self._readonly and request.method != b"GET":
            request.respond(501)
        elif request.path == CONFIG_PATH:
            self._show_endpoints(request)
        elif request.path == b"*":
            request.respond(200)
        elif self._proxy_id in _passed(request):
            text = "proxy: the request has come back to this proxy: a member advertises its URL"
            _message(request, 508, text, b"%b: %b\r\n" % (_LOOP_HEADER, self._proxy_id.encode()))
            self._counts.received[method_of(request)] += 1
            self._count_dropped(request, LOOP)
        else:
            self._counts.received[method_of(request)] += 1
            task = asyncio.get_running_loop().create_task(self._forward(request))
            self._tasks.add(task)
            if request.method not in SAFE_METHODS:
                self._writes.add(task)
            task.add_done_callback(self._done)
            # Once the answer streams, the stream is told instead.
            request.on_disconnect = lambda: _cancel(task)

    async def drain(self, seconds: float) -> None:
        """Wait so long for the answers to writes that have begun."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=seconds)

    async def close(self) -> None:
        """Give up what is still being forwarded."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, request: Request) -> None:
        endpoints = self._director.available()
        if not endpoints:
            _message(request, 503, "proxy: zero endpoints currently available")
            self._count_dropped(request, ZERO_ENDPOINTS)
            return
        headers = request_headers(request)
        passed = [*_passed(request), self._proxy_id]
        headers = [pair for pair in headers if pair[0] != LOOP_HEADER.lower()]
        headers.append((LOOP_HEADER, ",".join(passed)))
        status = 503
        for endpoint in endpoints:
            try:
                if await self._try(request, endpoint, headers):
                    self._counts.handled[method_of(request)] += 1
                    return
                status = 508
            except NotSent as error:
                self._director.failed(endpoint, str(error))
            except MaybeSent as error:
                self._director.failed(endpoint, str(error))
                status = 502
                if request.method not in SAFE_METHODS:
                    break
        reason = {508: LOOP, 503: NOT_SENT}.get(status, NO_RESPONSE)
        self._count_dropped(request, reason)
        if status == 508:
            _message(request, 508, "proxy: the members' client URLs lead back to this proxy")
        elif status == 502 and request.method not in SAFE_METHODS:
            _message(request, 502, "proxy: no response, the request may or may not have been done")
        else:
            text = f"proxy: unable to get response from {len(endpoints)} endpoint(s)"
            _message(request, status, text)

    async def _try(self, request: Request, endpoint: Endpoint, headers: Headers) -> bool:
        """Ask one member and answer; False if the request came back to this proxy.

        Raises NotSent or MaybeSent; the request is unanswered then.
        """
        url = endpoint.url + _target(request)
        method = request.method.decode("latin-1")
        response = await self._relay.send(method, url, headers, request.body)
        try:
            if response.status == 508 and LOOP_HEADER in response.headers:
                self._director.failed(endpoint, "it leads back to this proxy")
                return False
            self._director.succeeded(endpoint)
            await answer(request, response, drop=self._is_dropped)
            return True
        finally:
            response.close()

    def _count_dropped(self, request: Request, reason: str) -> None:
        self._counts.dropped[method_of(request), reason] += 1

    def _is_dropped(self, name: bytes) -> bool:
        return self._drops_cors and name.startswith(b"access-control-")

    def _show_endpoints(self, request: Request) -> None:
        if request.method != b"GET":
            request.respond(405, b"Allow: GET\r\n", b"Method Not Allowed\n")
            return
        urls = [endpoint.url for endpoint in self._director.available()]
        text = json.dumps({"endpoints": urls}, separators=(",", ":"))
        request.respond(200, _JSON_HEAD, text.encode() + b"\n")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._writes.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_crash(error)


class Proxy:
    """One running proxy."""

    def __init__(
        self,
        listener: Listener,
        forwarder: Forwarder,
        relay: Relay,
        refreshing: asyncio.Task[None],
        certificates: Iterable[Certificates],
    ) -> None:
        self._listener = listener
        self._forwarder = forwarder
        self._relay = relay
        self._refreshing = refreshing
        self._certificates = certificates

    @classmethod
    async def start(
        cls,
        config: Config,
        *,
        die: Callable[[BaseException], None],
        adorn: Callable[[Handler], Handler] = lambda handler: handler,
    ) -> "Proxy":
        """Start a proxy; with discovery, this takes until the cluster is complete.

        `adorn` makes the handler of the client port from the one that forwards. `die` is called
        with a bug, and must end the process.
        Raises BootstrapError, ClusterFileError, TlsError, httpd.ListenError or OSError, each with
        one line that says what is wrong; then nothing is left open.
        """
        clients, peers = Certificates(config.client_tls), Certificates(config.peer_tls)
        sockets: list[tuple[socket, str]] = []
        try:
            for url in config.listen_client_urls:
                sockets.append((bind_tcp(*address(url)), url))
            director = await _director(config, peers)
        except BaseException:
            for bound, _ in sockets:
                bound.close()
            raise
        limits = Limits(
            connect_seconds=config.proxy.dial_timeout_seconds,
            write_seconds=config.proxy.write_timeout_seconds,
            read_seconds=config.proxy.read_timeout_seconds,
        )
        relay = Relay(limits, peers)
        forwarder = Forwarder(
            director,
            relay,
            # The system's randomness: two proxies must never have the same id.
            proxy_id=f"{random.SystemRandom().getrandbits(64):016x}",
            readonly=config.proxy.readonly,
            on_crash=die,
            drops_cors=bool(config.cors),
        )
        listener = Listener(adorn(forwarder.handle), clock=time.time, on_crash=die)
        for bound, url in sockets:
            await listener.start(bound, ssl=clients.server if is_secure(url) else None)
            log.info("listening for client requests on %s", url)
        for certificates in (clients, peers):
            certificates.start()
        refreshing = asyncio.create_task(director.run())
        refreshing.add_done_callback(lambda task: _on_refresh_end(task, die))
        return cls(listener, forwarder, relay, refreshing, (clients, peers))

    async def stop(self) -> None:
        """Let what was begun be answered, and close everything."""
        for certificates in self._certificates:
            certificates.stop()
        self._refreshing.cancel()
        await self._forwarder.drain(GRACE_SECONDS)
        await self._listener.close(grace_seconds=GRACE_SECONDS)
        await self._forwarder.close()
        await self._relay.close()


async def _director(config: Config, peers: Certificates) -> Director:
    """Find the members, for the first time or again."""

    async def get(url: str) -> Answer:
        # Asked each time: certificates are replaced while the proxy runs.
        return await http_get(url, tls=peers.client)

    network = Network(get, resolve_host)
    file = ClusterFile(config.data_dir)
    peer_urls = file.read()
    if peer_urls is None:
        peer_urls = await find_peer_urls(config, network)
        log.info("using peer urls [%s]", " ".join(peer_urls))
        # Kept at once: a token may be gone when the proxy is started the next time.
        file.write(peer_urls)
    else:
        _note_found(config, file, peer_urls)
    director = Director(
        peer_urls,
        network,
        file,
        failure_wait_seconds=config.proxy.failure_wait_seconds,
        refresh_seconds=config.proxy.refresh_seconds,
        clock=asyncio.get_running_loop().time,
        rng=random.Random(),
    )
    await director.refresh()
    return director


def _note_found(config: Config, file: ClusterFile, peer_urls: Urls) -> None:
    for way, given in (
        ("discovery token", config.discovery_url),
        ("DNS SRV discovery", config.discovery_srv),
    ):
        if given:
            log.warning(
                "%s ignored since the proxy has already been initialized. Valid cluster file found"
                ' at "%s"',
                way,
                file.path,
            )
    log.info('using peer urls [%s] from cluster file "%s"', " ".join(peer_urls), file.path)


def _on_refresh_end(task: asyncio.Task[None], die: Callable[[BaseException], None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        die(error)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _passed(request: Request) -> list[str]:
    """Return the ids of the proxies that the request has passed."""
    values = (value for name, value in request.headers if name == _LOOP_HEADER)
    return [word.strip() for value in values for word in value.decode("latin-1").split(",")]


def _target(request: Request) -> str:
    """Return path and query as the client wrote them, also if it took us for a forward proxy."""
    target = request.target.decode("ascii", "replace")
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target


def _message(request: Request, status: int, text: str, head: bytes = b"") -> None:
    """Answer a JSON message, in the form of etcd's."""
    body = json.dumps({"message": text}, separators=(",", ":"))
    request.respond(status, _JSON_HEAD + head, body.encode())
