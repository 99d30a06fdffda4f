"""One request of a client and its answer, as bytes on a connection of their own."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from httptools import HttpParserCallbackError, HttpResponseParser

from pyetcd.httpd.protocol import Connection
from raft.sim import World

Credential = tuple[str, str]

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"


@dataclass(slots=True)
class Answer:
    """What came back; headers by their lower-case names."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def etcd_index(self) -> int:
        """The index of the store at which it was answered; 0 where there is none."""
        return int(self.headers.get("x-etcd-index", "0"))


class Call(asyncio.Transport):
    """A connection with one request on it: for the server a transport, for the client an answer.

    What the server writes arrives a little later, also if its process has ended by then.
    """

    def __init__(
        self,
        world: World,
        delay_us: int,
        *,
        on_answer: Callable[[Answer], None],
        on_lost: Callable[[], None],
        on_head: Callable[[Answer], None] | None = None,
        on_line: Callable[[bytes], None] | None = None,
    ) -> None:
        """`on_head` is told when the head is there, `on_line` of each line of the body."""
        super().__init__()
        self.delay_us = delay_us
        self.answer = Answer()
        self._world = world
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._on_head = on_head
        self._on_line = on_line
        self._parser = HttpResponseParser(self)
        self._line = b""
        self._is_over = False
        self._is_closing = False
        self._protocol: Connection | None = None

    # ------------------------------------------------------------------------ the server's end

    def connect(self, protocol: Connection) -> None:
        """Let the server have the connection."""
        self._protocol = protocol
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.Transport."""
        self._later(partial(self._receive, bytes(data)))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.Transport."""
        return ("10.0.0.1", 4711) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        """See asyncio.Transport: clients read at once."""
        return 0

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return self._is_closing

    def close(self) -> None:
        """See asyncio.Transport."""
        self._is_closing = True
        self._later(self.lose)

    def abort(self) -> None:
        """See asyncio.Transport."""
        self.close()

    # ------------------------------------------------------------------------ the client's end

    def lose(self) -> None:
        """The connection has broken, or nobody has taken it."""
        if not self._is_over:
            self._is_over = True
            self._on_lost()

    def lose_later(self) -> None:
        """The same, when the news has come."""
        self._later(self.lose)

    def hang_up(self) -> None:
        """The client goes; the server is told. To be called while its process runs."""
        self._is_over = True
        if self._protocol is not None:
            protocol, self._protocol = self._protocol, None
            self._is_closing = True
            protocol.connection_lost(None)

    @property
    def is_over(self) -> bool:
        """Whether the client has its answer, or knows that there will be none."""
        return self._is_over

    def _later(self, action: Callable[[], None]) -> None:
        self._world.clock.after(self.delay_us, action)

    def _receive(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            # What was said of the answer, and not that it was said inside a parser.
            raise error.__context__ or error from None

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.answer.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self.answer.status = self._parser.get_status_code()
        if self._on_head is not None:
            self._on_head(self.answer)

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self.answer.body += data
        if self._on_line is not None and self.answer.status == 200:
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                self._on_line(line + b"\n")

    def on_message_complete(self) -> None:
        """The answer is complete."""
        self._is_over = True
        self._on_answer(self.answer)


def form_request(
    method: str, target: str, form: str = "", credential: Credential | None = None
) -> bytes:
    """Return the bytes of a request with a form."""
    return _request(method, target, form, _FORM, credential)


def json_request(
    method: str, target: str, body: str = "", credential: Credential | None = None
) -> bytes:
    """Return the bytes of a request with a JSON body."""
    return _request(method, target, body, _JSON, credential)


def _request(
    method: str, target: str, body: str, content_type: str, credential: Credential | None
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: member"]
    if credential is not None:
        encoded = base64.b64encode(":".join(credential).encode()).decode()
        lines.append(f"Authorization: Basic {encoded}")
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", body)).encode()
