"""Where pyetcdctl looks for the cluster, and how it ends when there is none."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pyetcd.ctl.session import Settings, describe, split_user
from pyetcd.errors import KeyNotFound
from tests.authority import Authority
from tests.pyetcd.client.fake_member import FakeMember, event, member
from tests.pyetcd.ctl.commands import Ctl

pytestmark = pytest.mark.asyncio

# Nothing listens on port 1 of the loopback.
DOWN = "http://127.0.0.1:1"
REFUSED = "dial tcp 127.0.0.1:1: connect: connection refused"


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeMember]:
    for name in ("ENDPOINTS", "ENDPOINT", "PEERS", "USERNAME", "DISCOVERY_SRV", "CA_FILE"):
        monkeypatch.delenv(f"ETCDCTL_{name}", raising=False)
    async with FakeMember() as running:
        yield running


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(capsys)


def settings(**changes: object) -> Settings:
    texts = dict.fromkeys(
        (
            "output",
            "discovery_srv",
            "peers",
            "endpoint",
            "endpoints",
            "cert_file",
            "key_file",
            "ca_file",
            "username",
        ),
        "",
    )
    usual = {"debug": False, "no_sync": False, "timeout": 1.0, "total_timeout": 5.0}
    return Settings(**{**texts, **usual, "environment": {}, **changes})  # type: ignore[arg-type]


async def test_endpoints_come_from_the_first_place_that_names_some() -> None:
    """Flags and variables in etcdctl's order, and the usual ports at last."""
    environment: dict[str, str] = {}
    sources: list[tuple[str, str]] = [
        ("peers", "ETCDCTL_PEERS"),
        ("endpoint", "ETCDCTL_ENDPOINT"),
        ("endpoints", "ETCDCTL_ENDPOINTS"),
    ]
    flags: dict[str, object] = {"environment": environment}
    usual = ["http://127.0.0.1:2379", "http://127.0.0.1:4001"]
    assert settings(**flags).endpoint_list() == usual
    for flag, variable in sources:
        environment[variable] = f"{variable},b"
        assert settings(**flags).endpoint_list() == [variable, "b"]
        flags[flag] = f"{flag},b"
        assert settings(**flags).endpoint_list() == [flag, "b"]


async def test_sync_comes_first_and_its_endpoints_are_used(server: FakeMember, ctl: Ctl) -> None:
    """--debug tells each step, on stderr."""
    server.tell({"members": [member("1", server.url)]})
    server.tell(event())
    outcome = await ctl("--debug", "--endpoints", server.url, "get", "a")
    assert (outcome.code, outcome.out) == (0, "1\n")
    assert outcome.err.splitlines() == [
        f"start to sync cluster using endpoints({server.url})",
        f"cURL Command: curl -X GET {server.url}/v2/members",
        f"got endpoints({server.url}) after sync",
        f"Cluster-Endpoints: {server.url}",
        "cURL Command: curl -X GET "
        f"{server.url}/v2/keys/a?quorum=false&recursive=false&sorted=false",
    ]


async def test_debug_hides_passwords(server: FakeMember, ctl: Ctl) -> None:
    """Neither the one of the user nor the one that is set."""
    server.tell(status=404)
    server.tell({"user": "u"}, status=201)
    outcome = await ctl(
        "--debug", "--no-sync", "--endpoints", server.url, "-u", "root:hush", "user", "add", "u:sh"
    )
    assert outcome.out == "User u created\n"
    assert "PUT" in outcome.err
    assert "hush" not in outcome.err
    assert '"sh"' not in outcome.err
    assert server.asked[0].headers["Authorization"] == "Basic cm9vdDpodXNo"


async def test_cluster_that_is_down_is_code_2_with_each_reason(
    server: FakeMember, ctl: Ctl
) -> None:
    """With --no-sync the command itself fails, which is code 4."""
    message = "Error:  client: etcd cluster is unavailable or misconfigured"
    lines = [message, f"error #0: {REFUSED}", ""]
    outcome = await ctl("--endpoints", DOWN, "get", "a")
    assert (outcome.code, outcome.err.splitlines()) == (2, lines)
    outcome = await ctl("--no-sync", "--endpoints", DOWN, "get", "a")
    assert (outcome.code, outcome.err.splitlines()) == (4, lines)
    outcome = await ctl("--no-sync", "--endpoints", DOWN, "member", "list")
    in_one_line = f"{message.removeprefix('Error:  ')}; error #0: {REFUSED}\n"
    assert (outcome.code, outcome.err) == (1, in_one_line)


async def test_cluster_that_publishes_nothing_gives_the_hint(server: FakeMember, ctl: Ctl) -> None:
    """--no-sync is the way in."""
    server.tell({"members": [member("1")]})
    outcome = await ctl("--endpoints", server.url, "get", "a")
    assert outcome.code == 4
    assert "Try '--no-sync'" in outcome.err


async def test_sync_with_a_stranger_is_code_4(server: FakeMember, ctl: Ctl) -> None:
    """Somebody is there, and is no etcd, as the command itself finds out, too."""
    for _ in range(2):
        server.tell(b"<html>")
    outcome = await ctl("--endpoints", server.url, "get", "a")
    assert outcome.code == 4
    assert "invalid json" in outcome.err


