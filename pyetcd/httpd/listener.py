"""Listening sockets, their connections, and the one timer that watches over them.

Every second the timer renews the Date header and sweeps the connections for clients that do
not move. The listener must outlive every client: running out of file descriptors costs the
new connection, not the server.
"""

import asyncio
import os
import socket
import ssl as tls
from collections.abc import Callable
from typing import cast

from pyetcd.httpd.pipeline import Handler, Limits, Shared
from pyetcd.httpd.protocol import Connection, Crowd
from pyetcd.httpd.response import date_line

# Connections that may wait for the loop: a thousand watchers reconnect at once when a member
# comes back. The kernel cuts this to its own limit.
BACKLOG = 4096
# Who connects and does not get to the end of TLS's handshake holds a descriptor so long. etcd waits
# for ever, and one such client after the other takes all of its descriptors.
HANDSHAKE_SECONDS = 10.0
# A client that does not say goodbye is not waited for longer.
SHUTDOWN_SECONDS = 2.0
# A client that vanished without a word is found after about a minute of silence.
KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class ListenError(Exception):
    """An address cannot be listened on; the text names it and the reason."""


class Listener:
    """Serves HTTP on any number of sockets with one handler.

    Invariants:
      1. After `close` no socket, connection or timer is left, and no request is taken; but the loop
         may need some turns more to drop a client whose connection was being made.
    """

    __slots__ = ("_clock", "_crowd", "_servers", "_shared", "_timer")

    def __init__(
        self,
        handler: Handler,
        *,
        clock: Callable[[], float],
        on_crash: Callable[[BaseException], None],
        limits: Limits | None = None,
    ) -> None:
        self._clock = clock
        self._shared = Shared(handler, on_crash, limits or Limits(), date_line(clock()))
        self._crowd = Crowd()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._crowd.members)

    async def start(self, *sockets: socket.socket, ssl: tls.SSLContext | None = None) -> None:
        """Accept connections on these bound sockets; more can be started later."""
        loop = asyncio.get_running_loop()
        self._shared.call_soon = loop.call_soon
        for bound in sockets:
            server = await loop.create_server(
                cast(Callable[[], asyncio.Protocol], self.connect),
                sock=bound,
                ssl=ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=None if ssl is None else HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=None if ssl is None else SHUTDOWN_SECONDS,
            )
            self._servers.append(server)
        if self._timer is None:
            self._arm(loop)

    def connect(self) -> Connection:
        """Make the protocol of one new connection."""
        return Connection(self._shared, self._crowd)

    def tick(self) -> None:
        """Do what is due every second."""
        self._shared.date = date_line(self._clock())
        for connection in list(self._crowd.members):
            connection.sweep()

    async def close(self, *, grace_seconds: float) -> None:
        """Stop accepting, let started requests be answered for so long, then drop the rest."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        crowd = self._crowd
        crowd.is_closed = True
        if crowd.members:
            empty = asyncio.Event()
            crowd.on_empty = empty.set
            for connection in list(crowd.members):
                connection.shut()
            try:
                await asyncio.wait_for(empty.wait(), grace_seconds)
            except TimeoutError:
                for connection in list(crowd.members):
                    connection.abort()
                await empty.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(1.0, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._arm(loop)
        self.tick()


def bind_tcp(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; port 0 lets the kernel choose. An empty host means all addresses.

    Raises ListenError.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise ListenError(f"listen tcp: lookup {host}: no such host") from None
    # As Go: IPv4 first where a name has both, but "all addresses" means those of IPv6 too.
    found.sort(key=lambda entry: (entry[0] == socket.AF_INET6) == bool(host))
    family, _, _, _, name = found[0]
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"listen tcp {address}: socket: {_reason(error)}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not host else 1)
        _watch_silence(bound)
        bound.bind(name)
    except OSError as error:
        bound.close()
        raise ListenError(f"listen tcp {address}: bind: {_reason(error)}") from error
    return bound


def bind_unix(path: str) -> socket.socket:
    """Bind a unix socket, in place of one that nobody listens on. Raises ListenError."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and not _is_served(path):
            os.unlink(path)
        bound.bind(path)
    except OSError as error:
        bound.close()
        raise ListenError(f"listen unix {path}: bind: {_reason(error)}") from error
    return bound


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


def _watch_silence(bound: socket.socket) -> None:
    """Let the kernel probe silent clients; on Linux accepted sockets inherit the options."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE_OPTIONS.items():
        if hasattr(socket, name):  # pragma: no branch: Linux has them all
            bound.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _reason(error: OSError) -> str:
    """The kernel's words, in lower case as Go has them."""
    return os.strerror(error.errno).lower() if error.errno else str(error)
