"""Handlers that answer when the test says so."""

from pyetcd.httpd.request import Request
from pyetcd.httpd.response import Stream
from tests.http import Wire


class Later:
    """A handler that answers when the test says so."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, got: Request) -> None:
        self.requests.append(got)

    def respond(self, index: int) -> None:
        """Answer one request with its own path."""
        self.requests[index].respond(200, b"", self.requests[index].path)

    @property
    def paths(self) -> list[bytes]:
        """What was started, in order."""
        return [got.path for got in self.requests]


class Streaming:
    """A handler that answers with a stream each time."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.gone: list[int] = []

    def __call__(self, got: Request) -> None:
        number = len(self.streams)
        self.streams.append(got.start_stream(200, b"X-A: 1\r\n", lambda: self.gone.append(number)))


def bodies(wire: Wire) -> list[bytes]:
    """What the client has received."""
    return [response.body for response in wire.responses()]
