"""A member restarts, starts a cluster or joins one; each mistake ends it with one line."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pyetcd.bootstrap import BootstrapError, Identity, OnDisk, Plan, Start, plan
from pyetcd.bootstrap.remote import (
    MAX_BODY_BYTES,
    Answer,
    Unreachable,
    first_cluster,
    http_get,
    is_bootstrapped,
    resolve_host,
    same_urls,
)
from pyetcd.cluster import Cluster, Member
from pyetcd.config import parse
from pyetcd.urls import parse_urls_map
from tests.pyetcd.bootstrap.network import FakeNetwork

pytestmark = pytest.mark.asyncio

PEERS = "a=http://1.0.0.1:1,b=http://1.0.0.2:1,c=http://1.0.0.3:1"
A, B, C = (f"http://1.0.0.{number}:1" for number in (1, 2, 3))
FLAGS = f"-name a -initial-advertise-peer-urls {A} -initial-cluster {PEERS} -data-dir d"
RUNNING = Cluster(
    0xFEED,
    {
        1: Member(1, "", (A,)),
        2: Member(2, "b", (B,), ("http://1.0.0.2:2",)),
        3: Member(3, "c", (C,), ("http://1.0.0.3:2",)),
    },
)


async def plan_of(
    line: str, fake: FakeNetwork | None = None, on_disk: OnDisk | None = None
) -> Plan:
    """Plan with a command line."""
    network = (fake or FakeNetwork()).network()
    return await plan(parse(line.split(), {}), on_disk or OnDisk(), network)


async def error_of(
    line: str, fake: FakeNetwork | None = None, on_disk: OnDisk | None = None
) -> str:
    """Return the line that a start is refused with."""
    with pytest.raises(BootstrapError) as caught:
        await plan_of(line, fake, on_disk)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_new_member_takes_its_identity_from_the_flags() -> None:
    """All members compute the same; the token is stored for later comparisons."""
    got = await plan_of(f"{FLAGS} -initial-cluster-token t")
    expected = Cluster.initial(parse_urls_map(PEERS), "t")
    mine = expected.by_name("a")
    assert mine is not None
    assert got == Plan(
        Start.NEW,
        Identity(mine.id, expected.id, "a", "t", False, tuple(expected.in_order())),
    )


async def test_new_member_of_one_asks_nobody() -> None:
    """A bare start needs no network."""
    fake = FakeNetwork()
    got = await plan_of("", fake)
    assert f"{got.identity.member_id:x}" == "ce2a822cea30bfca"
    assert f"{got.identity.cluster_id:x}" == "7e27652122e8b2ae"
    assert fake.asked == []


async def test_new_member_asks_the_others_but_not_itself() -> None:
    """A member that is known without client URLs has not been started: the others are first."""
    fake = FakeNetwork()
    fake.serve(Cluster.initial(parse_urls_map(PEERS), "etcd-cluster"), B)
    got = await plan_of(FLAGS, fake)
    assert got.start is Start.NEW
    assert sorted(fake.asked) == [f"{B}/members", f"{C}/members"]


async def test_new_member_that_ran_before_is_refused() -> None:
    """It has lost its log, and with it what it promised; one member that knows is enough."""
    known = Cluster.initial(parse_urls_map(PEERS), "etcd-cluster")
    mine = known.by_name("a")
    assert mine is not None
    known.publish(mine.id, "a", ("http://1.0.0.1:2",))
    fake = FakeNetwork(silent={f"{B}/members"})
    fake.serve(known, C)
    line = await error_of(FLAGS, fake)
    assert line.startswith(f"member {mine.id:x} has already been bootstrapped")
    assert f"DELETE /v2/members/{mine.id:x}" in line
    assert fake.cancelled == [f"{B}/members"]


@pytest.mark.parametrize("state", ["new", "existing"])
async def test_name_that_is_not_in_initial_cluster_is_refused(state: str) -> None:
    """With the entry that would be right."""
    line = await error_of(
        f"-name d -initial-advertise-peer-urls http://1.0.0.4:1 -initial-cluster {PEERS}"
        f" -initial-cluster-state {state}"
    )
    assert line == (
        'couldn\'t find local name "d" in the initial cluster configuration -initial-cluster'
        f" {PEERS}; write -name with one of its names, or add d=http://1.0.0.4:1"
    )


@pytest.mark.parametrize("state", ["new", "existing"])
async def test_initial_cluster_with_one_url_twice_is_refused(state: str) -> None:
    """Two members cannot be reached at one URL."""
    line = await error_of(f"-name a -initial-cluster a={A},b={A} -initial-cluster-state {state}")
    assert line == (
        f"initial cluster a={A},b={A} has duplicate url {A};"
        " write -initial-cluster with each URL once"
    )


async def test_initial_cluster_with_one_id_twice_is_refused() -> None:
    """Different URLs whose texts, joined, are the same."""
    members = "a=http://a:1?x,a=http://b:1,b=http://a:1?xhttp://b:1"
    line = await error_of(f"-name a -initial-cluster {members}")
    assert line.startswith("member exists with identical ID ")
    assert line.endswith("; write another -initial-cluster")


async def test_peer_urls_that_do_not_match_initial_cluster_are_refused() -> None:
    """The beginning is etcd's line."""
    line = await error_of(f"-name a -initial-cluster {PEERS}")
    assert line == (
        "--initial-cluster must include a=http://localhost:2380,a=http://localhost:7001 given"
        " --initial-advertise-peer-urls=http://localhost:2380,http://localhost:7001; write that,"
        f" or -initial-advertise-peer-urls {A}"
    )


