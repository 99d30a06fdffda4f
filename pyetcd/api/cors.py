"""Pages of other origins (`-cors`): the headers that let a browser show them our answers.

etcd 2.3.8 adds the same three headers to every answer for an origin that is allowed, whatever was
asked. OPTIONS is answered 200 and empty on any path, also without the flag: see `allow_options`.
"""

from typing import Final

from pyetcd.httpd import Handler, Request

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

        def handle_any(request: Request) -> None:
            request.add_head(head)
            handler(request)

        return handle_any
    # An origin is echoed only if it is one of these, so that nobody can inject header lines.
    heads = {origin: _HEAD % origin for origin in map(_encode, origins)}

    def handle(request: Request) -> None:
        head = heads.get(request.header(b"origin") or b"")
        if head is not None:
            request.add_head(head)
        handler(request)

    return handle


def allow_options(request: Request) -> None:
    """Answer OPTIONS."""
    request.respond(200)


def _encode(origin: str) -> bytes:
    return origin.encode("utf-8", "surrogateescape")
