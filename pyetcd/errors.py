"""The errors of etcd 2: one class per code, and the bytes that a client gets.

The store and the parsers of requests raise them; apply returns them as results. The table
`BY_CODE` holds every code that etcd 2.3.8 knows, also those that nothing raises any more:
clients and documentation look codes up. Nothing here knows HTTP beyond the status number.
"""

import re
from json.encoder import encode_basestring
from typing import ClassVar

# Go's encoder knows no short form of these two escapes.
_LONG_ESCAPES = {"\\b": "\\u0008", "\\f": "\\u000c"}

_each_escape = re.compile(r"\\.")
# A lone surrogate stands for a byte that is no UTF-8 (surrogateescape).
_each_raw_byte = re.compile(r"[\udc80-\udcff]")


def go_json(text: str) -> str:
    """Return a JSON text of Python's encoder as Go's encoder would have written it."""
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    if "\\b" in text or "\\f" in text:
        text = _each_escape.sub(lambda found: _LONG_ESCAPES.get(found[0], found[0]), text)
    if text.isascii():
        return text
    text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return _each_raw_byte.sub(r"\\ufffd", text)


class EtcdError(Exception):
    """A refusal that etcd 2 names by a code.

    `index` is the etcd_index of the store that refused; 0 when the request itself was wrong.
    """

    code: ClassVar[int] = 0
    message: ClassVar[str] = ""
    status: ClassVar[int] = 400

    def __init__(self, cause: str = "", index: int = 0) -> None:
        """Keep what is told to the client; a cause may hold escaped bytes of a key."""
        super().__init__(cause, index)
        self.cause = cause
        self.index = index

    def __str__(self) -> str:
        """Return etcd's own wording: the message and its cause."""
        return f"{self.message} ({self.cause})"

    def body(self) -> bytes:
        """Return the JSON document as etcd sends it, with its newline; no cause, no field."""
        cause = f',"cause":{encode_basestring(self.cause)}' if self.cause else ""
        text = (
            f'{{"errorCode":{self.code},"message":{encode_basestring(self.message)}{cause},'
            f'"index":{self.index}}}\n'
        )
        return go_json(text).encode()


class KeyNotFound(EtcdError):
    """A part of the path does not exist; the cause is the first missing one."""

    code = 100
    message = "Key not found"
    status = 404


class CompareFailed(EtcdError):
    """prevValue or prevIndex did not match."""

    code = 101
    message = "Compare failed"
    status = 412


class NotFile(EtcdError):
    """The operation is for keys with a value, and this is a directory."""

    code = 102
    message = "Not a file"
    status = 403


class NoMorePeer(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 103
    message = "Reached the max number of peers in the cluster"


class NotDirectory(EtcdError):
    """A part of the path is a key with a value; the cause is that part."""

    code = 104
    message = "Not a directory"


class KeyExists(EtcdError):
    """A key to be created is there already."""

    code = 105
    message = "Key already exists"
    status = 412


class KeyIsPreserved(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 106
    message = "The prefix of given key is a keyword in etcd"


class RootReadOnly(EtcdError):
    """The root can be neither changed nor deleted."""

    code = 107
    message = "Root is read only"


class DirectoryNotEmpty(EtcdError):
    """A directory with children was to be deleted without recursive."""

    code = 108
    message = "Directory not empty"
    status = 403


class ExistingPeerAddress(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 109
    message = "Peer address has existed"


class Unauthorized(EtcdError):
    """The user may not do this."""

    code = 110
    message = "The request requires user authentication"
    status = 401


class ValueRequired(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 200
    message = "Value is Required in POST form"


class PrevValueRequired(EtcdError):
    """prevValue was given and is empty."""

    code = 201
    message = "PrevValue is Required in POST form"


class TTLNotANumber(EtcdError):
    """The ttl is no unsigned decimal number."""

    code = 202
    message = "The given TTL in POST form is not a number"


class IndexNotANumber(EtcdError):
    """prevIndex or waitIndex is no unsigned decimal number."""

    code = 203
    message = "The given index in POST form is not a number"


class ValueOrTTLRequired(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 204
    message = "Value or TTL is required in POST form"


class TimeoutNotANumber(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 205
    message = "The given timeout in POST form is not a number"


class NameRequired(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 206
    message = "Name is required in POST form"


class IndexOrValueRequired(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 207
    message = "Index or value is required"


class IndexValueMutex(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 208
    message = "Index and value cannot both be specified"


class InvalidField(EtcdError):
    """A field of the request has a value that it cannot have."""

    code = 209
    message = "Invalid field"


class InvalidForm(EtcdError):
    """The form or the query cannot be read."""

    code = 210
    message = "Invalid POST form"


class RefreshValue(EtcdError):
    """A refresh keeps the value and may not bring one."""

    code = 211
    message = "Value provided on refresh"


class RefreshTTLRequired(EtcdError):
    """A refresh without a ttl means nothing."""

    code = 212
    message = "A TTL must be provided on refresh"


class RaftInternal(EtcdError):
    """The cluster could not carry out the request."""

    code = 300
    message = "Raft Internal Error"
    status = 500


class LeaderElect(EtcdError):
    """There is no leader at present."""

    code = 301
    message = "During Leader Election"
    status = 500


class WatcherCleared(EtcdError):
    """A watch did not survive the installation of a snapshot."""

    code = 400
    message = "watcher is cleared due to etcd recovery"


class EventIndexCleared(EtcdError):
    """waitIndex lies before the oldest event in history."""

    code = 401
    message = "The event in requested index is outdated and cleared"


class StandbyInternal(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 402
    message = "Standby Internal Error"


class InvalidActiveSize(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 403
    message = "Invalid active size"


class InvalidRemoveDelay(EtcdError):
    """Of etcd 0.4; never raised."""

    code = 404
    message = "Standby remove delay"


class ClientInternal(EtcdError):
    """Raised by client libraries, never by a server."""

    code = 500
    message = "Client Internal Error"


BY_CODE: dict[int, type[EtcdError]] = {
    kind.code: kind
    for kind in (
        KeyNotFound,
        CompareFailed,
        NotFile,
        NoMorePeer,
        NotDirectory,
        KeyExists,
        KeyIsPreserved,
        RootReadOnly,
        DirectoryNotEmpty,
        ExistingPeerAddress,
        Unauthorized,
        ValueRequired,
        PrevValueRequired,
        TTLNotANumber,
        IndexNotANumber,
        ValueOrTTLRequired,
        TimeoutNotANumber,
        NameRequired,
        IndexOrValueRequired,
        IndexValueMutex,
        InvalidField,
        InvalidForm,
        RefreshValue,
        RefreshTTLRequired,
        RaftInternal,
        LeaderElect,
        WatcherCleared,
        EventIndexCleared,
        StandbyInternal,
        InvalidActiveSize,
        InvalidRemoveDelay,
        ClientInternal,
    )
}
