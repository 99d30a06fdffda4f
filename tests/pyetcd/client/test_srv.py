"""Endpoints from DNS, asked of a name server that the test runs."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest

from pyetcd.client import BadSetting, discover

pytestmark = pytest.mark.asyncio

SSL = "_etcd-client-ssl._tcp.example.com."
PLAIN = "_etcd-client._tcp.example.com."


class NameServer(asyncio.DatagramProtocol):
    """Answers SRV questions from a table, and any other with NXDOMAIN."""

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self._table = table
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        name = question.question[0].name.to_text()
        if name in self._table:
            answer.answer.append(dns.rrset.from_text_list(name, 60, "IN", "SRV", self._table[name]))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def resolver(
    table: Mapping[str, Sequence[str]],
) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """A resolver that asks a name server with this table."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(table), local_addr=("127.0.0.1", 0)
    )
    asking = dns.asyncresolver.Resolver(configure=False)
    asking.nameservers = ["127.0.0.1"]
    asking.port = transport.get_extra_info("sockname")[1]
    try:
        yield asking
    finally:
        transport.close()


async def test_discover_with_both_services_lists_secure_endpoints_first() -> None:
    """Each service has its scheme; within one, priority and weight decide."""
    table = {
        SSL: ["0 0 2379 s1.example.com."],
        PLAIN: [
            "10 0 1 last.example.com.",
            "0 1 2 second.example.com.",
            "0 9 3 first.example.com.",
        ],
    }
    async with resolver(table) as asking:
        assert await discover("example.com", asking) == (
            "https://s1.example.com:2379",
            "http://first.example.com:3",
            "http://second.example.com:2",
            "http://last.example.com:1",
        )


async def test_discover_with_one_service_is_enough() -> None:
    """Few clusters publish both."""
    async with resolver({PLAIN: ["0 0 1 a.example.com."]}) as asking:
        assert await discover("example.com", asking) == ("http://a.example.com:1",)


async def test_discover_of_an_unknown_domain_names_both_questions() -> None:
    """The user sees what was looked for."""
    async with resolver({}) as asking:
        with pytest.raises(BadSetting) as caught:
            await discover("example.com", asking)
    assert "_etcd-client-ssl._tcp.example.com: no such host" in str(caught.value)
    assert "_etcd-client._tcp.example.com: no such host" in str(caught.value)
