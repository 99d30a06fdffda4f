"""Proves that python-etcd, unchanged, works with pyetcd: the calls of its own integration tests."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import Cluster, Member, wait_for

etcd = pytest.importorskip("etcd", reason="python-etcd is not installed")
# It reads `etcd` alone as the package; its locks and accounts are modules of their own.
auth = pytest.importorskip("etcd.auth")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # It leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three members."""
    with Cluster(tmp_path) as running:
        yield running


def connect(*members: Member, **options: Any) -> Any:
    """A client of these members."""
    addresses = tuple(
        (host, int(port))
        for host, _, port in (
            member.client_url.removeprefix("http://").partition(":") for member in members
        )
    )
    return etcd.Client(host=addresses, allow_reconnect=True, **options)


def test_python_etcd_reads_and_writes(cluster: Cluster) -> None:
    """Each kind of write, listings, and the errors as its exceptions."""
    client = connect(*cluster.members)
    assert client.set("/d/k", "v").newKey
    with pytest.raises(etcd.EtcdAlreadyExist):
        client.write("/d/k", "w", prevExist=False)
    assert client.test_and_set("/d/k", "w", "v").value == "w"
    with pytest.raises(etcd.EtcdCompareFailed):
        client.test_and_set("/d/k", "x", "v")
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.read("/nope")
    with pytest.raises(etcd.EtcdNotFile):
        client.write("/d", "x")
    with pytest.raises(etcd.EtcdNotDir):
        client.write("/d/k/below", "x")
    with pytest.raises(etcd.EtcdRootReadOnly):
        client.write("/", "x")
    with pytest.raises(etcd.EtcdDirNotEmpty):
        client.delete("/d", dir=True)
    appended = [client.write("/queue", str(turn), append=True).key for turn in range(3)]
    assert appended == sorted(appended)
    leaves = [leaf.value for leaf in client.read("/queue", recursive=True, sorted=True).leaves]
    assert leaves == ["0", "1", "2"]
    result = client.read("/d/k")
    result.value = "updated"
    assert client.update(result).value == "updated"
    assert client.write("/t", "1", ttl=100).ttl == 100
    assert client.refresh("/t", ttl=200).ttl == 200
    assert client.read("/t").value == "1"
    assert client.pop("/t").value == "1"
    assert client.delete("/d", recursive=True).action == "delete"


def test_python_etcd_watches(cluster: Cluster) -> None:
    """A watch from the past answers at once, one from now with what comes, through any member."""
    writer, reader = connect(cluster.members[0]), connect(cluster.members[1])
    first = writer.set("/w/k", "0").modifiedIndex
    writer.set("/w/k", "1")
    assert reader.read("/w/k", wait=True, waitIndex=first).value == "0"
    assert reader.read("/w", recursive=True, wait=True, waitIndex=first + 1).value == "1"
    seen: list[str] = []

    def watch() -> None:
        for event in reader.eternal_watch("/w", index=first + 2, recursive=True):
            seen.append(event.value)
            if len(seen) == 3:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    for turn in range(3):
        writer.set(f"/w/{turn}", str(turn))
    thread.join(20)
    assert seen == ["0", "1", "2"]


def test_python_etcd_locks(cluster: Cluster) -> None:
    """Its lock queues up in order below a hidden directory."""
    one, two = (etcd.Lock(connect(member), "job") for member in cluster.members[:2])
    assert one.acquire(blocking=True, lock_ttl=60)
    assert not two.acquire(blocking=False, lock_ttl=60)
    one.release()
    assert two.acquire(blocking=True, lock_ttl=60)
    two.release()


def test_python_etcd_knows_the_cluster(cluster: Cluster) -> None:
    """Machines, members, leader, statistics and version."""
    client = connect(cluster.members[0])
    assert sorted(client.machines) == sorted(member.client_url for member in cluster.members)
    assert {member["name"] for member in client.members.values()} == {"infra0", "infra1", "infra2"}
    assert client.leader["name"] == cluster.leader().name
    assert client.stats["name"] == "infra0"
    assert connect(cluster.leader()).leader_stats["followers"]
    assert client.store_stats["setsSuccess"] >= 0
    assert client.version == "2.3.8"


def test_python_etcd_goes_on_when_a_member_is_gone(cluster: Cluster) -> None:
    """It turns to another member by itself."""
    leader = cluster.leader()
    client = connect(leader, *cluster.followers())
    client.set("/k", "before")
    leader.kill()

    def write() -> bool:
        try:
            return bool(client.set("/k", "after").value == "after")
        except etcd.EtcdException:
            return False

    wait_for(write, 30, "a write after the leader has gone")
    assert client.read("/k", quorum=True).value == "after"


def test_python_etcd_administers_accounts(cluster: Cluster) -> None:
    """Users, roles, grants, and what they permit on another member."""
    client = connect(cluster.members[0])
    for name in ("root", "u"):
        user = auth.EtcdUser(client, name)
        user.password = "pw"
        user.write()
    role = auth.EtcdRole(client, "r")
    role.grant("/p/*", "RW")
    role.write()
    user = auth.EtcdUser(client, "u")
    user.read()
    user.roles = ["r"]
    user.write()
    auth.Auth(client).active = True
    root = connect(cluster.members[0], username="root", password="pw")
    try:
        guest = auth.EtcdRole(root, "guest")
        guest.read()
        guest.revoke("/*", "RW")
        guest.write()
        permitted = connect(cluster.members[1], username="u", password="pw")
        wait_for(lambda: _may_not_read(connect(cluster.members[1])), 10, "the guest's loss")
        assert permitted.set("/p/k", "v").value == "v"
        with pytest.raises(etcd.EtcdInsufficientPermissions):
            permitted.set("/other", "v")
    finally:
        auth.Auth(root).active = False


def _may_not_read(client: Any) -> bool:
    try:
        client.read("/p")
    except etcd.EtcdInsufficientPermissions:
        return True
    except etcd.EtcdKeyNotFound:
        pass
    return False
