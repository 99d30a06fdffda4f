"""Clients that connect and say nothing, or half of something, on each port of a real member."""

import selectors
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.processes import OTHER_SERVER, Member, free_port, request, wait_for
from tests.cluster.test_tls import Files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="etcd waits for ever"),
]

# As docs/security.md says, and the seconds that a busy machine may add.
HANDSHAKE_SECONDS, HEAD_SECONDS, LATE_SECONDS = 10.0, 30.0, 5.0
# Others are answered at once meanwhile.
ANSWER_SECONDS = 2.0
# Of each kind on each port.
CLIENTS = 5
WHOLE = b"GET /version HTTP/1.1\r\nHost: member\r\n\r\n"
# What ends after the handshake of TLS, or without one.
PARTS = {"nothing": b"", "half a line": WHOLE[:8], "half a head": WHOLE[:-2]}
# The beginning of a record of 512 bytes, which holds a ClientHello.
HALF_HELLO = bytes((22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def member(tmp_path: Path, files: Files) -> Iterator[Member]:
    """It listens with and without TLS, for clients and for members."""
    member = Member("infra0", tmp_path)
    urls = {"client": member.client_url, "peer": member.peer_url}
    for kind, url in urls.items():
        at = member.flags.index(f"-listen-{kind}-urls")
        member.flags[at + 1] += f",https://127.0.0.1:{free_port()}"
        member.flags[at + 3] = url
    member.flags += [*files.flags(), "-initial-cluster", f"infra0={member.peer_url}"]
    try:
        member.start()
        member.wait_serving()
        yield member
    finally:
        member.close()


def test_silent_clients_are_dropped_in_time_and_hold_nobody_up(
    member: Member, files: Files
) -> None:
    """No handshake, half of one, no request, half of one, half of the second: all are dropped."""
    at = {it: member.flags.index(f"-listen-{it}-urls") + 1 for it in ("client", "peer")}
    urls = [url for it in at.values() for url in member.flags[it].split(",")]
    assert len(urls) == 4
    tls = files.context(files.client)
    descriptors = len(member.descriptors())
    with selectors.DefaultSelector() as silent:
        for url in urls:
            for _ in range(CLIENTS):
                fill(silent, url, tls if url.startswith("https:") else None)
        while silent.get_map():
            for key, _ in silent.select(0.2):
                *what, limit, began = key.data
                assert is_closed(key.fileobj), f"{what} was answered"
                seconds = time.monotonic() - began
                assert limit - 2 < seconds < limit + LATE_SECONDS, f"{what} after {seconds} s"
                silent.unregister(key.fileobj)
            for url in urls:
                asked_at = time.monotonic()
                context = tls if url.startswith("https:") else None
                assert request(f"{url}/version", tls=context).status == 200
                assert time.monotonic() - asked_at < ANSWER_SECONDS
            for key in silent.get_map().values():
                *what, limit, began = key.data
                assert time.monotonic() - began < limit + LATE_SECONDS, f"{what} is still there"
    wait_for(lambda: len(member.descriptors()) <= descriptors, 10, "their descriptors to be free")
    assert "Traceback" not in member.log


def fill(silent: selectors.BaseSelector, url: str, context: ssl.SSLContext | None) -> None:
    """Open connections of all kinds."""
    if context is not None:
        for hello in (b"", HALF_HELLO):
            add(silent, connect(url, None), hello, url, "in the handshake", HANDSHAKE_SECONDS)
    for said, sent in PARTS.items():
        add(silent, connect(url, context), sent, url, said, HEAD_SECONDS)
        if sent:
            asked = connect(url, context)
            asked.sendall(WHOLE)
            assert b" 200 " in asked.recv(65536)
            add(silent, asked, sent, url, f"{said} again", HEAD_SECONDS)


def connect(url: str, context: ssl.SSLContext | None) -> socket.socket:
    """A connection, after the handshake if there is to be one."""
    parts = urlsplit(url)
    plain = socket.create_connection((parts.hostname, parts.port), timeout=10)
    if context is None:
        return plain
    return context.wrap_socket(plain, server_hostname=parts.hostname)


def add(
    silent: selectors.BaseSelector, client: socket.socket, sent: bytes, *what: str | float
) -> None:
    """Send that much, and no more."""
    if sent:
        client.sendall(sent)
    silent.register(client, selectors.EVENT_READ, (*what, time.monotonic()))


def is_closed(client: object) -> bool:
    """Whether there is nothing to be read but the end."""
    assert isinstance(client, socket.socket)
    with client:
        try:
            return client.recv(1) == b""
        except OSError:
            return True
