"""The v2 API as values: requests to be sent, and what the answers mean.

Pure: bytes and JSON in, values out, and no I/O. Answers come from the network, so nothing in them
is believed: what does not look like etcd raises NotEtcd. Keys and values are `str`; a byte that is
no UTF-8 travels as a lone surrogate (surrogateescape).
"""

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlencode

from pyetcd.client.failure import NotEtcd, Refused
from pyetcd.errors import BY_CODE, EtcdError

Fields: TypeAlias = Sequence[tuple[str, str]]

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
# Shown instead of a body that holds a password.
HIDDEN: Final = "..."


@dataclass(frozen=True, slots=True)
class Request:
    """One request, without the endpoint that it goes to."""

    method: str
    # Percent-encoded, with the query.
    target: str
    body: bytes = b""
    content_type: str = ""
    # The answer is an event that may be far off.
    waits: bool = False
    # The body must not be shown to anybody.
    secret: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice is as good as sending it once."""
        return self.method == "GET"

    def curl(self, base: str) -> str:
        """Return a command line that sends this request to an endpoint."""
        line = f"curl -X {self.method} {base}{self.target}"
        if self.body:
            text = HIDDEN if self.secret else self.body.decode(errors="replace")
            line += f" -d {json.dumps(text, ensure_ascii=False)}"
        return line


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered."""

    status: int
    body: bytes
    # Header X-Etcd-Index; 0 if there is none.
    etcd_index: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A key or a directory as etcd shows it."""

    key: str
    # "" for a directory, and after a delete.
    value: str = ""
    is_dir: bool = False
    # Sorted by key if the request asked for it.
    nodes: tuple["Node", ...] = ()
    created_index: int = 0
    modified_index: int = 0
    # RFC 3339; "" if it does not expire.
    expiration: str = ""
    # Seconds left, 0 if it does not expire.
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a request on a key, or what a watch saw."""

    action: str
    node: Node
    prev_node: Node | None = None
    # The store's index when it answered.
    etcd_index: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster."""

    # As etcd prints it: hexadecimal.
    id: str
    # "" until it has started.
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of permissions: patterns of keys."""

    name: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """A user and the names of the roles granted."""

    name: str
    roles: tuple[str, ...] = ()


def key_request(
    method: str, key: str, *, query: Fields = (), form: Fields | None = None, waits: bool = False
) -> Request:
    """Return a request on a key; the query is sorted, as etcd's own client sends it."""
    target = "/v2/keys" + quote_path(clean_key(key))
    if query:
        target += "?" + urlencode(sorted(query), errors="surrogateescape")
    body = urlencode(form or (), errors="surrogateescape").encode()
    return Request(method, target, body, "" if form is None else FORM, waits=waits)


def json_request(method: str, path: str, value: object = None, *, secret: bool = False) -> Request:
    """Return a request with a JSON body, or none if there is no value."""
    if value is None:
        return Request(method, quote_path(path))
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Request(method, quote_path(path), body, JSON, secret=secret)


def clean_key(key: str) -> str:
    """Return a key with one slash at its front and between its parts, and without dots.

    A server redirects to this form anyway. A slash at the end is kept, and no key leads out of the
    tree of keys.
    """
    path = posixpath.normpath("/" + key.lstrip("/"))
    return path + "/" if key.endswith("/") and path != "/" else path


def quote_path(path: str) -> str:
    """Percent-encode a path; raw bytes as they are."""
    return quote(path, safe="/:@!$&'()*+,;=~", errors="surrogateescape")


def event_from(answer: Answer) -> Event:
    """Return what a request on a key led to.

    Raises EtcdError for a refusal and NotEtcd for an answer that makes no sense.
    """
    if answer.status not in (200, 201):
        raise refusal(answer)
    fields = json_object(answer.body)
    prev_node = fields.get("prevNode")
    return Event(
        text_of(fields, "action"),
        node_from(fields.get("node")),
        None if prev_node is None else node_from(prev_node),
        answer.etcd_index,
    )


def node_from(fields: Any) -> Node:
    """Return a node and all below it."""
    if not isinstance(fields, dict):
        raise NotEtcd
    children = fields.get("nodes") or []
    if not isinstance(children, list):
        raise NotEtcd
    return Node(
        key=text_of(fields, "key"),
        value=text_of(fields, "value"),
        is_dir=fields.get("dir") is True,
        nodes=tuple(node_from(child) for child in children),
        created_index=number_of(fields, "createdIndex"),
        modified_index=number_of(fields, "modifiedIndex"),
        expiration=text_of(fields, "expiration"),
        ttl=number_of(fields, "ttl"),
    )


def refusal(answer: Answer) -> EtcdError | Refused:
    """Return the error that an answer tells of; raises NotEtcd if it tells of none."""
    fields = json_object(answer.body)
    kind = BY_CODE.get(number_of(fields, "errorCode"))
    if kind is not None:
        return kind(text_of(fields, "cause"), number_of(fields, "index"))
    return Refused(answer.status, text_of(fields, "message"))


def member_from(fields: Any) -> Member:
    """Return one member."""
    if not isinstance(fields, dict):
        raise NotEtcd
    return Member(
        text_of(fields, "id"),
        text_of(fields, "name"),
        texts_of(fields, "peerURLs"),
        texts_of(fields, "clientURLs"),
    )


def role_from(fields: Any) -> Role:
    """Return one role."""
    keys = (fields.get("permissions") or {}).get("kv") if isinstance(fields, dict) else None
    if not isinstance(keys, dict):
        raise NotEtcd
    return Role(text_of(fields, "role"), texts_of(keys, "read"), texts_of(keys, "write"))


def user_from(fields: Any) -> User:
    """Return one user; the server shows roles by name or whole."""
    if not isinstance(fields, dict):
        raise NotEtcd
    names: list[str] = []
    for role in list_of(fields, "roles"):
        name = role.get("role") if isinstance(role, dict) else role
        if not isinstance(name, str):
            raise NotEtcd
        names.append(name)
    return User(text_of(fields, "user"), tuple(names))


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds."""
    try:
        value = json.loads(body)
    except ValueError:
        raise NotEtcd from None
    if not isinstance(value, dict):
        raise NotEtcd
    return value


def list_of(fields: Mapping[str, Any], name: str) -> list[Any]:
    """Return a field that is a list; null and absence are empty lists."""
    value = fields.get(name) or []
    if not isinstance(value, list):
        raise NotEtcd
    return value


def texts_of(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a field that is a list of texts."""
    values = list_of(fields, name)
    if not all(isinstance(value, str) for value in values):
        raise NotEtcd
    return tuple(values)


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text; "" if it is absent."""
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise NotEtcd
    return value


def number_of(fields: Mapping[str, Any], name: str) -> int:
    """Return a field that is a number; 0 if it is absent."""
    value = fields.get(name, 0)
    if not isinstance(value, int):
        raise NotEtcd
    return value
