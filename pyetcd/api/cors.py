"""Pages of other origins (`-cors`): the headers that let a browser show them our answers.

etcd 2.3.8 adds the same three headers to every answer for an origin that is allowed, whatever was
asked. OPTIONS is answered 200 and empty on any path, also without the flag: see `allow_options`.
"""

from collections.abc import Callable
from typing import Final, cast

from pyetcd.httpd import Handler, Request, Stream

# As an origin it stands for all of them.
ANY_ORIGIN: Final = "*"

_HEAD: Final = (
    b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
    b"Access-Control-Allow-Origin: %b\r\n"
    b"Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
)


def wrap(handler: Handler, origins: frozenset[str]) -> Handler:
    """Return a handler that adds the headers for these origins; the same one for none."""
    if not origins:
        return handler
    if ANY_ORIGIN in origins:
        head = _HEAD % ANY_ORIGIN.encode()
        return lambda request: handler(_with_head(request, head))
    # An origin is echoed only if it is one of these, so that nobody can inject header lines.
    heads = {origin: _HEAD % origin for origin in map(_encode, origins)}

    def handle(request: Request) -> None:
        head = heads.get(request.header(b"origin") or b"")
        handler(request if head is None else _with_head(request, head))

    return handle


def allow_options(request: Request) -> None:
    """Answer OPTIONS."""
    request.respond(200)


def _with_head(request: Request, head: bytes) -> Request:
    # It has all that handlers use of a request; a request is no class to inherit from.
    return cast(Request, _Adorned(request, head))


def _encode(origin: str) -> bytes:
    return origin.encode("utf-8", "surrogateescape")


class _Adorned:
    """A request whose answer gets more header lines."""

    __slots__ = ("_head", "_request")

    def __init__(self, request: Request, head: bytes) -> None:
        self._request = request
        self._head = head

    def __getattr__(self, name: str) -> object:
        return getattr(self._request, name)

    @property
    def on_disconnect(self) -> Callable[[], None] | None:
        """See `Request`."""
        return self._request.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self._request.on_disconnect = callback

    def respond(self, status: int, head: bytes = b"", body: bytes = b"") -> None:
        """See `Request`."""
        self._request.respond(status, self._head + head, body)

    def start_stream(
        self, status: int, head: bytes = b"", on_disconnect: Callable[[], None] | None = None
    ) -> Stream:
        """See `Request`."""
        return self._request.start_stream(status, self._head + head, on_disconnect)
