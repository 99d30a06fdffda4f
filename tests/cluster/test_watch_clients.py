"""Proves that clients that watch cost a member nothing once they are gone, and little before."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cluster.processes import Cluster, Member, wait_for

pytestmark = pytest.mark.slow

WATCHES = 10_000
AT_ONCE = 500
# What a member may have gained in the end: allocators round, and keep some for the next time.
SLACK_KIB = 3 * 1024
# Of the events that a client does not read, the member holds so much; see `httpd.pipeline.Limits`.
STREAM_BYTES = 4 << 20
ELECTION_TIMEOUTS_SECONDS = 5.0


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """One member."""
    with Cluster(tmp_path, size=1) as cluster:
        yield cluster.members[0]


def address(member: Member) -> tuple[str, int]:
    host, _, port = member.client_url.removeprefix("http://").partition(":")
    return host, int(port)


def watch_request(path: str) -> bytes:
    return f"GET /v2/keys/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def watchers(member: Member) -> int:
    count: int = member.request("GET", "/v2/stats/store").json()["watchers"]
    return count


def resident_kib(member: Member) -> int:
    """The memory that the process has in use."""
    assert member.process is not None
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


async def watch_and_leave(member: Member, count: int) -> None:
    """So many watches of all kinds at once, each gone after its header has come."""
    host, port = address(member)

    async def one(number: int) -> None:
        kind = ("wait=true", "wait=true&recursive=true", "wait=true&stream=true")[number % 3]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(watch_request(f"dir/{number % 7}?{kind}"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()

    await asyncio.gather(*(one(number) for number in range(count)))


def test_10000_watches_that_came_and_went_leave_nothing(member: Member) -> None:
    """Neither memory nor descriptors nor watchers."""

    def settled() -> bool:
        return watchers(member) == 0 and len(member.descriptors()) <= descriptors

    asyncio.run(watch_and_leave(member, AT_ONCE))  # whatever is made once is made by now
    wait_for(lambda: watchers(member) == 0, 10, "the first watches to be gone")
    descriptors = len(member.descriptors())
    before = resident_kib(member)
    for _ in range(WATCHES // AT_ONCE):
        asyncio.run(watch_and_leave(member, AT_ONCE))
    wait_for(settled, 10, "watches and descriptors to be gone")
    assert resident_kib(member) - before < SLACK_KIB
    assert member.put("dir/0", "x").status == 201


def test_stream_that_is_not_read_is_closed_at_a_bound(member: Member) -> None:
    """It costs no more memory than the bound, and nobody else anything."""
    with closing(socket.socket()) as client:
        # A small window, so that the kernel keeps little for it.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address(member))
        client.sendall(watch_request("big?wait=true&stream=true"))
        wait_for(lambda: watchers(member) == 1, 10, "the stream")
        before = resident_kib(member)
        sent = 0
        while watchers(member) and sent < 100 * STREAM_BYTES:
            sent += len(member.put("big", "x" * 100_000).body)
        assert STREAM_BYTES < sent < 10 * STREAM_BYTES
        assert resident_kib(member) - before < 20 * STREAM_BYTES // 1024
        client.settimeout(10)
        received = 0
        try:
            while part := client.recv(1 << 20):
                received += len(part)
        except ConnectionResetError:
            pass
        assert received < sent, "it was not closed"


def test_watch_stands_while_there_is_no_leader(tmp_path: Path) -> None:
    """For longer than an election timeout; it is told once there is one again."""
    with Cluster(tmp_path) as cluster, closing(socket.socket()) as client:
        survivor, *others = cluster.members
        client.connect(address(survivor))
        client.sendall(watch_request("k?wait=true"))
        client.settimeout(10)
        head = client.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 ")
        for other in others:
            other.kill()
        client.settimeout(ELECTION_TIMEOUTS_SECONDS)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.recv(65536)
        assert time.monotonic() - began >= ELECTION_TIMEOUTS_SECONDS - 0.1
        for other in others:
            other.start()
        wait_for(lambda: survivor.put("k", "after").status == 201, 30, "a leader")
        client.settimeout(10)
        assert b'"value":"after"' in client.recv(65536)
