"""The peer port's HTTP: what one connection may ask, in which order, and how long it may take."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from raft.transport.listener import CutOff, Headers, Listener, Reply, Request
from raft.transport.local import Tuning
from tests.raft.transport.conftest import Run
from tests.raft.transport.members import QUICK, until

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

DATE = b"Date: Thu, 01 Jan 1970 00:25:00 GMT\r\n"


async def echo(request: Request) -> Reply:
    """Say what was asked, and how much body it had."""
    size = 0
    while data := await request.read():
        size += len(data)
    return Reply(200, f"{request.method} {request.path} {size}".encode())


class Port:
    """A listener, and whoever connects to it."""

    def __init__(self, listener: Listener, number: int) -> None:
        self.listener = listener
        self.number = number

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(self, sent: bytes) -> bytes:
        """Send all of it, and return all that comes until the far side closes."""
        async with self.connect() as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(5):
                return await reader.read()


@asynccontextmanager
async def serving(
    handler: Callable[[Request], Awaitable[Reply | None]] = echo, *, tuning: Tuning = QUICK
) -> AsyncIterator[Port]:
    listener = Listener(handler, tuning=tuning, wall_clock=lambda: 1500.25)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        number = sock.getsockname()[1]
        await listener.serve(sock.dup(), None)
    yield Port(listener, number)
    listener.stop_listening()
    await listener.stop()
    await until(lambda: not listener.connections)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The next answer with a length."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await reader.readexactly(length)


def test_listener_answers_one_request_after_another(run: Run) -> None:
    """A connection is kept, also for requests that came together."""

    async def scenario() -> None:
        async with serving() as port, port.connect() as (reader, writer):
            writer.write(
                b"GET /a?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"
                b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
            )
            first = await answer(reader)
            assert first.startswith(b"HTTP/1.1 200 \r\n" + DATE)
            assert b"Content-Type: text/plain; charset=utf-8\r\n" in first
            assert first.endswith(b"\r\n\r\nGET /a 0")
            assert (await answer(reader)).endswith(b"POST /b 4")
            writer.write(b"PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            assert (await answer(reader)).endswith(b"PUT /c 5")

    run(scenario())


def test_listener_of_head_sends_no_body(run: Run) -> None:
    """Its length is that of the answer to a GET."""

    async def scenario() -> None:
        async with serving() as port:
            got = await port.ask(b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head, _, body = got.partition(b"\r\n\r\n")
            assert b"Content-Length: 9" in head
            assert body == b""

    run(scenario())


def test_listener_closes_after_the_last_answer(run: Run) -> None:
    """Asked to close, spoken to in HTTP/1.0, or told so by the handler: it does."""

    async def last(request: Request) -> Reply:
        return Reply(503, b"no", is_last=request.path == "/last")

    async def scenario() -> None:
        async with serving(last) as port:
            for sent in (
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                b"GET / HTTP/1.0\r\n\r\n",
                b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n",
            ):
                got = await port.ask(sent)
                assert got.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nConnection: close\r\n" in got
                assert got.endswith(b"no")

    run(scenario())


def test_listener_asks_for_a_body_that_waits_to_be_asked_for(run: Run) -> None:
    """`Expect: 100-continue` is answered when the handler reads."""

    async def scenario() -> None:
        async with serving() as port, port.connect() as (reader, writer):
            writer.write(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"ab")
            assert (await answer(reader)).endswith(b"POST / 2")

    run(scenario())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: z\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"y" * 70_000, 431),
    ],
)
def test_listener_refuses_what_is_no_request(run: Run, sent: bytes, status: int) -> None:
    """With the reason, and closes; it was not asked for ever."""

    async def scenario() -> None:
        async with serving() as port:
            got = await port.ask(sent)
            assert got.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nConnection: close\r\n" in got

    run(scenario())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"])
def test_listener_drops_who_says_nothing(run: Run, sent: bytes) -> None:
    """No head, or half of one: the descriptor is free again after a while."""

    async def scenario() -> None:
        tuning = replace(QUICK, head_seconds=0.05)
        async with serving(tuning=tuning) as port:
            assert await port.ask(sent) == b""

    run(scenario())


def test_listener_drops_who_has_asked_and_says_nothing_more(run: Run) -> None:
    """An idle connection is kept for a while, and not for ever."""

    async def scenario() -> None:
        tuning = replace(QUICK, head_seconds=0.3)
        async with serving(tuning=tuning) as port:
            got = await port.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert got.endswith(b"GET / 0")

    run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100\r\n\r\nhalf",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_listener_tells_a_body_that_is_cut_off_from_one_that_ends(run: Run, body: bytes) -> None:
    """What came is not taken for the whole."""
    seen: list[str] = []

    async def handler(request: Request) -> Reply:
        try:
            while await request.read():
                pass
        except CutOff as error:
            seen.append(str(error))
        return Reply(400, is_last=True)

    async def scenario() -> None:
        async with serving(handler) as port, port.connect() as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + body)
            writer.write_eof()
            await until(lambda: seen)

    run(scenario())
    assert len(seen) == 1


def test_listener_answers_before_a_body_ends_and_is_heard(run: Run) -> None:
    """The client may read its refusal though it still writes; what it writes is dropped."""

    async def refuse(_: Request) -> Reply:
        return Reply(422, b"not you")

    async def scenario() -> None:
        async with serving(refuse) as port, port.connect() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(40):
                writer.write(bytes(50_000))
            got = await answer(reader)
            assert b"\r\nConnection: close\r\n" in got
            assert got.endswith(b"not you")
            assert await reader.read() == b""

    run(scenario())


def test_listener_reads_no_more_than_is_asked_for(run: Run) -> None:
    """A body whose reader is busy with the disk waits in the client."""
    may_read = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await may_read.wait()
        return await echo(request)

    async def scenario() -> None:
        async with serving(slow) as port, port.connect() as (reader, writer):
            size = 64 << 20
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            writer.write(bytes(size))
            await until(lambda: port.listener.connections)
            (connection,) = port.listener.connections
            await until(lambda: connection._unread_bytes > 256 << 10)
            await asyncio.sleep(0.05)
            assert connection._unread_bytes < 1 << 20
            may_read.set()
            assert (await answer(reader)).endswith(b"POST / %d" % size)

    run(scenario())


def test_listener_gives_a_connection_away_with_what_followed(run: Run) -> None:
    """Bytes right behind the head are the new owner's; HTTP has forgotten the connection."""
    given: list[bytes] = []

    async def switch(request: Request) -> Reply | None:
        assert request.can_switch()
        transport, rest = request.switch({"Upgrade": "x", "Connection": "Upgrade"})
        given.append(rest)
        transport.close()
        return None

    async def scenario() -> None:
        async with serving(switch) as port:
            got = await port.ask(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\n\r\nmore")
            assert got.startswith(b"HTTP/1.1 101 ")
            assert given == [b"more"]
            assert not port.listener.connections

    run(scenario())


@pytest.mark.parametrize(
    "head", [b"Upgrade: x\r\nContent-Length: 3\r\n\r\nabc", b"Connection: close\r\n\r\n"]
)
def test_listener_gives_no_connection_away_that_has_a_body_to_come(run: Run, head: bytes) -> None:
    """Nor one that did not ask for it."""
    asked: list[bool] = []

    async def handler(request: Request) -> Reply:
        asked.append(request.can_switch())
        return Reply(400, is_last=True)

    async def scenario() -> None:
        async with serving(handler) as port:
            got = await port.ask(b"GET / HTTP/1.1\r\nHost: x\r\n" + head)
            assert got.startswith(b"HTTP/1.1 400 ")

    run(scenario())
    assert asked == [False]


def test_listener_reports_what_a_handler_raises() -> None:
    """A bug is not answered for: whoever runs the loop is told, and the connection closes."""
    problems: list[object] = []

    async def broken(_: Request) -> Reply:
        raise ZeroDivisionError

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context["exception"]))
        async with serving(broken) as port:
            assert await port.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""

    asyncio.run(scenario())
    assert [type(problem) for problem in problems] == [ZeroDivisionError]


