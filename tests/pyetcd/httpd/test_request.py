"""Forms, headers and the shapes of whole answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.httpd.request import (
    FORM_BYTES,
    BadEscape,
    Fields,
    FormError,
    Request,
    add_fields,
    media_type,
    unquote,
)
from tests.http import Response, Wire, answer_with, request

FORM = "Content-Type: application/x-www-form-urlencoded"


def form_of(method: str, target: str, body: bytes = b"", *headers: str) -> Fields:
    """The form that a handler sees."""
    seen: list[Fields] = []

    def handler(got: Request) -> None:
        seen.append(got.form())
        got.respond(200)

    wire = Wire(handler).send(request(method, target, body, headers))
    if wire.crashes:
        raise wire.crashes[0]
    return seen[0]


def answer(
    handler_status: int, *, method: str = "GET", version: str = "1.1", **more: str
) -> Response:
    """What a client reads for an answer of two bytes."""
    wire = Wire(answer_with(handler_status, b"hi", b"X-A: 1\r\n"))
    return wire.send(request(method, version=version, headers=list(more.values()))).response(method)


@pytest.mark.parametrize(
    ("encoded", "fields"),
    [
        (b"value=xxx", {b"value": [b"xxx"]}),
        (b"value=", {b"value": [b""]}),
        (b"value", {b"value": [b""]}),
        (b"=x", {b"": [b"x"]}),
        (b"a=1&a=2;b=3", {b"a": [b"1", b"2"], b"b": [b"3"]}),
        (b"&&;a=1&", {b"a": [b"1"]}),
        (b"a=b=c", {b"a": [b"b=c"]}),
        (b"a+b=c+d%2B", {b"a b": [b"c d+"]}),
        (b"%61=%C3%a9", {b"a": [b"\xc3\xa9"]}),
        (b"a=\xff\x00", {b"a": [b"\xff\x00"]}),
        (b"", {}),
    ],
)
def test_fields_split_and_decode_as_in_go(encoded: bytes, fields: Fields) -> None:
    """Separators, missing values, plus signs, escapes, raw bytes."""
    found: Fields = {}
    add_fields(found, encoded)
    assert found == fields


@pytest.mark.parametrize(
    ("encoded", "escape"), [(b"a=%zz1", "%zz"), (b"a=%", "%"), (b"%4=1", "%4"), (b"a=%\n", "%\n")]
)
def test_fields_with_bad_escape_fail(encoded: bytes, escape: str) -> None:
    """The error shows the escape as Go does."""
    with pytest.raises(BadEscape) as raised:
        add_fields({}, encoded)
    assert str(raised.value) == f'invalid URL escape "{escape}"'


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=9),
        st.lists(st.binary(max_size=9), min_size=1, max_size=3),
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None)
def test_fields_survive_encoding(fields: Fields) -> None:
    """Any bytes come back from a form in which every byte is an escape."""

    def escape(text: bytes) -> bytes:
        return b"".join(b"%%%02x" % byte for byte in text)

    pairs = [escape(n) + b"=" + escape(v) for n, values in fields.items() for v in values]
    found: Fields = {}
    add_fields(found, b"&".join(pairs))
    assert found == fields


@given(st.binary())
@settings(max_examples=100, deadline=None)
def test_unquote_of_any_bytes_decodes_or_complains(text: bytes) -> None:
    """Nothing but BadEscape is raised."""
    try:
        assert len(unquote(text)) <= len(text)
    except BadEscape:
        assert b"%" in text


def test_form_of_put_has_body_before_query() -> None:
    """The first value counts, and the body's is the first."""
    assert form_of("PUT", "/?a=q&b=2", b"a=body", FORM) == {b"a": [b"body", b"q"], b"b": [b"2"]}


@pytest.mark.parametrize("method", ["DELETE", "GET"])
def test_form_of_other_method_leaves_the_body(method: str) -> None:
    """Go reads bodies of PUT, POST and PATCH only."""
    assert form_of(method, "/?b=2", b"a=1", FORM) == {b"b": [b"2"]}


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_form_of_writing_method_reads_the_body(method: str) -> None:
    """The type may have parameters and capitals."""
    header = "content-type: Application/X-WWW-Form-urlencoded ; charset=UTF-8"
    assert form_of(method, "/", b"a=1", header) == {b"a": [b"1"]}


