"""Members found by SRV records, from a table and from a DNS server that the test starts."""

import logging
from collections.abc import Iterator

import dns.asyncresolver
import pytest

from pyetcd.bootstrap import BootstrapError, OnDisk, Start, find_peer_urls, plan
from pyetcd.bootstrap.srv import LookupFailed, Record, lookup_srv, srv_cluster
from pyetcd.config import parse
from pyetcd.urls import UrlsMap
from tests.dns_server import DnsServer
from tests.pyetcd.bootstrap.network import FakeNetwork

pytestmark = pytest.mark.asyncio

HOSTS = {
    "a.test": "1.0.0.1",
    "b.test": "1.0.0.2",
    "c.test": "1.0.0.3",
    "me.test": "1.0.0.1",
    "a b": "1",
}
PLAIN, SECURE = "_etcd-server._tcp.x.test", "_etcd-server-ssl._tcp.x.test"
ME = ("http://me.test:1",)


async def found(table: dict[str, list[Record]], *, must_be_member: bool = True) -> UrlsMap:
    """Find the cluster of member `a`, at `me.test:1`, with these records."""

    async def lookup(name: str) -> list[Record]:
        if name not in table:
            raise LookupFailed(f"{name}: no such domain")
        return table[name]

    network = FakeNetwork(hosts=HOSTS).network()
    return await srv_cluster(
        "a", "x.test", ME, network, lookup=lookup, must_be_member=must_be_member
    )


async def test_record_with_an_own_address_gets_the_name_and_others_a_number() -> None:
    """Host names are compared by their addresses; both services count."""
    table = {
        PLAIN: [Record(0, 0, "a.test", 1), Record(0, 0, "b.test", 1)],
        SECURE: [Record(0, 0, "c.test", 1)],
    }
    assert await found(table) == {
        "0": ("https://c.test:1",),
        "a": ("http://a.test:1",),
        "2": ("http://b.test:1",),
    }


async def test_record_whose_host_is_unknown_is_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others may still be a cluster."""
    table = {PLAIN: [Record(0, 0, "a.test", 1), Record(0, 0, "gone.test", 1)]}
    assert await found(table) == {"a": ("http://a.test:1",)}
    assert "couldn't resolve host gone.test:1 during SRV discovery" in caplog.messages


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            {},
            "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl",
        ),
        ({PLAIN: []}, "error setting up initial cluster: error querying DNS SRV records"),
        ({PLAIN: [], SECURE: []}, "error setting up initial cluster: no usable SRV records"),
        (
            {PLAIN: [Record(0, 0, "a b", 1)]},
            'error setting up initial cluster: parse http://a b:1: invalid character " "',
        ),
        (
            {PLAIN: [Record(0, 0, "b.test", 1)]},
            'error setting up initial cluster: cannot find local etcd member "a" in SRV records',
        ),
        (
            {PLAIN: [Record(0, 0, "b.test", 1), Record(0, 0, "a.test", 2)]},
            'error setting up initial cluster: cannot find local etcd member "a" in SRV records',
        ),
    ],
)
async def test_records_without_this_member_are_refused(
    table: dict[str, list[Record]], line: str
) -> None:
    """The line says what is missing."""
    with pytest.raises(BootstrapError) as caught:
        await found(table)
    assert str(caught.value).startswith(line)


async def test_proxy_need_not_be_in_the_records() -> None:
    """It only wants to know where the members are."""
    table = {PLAIN: [Record(0, 0, "b.test", 1)]}
    assert await found(table, must_be_member=False) == {"0": ("http://b.test:1",)}


async def test_own_host_that_is_unknown_is_refused() -> None:
    """Without its address the member cannot find itself."""
    with pytest.raises(BootstrapError, match=r"couldn't resolve host me\.test:1"):
        await srv_cluster("a", "x.test", ME, FakeNetwork().network())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    """A DNS server that this process asks."""
    records = {PLAIN: ["10 5 1 b.test.", "10 0 1 a.test.", "0 0 1 c.test."]}
    with DnsServer(records) as server:
        monkeypatch.setattr(dns.asyncresolver, "default_resolver", server.resolver())
        yield server


async def test_lookup_sorts_records_by_priority_and_weight(server: DnsServer) -> None:
    """All members see the same order; targets lose their last dot."""
    assert await lookup_srv(PLAIN) == [
        Record(0, 0, "c.test", 1),
        Record(10, 0, "a.test", 1),
        Record(10, 5, "b.test", 1),
    ]


async def test_lookup_of_an_unknown_name_fails(server: DnsServer) -> None:
    """With what the server said."""
    with pytest.raises(LookupFailed, match="does not exist"):
        await lookup_srv(SECURE)


async def test_plan_with_srv_is_that_of_the_records(
    server: DnsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A member starts a cluster of three with nothing but a domain; a proxy finds it."""
    caplog.set_level(logging.INFO)
    network = FakeNetwork(hosts=HOSTS).network()
    line = "-name a -discovery-srv x.test -initial-advertise-peer-urls http://a.test:1"
    config = parse(line.split(), {})
    got = await plan(config, OnDisk(), network)
    assert got.start is Start.NEW
    assert got.identity.token == "etcd-cluster"
    assert sorted(member.name for member in got.identity.members) == ["0", "2", "a"]
    assert "got bootstrap from DNS for etcd-server at http://a.test:1" in caplog.messages
    again = await plan(config, OnDisk(True, got.identity.encode()), network)
    assert again.warnings[0].startswith("DNS SRV discovery ignored")
    assert len(await find_peer_urls(config, network)) == 3
