"""Order of answers, back-pressure, streams, clients that leave, and the graceful end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.httpd.pipeline import Limits
from tests.http import Wire, answer_with, request
from tests.pyetcd.httpd.handlers import Later, Streaming, bodies


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
