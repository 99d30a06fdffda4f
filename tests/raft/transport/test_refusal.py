"""Who must not talk to a member is refused at its door, told why, and logged once."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raft.codec import encode_envelopes
from raft.transport.handshake import Hello, MemberRemoved
from tests.raft.transport.conftest import Run
from tests.raft.transport.members import (
    CLUSTER_ID,
    Member,
    cluster,
    heartbeat,
    install,
    stranger,
    until,
)
from tests.raft.transport.test_stream import frame


def request(hello: Hello, path: str = "/raft/stream", **extra: str) -> bytes:
    headers = {"Host": "x", "Connection": "Upgrade", "Upgrade": "raft", **hello.headers(), **extra}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def hello(sender: int = 1, recipient: int = 2, cluster_id: int = CLUSTER_ID) -> Hello:
    return Hello(cluster_id, sender, recipient, "2.3.8", ())


@asynccontextmanager
async def connection(
    member: Member, sent: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", member.port)
    try:
        writer.write(sent)
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass


async def closed_by(reader: asyncio.StreamReader) -> None:
    """Wait until the far side has closed."""
    async with asyncio.timeout(5):
        try:
            while await reader.read(1000):
                pass
        except OSError:
            pass


def test_refusal_of_another_cluster_is_told_to_both_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Repeated attempts neither fill the log nor tell the user again."""

    async def scenario() -> None:
        a, b = Member(1), Member(2, cluster_id=0xBAD)
        async with cluster(a, b, connect=False):
            a.add(b)
            await until(lambda: a.rejections)
            b.add(a)
            await until(lambda: b.rejections)
            failures = a.transport._peers[2]._failures
            await until(lambda: a.transport._peers[2]._failures > failures + 5)
            [(peer_id, error)] = a.rejections
            assert peer_id == 2
            assert "cluster ID mismatch: member 1 belongs to cluster c0ffee" in str(error)
            assert "-initial-cluster-token" in str(error)
            assert len(b.rejections) == 1
            assert a.transport.active_since(2) is None

    with caplog.at_level(logging.INFO, "raft.transport"):
        run(scenario())
    texts = [record.getMessage() for record in caplog.records]
    # Not what members tell each other while the test stops them.
    texts = [text for text in texts if "cluster ID mismatch" in text]
    assert sum("no connection with 2" in text for text in texts) == 1
    assert sum("refused /raft/stream from 127.0.0.1: cluster ID" in text for text in texts) == 2


def test_refusal_of_a_removed_member_is_final(run: Run) -> None:
    """The removed member learns it from anyone, and its streams end."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            b.transport.mark_removed([1])
            await until(lambda: a.rejections)
            assert isinstance(a.rejections[0][1], MemberRemoved)
            assert a.streams_lost == [2]
            assert b.streams_lost == []

    run(scenario())


def test_refusal_for_another_member_names_both(run: Run) -> None:
    """A wrong URL in -initial-cluster is found by the one that is dialed in error."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b, connect=False):
            a.transport.add_peer(3, [b.url])
            a.transport.add_peer(4, [a.url])
            await until(lambda: len(a.rejections) == 2)
            texts = {peer_id: str(error) for peer_id, error in a.rejections}
            assert "this is member 2, not 3" in texts[3]
            assert "this is member 1, not 4" in texts[4]

    run(scenario())


def test_refusal_is_told_again_after_it_had_been_healed(run: Run) -> None:
    """A refusal is news when the peer had been reached since."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            await b.transport.stop()
            b._cluster_id = 0xBAD
            await b.restart()
            await until(lambda: len(a.rejections) == 1)
            await b.transport.stop()
            b._cluster_id = CLUSTER_ID
            await b.restart()
            await a.reach(b)
            await b.transport.stop()
            b._cluster_id = 0xBAD
            await b.restart()
            await until(lambda: len(a.rejections) == 2)

    run(scenario())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(hello(), Upgrade="websocket"), 426),
        (request(hello(), **{"X-Raft-Protocol": "9"}), 426),
        (request(hello(cluster_id=5)), 412),
        (request(hello(sender=2)), 412),
        (request(hello(), **{"X-Server-From": "zz"}), 400),
        (request(hello(), path="/raft/streams"), 404),
        (b"POST /raft/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /raft/stream HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"\x00\x00\x00\x05hello\r\n\r\n", 400),
    ],
)
def test_refusal_on_the_wire_has_its_status(run: Run, sent: bytes, status: int) -> None:
    """The door answers in plain HTTP, with the member's own cluster beside the text."""

    async def scenario() -> None:
        b = Member(2)
        async with cluster(b), connection(b, sent) as (reader, _):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status))
            if status in (412, 426):
                assert b"X-Etcd-Cluster-ID: c0ffee\r\n" in head
            assert b.transport._peers == {}

    run(scenario())


