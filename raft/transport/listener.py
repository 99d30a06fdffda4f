"""The peer port's HTTP: on each connection one request after another, and their answers.

h11 knows the grammar, how bodies are framed and what may follow what; here are the sockets and the
time-outs. Knows nothing of members. The port has few connections that live long: what counts is
that it is there soon after a start, and that a connection can leave HTTP with every byte that has
arrived on it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from socket import socket
from ssl import SSLContext
from time import gmtime, strftime
from typing import Final, TypeAlias, cast

import h11

from raft.transport.local import Tuning

TEXT: Final = "text/plain; charset=utf-8"

# Every member dials at once when a large cluster starts, and operators ask meanwhile.
BACKLOG: Final = 1024
# More than a member has to say of itself, or of a snapshot.
_MAX_HEAD_BYTES: Final = 64 * 1024
# What has arrived and was not asked for yet: beyond that the socket is not read.
_MAX_UNREAD_BYTES: Final = 256 * 1024
# Of asyncio's loop: a task begins, the connection is made, the task ends.
_TURNS_TO_ACCEPT: Final = 3


class CutOff(Exception):
    """The rest of a request's body will not come."""


class Headers(Mapping[str, str]):
    """What a request says of itself, by name in any case; of what it says twice, the last."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        # h11 has made them lower case, and refused what is not ASCII in names.
        self._texts = {name.decode("ascii"): value.decode("latin-1") for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        return self._texts[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; after the last one of a connection it is closed."""

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    is_last: bool = False


class Request:
    """One request, whose body is read by its handler."""

    def __init__(self, connection: "Connection", head: h11.Request) -> None:
        self._connection = connection
        self.method = head.method.decode("ascii")
        self.path = head.target.partition(b"?")[0].decode("ascii")
        self.headers = Headers(head.headers)

    @property
    def remote(self) -> str:
        """The address of the client, without its port."""
        name = self._connection.transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    async def read(self) -> bytes:
        """Return the next part of the body as it arrives; b"" at its end. Raises CutOff."""
        try:
            event = await self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise CutOff(str(error)) from error
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    @property
    def is_gone(self) -> bool:
        """Whether nobody is left to answer."""
        return self._connection.transport.is_closing()

    def can_switch(self) -> bool:
        """Whether the client asks for another protocol, and has no body to send before that."""
        return self._connection.can_switch()

    def switch(self, headers: Mapping[str, str]) -> tuple[asyncio.Transport, bytes]:
        """Answer 101 to who can switch; return the connection, and what followed the head.

        Both are the caller's from then on.
        """
        return self._connection.switch(headers)


# Answers a request; None after `switch`, or when nobody is left.
Handler: TypeAlias = Callable[[Request], Awaitable[Reply | None]]


class Listener:
    """Serves the connections of some listening sockets."""

    def __init__(
        self, handler: Handler, *, tuning: Tuning, wall_clock: Callable[[], float]
    ) -> None:
        """What `handler` raises goes to the loop's exception handler."""
        self.handler = handler
        self.tuning = tuning
        # Those that are HTTP, until they are lost.
        self.connections: set[Connection] = set()
        self._wall_clock = wall_clock
        self._servers: list[asyncio.Server] = []
        self.is_stopping = False

    async def serve(self, sock: socket, tls: SSLContext | None) -> None:
        """Accept connections on a socket that listens."""
        self._servers.append(
            await asyncio.get_running_loop().create_server(
                lambda: Connection(self),
                sock=sock,
                ssl=tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=None if tls is None else self.tuning.handshake_seconds,
            )
        )

    def stop_listening(self) -> None:
        """Close the ports; connections stay."""
        self.is_stopping = True
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def stop(self) -> None:
        """Close what is idle, and the others once they are answered, or after a while."""
        # What was accepted just before the ports were closed is made in the next turns of the loop.
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        seconds = self.tuning.stop_seconds
        for end in (Connection.finish, Connection.abort):
            lost = [connection.lost for connection in self.connections]
            for connection in list(self.connections):
                end(connection)
            if lost:
                await asyncio.wait(lost, timeout=seconds)

    @property
    def date(self) -> str:
        """The value of the header Date."""
        return strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(self._wall_clock()))


