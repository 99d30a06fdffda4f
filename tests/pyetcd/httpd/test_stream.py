"""Proves that answers in pieces leave in their turn, and end as their clients can read them."""

import pytest

from pyetcd.httpd.pipeline import Limits
from pyetcd.httpd.request import Request
from pyetcd.httpd.response import LAST_CHUNK, chunk
from tests.http import Wire, request
from tests.pyetcd.httpd.handlers import Later, Streaming, bodies


def test_stream_head_leaves_at_once() -> None:
    """Clients time out on headers, not on events."""
    streaming = Streaming()
    wire = Wire(streaming).send(request())
    assert wire.sent == (
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )


def test_stream_write_is_one_chunk_and_one_write() -> None:
    """Empty writes are none; the end is a chunk of its own."""
    streaming = Streaming()
    wire = Wire(streaming).send(request())
    (stream,) = streaming.streams
    stream.write(b"abc")
    stream.write(b"")
    stream.write_chunk(chunk(b"defg"))
    assert wire.response().framing == "chunked, not ended"
    stream.finish()
    stream.finish()
    stream.write(b"late")
    stream.write_chunk(chunk(b"later"))
    response = wire.response()
    assert (response.framing, response.chunks) == ("chunked", [b"abc", b"defg"])
    assert len(wire.transport.writes) == 4
    assert streaming.gone == []
    assert not stream.is_open


def test_stream_ends_with_its_last_chunks_in_one_write() -> None:
    """Each write costs the client a read, too."""
    streaming = Streaming()
    wire = Wire(streaming).send(request())
    (stream,) = streaming.streams
    stream.finish_with(chunk(b"abc") + LAST_CHUNK)
    stream.finish_with(chunk(b"late") + LAST_CHUNK)
    assert not stream.is_open
    assert len(wire.transport.writes) == 2
    wire.send(request())
    streaming.streams[1].finish_with(LAST_CHUNK)
    assert bodies(wire) == [b"abc", b""]
    assert streaming.gone == []


def test_stream_that_ends_before_its_turn_is_held() -> None:
    """Its last chunks, too."""
    later, streaming = Later(), Streaming()
    wire = Wire(lambda got: (later if got.path == b"/0" else streaming)(got))
    wire.send(request("GET", "/0") + request("GET", "/1") + request("GET", "/2"))
    streaming.streams[0].finish_with(chunk(b"1") + LAST_CHUNK)
    assert wire.sent == b""
    later.respond(0)
    streaming.streams[1].finish_with(chunk(b"2") + LAST_CHUNK)
    assert bodies(wire) == [b"/0", b"1", b"2"]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("method", "version", "headers", "framing", "body"),
    [
        ("GET", "1.1", [], "chunked", b"abcdef"),
        ("GET", "1.1", ["Connection: close"], "chunked", b"abcdef"),
        ("HEAD", "1.1", [], "none", b""),
        ("GET", "1.0", [], "close", b"abcdef"),
        ("GET", "1.0", ["Connection: keep-alive"], "close", b"abcdef"),
    ],
)
def test_answer_of_chunks_is_the_same_whole_or_as_a_stream(
    whole: bool, method: str, version: str, headers: list[str], framing: str, body: bytes
) -> None:
    """Whether the client knows chunks, and keeps its connection, or not."""
    framed = chunk(b"abc") + chunk(b"def") + LAST_CHUNK

    def handler(got: Request) -> None:
        if whole:
            got.respond_in_chunks(200, b"X-A: 1\r\n", framed)
        else:
            got.start_stream(200, b"X-A: 1\r\n").finish_with(framed)

    wire = Wire(handler).send(request(method, version=version, headers=headers)).settle()
    (response,) = wire.responses(method)
    assert (response.version, response.framing, response.body) == (
        f"HTTP/{version}",
        framing,
        body,
    )
    names = ["X-A", "Date"] + ["Connection"] * (framing == "close" or bool(headers))
    names += ["Transfer-Encoding"] * (version == "1.1")
    assert [name for name, _ in response.headers] == names
    assert wire.lost == ("Connection" in names)


def test_answer_of_chunks_waits_for_its_turn() -> None:
    """As any other."""
    later = Later()

    def handler(got: Request) -> None:
        if got.path == b"/0":
            later(got)
        else:
            got.respond_in_chunks(200, b"", chunk(got.path) + LAST_CHUNK)

    wire = Wire(handler).send(request("GET", "/0") + request("GET", "/1"))
    assert wire.sent == b""
    later.respond(0)
    assert bodies(wire) == [b"/0", b"/1"]


