"""A server that does to its clients what a test says: answers, breaks off, or says nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

from tests.http import read_responses


@dataclass(slots=True)
class Upstream:
    """One listening port of 127.0.0.1; `act` gets what was read of a request and the way back."""

    act: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
    # Whole requests, in the order of their arrival.
    requests: list[bytes] = field(default_factory=list)
    # Connections that the client has closed, or that were broken off.
    ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _read_request(reader)
                self.requests.append(request)
                self.arrived.release()
                await self.act(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended.release()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return head + await reader.readexactly(int(value))
    return head


def answering(data: bytes) -> Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]:
    """Answer every request with these bytes."""

    async def act(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return act


async def breaking_off(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Read the request, and close without an answer."""
    raise ConnectionResetError


async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Say nothing; the end of the connection is noticed by the next read."""


async def exchange(port: int, data: bytes) -> list[tuple[int, bytes]]:
    """Send bytes, read until the server closes, and return statuses and bodies."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return [(response.status, response.body) for response in read_responses(received, closed=True)]
