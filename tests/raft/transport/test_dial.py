"""A dialer takes any answer, or none, in its stride."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raft.transport.dial import Answer, Call, address_text, describe, dial
from raft.transport.stream import Stream
from tests.raft.transport.conftest import Run
from tests.raft.transport.members import stranger, until


@asynccontextmanager
async def answering(*pieces: bytes, end: bool = True) -> AsyncIterator[str]:
    """A server that says `pieces` to the first request, then ends or waits; yields its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if end:
            writer.close()
            await writer.wait_closed()
        else:
            await asyncio.Event().wait()

    async with stranger(handle) as url:
        yield url


async def call(url: str) -> Call:
    return await dial(url, method="GET", path="/", headers={"A": "b"}, tls=None)


@pytest.mark.parametrize(
    ("pieces", "end", "answer"),
    [
        ([b"HTTP/1.1 101 Switching\r\n\r\nrest"], False, Answer(101, "")),
        ([b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"], False, Answer(204, "")),
        (
            [b"HTT", b"P/1.0 412 x\r\ncontent-length:5\r\n\r\nhe", b"llo!"],
            False,
            Answer(412, "hello"),
        ),
        ([b"HTTP/1.1 410 Gone\r\n\r\nuntil the end"], True, Answer(410, "until the end")),
        ([b"HTTP/1.1 500\r\nA: b\r\n\r\n\xff"], True, Answer(500, "\ufffd")),
        ([b"HTTP/1.1 404 x\r\nContent-Length: 99\r\n\r\ncut"], True, Answer(404, "cut")),
        ([b"HTTP/1.1 404 x\r\n\r\n", b"z" * 9000], False, Answer(404, "z" * 4096)),
    ],
)
def test_dial_returns_status_and_text(
    run: Run, pieces: list[bytes], end: bool, answer: Answer
) -> None:
    """Answers in pieces, without length, cut off or too long are understood as far as they go."""

    async def scenario() -> None:
        async with answering(*pieces, end=end) as url:
            made = await call(url)
            async with asyncio.timeout(5):
                assert await made.answer() == answer
            made.close()

    run(scenario())


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([], "closed by peer"),
        ([b"HTTP/1.1 200 OK\r\nA: b\r\n"], "closed by peer"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "not an HTTP answer"),
        ([b"x" * 1000] * 40, "closed by peer|not an HTTP answer"),
    ],
)
def test_dial_without_an_http_answer_raises(run: Run, pieces: list[bytes], text: str) -> None:
    """Silence, noise and endless heads are failures of the network like any other."""

    async def scenario() -> None:
        async with answering(*pieces) as url:
            made = await call(url)
            async with asyncio.timeout(5):
                with pytest.raises(OSError, match=text):
                    await made.answer()
            made.close()

    run(scenario())


def test_dial_to_a_closed_port_names_address_and_cause(run: Run) -> None:
    """Both event loops give the same text, without numbers of errors."""

    async def scenario() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            with pytest.raises(OSError) as failed:
                await call(f"http://127.0.0.1:{port}")
            assert str(failed.value) == f"dial tcp 127.0.0.1:{port}: connection refused"

    run(scenario())


@pytest.mark.parametrize("url", ["nonsense", "https://127.0.0.1:1", "http://127.0.0.1"])
def test_dial_of_what_cannot_be_dialed_raises(run: Run, url: str) -> None:
    """A URL of no use, or of TLS without certificates, fails like a peer that is down."""

    async def scenario() -> None:
        with pytest.raises(OSError):
            await call(url)

    run(scenario())


def test_dial_that_was_lost_before_it_is_given_away_is_a_lost_stream(run: Run) -> None:
    """A connection that ends right behind its answer is told to the stream, not forgotten."""

    async def scenario() -> None:
        async with answering(b"HTTP/1.1 101 x\r\n\r\n") as url:
            made = await call(url)
            await until(lambda: made._ended)
            assert await made.answer() == Answer(101, "")
            lost: list[str] = []
            stream = Stream(
                on_frames=lambda *_: None,
                on_lost=lambda _, reason: lost.append(reason),
                max_frame_bytes=100,
                max_silent_ticks=1,
                streams=set(),
            )
            made.give_to(stream)
            assert lost == ["closed by peer"]
            assert stream.lost.done()

    run(scenario())


def test_dial_turns_nagles_algorithm_off(run: Run) -> None:
    """A heartbeat does not wait for the answer to the one before it."""

    async def scenario() -> None:
        async with answering(end=False) as url:
            made = await call(url)
            assert made._transport is not None
            sock = made._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            made.close()

    run(scenario())


def test_describe_keeps_the_text_of_a_name_that_is_not_found() -> None:
    """The resolver's numbers are not the system's."""
    error = describe(socket.gaierror(-2, "Name or service not known"), "listen tcp nowhere:1")
    assert str(error) == "listen tcp nowhere:1: Name or service not known"


def test_address_text_puts_ipv6_in_brackets() -> None:
    """An address with colons is told from its port."""
    assert (address_text("::1", 1), address_text("h", 2)) == ("[::1]:1", "h:2")


def test_drain_waits_for_the_peer_and_ends_with_its_answer(run: Run) -> None:
    """A body is not written faster than it is taken, and no further than its answer."""

    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 503 x\r\nContent-Length: 6\r\n\r\nenough")
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with stranger(handle) as url:
            made = await call(url)
            for _ in range(200):
                made.write(bytes(100_000))
            waiting = asyncio.ensure_future(made.drain())
            await begun.wait()
            assert not waiting.done()
            go_on.set()
            async with asyncio.timeout(5):
                await waiting
                assert await made.answer() == Answer(503, "enough")
            made.close()

    run(scenario())
