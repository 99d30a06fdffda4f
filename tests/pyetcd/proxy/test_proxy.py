"""What a proxy does with requests, between a real client and servers that misbehave on purpose."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from aiohttp.test_utils import unused_port

from pyetcd.httpd import Listener, bind_tcp
from pyetcd.proxy.cluster_file import ClusterFile
from pyetcd.proxy.director import Director
from pyetcd.proxy.proxy import LOOP_HEADER, Forwarder
from pyetcd.relay import Limits, Relay
from tests.http import read_responses, request
from tests.pyetcd.bootstrap.network import FakeNetwork
from tests.upstream import Upstream, answering, breaking_off, exchange, silent

pytestmark = pytest.mark.asyncio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Etcd-Index: 7\r\n\r\nhi"
LIMITS = Limits(connect_seconds=1, write_seconds=5, read_seconds=0)
CLOSE = ("Connection: close",)


class InOrder(Random):
    """Leaves lists as they are."""

    def shuffle(self, x: object) -> None:
        """Do nothing."""


def refused_url() -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{unused_port()}"


@asynccontextmanager
async def proxy_of(
    urls: Sequence[str],
    directory: Path,
    *,
    limits: Limits = LIMITS,
    readonly: bool = False,
    drops_cors: bool = False,
) -> AsyncIterator[int]:
    """A proxy of members with these client URLs, asked in this order; gives its port."""
    director = Director(
        ("http://p:1",),
        FakeNetwork().network(),
        ClusterFile(directory),
        failure_wait_seconds=5,
        refresh_seconds=30,
        clock=asyncio.get_running_loop().time,
        rng=InOrder(),
    )
    director.update(urls)
    crashes: list[BaseException] = []
    relay = Relay(limits)
    forwarder = Forwarder(
        director,
        relay,
        proxy_id="1d",
        readonly=readonly,
        on_crash=crashes.append,
        drops_cors=drops_cors,
    )
    listener = Listener(forwarder.handle, clock=lambda: 0.0, on_crash=crashes.append)
    bound = bind_tcp("127.0.0.1", 0)
    await listener.start(bound)
    try:
        yield bound.getsockname()[1]
    finally:
        await listener.close(grace_seconds=0.01)
        await forwarder.close()
        await relay.close()
    assert crashes == []


async def test_request_passes_through_with_its_headers(tmp_path: Path) -> None:
    """Target, body and headers as they are, but for those of the connection; one id is added."""
    async with (
        Upstream(answering(OK)) as member,
        proxy_of([member.url], tmp_path) as port,
    ):
        host = member.url.removeprefix("http://")
        headers = [
            "Connection: close, X-Hop",
            "X-Hop: 1",
            "TE: trailers",
            "Accept-Encoding: gzip",
            "X-Forwarded-For: 9.9.9.9",
            "X-Etcd-Proxy: aa",
            "Authorization: Basic eA==",
        ]
        sent = request("PUT", "/v2/keys/a%20b?x=%C3%BC&y", b"value=1", headers)
        assert await exchange(port, sent) == [(200, b"hi")]
    (seen,) = member.requests
    head, _, body = seen.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert body == b"value=1"
    assert lines[0] == "PUT /v2/keys/a%20b?x=%C3%BC&y HTTP/1.1"
    assert sorted(line.lower() for line in lines[1:]) == [
        "accept-encoding: gzip",
        "authorization: basic ea==",
        "content-length: 7",
        f"host: {host}",
        "x-etcd-proxy: aa,1d",
        "x-forwarded-for: 9.9.9.9, 127.0.0.1",
    ]


async def test_answer_passes_back_with_its_headers(tmp_path: Path) -> None:
    """All but those of the connection; `-cors` of the proxy replaces that of the members."""
    answer = (
        b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 2\r\nConnection: X-Hop\r\n"
        b"X-Hop: 1\r\nDate: then\r\nX-Etcd-Index: 7\r\nX-Two: a\r\nX-Two: b\r\n"
        b"Access-Control-Allow-Origin: *\r\n\r\n{}"
    )
    async with (
        Upstream(answering(answer)) as member,
        proxy_of([member.url], tmp_path, drops_cors=True) as port,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/", headers=CLOSE))
        (got,) = read_responses(await reader.read(), closed=True)
        writer.close()
        await writer.wait_closed()
    assert (got.status, got.body) == (412, b"{}")
    names = [name for name, _ in got.headers]
    assert sorted(names) == sorted(
        ["X-Etcd-Index", "X-Two", "X-Two", "Date", "Content-Length", "Connection"]
    )
    assert got.header("Date") != "then"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_member_that_cannot_be_reached_is_passed_by(tmp_path: Path, method: str) -> None:
    """Nobody has seen the request, so even a write may go to the next."""
    async with (
        Upstream(answering(OK)) as member,
        proxy_of([refused_url(), member.url], tmp_path) as port,
    ):
        assert await exchange(port, request(method, headers=CLOSE)) == [(200, b"hi")]
        assert await exchange(port, request(method, headers=CLOSE)) == [(200, b"hi")]
    assert len(member.requests) == 2


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
async def test_write_that_may_have_reached_a_member_is_not_sent_twice(
    tmp_path: Path, method: str
) -> None:
    """Neither to the same member on a new connection, nor to another one."""
    async with (
        Upstream(breaking_off) as first,
        Upstream(answering(OK)) as second,
        proxy_of([first.url, second.url], tmp_path) as port,
    ):
        sent = request(method, "/v2/keys/a", b"value=1", CLOSE)
        ((status, body),) = await exchange(port, sent)
    assert status == 502
    assert json.loads(body) == {
        "message": "proxy: no response, the request may or may not have been done"
    }
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_write_on_a_kept_connection_is_not_sent_twice(tmp_path: Path) -> None:
    """A connection that broke while idle looks the same as one that broke at work."""

    async def once(_: bytes, writer: asyncio.StreamWriter) -> None:
        if len(member.requests) > 1:
            raise ConnectionResetError
        writer.write(OK)

    async with Upstream(once) as member, proxy_of([member.url], tmp_path) as port:
        sent = request("PUT", "/", b"value=1", CLOSE)
        assert await exchange(port, sent) == [(200, b"hi")]
        ((status, _),) = await exchange(port, sent)
        assert status == 502
        assert len(member.requests) == 2


async def test_read_is_sent_to_the_next_member(tmp_path: Path) -> None:
    """Once to each, whether the head or the body of the answer fails to come."""
    truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"

    async def cut(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(truncated)
        raise ConnectionResetError

    async with (
        Upstream(breaking_off) as first,
        Upstream(cut) as second,
        Upstream(answering(OK)) as third,
        proxy_of([first.url, second.url, third.url], tmp_path) as port,
    ):
        assert await exchange(port, request("GET", headers=CLOSE)) == [(200, b"hi")]
    assert [len(member.requests) for member in (first, second, third)] == [1, 1, 1]


async def test_no_endpoint_is_503(tmp_path: Path) -> None:
    """A JSON message, first for members that all fail, then for none that is left."""
    async with proxy_of([refused_url(), refused_url()], tmp_path) as port:
        for text in (
            "proxy: unable to get response from 2 endpoint(s)",
            "proxy: zero endpoints currently available",
        ):
            ((status, body),) = await exchange(port, request("PUT", headers=CLOSE))
            assert (status, json.loads(body)) == (503, {"message": text})


async def test_reads_that_nobody_answers_are_502(tmp_path: Path) -> None:
    """There are members, but they break off."""
    async with Upstream(breaking_off) as member, proxy_of([member.url], tmp_path) as port:
        ((status, body),) = await exchange(port, request("GET", headers=CLOSE))
    assert status == 502
    assert json.loads(body) == {"message": "proxy: unable to get response from 1 endpoint(s)"}


async def test_answer_with_a_strange_status_is_none(tmp_path: Path) -> None:
    """It cannot be passed on as HTTP."""
    strange = b"HTTP/1.1 999 Strange\r\nContent-Length: 0\r\n\r\n"
    async with Upstream(answering(strange)) as member, proxy_of([member.url], tmp_path) as port:
        ((status, _),) = await exchange(port, request("GET", headers=CLOSE))
    assert status == 502


async def test_read_timeout_ends_the_waiting(tmp_path: Path) -> None:
    """A silent member has failed; the next one is asked."""
    limits = Limits(connect_seconds=1, write_seconds=5, read_seconds=0.05)
    async with (
        Upstream(silent) as first,
        Upstream(answering(OK)) as second,
        proxy_of([first.url, second.url], tmp_path, limits=limits) as port,
    ):
        assert await exchange(port, request("GET", headers=CLOSE)) == [(200, b"hi")]


async def test_write_timeout_ends_a_write_that_is_not_read(tmp_path: Path) -> None:
    """A member that takes no bytes; the write may have reached it all the same."""
    limits = Limits(connect_seconds=1, write_seconds=0.05, read_seconds=0)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's can
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with proxy_of([url], tmp_path, limits=limits) as port:
        ((status, _),) = await exchange(port, request("PUT", "/", bytes(12 << 20), CLOSE))
    assert status == 502
    server.close()
    for writer in held:
        writer.transport.abort()


async def test_large_body_passes_through(tmp_path: Path) -> None:
    """In pieces, and with its length."""
    body = bytes(range(256)) * 2000
    async with Upstream(answering(OK)) as member, proxy_of([member.url], tmp_path) as port:
        assert await exchange(port, request("PUT", "/", body, CLOSE)) == [(200, b"hi")]
    head, _, seen = member.requests[0].partition(b"\r\n\r\n")
    assert seen == body
    assert b"content-length: %d" % len(body) in head.lower()
    assert b"transfer-encoding" not in head.lower()


async def test_head_keeps_its_length(tmp_path: Path) -> None:
    """HEAD has no body but says how long it would be; 204 has neither."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 321\r\n\r\n"
    async with Upstream(answering(head)) as member, proxy_of([member.url], tmp_path) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("HEAD", headers=CLOSE))
        (got,) = read_responses(await reader.read(), ["HEAD"], closed=True)
        writer.close()
        await writer.wait_closed()
    assert got.header("Content-Length") == "321"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with Upstream(answering(empty)) as member, proxy_of([member.url], tmp_path) as port:
        assert await exchange(port, request("PUT", headers=CLOSE)) == [(204, b"")]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _open(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def test_stream_passes_piece_by_piece_and_ends_with_the_client(tmp_path: Path) -> None:
    """The head comes before the first event, and the member's connection does not stay."""
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def stream(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(2):
            writer.write(await events.get())

    async with Upstream(stream) as member, proxy_of([member.url], tmp_path) as port:
        reader, writer = await _open(port, request("GET", "/?wait=true&stream=true"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        for event in (b"2\r\nab\r\n", b"1\r\nc\r\n"):
            events.put_nowait(event)
            assert await reader.readexactly(len(event)) == event
        writer.close()
        await asyncio.wait_for(member.ended.acquire(), 5)


async def test_wait_for_the_head_ends_with_the_client(tmp_path: Path) -> None:
    """A long poll of a server that sends its head with the event."""
    async with Upstream(silent) as member, proxy_of([member.url], tmp_path) as port:
        _, writer = await _open(port, request("GET", "/?wait=true"))
        await asyncio.wait_for(member.arrived.acquire(), 5)
        writer.close()
        await asyncio.wait_for(member.ended.acquire(), 5)


async def test_stream_that_breaks_off_does_not_look_complete(tmp_path: Path) -> None:
    """The client's connection is dropped without the last chunk."""

    async def stream(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"2\r\nab\r\n")
        await writer.drain()
        await asyncio.wait_for(gone.wait(), 5)
        raise ConnectionResetError

    gone = asyncio.Event()
    async with Upstream(stream) as member, proxy_of([member.url], tmp_path) as port:
        reader, writer = await _open(port, request("GET", "/?wait=true"))
        await reader.readuntil(b"ab\r\n")
        gone.set()
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        assert rest == b""
        writer.close()


async def test_slow_client_holds_the_member_back(tmp_path: Path) -> None:
    """What it does not read is not collected: a body larger than any buffer arrives whole."""
    total = 12 << 20
    piece = bytes(1 << 16)

    async def stream(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(total // len(piece)):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()

    async with Upstream(stream) as member, proxy_of([member.url], tmp_path) as port:
        reader, writer = await _open(port, request("GET", headers=CLOSE))
        received = bytearray()
        while data := await reader.read(1 << 20):
            received += data
            await asyncio.sleep(0)
        (got,) = read_responses(bytes(received), closed=True)
        writer.close()
        await writer.wait_closed()
    assert len(got.body) == total


async def test_request_that_comes_back_is_508(tmp_path: Path) -> None:
    """It names this proxy among those it has passed."""
    async with Upstream(answering(OK)) as member, proxy_of([member.url], tmp_path) as port:
        headers = [*CLOSE, f"{LOOP_HEADER}: aa, 1d, bb"]
        ((status, body),) = await exchange(port, request("PUT", headers=headers))
    assert status == 508
    assert "has come back to this proxy" in json.loads(body)["message"]
    assert member.requests == []


async def test_member_that_leads_back_is_passed_by(tmp_path: Path) -> None:
    """Also by a write: nobody but proxies has seen it. With no other member, 508 is the answer."""
    looped = b"HTTP/1.1 508 Loop Detected\r\nx-etcd-proxy: 1d\r\nContent-Length: 0\r\n\r\n"
    async with (
        Upstream(answering(looped)) as first,
        Upstream(answering(OK)) as second,
    ):
        async with proxy_of([first.url, second.url], tmp_path) as port:
            assert await exchange(port, request("PUT", headers=CLOSE)) == [(200, b"hi")]
        async with proxy_of([first.url], tmp_path) as port:
            ((status, body),) = await exchange(port, request("PUT", headers=CLOSE))
    assert status == 508
    assert json.loads(body) == {
        "message": "proxy: the members' client URLs lead back to this proxy"
    }


async def test_readonly_proxy_takes_only_get(tmp_path: Path) -> None:
    """Everything else is 501 and goes nowhere."""
    async with (
        Upstream(answering(OK)) as member,
        proxy_of([member.url], tmp_path, readonly=True) as port,
    ):
        assert await exchange(port, request("GET", headers=CLOSE)) == [(200, b"hi")]
        for method in ("PUT", "POST", "DELETE", "OPTIONS"):
            assert await exchange(port, request(method, headers=CLOSE)) == [(501, b"")]
    assert len(member.requests) == 1


async def test_proxy_tells_its_endpoints(tmp_path: Path) -> None:
    """At the path of etcd's proxies; it is not forwarded."""
    path = "/v2/config/local/proxy"
    async with Upstream(answering(OK)) as member, proxy_of([member.url], tmp_path) as port:
        ((status, body),) = await exchange(port, request("GET", path, headers=CLOSE))
        assert (status, json.loads(body)) == (200, {"endpoints": [member.url]})
        ((status, _),) = await exchange(port, request("PUT", path, headers=CLOSE))
        assert status == 405
        assert await exchange(port, request("OPTIONS", "*", headers=CLOSE)) == [(200, b"")]
    assert member.requests == []


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        ("http://other:1/a/b?c", "/a/b?c"),
        ("http://other:1", "/"),
        ("//x//y", "//x//y"),
        ("/%zz", None),
        ("/a/../b", "/a/../b"),
        ("/?[]{}|^", "/?[]{}|^"),
        ("/a:b@c;d=e,f", "/a:b@c;d=e,f"),
    ],
)
async def test_odd_targets_do_no_harm(tmp_path: Path, target: str, forwarded: str | None) -> None:
    """What is taken is passed on as it is; nothing ends the proxy."""
    async with Upstream(answering(OK)) as member, proxy_of([member.url], tmp_path) as port:
        ((status, _),) = await exchange(port, request("GET", target, headers=CLOSE))
        if forwarded is None:
            assert status == 400
            return
        assert status == 200
    assert re.match(rb"GET (\S+) ", member.requests[0])[1].decode() == forwarded  # type: ignore[index]


async def test_stop_lets_writes_finish(tmp_path: Path) -> None:
    """`drain` waits for a write that has begun, and only so long."""
    release = asyncio.Event()

    async def late(_: bytes, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(OK)

    async with Upstream(late) as member:
        director = Director(
            ("http://p:1",),
            FakeNetwork().network(),
            ClusterFile(tmp_path),
            failure_wait_seconds=5,
            refresh_seconds=30,
            clock=asyncio.get_running_loop().time,
            rng=Random(1),
        )
        director.update([member.url])
        relay = Relay(LIMITS)
        crashes: list[BaseException] = []
        forwarder = Forwarder(
            director, relay, proxy_id="1d", readonly=False, on_crash=crashes.append
        )
        await forwarder.drain(5)
        listener = Listener(forwarder.handle, clock=lambda: 0.0, on_crash=crashes.append)
        bound = bind_tcp("127.0.0.1", 0)
        await listener.start(bound)
        asking = asyncio.ensure_future(
            exchange(bound.getsockname()[1], request("PUT", headers=CLOSE))
        )
        await asyncio.wait_for(member.arrived.acquire(), 5)
        await forwarder.drain(0.01)
        assert not asking.done()
        release.set()
        await forwarder.drain(5)
        await listener.close(grace_seconds=1)
        assert await asking == [(200, b"hi")]
        await forwarder.close()
        await relay.close()
        assert crashes == []
