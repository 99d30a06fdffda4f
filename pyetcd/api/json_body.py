"""JSON in requests, read as Go's encoding/json reads it, and etcd's answers of one message.

Names are matched without regard to case, unknown ones are ignored, null counts as absent. Whatever
a client sends leads to a value or to a BadBody, never to another exception.
"""

import json
import re
from typing import Final, NoReturn

from pyetcd.errors import go_json
from pyetcd.httpd import Request

JSON_HEAD: Final = b"Content-Type: application/json\r\n"

# Half of a pair stands for nothing; Go, too, replaces it.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# What JSON takes for blank; Python's own idea of it is wider.
_BLANKS: Final = " \t\r\n"


class BadBody(Exception):
    """The body is not the JSON that is expected; the text says why, nearly as Go does."""


def answer_message(request: Request, status: int, message: str, head: bytes = b"") -> None:
    """Answer `{"message": ...}`, as etcd's HTTPError does: without a newline."""
    text = json.dumps({"message": message}, ensure_ascii=False, separators=(",", ":"))
    request.respond(status, JSON_HEAD + head, go_json(text).encode())


def read_field(body: bytes, name: str, *, whole: bool = True) -> object:
    """Return one field of the object in the body; None when there is no such field.

    Unless `whole`, something may follow the object. Raises BadBody.
    """
    text = body.decode("utf-8", "replace").lstrip(_BLANKS)
    try:
        pairs, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            raise BadBody("unexpected end of JSON input") from None
        raise BadBody(f"invalid character {text[error.pos]!r}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise BadBody(f"invalid JSON: {error}") from None
    rest = text[end:].lstrip(_BLANKS)
    if whole and rest:
        raise BadBody(f"invalid character {rest[0]!r} after top-level value")
    if pairs is None:
        return None
    if not isinstance(pairs, _Pairs):
        raise BadBody(f"json: cannot unmarshal {kind_of(pairs)} into Go value of type struct")
    found: object = None
    for key, value in pairs.items:
        if key.casefold() == name.casefold():
            found = value
    return found


def to_text(value: object) -> str:
    """Return a value of the JSON as a text; "" for null. Raises BadBody."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    raise BadBody(f"json: cannot unmarshal {kind_of(value)} into Go value of type string")


def to_texts(value: object) -> list[str]:
    """Return a value of the JSON as a list of texts; empty for null. Raises BadBody."""
    if value is None:
        return []
    if isinstance(value, list):
        return [to_text(item) for item in value]
    raise BadBody(f"json: cannot unmarshal {kind_of(value)} into Go value of type []string")


def kind_of(value: object) -> str:
    """Return what Go calls a value of the JSON."""
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


class _Pairs:
    """An object of the JSON, in order and with names that are there twice."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[str, object]]) -> None:
        self.items = items


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