class Connection(asyncio.Protocol):
    """One connection, as long as it is HTTP.

    Invariants:
      1. One task reads its requests and answers them, and alone takes events from h11.
      2. Its transport is closed when that task ends, unless it was given away by `switch`.
      3. `lost` is done when the transport is gone, and nothing of the connection is left.
    """

    # Set when the connection is made.
    transport: asyncio.Transport
    _task: asyncio.Task[None]

    def __init__(self, listener: Listener) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._listener = listener
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._arrived = asyncio.Event()
        self._unread_bytes = 0
        self._has_ended = False
        self._is_idle = True
        self._is_last = False
        # What still arrives is of no interest.
        self._is_seeing_off = False
        self._has_switched = False

    # ----------------------------------------------------------------------- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        # uvloop's transports have all the methods, but not the base class.
        self.transport = cast(asyncio.Transport, transport)
        if self._listener.is_stopping:
            self.transport.abort()  # accepted just before the port was closed
            return
        self._listener.connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Keep it until it is asked for."""
        if self._is_seeing_off:
            return
        self._http.receive_data(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self.transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        """The client sends no more; it may yet read."""
        self._end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever reads find out."""
        self._listener.connections.discard(self)
        self._end()
        if not self.lost.done():
            self.lost.set_result(None)

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._http.receive_data(b"")
        self._arrived.set()

    # ---------------------------------------------------------------------------- for requests

    async def next_event(self) -> h11.Event:
        """Return what comes next in the conversation. Raises h11.RemoteProtocolError."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                # PAUSED would mean that this is asked between the end of a request and its answer.
                assert event is not h11.PAUSED, "asked for an event behind the end of a request"
                return cast(h11.Event, event)
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._unread_bytes = 0
            self._arrived.clear()
            if not self._has_ended:
                self.transport.resume_reading()
            await self._arrived.wait()

    def can_switch(self) -> bool:
        """See `Request.can_switch`."""
        # Without a body the end of the request is there with its head; then h11 waits for whether
        # it goes on in another protocol, or for nothing any more.
        is_whole = type(self._http.next_event()) is h11.EndOfMessage
        return is_whole and self._http.their_state not in (h11.DONE, h11.MUST_CLOSE)

    def switch(self, headers: Mapping[str, str]) -> tuple[asyncio.Transport, bytes]:
        """See `Request.switch`."""
        self._send(h11.InformationalResponse(status_code=101, headers=_pairs(headers)))
        self._has_switched = True
        self._listener.connections.discard(self)
        return self.transport, self._http.trailing_data[0]

    # --------------------------------------------------------------------------------- serving

    def finish(self) -> None:
        """Close once the last request is answered."""
        self._is_last = True
        if self._is_idle:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()
        self._task.cancel()

    async def _serve(self) -> None:
        tuning = self._listener.tuning
        try:
            while await self._serve_one(tuning.head_seconds) and not self._is_last:
                self._http.start_next_cycle()
        except TimeoutError:
            pass  # it had its time
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                text = f"{error}\n".encode("utf-8", "replace")
                await self._answer(Reply(error.error_status_hint, text, is_last=True), "GET")
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "while a request to the peer port was answered", "exception": error}
            )
        finally:
            if not self._has_switched:
                self.transport.close()

    async def _serve_one(self, seconds: float) -> bool:
        """Answer the next request; return whether another one may follow."""
        async with asyncio.timeout(seconds):
            head = await self.next_event()
        if not isinstance(head, h11.Request):
            return False  # closed
        request = Request(self, head)
        self._is_idle = False
        reply = await self._listener.handler(request)
        if reply is None:
            return False
        await self._answer(reply, request.method)
        self._is_idle = True
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _answer(self, reply: Reply, method: str) -> None:
        headers = {"Date": self._listener.date, **reply.headers}
        if reply.status != 204:
            headers["Content-Type"] = reply.content_type
            headers["Content-Length"] = str(len(reply.body))
        if reply.is_last or self._has_body_left():
            headers["Connection"] = "close"
        parts: list[h11.Event] = [h11.Response(status_code=reply.status, headers=_pairs(headers))]
        if reply.body and method != "HEAD":
            parts.append(h11.Data(data=reply.body))
        self._send(*parts, h11.EndOfMessage())
        if self._http.our_state is h11.MUST_CLOSE:
            await self._see_off()

    def _has_body_left(self) -> bool:
        """Whether the client still sends what nobody wants to read."""
        if self._http.their_state is not h11.SEND_BODY:
            return False
        try:
            return type(self._http.next_event()) is not h11.EndOfMessage
        except h11.RemoteProtocolError:
            return True

    async def _see_off(self) -> None:
        """Read on until the client has seen the answer, and closes.

        To close first would be a reset, by which it may lose the answer.
        """
        if self._has_ended:
            return
        self._is_seeing_off = True
        self._arrived.clear()
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        try:
            async with asyncio.timeout(self._listener.tuning.stop_seconds):
                await self._arrived.wait()
        except TimeoutError:
            pass

    def _send(self, *events: h11.Event) -> None:
        """Write these in one piece."""
        data = b"".join(self._http.send(event) or b"" for event in events)
        # uvloop raises for a write to what is closed.
        if data and not self.transport.is_closing():
            self.transport.write(data)


def _pairs(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(headers.items())
