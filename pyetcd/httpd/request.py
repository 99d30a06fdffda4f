"""A request as handlers see it, and the forms it may carry.

A handler answers by `respond` or `start_stream`, during its call or later, exactly once. Forms
follow `ParseForm` of Go up to 1.16, which etcd's clients rely on. Bytes stay bytes: decoding is
the handler's business. Nothing here does I/O.
"""

import re
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

from pyetcd.httpd.response import (
    BODYLESS,
    STATUS_LINES,
    Outlet,
    Stream,
    status_line,
)

FORM_TYPE: Final = b"application/x-www-form-urlencoded"
# Go reads the body's form for these methods only.
FORM_METHODS: Final = frozenset((b"PUT", b"POST", b"PATCH"))
# The largest form that Go reads.
FORM_BYTES: Final = 10 << 20

Fields: TypeAlias = dict[bytes, list[bytes]]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rb"\s*(%b(?:/%b)?)\s*(?:;|\Z)" % (_TOKEN, _TOKEN))
_MEDIA_PARAMETER = re.compile(
    rb'\s*(%b)\s*=\s*(?:%b|"(?:[^"\\\r\n]|\\.)*")\s*(?:;|\Z)' % (_TOKEN, _TOKEN)
)


class FormError(Exception):
    """The client's form or its content type cannot be read; the text is the one of Go."""


class BadEscape(FormError):
    """A percent sign that two hexadecimal digits do not follow."""

    def __init__(self, escape: bytes) -> None:
        super().__init__(f'invalid URL escape "{escape.decode("utf-8", "replace")}"')


class Carrier(Outlet, Protocol):
    """The connection as a request sees it."""

    @property
    def date(self) -> bytes:
        """The Date header line of this second."""

    @property
    def remote_address(self) -> str:
        """The client, as `host:port`; empty for a unix socket."""

    def deliver(self, request: "Request", data: bytes) -> None:
        """Write a whole answer, or keep it until the earlier ones are written."""

    def begin_stream(self, request: "Request", stream: Stream) -> None:
        """Open the stream, or keep it until the earlier answers are written."""


