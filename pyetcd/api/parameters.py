"""The parameters of a request on keys, read as etcd 2.3.8 reads them and in its order.

Which of several faults is reported depends on that order. Fields of the body beat those of the
query; of a field that is given twice the first counts; booleans are what Go's ParseBool takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyetcd.errors import (
    IndexNotANumber,
    InvalidField,
    InvalidForm,
    PrevValueRequired,
    RefreshTTLRequired,
    RefreshValue,
    TTLNotANumber,
)
from pyetcd.httpd import Fields, FormError, Request

_BOOLEANS: Final[Mapping[bytes, bool]] = {
    **dict.fromkeys((b"1", b"t", b"T", b"TRUE", b"true", b"True"), True),
    **dict.fromkeys((b"0", b"f", b"F", b"FALSE", b"false", b"False"), False),
}
_UINT64_MAX: Final = (1 << 64) - 1


@dataclass(slots=True, init=False)
class Parameters:
    """What a request asks for besides its key."""

    value: str
    prev_value: str
    prev_index: int
    # None where the client said nothing.
    prev_exist: bool | None
    ttl_seconds: int | None
    wait_index: int
    recursive: bool
    sort: bool
    wait: bool
    directory: bool
    quorum: bool
    stream: bool
    refresh: bool
    # Only etcd 3.4 knows it.
    no_value: bool

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(self) -> None:
        """Of a request that says nothing."""
        self.value = ""
        self.prev_value = ""
        self.prev_index = 0
        self.prev_exist = None
        self.ttl_seconds = None
        self.wait_index = 0
        self.recursive = False
        self.sort = False
        self.wait = False
        self.directory = False
        self.quorum = False
        self.stream = False
        self.refresh = False
        self.no_value = False


# Shared by all requests that have no parameters; nobody changes it.
NONE: Final = Parameters()


def read(request: Request) -> Parameters:
    """Read the parameters of a request. Raises EtcdError."""
    try:
        fields = request.form()
    except FormError as error:
        raise InvalidForm(str(error)) from None
    if not fields:
        return NONE
    found = Parameters()
    found.prev_index = _index(fields, b"prevIndex")
    found.wait_index = _index(fields, b"waitIndex")
    found.recursive = _boolean(fields, b"recursive")
    found.sort = _boolean(fields, b"sorted")
    found.wait = _boolean(fields, b"wait")
    found.directory = _boolean(fields, b"dir")
    found.quorum = _boolean(fields, b"quorum")
    found.stream = _boolean(fields, b"stream")
    found.prev_value = _text(fields, b"prevValue")
    found.value = _text(fields, b"value")
    if found.wait and request.method != b"GET":
        raise InvalidField('"wait" can only be used with GET requests')
    if b"prevValue" in fields and not found.prev_value:
        raise PrevValueRequired('"prevValue" cannot be empty')
    found.no_value = _boolean(fields, b"noValueOnSuccess")
    _read_lifetime(fields, found)
    return found


def _read_lifetime(fields: Fields, found: Parameters) -> None:
    """Read ttl, prevExist and refresh, which may be absent. Raises EtcdError."""
    if fields.get(b"ttl", [b""])[0]:
        ttl = _number(fields[b"ttl"][0])
        if ttl is None:
            raise TTLNotANumber('invalid value for "ttl"')
        found.ttl_seconds = ttl
    if b"prevExist" in fields:
        found.prev_exist = _BOOLEANS.get(fields[b"prevExist"][0])
        if found.prev_exist is None:
            raise InvalidField("invalid value for prevExist")
    if b"refresh" in fields:
        refresh = _BOOLEANS.get(fields[b"refresh"][0])
        if refresh is None:
            raise InvalidField("invalid value for refresh")
        found.refresh = refresh
        if refresh and found.value:
            raise RefreshValue("A value was provided on a refresh")
        if refresh and found.ttl_seconds is None:
            raise RefreshTTLRequired("No TTL value set")


def _text(fields: Fields, name: bytes) -> str:
    values = fields.get(name)
    return values[0].decode("utf-8", "surrogateescape") if values else ""


def _boolean(fields: Fields, name: bytes) -> bool:
    values = fields.get(name)
    if values is None:
        return False
    value = _BOOLEANS.get(values[0])
    if value is None:
        raise InvalidField(f'invalid value for "{name.decode()}"')
    return value


def _index(fields: Fields, name: bytes) -> int:
    values = fields.get(name)
    if values is None:
        return 0
    number = _number(values[0])
    if number is None:
        raise IndexNotANumber(f'invalid value for "{name.decode()}"')
    return number


def _number(text: bytes) -> int | None:
    """Return an unsigned decimal number of 64 bits; None for anything else."""
    # The length bounds the work; Go takes any number of leading zeros, and so do we.
    digits = text.lstrip(b"0")
    if not text.isdigit() or len(digits) > 20:
        return None
    number = int(digits or b"0")
    return number if number <= _UINT64_MAX else None
