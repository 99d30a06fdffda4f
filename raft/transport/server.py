"""The peer port: an aiohttp application that others dial, and may add their own routes to.

Listens, checks who comes in at the door, and hands connections over: a stream leaves HTTP behind
with the answer 101. Knows nothing of peers or messages.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Final

from aiohttp import web

from raft.transport.dial import address_text, describe
from raft.transport.handshake import (
    CLUSTER_HEADER,
    ENVELOPE_HEADER,
    PROBING_PATH,
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    SENDER_HEADER,
    SNAPSHOT_PATH,
    STREAM_PATH,
    UPGRADE,
    VERSION_HEADER,
    Hello,
    Refusal,
)
from raft.transport.local import Local
from raft.transport.snapshot_door import SnapshotDoor
from raft.transport.stream import Stream

log = logging.getLogger(__name__)

# Every member dials at once when a large cluster starts, and operators ask meanwhile.
_BACKLOG: Final = 1024
# Who connects and then says nothing holds a descriptor so long: until the end of the handshake of
# TLS, and until that of the first head, or from an answer to the end of the next head.
_HANDSHAKE_SECONDS: Final = 10.0
_HEAD_SECONDS: Final = 30.0


class Server:
    """Listens on the peer addresses.

    Invariants:
      1. Nobody gets past `admit` but to `/raft/probing` and the routes of others.
    """

    def __init__(
        self,
        local: Local,
        *,
        admit: Callable[[Mapping[str, str]], Hello],
        accept: Callable[[Hello, asyncio.BaseProtocol], Stream],
        tls: SSLContext | None,
        wall_clock: Callable[[], float],
    ) -> None:
        """`admit` and `accept` raise Refusal; `accept` gets the protocol that comes before."""
        self.app = web.Application()
        self.app.router.add_get(STREAM_PATH, self._get_stream, allow_head=False)
        self.app.router.add_post(SNAPSHOT_PATH, self._post_snapshot)
        self.app.router.add_route("*", PROBING_PATH, self._get_probing)
        self._door = SnapshotDoor(local)
        self._admit = admit
        self._accept = accept
        self._tls = tls
        self._wall_clock = wall_clock
        self._stop_seconds = local.tuning.stop_seconds
        self._headers = {
            CLUSTER_HEADER: f"{local.cluster_id:x}",
            VERSION_HEADER: local.server_version,
            PROTOCOL_HEADER: PROTOCOL_VERSION,
        }
        self._runner: web.AppRunner | None = None
        self._listeners: list[asyncio.Server] = []
        # The texts of refusals that are logged already, by sender as it calls itself.
        self._logged: dict[str, str] = {}

    async def start(
        self, addresses: list[tuple[str, int]], plain: Collection[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """Listen on all of `addresses`, or on none; return them with the ports that were chosen.

        Those in `plain` are served without TLS.

        Raises OSError, whose text names the address.
        """
        assert self._runner is None, "started twice"
        sockets: list[socket.socket] = []
        try:
            for host, port in addresses:
                sockets.append(await _listen(host, port))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        bound = [sock.getsockname()[:2] for sock in sockets]
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            shutdown_timeout=self._stop_seconds,
            # Counted from the beginning of a connection, too.
            keepalive_timeout=_HEAD_SECONDS,
            # Else a body that nobody reads is waited for even when its sender has gone.
            lingering_time=0,
        )
        await self._runner.setup()
        for sock, address in zip(sockets, addresses, strict=True):
            tls = None if address in plain else self._tls
            await self._serve(sock, tls)
        return bound

    async def _serve(self, sock: socket.socket, tls: SSLContext | None) -> None:
        # Not an aiohttp site: those have no limit for the handshake.
        assert self._runner is not None, "served before it was started"
        server = self._runner.server
        assert server is not None, "no server in the runner"
        self._listeners.append(
            await asyncio.get_running_loop().create_server(
                server,
                sock=sock,
                ssl=tls,
                backlog=_BACKLOG,
                ssl_handshake_timeout=None if tls is None else _HANDSHAKE_SECONDS,
            )
        )

    async def stop_listening(self) -> None:
        """Close the ports, and give up a snapshot that is coming in."""
        self._door.cancel()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def stop(self) -> None:
        """Close every connection that is still HTTP."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._door.close()

    # --------------------------------------------------------------------------------- routes

    async def _get_stream(self, request: web.Request) -> web.Response:
        protocol = request.protocol
        transport = request.transport
        if transport is None or transport.is_closing():
            return web.Response()  # gone already
        try:
            hello = self._admit(request.headers)
            if request.headers.get("Upgrade", "").lower() != UPGRADE:
                raise Refusal(426, f"{STREAM_PATH} needs the header Upgrade: {UPGRADE}")
            stream = self._accept(hello, protocol)
        except Refusal as refusal:
            return self._refuse(request, refusal)
        self._logged.pop(f"{hello.sender:x}", None)
        headers = {"Connection": "Upgrade", "Upgrade": UPGRADE, **self._headers}
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""])
        transport.write(head.encode("latin-1"))
        # No turn of the loop in between: what arrives from here on is the stream's. aiohttp
        # believes this request to be under way until the connection is lost.
        stream.take_over(transport, b"")
        await asyncio.wait([stream.lost])
        return web.Response()

    async def _post_snapshot(self, request: web.Request) -> web.StreamResponse:
        try:
            hello = self._admit(request.headers)
            await self._door.receive(
                hello, request.headers.get(ENVELOPE_HEADER, ""), request.content
            )
        except Refusal as refusal:
            return await self._refuse_body(request, refusal)
        except Exception as error:
            # A bug, or corrupt state: aiohttp would answer 500 and carry on.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "while receiving a snapshot", "exception": error}
            )
            raise
        return web.Response(status=204, headers=self._headers)

    async def _get_probing(self, request: web.Request) -> web.Response:
        # To the letter of etcd, whose members ask each other this: monitors may do so, too.
        now = datetime.fromtimestamp(self._wall_clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return web.Response(text=f'{{"OK":true,"Now":"{now}"}}\n')

    def _refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        text = str(refusal)
        sender = request.headers.get(SENDER_HEADER, "")[:16]
        if self._logged.get(sender) != text:
            if len(self._logged) >= 64:
                self._logged.clear()
            self._logged[sender] = text
            log.warning("refused %s from %s: %s", request.path, request.remote, text)
        headers = dict(self._headers)
        if refusal.status == 426:
            headers["Upgrade"] = UPGRADE
        headers["Connection"] = "close"
        return web.Response(status=refusal.status, text=text + "\n", headers=headers)

    async def _refuse_body(self, request: web.Request, refusal: Refusal) -> web.StreamResponse:
        """Answer, and read on until the sender has seen it and closes.

        To close first would be a reset, by which the sender may lose the answer.
        """
        response = self._refuse(request, refusal)
        try:
            async with asyncio.timeout(self._stop_seconds):
                await response.prepare(request)
                await response.write_eof()
                while await request.content.readany():
                    pass
        except (OSError, web.RequestPayloadError):
            pass  # closed, or given up: TimeoutError is an OSError
        return response


async def _listen(host: str, port: int) -> socket.socket:
    what = f"listen tcp {address_text(host, port)}"
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise describe(error, what) from None
    # A name may mean several addresses; like etcd, take one, and rather one of IPv4.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        # The port is free again at once after a restart, whatever old connections linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise describe(error, f"{what}: bind") from None
    return sock
