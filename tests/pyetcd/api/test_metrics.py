"""Proves that Prometheus finds etcd 2.3's figures, and in them what has happened."""

from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyetcd.api.keys import Keys
from pyetcd.api.metrics import Metrics
from pyetcd.httpd import Route, Router
from pyetcd.stats import KeyRequests
from pyetcd.store import Store
from raft import DiskDurations, Durations
from raft.transport import PeerStats
from tests.http import Wire, request
from tests.pyetcd.api.direct import NOW, Client
from tests.pyetcd.api.fake_server import FakeTransport


@dataclass
class FakeLog:
    """Of an index."""

    stable_index: int = 12


@dataclass
class FakeCore:
    """Has a log."""

    log: FakeLog = field(default_factory=FakeLog)


@dataclass
class FakeNode:
    """Has measured its disk."""

    core: FakeCore = field(default_factory=FakeCore)
    disk_durations: DiskDurations = field(default_factory=DiskDurations)
    disk_full: bool = True


@dataclass
class FakePending:
    """Has counted proposals."""

    count: int = 2
    failed: int = 1
    durations: Durations = field(default_factory=Durations)


@dataclass
class MeasuredServer:
    """A member with a past."""

    store: Store = field(default_factory=Store)
    node: FakeNode = field(default_factory=FakeNode)
    pending: FakePending = field(default_factory=FakePending)
    transport: FakeTransport = field(default_factory=FakeTransport)
    leader: int = 0xA
    is_leader: bool = False


def scrape(server: MeasuredServer, requests: KeyRequests, method: str = "GET") -> dict[str, float]:
    """The samples by name and labels, as Prometheus' own parser reads them."""
    handler = Router([Route(b"/metrics", {None: Metrics(server, requests).get})])
    response = Wire(handler).send(request(method, "/metrics")).response()
    assert response.status == 200
    assert response.header("Content-Type") == "text/plain; version=0.0.4"
    return {
        ",".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


def test_metrics_show_what_the_member_has_counted():
    """Each figure comes from where it is counted."""
    server, requests = MeasuredServer(), KeyRequests(gets=3, quorum_gets=1, puts=5, watches=2)
    requests.count_refused(b"GET", 404)
    requests.count_refused(b"GET", 404)
    server.store.set("/a", "1", NOW)
    server.node.disk_durations.writes.add(0.003)
    server.node.disk_durations.snapshots.add(1.5)
    server.node.disk_durations.encodings.add(0.5)
    server.transport.peers[0xB] = PeerStats(messages_dropped=7)
    figures = scrape(server, requests)
    expected = {
        "etcd_server_pending_proposal_total": 2,
        "etcd_server_proposal_failed_total": 1,
        "etcd_server_has_leader": 1,
        "etcd_server_is_leader": 0,
        "etcd_wal_fsync_durations_seconds_count": 1,
        "etcd_wal_fsync_durations_seconds_sum": 0.003,
        "etcd_wal_fsync_durations_seconds_bucket,0.002": 0,
        "etcd_wal_fsync_durations_seconds_bucket,0.004": 1,
        "etcd_wal_fsync_durations_seconds_bucket,+Inf": 1,
        "etcd_wal_last_index_saved": 12,
        "etcd_wal_no_space": 1,
        "etcd_snapshot_save_total_durations_seconds_sum": 1.5,
        "etcd_snapshot_save_marshalling_durations_seconds_sum": 0.5,
        "etcd_store_writes_total,set": 1,
        "etcd_store_writes_failed_total,delete": 0,
        "etcd_store_reads_total,get": 0,
        "etcd_store_expires_total": 0,
        "etcd_store_watch_requests_total": 2,
        "etcd_store_watchers": 0,
        "etcd_http_received_total,GET": 5,
        "etcd_http_received_total,QGET": 1,
        "etcd_http_received_total,PUT": 5,
        "etcd_http_failed_total,404,GET": 2,
        "etcd_rafthttp_message_sent_failed_total,b": 7,
    }
    assert {name: figures.get(name) for name in expected} == expected
    assert figures["etcd_server_file_descriptors_used_total"] > 2
    assert figures["process_resident_memory_bytes"] > 0


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_metrics_take_any_method(method):
    """As etcd's page does; twice gives the same figures."""
    server = MeasuredServer()
    assert scrape(server, KeyRequests(), method)["etcd_store_watchers"] == 0


def test_keys_count_their_requests():
    """Those that were taken, by method; a refused one by its status, too."""
    client = Client()
    client.ask("PUT", "/k", b"value=1")
    client.ask("PUT", "/k", b"value=1&prevExist=false")
    client.ask("POST", "/q", b"value=1")
    client.ask("GET", "/k")
    client.ask("GET", "/k?recursive=true")
    client.ask("GET", "/k?recursive=maybe")
    client.begin("GET", "/k?wait=true")
    client.begin("GET", "/k?quorum=true")
    client.ask("DELETE", "/nope")
    keys: Keys = client.keys
    assert keys.requests == KeyRequests(
        gets=2,
        quorum_gets=1,
        puts=2,
        posts=1,
        deletes=1,
        watches=1,
        refused={("PUT", 412): 1, ("GET", 400): 1, ("DELETE", 404): 1},
    )
