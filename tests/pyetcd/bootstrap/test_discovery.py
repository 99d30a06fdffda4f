"""A token and its members, on a store that the test scripts answer by answer."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pyetcd.bootstrap import BootstrapError, ClusterFull, OnDisk, Start, find_peer_urls, plan
from pyetcd.bootstrap.discovery import (
    MAX_BODY_BYTES,
    Discovery,
    DiscoveryError,
    Reply,
    http_ask,
    real_discovery,
)
from pyetcd.bootstrap.remote import Unreachable
from pyetcd.cluster import member_id
from pyetcd.config import parse
from tests.pyetcd.bootstrap.network import FakeNetwork

pytestmark = pytest.mark.asyncio

URL = "http://user:secret@d:1/prefix/token"
TOKEN = "http://d:1/prefix/token"
A = ("http://a:1",)
OWN = f"{member_id(A, TOKEN):x}"


class Hangs(Exception):
    """The test has no more to happen, and the member goes on waiting."""


@dataclass
class FakeStore:
    """An etcd v2 store with one token; a watch ends when the next of `events` has happened."""

    size: str | None = "1"
    keys: dict[str, tuple[int, str]] = field(default_factory=dict)
    index: int = 10
    # Registrations that happen while somebody watches.
    events: list[tuple[str, str]] = field(default_factory=list)
    # Replies or failures before the store answers.
    troubles: list[Reply | Exception] = field(default_factory=list)
    # The same, for watches only.
    watch_troubles: list[Reply | Exception] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    token_exists: bool = True

    def discovery(self, url: str = URL) -> Discovery:
        """Return the token."""
        return Discovery(url, self.ask, self.sleep)

    def add(self, member: str, value: str) -> None:
        """Register a member."""
        self.index += 1
        self.keys[member] = (self.index, value)

    async def sleep(self, seconds: float) -> None:
        """Remember it, and take no time."""
        self.slept.append(seconds)
        if len(self.slept) > 20:
            raise Hangs

    async def ask(
        self, method: str, url: str, form: Mapping[str, str] | None, seconds: float
    ) -> Reply:
        """Answer as etcd does."""
        parts = urlsplit(url)
        assert parts.netloc == "user:secret@d:1"
        path = parts.path.removeprefix("/prefix/token")
        query = parse_qs(parts.query)
        self.asked.append(f"{method} {path}{'?' + parts.query if parts.query else ''}")
        if self.troubles:
            return _raise_or_return(self.troubles.pop(0))
        if "wait" in query:
            if self.watch_troubles:
                return _raise_or_return(self.watch_troubles.pop(0))
            if not self.events:
                raise Hangs
            before = self.index
            self.add(*self.events.pop(0))
            return self._reply(200, {"node": {"modifiedIndex": self.index}}, before)
        if path == "/_config/size":
            if self.size is None:
                return self._missing()
            return self._reply(200, {"node": {"value": self.size}})
        if path == "":
            return self._list() if self.token_exists else self._missing()
        member = path.removeprefix("/")
        if method == "PUT":
            assert form is not None
            assert query["prevExist"] == ["false"]
            if member in self.keys:
                return self._reply(412, {"errorCode": 105, "message": "Key already exists"})
            self.add(member, form["value"])
            return self._reply(201, {"node": {}})
        return self._reply(200, {"node": {"value": self.keys[member][1]}})

    def _list(self) -> Reply:
        nodes: list[dict[str, object]] = [{"key": "/x/_config", "dir": True, "createdIndex": 1}]
        nodes += [
            {"key": f"/x/{member}", "value": value, "createdIndex": created}
            for member, (created, value) in self.keys.items()
        ]
        return self._reply(200, {"node": {"nodes": nodes}})

    def _missing(self) -> Reply:
        return self._reply(404, {"errorCode": 100, "message": "Key not found"})

    def _reply(self, status: int, body: object, index: int | None = None) -> Reply:
        return Reply(status, self.index if index is None else index, json.dumps(body).encode())


def _raise_or_return(trouble: Reply | Exception) -> Reply:
    if isinstance(trouble, Exception):
        raise trouble
    return trouble


async def test_member_of_one_registers_and_is_complete() -> None:
    """The order of requests is the one that discovery services know."""
    store = FakeStore()
    assert await store.discovery().join("a", A, TOKEN) == {"a": A}
    assert store.asked == [
        "GET /_config/size",
        "GET ",
        f"PUT /{OWN}?prevExist=false",
        "GET /_config/size",
        "GET ",
    ]
    assert store.keys[OWN][1] == "a=http://a:1"


async def test_member_waits_by_watch_until_the_size_is_reached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each watch begins behind what was listed; several URLs of one name are one member."""
    store = FakeStore("3", events=[("b", "b=http://b:1,b=http://b:2"), ("c", "c=http://c:1")])
    caplog.set_level(logging.INFO)
    found = await store.discovery().join("a", A, TOKEN)
    assert found == {"a": A, "b": ("http://b:1", "http://b:2"), "c": ("http://c:1",)}
    watches = [line for line in store.asked if "wait" in line]
    assert watches == [f"GET ?wait=true&recursive=true&waitIndex={index}" for index in (12, 13)]
    assert store.slept == []
    assert [record.getMessage() for record in caplog.records] == [
        f"found self {OWN} in the cluster",
        "found 1 peer(s), waiting for 2 more",
        "found peer b in the cluster",
        "found 2 peer(s), waiting for 1 more",
        "found peer c in the cluster",
        "found 3 needed peer(s)",
    ]


