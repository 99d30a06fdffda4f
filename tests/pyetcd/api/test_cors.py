"""Proves that `-cors` adds etcd's three headers for the origins it names, and for no others."""

import pytest

from pyetcd.api import cors
from pyetcd.httpd import Router, chunk
from tests.http import Wire, answer_with, never, request

A, B = "http://a.example:8080", "http://b.example:8080"
ALLOWED = {
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Headers": "accept, content-type, authorization",
}
HEAD = b"X-Own: 1\r\n"


def ask(origins, *headers, handler=None):
    """Send a request with these headers through the wrapped handler; return the response."""
    wrapped = cors.wrap(handler or answer_with(201, b"body", HEAD), frozenset(origins))
    return Wire(wrapped).send(request("GET", "/", b"", headers)).response()


def allowance(response):
    """The headers in question."""
    return {name: value for name, value in response.headers if name.startswith("Access-")}


def test_wrap_without_origins_is_the_handler_itself():
    """What is switched off costs nothing."""
    assert cors.wrap(never, frozenset()) is never


@pytest.mark.parametrize("origin", [A, B])
def test_listed_origin_gets_headers_that_name_it(origin):
    """The rest of the answer stays."""
    response = ask([A, B], f"Origin: {origin}")
    assert allowance(response) == {**ALLOWED, "Access-Control-Allow-Origin": origin}
    assert (response.status, response.body, response.header("X-Own")) == (201, b"body", "1")


@pytest.mark.parametrize(
    "headers", [(), ("Origin: http://c.example",), (f"Origin: {A}/",), ("Origin: *",)]
)
def test_other_origin_gets_the_plain_answer(headers):
    """None, another, one with more behind it."""
    response = ask([A], *headers)
    assert allowance(response) == {}
    assert (response.status, response.body, response.header("X-Own")) == (201, b"body", "1")


@pytest.mark.parametrize("headers", [(), (f"Origin: {A}",)])
def test_star_allows_all_whatever_they_say(headers):
    """The star is what is answered, beside which listed origins do not matter."""
    response = ask(["*", A], *headers)
    assert allowance(response) == {**ALLOWED, "Access-Control-Allow-Origin": "*"}


def test_errors_of_the_router_get_the_headers_as_well():
    """A page may see that a path does not exist."""
    response = ask(["*"], handler=Router([]))
    assert (response.status, len(allowance(response))) == (404, 3)


def test_stream_gets_the_headers_and_tells_of_disconnects():
    """Watches work from a browser, and end with it."""
    streams, gone = [], []

    def watch(watched):
        on_gone = lambda: gone.append(True)  # noqa: E731
        streams.append(watched.start_stream(200, HEAD, on_gone))

    wire = Wire(cors.wrap(watch, frozenset([A])))
    wire.send(request("GET", "/", b"", [f"Origin: {A}"]))
    streams[0].write_chunk(chunk(b"event"))
    response = wire.response()
    assert (response.header("X-Own"), response.chunks) == ("1", [b"event"])
    assert len(allowance(response)) == 3
    wire.disconnect()
    assert gone == [True]


def test_late_answer_sees_the_request_as_it_is():
    """What a handler reads and sets reaches the request itself."""
    waiting, gone = [], []

    def handler(adorned):
        adorned.on_disconnect = lambda: gone.append(True)
        waiting.append(adorned)

    wire = Wire(cors.wrap(handler, frozenset(["*"])))
    wire.send(request("POST", "/path?a=b", b"c=d", [f"Content-Type: {'text/plain'}"]))
    (adorned,) = waiting
    assert (adorned.method, adorned.path, adorned.body) == (b"POST", b"/path", b"c=d")
    assert adorned.form() == {b"a": [b"b"]}
    assert not adorned.answered
    assert adorned.on_disconnect is not None
    wire.disconnect()
    assert gone == [True]
    adorned.respond(200)
    assert adorned.answered
    assert wire.sent == b""


def test_allow_options_is_empty_200():
    """As etcd answers OPTIONS, with the flag or without."""
    response = Wire(cors.allow_options).send(request("OPTIONS", "/")).response("OPTIONS")
    assert (response.status, response.body, response.header("Content-Type")) == (200, b"", None)
