"""A client that sends each request once: what nobody has answered stays unknown.

Libraries repeat a request on a connection that was closed meanwhile, which turns an unknown
outcome into a wrong one. One request at a time per connection; its errors are `NoAnswer`.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from scripts.soak.names import PASSWORD, PORT, USER

AUTHORIZATION: Final = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LINE_BYTES: Final = 16 * 1024 * 1024


class NoAnswer(Exception):
    """It was done, or it was not."""


class NotSent(NoAnswer):
    """There was no connection: it was not done."""


@dataclass(slots=True)
class Answer:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def etcd_index(self) -> int:
        return int(self.headers.get("x-etcd-index", 0))


class Connection:
    """A connection to one host that is made when it is needed."""

    def __init__(self, host: str, port: int = PORT) -> None:
        self.host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self,
        method: str,
        path: str,
        form: Mapping[str, object] | None = None,
        body: object = None,
        seconds: float = 3.0,
    ) -> Answer:
        """Send one request; `form` fields or a JSON `body`. Raises NoAnswer."""
        try:
            async with asyncio.timeout(seconds):
                reader = await self._send(method, path, form, body)
                answer = await _read_head(reader)
                if answer.headers.get("transfer-encoding") == "chunked":
                    answer.body = b"".join([chunk async for chunk in _chunks(reader)])
                else:
                    size = int(answer.headers.get("content-length", 0))
                    answer.body = await reader.readexactly(size)
        except NotSent:
            self.close()
            raise
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            raise NoAnswer(f"{method} {path} to {self.host}: {error!r}") from error
        except BaseException:
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def stream(self, path: str) -> tuple[Answer, AsyncIterator[bytes]]:
        """Begin a stream: its head, and its chunks as they come. Both raise NoAnswer."""
        try:
            async with asyncio.timeout(3.0):
                reader = await self._send("GET", path, None, None)
                head = await _read_head(reader)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            raise NoAnswer(f"stream of {path} from {self.host}: {error!r}") from error
        if head.status != 200:
            self.close()
            return head, _nothing()
        return head, self._guarded(reader)

    async def _guarded(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        try:
            async for chunk in _chunks(reader):
                yield chunk
        except (OSError, EOFError, ValueError) as error:
            raise NoAnswer(f"stream from {self.host}: {error!r}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Forget the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _send(
        self, method: str, path: str, form: Mapping[str, object] | None, body: object
    ) -> asyncio.StreamReader:
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(
                    self.host, self._port, limit=LINE_BYTES
                )
            except (OSError, TimeoutError) as error:
                raise NotSent(f"{self.host}: {error!r}") from error
        reader, writer = self._streams
        kind, content = "application/json", b""
        if form is not None:
            kind, content = "application/x-www-form-urlencoded", urlencode(form).encode()
        elif body is not None:
            content = json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Basic {AUTHORIZATION}"
            f"\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()
        return reader


def key_path(key: str, **query: object) -> str:
    """The path of a key, with the query."""
    path = "/v2/keys" + quote(key)
    return f"{path}?{urlencode(query)}" if query else path


async def _read_head(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    fields = {name.lower(): text for name, text in headers.items()}
    return Answer(int(first.split()[1]), fields, b"")


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