async def test_members_are_the_first_to_register() -> None:
    """The order is that of `createdIndex`, whatever the store lists first."""
    store = FakeStore(
        "2", {"z": (9, "z=http://z:1"), OWN: (7, "a=http://a:1"), "y": (8, "y=http://y:1")}
    )
    assert set(await store.discovery().join("a", A, TOKEN)) == {"a", "y"}


async def test_member_that_is_too_late_registers_nothing() -> None:
    """The cluster is full, which the caller can tell from other errors."""
    store = FakeStore("2", {"z": (9, "z=http://z:1"), "y": (8, "y=http://y:1")})
    with pytest.raises(ClusterFull, match=r"discovery: cluster is full: http://d:1/prefix/token"):
        await store.discovery().join("a", A, TOKEN)
    assert OWN not in store.keys


async def test_member_that_loses_the_race_is_too_late() -> None:
    """Somebody registered between its look and its own registration."""
    store = FakeStore("1")
    ask = store.ask

    async def race(method: str, url: str, form: Mapping[str, str] | None, seconds: float) -> Reply:
        if method == "PUT":
            store.add("z", "z=http://z:1")
        return await ask(method, url, form, seconds)

    with pytest.raises(ClusterFull):
        await Discovery(URL, race, store.sleep).join("a", A, TOKEN)


async def test_member_that_registered_before_goes_on() -> None:
    """After a crash the same registration is not a mistake."""
    store = FakeStore("2", {OWN: (5, "a=http://a:1")}, events=[("b", "b=http://b:1")])
    assert set(await store.discovery().join("a", A, TOKEN)) == {"a", "b"}
    assert store.keys[OWN] == (5, "a=http://a:1")


async def test_proxy_waits_without_registering() -> None:
    """More registrations than members are no error for it."""
    store = FakeStore("1", events=[("b", "b=http://b:1")])
    assert await store.discovery().members() == {"b": ("http://b:1",)}
    store.add("c", "c=http://c:1")
    assert await store.discovery().members() == {"b": ("http://b:1",)}
    assert not any(line.startswith("PUT") for line in store.asked)


