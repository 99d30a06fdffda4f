"""`/metrics`: the figures of this member for Prometheus, under the names of etcd 2.3.

Nothing is counted for this page on the way of a request but what a plain addition counts: the
figures are read, when somebody asks, from where they are anyway. What etcd 2.3 measures with a
clock for every request (`etcd_http_successful_duration_second`,
`etcd_rafthttp_message_sent_latency_seconds`) is not here; proposals are timed by a sample.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from pyetcd.exposition import Exposition
from pyetcd.server.pending import Pending
from pyetcd.server.surroundings import Peers, RaftNode
from pyetcd.stats import KeyRequests
from pyetcd.store import Store
from raft import BOUNDS, Durations

_OPEN_FILES: Final = "/proc/self/fd"

# The store's counters by what Prometheus knows the action as.
_READS: Final = {"get": "gets"}
_WRITES: Final = {
    "set": "sets",
    "create": "create",
    "update": "update",
    "delete": "delete",
    "compareAndSwap": "compareAndSwap",
    "compareAndDelete": "compareAndDelete",
}


class MeasuredServer(Protocol):
    """What the page needs of a server."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""

    @property
    def leader(self) -> int:
        """The member that leads; 0 when none is known."""

    @property
    def store(self) -> Store:
        """The keys."""

    @property
    def node(self) -> RaftNode:
        """The log."""

    @property
    def pending(self) -> Pending:
        """Who waits for the log."""

    @property
    def transport(self) -> Peers:
        """The way to the other members."""


class Metrics:
    """What the page of one member shows."""

    def __init__(self, server: MeasuredServer, requests: KeyRequests) -> None:
        self._server = server
        self._requests = requests
        # The handler.
        self.get = Exposition(self.collect).get

    def collect(self) -> Iterator[Metric]:
        """Yield every figure as it is now."""
        yield from self._server_figures()
        yield from self._disk_figures()
        yield from self._store_figures()
        yield from self._request_figures()
        yield from self._peer_figures()

    def _server_figures(self) -> Iterator[Metric]:
        server = self._server
        pending = server.pending
        yield _histogram(
            "etcd_server_proposal_durations_seconds",
            "How long proposals take until they are applied; some in a second are measured.",
            pending.durations,
        )
        yield _gauge(
            "etcd_server_pending_proposal_total",
            "Proposals that wait to be applied.",
            pending.count,
        )
        yield _counter(
            "etcd_server_proposal_failed_total",
            "Proposals that were given up.",
            pending.failed,
        )
        yield _gauge(
            "etcd_server_file_descriptors_used_total",
            "File descriptors in use.",
            len(os.listdir(_OPEN_FILES)),
        )
        yield _gauge("etcd_server_has_leader", "1 if a leader is known.", int(server.leader != 0))
        yield _gauge("etcd_server_is_leader", "1 if this member leads.", int(server.is_leader))

    def _disk_figures(self) -> Iterator[Metric]:
        node = self._server.node
        durations = node.disk_durations
        yield _histogram(
            "etcd_wal_fsync_durations_seconds",
            "How long writes to the log take until they are on the disk.",
            durations.writes,
        )
        yield _gauge(
            "etcd_wal_last_index_saved",
            "The last entry of the log that is on the disk.",
            node.core.log.stable_index,
        )
        yield _gauge(
            "etcd_wal_no_space",
            "1 while the disk has no room for the log, and this member refuses writes.",
            int(node.disk_full),
        )
        yield _histogram(
            "etcd_snapshot_save_total_durations_seconds",
            "How long snapshots take.",
            durations.snapshots,
        )
        yield _histogram(
            "etcd_snapshot_save_marshalling_durations_seconds",
            "How long of that the encoding takes.",
            durations.encodings,
        )

    def _store_figures(self) -> Iterator[Metric]:
        store = self._server.store
        figures = store.stats.as_dict(watchers=store.watcher_count)
        reads, writes = "Reads of this member", "Writes seen by this member"
        for name, text, actions, suffix in (
            ("etcd_store_reads_total", reads, _READS, "Success"),
            ("etcd_store_reads_failed_total", f"{reads} that failed", _READS, "Fail"),
            ("etcd_store_writes_total", writes, _WRITES, "Success"),
            ("etcd_store_writes_failed_total", f"{writes} that failed", _WRITES, "Fail"),
        ):
            yield _labelled(
                name,
                f"{text}, by action.",
                ("action",),
                (((action,), figures[stem + suffix]) for action, stem in actions.items()),
            )
        yield _counter("etcd_store_expires_total", "Expired keys.", figures["expireCount"])
        yield _counter(
            "etcd_store_watch_requests_total", "Watches that were begun.", self._requests.watches
        )
        yield _gauge("etcd_store_watchers", "Watches that wait.", figures["watchers"])

    def _request_figures(self) -> Iterator[Metric]:
        requests = self._requests
        received = {
            "GET": requests.gets + requests.watches,
            "QGET": requests.quorum_gets,
            "PUT": requests.puts,
            "POST": requests.posts,
            "DELETE": requests.deletes,
        }
        yield _labelled(
            "etcd_http_received_total",
            "Requests on keys that could be read and were permitted, by method.",
            ("method",),
            (((method,), count) for method, count in received.items()),
        )
        yield _labelled(
            "etcd_http_failed_total",
            "Requests on keys that were answered with an error, by method and status.",
            ("method", "code"),
            (
                ((method, str(status)), count)
                for (method, status), count in sorted(requests.refused.items())
            ),
        )

    def _peer_figures(self) -> Iterator[Metric]:
        transport = self._server.transport
        dropped = []
        for peer_id in transport.peer_ids:
            stats = transport.stats(peer_id)
            if stats is not None:
                dropped.append(((f"{peer_id:x}",), stats.messages_dropped))
        yield _labelled(
            "etcd_rafthttp_message_sent_failed_total",
            "Messages to other members that could not be sent, by member.",
            ("remoteID",),
            dropped,
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _labelled(
    name: str,
    text: str,
    labels: tuple[str, ...],
    rows: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, lasted in zip((*map(repr, BOUNDS), "+Inf"), durations.counts, strict=True):
        count += lasted
        buckets.append((bound, count))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=durations.total_seconds)


__all__ = ["Metrics"]
