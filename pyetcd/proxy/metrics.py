"""`/metrics` of a proxy: what it has forwarded, what came to nothing, and whom it may ask.

The names are those of etcd 2.3's proxy where it has them. A member's own figures are at the member:
through a proxy nobody could tell whose they are.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pyetcd.exposition import Exposition
from pyetcd.httpd import Request
from pyetcd.proxy.director import Director

PATH: Final = b"/metrics"

# Why a request was dropped, in the words of etcd; the last one is ours.
ZERO_ENDPOINTS: Final = "zero_endpoints"
NOT_SENT: Final = "failed_sending_request"
NO_RESPONSE: Final = "failed_getting_response"
LOOP: Final = "loop"

_OTHER: Final = "other"
_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "POST", "DELETE"))


@dataclass(slots=True)
class Counts:
    """What became of the requests, by method."""

    received: Counter[str] = field(default_factory=Counter)
    # Answered by a member, whatever it said.
    handled: Counter[str] = field(default_factory=Counter)
    # By method and reason: answered by the proxy with an error.
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)


def method_of(request: Request) -> str:
    """Return the method as it is counted: no client can make up names without end."""
    method = request.method.decode("latin-1")
    return method if method in _METHODS else _OTHER


class Metrics:
    """What the page of one proxy shows."""

    def __init__(self, counts: Counts, director: Director) -> None:
        self._counts = counts
        self._director = director
        # The handler.
        self.get = Exposition(self.collect).get

    def collect(self) -> Iterator[Metric]:
        """Yield every figure as it is now."""
        counts = self._counts
        for name, text, figures in (
            ("etcd_proxy_requests_total", "Requests of clients, by method.", counts.received),
            ("etcd_proxy_handled_total", "Answered by a member, by method.", counts.handled),
        ):
            family = CounterMetricFamily(name, text, labels=("method",))
            for method, count in sorted(figures.items()):
                family.add_metric((method,), count)
            yield family
        dropped = CounterMetricFamily(
            "etcd_proxy_dropped_total",
            "Answered with an error by the proxy, by method and reason.",
            labels=("method", "proxying_error"),
        )
        for labels, count in sorted(counts.dropped.items()):
            dropped.add_metric(labels, count)
        yield dropped
        available, known = len(self._director.available()), self._director.known
        endpoints = GaugeMetricFamily(
            "etcd_proxy_endpoints", "Client URLs of members, by state.", labels=("state",)
        )
        endpoints.add_metric(("available",), available)
        endpoints.add_metric(("unavailable",), known - available)
        yield endpoints