@pytest.mark.parametrize(
    ("store", "line"),
    [
        (FakeStore(None), "discovery: size key not found in http://d:1/prefix/token; set it"),
        (FakeStore(None, token_exists=False), "discovery: size key not found, token not found"),
        (FakeStore("0"), "discovery: size key is bad: '0'"),
        (FakeStore("-1"), "discovery: size key is bad: '-1'"),
        (FakeStore("x"), "discovery: size key is bad: 'x'"),
        (FakeStore("2", {OWN: (1, "b=http://a:1")}), "discovery: found duplicate id"),
        (FakeStore("2", {"x": (1, "a=http://b:1")}), "discovery: found duplicate name"),
        (FakeStore("2", {"x": (1, "b=nonsense")}), "discovery: invalid URL: "),
        (FakeStore(troubles=[Reply(200, 0, b"<html>")]), "discovery: bad discovery endpoint"),
        (FakeStore(troubles=[Reply(200, 0, b"[" * 9999)]), "discovery: bad discovery endpoint"),
        (FakeStore(troubles=[Reply(404, 0, b"404 page not found")]), "discovery: bad discovery"),
        (
            FakeStore(troubles=[Reply(401, 0, b'{"message":"Insufficient credentials"}')]),
            "discovery: http://d:1/prefix/token answered 401: Insufficient credentials",
        ),
        (
            FakeStore(
                troubles=[Reply(400, 0, b'{"errorCode":102,"message":"Not a file","cause":"/x"}')]
            ),
            "discovery: http://d:1/prefix/token answered 400: Not a file (/x)",
        ),
    ],
)
async def test_what_cannot_succeed_is_refused_in_one_line(store: FakeStore, line: str) -> None:
    """Etcd's words, then what to type; never the password."""
    with pytest.raises(DiscoveryError) as caught:
        await store.discovery().join("a", A, TOKEN)
    text = str(caught.value)
    assert text.startswith(line)
    assert "secret" not in text
    assert "\n" not in text


async def test_outage_is_waited_for_ever_longer(caplog: pytest.LogCaptureFixture) -> None:
    """The log says at which step, why, and how long; an answer begins anew with one second."""
    store = FakeStore()
    store.troubles = [Unreachable("refused"), TimeoutError(), *[Reply(503, 0, b"")] * 4]
    store.troubles += [Reply(429, 0, b"")]
    await store.discovery().join("a", A, TOKEN)
    assert store.slept == [1, 2, 4, 8, 16, 30, 30]
    lines = [record.getMessage() for record in caplog.records]
    step = f"cluster status check: error connecting to {TOKEN}"
    assert lines[0] == f"{step} (refused), retrying in 1s"
    assert lines[1] == f"{step} (no answer in 10 s), retrying in 2s"
    assert lines[2] == f"{step} (status 503), retrying in 4s"


async def test_outage_during_the_watch_is_waited_for() -> None:
    """A connection lost, trouble of the service, silence, history gone, an end without event."""
    store = FakeStore("2", events=[("b", "b=http://b:1")])
    store.watch_troubles = [
        Unreachable("reset"),
        Reply(503, 0, b""),
        TimeoutError(),
        Reply(400, 99, b'{"errorCode":401}'),
        Reply(200, 99, b""),
    ]
    assert set(await store.discovery().join("a", A, TOKEN)) == {"a", "b"}
    # The list was read in between, so each wait for the service begins with a second.
    assert store.slept == [1, 1, 0.5, 0.5]


async def test_store_that_lags_behind_is_not_asked_in_a_hurry() -> None:
    """An event that was old when the watch began, with a list that does not have it."""
    store = FakeStore("2")
    store.watch_troubles = [Reply(200, 99, b'{"node":{"modifiedIndex":12}}')] * 30
    with pytest.raises(Hangs):
        await store.discovery().join("a", A, TOKEN)
    assert set(store.slept) == {0.5}