async def test_peer_urls_that_match_by_dns_are_accepted() -> None:
    """A name and its address are the same, as in etcd; the name decides the id."""
    fake = FakeNetwork(hosts={"host-a": "1.0.0.1"})
    got = await plan_of(f"-name a -initial-advertise-peer-urls {A} -initial-cluster "
                        "a=http://host-a:1", fake)  # fmt: skip
    assert got.identity.member.peer_urls == ("http://host-a:1",)
    line = f"-name a -initial-advertise-peer-urls {A} -initial-cluster a=http://host-b:1"
    assert "must include" in await error_of(line, fake)


async def test_joining_member_takes_its_identity_from_the_cluster() -> None:
    """Ids come from the members that run, its name from its flags."""
    fake = FakeNetwork()
    fake.serve(RUNNING, C)
    got = await plan_of(f"{FLAGS} -initial-cluster-state existing", fake)
    assert got.start is Start.JOIN
    assert got.identity == Identity(
        1,
        0xFEED,
        "a",
        "",
        True,
        (Member(1, "a", (A,)), RUNNING.members[2], RUNNING.members[3]),
    )


async def test_joining_member_does_not_wait_for_a_silent_one() -> None:
    """The first answer counts, and the other questions are given up."""
    fake = FakeNetwork(silent={f"{B}/members"})
    fake.serve(RUNNING, C)
    await plan_of(f"{FLAGS} -initial-cluster-state existing", fake)
    assert fake.cancelled == [f"{B}/members"]


async def test_joining_member_matches_names_with_addresses() -> None:
    """The cluster may know a member by its name and the flags by its address."""
    fake = FakeNetwork(hosts={"host-b": "1.0.0.2"})
    running = Cluster(1, {1: Member(1, "", (A,)), 2: Member(2, "b", ("http://host-b:1",))})
    fake.serve(running, B)
    line = f"-name a -initial-cluster a={A},b={B} -initial-cluster-state existing"
    assert (await plan_of(line, fake)).identity.members[1] == running.members[2]


async def test_joining_member_that_ran_before_is_refused() -> None:
    """Its votes and entries are forgotten; etcd lets it in."""
    fake = FakeNetwork()
    fake.serve(RUNNING, C)
    line = f"-name b -initial-cluster {PEERS} -initial-cluster-state existing -data-dir d"
    error = await error_of(line, fake)
    assert error.startswith("member 2 has already been bootstrapped, but d has no log of it")


