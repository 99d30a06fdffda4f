"""The discovery service, on a store that is a small fake of etcd."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import click
import pytest
from aiohttp.test_utils import unused_port

from pyetcd.config import parse
from pyetcd.discovery_service import (
    MAX_CLIENTS,
    MAX_EXTRA_REGISTRATIONS,
    MAX_VALUE_BYTES,
    MAX_WAITING,
    REGISTRY,
    REQUESTS_PER_MINUTE,
    DiscoveryService,
    Options,
    Rate,
    Refusal,
    Registry,
    free_port,
    read_options,
    store_flags,
)
from pyetcd.httpd import Listener, bind_tcp
from pyetcd.relay import Limits, Relay
from pyetcd.tls import TlsFiles
from tests.http import read_responses, request
from tests.upstream import Upstream

FORM = "Content-Type: application/x-www-form-urlencoded"
VALUE = "a=http://a:1,a=http://a:2"


class FakeStore:
    """Keys and values below the registry, and the requests that came."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.forms: list[tuple[str, dict[str, list[str]]]] = []
        self.authorizations: set[str] = set()
        self.status = 0

    async def act(self, seen: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer one request; a watch is not answered."""
        head, _, body = seen.decode().partition("\r\n\r\n")
        method, target, _ = head.partition("\r\n")[0].split(" ")
        for line in head.split("\r\n"):
            if line.lower().startswith("authorization: "):
                self.authorizations.add(line.partition(" ")[2])
        parts = urlsplit(target)
        assert parts.path.startswith(f"/base{REGISTRY}")
        key = parts.path.removeprefix(f"/base{REGISTRY}").strip("/")
        if "wait=true" in parts.query:
            return
        status, answer = self._answer(method, key, parse_qs(body))
        text = json.dumps(answer)
        writer.write(
            f"HTTP/1.1 {self.status or status} Whatever\r\nX-Etcd-Index: 5\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
        )

    def _answer(self, method: str, key: str, form: dict[str, list[str]]) -> tuple[int, object]:
        if method == "PUT":
            self.forms.append((key, form))
            if key in self.keys:
                return 412, {"errorCode": 105}
            self.keys[key] = form.get("value", [""])[0]
            return 201, {"node": {"value": self.keys[key]}}
        if method == "DELETE":
            return (200, {}) if self.keys.pop(key, None) else (404, {"errorCode": 100})
        if key not in self.keys:
            return 404, {"errorCode": 100}
        nodes = [{"key": child} for child in self.keys if child.count("/") == 1]
        return 200, {"node": {"value": self.keys[key], "nodes": nodes}}


@asynccontextmanager
async def service_on(
    store_url: str, *, public_url: str = "", per_minute: int = 1000, max_size: int = 9
) -> AsyncIterator[int]:
    """A service with its store at this URL; gives its port."""
    options = Options(
        listen="http://127.0.0.1:1",
        etcd=store_url,
        data_dir=Path("d"),
        public_url=public_url,
        ttl_seconds=100,
        max_size=max_size,
        per_minute=per_minute,
        tls=TlsFiles(),
    )
    crashes: list[BaseException] = []
    relay = Relay(Limits(1, 1, 0))
    registry = Registry(
        options,
        store_url,
        relay,
        clock=asyncio.get_running_loop().time,
        on_crash=crashes.append,
    )
    listener = Listener(registry.handle, clock=lambda: 0.0, on_crash=crashes.append)
    bound = bind_tcp("127.0.0.1", 0)
    await listener.start(bound)
    try:
        yield bound.getsockname()[1]
    finally:
        await listener.close(grace_seconds=0.01)
        await registry.close()
        await relay.close()
    assert crashes == []


async def ask(
    port: int, method: str, target: str, form: dict[str, str] | None = None, host: str = "d.test"
) -> tuple[int, str]:
    """Send one request and return status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = urlencode(form).encode() if form else b""
    sent = request(method, target, body, ["Connection: close", *([FORM] if form else [])])
    writer.write(sent.replace(b"Host: x\r\n", f"Host: {host}\r\n".encode()))
    (response,) = read_responses(await reader.read(), [method], closed=True)
    writer.close()
    await writer.wait_closed()
    return response.status, response.body.decode()


@pytest.mark.asyncio
async def test_new_token_is_a_directory_with_a_size_and_an_end() -> None:
    """Its URL is that of the service as the client calls it; two tokens are never the same."""
    store = FakeStore()
    async with Upstream(store.act) as upstream, service_on(f"{upstream.url}/base") as port:
        status, url = await ask(port, "GET", "/new?size=5", host="d.test:8087")
        assert status == 200
        base, token = url.rsplit("/", 1)
        assert base == "http://d.test:8087"
        assert store.forms == [
            (token, {"dir": ["true"], "ttl": ["100"], "prevExist": ["false"]}),
            (f"{token}/_config/size", {"value": ["5"], "prevExist": ["false"]}),
        ]
        assert (await ask(port, "PUT", "/new"))[1] != url
        assert store.forms[-1][1]["value"] == ["3"]


@pytest.mark.asyncio
async def test_public_url_is_what_tokens_begin_with() -> None:
    """Behind a server that speaks TLS, only the option knows it."""
    store = FakeStore()
    async with (
        Upstream(store.act) as upstream,
        service_on(f"{upstream.url}/base", public_url="https://d.example/x/") as port,
    ):
        assert (await ask(port, "POST", "/new"))[1].startswith("https://d.example/x/")


@pytest.mark.asyncio
async def test_member_registers_once_and_is_shown() -> None:
    """The store answers for itself, and sees nothing of the client but the value."""
    store = FakeStore()
    async with (
        Upstream(store.act) as upstream,
        service_on(upstream.url.replace("//", "//user:pa%40ss@") + "/base") as port,
    ):
        token = (await ask(port, "GET", "/new"))[1].rpartition("/")[2]
        sent = {"value": VALUE, "ttl": "1"}
        assert (await ask(port, "PUT", f"/{token}/ab?prevExist=true", sent))[0] == 201
        assert store.forms[-1] == (f"{token}/ab", {"value": [VALUE], "prevExist": ["false"]})
        assert (await ask(port, "PUT", f"/{token}/ab", sent))[0] == 412
        status, body = await ask(port, "GET", f"/{token}/ab?quorum=false")
        assert (status, json.loads(body)["node"]["value"]) == (200, VALUE)
        assert (await ask(port, "GET", f"/{token}/_config/size"))[0] == 200
        assert (await ask(port, "GET", f"/{token}"))[0] == 200
        assert (await ask(port, "DELETE", f"/{token}/ab"))[0] == 200
        assert (await ask(port, "GET", f"/{token}/ab"))[0] == 404
    assert store.authorizations == {"Basic dXNlcjpwYUBzcw=="}


TOKEN = "0" * 32


@pytest.mark.parametrize(
    ("method", "target", "value", "status"),
    [
        ("GET", "/new?size=0", "", 400),
        ("GET", "/new?size=10", "", 400),
        ("GET", "/new?size=x", "", 400),
        ("GET", "/new?size=%zz", "", 400),
        ("DELETE", "/new", "", 404),
        ("GET", "/nothing", "", 404),
        ("GET", f"/{TOKEN}x", "", 404),
        ("GET", f"/{TOKEN}/a/b/c", "", 404),
        ("PUT", f"/{TOKEN}", VALUE, 403),
        ("DELETE", f"/{TOKEN}", "", 403),
        ("PUT", f"/{TOKEN}/_config", VALUE, 403),
        ("PUT", f"/{TOKEN}/_config/size", "9", 403),
        ("PUT", f"/{TOKEN}/not-an-id", VALUE, 403),
        ("PUT", f"/{TOKEN}/ab", VALUE, 404),
        ("PUT", f"/{TOKEN}/ab", "", 400),
        ("PUT", f"/{TOKEN}/ab", "nonsense", 400),
        ("PUT", f"/{TOKEN}/ab", "a=http://" + "a" * MAX_VALUE_BYTES + ":1", 400),
        ("PATCH", f"/{TOKEN}/ab", VALUE, 405),
    ],
)
@pytest.mark.asyncio
async def test_whatever_is_no_registration_is_refused(
    method: str, target: str, value: str, status: int
) -> None:
    """With a JSON message, and nothing is written."""
    store = FakeStore()
    async with Upstream(store.act) as upstream, service_on(f"{upstream.url}/base") as port:
        form = {"value": value} if value else None
        got, body = await ask(port, method, target, form)
    assert got == status
    assert json.loads(body)["message"].startswith("discovery: ")
    assert store.keys == {}


@pytest.mark.asyncio
async def test_host_that_is_none_is_refused() -> None:
    """It would be part of the answer."""
    store = FakeStore()
    async with Upstream(store.act) as upstream, service_on(f"{upstream.url}/base") as port:
        assert (await ask(port, "GET", "/new", host="<script>"))[0] == 400


@pytest.mark.asyncio
async def test_token_takes_a_bounded_number_of_registrations() -> None:
    """A few more than members, since they may come at the same moment."""
    store = FakeStore()
    async with Upstream(store.act) as upstream, service_on(f"{upstream.url}/base") as port:
        token = (await ask(port, "GET", "/new?size=1"))[1].rpartition("/")[2]
        statuses = []
        for number in range(MAX_EXTRA_REGISTRATIONS + 2):
            statuses.append((await ask(port, "PUT", f"/{token}/{number:x}", {"value": VALUE}))[0])
    assert statuses == [201] * (MAX_EXTRA_REGISTRATIONS + 1) + [403]


@pytest.mark.asyncio
async def test_new_tokens_of_a_client_are_limited() -> None:
    """429 says when to come back; other requests go on."""
    store = FakeStore()
    async with (
        Upstream(store.act) as upstream,
        service_on(f"{upstream.url}/base", per_minute=2) as port,
    ):
        # What is refused is no token.
        pages = ("/new?size=none", "/new", "/new", "/new")
        statuses = [(await ask(port, "GET", page))[0] for page in pages]
        assert statuses == [400, 200, 200, 429]
        assert (await ask(port, "GET", "/"))[0] == 200


def test_rate_gives_back_with_time_and_forgets_the_oldest() -> None:
    """A minute later everything is allowed again."""
    now = 0.0
    rate = Rate(2, lambda: now)
    for client in ("a", "a", "b"):
        rate.take(client)
    with pytest.raises(Refusal):
        rate.take("a")
    now = 30.0
    rate.take("a")
    with pytest.raises(Refusal):
        rate.take("a")
    for number in range(MAX_CLIENTS):
        rate.take(f"c{number}")
    rate.take("a")


@pytest.mark.asyncio
async def test_waiting_clients_are_limited_and_let_go() -> None:
    """A watch ends with its client, and counts no longer."""
    store = FakeStore()
    async with Upstream(store.act) as upstream, service_on(f"{upstream.url}/base") as port:
        writers = []
        for _ in range(MAX_WAITING):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("GET", f"/{TOKEN}?wait=true"))
            writers.append(writer)
            await asyncio.wait_for(upstream.arrived.acquire(), 5)
        assert (await ask(port, "GET", "/"))[0] == 429
        for writer in writers:
            writer.close()
        for _ in writers:
            await asyncio.wait_for(upstream.ended.acquire(), 5)
        assert (await ask(port, "GET", "/"))[0] == 200


