"""Proves that strings and times come out as Go writes them."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.store.json_text import escape, expiration_text, ttl_seconds

SECOND = 1_000_000_000


def quote(text: str) -> str:
    """Return the whole literal."""
    return f'"{escape(text)}"'


def raw(data: bytes) -> str:
    """Return bytes as the store keeps them."""
    return data.decode("utf-8", "surrogateescape")


def test_quote_of_plain_text_adds_quotes_only():
    """Text without special characters is copied."""
    assert quote("abc def/é") == '"abc def/é"'


def test_text_that_needs_no_escape_is_not_copied():
    """By which a node knows that it need not look again."""
    for text in ("", "abc def", "é", "日本\U0001f600"):
        assert escape(text) is text
    for text in ("<", "é&", "é\n", "é\b", "\u2028", raw(b"\xff"), raw(b"\xff\n")):
        assert escape(text) != text


def test_quote_escapes_what_go_escapes():
    """JSON's own escapes, HTML signs and the two line separators."""
    assert quote('a"b\\c\nd') == r'"a\"b\\c\nd"'
    assert quote("<a&b>") == r'"\u003ca\u0026b\u003e"'
    assert quote("x\u2028y\u2029") == r'"x\u2028y\u2029"'
    assert quote("\\b\b\f\t") == r'"\\b\u0008\u000c\t"'
    assert quote("\x00\x1f") == r'"\u0000\u001f"'


def test_quote_shows_each_invalid_byte_as_replacement_sign():
    """Bytes that are no UTF-8 never reach the encoder."""
    assert quote(raw(b"a\xff\xe2\x82z")) == r'"a\ufffd\ufffd\ufffdz"'
    assert quote(raw(b"<\xff>")) == r'"\u003c\ufffd\u003e"'


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40))
def test_quote_of_any_bytes_is_json_of_their_replacement(data):
    """Whatever the bytes, the literal parses to the text with replacement signs."""
    text = raw(data)
    shown = "".join("\ufffd" if "\udc80" <= sign <= "\udcff" else sign for sign in text)
    assert json.loads(quote(text).encode()) == shown


def test_expiration_text_drops_trailing_zeros_of_the_fraction():
    """RFC 3339 with as many digits as needed, in UTC."""
    assert expiration_text(1_700_000_000 * SECOND) == "2023-11-14T22:13:20Z"
    assert expiration_text(1_700_000_000 * SECOND + 120_000_000) == "2023-11-14T22:13:20.12Z"
    assert expiration_text(1_700_000_000 * SECOND + 1) == "2023-11-14T22:13:20.000000001Z"


def test_expiration_text_covers_all_64_bit_times():
    """Times before the epoch and the two ends of the range are written too."""
    assert expiration_text(-1) == "1969-12-31T23:59:59.999999999Z"
    assert expiration_text(2**63 - 1) == "2262-04-11T23:47:16.854775807Z"
    assert expiration_text(-(2**63)) == "1677-09-21T00:12:43.145224192Z"


def test_ttl_seconds_rounds_up():
    """A begun second counts, also when the expiration is past."""
    assert ttl_seconds(10 * SECOND, 0) == 10
    assert ttl_seconds(10 * SECOND, 1) == 10
    assert ttl_seconds(10 * SECOND + 1, 0) == 11
    assert ttl_seconds(0, SECOND // 2) == 0
    assert ttl_seconds(0, SECOND) == -1
    assert ttl_seconds(0, 2 * SECOND - 1) == -1