@pytest.mark.parametrize("busy", [False, True])
def test_listener_stop_waits_for_answers_and_for_nobody_else(run: Run, busy: bool) -> None:
    """An idle connection is closed at once; a busy one is answered, if it does not take long."""
    go = asyncio.Event()

    async def slow(request: Request) -> Reply:
        if request.path == "/slow":
            await go.wait()
        return Reply(200, b"done")

    async def scenario() -> None:
        async with serving(slow) as port, port.connect() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await answer(reader)
            if busy:
                writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: not next(iter(port.listener.connections))._is_idle)
                asyncio.get_running_loop().call_later(0.05, go.set)
            port.listener.stop_listening()
            await port.listener.stop()
            rest = await reader.read()
            assert rest.endswith(b"done") == busy

    run(scenario())


def test_listener_stop_gives_up_what_is_not_answered(run: Run) -> None:
    """A handler that hangs does not hold up the end of the process."""

    async def hang(_: Request) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        tuning = replace(QUICK, stop_seconds=0.05)
        async with serving(hang, tuning=tuning) as port, port.connect() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: port.listener.connections)
            await port.listener.stop()
            try:
                assert await reader.read() == b""
            except ConnectionError:
                pass  # reset, which says the same

    run(scenario())


def test_headers_are_found_by_name_in_any_case() -> None:
    """And are a mapping like any other."""
    headers = Headers([(b"x-raft-to", b"ab"), (b"host", b"h"), (b"host", b"i")])
    assert headers["X-Raft-To"] == headers.get("x-raft-TO") == "ab"
    assert dict(headers) == {"x-raft-to": "ab", "host": "i"}
    assert len(headers) == 2
    assert headers.get("Missing", "") == ""
    assert "HOST" in headers