@pytest.mark.asyncio
async def test_store_that_fails_is_503() -> None:
    """Nobody answers, it wants a password, or it refuses to write."""
    async with service_on(f"http://127.0.0.1:{unused_port()}/base") as port:
        for target in ("/new", f"/{TOKEN}", "/health"):
            assert (await ask(port, "GET", target))[0] == 503
    store = FakeStore()
    async with Upstream(store.act) as upstream, service_on(f"{upstream.url}/base") as port:
        assert await ask(port, "GET", "/health") == (200, "OK\n")
        for store.status in (401, 403, 500):
            assert (await ask(port, "GET", "/new"))[0] == 503
            assert (await ask(port, "GET", "/health"))[0] == 503
        store.status = 401
        assert (await ask(port, "GET", f"/{TOKEN}"))[0] == 503
        assert (await ask(port, "PUT", f"/{TOKEN}/a", {"value": VALUE}))[0] == 503


@pytest.mark.asyncio
async def test_service_starts_and_stops(caplog: pytest.LogCaptureFixture) -> None:
    """From its options, on its own port."""
    caplog.set_level(logging.INFO)
    url = f"http://127.0.0.1:{free_port()}"
    options = read_options(["--listen", url])
    assert options is not None
    store = FakeStore()
    crashes: list[BaseException] = []
    async with Upstream(store.act) as upstream:
        service = await DiscoveryService.start(options, f"{upstream.url}/base", die=crashes.append)
        try:
            status, new = await ask(int(url.rpartition(":")[2]), "GET", "/new")
            assert status == 200
            assert new.startswith("http://d.test/")
        finally:
            await service.stop()
    assert crashes == []
    assert f"discovery: listening on {url}" in caplog.messages


