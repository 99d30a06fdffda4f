"""Strings and times written as Go's JSON encoder writes them.

Keys and values are `str`, decoded from UTF-8 with `surrogateescape`: bytes that are no UTF-8 stay
distinct in comparisons and come out as U+FFFD here. Every response and every event passes through
`escape`, so it does nothing per character in Python.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Final

from pyetcd.errors import go_json

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOSECONDS = 1_000_000_000

# Every byte that JSON, as Go writes it, does not take as it is becomes another one.
_ESCAPED: Final = bytes(
    byte if 0x20 <= byte < 0x80 and byte not in b'"\\<>&' else 0xFF for byte in range(256)
)
_search_rare = re.compile(r"[\u2028\u2029\udc80-\udcff]").search


def escape(text: str) -> str:
    """Return what a JSON string literal has between its quotes; it can be encoded as UTF-8.

    This is `text` itself, and not a copy, if nothing in it needs an escape.
    """
    if text.isascii():
        # To translate takes a quarter of the time that `encode_basestring` does.
        plain = text.encode()
        if plain.translate(_ESCAPED) == plain:
            return text
    quoted = encode_basestring(text)
    is_longer = len(quoted) != len(text) + 2
    is_gos = "<" in quoted or ">" in quoted or "&" in quoted
    if not is_gos and is_longer:
        is_gos = "\b" in text or "\f" in text
    if is_gos or (not text.isascii() and _search_rare(text) is not None):
        return go_json(quoted)[1:-1]
    return quoted[1:-1] if is_longer else text


def expiration_text(expiration: int) -> str:
    """Return nanoseconds since the epoch as RFC 3339 in UTC, without trailing zeros."""
    seconds, fraction = divmod(expiration, _NANOSECONDS)
    moment = _second_text(seconds)
    if fraction == 0:
        return moment + "Z"
    return f"{moment}.{fraction:09d}".rstrip("0") + "Z"


# Keys written in one second with one ttl share the text, as do an event and its prev_node.
@lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def ttl_seconds(expiration: int, now: int) -> int:
    """Return the seconds from now to the expiration, rounded up; negative when it is past."""
    return -((now - expiration) // _NANOSECONDS)
