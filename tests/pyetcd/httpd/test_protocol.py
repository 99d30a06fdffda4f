"""Reading: requests in any shape and any pieces, and everything that is refused."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.httpd.pipeline import Limits
from pyetcd.httpd.request import Request
from tests.http import Wire, answer_with, never, request

HOST = b"Host: x\r\n"


def echo(got: Request) -> None:
    """Answer what was understood."""
    headers = b"".join(b"%b=%b;" % (n, got.header(n) or b"") for n, _ in got.headers)
    got.respond(200, b"", b"|".join((got.method, got.path, got.query, headers, got.body)))


def parsed(*parts: bytes) -> list[bytes]:
    """What the handler understood of these reads."""
    wire = Wire(echo).send(*parts)
    assert not wire.crashes, wire.crashes
    return [response.body for response in wire.responses()]


def refused(data: bytes, limits: Limits | None = None, *more: bytes) -> tuple[int, bytes]:
    """Status and text for a request that never reaches a handler."""
    wire = Wire(never, limits).send(data, *more)
    assert not wire.crashes, wire.crashes
    response = wire.response()
    assert response.header("Connection") == "close"
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert wire.transport.eof_sent, "the client must be able to read the answer"
    wire.send(b"GET / HTTP/1.1\r\n\r\n").send_eof()
    assert wire.lost
    return response.status, response.body


REQUESTS = [
    request("GET", "/a?b=c"),
    request("PUT", "/k", b"value=1", ["Content-Type: application/x-www-form-urlencoded"]),
    request("PUT", "/k", headers=["Content-Length: 0"]),
    b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n"
    b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nHost: trailer\r\n\r\n",
    b"\r\n\r\nHEAD /v2/keys/%C3%A9%20 HTTP/1.1\r\n" + HOST + b"\r\n",
    request("GET", "http://h/abs?x"),
    request("GET", "http://h"),
    request("OPTIONS", "*"),
    request("PUT", "/u", b"body", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"]),
    request("GET", "/k", headers=["Connection: keep-alive", "Empty:", "X:  blanks  "]),
    request("PUT", "/e", b"body", ["Expect: 100-continue"]),
    request("GET", "/k", version="1.0", headers=["Connection: keep-alive"]),
]
ODD_REQUESTS = [
    request("GET", "/é?ü=ö"),
    request("FOO", "/k", b"body"),
    request("get", "/é"),
    b"\r\n" + request("PROPFINDER", "/k"),
    request("GET", "http://h/é"),
]


@pytest.mark.parametrize(
    ("data", "understood"),
    [
        (REQUESTS[0], b"GET|/a|b=c|host=x;|"),
        (REQUESTS[2], b"PUT|/k||content-length=0;host=x;|"),
        (REQUESTS[3], b"POST|/c||host=x;transfer-encoding=Chunked;|abc0123456789"),
        (REQUESTS[5], b"GET|/abs|x|host=x;|"),
        (REQUESTS[6], b"GET|/||host=x;|"),
        (REQUESTS[7], b"OPTIONS|*||host=x;|"),
        (
            REQUESTS[8],
            b"PUT|/u||connection=Upgrade, HTTP2-Settings;host=x;content-length=4;|body",
        ),
        (REQUESTS[9], b"GET|/k||connection=keep-alive;empty=;x=blanks;host=x;|"),
        (REQUESTS[11], b"GET|/k||connection=keep-alive;|"),
        (ODD_REQUESTS[0], "GET|/é|%C3%BC=%C3%B6|host=x;|".encode()),
        (ODD_REQUESTS[1], b"FOO|/k||host=x;content-length=4;|body"),
        (ODD_REQUESTS[2], "get|/é||host=x;|".encode()),
        (ODD_REQUESTS[3], b"PROPFINDER|/k||host=x;|"),
        (ODD_REQUESTS[4], "GET|/é||host=x;|".encode()),
    ],
)
def test_request_of_any_shape_is_understood(data: bytes, understood: bytes) -> None:
    """Framings, target forms, trailers, upgrades that are ignored, odd request lines."""
    assert parsed(data) == [understood]


@pytest.mark.parametrize("data", REQUESTS + ODD_REQUESTS[:1] + ODD_REQUESTS[4:])
def test_request_in_single_bytes_is_the_same(data: bytes) -> None:
    """A read may end anywhere."""
    whole = Wire(echo).send(data)
    pieces = Wire(echo).send(*(data[i : i + 1] for i in range(len(data))))
    assert pieces.sent.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n") == whole.sent.removeprefix(
        b"HTTP/1.1 100 Continue\r\n\r\n"
    )


@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4),
    st.lists(st.integers(1, 400), max_size=6),
)
@settings(max_examples=80, deadline=None)
def test_requests_in_any_pieces_are_the_same(requests: list[bytes], cuts: list[int]) -> None:
    """Pipelined requests, cut anywhere, give the answers of the whole."""
    data = b"".join(requests)
    points = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    parts = [data[a:b] for a, b in itertools.pairwise(points)]
    whole, pieces = Wire(echo).send(data), Wire(echo).send(*parts)
    assert not pieces.crashes
    continue_line = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert pieces.sent.replace(continue_line, b"") == whole.sent.replace(continue_line, b"")


@given(st.lists(st.binary(max_size=60) | st.sampled_from([*REQUESTS, *ODD_REQUESTS]), max_size=6))
@settings(max_examples=150, deadline=None)
def test_nonsense_never_raises_or_stays(parts: list[bytes]) -> None:
    """Whatever comes is answered, refused or ended by a timeout."""
    limits = Limits(idle_seconds=3, head_seconds=3, body_seconds=3, linger_seconds=3)
    wire = Wire(echo, limits).send(*parts)
    assert not wire.crashes, wire.crashes
    wire.pass_seconds(4)
    assert wire.lost
    assert wire.listener.connections == 0


@given(st.sampled_from([*REQUESTS, *ODD_REQUESTS]), st.integers(0, 200), st.binary(max_size=4))
@settings(max_examples=150, deadline=None)
def test_damaged_request_never_raises(data: bytes, position: int, damage: bytes) -> None:
    """A few bytes replaced in a good request."""
    wire = Wire(echo)
    for part in (data[:position], damage, data[position + len(damage) :]):
        wire.send(part)
    assert not wire.crashes, wire.crashes
    wire.send_eof()
    assert wire.lost


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GÉT / HTTP/1.1\r\n\r\n".encode(),
        "GET /é\x01 HTTP/1.1\r\n\r\n".encode(),
        request("GET", "*"),
        request("GET", "/%zz"),
        request("GET", "/a%"),
        request("GET", "http://h/%"),
        request(headers=["Host: y"]),
        request(headers=["A : b"]),
        request(headers=["A: b\r\n folded"]),
        request(headers=["A: b\0"]),
        request("PUT", headers=["Content-Length: 1", "Content-Length: 1"]) + b"a",
        request("PUT", headers=["Content-Length: 1", "Content-Length: 2"]) + b"a",
        request("PUT", headers=["Content-Length: 1, 1"]) + b"a",
        request("PUT", headers=["Content-Length: +1"]) + b"a",
        request("PUT", headers=["Content-Length: 99999999999999999999"]) + b"a",
        request("PUT", headers=["Content-Length: 5", "Transfer-Encoding: chunked"]) + b"0\r\n\r\n",
        request("PUT", headers=["Transfer-Encoding: chunked", "Content-Length: 5"]) + b"0\r\n\r\n",
        request("PUT", headers=["Transfer-Encoding: chunked"] * 2) + b"0\r\n\r\n",
        request("PUT", headers=["Transfer-Encoding: chunked"], version="1.0") + b"0\r\n\r\n",
        request("PUT", headers=["Transfer-Encoding: chunked"]) + b"x\r\n",
        request("PUT", headers=["Transfer-Encoding: chunked"]) + b"1\r\nab\r\n",
    ],
)
def test_malformed_request_is_refused(data: bytes) -> None:
    """Bad grammar and ambiguous framing are 400, and the end of the connection."""
    assert refused(data) == (400, b"400 Bad Request")


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"400 Bad Request: missing required Host header"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, b"505 HTTP Version Not Supported"),
        *((request("CONNECT", to), 405, b"405 Method Not Allowed") for to in ("h:1", "/v2")),
        (request(headers=["Transfer-Encoding: gzip"]), 501, b"501 Not Implemented"),
        (request(headers=["Transfer-Encoding: gzip, chunked"]), 501, b"501 Not Implemented"),
        (request(headers=["Expect: much"]), 417, b"417 Expectation Failed"),
    ],
)
def test_request_that_cannot_be_served_is_refused(data: bytes, status: int, text: bytes) -> None:
    """Each reason has its status."""
    assert refused(data) == (status, text)


def test_lost_beginning_of_a_method_is_refused() -> None:
    """`PGET` cut after its first letter must not be taken for GET."""
    assert refused(b"P", None, b"GET / HTTP/1.1\r\n\r\n") == (400, b"400 Bad Request")


@pytest.mark.parametrize("data", ODD_REQUESTS[:1] + ODD_REQUESTS[4:])
def test_odd_target_in_two_reads_is_the_same(data: bytes) -> None:
    """The beginning of the line is recovered wherever the first read ended."""
    whole = parsed(data)
    for cut in range(1, len(data)):
        assert parsed(data[:cut], data[cut:]) == whole, cut


@pytest.mark.parametrize("data", ODD_REQUESTS[1:4])
def test_odd_method_in_single_bytes_is_still_odd(data: bytes) -> None:
    """Its beginning may be lost, but never so that a known method is left."""
    (body,) = parsed(*(data[i : i + 1] for i in range(len(data))))
    whole = parsed(data)[0]
    method, _, rest = body.partition(b"|")
    assert whole.partition(b"|")[0].endswith(method)
    assert whole.partition(b"|")[2] == rest


def test_odd_request_behind_another_in_one_read_is_refused() -> None:
    """Where it begins is not known; the one before it is answered."""
    wire = Wire(echo).send(request() + request("FOO"))
    assert [response.status for response in wire.responses()] == [200, 400]


def test_odd_request_behind_one_begun_earlier_is_refused() -> None:
    """What follows the lost beginning of a method must not be read a second time."""
    wire = Wire(echo).send(b"GE", b"T / HTTP/1.1\r\nHost: x\r\n\r\n" + request("FOO"))
    assert [response.status for response in wire.responses()] == [200, 400]


def test_odd_request_behind_the_end_of_a_body_is_refused() -> None:
    """The read began with the body of another request."""
    wire = Wire(echo).send(request("PUT", "/", b"body")[:-1], b"y" + request("FOO"))
    assert [response.status for response in wire.responses()] == [200, 400]


def test_odd_request_then_others_on_one_connection_work() -> None:
    """The parser goes on after a rewritten line."""
    wire = Wire(echo).send(request("FOO"), request(), request("GET", "/é"), request())
    methods = [response.body.split(b"|")[0] for response in wire.responses()]
    assert methods == [b"FOO", b"GET", b"GET", b"GET"]


def test_odd_line_without_end_is_refused() -> None:
    """It is collected up to the limit of a head only."""
    limits = Limits(head_bytes=100)
    assert refused(b"FOO /", limits, b"x" * 100)[0] == 431


def test_head_beyond_the_limit_is_refused() -> None:
    """Counted from the second read on, as it is about memory."""
    limits = Limits(head_bytes=100)
    assert refused(b"GET / HTTP/1.1\r\nA: ", limits, b"x" * 101, b"x") == (
        431,
        b"431 Request Header Fields Too Large",
    )


def test_head_at_the_limit_is_taken_with_a_large_body() -> None:
    """A read that ends the head may bring more than the head may have."""
    limits = Limits(head_bytes=100)
    data = request("PUT", "/", b"x" * 500)
    assert Wire(echo, limits).send(data[:20], data[20:]).response().status == 200


@pytest.mark.parametrize("headers", [["Content-Length: 11"], ["Transfer-Encoding: chunked"]])
def test_body_beyond_the_limit_is_refused(headers: list[str]) -> None:
    """Of known and of unknown length."""
    body = b"x" * 11 if "Content" in headers[0] else b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n"
    limits = Limits(body_bytes=10)
    assert refused(request("PUT", headers=headers) + body, limits)[0] == 413
    parts = [body[i : i + 1] for i in range(len(body))]
    assert refused(request("PUT", headers=headers), limits, *parts)[0] == 413


def test_body_announced_beyond_the_limit_is_refused_early() -> None:
    """Nothing of it is kept once its second read comes."""
    data = request("PUT", headers=["Content-Length: 1000"])
    assert refused(data, Limits(body_bytes=10), b"x", b"x")[0] == 413


def test_body_at_the_limit_in_pieces_is_taken() -> None:
    """The limit itself is allowed."""
    data = request("PUT", "/", b"0123456789")
    wire = Wire(echo, Limits(body_bytes=10)).send(*(data[i : i + 1] for i in range(len(data))))
    assert wire.response().body.endswith(b"|0123456789")


def test_body_limit_holds_for_each_request() -> None:
    """Not for all of a connection together."""
    data = request("PUT", "/", b"0123456789")
    wire = Wire(echo, Limits(body_bytes=10)).send(data, data, data[:-1], data[-1:])
    assert [response.status for response in wire.responses()] == [200] * 3


def test_endless_trailers_are_refused() -> None:
    """Padding of a chunked body is bounded too."""
    head = request("PUT", headers=["Transfer-Encoding: chunked"])
    limits = Limits(head_bytes=200)
    assert refused(head + b"1\r\na\r\n0\r\n", limits, *[b"T: %b\r\n" % (b"x" * 30)] * 20)[0] == 413


def test_expect_is_answered_before_the_body() -> None:
    """The client waits for it."""
    wire = Wire(echo)
    data = request("PUT", "/", b"body", ["Expect: 100-Continue"])
    wire.send(data[:-4])
    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.send(b"body").response().body.endswith(b"|body")


def test_expect_of_chunked_body_is_answered() -> None:
    """A body of unknown length is a body."""
    wire = Wire(echo).send(
        request("PUT", headers=["Expect: 100-continue", "Transfer-Encoding: chunked"])
    )
    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_expect_without_a_body_is_ignored() -> None:
    """There is nothing to wait for."""
    wire = Wire(echo).send(request("GET", headers=["Expect: 100-continue"]))
    assert wire.sent.startswith(b"HTTP/1.1 200")


def test_expect_of_old_client_is_ignored() -> None:
    """HTTP/1.0 knows no interim responses."""
    data = request("PUT", "/", b"b", ["Expect: 100-continue"], version="1.0")
    assert Wire(echo).send(data).sent.startswith(b"HTTP/1.0 200")


def test_expect_with_too_large_body_is_refused() -> None:
    """The client is spared the sending."""
    data = request("PUT", headers=["Expect: 100-continue", "Content-Length: 11"])
    assert refused(data, Limits(body_bytes=10))[0] == 413


def test_expect_waits_for_earlier_answers() -> None:
    """100 must not come in front of the answer to an earlier request."""
    kept: list[Request] = []
    wire = Wire(kept.append)
    wire.send(request("PUT", "/1", b"b"), request("PUT", "/2", b"c", ["Expect: 100-continue"])[:-1])
    assert wire.sent == b""
    kept[0].respond(200)
    assert wire.sent.endswith(b"\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")


def test_expect_of_a_client_that_did_not_wait_is_forgotten() -> None:
    """The body came first."""
    kept: list[Request] = []
    wire = Wire(kept.append)
    wire.send(request("PUT", "/1", b"b"), request("PUT", "/2", b"c", ["Expect: 100-continue"]))
    kept[0].respond(200)
    kept[1].respond(200)
    assert b"100 Continue" not in wire.sent


@pytest.mark.parametrize("headers", [["Connection: close"], ["Connection: foo, Close"]])
def test_close_is_obeyed_and_what_follows_ignored(headers: list[str]) -> None:
    """The answer is the last one."""
    wire = Wire(echo).send(request(headers=headers) + request() + b"\0nonsense", b"more")
    assert wire.response().header("Connection") == "close"
    assert wire.lost


def test_close_is_obeyed_before_its_answer() -> None:
    """What follows the last request is no request, and no mistake either."""
    kept: list[Request] = []
    wire = Wire(kept.append)
    wire.send(request("PUT", "/", headers=["Connection: close"]) + request(), request())
    kept[0].respond(200)
    wire.settle()
    assert wire.response().status == 200
    assert wire.lost
    assert not wire.transport.eof_sent


def test_old_client_is_closed_unless_it_asks() -> None:
    """HTTP/1.0 without keep-alive."""
    wire = Wire(echo).send(request(version="1.0"))
    assert wire.lost


def test_old_client_keeps_its_connection_when_it_asks() -> None:
    """And may use it again."""
    data = request(version="1.0", headers=["Connection: keep-alive"])
    wire = Wire(echo).send(data, data)
    assert [r.status for r in wire.responses()] == [200, 200]
    assert not wire.lost


def test_upgrade_with_close_is_the_last_request() -> None:
    """Both wishes in one request: an ordinary answer, then the end."""
    data = request("PUT", "/", b"b", ["Connection: upgrade, close", "Upgrade: h2c"])
    wire = Wire(echo).send(data + request())
    assert wire.response().body.endswith(b"|b")
    assert wire.lost


def test_upgrade_of_old_client_keeps_its_version() -> None:
    """And whatever follows the last request is ignored."""
    data = request(version="1.0", headers=["Connection: upgrade", "Upgrade: h2c"])
    wire = Wire(echo).send(data + request())
    assert wire.response().version == "HTTP/1.0"
    assert wire.lost


def test_upgrade_with_unknown_method_is_an_unknown_method() -> None:
    """Two detours in one request."""
    data = request("FOO", "/", b"b", ["Connection: upgrade", "Upgrade: h2c"])
    assert parsed(data) == [b"FOO|/||connection=upgrade;host=x;content-length=1;|b"]


def test_connection_header_may_repeat() -> None:
    """It is a list, other than the headers that frame a request."""
    data = request(headers=["Connection: a", "Connection: keep-alive"])
    assert Wire(echo).send(data).response().status == 200


def test_upgrade_with_expect_is_told_to_continue_once() -> None:
    """The head is read twice, but answered once."""
    headers = ["Connection: Upgrade", "Upgrade: h2c", "Expect: 100-continue"]
    wire = Wire(echo).send(request("PUT", "/", b"b", headers)[:-1])
    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_refusal_waits_for_earlier_answers() -> None:
    """Order holds for refusals too."""
    kept: list[Request] = []
    wire = Wire(kept.append).send(request("PUT", "/", b"b"), b"nonsense\r\n\r\n")
    wire.pass_seconds(100)
    assert wire.sent == b""
    kept[0].respond(200)
    assert [r.status for r in wire.responses()] == [200, 400]


def test_refusal_over_tls_closes_at_once() -> None:
    """TLS transports cannot close half."""
    wire = Wire(never, tls=True)
    wire.transport.half_closes = False
    wire.send(b"nonsense\r\n\r\n")
    assert (wire.response().status, wire.lost) == (400, True)


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        ([], 5),
        ([request()], 20),
        ([b"GET"], 5),
        ([request(), b"GET"], 20),
        ([request()[:-1]], 5),
        ([b"FOO /"], 5),
        (["GET /é".encode()], 5),
        ([request("PUT", "/", b"body")[:-1]], 10),
        ([b"nonsense\r\n\r\n"], 2),
    ],
)
def test_slow_client_is_dropped(parts: list[bytes], seconds: int) -> None:
    """Silence, idle, head, body and lingering each have their time, and not less."""
    limits = Limits(idle_seconds=20, head_seconds=5, body_seconds=10, linger_seconds=2)
    wire = Wire(answer_with(200), limits).send(*parts)
    wire.pass_seconds(seconds)
    assert not wire.lost
    wire.pass_seconds(1)
    assert wire.lost


def test_slow_head_is_not_prolonged_by_its_bytes() -> None:
    """One byte a second does not keep a connection."""
    wire = Wire(never, Limits(head_seconds=5))
    for byte in request()[:12]:
        wire.send(bytes((byte,))).pass_seconds(1)
    assert wire.lost


def test_waiting_request_has_no_timeout() -> None:
    """A long poll may take for ever."""
    kept: list[Request] = []
    wire = Wire(kept.append).send(request()).pass_seconds(1000)
    kept[0].respond(200)
    assert wire.response().status == 200


def test_idle_time_begins_with_the_last_answer() -> None:
    """A connection in use is never idle."""
    wire = Wire(answer_with(200), Limits(idle_seconds=5))
    for _ in range(5):
        wire.send(request()).pass_seconds(4)
    assert not wire.lost


def test_date_is_renewed_every_second() -> None:
    """By the timer, not by requests."""
    wire = Wire(answer_with(200)).send(request()).pass_seconds(2).send(request())
    dates = [response.header("Date") for response in wire.responses()]
    assert dates == ["Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:02 GMT"]
