"""Which handler answers a request: a table of paths and methods, matched as Go's ServeMux does.

Knows generic HTTP only: 301 for an unclean path, 404 for an unknown one, 405 with Allow. What
the paths mean is the table's business.
"""

from collections.abc import Sequence
from posixpath import normpath
from typing import Final, NamedTuple
from urllib.parse import quote

from pyetcd.httpd.pipeline import Handler
from pyetcd.httpd.request import Request
from pyetcd.httpd.response import ERROR_HEAD

# What Go leaves unescaped in a path besides letters, digits and "-_.~".
_PATH_SAFE = "$&+,/:;=@"
_DOT: Final = 0x2E


class Route(NamedTuple):
    """One row of the table."""

    # Ends with "/": every path below; else this path only.
    pattern: bytes
    # By method. A handler for None takes all methods that have none of their own.
    handlers: dict[bytes | None, Handler]
    # The Allow header of a 405, in the order to be shown; empty for none.
    allow: bytes = b""


class Router:
    """A handler that passes each request on to the handler of its path and method.

    Invariants:
      1. No pattern occurs twice.
      2. Of two patterns that match a path, the longer one wins; the table must list it first,
         so that the patterns used most can come early.
    """

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[bytes, Route] = {}
        self._prefixes: list[tuple[bytes, Route]] = []
        for route in routes:
            pattern = route.pattern
            assert pattern.startswith(b"/"), f"pattern {pattern!r} is not a path"
            if not pattern.endswith(b"/"):
                assert pattern not in self._exact, f"pattern {pattern!r} twice"
                self._exact[pattern] = route
                continue
            for prefix, _ in self._prefixes:
                assert not pattern.startswith(prefix), f"{prefix!r} hides {pattern!r}"
            self._prefixes.append((pattern, route))

    def __call__(self, request: Request) -> None:
        """Answer the request, or have it answered."""
        path = request.path
        # Only such paths can be unclean: a name may begin with a dot, so look closer. (`replace`
        # takes less time than `find`; `in` raises, and catches, an error for all but a number.)
        if path.replace(b"//", b"/") != path or (_DOT in path and path.find(b"/.") >= 0):
            clean = clean_path(path)
            # Go's CORS handlers, which stand before its router, answer OPTIONS on any path.
            if clean != path and request.method != b"OPTIONS":
                redirect(request, clean)
                return
        route = self._exact.get(path)
        if route is None:
            for prefix, candidate in self._prefixes:
                if path.startswith(prefix):
                    route = candidate
                    break
            else:
                if path == b"*":
                    request.respond(200)  # OPTIONS of the server as a whole
                else:
                    not_found(request)
                return
        handlers = route.handlers
        handler = handlers.get(request.method)
        if handler is None:
            handler = handlers.get(None)
            if handler is None:
                method_not_allowed(request, route.allow)
                return
        handler(request)


def clean_path(path: bytes) -> bytes:
    """The path without empty, "." and ".." elements; a slash at its end stays."""
    clean = b"/" + normpath(b"/" + path).lstrip(b"/")
    if path.endswith(b"/") and clean != b"/":
        return clean + b"/"
    return clean


def redirect(request: Request, path: bytes) -> None:
    """Answer 301 to this path and the request's query; only readers get a note in HTML."""
    location = quote(path, safe=_PATH_SAFE).encode()
    if request.query:
        location += b"?" + request.query
    head = b"Location: %b\r\n" % location
    if request.method in (b"GET", b"HEAD"):
        head += b"Content-Type: text/html; charset=utf-8\r\n"
        link = location.replace(b"&", b"&amp;").replace(b'"', b"&#34;").replace(b"'", b"&#39;")
        link = link.replace(b"<", b"&lt;").replace(b">", b"&gt;")
        request.respond(301, head, b'<a href="%b">Moved Permanently</a>.\n\n' % link)
    else:
        request.respond(301, head)


def error(request: Request, status: int, text: bytes, head: bytes = b"") -> None:
    """Answer one line of plain text, as Go's http.Error does."""
    request.respond(status, head + ERROR_HEAD, text + b"\n")


def not_found(request: Request) -> None:
    """Answer Go's 404."""
    error(request, 404, b"404 page not found")


def method_not_allowed(request: Request, allow: bytes) -> None:
    """Answer 405 and say what is allowed, if anything."""
    error(request, 405, b"Method Not Allowed", b"Allow: %b\r\n" % allow if allow else b"")
