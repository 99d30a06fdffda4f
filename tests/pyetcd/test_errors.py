"""Proves that every error looks to a client as etcd 2.3.8's does."""

import json

import pytest

from pyetcd.errors import (
    BY_CODE,
    CompareFailed,
    EtcdError,
    EventIndexCleared,
    InvalidField,
    KeyNotFound,
)

# What etcd answers with something else than 400.
STATUS = {100: 404, 101: 412, 102: 403, 105: 412, 108: 403, 110: 401, 300: 500, 301: 500}


def test_table_of_errors_has_every_code_of_etcd():
    """The codes of etcd 2.3.8 are there, each under its own class."""
    expected = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110]
    expected += [200, 201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 211, 212]
    expected += [300, 301, 400, 401, 402, 403, 404, 500]
    assert list(BY_CODE) == expected
    assert all(kind.code == code for code, kind in BY_CODE.items())
    assert len({kind.message for kind in BY_CODE.values()}) == len(BY_CODE)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_error_of_each_code_has_etcds_status_and_body(code):
    """Status and the fields of the body follow from the class."""
    error = BY_CODE[code]("why", 7)
    assert error.status == STATUS.get(code, 400)
    document = {"errorCode": code, "message": error.message, "cause": "why", "index": 7}
    assert json.loads(error.body()) == document


def test_body_has_gos_field_order_and_newline():
    """The bytes are those that Go's encoder and Fprintln write."""
    expected = b'{"errorCode":100,"message":"Key not found","cause":"/foo","index":3}\n'
    assert KeyNotFound("/foo", 3).body() == expected


def test_body_without_cause_leaves_the_field_out():
    """An empty cause is no field; index 0 is one."""
    assert InvalidField().body() == b'{"errorCode":209,"message":"Invalid field","index":0}\n'


def test_body_escapes_as_go_does():
    """HTML signs, line separators and bytes that are no UTF-8 are escaped; letters are not."""
    cause = '[<a> != "ü&\u2028] ' + b"\xff".decode("utf-8", "surrogateescape")
    body = CompareFailed(cause, 1).body()
    assert rb'"[\u003ca\u003e != \"' in body
    assert "ü".encode() + rb"\u0026\u2028] \ufffd" in body


def test_body_writes_control_characters_the_long_way():
    """Go has no short form of backspace and form feed; a backslash before a b is no such thing."""
    assert rb'"cause":"\u0008\u000c\\b\t"' in CompareFailed("\b\f\\b\t", 1).body()


def test_error_as_text_is_etcds_wording():
    """Logs show the message and the cause."""
    assert str(EventIndexCleared("[2/1]", 9)) == (
        "The event in requested index is outdated and cleared ([2/1])"
    )
    assert isinstance(EventIndexCleared(), EtcdError)
