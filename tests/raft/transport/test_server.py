"""The peer port: listening, its own small answers, and the routes of others."""

import asyncio
import errno
import logging
import socket

import pytest
from aiohttp import ClientSession

from raft.transport import Reply
from tests.raft.transport.conftest import Run
from tests.raft.transport.members import Member, cluster, heartbeat, until


def test_server_listens_on_several_addresses(run: Run) -> None:
    """Members can be dialed on each of them, as on 2380 and 7001 after a bare start."""

    async def scenario() -> None:
        a, b, c = Member(1), Member(2), Member(3)
        async with cluster(a, b, connect=False):
            c.addresses = await c.transport.start([("127.0.0.1", 0), ("localhost", 0)])
            assert len({port for _, port in c.addresses}) == 2
            for dialer, (host, port) in zip((a, b), c.addresses, strict=True):
                dialer.transport.add_peer(3, [f"http://{host}:{port}"])
                await dialer.reach(c)
                dialer.transport.send([heartbeat(dialer.member_id, 3)])
            await until(lambda: len(c.envelopes) == 2)
            await c.transport.stop()

    run(scenario())


def test_server_on_a_port_in_use_names_the_address_and_listens_nowhere(run: Run) -> None:
    """The text is the one that etcd gives; the other addresses are free again."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a):
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            with pytest.raises(OSError) as failed:
                await b.transport.start([("127.0.0.1", port), ("127.0.0.1", a.port)])
            assert str(failed.value) == (
                f"listen tcp 127.0.0.1:{a.port}: bind: address already in use"
            )
            assert failed.value.errno == errno.EADDRINUSE
            b.addresses = await b.transport.start([("127.0.0.1", port)])
            await b.transport.stop()

    run(scenario())


def test_server_on_a_name_that_is_not_found_says_so(run: Run) -> None:
    """A mistyped -listen-peer-urls is told from a port in use."""

    async def scenario() -> None:
        a = Member(1)
        with pytest.raises(OSError, match=r"^listen tcp no\.such\.invalid:1: "):
            await a.transport.start([("no.such.invalid", 1)])
        await a.transport.stop()

    run(scenario())


def test_server_probing_tells_the_clock(run: Run) -> None:
    """In etcd's words, for whoever measures the distance of the clocks."""

    async def scenario() -> None:
        a = Member(1)
        async with (
            cluster(a),
            ClientSession() as session,
            session.get(f"{a.url}/raft/probing") as response,
        ):
            text = await response.text()
            assert text == '{"OK":true,"Now":"1970-01-01T00:25:00.250000Z"}\n'
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert "X-Etcd-Cluster-ID" not in response.headers

    run(scenario())


def test_server_serves_the_routes_of_others(run: Run) -> None:
    """Operators' routes live on the same port, beside the streams."""

    def page(method: str, path: str) -> Reply:
        return Reply(200, f"{method} {path}".encode())

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.transport.serve_page(page)
        async with cluster(a, b), ClientSession() as session:
            async with session.get(f"{a.url}/members") as response:
                assert await response.text() == "GET /members"
            async with session.head(f"{a.url}/raft/stream") as response:
                assert response.status == 405

    run(scenario())


def test_server_forgets_a_connection_whose_stream_is_lost(run: Run) -> None:
    """Peers that come and go for years leave nothing behind in the HTTP server."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            connections = a.transport._server._listener.connections
            for _ in range(3):
                await b.transport.stop()
                await until(lambda: a.streams_lost)
                a.streams_lost.clear()
                await until(lambda: not connections)
                await b.restart()
                b.add(a)
                await b.reach(a)

    run(scenario())


def test_server_stop_closes_idle_connections_of_operators(run: Run) -> None:
    """A client that keeps its connection open does not hold up the stop."""

    async def scenario() -> None:
        a = Member(1)
        async with cluster(a):
            reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(b"GET /raft/probing HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            await a.transport.stop()
            await reader.read()
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_server_logs_the_changes_of_a_peer(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """One line when a peer comes, one when it goes, in the words of etcd."""

    async def scenario() -> None:
        a, b = Member(1), Member(0xAB)
        async with cluster(a, b):
            await b.transport.stop()
            await until(lambda: a.unreachable)

    with caplog.at_level(logging.INFO, "raft.transport.peer"):
        run(scenario())
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count("the connection with ab became active") == 1
    assert sum(text.startswith("the connection with ab became inactive") for text in texts) == 1
