"""Requests as bytes, and answers as values."""

import json
from typing import Any

import pytest

from pyetcd.client import Member, Node, NotEtcd, Refused, Role, User
from pyetcd.client.wire import (
    Answer,
    clean_key,
    event_from,
    json_request,
    key_request,
    member_from,
    refusal,
    role_from,
    user_from,
)
from pyetcd.errors import CompareFailed


def answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), 9)


@pytest.mark.parametrize(
    ("key", "clean"),
    [
        ("a", "/a"),
        ("", "/"),
        ("/", "/"),
        ("//a//b/", "/a/b/"),
        ("/a/./b/../c", "/a/c"),
        ("../../v2/members", "/v2/members"),
    ],
)
def test_key_of_any_form_becomes_the_one_that_needs_no_redirect(key: str, clean: str) -> None:
    """A key cannot lead out of the tree of keys."""
    assert clean_key(key) == clean


def test_key_request_escapes_what_a_url_cannot_hold() -> None:
    """Path, query and form are encoded, raw bytes included."""
    request = key_request(
        "PUT", "/ä b?\udcff", query=[("prevValue", "x&y"), ("dir", "true")], form=[("value", "ü ")]
    )
    assert request.target == "/v2/keys/%C3%A4%20b%3F%FF?dir=true&prevValue=x%26y"
    assert request.body == b"value=%C3%BC+"
    assert request.content_type == "application/x-www-form-urlencoded"


def test_request_as_curl_line_shows_the_body() -> None:
    """The line can be pasted."""
    request = key_request("PUT", "/x", form=[("value", "1")])
    assert request.curl("http://h:1") == 'curl -X PUT http://h:1/v2/keys/x -d "value=1"'


def test_request_with_a_password_as_curl_line_hides_the_body() -> None:
    """What is printed for debugging holds no secret."""
    request = json_request("PUT", "/v2/auth/users/u", {"password": "hush"}, secret=True)
    assert "hush" not in request.curl("http://h:1")


def test_event_with_all_fields_is_read() -> None:
    """Nothing that etcd tells is lost."""
    node = {
        "key": "/d",
        "dir": True,
        "nodes": [{"key": "/d/a", "value": "1", "createdIndex": 2, "modifiedIndex": 3}],
        "expiration": "2030-01-01T00:00:00Z",
        "ttl": 7,
        "createdIndex": 1,
        "modifiedIndex": 1,
    }
    event = event_from(answer({"action": "get", "node": node, "prevNode": {"key": "/d"}}))
    assert event.node == Node(
        "/d", "", True, (Node("/d/a", "1", False, (), 2, 3),), 1, 1, "2030-01-01T00:00:00Z", 7
    )
    assert event.prev_node == Node("/d")
    assert event.etcd_index == 9


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"action":"get"}',
        b'{"action":1,"node":{"key":"/"}}',
        b'{"action":"get","node":[]}',
        b'{"action":"get","node":{"key":"/","nodes":{"a":1}}}',
        b'{"action":"get","node":{"key":"/","createdIndex":"x"}}',
    ],
)
def test_event_that_is_none_raises_not_etcd(body: bytes) -> None:
    """Whatever a stranger answers is an error of one kind."""
    with pytest.raises(NotEtcd):
        event_from(Answer(200, body))


def test_refusal_with_a_code_is_the_error_of_that_code() -> None:
    """Callers catch the classes that the server raises."""
    error = refusal(
        answer({"errorCode": 101, "message": "m", "cause": "[1 != 2]", "index": 4}, 412)
    )
    assert isinstance(error, CompareFailed)
    assert (error.cause, error.index) == ("[1 != 2]", 4)


def test_refusal_without_a_code_keeps_text_and_status() -> None:
    """Members and auth refuse with a text only."""
    error = refusal(answer({"message": "no such user"}, 404))
    assert isinstance(error, Refused)
    assert (error.status, str(error)) == (404, "no such user")
    assert str(refusal(answer({}, 418))) == "unexpected status code 418"


def test_user_with_roles_by_name_or_whole_is_the_same() -> None:
    """The server shows both forms."""
    whole = {"user": "u", "roles": [{"role": "r", "permissions": {"kv": {}}}]}
    assert user_from(whole) == user_from({"user": "u", "roles": ["r"]}) == User("u", ("r",))
    assert user_from({"user": "u", "roles": None}) == User("u")


def test_role_with_null_lists_has_no_permissions() -> None:
    """null is a list that was never set."""
    fields = {"role": "r", "permissions": {"kv": {"read": ["/*"], "write": None}}}
    assert role_from(fields) == Role("r", ("/*",))


def test_member_that_has_not_started_has_no_name() -> None:
    """Absent fields are empty."""
    assert member_from({"id": "1", "peerURLs": ["http://h:1"]}) == Member("1", "", ("http://h:1",))


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (user_from, []),
        (user_from, {"user": "u", "roles": {"r": 1}}),
        (user_from, {"user": "u", "roles": [1]}),
        (role_from, None),
        (role_from, {"role": "r"}),
        (member_from, "m"),
        (member_from, {"id": "1", "peerURLs": [1]}),
        (member_from, {"id": "1", "peerURLs": "x"}),
    ],
)
def test_object_of_another_shape_raises_not_etcd(read: Any, fields: Any) -> None:
    """What is read is checked."""
    with pytest.raises(NotEtcd):
        read(fields)
