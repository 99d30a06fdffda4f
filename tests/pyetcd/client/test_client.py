"""What each call sends, and what it makes of the answer."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pyetcd.client import Client, NoEndpoints, NotEtcd, Refused, Unavailable
from pyetcd.errors import KeyNotFound
from tests.pyetcd.client.fake_member import FakeMember, event, member

pytestmark = pytest.mark.asyncio

Call = Callable[[Client], Awaitable[Any]]

CALLS: list[tuple[Call, str, str]] = [
    (
        lambda client: client.get("a", recursive=True, in_order=True, quorum=True),
        "GET /v2/keys/a?quorum=true&recursive=true&sorted=true",
        "",
    ),
    (lambda client: client.set("/a", "1"), "PUT /v2/keys/a", "value=1"),
    (
        lambda client: client.set(
            "/a", "", ttl_seconds=0, prev_exist=True, prev_value="x", prev_index=3
        ),
        "PUT /v2/keys/a?prevExist=true&prevIndex=3&prevValue=x",
        "value=&ttl=0",
    ),
    (
        lambda client: client.set_dir("/d", ttl_seconds=5, prev_exist=False),
        "PUT /v2/keys/d?dir=true&prevExist=false",
        "ttl=5",
    ),
    (
        lambda client: client.create_in_order("/q", "job", ttl_seconds=9),
        "POST /v2/keys/q",
        "value=job&ttl=9",
    ),
    (
        lambda client: client.refresh("/a", 5, prev_value="x"),
        "PUT /v2/keys/a?prevExist=true&prevValue=x",
        "ttl=5&refresh=true",
    ),
    (
        lambda client: client.delete("/d", is_dir=True, recursive=True, prev_index=1),
        "DELETE /v2/keys/d?dir=true&prevIndex=1&recursive=true",
        "",
    ),
]


@pytest.mark.parametrize(("call", "target", "body"), CALLS)
async def test_key_call_sends_what_etcd_understands(call: Call, target: str, body: str) -> None:
    """Query and form of each call, to the letter."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell(event(), X_Etcd_Index="77")
        answer = await call(client)
        assert server.targets == [target]
        assert server.asked[0].body == body
        assert answer.etcd_index == 77


async def test_key_call_refused_raises_the_error_with_that_code() -> None:
    """Errors of the store arrive as what they are."""
    async with FakeMember() as server, Client([server.url]) as client:
        body = {"errorCode": 100, "message": "Key not found", "cause": "/a", "index": 3}
        server.tell(body, status=404)
        with pytest.raises(KeyNotFound) as caught:
            await client.get("/a")
    assert (caught.value.cause, caught.value.index) == ("/a", 3)


async def test_sync_learns_the_client_urls_of_all_members() -> None:
    """Endpoints become what the members publish."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"members": [member("1", server.url, "http://h:1"), member("2", "http://h:2")]})
        await client.sync()
        assert sorted(client.endpoints) == sorted((server.url, "http://h:1", "http://h:2"))


async def test_sync_without_published_urls_changes_nothing() -> None:
    """A cluster that publishes no URL is still reached on the one that was given."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"members": [member("1")]})
        with pytest.raises(NoEndpoints):
            await client.sync()
        assert client.endpoints == (server.url,)


async def test_members_calls_send_what_etcd_understands() -> None:
    """List, leader, add, update and remove."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"members": [member("a", "http://h:1")]})
        server.tell(member("a"))
        server.tell(member("b", name=""), status=201)
        server.tell(status=204)
        server.tell(status=204)
        server.tell(status=410)
        assert [each.id for each in await client.members.list()] == ["a"]
        assert (await client.members.leader()).id == "a"
        assert (await client.members.add(["http://h:3"])).name == ""
        await client.members.update("b", ["http://h:4"])
        await client.members.remove("b")
        await client.members.remove("b")
        assert server.targets == [
            "GET /v2/members",
            "GET /v2/members/leader",
            "POST /v2/members",
            "PUT /v2/members/b",
            "DELETE /v2/members/b",
            "DELETE /v2/members/b",
        ]
        assert server.asked[2].body == '{"peerURLs":["http://h:3"]}'
        assert server.asked[2].headers["Content-Type"] == "application/json"


async def test_members_refusal_shows_the_text_of_the_server() -> None:
    """A conflict has a text; other refusals have their status."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"message": "etcdserver: peerURL exists"}, status=409)
        server.tell({"message": "unseen"}, status=400)
        with pytest.raises(Refused, match="peerURL exists"):
            await client.members.add(["http://h:3"])
        with pytest.raises(Refused, match="unexpected status code 400"):
            await client.members.add(["http://h:3"])