def test_stream_that_ended_frees_the_connection() -> None:
    """The next request is served."""
    streaming = Streaming()
    wire = Wire(streaming).send(request())
    streaming.streams[0].finish()
    wire.send(request())
    streaming.streams[1].write(b"x")
    streaming.streams[1].finish()
    assert bodies(wire) == [b"", b"x"]
    assert not wire.lost


@pytest.mark.parametrize("headers", [[], ["Connection: keep-alive"]])
def test_stream_to_old_client_ends_with_the_connection(headers: list[str]) -> None:
    """HTTP/1.0 knows no chunks, shared ones included."""
    streaming = Streaming()
    wire = Wire(streaming).send(request(version="1.0", headers=headers) + request(version="1.0"))
    streaming.streams[0].write(b"abc")
    streaming.streams[0].write_chunk(chunk(b"def\r\n"))
    streaming.streams[0].finish()
    response = wire.settle().response()
    assert (response.version, response.framing, response.body) == (
        "HTTP/1.0",
        "close",
        b"abcdef\r\n",
    )
    assert response.header("Connection") == "close"
    assert wire.lost


def test_stream_to_old_client_that_pipelined_is_the_last_answer() -> None:
    """What it sent behind is dropped, though it asked for keep-alive."""

    def handler(got: Request) -> None:
        got.start_stream(200).finish()

    wire = Wire(handler)
    wire.send(request(version="1.0", headers=["Connection: keep-alive"]) * 2)
    assert wire.response().framing == "close"


def test_stream_with_close_ends_the_connection() -> None:
    """`Connection: close` holds for streams."""
    streaming = Streaming()
    wire = Wire(streaming).send(request(headers=["Connection: close"]))
    streaming.streams[0].finish()
    assert wire.settle().response().header("Connection") == "close"
    assert wire.lost


def test_stream_for_head_has_no_body() -> None:
    """Only the head is sent; then the connection goes on."""
    streaming = Streaming()
    wire = Wire(streaming).send(request("HEAD"))
    streaming.streams[0].write(b"abc")
    streaming.streams[0].finish()
    wire.send(request("HEAD"))
    assert [r.body for r in wire.responses("HEAD", "HEAD")] == [b"", b""]


def test_stream_behind_an_unanswered_request_is_held() -> None:
    """It waits its turn, then goes on directly."""
    later, streaming = Later(), Streaming()
    wire = Wire(lambda got: (later if got.path == b"/0" else streaming)(got))
    wire.send(request("GET", "/0") + request("GET", "/1") + request("GET", "/2"))
    first, second = streaming.streams
    first.write(b"abc")
    second.write(b"2")
    second.finish()
    assert wire.sent == b""
    assert first.buffered == len(b"".join(wire.transport.writes)) + first.buffered > 0
    later.respond(0)
    first.write(b"def")
    first.finish()
    assert bodies(wire) == [b"/0", b"abcdef", b"2"]


def test_stream_to_client_that_does_not_read_is_cut() -> None:
    """What waits is bounded; the watcher is told, but not within its own write."""
    streaming = Streaming()
    wire = Wire(streaming, Limits(stream_bytes=200_000))
    wire.transport.blocked = True
    wire.send(request())
    (stream,) = streaming.streams
    for _ in range(300):
        stream.write(b"x" * 1000)
        assert stream.buffered <= 200_000
    assert wire.transport.aborted
    assert streaming.gone == []
    wire.settle()
    assert streaming.gone == [0]
    assert stream.buffered == 0
    stream.write(b"x")
    stream.finish()


def test_stream_held_too_long_is_cut() -> None:
    """The bound holds before its turn too."""
    streaming = Streaming()
    later = Later()
    wire = Wire(
        lambda got: (later if got.path == b"/0" else streaming)(got), Limits(stream_bytes=1000)
    )
    wire.send(request("GET", "/0") + request("GET", "/1"))
    streaming.streams[0].write(b"x" * 1000)
    wire.settle()
    assert streaming.gone == [0]


def test_stream_catches_up_after_back_pressure() -> None:
    """What waited below the bound arrives whole."""
    streaming = Streaming()
    wire = Wire(streaming)
    wire.transport.blocked = True
    wire.send(request())
    for _ in range(100):
        streaming.streams[0].write(b"x" * 1000)
    wire.transport.blocked = False
    wire.transport.take(200_000)
    streaming.streams[0].write(b"end")
    assert wire.response().body == b"x" * 100_000 + b"end"


def test_stream_started_after_the_client_left_is_closed() -> None:
    """The handler finds out when it writes, or not at all."""
    later = Later()
    wire = Wire(later).send(request())
    wire.disconnect()
    stream = later.requests[0].start_stream(200)
    assert not stream.is_open
    stream.write(b"x")
    stream.finish()
