"""Proves that JSON of requests is read as Go reads it, and that nothing else gets through."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.api.json_body import BadBody, answer_message, kind_of, read_field, to_text, to_texts
from tests.http import Wire, request


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode()))
@settings(deadline=None, max_examples=200)
def test_any_bytes_give_a_value_or_bad_body(body):
    """No body can end the server."""
    for whole in (True, False):
        with contextlib.suppress(BadBody):
            to_texts(read_field(body, "a", whole=whole))


@given(st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=5), max_size=3)))
@settings(deadline=None, max_examples=50)
def test_field_of_any_object_is_what_was_written(document):
    """Python's encoder and this reader agree."""
    for name in document:
        same = [other for other in document if other.casefold() == name.casefold()]
        if len(same) == 1:
            assert to_texts(read_field(json.dumps(document).encode(), name)) == document[name]


@pytest.mark.parametrize("body", [b"null", b"{}", b'{"b":1}', b'{"a":null}', b' {"a":null}\n'])
def test_absent_field_is_none(body):
    """null is the same as nothing."""
    assert read_field(body, "a") is None
    assert to_text(None) == ""
    assert to_texts(None) == []


def test_blanks_are_those_of_json():
    """A no-break space is a sign like any other."""
    with pytest.raises(BadBody, match="after top-level value"):
        read_field("{}\u00a0".encode(), "a")
    assert read_field("{}\u00a0".encode(), "a", whole=False) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"a":[', "unexpected end of JSON input"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":[1 2]}', "invalid character '2' after array element"),
        (b'{"b":[1],"a":1 "c"}', "invalid character '\"' after object key:value pair"),
        (b'{"a[{\\"":1;', "invalid character ';' after object key:value pair"),
        (b'{"a":"\n"}', r"invalid character '\n' in string literal"),
        (b"[1]", "json: cannot unmarshal array into Go value of type T"),
    ],
)
def test_bad_json_is_named_in_gos_words(body, words):
    """People search for these sentences."""
    with pytest.raises(BadBody) as raised:
        read_field(body, "a", go_type="T")
    assert str(raised.value) == words


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "bool"), (1, "number"), (1.5, "number"), ("", "string"), ([], "array")],
)
def test_kinds_have_gos_names(value, kind):
    """A bool is no number."""
    assert kind_of(value) == kind


def test_message_is_escaped_as_go_does():
    """Without a newline, unlike the answers of Go's encoder."""

    def handler(asked):
        answer_message(asked, 418, '<"é">\udcff', b"X-Own: 1\r\n")

    response = Wire(handler).send(request()).response()
    assert response.body == rb'{"message":"\u003c\"' + "é".encode() + rb'\"\u003e\ufffd"}'
    assert (response.status, response.header("X-Own")) == (418, "1")