async def test_plan_with_a_token_is_that_of_the_members_found() -> None:
    """Ids are made with the URL as token, as in etcd."""
    store = FakeStore("2", events=[("b", "b=http://b:1")])
    config = parse(["-name", "a", "-discovery", URL, "-initial-advertise-peer-urls", *A], {})
    got = await plan(config, OnDisk(), FakeNetwork().network(), lambda url, _: store.discovery(url))
    assert got.start is Start.NEW
    assert f"{got.identity.member_id:x}" == OWN
    assert [member.name for member in got.identity.members if member.id != got.identity.member_id]
    assert got.identity.token == TOKEN
    again = await plan(config, OnDisk(True, got.identity.encode()), FakeNetwork().network())
    assert again.start is Start.RESTART
    assert again.warnings == (
        "discovery token ignored since a cluster has already been initialized. Valid log found at"
        ' "a.etcd/member/wal"',
    )


async def test_members_with_the_same_url_are_refused() -> None:
    """Under two names."""
    store = FakeStore("2", {"b": (1, "b=http://a:1")})
    config = parse(["-name", "a", "-discovery", URL, "-initial-advertise-peer-urls", *A], {})
    with pytest.raises(BootstrapError, match="has duplicate url http://a:1"):
        await plan(config, OnDisk(), FakeNetwork().network(), lambda url, _: store.discovery(url))


async def test_proxy_finds_peer_urls_by_token_or_flag() -> None:
    """The flag's are taken as they are."""
    store = FakeStore("1", {"b": (1, "b=http://b:2,b=http://b:1")})
    network = FakeNetwork().network()
    config = parse(["-proxy", "on", "-discovery", URL], {})
    found = await find_peer_urls(config, network, lambda url, _: store.discovery(url))
    assert found == ("http://b:1", "http://b:2")
    config = parse(["-proxy", "on", "-initial-cluster", "x=http://c:1,y=http://b:1"], {})
    assert await find_peer_urls(config, network) == ("http://b:1", "http://c:1")


async def test_http_ask_sends_form_and_credentials() -> None:
    """User and password of the URL become a header; index and body come back."""
    seen: list[tuple[str, str | None, str]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path_qs, request.headers.get("Authorization"), await request.text()))
        return web.Response(status=201, text="made", headers={"X-Etcd-Index": "7"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        url = f"http://user:pa%40ss@127.0.0.1:{server.port}/a%20b/t?x=1"
        reply = await http_ask("", "PUT", url, {"value": "n=u"}, 5)
    assert reply == Reply(201, 7, b"made")
    assert seen == [("/a%20b/t?x=1", "Basic dXNlcjpwYUBzcw==", "value=n%3Du")]


async def test_http_ask_goes_through_a_proxy() -> None:
    """The proxy is asked for the whole URL."""
    seen: list[str] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append(str(request.raw_path))
        return web.Response(text="{}")

    server = web.Server(handle)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        reply = await http_ask(f"http://127.0.0.1:{port}", "GET", "http://d.test/t", None, 5)
    finally:
        await runner.cleanup()
    assert reply.status == 200
    assert seen == ["http://d.test/t"]


async def test_http_ask_without_an_answer_says_why_without_the_password() -> None:
    """Nobody listens, too much is sent, or nothing in time."""

    async def flood(_: web.Request) -> web.Response:
        return web.Response(body=bytes(MAX_BODY_BYTES + 1))

    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Unreachable) as caught:
        await http_ask("", "GET", f"http://u:secret@127.0.0.1:{unused_port()}/", None, 5)
    assert "secret" not in str(caught.value)
    app = web.Application()
    app.router.add_get("/flood", flood)
    app.router.add_get("/hang", hang)
    async with TestServer(app) as server:
        with pytest.raises(Unreachable, match="more than"):
            await http_ask("", "GET", str(server.make_url("/flood")), None, 5)
        with pytest.raises(TimeoutError):
            await http_ask("", "GET", str(server.make_url("/hang")), None, 0.05)


async def test_real_discovery_names_its_proxy(caplog: pytest.LogCaptureFixture) -> None:
    """Without its password."""
    caplog.set_level(logging.INFO)
    real_discovery("http://d:1/t", "http://u:secret@p:1")
    assert caplog.messages == ['using proxy "http://p:1"']
