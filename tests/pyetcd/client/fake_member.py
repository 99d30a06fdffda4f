"""A member that answers what the test has told it to, on a real socket.

Every request is kept. What is not told beforehand is 404. Besides answers there are the ways in
which members fail: to close the connection, to be silent, to break off in the middle.
"""

import asyncio
import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    # Path and query as they were sent.
    target: str
    body: str
    headers: dict[str, str]


@dataclass(slots=True)
class Told:
    """What to do with one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    # "": answer; "close": no answer; "silent": no answer, ever; "break": the header, then nothing.
    failure: str = ""


class FakeMember:
    """One server; as a context manager it runs."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: deque[Told] = deque()
        # For a method and a path without its query, any number of times.
        self.standing: dict[tuple[str, str], Told] = {}
        self._released = asyncio.Event()
        self._server: TestServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None, "not started"
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def targets(self) -> list[str]:
        """Method and target of each request."""
        return [f"{asked.method} {asked.target}" for asked in self.asked]

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._server = TestServer(application, host="127.0.0.1")
        await self._server.start_server(shutdown_timeout=0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        assert self._server is not None, "not started"
        await self._server.close()

    def tell(self, value: Any = b"", *, status: int = 200, **headers: str) -> None:
        """Answer the next request; a value that is no bytes is sent as JSON."""
        self.script.append(told(value, status, headers))

    def fail(self, failure: str, **headers: str) -> None:
        """Do not answer the next request."""
        self.script.append(Told(failure=failure, headers=named(headers)))

    def always(self, method: str, path: str, value: Any = b"", *, status: int = 200) -> None:
        """Answer all requests of a kind."""
        self.standing[method, path] = told(value, status, {})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        self.asked.append(Asked(request.method, request.raw_path, body, dict(request.headers)))
        standing = self.standing.get((request.method, request.raw_path.partition("?")[0]))
        answer = standing or (self.script.popleft() if self.script else told({}, 404, {}))
        if answer.failure == "silent":
            await self._released.wait()
        if answer.failure in ("close", "silent"):
            assert request.transport is not None
            request.transport.abort()
        if answer.failure == "break":
            response = web.StreamResponse(headers=answer.headers)
            response.enable_chunked_encoding()
            await response.prepare(request)
            await asyncio.sleep(0)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


class InOrder(random.Random):
    """Shuffles nothing, so that a test knows who is asked first."""

    def shuffle(self, x: object) -> None:  # type: ignore[override]
        pass


def told(value: Any, status: int, headers: dict[str, str]) -> Told:
    """An answer with a body in bytes or JSON."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Told(status, body, named(headers))


def named(headers: dict[str, str]) -> dict[str, str]:
    """Names of headers from names of arguments."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def event(key: str = "/a", value: str = "1", *, index: int = 5, action: str = "get") -> Any:
    """An answer on a key."""
    node = {"key": key, "value": value, "createdIndex": index, "modifiedIndex": index}
    return {"action": action, "node": node}


def member(member_id: str, *client_urls: str, name: str = "infra0") -> Any:
    """A member as the members API shows it."""
    return {
        "id": member_id,
        "name": name,
        "peerURLs": ["http://127.0.0.1:2380"],
        "clientURLs": list(client_urls),
    }
