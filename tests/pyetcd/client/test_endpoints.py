"""Which endpoint is asked, and when the next one: a write must not be done twice."""

from pathlib import Path

import pytest

from pyetcd.client import BadSetting, Client, NoEndpoints, Unavailable, tls_context
from pyetcd.client.endpoints import Endpoints
from tests.pyetcd.client.fake_member import FakeMember, InOrder, event

pytestmark = pytest.mark.asyncio

# Nothing listens on port 1 of the loopback.
DOWN = "http://127.0.0.1:1"


def client_of(*urls: str, timeout_seconds: float = 5.0, **settings: str) -> Client:
    return Client(urls, timeout_seconds=timeout_seconds, rng=InOrder(), **settings)


async def test_endpoint_that_refuses_connections_is_passed_over_also_by_writes() -> None:
    """Nothing was sent, so nothing can be done twice; the good endpoint is asked first then."""
    lines: list[str] = []
    async with (
        FakeMember() as member,
        Client([DOWN, member.url], rng=InOrder(), trace=lines.append) as client,
    ):
        member.tell(event())
        member.tell(event())
        await client.set("/a", "1")
        await client.get("/a")
        asked = [line.split()[5].partition("/v2")[0] for line in lines]
        assert asked == [DOWN, member.url, member.url]


async def test_all_endpoints_down_tells_of_each() -> None:
    """The error has a reason for each endpoint, and says that nobody was reached."""
    async with client_of(DOWN, "http://localhost:1") as client:
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
    error = caught.value
    assert error.unreachable
    assert not error.maybe_done
    assert "connection refused" in error.attempts[0].reason
    assert len(error.attempts) == 2


@pytest.mark.parametrize("failure", ["close", "silent"])
async def test_read_without_an_answer_goes_to_the_next_endpoint(failure: str) -> None:
    """A read may be asked twice."""
    async with (
        FakeMember() as bad,
        FakeMember() as good,
        client_of(bad.url, good.url, timeout_seconds=0.15) as client,
    ):
        bad.fail(failure)
        good.tell(event(value="x"))
        assert (await client.get("/a")).node.value == "x"


@pytest.mark.parametrize("failure", ["close", "silent"])
async def test_write_without_an_answer_is_not_repeated(failure: str) -> None:
    """It may have been done: the caller has to look, and is told so."""
    async with FakeMember() as bad, FakeMember() as good:
        async with client_of(bad.url, good.url, timeout_seconds=0.15) as client:
            bad.fail(failure)
            with pytest.raises(Unavailable) as caught:
                await client.set("/a", "1")
        assert caught.value.maybe_done
        assert len(bad.asked) == 1
        assert good.asked == []


@pytest.mark.parametrize("method", ["set", "delete"])
async def test_write_on_a_connection_that_breaks_is_sent_once(method: str) -> None:
    """The HTTP library, too, would repeat PUT and DELETE on a connection that was used before."""
    async with FakeMember() as member, client_of(member.url) as client:
        member.tell(event())
        await client.get("/a")
        member.fail("close")
        with pytest.raises(Unavailable):
            await (client.set("/a", "1") if method == "set" else client.delete("/a"))
        assert len(member.asked) == 2


async def test_read_on_5xx_goes_to_the_next_endpoint() -> None:
    """A member without a leader is no help."""
    async with (
        FakeMember() as bad,
        FakeMember() as good,
        client_of(bad.url, good.url) as client,
    ):
        bad.tell({"errorCode": 300}, status=500)
        good.tell(event(value="x"))
        assert (await client.get("/a")).node.value == "x"


async def test_write_on_5xx_is_not_repeated() -> None:
    """A request that timed out in the cluster may still be carried out."""
    async with (
        FakeMember() as bad,
        FakeMember() as good,
        client_of(bad.url, good.url) as client,
    ):
        bad.tell({"errorCode": 300}, status=500)
        with pytest.raises(Unavailable) as caught:
            await client.set("/a", "1")
    assert not caught.value.unreachable
    assert caught.value.attempts[0].reason.endswith("has no leader")
    assert good.asked == []


async def test_bad_gateway_is_named_by_its_status() -> None:
    """Other 5xx come from what stands between."""
    async with FakeMember() as member, client_of(member.url) as client:
        member.tell(status=502)
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
    assert "server error [502]" in caught.value.attempts[0].reason


