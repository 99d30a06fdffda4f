"""A proxy's own figures, as Prometheus' parser reads them."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http import request
from tests.pyetcd.proxy.test_proxy import CLOSE, OK, proxy_of, refused_url
from tests.upstream import Upstream, answering, breaking_off, exchange

pytestmark = pytest.mark.asyncio

LOOPED = b"HTTP/1.1 508 Loop Detected\r\nx-etcd-proxy: 1d\r\nContent-Length: 0\r\n\r\n"


async def figures(port: int) -> dict[str, float]:
    """The proxy's own samples, by name and labels."""
    ((status, body),) = await exchange(port, request("GET", "/metrics", headers=CLOSE))
    assert status == 200
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith("etcd_proxy")
    }


async def test_requests_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    """A page of the proxy's own is no request; nobody can make up methods without end."""
    async with Upstream(answering(OK)) as member, proxy_of([member.url], tmp_path) as port:
        for method in ("GET", "PUT", "PUT", "PROPFIND"):
            await exchange(port, request(method, "/v2/keys/a", headers=CLOSE))
        assert await figures(port) == {
            "etcd_proxy_requests_total GET": 1,
            "etcd_proxy_requests_total PUT": 2,
            "etcd_proxy_requests_total other": 1,
            "etcd_proxy_handled_total GET": 1,
            "etcd_proxy_handled_total PUT": 2,
            "etcd_proxy_handled_total other": 1,
            "etcd_proxy_endpoints available": 1,
            "etcd_proxy_endpoints unavailable": 0,
        }


async def test_requests_that_nobody_answers_are_counted_by_the_reason(tmp_path: Path) -> None:
    """Not sent, perhaps sent, nobody left to ask."""
    async with (
        Upstream(breaking_off) as member,
        proxy_of([refused_url(), member.url], tmp_path) as port,
    ):
        for _ in range(2):
            await exchange(port, request("PUT", headers=CLOSE))
        found = await figures(port)
    assert found["etcd_proxy_requests_total PUT"] == 2
    assert "etcd_proxy_handled_total PUT" not in found
    assert found["etcd_proxy_dropped_total PUT failed_getting_response"] == 1
    assert found["etcd_proxy_dropped_total PUT zero_endpoints"] == 1
    assert found["etcd_proxy_endpoints available"] == 0
    assert found["etcd_proxy_endpoints unavailable"] == 2
    async with proxy_of([refused_url()], tmp_path) as port:
        await exchange(port, request("PUT", headers=CLOSE))
        found = await figures(port)
    assert found["etcd_proxy_dropped_total PUT failed_sending_request"] == 1


async def test_loops_are_counted(tmp_path: Path) -> None:
    """Whether the request comes back here, or a member leads back."""
    async with Upstream(answering(LOOPED)) as member, proxy_of([member.url], tmp_path) as port:
        await exchange(port, request("PUT", headers=[*CLOSE, "X-Etcd-Proxy: 1d"]))
        await exchange(port, request("PUT", headers=CLOSE))
        found = await figures(port)
    assert found["etcd_proxy_dropped_total PUT loop"] == 2
    assert found["etcd_proxy_requests_total PUT"] == 2


async def test_readonly_proxy_shows_its_figures(tmp_path: Path) -> None:
    """By any method, as a member does."""
    async with proxy_of([refused_url()], tmp_path, readonly=True) as port:
        ((status, _),) = await exchange(port, request("POST", "/metrics", headers=CLOSE))
    assert status == 200