def test_options_have_defaults() -> None:
    """Without any, the service keeps its tokens itself."""
    options = read_options([])
    assert options == Options(
        listen="http://localhost:8087",
        etcd="",
        data_dir=Path("discovery.etcd"),
        public_url="",
        ttl_seconds=604_800,
        max_size=100,
        per_minute=20,
        tls=TlsFiles(),
    )
    config = parse(store_flags(options, 1), {})
    assert config.listen_client_urls == ("http://127.0.0.1:1",)
    assert config.data_dir == Path("discovery.etcd")
    assert free_port() > 0
    assert REQUESTS_PER_MINUTE > 60


def test_options_are_read() -> None:
    """Each reaches its field."""
    line = (
        "--listen https://127.0.0.1:1 --etcd http://u:p@e:1 --data-dir x --url https://d --ttl 61"
        " --max-size 5 --rate 6 --cert-file c --key-file k"
    )
    assert read_options(line.split()) == Options(
        listen="https://127.0.0.1:1",
        etcd="http://u:p@e:1",
        data_dir=Path("x"),
        public_url="https://d",
        ttl_seconds=61,
        max_size=5,
        per_minute=6,
        tls=TlsFiles("c", "k"),
    )


def test_help_is_no_options(capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed instead."""
    assert read_options(["--help"]) is None
    assert "pyetcd discovery" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "--listen nonsense",
        "--listen http://a:1 --cert-file c --key-file k",
        "--listen https://a:1",
        "--cert-file c",
        "--etcd e:1",
        "--url d",
        "--ttl 1",
        "--max-size 0",
        "--rate 0",
        "stray",
    ],
)
def test_options_that_cannot_work_are_refused(line: str) -> None:
    """Before anything is started."""
    with pytest.raises(click.ClickException):
        read_options(line.split())