async def test_redirect_keeps_method_and_body() -> None:
    """etcd redirects writes, too, and HTTP libraries like to make GET of them."""
    async with FakeMember() as one, FakeMember() as two, client_of(one.url) as client:
        one.tell(status=307, Location=f"{two.url}/v2/keys/b")
        two.tell(event())
        await client.set("/a", "1")
        assert (two.asked[0].method, two.asked[0].target) == ("PUT", "/v2/keys/b")
        assert two.asked[0].body == "value=1"


async def test_redirect_to_a_stranger_carries_no_password() -> None:
    """Credentials are for the endpoints that the user named."""
    async with FakeMember() as one, FakeMember() as two:
        async with client_of(one.url, username="root", password="hush") as client:
            one.tell(status=307, Location=f"{two.url}/v2/keys/a")
            two.tell(event())
            await client.get("/a")
        assert one.asked[0].headers["Authorization"] == "Basic cm9vdDpodXNo"
        assert "Authorization" not in two.asked[0].headers


@pytest.mark.parametrize("location", ["", "ftp://h/"])
async def test_redirect_to_nowhere_is_no_answer(location: str) -> None:
    """The endpoint is at fault, not the program."""
    async with FakeMember() as member, client_of(member.url) as client:
        member.tell(status=301, **({"Location": location} if location else {}))
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
    assert "Location header" in caught.value.attempts[0].reason


async def test_redirects_in_a_circle_end() -> None:
    """Ten are followed."""
    async with FakeMember() as member, client_of(member.url) as client:
        for _ in range(20):
            member.tell(status=301, Location="/v2/keys/a")
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
    assert "too many redirects" in caught.value.attempts[0].reason
    assert len(member.asked) == 11


async def test_endpoint_with_user_and_password_sends_them_and_hides_them() -> None:
    """They travel as a header, and are in no list of endpoints."""
    async with FakeMember() as member:
        async with client_of(member.url.replace("//", "//root:h%40sh@")) as client:
            member.tell(event())
            await client.get("/a")
            assert client.endpoints == (member.url,)
        assert member.asked[0].headers["Authorization"] == "Basic cm9vdDpoQHNo"


async def test_endpoints_in_several_forms_become_one() -> None:
    """No scheme means http, and a slash at the end means nothing."""
    endpoints = Endpoints(["h:1", "http://h:2/", " https://h:3/x/ "], rng=InOrder())
    assert endpoints.urls == ("http://h:1", "http://h:2", "https://h:3/x")


@pytest.mark.parametrize("text", ["", "ftp://h:1", "http://", "http://h:x", "http://[::1"])
async def test_endpoint_that_is_no_url_is_refused(text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(BadSetting):
        Endpoints([text])


async def test_endpoints_empty_are_refused() -> None:
    """There must be somebody to ask."""
    with pytest.raises(NoEndpoints):
        Endpoints([])


async def test_timeout_names_the_endpoint() -> None:
    """Which member hangs is what the user wants to know."""
    async with FakeMember() as member, client_of(member.url, timeout_seconds=0.02) as client:
        member.fail("silent")
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
        reason = caught.value.attempts[0].reason
        assert reason == f"client: endpoint {member.url} exceeded header timeout"


async def test_unknown_host_is_named() -> None:
    """A wrong name is told apart from a member that is down."""
    async with client_of("http://no.such.host.invalid:1") as client:
        with pytest.raises(Unavailable) as caught:
            await client.get("/a")
    assert "no.such.host.invalid" in caught.value.attempts[0].reason
    assert caught.value.attempts[0].unsent


async def test_tls_settings_that_cannot_be_used_say_which_file(tmp_path: Path) -> None:
    """A missing, a wrong and a lonely file."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(BadSetting, match=r"gone\.pem"):
        tls_context(ca_file=str(tmp_path / "gone.pem"))
    with pytest.raises(BadSetting, match=r"wrong\.pem"):
        tls_context(ca_file=str(wrong))
    with pytest.raises(BadSetting, match=r"wrong\.pem"):
        tls_context(cert_file=str(wrong), key_file=str(wrong))
    with pytest.raises(BadSetting, match="must both be present"):
        tls_context(cert_file=str(wrong))
