"""The page `/metrics`: figures in Prometheus' text format, for whoever has some.

Nothing is counted here: the figures are read, when somebody asks, from where they are anyway.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from pyetcd.httpd import Request

Collect: TypeAlias = Callable[[], Iterator[Metric]]

_HEAD: Final = b"Content-Type: text/plain; version=0.0.4\r\n"


class Exposition:
    """The handler of the page: some figures, and those of the process."""

    def __init__(self, collect: Collect) -> None:
        """`collect` yields every figure as it is now."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(collect))
        ProcessCollector(registry=self._registry)

    def get(self, request: Request) -> None:
        """Answer any method, as Prometheus' own handler in etcd does."""
        request.respond(200, _HEAD, generate_latest(self._registry))


class _Collector(Collector):
    """Derived, since a registry takes nothing else."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        return self._collect()


__all__ = ["Exposition"]