@pytest.mark.parametrize(
    ("members", "reason"),
    [(PEERS, f"none of {B},{C} answers"), (f"a={A}", "it names no other member")],
)
async def test_joining_member_that_reaches_nobody_is_refused(members: str, reason: str) -> None:
    """Who was asked is part of the line."""
    line = await error_of(f"-name a -initial-cluster {members} -initial-cluster-state existing")
    assert line == (
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from"
        f" the given urls; write -initial-cluster with the members that run ({reason})"
    )


async def test_joining_member_that_was_not_added_is_told_how() -> None:
    """A command line to copy."""
    fake = FakeNetwork()
    fake.serve(Cluster(1, {2: RUNNING.members[2], 3: RUNNING.members[3]}), B)
    line = await error_of(f"{FLAGS} -initial-cluster-state existing", fake)
    assert line == (
        "error validating peerURLs: member count is unequal, 3 in -initial-cluster and 2 in"
        " cluster 1; add this member first: curl -XPOST CLIENT_URL/v2/members"
        f" -H 'Content-Type: application/json' -d '{{\"peerURLs\":[\"{A}\"]}}'"
    )


async def test_joining_member_with_members_left_out_is_told_the_right_flag() -> None:
    """The list of the cluster, with its own name where the cluster has none yet."""
    fake = FakeNetwork()
    fake.serve(RUNNING, B)
    line = await error_of(
        f"-name a -initial-cluster a={A},b={B} -initial-cluster-state existing", fake
    )
    assert line == (
        "error validating peerURLs: member count is unequal, 2 in -initial-cluster and 3 in"
        f" cluster feed; write -initial-cluster {PEERS}"
    )


async def test_joining_member_with_a_wrong_url_is_told_the_right_flag() -> None:
    """The count is right, a URL is not."""
    fake = FakeNetwork()
    fake.serve(RUNNING, B)
    line = await error_of(
        f"-name a -initial-cluster a={A},b={B},c=http://1.0.0.9:1 -initial-cluster-state existing",
        fake,
    )
    assert line == (
        "error validating peerURLs: unmatched member while checking PeerURLs,"
        f" c=http://1.0.0.9:1 is not in cluster feed; write -initial-cluster {PEERS}"
    )


async def test_restart_takes_the_stored_identity_and_asks_nobody() -> None:
    """The flags about bootstrapping do not matter, not even the state."""
    first = await plan_of(FLAGS)
    on_disk = OnDisk(has_wal=True, stored_identity=first.identity.encode())
    fake = FakeNetwork()
    for line in ("-data-dir d", FLAGS, f"{FLAGS} -initial-cluster-state existing"):
        got = await plan_of(line, fake, on_disk)
        assert got == Plan(Start.RESTART, first.identity, ())
    assert fake.asked == []


async def test_restart_passes_warnings_on() -> None:
    """To be logged when the log is set up."""
    first = await plan_of(FLAGS)
    on_disk = OnDisk(has_wal=True, stored_identity=first.identity.encode())
    got = await plan_of(f"-name a -initial-cluster a={A}", on_disk=on_disk)
    assert got.warnings == ("-initial-cluster is ignored: the log says who is a member",)


async def test_restart_with_the_data_of_another_member_is_refused() -> None:
    """The rules are tested with `contradictions`."""
    first = await plan_of(FLAGS)
    on_disk = OnDisk(has_wal=True, stored_identity=first.identity.encode())
    assert "belongs to member a" in await error_of("-name b -data-dir d", on_disk=on_disk)


