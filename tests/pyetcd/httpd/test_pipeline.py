"""Order of answers, back-pressure, streams, clients that leave, and the graceful end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.httpd.pipeline import Limits
from pyetcd.httpd.request import Request
from pyetcd.httpd.response import Stream, chunk
from tests.http import Wire, answer_with, request


class Later:
    """A handler that answers when the test says so."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, got: Request) -> None:
        self.requests.append(got)

    def respond(self, index: int) -> None:
        """Answer one request with its own path."""
        self.requests[index].respond(200, b"", self.requests[index].path)

    @property
    def paths(self) -> list[bytes]:
        """What was started, in order."""
        return [got.path for got in self.requests]


class Streaming:
    """A handler that answers with a stream each time."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.gone: list[int] = []

    def __call__(self, got: Request) -> None:
        number = len(self.streams)
        self.streams.append(got.start_stream(200, b"X-A: 1\r\n", lambda: self.gone.append(number)))


def bodies(wire: Wire) -> list[bytes]:
    """What the client has received."""
    return [response.body for response in wire.responses()]


@given(st.permutations(range(6)))
@settings(max_examples=60, deadline=None)
def test_answers_leave_in_order_of_requests(order: list[int]) -> None:
    """Whichever handler finishes first."""
    later = Later()
    wire = Wire(later).send(b"".join(request("GET", f"/{i}") for i in range(6)))
    for index in order:
        later.respond(index)
    assert bodies(wire) == [b"/%d" % i for i in range(6)]


def test_safe_requests_overlap_up_to_the_limit() -> None:
    """The others wait, and start as answers make room."""
    later = Later()
    wire = Wire(later, Limits(pipelined=3)).send(
        b"".join(request("GET", f"/{i}") for i in range(5))
    )
    assert later.paths == [b"/0", b"/1", b"/2"]
    later.respond(1)
    assert later.paths == [b"/0", b"/1", b"/2"]
    later.respond(0)
    assert len(later.paths) == 5
    for index in (4, 3, 2):
        later.respond(index)
    assert bodies(wire) == [b"/%d" % i for i in range(5)]


def test_unsafe_request_runs_alone() -> None:
    """A PUT sees the effect of what was sent before it, and what follows sees its own."""
    later = Later()
    wire = Wire(later).send(
        b"".join(request(m, f"/{m}{i}") for i, m in enumerate(["GET", "PUT", "PUT", "GET", "GET"]))
    )
    for index, started in enumerate([1, 2, 3, 5]):
        assert len(later.paths) == started
        later.respond(index)
    later.respond(4)
    assert bodies(wire) == [b"/GET0", b"/PUT1", b"/PUT2", b"/GET3", b"/GET4"]


def test_backlog_of_many_requests_is_worked_off_without_recursion() -> None:
    """Thousands of requests in one read are answered in one loop."""
    later = Later()
    wire = Wire(lambda got: later(got) if got.path == b"/0" else got.respond(200, b"", got.path))
    wire.send(request("PUT", "/0") + b"".join(request("PUT", f"/{i}") for i in range(1, 3000)))
    later.respond(0)
    assert bodies(wire) == [b"/%d" % i for i in range(3000)]


@pytest.mark.parametrize(
    "waiting", [b"".join([request("PUT", "/1")] * 2), request("PUT", "/1", b"x" * 70_000)]
)
def test_backlog_stops_reading_until_it_is_worked_off(waiting: bytes) -> None:
    """Neither many requests nor large ones pile up."""
    later = Later()
    wire = Wire(later, Limits(pipelined=2)).send(request("PUT", "/0"))
    assert wire.transport.reading
    wire.send(waiting)
    assert not wire.transport.reading
    for index in range(1 + waiting.count(b"HTTP")):
        later.respond(index)
    assert wire.transport.reading


def test_client_that_sends_too_much_and_leaves_is_dropped() -> None:
    """With reading paused nobody would notice that it left."""
    later = Later()
    limits = Limits(pipelined=1, stall_seconds=10)
    wire = Wire(later, limits).send(request("PUT", "/0"), request("PUT", "/1"))
    wire.pass_seconds(10)
    assert not wire.lost
    wire.pass_seconds(1)
    assert wire.lost
    later.respond(0)
    assert len(later.requests) == 1


def test_client_that_does_not_read_gets_no_more_work_done() -> None:
    """Its next requests wait until it has taken the answers."""
    later = Later()
    wire = Wire(later)
    wire.transport.blocked = True
    wire.send(request("GET", "/0") + request("GET", "/1"))
    later.requests[0].respond(200, b"", b"x" * 100_000)
    wire.send(request("GET", "/2"))
    assert later.paths == [b"/0", b"/1"]
    wire.transport.blocked = False
    wire.transport.take(200_000)
    assert later.paths == [b"/0", b"/1", b"/2"]


def test_client_that_does_not_read_is_dropped_in_the_end() -> None:
    """Unless it takes a little now and then."""
    wire = Wire(answer_with(200, b"x" * 100_000), Limits(stall_seconds=10))
    wire.transport.blocked = True
    wire.send(request()).pass_seconds(9)
    wire.transport.take(1)
    wire.pass_seconds(10)
    assert not wire.lost
    wire.pass_seconds(2)
    assert wire.lost


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


def test_disconnect_is_told_to_streams_and_waiting_requests() -> None:
    """Once each; an ordinary unanswered request has nobody to tell."""
    later, streaming = Later(), Streaming()
    wire = Wire(lambda got: (streaming if got.path == b"/s" else later)(got))
    wire.send(request("GET", "/0") + request("GET", "/s") + request("GET", "/1"))
    gone: list[str] = []
    later.requests[1].on_disconnect = lambda: gone.append("poll")
    wire.disconnect()
    assert (gone, streaming.gone) == (["poll"], [0])
    later.respond(0)
    later.respond(1)
    streaming.streams[0].write(b"x")
    streaming.streams[0].finish()
    assert wire.sent == b""
    assert wire.listener.connections == 0


def test_disconnect_after_the_answer_is_told_to_nobody() -> None:
    """An answered request waits for nothing."""
    later = Later()
    wire = Wire(later).send(request())
    gone: list[str] = []
    later.requests[0].on_disconnect = lambda: gone.append("poll")
    later.respond(0)
    wire.disconnect()
    assert gone == []


def test_stream_started_after_the_client_left_is_closed() -> None:
    """The handler finds out when it writes, or not at all."""
    later = Later()
    wire = Wire(later).send(request())
    wire.disconnect()
    stream = later.requests[0].start_stream(200)
    assert not stream.is_open
    stream.write(b"x")
    stream.finish()


def test_end_of_input_with_unanswered_request_waits_for_the_answer() -> None:
    """A client may close its side and read on."""
    later = Later()
    wire = Wire(later).send(request("PUT", "/0") + request("PUT", "/1")).send_eof()
    later.respond(0)
    later.respond(1)
    wire.settle()
    assert bodies(wire) == [b"/0", b"/1"]
    assert wire.responses()[1].header("Connection") == "close"
    assert wire.lost


def test_end_of_input_over_tls_is_the_end() -> None:
    """TLS transports cannot stay half open."""
    later = Later()
    assert Wire(later, tls=True).send(request()).send_eof().lost


def test_end_of_input_while_waiting_is_a_disconnect() -> None:
    """Nobody waits for events without being able to ask again."""
    streaming = Streaming()
    assert Wire(streaming).send(request()).send_eof().lost
    assert streaming.gone == [0]


@pytest.mark.parametrize("parts", [[], [request()], [request()[:9]]])
def test_end_of_input_without_unanswered_request_closes(parts: list[bytes]) -> None:
    """Also in the middle of a request."""
    assert Wire(answer_with(200)).send(*parts).send_eof().lost


@pytest.mark.parametrize("parts", [[], [request()], [request()[:9]]])
def test_shut_closes_idle_connection_at_once(parts: list[bytes]) -> None:
    """A request that is not complete was not begun."""
    wire = Wire(answer_with(200)).send(*parts)
    wire.protocol.shut()
    assert wire.settle().lost


def test_shut_answers_what_was_started() -> None:
    """What waited behind it was never begun, and its client may send it elsewhere."""
    later = Later()
    wire = Wire(later).send(request("GET", "/0") + request("GET", "/1") + request("PUT", "/2"))
    wire.protocol.shut()
    wire.send(request("GET", "/3"))
    later.respond(1)
    later.respond(0)
    wire.settle()
    assert bodies(wire) == [b"/0", b"/1"]
    assert wire.responses()[1].header("Connection") == "close"
    assert wire.lost


def test_shut_ends_streams_cleanly() -> None:
    """The client reads a complete answer, the watcher is told."""
    streaming = Streaming()
    wire = Wire(streaming).send(request())
    streaming.streams[0].write(b"abc")
    wire.protocol.shut()
    response = wire.settle().response()
    assert (response.framing, response.body) == ("chunked", b"abc")
    assert streaming.gone == [0]
    assert wire.lost


def test_shut_of_finished_stream_waiting_for_its_turn_tells_nobody() -> None:
    """It has its last chunk already."""
    later, streaming = Later(), Streaming()
    wire = Wire(lambda got: (later if got.path == b"/0" else streaming)(got))
    wire.send(request("GET", "/0") + request("GET", "/1"))
    streaming.streams[0].finish()
    wire.protocol.shut()
    later.respond(0)
    assert [r.framing for r in wire.responses()] == ["length", "chunked"]
    assert streaming.gone == []


def test_shut_tells_waiting_request() -> None:
    """It may never be answered, so the end does not wait for it."""
    later = Later()
    wire = Wire(later).send(request())
    gone: list[str] = []
    later.requests[0].on_disconnect = lambda: gone.append("poll")
    wire.protocol.shut()
    assert wire.settle().lost
    assert gone == ["poll"]


def fail(*_: object) -> None:
    """Our own bug."""
    raise ZeroDivisionError


def test_failing_handler_is_a_crash() -> None:
    """Reported once, and the connection is dropped."""
    wire = Wire(fail).send(request() + request())
    assert [type(crash) for crash in wire.crashes] == [ZeroDivisionError]
    assert (wire.lost, wire.sent) == (True, b"")


def test_failing_disconnect_callback_is_a_crash() -> None:
    """The others are told nevertheless."""
    later, gone = Later(), []
    wire = Wire(later).send(request() + request())
    later.requests[0].on_disconnect = fail
    later.requests[1].on_disconnect = lambda: gone.append(1)
    wire.disconnect()
    assert [type(crash) for crash in wire.crashes] == [ZeroDivisionError]
    assert gone == [1]


def test_failing_code_below_the_parser_is_a_crash() -> None:
    """It is not taken for the client's fault."""
    wire = Wire(answer_with(200))
    wire.protocol._request = None
    wire.send(request("PUT", "/", b"body")[:-4])
    wire.protocol._request = None
    wire.send(b"body")
    assert [type(crash) for crash in wire.crashes] == [AssertionError]
    assert wire.lost
