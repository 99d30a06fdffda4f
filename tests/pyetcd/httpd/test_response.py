"""Bytes of responses: tables and pure functions."""

import pytest

from pyetcd.httpd.response import (
    CONTINUE,
    STATUS_LINES,
    chunk,
    date_line,
    refusal,
    status_line,
    unframed,
)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (413, b"HTTP/1.1 413 Request Entity Too Large\r\n"),
        (299, b"HTTP/1.1 299 status code 299\r\n"),
    ],
)
def test_status_line_reads_as_in_go(status: int, line: bytes) -> None:
    """Known statuses have Go's phrases, others its substitute."""
    assert STATUS_LINES[status] == line


def test_status_line_for_old_client_has_its_version() -> None:
    """HTTP/1.0 is answered in HTTP/1.0."""
    assert status_line(404, http10=True) == b"HTTP/1.0 404 Not Found\r\n"


def test_continue_is_a_whole_head() -> None:
    """The interim response has no headers."""
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_chunk_of_payload_counts_in_hexadecimal() -> None:
    """The size line is hexadecimal."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_chunk_of_nothing_is_nothing() -> None:
    """An empty chunk would end the body."""
    assert chunk(b"") == b""


@pytest.mark.parametrize("payload", [b"a", b"\r\n", b"x" * 300, b"\n\n"])
def test_unframed_chunk_is_its_payload(payload: bytes) -> None:
    """`unframed` undoes `chunk`."""
    assert unframed(chunk(payload)) == payload


def test_unframed_joined_chunks_are_their_payloads() -> None:
    """A stream may write several chunks at once."""
    assert unframed(chunk(b"a\r\n") + chunk(b"") + chunk(b"b" * 20)) == b"a\r\n" + b"b" * 20


def test_date_line_is_in_gmt() -> None:
    """The format of RFC 9110 5.6.7."""
    assert date_line(784111777.9) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_refusal_names_status_and_detail() -> None:
    """The text is Go's; the length lets a client stop reading before the end of the connection."""
    assert refusal(400, b"too bad", b"Date: d\r\n") == (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nDate: d\r\n"
        b"Connection: close\r\nContent-Length: 24\r\n\r\n400 Bad Request: too bad"
    )