@pytest.mark.parametrize("stored", [None, b"", b"nonsense"])
async def test_restart_with_a_log_that_says_nothing_is_refused(stored: bytes | None) -> None:
    """The line names the directory."""
    line = await error_of("-data-dir d", on_disk=OnDisk(has_wal=True, stored_identity=stored))
    assert line.startswith("the log in d/member/wal does not say whose it is (")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(404, "1", b"[]"), "answered with status 404"),
        (Answer(200, "1", b"{}"), "not a list of members: {}"),
        (Answer(200, "", RUNNING.peer_members_json()), "the answer does not name a cluster"),
        (Answer(200, "0", RUNNING.peer_members_json()), "the answer does not name a cluster"),
        (Answer(200, "1" * 17, RUNNING.peer_members_json()), "the answer does not name a cluster"),
        (Answer(200, "1", b"[]"), "the answer does not name a cluster"),
    ],
)
async def test_answer_that_is_no_member_list_is_passed_over(
    caplog: pytest.LogCaptureFixture, answer: Answer, reason: str
) -> None:
    """The port belongs to another program; the log says what it answered."""
    fake = FakeNetwork({f"{A}/members": answer})
    assert await first_cluster([A], fake.network(), timeout_seconds=1) is None
    assert caplog.messages[0].startswith(f"could not get cluster response from {A}: {reason}")
    fake.serve(RUNNING, B)
    found = await first_cluster([A, B], fake.network(), timeout_seconds=1)
    assert found is not None
    assert found.cluster_id == 0xFEED


async def test_silence_ends_with_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    """A limit of 0 is over at once."""
    fake = FakeNetwork(silent={f"{A}/members"})
    assert await first_cluster([A], fake.network(), timeout_seconds=0) is None
    assert caplog.messages == [f"could not get cluster response from {A}: no answer in 0 s"]
    assert not await is_bootstrapped(1, [A], fake.network(), timeout_seconds=0)


async def test_same_urls_compares_addresses_and_ports() -> None:
    """localhost is no address, as in etcd."""
    network = FakeNetwork(hosts={"h": "1.0.0.1", "localhost": "127.0.0.1"}).network()
    assert await same_urls(
        ("http://1.0.0.1:1", "http://x:2"), ("http://h:1", "http://x:2"), network
    )
    assert not await same_urls(("http://1.0.0.1:1",), ("http://h:2",), network)
    assert not await same_urls(("http://localhost:1",), ("http://127.0.0.1:1",), network)
    assert not await same_urls(("http://h:1",), ("http://h:1", "http://h:2"), network)


async def test_resolve_host_knows_addresses_and_localhost() -> None:
    """Without a name server; a name that cannot be one has no address."""
    assert await resolve_host("127.0.0.1") == "127.0.0.1"
    assert await resolve_host("localhost") == "127.0.0.1"
    assert await resolve_host("a" * 300) is None


Serve = Callable[[web.Request], Awaitable[web.Response]]


async def answered(handler: Serve) -> Answer:
    """Get /members from a server on the loopback interface."""
    app = web.Application()
    app.router.add_get("/members", handler)
    async with TestServer(app) as server:
        return await http_get(str(server.make_url("/members")))


async def test_http_get_brings_status_header_and_body() -> None:
    """From a real socket."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"[]", status=203, headers={"X-Etcd-Cluster-ID": "1f"})

    assert await answered(handler) == Answer(203, "1f", b"[]")


async def test_http_get_does_not_follow_redirects() -> None:
    """A member does not redirect; whoever does is none."""

    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:1/")

    assert (await answered(handler)).status == 302


async def test_http_get_of_too_much_is_given_up() -> None:
    """The other side cannot fill our memory."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=bytes(MAX_BODY_BYTES + 1))

    with pytest.raises(Unreachable, match="more than"):
        await answered(handler)


async def test_http_get_where_nobody_listens_is_unreachable() -> None:
    """The reason is the system's."""
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        await http_get(f"http://127.0.0.1:{unused_port()}/members")


async def told(said: bytes) -> Answer:
    """Get /members from somebody who says this, whatever he was asked, and closes."""
    ended = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.write_eof()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        try:
            return await http_get(f"http://127.0.0.1:{port}/members")
        finally:
            await ended.wait()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"+PONG\r\n"])
async def test_http_get_of_what_is_no_answer_is_unreachable(said: bytes) -> None:
    """The port may belong to another program, or its owner may end in the midst of an answer."""
    with pytest.raises(Unreachable):
        await told(said)


async def test_http_get_passes_over_what_comes_before_the_answer() -> None:
    """An answer of 1xx announces another one, which may come with it."""
    early = b"HTTP/1.1 103 x\r\n\r\n"
    got = await told(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    assert got == Answer(200, "", b"[]")