AUTH_CALLS: list[tuple[Call, str, str]] = [
    (lambda client: client.auth.enable(), "PUT /v2/auth/enable", ""),
    (lambda client: client.auth.disable(), "DELETE /v2/auth/enable", ""),
    (
        lambda client: client.auth.add_user("u", "p"),
        "PUT /v2/auth/users/u",
        '{"user":"u","password":"p","roles":null}',
    ),
    (
        lambda client: client.auth.set_password("u", "q"),
        "PUT /v2/auth/users/u",
        '{"user":"u","password":"q","roles":null}',
    ),
    (lambda client: client.auth.remove_user("u"), "DELETE /v2/auth/users/u", ""),
    (
        lambda client: client.auth.grant_user("u", ["r"]),
        "PUT /v2/auth/users/u",
        '{"user":"u","roles":null,"grant":["r"]}',
    ),
    (
        lambda client: client.auth.revoke_user("u", ["r"]),
        "PUT /v2/auth/users/u",
        '{"user":"u","roles":null,"revoke":["r"]}',
    ),
    (
        lambda client: client.auth.add_role("r"),
        "PUT /v2/auth/roles/r",
        '{"role":"r","permissions":{"kv":{"read":null,"write":null}}}',
    ),
    (lambda client: client.auth.remove_role("r"), "DELETE /v2/auth/roles/r", ""),
    (
        lambda client: client.auth.grant_role("r", read=["/*"]),
        "PUT /v2/auth/roles/r",
        '{"role":"r","permissions":{"kv":{"read":null,"write":null}},'
        '"grant":{"kv":{"read":["/*"],"write":null}}}',
    ),
    (
        lambda client: client.auth.revoke_role("r", write=["/*"]),
        "PUT /v2/auth/roles/r",
        '{"role":"r","permissions":{"kv":{"read":null,"write":null}},'
        '"revoke":{"kv":{"read":null,"write":["/*"]}}}',
    ),
]


@pytest.mark.parametrize(("call", "target", "body"), AUTH_CALLS)
async def test_auth_call_sends_what_etcd_understands(call: Call, target: str, body: str) -> None:
    """Path and JSON of each call, to the letter."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"user": "u", "role": "r", "permissions": {"kv": {}}})
        await call(client)
        assert server.targets == [target]
        assert server.asked[0].body == body


async def test_auth_lists_give_names() -> None:
    """The server sends whole users and roles."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"users": [{"user": "a", "roles": None}, {"user": "b"}]})
        server.tell({"users": None})
        server.tell({"roles": [{"role": "root", "permissions": {"kv": {}}}]})
        server.tell({"users": ["a"]})
        assert await client.auth.users() == ("a", "b")
        assert await client.auth.users() == ()
        assert await client.auth.roles() == ("root",)
        with pytest.raises(NotEtcd):
            await client.auth.users()


async def test_auth_refusal_shows_the_text_of_the_server() -> None:
    """Texts are all that auth has."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"message": "auth: User u does not exist."}, status=404)
        with pytest.raises(Refused, match="User u does not exist"):
            await client.auth.user("u")


@pytest.mark.parametrize(
    ("body", "well"),
    [({"health": "true"}, True), ({"health": True}, True), ({"health": "false"}, False)],
)
async def test_health_in_every_form_that_etcd_had(body: Any, well: bool) -> None:
    """Text or boolean, and also with the 503 of a member that is not well."""
    async with FakeMember() as server, Client(["http://127.0.0.1:1"]) as client:
        server.tell(body, status=200 if well else 503)
        assert await client.healthy(server.url) is well


async def test_health_of_a_stranger_or_of_nobody_is_an_error() -> None:
    """Neither is taken for a sick member."""
    async with FakeMember() as server, Client([server.url]) as client:
        server.tell({"status": "fine"})
        with pytest.raises(NotEtcd):
            await client.healthy(server.url)
        with pytest.raises(Unavailable):
            await client.healthy("http://127.0.0.1:1")