@pytest.mark.parametrize(
    "header", ["X: y", "Content-Type:", "Content-Type: application/json", "Content-Type: text"]
)
def test_form_of_other_type_is_the_query(header: str) -> None:
    """Without the form type the body is not a form."""
    assert form_of("PUT", "/?b=2", b"a=1", header) == {b"b": [b"2"]}


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (";", "mime: no media type"),
        ("a/", "mime: expected token after slash"),
        ("a/b c", "mime: expected token after slash"),
        ("a/b; c", "mime: invalid media parameter"),
        ("a/b; c=d; c=e", "mime: duplicate parameter name"),
    ],
)
def test_form_with_malformed_type_fails(content_type: str, text: str) -> None:
    """A type that Go's mime package refuses fails the form, whatever the body."""
    with pytest.raises(FormError, match=text):
        form_of("PUT", "/", b"", f"Content-Type: {content_type}")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"a/b", b"a/b"),
        (b" A/B ;", b"a/b"),
        (b'a/b; c=d ; e="f;\\"g" ;', b"a/b"),
        (b"plain", b"plain"),
    ],
)
def test_media_type_drops_parameters(content_type: bytes, expected: bytes) -> None:
    """Blanks, capitals, quoted parameters and a semicolon at the end are fine."""
    assert media_type(content_type) == expected


def test_form_too_large_fails_as_in_go() -> None:
    """Go reads no more than 10 MB."""
    with pytest.raises(FormError, match="http: POST too large"):
        form_of("PUT", "/", b"a" * (FORM_BYTES + 1), FORM)


def test_header_is_found_by_lower_case_name() -> None:
    """The first of several values counts; a missing one is None."""
    seen: list[bytes | None] = []

    def handler(got: Request) -> None:
        seen.extend((got.header(b"x-a"), got.header(b"x-none")))
        got.respond(200)

    Wire(handler).send(request(headers=["X-A: 1", "x-a: 2"]))
    assert seen == [b"1", None]


@pytest.mark.parametrize(
    ("peer", "shown"),
    [(("127.0.0.1", 1), "127.0.0.1:1"), (("::1", 1, 0, 0), "[::1]:1"), ("", ""), (None, "")],
)
def test_remote_address_is_host_and_port(peer: object, shown: str) -> None:
    """IPv6 gets brackets; a unix socket has no address."""
    seen: list[str] = []

    def handler(got: Request) -> None:
        seen.append(got.remote_address)
        got.respond(200)

    Wire(handler, peer=peer).send(request())
    assert seen == [shown]


def test_respond_adds_length_and_date() -> None:
    """The usual answer, byte by byte."""
    wire = Wire(answer_with(201, b"hi", b"X-A: 1\r\n")).send(request())
    assert wire.sent == (
        b"HTTP/1.1 201 Created\r\nX-A: 1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    )
    assert len(wire.transport.writes) == 1


def test_respond_to_head_has_the_length_but_no_body() -> None:
    """HEAD tells how long the body would be."""
    response = answer(200, method="HEAD")
    assert (response.header("Content-Length"), response.body) == ("2", b"")


@pytest.mark.parametrize("status", [204, 304])
def test_respond_without_body_has_no_length(status: int) -> None:
    """These statuses never have a body."""
    response = answer(status)
    assert (response.status, response.header("Content-Length")) == (status, None)


def test_respond_to_closing_client_says_so() -> None:
    """The last answer announces the end."""
    assert answer(200, close="Connection: close").header("Connection") == "close"


def test_respond_to_old_client_is_the_last() -> None:
    """HTTP/1.0 has no keep-alive unless asked for."""
    response = answer(200, version="1.0")
    assert (response.version, response.header("Connection")) == ("HTTP/1.0", "close")


def test_respond_to_old_client_may_keep_alive() -> None:
    """Such a client needs to be told that it worked."""
    response = answer(200, version="1.0", keep="Connection: keep-alive")
    assert (response.header("Connection"), response.framing) == ("keep-alive", "length")


@pytest.mark.parametrize("method", ["respond", "start_stream"])
def test_request_answered_twice_is_our_bug(method: str) -> None:
    """The second answer would be taken for that of another request."""

    def handler(got: Request) -> None:
        got.respond(200)
        getattr(got, method)(200)

    (crash,) = Wire(handler).send(request()).crashes
    assert isinstance(crash, AssertionError)


def test_stream_with_bodyless_status_is_our_bug() -> None:
    """204 cannot be followed by chunks."""

    def handler(got: Request) -> None:
        got.start_stream(204)

    wire = Wire(handler)
    assert isinstance(wire.send(request()).crashes[0], AssertionError)
