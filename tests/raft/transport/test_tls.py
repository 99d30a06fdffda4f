"""Members talk over TLS where their URLs say https, and only to those they trust."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from tests.raft.transport.conftest import Run
from tests.raft.transport.members import QUICK, Member, cluster, heartbeat, install, until

# Made for these tests and good for nothing else: 127.0.0.1, signed by itself, until 2100.
KEY_AND_CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1rqHnWQvRwhw9Phb
QxKsGelWPW1NICt6RUliUF5KNkahRANCAATkM5LNEc5W80Wq8oo5cV18TxdpbPJt
kgCYo8vIfOlbBnY9dRgeVFts0m2kx9o18X28sl9fJTdrXP/R1XeHcjDy
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBYDCCAQagAwIBAgIBATAKBggqhkjOPQQDAjAWMRQwEgYDVQQDDAtweWV0Y2Qg
dGVzdDAgFw0wMDAxMDEwMDAwMDBaGA8yMTAwMDEwMTAwMDAwMFowFjEUMBIGA1UE
AwwLcHlldGNkIHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATkM5LNEc5W
80Wq8oo5cV18TxdpbPJtkgCYo8vIfOlbBnY9dRgeVFts0m2kx9o18X28sl9fJTdr
XP/R1XeHcjDyo0MwQTAPBgNVHREECDAGhwR/AAABMA8GA1UdEwEB/wQFMAMBAf8w
HQYDVR0OBBYEFBE5ljU4/kpfJqoS80Gg23Voxg3rMAoGCCqGSM49BAMCA0gAMEUC
IFU0GnTdriV6htfcNGxCqTARcQVEfp0pmjZ1uoB34tRMAiEA079WxB7MHs2l62tU
SbYAzkVDXyx5K2Aw0MOUoCZ5/Po=
-----END CERTIFICATE-----
"""


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "member.pem"
    path.write_text(KEY_AND_CERTIFICATE)
    return path


def contexts(pem: Path, *, trust: bool) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's side; both show a certificate and want to see one."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pem)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=pem if trust else None)
    for context in (server, client):
        context.load_cert_chain(pem)
    return server, client


def test_tls_members_exchange_messages_and_snapshots(run: Run, pem: Path) -> None:
    """Streams and snapshots work the same over an encrypted connection."""

    async def scenario() -> None:
        server, client = contexts(pem, trust=True)
        a = Member(1, server_tls=server, client_tls=client)
        b = Member(2, server_tls=server, client_tls=client)
        a.disk.sent = [bytes(300_000)] * 3
        async with cluster(a, b):
            a.transport.send([heartbeat(1, 2, 5), install(1, 2)])
            await until(lambda: b.commits == [5] and a.snapshots == [(2, True)])
            b.transport.send([heartbeat(2, 1, 6)])
            await until(lambda: a.commits == [6])
            assert b"".join(b.disk.received) == bytes(900_000)

    run(scenario())


def test_tls_without_trust_connects_nobody(run: Run, pem: Path) -> None:
    """A certificate that is not trusted is a peer that is not there."""

    async def scenario() -> None:
        server, distrustful = contexts(pem, trust=False)
        a, b = Member(1, client_tls=distrustful), Member(2, server_tls=server)
        async with cluster(a, b, connect=False):
            a.add(b)
            await until(lambda: a.transport._peers[2]._last_failure)
            assert "certificate" in a.transport._peers[2]._last_failure
            assert a.transport.active_since(2) is None

    run(scenario())


def test_tls_peer_port_drops_whoever_does_not_shake_hands(run: Run, pem: Path) -> None:
    """A client that connects and is silent does not hold its descriptor for ever."""

    async def scenario() -> None:
        server, client = contexts(pem, trust=True)
        tuning = replace(QUICK, handshake_seconds=0.05)
        a = Member(1, tuning=tuning, server_tls=server, client_tls=client)
        async with cluster(a):
            reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
            try:
                assert await reader.read() == b""
            except ConnectionError:
                pass  # reset, which says the same
            writer.close()

    run(scenario())


def test_tls_port_may_have_a_plain_one_beside_it(run: Run, pem: Path) -> None:
    """A member that listens on https and on http is reached on both."""

    async def scenario() -> None:
        server, client = contexts(pem, trust=True)
        a, b = Member(1, client_tls=client), Member(2, client_tls=client)
        c = Member(3, server_tls=server)
        async with cluster(a, b, connect=False):
            plain = ("localhost", 0)
            secure = ("127.0.0.1", 0)
            c.addresses = await c.transport.start([secure, plain], plain=[plain])
            ports = [port for _, port in c.addresses]
            for dialer, scheme, port in zip((a, b), ("https", "http"), ports, strict=True):
                dialer.transport.add_peer(3, [f"{scheme}://127.0.0.1:{port}"])
                await dialer.reach(c)
            await c.transport.stop()

    run(scenario())
