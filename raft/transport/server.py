"""The peer port: checks who comes in at the door, and hands connections over.

A stream leaves HTTP behind with the answer 101; a snapshot comes as a body. What is asked beside
that is answered by a page of whoever owns the transport. Knows nothing of peers or messages.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from ssl import SSLContext
from typing import TypeAlias

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
from raft.transport.listener import BACKLOG, Listener, Reply, Request
from raft.transport.local import Local
from raft.transport.snapshot_door import SnapshotDoor
from raft.transport.stream import Stream

log = logging.getLogger(__name__)

# Answers method and path.
Page: TypeAlias = Callable[[str, str], Reply]


def no_page(_method: str, _path: str) -> Reply:
    """Answer that there is nothing here."""
    return Reply(404, b"404 page not found\n")


class Server:
    """Listens on the peer addresses.

    Invariants:
      1. Nobody gets past `admit` but to `/raft/probing` and the pages.
    """

    def __init__(
        self,
        local: Local,
        *,
        admit: Callable[[Mapping[str, str]], Hello],
        accept: Callable[[Hello], Stream],
        tls: SSLContext | None,
        wall_clock: Callable[[], float],
    ) -> None:
        """`admit` and `accept` raise Refusal."""
        # Answers what the transport does not.
        self.page: Page = no_page
        self._door = SnapshotDoor(local)
        self._admit = admit
        self._accept = accept
        self._tls = tls
        self._wall_clock = wall_clock
        self._headers = {
            CLUSTER_HEADER: f"{local.cluster_id:x}",
            VERSION_HEADER: local.server_version,
            PROTOCOL_HEADER: PROTOCOL_VERSION,
        }
        self._listener = Listener(self._answer, tuning=local.tuning, wall_clock=wall_clock)
        self._is_started = False
        # The texts of refusals that are logged already, by sender as it calls itself.
        self._logged: dict[str, str] = {}

    async def start(
        self, addresses: list[tuple[str, int]], plain: Collection[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """Listen on all of `addresses`, or on none; return them with the ports that were chosen.

        Those in `plain` are served without TLS.

        Raises OSError, whose text names the address.
        """
        assert not self._is_started, "started twice"
        sockets: list[socket.socket] = []
        try:
            for host, port in addresses:
                sockets.append(await _listen(host, port))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        self._is_started = True
        bound = [sock.getsockname()[:2] for sock in sockets]
        for sock, address in zip(sockets, addresses, strict=True):
            await self._listener.serve(sock, None if address in plain else self._tls)
        return bound

    def stop_listening(self) -> None:
        """Close the ports, and give up a snapshot that is coming in."""
        self._door.cancel()
        self._listener.stop_listening()

    async def stop(self) -> None:
        """Close every connection that is still HTTP."""
        await self._listener.stop()
        self._door.close()

    # --------------------------------------------------------------------------------- routes

    async def _answer(self, request: Request) -> Reply | None:
        path, method = request.path, request.method
        if path == STREAM_PATH:
            return self._get_stream(request) if method == "GET" else _only("GET")
        if path == SNAPSHOT_PATH:
            return await self._post_snapshot(request) if method == "POST" else _only("POST")
        if path == PROBING_PATH:
            return self._get_probing()
        return self.page(method, path)

    def _get_stream(self, request: Request) -> Reply | None:
        if request.is_gone:
            return None
        try:
            hello = self._admit(request.headers)
            if request.headers.get("Upgrade", "").lower() != UPGRADE:
                raise Refusal(426, f"{STREAM_PATH} needs the header Upgrade: {UPGRADE}")
            if not request.can_switch():
                raise Refusal(400, f"{STREAM_PATH} takes no body")
            stream = self._accept(hello)
        except Refusal as refusal:
            return self._refuse(request, refusal)
        self._logged.pop(f"{hello.sender:x}", None)
        headers = {"Connection": "Upgrade", "Upgrade": UPGRADE, **self._headers}
        # No turn of the loop in between: what arrives from here on is the stream's.
        stream.take_over(*request.switch(headers))
        return None

    async def _post_snapshot(self, request: Request) -> Reply:
        try:
            hello = self._admit(request.headers)
            await self._door.receive(hello, request.headers.get(ENVELOPE_HEADER, ""), request.read)
        except Refusal as refusal:
            return self._refuse(request, refusal)
        return Reply(204, headers=self._headers)

    def _get_probing(self) -> Reply:
        # To the letter of etcd, whose members ask each other this: monitors may do so, too.
        now = datetime.fromtimestamp(self._wall_clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return Reply(200, f'{{"OK":true,"Now":"{now}"}}\n'.encode())

    def _refuse(self, request: Request, refusal: Refusal) -> Reply:
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
        return Reply(refusal.status, f"{text}\n".encode(), headers=headers, is_last=True)


def _only(method: str) -> Reply:
    return Reply(405, b"Method Not Allowed\n", headers={"Allow": method})


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
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise describe(error, f"{what}: bind") from None
    return sock
