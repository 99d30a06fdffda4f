"""Judgement of unusual request heads: what llhttp lets through and HTTP, or Go, does not.

Pure functions. `protocol.py` calls them only for heads that its short test does not pass, so
they may take their time. Whatever is ambiguous about where a request ends is refused.
"""

import re
from typing import Final

from httptools import HttpRequestParser

from pyetcd.httpd.request import BadEscape, Request, unquote

# Headers that decide how the connection goes on.
HOST: Final = 0x01
LENGTH: Final = 0x02
EXPECT: Final = 0x04
CONNECTION: Final = 0x08
TRANSFER: Final = 0x10
UPGRADE: Final = 0x20
# One of them that came before.
TWICE: Final = 0x40
FLAGS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"expect": EXPECT,
    b"connection": CONNECTION,
    b"transfer-encoding": TRANSFER,
    b"upgrade": UPGRADE,
}
# With these and no others a request needs no inspection.
USUAL: Final = HOST | LENGTH

# Methods that llhttp knows. Where it stopped at one of these, it did so in the middle of a
# longer word, whose beginning came with an earlier read.
_KNOWN_METHODS = frozenset(
    (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT")
)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class Refused(Exception):
    """The request cannot be taken: answer this status and close."""

    def __init__(self, status: int, detail: bytes = b"") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


def inspect(request: Request, flags: int, parser: HttpRequestParser) -> None:
    """Check a head and complete the request from it. Raises Refused."""
    version = parser.get_http_version()
    if version == "1.0":
        request.of_old_version()
    elif version == "0.9":
        raise Refused(400)
    elif version != "1.1":
        raise Refused(505)
    if not parser.should_keep_alive():
        request.be_last()
    _inspect_headers(request, flags)
    if request.method == b"CONNECT":
        raise Refused(405)
    request.path = _path(request)


def without_upgrade(request: Request) -> bytes:
    """The head of a request as if it did not ask for an upgrade."""
    version = b"HTTP/1.0" if request.http10 else b"HTTP/1.1"
    lines = [b"%b %b %b" % (request.method, request.target, version)]
    lines += [b"%b: %b" % header for header in request.headers if header[0] != b"upgrade"]
    return b"\r\n".join((*lines, b"", b""))


def check_method(line: bytes) -> None:
    """Refuse what cannot become a request line, such as the first bytes of TLS. Raises Refused."""
    if line and _TOKEN.fullmatch(line.partition(b" ")[0]) is None:
        raise Refused(400)


def rewrite_method(line: bytes) -> tuple[bytes, bytes]:
    """Split a line with a method llhttp does not know: that method, and the line with PUT.

    Raises Refused.
    """
    check_method(line)
    method, _, rest = line.partition(b" ")
    if method in _KNOWN_METHODS:
        raise Refused(400)
    return method, b"PUT " + rest


def rewrite_target(line: bytes) -> bytes:
    """The request line with its bytes beyond ASCII as escapes. Raises Refused without such."""
    rewritten, count = _NOT_ASCII.subn(lambda byte: b"%%%02X" % byte.group()[0], line)
    if count == 0:
        raise Refused(400)
    return rewritten


def _inspect_headers(request: Request, flags: int) -> None:
    if not request.http10 and not flags & HOST:
        raise Refused(400, b"missing required Host header")
    # Of a repeated one, another server in the path may believe the other (RFC 9112 3.2, 6.3).
    # Connection is a list and may repeat; llhttp itself refuses a second Content-Length.
    if flags & TWICE:
        for name in (b"host", b"transfer-encoding", b"expect"):
            if sum(key == name for key, _ in request.headers) > 1:
                raise Refused(400)
    if flags & TRANSFER:
        if request.http10:
            raise Refused(400)  # RFC 9112 6.1: treat the framing as faulty
        if (request.header(b"transfer-encoding") or b"").lower() != b"chunked":
            raise Refused(501)
    if flags & EXPECT and (request.header(b"expect") or b"").lower() != b"100-continue":
        raise Refused(417)


def _path(request: Request) -> bytes:
    """The decoded path of the target in any of its forms (RFC 9112 3.2)."""
    target = request.target.partition(b"?")[0]
    if not target.startswith(b"/"):
        if target == b"*" and request.method == b"OPTIONS":
            return target
        _, scheme_end, rest = target.partition(b"://")
        if not scheme_end:
            raise Refused(400)
        target = b"/" + rest.partition(b"/")[2]
    try:
        return unquote(target)
    except BadEscape:
        raise Refused(400) from None