async def test_member_that_is_silent_costs_the_total_timeout(server: FakeMember, ctl: Ctl) -> None:
    """While syncing it counts as unreachable, and afterwards as a failure of the command."""
    for _ in range(2):
        server.fail("silent")
    limits = ("--total-timeout", "20ms", "--timeout", "0", "--endpoints", server.url)
    outcome = await ctl(*limits, "get", "a")
    assert (outcome.code, outcome.err) == (2, "Error:  context deadline exceeded\n")
    outcome = await ctl("--no-sync", *limits, "get", "a")
    assert (outcome.code, outcome.err) == (4, "Error:  context deadline exceeded\n")


async def test_write_that_may_have_arrived_says_so(server: FakeMember, ctl: Ctl) -> None:
    """The user must look before trying again."""
    server.fail("close")
    outcome = await ctl("--no-sync", "--endpoints", server.url, "set", "a", "1")
    assert outcome.code == 4
    assert "the request may have been carried out\n" in outcome.err


async def test_user_in_the_environment_is_used(
    server: FakeMember, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it is in no list of processes."""
    monkeypatch.setenv("ETCDCTL_USERNAME", "root:hush")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", server.url)
    server.tell(event())
    assert (await ctl("--no-sync", "get", "a")).code == 0
    assert server.asked[0].headers["Authorization"] == "Basic cm9vdDpodXNo"


async def test_user_without_password_is_asked_for_it(
    server: FakeMember, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From stdin where there is no terminal; the end of stdin is an error."""
    typed = tmp_path / "typed"
    typed.write_text("hush\n")
    with typed.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert split_user("root", "Password: ") == ("root", "hush")
        outcome = await ctl("--no-sync", "--endpoints", server.url, "-u", "root", "get", "a")
    assert (outcome.code, outcome.err) == (1, "Error reading password: EOF\n")
    assert split_user("root:a:b", "") == ("root", "a:b")


async def test_value_from_stdin_is_set_as_it_is(
    server: FakeMember, ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Line breaks and raw bytes stay; nothing at all is no value."""
    typed = tmp_path / "typed"
    typed.write_bytes(b"a\n\xff\n")
    server.tell(event())
    with typed.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        where = ("--no-sync", "--endpoints", server.url)
        assert (await ctl(*where, "set", "k")).code == 0
        again = await ctl(*where, "set", "k")
    assert server.asked[0].body == "value=a%0A%FF%0A"
    assert (again.code, again.err) == (1, "Error:  value required\n")


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["bogus"], 3, "No help topic for 'bogus'\nsee pyetcdctl --help\n"),
        (["sett", "a"], 3, "No help topic for 'sett'\ndid you mean set?\n"),
        (["member", "lst"], 3, "No help topic for 'lst'\ndid you mean list?\n"),
        (["set", "--tttl", "1"], 1, "flag provided but not defined: -tttl\ndid you mean --ttl?\n"),
        (["--timeout", "1x", "get", "a"], 1, 'invalid value "1x" for flag -timeout: parse error\n'),
        (["set", "a", "-ttl", "x"], 1, 'invalid value "x" for flag -ttl: parse error\n'),
        (["get", "--bogus"], 1, "flag provided but not defined: -bogus\n"),
        (["--endpoints", "ftp://h", "ls"], 1, "endpoint ftp://h is not of the form"),
        (["--ca-file", "/no/such.pem", "ls"], 1, "cannot use the CA file /no/such.pem"),
    ],
)
async def test_command_line_that_is_wrong_says_what(
    ctl: Ctl, args: list[str], code: int, told: str
) -> None:
    """On stderr, where etcdctl says it."""
    outcome = await ctl(*args)
    assert outcome.code == code
    assert outcome.err.startswith(told)


@pytest.mark.parametrize("args", [[], ["help"], ["-h"], ["help", "set"], ["member"], ["-v"]])
async def test_help_and_version_are_no_failures(ctl: Ctl, args: list[str]) -> None:
    """They are what the user asked for."""
    outcome = await ctl(*args)
    assert outcome.code == 0
    assert "pyetcdctl" in outcome.out


async def test_https_endpoint_is_believed_with_its_authority_only(ctl: Ctl, tmp_path: Path) -> None:
    """A certificate of ours is shown; an unknown authority fails the command."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("client")
    server_cert, server_key = authority.issue("server")
    server, url = await _serve_tls(authority, server_cert, server_key)
    async with server:
        tls = ("--ca-file", authority.path, "--cert-file", cert, "--key-file", key)
        outcome = await ctl("--no-sync", "--endpoints", url, *tls, "get", "a")
        assert (outcome.code, outcome.out) == (0, "1\n")
        outcome = await ctl("--endpoints", url, "get", "a")
        assert outcome.code == 4
        assert "certificate" in outcome.err


async def _serve_tls(authority: Authority, cert: str, key: str) -> tuple[asyncio.Server, str]:
    """A server that wants a certificate and gives one answer to whoever shows it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(event()).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    return server, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_error_of_the_store_is_described_with_code_and_index() -> None:
    """Scripts look for the code."""
    assert describe(KeyNotFound("/a", 7)) == "100: Key not found (/a) [7]"
