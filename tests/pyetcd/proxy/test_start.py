"""A proxy from its flags: how it finds the members, and what it leaves behind."""

import json
import logging
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from pyetcd.config import Config, parse
from pyetcd.httpd import ListenError
from pyetcd.proxy import ClusterFileError, Proxy
from tests.http import request
from tests.upstream import Upstream, answering, exchange

# Slow for reading the machine's certificates, with every start.
pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def never(error: BaseException) -> None:
    """A proxy that is well does not die."""
    raise AssertionError(error)


def members_answer(peer_url: str, client_url: str) -> bytes:
    """What the peer port of a cluster of one says at `/members`."""
    listed = [{"id": 1, "peerURLs": [peer_url], "name": "a", "clientURLs": [client_url]}]
    body = json.dumps(listed).encode()
    head = b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: 9\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def config_of(directory: Path, port: int, *flags: str) -> Config:
    """Flags of a proxy on this port."""
    own = ["-proxy", "on", "-data-dir", str(directory)]
    return parse([*own, "-listen-client-urls", f"http://127.0.0.1:{port}", *flags], {})


async def test_proxy_finds_members_by_flag_then_by_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second start heeds neither flag nor token."""
    caplog.set_level(logging.INFO)
    port = unused_port()
    ask = request("GET", "/v2/keys/", headers=["Connection: close"])
    async with Upstream(answering(OK)) as client_side, Upstream(answering(b"")) as peer_side:
        peer_side.act = answering(members_answer(peer_side.url, client_side.url))
        for flag, value in (
            ("-initial-cluster", f"a={peer_side.url}"),
            ("-discovery", "http://nowhere.invalid/token"),
            ("-discovery-srv", "nowhere.invalid"),
        ):
            proxy = await Proxy.start(config_of(tmp_path, port, flag, value), die=never)
            try:
                assert await exchange(port, ask) == [(200, b"hi")]
            finally:
                await proxy.stop()
        stored = json.loads((tmp_path / "proxy" / "cluster").read_text())
        assert stored == {"PeerURLs": [peer_side.url]}
    messages = caplog.messages
    assert f"listening for client requests on http://127.0.0.1:{port}" in messages
    file = tmp_path / "proxy" / "cluster"
    for way in ("discovery token", "DNS SRV discovery"):
        assert (
            f"{way} ignored since the proxy has already been initialized. Valid cluster file found"
            f' at "{file}"'
        ) in messages


async def test_proxy_that_cannot_start_leaves_nothing_open(tmp_path: Path) -> None:
    """A port that is taken, and a file that is broken; the port is free again after each."""
    port = unused_port()
    first = await Proxy.start(
        config_of(tmp_path, port, "-initial-cluster", "a=http://127.0.0.1:1"), die=never
    )
    try:
        with pytest.raises(ListenError, match="address already in use"):
            await Proxy.start(config_of(tmp_path, port), die=never)
    finally:
        await first.stop()
    (tmp_path / "proxy" / "cluster").write_text("{")
    for _ in range(2):
        with pytest.raises(ClusterFileError):
            await Proxy.start(config_of(tmp_path, port), die=never)
