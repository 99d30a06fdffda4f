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
# Brackets, and strings as a whole: what is in them does not count.
_BRACKETS: Final = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*"', re.DOTALL)
# What JSON takes for blank; Python's own idea of it is wider.
_BLANKS: Final = " \t\r\n"


class BadBody(Exception):
    """The body is not the JSON that is expected; the text says why, nearly as Go does."""


def answer_message(request: Request, status: int, message: str, head: bytes = b"") -> None:
    """Answer `{"message": ...}`, as etcd's HTTPError does: without a newline."""
    text = json.dumps({"message": message}, ensure_ascii=False, separators=(",", ":"))
    request.respond(status, JSON_HEAD + head, go_json(text).encode())


def read_field(body: bytes, name: str, *, whole: bool = True, go_type: str = "struct") -> object:
    """Return one field of the object in the body; None when there is no such field.

    Unless `whole`, something may follow the object. `go_type` is what etcd reads it into, as its
    errors show it. Raises BadBody.
    """
    value = read_value(body, whole=whole)
    if value is not None and not isinstance(value, _Pairs):
        raise BadBody(f"json: cannot unmarshal {kind_of(value)} into Go value of type {go_type}")
    (found,) = fields_of(value, name)
    return found


def read_value(body: bytes, *, whole: bool = True) -> object:
    """Return the value in the body; an object of it is for `fields_of`.

    Unless `whole`, something may follow the value. Raises BadBody.
    """
    text = body.decode("utf-8", "replace").lstrip(_BLANKS)
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            raise BadBody("unexpected end of JSON input") from None
        raise BadBody(_go_words(error, text)) from None
    except (ValueError, RecursionError) as error:
        raise BadBody(f"invalid JSON: {error}") from None
    rest = text[end:].lstrip(_BLANKS)
    if whole and rest:
        raise BadBody(f"invalid character {_go_quote(rest[0])} after top-level value")
    result: object = value
    return result


def fields_of(value: object, *names: str) -> list[object]:
    """Return these fields of an object of the JSON; None for those it has not.

    Raises BadBody.
    """
    found: dict[str, object] = {name.casefold(): None for name in names}
    if value is not None:
        if not isinstance(value, _Pairs):
            raise BadBody(f"json: cannot unmarshal {kind_of(value)} into Go value of type struct")
        for key, item in value.items:
            if key.casefold() in found:
                found[key.casefold()] = item
    return [found[name.casefold()] for name in names]


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


# What Go says where Python stops with these words.
_WORDS: Final = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": (
        "looking for beginning of object key string"
    ),
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
}


def _go_words(error: json.JSONDecodeError, text: str) -> str:
    """Return what Go says of bad JSON, but for misspelled literals and escapes."""
    at = error.pos
    words = _WORDS.get(error.msg)
    if words is None and error.msg == "Expecting ',' delimiter":
        words = f"after {_container(text[:at])}"
    return f"invalid character {_go_quote(text[at])} {words or error.msg}"


def _container(text: str) -> str:
    """Return what Go calls the item that has just ended in this beginning of a document."""
    opened = []
    for bracket in _BRACKETS.findall(text):
        if bracket in "[{":
            opened.append(bracket)
        elif bracket in "]}":
            opened.pop()
    return "array element" if opened[-1] == "[" else "object key:value pair"


def _go_quote(character: str) -> str:
    if character in "'\"":
        return "'\\''" if character == "'" else "'\"'"
    return repr(character)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