def test_stranger_beyond_the_bound_is_refused(run: Run) -> None:
    """Dialers who claim to be new members cannot fill our memory."""

    async def scenario() -> None:
        b = Member(2)
        async with cluster(b):
            open_ones = []
            for sender in range(100, 116):
                reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
                writer.write(request(hello(sender=sender)))
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                open_ones.append(writer)
            async with connection(b, request(hello(sender=200))) as (reader, _):
                assert b" 503 " in await reader.readuntil(b"\r\n\r\n")
            for writer in open_ones:
                writer.close()
                await writer.wait_closed()
            await until(lambda: b.transport._peers == {})

    run(scenario())


def test_refusals_are_remembered_for_a_bounded_number_of_senders(run: Run) -> None:
    """Dialers with invented names cannot fill our memory, or the log with one of them."""

    async def scenario() -> None:
        b = Member(2)
        async with cluster(b):
            for sender in range(100, 170):
                async with connection(b, request(hello(sender=sender, cluster_id=5))) as (
                    reader,
                    _,
                ):
                    await reader.readuntil(b"\r\n\r\n")
            assert 0 < len(b.transport._server._logged) <= 64

    run(scenario())


@pytest.mark.parametrize("seed", range(6))
def test_malformed_frames_close_the_stream_and_harm_nobody(run: Run, seed: int) -> None:
    """Noise after a good handshake ends that stream; the members go on."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        rng = random.Random(seed)
        good = encode_envelopes([heartbeat(3, 2, 7)])
        broken = bytearray(good)
        broken[rng.randrange(3)] ^= 0x80
        noise = [rng.randbytes(50), b"\x00\x00\x00\x01\xff", frame(bytes(broken))][seed % 3]
        async with cluster(a, b):
            first = request(hello(sender=3))
            async with connection(b, first) as (reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(frame(good))
                await until(lambda: b.commits == [7])
                writer.write(noise)
                writer.write_eof()
                await closed_by(reader)
            a.transport.send([heartbeat(1, 2, 8)])
            await until(lambda: b.commits == [7, 8])

    run(scenario())


def test_envelopes_of_others_are_dropped_and_logged_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream carries messages of its sender to us, and no snapshot without its file."""

    async def scenario() -> None:
        b = Member(2)
        async with cluster(b), connection(b, request(hello(sender=3))) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            wrong = [heartbeat(4, 2, 1), heartbeat(4, 2, 2), heartbeat(3, 1, 3), install(3, 2)]
            writer.write(frame(encode_envelopes([*wrong, heartbeat(3, 2, 9)])))
            await until(lambda: b.envelopes)
            assert b.envelopes == [heartbeat(3, 2, 9)]

    with caplog.at_level(logging.WARNING, "raft.transport"):
        run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "peer 3: sent a message from 4 to 2",
        "peer 3: sent a message from 3 to 1",
        "peer 3: sent a snapshot's message without the snapshot",
    ]


def test_second_stream_of_a_sender_replaces_the_first(run: Run) -> None:
    """A peer that dials again has given up its old stream, whether we saw that or not."""

    async def scenario() -> None:
        b = Member(2)
        async with cluster(b), connection(b, request(hello(sender=3))) as (old, _):
            await old.readuntil(b"\r\n\r\n")
            b.transport.add_peer(3, [])
            async with connection(b, request(hello(sender=3))) as (new, writer):
                await new.readuntil(b"\r\n\r\n")
                await closed_by(old)
                writer.write(frame(encode_envelopes([heartbeat(3, 2, 6)])))
                await until(lambda: b.commits == [6])
                assert b.streams_lost == []
            await until(lambda: b.streams_lost == [3])

    run(scenario())


def test_messages_on_the_stream_that_we_write_close_it(run: Run) -> None:
    """A peer answers on the stream that it dials, never on the one we dialed."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 x\r\n\r\n" + frame(encode_envelopes([heartbeat(3, 1)])))
        await closed_by(reader)

    async def scenario() -> None:
        a = Member(1)
        async with cluster(a), stranger(handle) as url:
            a.transport.add_peer(3, [url])
            await until(lambda: a.unreachable)
            assert a.envelopes == []

    run(scenario())