class Request:
    """One complete request and the duty to answer it.

    Invariants:
      1. It is answered once; answers after the client has gone are dropped.
      2. `on_disconnect` is called at most once, and only while it is unanswered.
    """

    __slots__ = (
        "_carrier",
        "_extra_head",
        "_plain",
        "answer",
        "answered",
        "body",
        "headers",
        "http10",
        "is_refusal",
        "keep_alive",
        "last_sweep",
        "method",
        "on_disconnect",
        "path",
        "query",
        "stream",
        "target",
    )

    def __init__(
        self,
        carrier: Carrier,
        method: bytes,
        target: bytes,
        path: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._carrier = carrier
        self.method = method
        # As the client wrote it.
        self.target = target
        # Percent-decoded, without the query.
        self.path = path
        # Still encoded; empty when there is none.
        self.query = query
        # Names in lower case, in the order of arrival. Values may have blanks at their end.
        self.headers = headers
        self.body = b""
        self.http10 = False
        self.keep_alive = True
        # Header lines that its answer has besides its own.
        self._extra_head = b""
        # Answers need nothing but the usual header lines.
        self._plain = method != b"HEAD"
        # Set by a handler that answers later: the client has gone and nobody will read it.
        self.on_disconnect: Callable[[], None] | None = None
        self.answered = False
        # For a handler that begins anew: by when it must have answered; 0 at first.
        self.last_sweep = 0
        # For the connection: what waits until the earlier answers are written.
        self.answer: bytes | None = None
        self.stream: Stream | None = None
        # It stands for what could not be read, and was answered before it began.
        self.is_refusal = False

    @classmethod
    def refused(cls, carrier: Carrier, answer: bytes) -> "Request":
        """What takes the place of a request that could not be read."""
        request = cls(carrier, b"", b"", b"", b"", [])
        request.is_refusal = True
        request.keep_alive = False
        request.answered = True
        request.answer = answer
        return request

    @property
    def remote_address(self) -> str:
        """The client, as `host:port`; empty for a unix socket."""
        return self._carrier.remote_address

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; the name is given in lower case."""
        for key, value in self.headers:
            if key == name:
                return value.strip()
        return None

    def form(self) -> Fields:
        """Fields of the body, then of the query: the first value of each list counts.

        Raises FormError as Go's ParseForm fails, on the first fault in body or query.
        """
        fields: Fields = {}
        if self.method in FORM_METHODS:
            content_type = self.header(b"content-type")
            # An empty type counts as none.
            if content_type == FORM_TYPE or (
                content_type and media_type(content_type) == FORM_TYPE
            ):
                if len(self.body) > FORM_BYTES:
                    raise FormError("http: POST too large")
                add_fields(fields, self.body)
        if self.query:
            add_fields(fields, self.query)
        return fields

    def respond(self, status: int, head: bytes = b"", body: bytes = b"") -> None:
        """Answer at once. `head` is whole header lines, each with its line end.

        Content-Length, Date and Connection are added here.
        """
        assert not self.answered, f"{self.method!r} {self.target!r} answered twice"
        self.answered = True
        self.on_disconnect = None
        carrier = self._carrier
        if self._plain and status not in BODYLESS:
            data = b"%b%b%bContent-Length: %d\r\n\r\n%b" % (
                STATUS_LINES[status],
                head,
                carrier.date,
                len(body),
                body,
            )
        else:
            data = self._format(status, head, body)
        carrier.deliver(self, data)

    def respond_in_chunks(self, status: int, head: bytes, framed: bytes) -> None:
        """Answer at once, as a stream that has these chunks; LAST_CHUNK is the last of them."""
        if self._plain:
            assert not self.answered, f"{self.method!r} {self.target!r} answered twice"
            assert status not in BODYLESS, f"status {status} has no body to stream"
            self.answered = True
            self.on_disconnect = None
            carrier = self._carrier
            data = b"%b%b%bTransfer-Encoding: chunked\r\n\r\n%b" % (
                STATUS_LINES[status],
                head,
                carrier.date,
                framed,
            )
            carrier.deliver(self, data)
        else:
            self.start_stream(status, head).finish_with(framed)

    def start_stream(
        self, status: int, head: bytes = b"", on_disconnect: Callable[[], None] | None = None
    ) -> Stream:
        """Answer in pieces; the head leaves at once.

        `on_disconnect` is called once if the client goes away, or the server closes, before
        the stream is finished.
        """
        assert not self.answered, f"{self.method!r} {self.target!r} answered twice"
        assert status not in BODYLESS, f"status {status} has no body to stream"
        self.answered = True
        self.on_disconnect = None
        if self.http10:
            # Only the end of the connection can end a body of unknown length.
            self.keep_alive = False
        lines = (
            status_line(status, http10=self.http10),
            self._extra_head,
            head,
            self._carrier.date,
            b"" if self.keep_alive else b"Connection: close\r\n",
            b"\r\n" if self.http10 else b"Transfer-Encoding: chunked\r\n\r\n",
        )
        stream = Stream(
            self._carrier,
            b"".join(lines),
            on_disconnect,
            chunked=not self.http10,
            body=self.method != b"HEAD",
        )
        self._carrier.begin_stream(self, stream)
        return stream

    def add_head(self, lines: bytes) -> None:
        """Have these header lines, each with its line end, in front of the answer's own."""
        self._extra_head += lines
        self._plain = False

    def of_old_version(self) -> None:
        """Mark it as one of HTTP/1.0."""
        self.http10 = True
        self._plain = False

    def be_last(self) -> None:
        """End the connection with its answer."""
        self.keep_alive = False
        self._plain = False

    def _format(self, status: int, head: bytes, body: bytes) -> bytes:
        """An answer with something unusual about it."""
        lines = [
            status_line(status, http10=self.http10),
            self._extra_head,
            head,
            self._carrier.date,
        ]
        if status not in BODYLESS:
            lines.append(b"Content-Length: %d\r\n" % len(body))
        if not self.keep_alive:
            lines.append(b"Connection: close\r\n")
        elif self.http10:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        if self.method != b"HEAD" and status not in BODYLESS:
            lines.append(body)
        return b"".join(lines)


def add_fields(fields: Fields, encoded: bytes) -> None:
    """Add the fields of a query or a form body; `;` separates as `&` does.

    Raises BadEscape.
    """
    if 0x3B in encoded:  # ";"
        encoded = encoded.replace(b";", b"&")
    for pair in encoded.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            if 0x2B in pair or 0x25 in pair:  # "+", "%"
                name, value = unquote_field(name), unquote_field(value)
            if name in fields:
                fields[name].append(value)
            else:
                fields[name] = [value]


def unquote_field(text: bytes) -> bytes:
    """Decode one name or value of a form. Raises BadEscape."""
    return unquote(text.replace(b"+", b" "))


def unquote(text: bytes) -> bytes:
    """Decode percent escapes. Raises BadEscape."""
    if 0x25 not in text:  # "%"
        return text
    bad = _BAD_ESCAPE.search(text)
    if bad is not None:
        raise BadEscape(bad.group())
    return unquote_to_bytes(text)


def media_type(content_type: bytes) -> bytes:
    """The type without its parameters, in lower case.

    Raises FormError for what Go's mime.ParseMediaType does not take.
    """
    # A type without a slash is fine for Go, as long as nothing else is wrong with it.
    found = _MEDIA_TYPE.match(content_type)
    if found is None:
        slash = b"/" in content_type
        raise FormError(f"mime: {'expected token after slash' if slash else 'no media type'}")
    position = found.end()
    seen: set[bytes] = set()
    while content_type[position:].strip(b" \t;"):
        parameter = _MEDIA_PARAMETER.match(content_type, position)
        if parameter is None:
            raise FormError("mime: invalid media parameter")
        name = parameter.group(1).lower()
        if name in seen:
            raise FormError("mime: duplicate parameter name")
        seen.add(name)
        position = parameter.end()
    return found.group(1).lower()
