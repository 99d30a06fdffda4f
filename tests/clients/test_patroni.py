"""Proves that Patroni's driver for etcd, unchanged, finds in pyetcd what it needs of etcd.

Patroni is no dependency of the project: `pip install 'patroni[etcd,psycopg2]'` to run this.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import Cluster, wait_for

pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
dcs = pytest.importorskip("patroni.dcs", reason="patroni is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TTL_SECONDS = 3


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """The drivers of two database servers, on one member."""
    with Cluster(tmp_path, size=1) as cluster:
        address = cluster.members[0].client_url.removeprefix("http://")
        yield tuple(
            dcs.get_dcs(
                {
                    "etcd": {"host": address},
                    "scope": "batman",
                    "namespace": "/service/",
                    "name": name,
                    "ttl": TTL_SECONDS,
                    "retry_timeout": 3,
                    "loop_wait": 1,
                }
            )
            for name in "ab"
        )


def test_patroni_elects_and_keeps_a_leader(nodes: tuple[Any, Any]) -> None:
    """Who initializes, who gets the lock, who may renew it, and what all see of it."""
    a, b = nodes
    assert a.initialize(create_new=True)
    assert not b.initialize(create_new=True)
    assert a.touch_member({"conn_url": "postgres://a", "state": "running"})
    assert b.touch_member({"conn_url": "postgres://b", "state": "running"})
    assert a.attempt_to_acquire_leader()
    assert not b.attempt_to_acquire_leader()
    cluster = b.get_cluster()
    assert cluster.leader.name == "a"
    assert sorted(member.name for member in cluster.members) == ["a", "b"]
    assert a.update_leader(cluster, 42, {"slot": 1})
    assert not b.update_leader(cluster, 1)
    assert a.set_config_value('{"ttl":3}')
    assert not a.set_config_value('{"ttl":4}', version=1)
    assert a.write_sync_state("a", [], 0)
    assert b.get_cluster().sync.leader == "a"


def test_patroni_fails_over(nodes: tuple[Any, Any]) -> None:
    """A watch on the lock wakes when it is given up; a lock that nobody renews expires."""
    a, b = nodes
    assert a.attempt_to_acquire_leader()
    leader = b.get_cluster().leader
    threading.Timer(0.2, lambda: a.delete_leader(leader)).start()
    assert b.watch(leader.version, 20)
    assert b.attempt_to_acquire_leader()
    assert a.get_cluster().leader.name == "b"
    wait_for(lambda: a.get_cluster().leader is None, 4 * TTL_SECONDS, "the lock to expire")
    assert a.attempt_to_acquire_leader()
    assert a.delete_cluster()
