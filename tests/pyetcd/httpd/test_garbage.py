"""Proves that a connection is freed at once when it ends, and not by the garbage collector.

A member lets the collector look at old objects so seldom that cycles among them would be a leak.
"""

import gc
from collections.abc import Iterator

import pytest

from pyetcd.httpd import Request
from pyetcd.httpd.protocol import Connection
from tests.http import Wire, request


@pytest.fixture(autouse=True)
def collector_off() -> Iterator[None]:
    """Nothing but reference counts frees anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def connections() -> int:
    """How many there are in memory."""
    return sum(isinstance(thing, Connection) for thing in gc.get_objects())


def wait_for_ever(request: Request) -> None:
    """A handler that begins an answer and never ends it."""
    request.start_stream(200, on_disconnect=lambda: None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request(),
        request("PUT", "/", b"value=x"),
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nvalu",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "GET /é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        request("FOO"),
        request(headers=["Connection: upgrade", "Upgrade: h2c"]),
    ],
)
@pytest.mark.parametrize("handler", [wait_for_ever, lambda request: request.respond(200)])
def test_lost_connection_is_freed_at_once(handler, data):
    """Whatever it was doing, and however it was refused."""
    before = connections()
    wire = Wire(handler)
    wire.send(data)
    if not wire.lost:
        wire.disconnect()
    # The harness knows the connection, too.
    wire.transport.protocol = None
    del wire.protocol
    assert connections() == before
