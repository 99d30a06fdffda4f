"""Real sockets on loopback: addresses, errors of binding, and the end of a listener."""

import asyncio
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pyetcd.httpd import (
    Handler,
    Limits,
    Listener,
    ListenError,
    Request,
    Stream,
    bind_tcp,
    bind_unix,
    vigil,
)
from tests.authority import Authority
from tests.http import Response, answer_with, read_responses, request

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    uvloop.new_event_loop,
    asyncio.new_event_loop,
]


@pytest.fixture(params=LOOPS, ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Run a coroutine on each kind of loop; errors of callbacks fail the test."""

    def run_on_loop(main: Awaitable[None]) -> None:
        errors: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: errors.append(context))
            runner.run(asyncio.wait_for(main, 10))
        assert not errors, errors

    return run_on_loop


@asynccontextmanager
async def serving(handler: Handler, *sockets: socket.socket) -> AsyncIterator[Listener]:
    """A listener on these sockets; closed even if the test fails, else uvloop would not end."""

    def crash(exc: BaseException) -> None:
        raise exc

    listener = Listener(handler, clock=lambda: 0.0, on_crash=crash)
    await listener.start(*sockets)
    try:
        yield listener
    finally:
        await listener.close(grace_seconds=0.01)


async def ask(port: int, data: bytes, host: str = "127.0.0.1") -> list[Response]:
    """Send bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return read_responses(received, closed=True)


CLOSING = request(headers=["Connection: close"])


def test_loop_stays_awake_for_a_moment_after_an_answer(
    run: Callable[[Awaitable[None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives way in each of its turns; then it sleeps until somebody comes."""
    now, yields = [1_000.0], [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(os, "sched_yield", lambda: yields.__setitem__(0, yields[0] + 1))

    async def turns_awake() -> int:
        before = yields[0]
        for _ in range(10):
            await asyncio.sleep(0)
        return yields[0] - before

    async def main() -> None:
        bound = bind_tcp("127.0.0.1", 0)
        async with serving(answer_with(200, b"hi"), bound):
            await ask(bound.getsockname()[1], CLOSING)
            assert await turns_awake() == 10
            now[0] += 2 * vigil.SECONDS
            await turns_awake()
            assert await turns_awake() == 0

    run(main())


def test_listener_serves_many_sockets(
    run: Callable[[Awaitable[None]], None], tmp_path: Path
) -> None:
    """TCP and unix sockets, one handler, nothing left at the end."""

    async def main() -> None:
        seen: list[str] = []

        def handler(got: Request) -> None:
            seen.append(got.remote_address)
            got.respond(200, b"", b"hi")

        first, second = bind_tcp("127.0.0.1", 0), bind_tcp("127.0.0.1", 0)
        path = str(tmp_path / "sock")
        ports = [bound.getsockname()[1] for bound in (first, second)]
        async with serving(handler, first, second) as listener:
            await listener.start(bind_unix(path))
            for port in ports:
                assert (await ask(port, CLOSING))[0].body == b"hi"
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(CLOSING)
            assert b"200 OK" in await reader.read()
            writer.close()
            assert [bool(address) for address in seen] == [True, True, False]
            await listener.close(grace_seconds=5)
            assert listener.connections == 0
            with pytest.raises(ConnectionRefusedError):
                await ask(ports[0], CLOSING)

    run(main())


def test_listener_pipelines_and_refuses_on_real_sockets(
    run: Callable[[Awaitable[None]], None],
) -> None:
    """The lingering end of a refusal lets the client read it."""

    async def main() -> None:
        bound = bind_tcp("", 0)
        async with serving(answer_with(200, b"hi"), bound) as listener:
            port = bound.getsockname()[1]
            responses = await ask(port, request() * 50 + b"nonsense\r\n\r\n" + b"x" * 300_000)
            assert [response.status for response in responses] == [200] * 50 + [400]
            await listener.close(grace_seconds=5)

    run(main())


def test_listener_closing_ends_streams_and_finishes_answers(
    run: Callable[[Awaitable[None]], None],
) -> None:
    """Idle connections at once, answers when they come, streams with their last chunk."""

    async def main() -> None:
        started = asyncio.Event()
        kept: list[Request] = []
        streams: list[Stream] = []

        def handler(got: Request) -> None:
            if got.path == b"/stream":
                streams.append(got.start_stream(200))
                streams[0].write(b"abc")
            elif got.path == b"/later":
                kept.append(got)
            if kept and streams:
                started.set()

        bound = bind_tcp("127.0.0.1", 0)
        async with serving(handler, bound) as listener:
            port = bound.getsockname()[1]
            _, idle = await asyncio.open_connection("127.0.0.1", port)
            stream = asyncio.create_task(ask(port, request("GET", "/stream")))
            later = asyncio.create_task(ask(port, request("GET", "/later")))
            await started.wait()
            closing = asyncio.create_task(listener.close(grace_seconds=8))
            assert (await stream)[0].body == b"abc"
            assert (await stream)[0].framing == "chunked"
            kept[0].respond(200, b"", b"late")
            assert (await later)[0].body == b"late"
            await closing
            idle.close()

    run(main())


def test_listener_closing_drops_what_takes_too_long(
    run: Callable[[Awaitable[None]], None],
) -> None:
    """The bound holds whatever the handlers do."""

    async def main() -> None:
        started = asyncio.Event()
        bound = bind_tcp("127.0.0.1", 0)
        async with serving(lambda _: started.set(), bound) as listener:
            _, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])
            writer.write(request())
            await started.wait()
            await listener.close(grace_seconds=0.01)
            assert listener.connections == 0
            writer.close()

    run(main())


# Python's own loop, which no server runs on, may drop such a client by itself, and late.
@pytest.mark.parametrize("run", [uvloop.new_event_loop], indirect=True, ids=["uvloop"])
@pytest.mark.parametrize("turns", range(5))
def test_listener_closing_leaves_no_connection_that_was_being_made(
    run: Callable[[Awaitable[None]], None], turns: int
) -> None:
    """Between the kernel's accepting a client and its first byte the loop takes a few turns.

    A request of such a client is not taken any more: what would answer it is being stopped.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        late: list[Request] = []
        is_closed = False

        def handler(got: Request) -> None:
            if is_closed:
                late.append(got)
            got.respond(200, b"", b"hi")

        bound = bind_tcp("127.0.0.1", 0)
        async with serving(handler, bound) as listener:
            with socket.create_connection(bound.getsockname()) as client:
                client.setblocking(False)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await listener.close(grace_seconds=5)
                is_closed = True
                with suppress(ConnectionError):
                    await loop.sock_sendall(client, request("PUT", "/v2/keys/late"))
                    async with asyncio.timeout(5):
                        assert await loop.sock_recv(client, 100) == b""
            assert listener.connections == 0
            assert late == []

    run(main())


def test_listener_tells_of_a_client_that_resets(run: Callable[[Awaitable[None]], None]) -> None:
    """A disconnect is told without a write."""

    async def main() -> None:
        started, gone = asyncio.Event(), asyncio.Event()

        def handler(got: Request) -> None:
            got.on_disconnect = gone.set
            started.set()

        bound = bind_tcp("127.0.0.1", 0)
        async with serving(handler, bound) as listener:
            _, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])
            writer.write(request())
            await started.wait()
            writer.transport.abort()
            await gone.wait()
            await listener.close(grace_seconds=5)

    run(main())


def test_listener_stream_to_client_that_does_not_read_is_cut(
    run: Callable[[Awaitable[None]], None],
) -> None:
    """The real transports report their buffers as the fake one does."""

    async def main() -> None:
        started, gone = asyncio.Event(), asyncio.Event()
        streams: list[Stream] = []

        def handler(got: Request) -> None:
            streams.append(got.start_stream(200, b"", gone.set))
            started.set()

        bound = bind_tcp("127.0.0.1", 0)
        async with serving(handler, bound) as listener:
            with socket.create_connection(bound.getsockname()) as client:
                client.sendall(request())
                await started.wait()
                written = 0
                while not gone.is_set():
                    streams[0].write(b"x" * 100_000)
                    written += 1
                    assert streams[0].buffered <= Limits().stream_bytes + 100_020
                    await asyncio.sleep(0)
                assert written > 10
            await listener.close(grace_seconds=5)

    run(main())


def test_listener_survives_running_out_of_files() -> None:
    """A client that cannot be accepted is lost, the server is not (uvloop, as in production)."""

    async def main() -> None:
        bound = bind_tcp("127.0.0.1", 0)
        async with serving(answer_with(200, b"hi"), bound) as listener:
            address = bound.getsockname()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            clients = [socket.socket() for _ in range(8)]
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (max(map(socket.socket.fileno, clients)), hard)
            )
            try:
                for client in clients:
                    client.connect(address)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert listener.connections < len(clients)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for client in clients:
                    client.close()
            assert (await ask(address[1], CLOSING))[0].body == b"hi"
            await listener.close(grace_seconds=5)

    uvloop.run(main())


def test_listener_timer_renews_the_date_and_ends_with_it(
    run: Callable[[Awaitable[None]], None],
) -> None:
    """The one timer of a listener: armed by start, gone after close."""

    async def main() -> None:
        async with serving(answer_with(200), bind_tcp("127.0.0.1", 0)) as listener:
            timer = listener._timer
            assert timer is not None
            listener._fire(asyncio.get_running_loop())
            assert listener._timer is not timer
            timer.cancel()
            await listener.close(grace_seconds=1)
            assert listener._timer is None
            await listener.close(grace_seconds=1)

    run(main())


def test_bind_to_taken_address_names_it_as_go_does() -> None:
    """The text is what operators and test suites look for."""
    with bind_tcp("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(ListenError) as raised:
            bind_tcp("127.0.0.1", port)
    assert str(raised.value) == f"listen tcp 127.0.0.1:{port}: bind: address already in use"


def test_bind_without_free_files_says_so() -> None:
    """The reason is the kernel's, not the address's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(ListenError) as raised:
            bind_tcp("::1", 80)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert str(raised.value) == "listen tcp [::1]:80: socket: too many open files"


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("192.0.2.1", "listen tcp 192.0.2.1:0: bind: cannot assign requested address"),
        ("no such host", "listen tcp: lookup no such host: no such host"),
        ("a" * 70, f"listen tcp: lookup {'a' * 70}: no such host"),
    ],
)
def test_bind_to_impossible_address_says_why(host: str, text: str) -> None:
    """An address of another machine, and no address at all."""
    with pytest.raises(ListenError) as raised:
        bind_tcp(host, 0)
    assert str(raised.value) == text


def test_bind_sets_options_for_quick_restart_and_dead_clients() -> None:
    """Accepted sockets inherit the probes."""
    with bind_tcp("127.0.0.1", 0) as bound:
        bound.listen()
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        with socket.create_connection(bound.getsockname()), bound.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_bind_to_all_addresses_takes_both_families() -> None:
    """An empty host means IPv4 and IPv6, where the machine has it."""
    with bind_tcp("", 0) as bound:
        bound.listen()
        socket.create_connection(("127.0.0.1", bound.getsockname()[1])).close()


def test_bind_unix_replaces_a_dead_socket_only(tmp_path: Path) -> None:
    """A file left by a crash must not prevent the restart; a living server must."""
    path = str(tmp_path / "sock")
    bind_unix(path).close()
    with bind_unix(path) as bound:
        bound.listen()
        with pytest.raises(ListenError) as raised:
            bind_unix(path)
    assert str(raised.value) == f"listen unix {path}: bind: address already in use"


def test_bind_unix_in_missing_directory_says_why(tmp_path: Path) -> None:
    """The reason is the kernel's."""
    with pytest.raises(ListenError, match="bind: no such file or directory"):
        bind_unix(str(tmp_path / "none" / "sock"))


def test_listener_over_tls_serves_and_drops_whoever_does_not_shake_hands(
    run: Callable[[Awaitable[None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence and plain HTTP cost a connection of theirs; others are served all the while."""
    authority = Authority(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("server"))
    client = ssl.create_default_context(cafile=authority.path)

    async def main() -> None:
        patient, strict = bind_tcp("127.0.0.1", 0), bind_tcp("127.0.0.1", 0)
        async with serving(answer_with(200, b"hi")) as listener:
            await listener.start(patient, ssl=server)
            monkeypatch.setattr("pyetcd.httpd.listener.HANDSHAKE_SECONDS", 0.05)
            await listener.start(strict, ssl=server)
            port = strict.getsockname()[1]
            silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
            plain, plain_writer = await asyncio.open_connection("127.0.0.1", port)
            plain_writer.write(CLOSING)
            port = patient.getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            writer.write(CLOSING)
            (response,) = read_responses(await reader.read(), closed=True)
            assert response.body == b"hi"
            for cut, opened in ((silent, silent_writer), (plain, plain_writer)):
                try:
                    assert await cut.read() == b""
                except ConnectionError:
                    pass  # closed with our bytes unread
                opened.close()
            writer.close()

    run(main())
