"""Members on disks that fill up: writes are refused, reads go on, and nothing is lost."""

import itertools
from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.cluster.processes import OTHER_SERVER, Cluster, Member, Response, wait_for
from tests.cluster.small_disk import small_disk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="an etcd ends when its disk is full"),
]

# Room for two files of the log, and not for many more.
MEGABYTES = 40
VALUE = "x" * 60_000
# More of them than a file of the log has room for.
MOST = 300

_numbers = itertools.count()


def fill_log(member: Member) -> tuple[dict[str, str], Response]:
    """Write until a write is refused: what was acknowledged, and the refusal."""
    acknowledged: dict[str, str] = {}
    for _ in range(MOST):
        key, value = f"key{next(_numbers)}", VALUE + str(len(acknowledged))
        answer = member.put(key, value)
        if answer.status != 201:
            return acknowledged, answer
        acknowledged[key] = value
    raise AssertionError(f"{MOST} writes to a full disk were all acknowledged")


def assert_kept(member: Member, acknowledged: dict[str, str]) -> None:
    for key, value in acknowledged.items():
        assert member.value(key) == value, f"{key} is lost"


def metric(member: Member) -> str:
    text = member.request("GET", "/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith("etcd_wal_no_space "))
    return line.split()[1]


def wait_writable(member: Member) -> None:
    wait_for(lambda: member.put("again", "1").status in (200, 201), 30, "writes to be taken")


def test_member_with_a_full_disk_refuses_writes_and_serves_reads_until_there_is_room(
    tmp_path: Path,
) -> None:
    """Without a restart; and with one, by kill -9, while the disk is full and after it."""
    with (
        small_disk(tmp_path / "infra0.etcd", megabytes=MEGABYTES) as disk,
        Cluster(tmp_path, size=1) as cluster,
    ):
        (member,) = cluster.members
        member_id = member.stats()["id"]
        assert metric(member) == "0.0"
        disk.fill()
        acknowledged, refusal = fill_log(member)
        assert len(acknowledged) > 50
        assert refusal.status == 500
        assert refusal.json() == {
            "errorCode": 300,
            "message": "Raft Internal Error",
            "cause": f"etcdserver: no space left on the disk of member {member_id}",
            "index": 0,
        }
        assert member.put("small", "1").status == 500
        assert member.request("DELETE", "/v2/keys/key0").status == 500
        assert member.get("key0").status == 200
        assert member.get("key0", quorum="true").status == 200
        health = member.request("GET", "/health")
        assert (health.status, health.json()["health"]) == (503, "false")
        assert metric(member) == "1.0"
        assert_kept(member, acknowledged)

        member.kill()
        member.start()
        wait_for(lambda: answers(member), 30, "reads from a member with a full disk")
        assert_kept(member, acknowledged)
        wait_for(lambda: member.put("small", "1").status == 500, 30, "refusals")

        disk.free()
        wait_writable(member)
        assert member.put("after", "1").status == 201
        assert member.request("GET", "/health").status == 200
        # On change only, in either run.
        assert member.log.count("no space left for the log") == 2
        assert member.log.count("there is room for the log again") == 1
        member.kill()
        member.start()
        member.wait_serving()
        assert_kept(member, acknowledged | {"after": "1"})
        assert member.value("small") is None


def answers(member: Member) -> bool:
    try:
        return member.get("key0", quorum="true").status == 200
    except OSError:
        return False


def test_cluster_goes_on_while_the_disk_of_a_follower_is_full(tmp_path: Path) -> None:
    """The follower tells its clients so, and holds everything soon after it has room."""
    with (
        small_disk(tmp_path / "infra0.etcd", megabytes=MEGABYTES) as disk,
        Cluster(tmp_path, flags=["-snapshot-count", "50"]) as cluster,
    ):
        full, *others = cluster.members
        if cluster.leader() is full:
            full.terminate()
            full.start()
            full.wait_serving()
            wait_for(lambda: cluster.leader() is not full, 30, "another leader")
        disk.fill()
        acknowledged: dict[str, str] = {}
        for number in range(MOST):
            key, value = f"more{number}", VALUE + str(number)
            assert others[number % 2].put(key, value).status == 201
            acknowledged[key] = value
        wait_for(lambda: metric(full) == "1.0", 30, "the follower to notice")
        refusal = full.put("refused", "1")
        assert (refusal.status, refusal.json()["errorCode"]) == (500, 300)
        assert full.get("more0").status == 200
        disk.free()
        wait_writable(full)
        cluster.wait_agreed()
        assert_kept(full, acknowledged)


def test_leader_with_a_full_disk_hands_over(tmp_path: Path) -> None:
    """Writes to the others go on, and what was acknowledged before and after is there."""
    with (
        small_disk(tmp_path / "infra0.etcd", megabytes=MEGABYTES) as disk,
        Cluster(tmp_path) as cluster,
    ):
        full, *others = cluster.members
        while cluster.leader() is not full:
            leader = cluster.leader()
            leader.terminate()
            leader.start()
            leader.wait_serving()
        disk.fill()
        with Load(others) as load:
            acknowledged, _ = fill_log(full)
            wait_for(lambda: cluster.leader() in others, 30, "a leader with room")
            before = len(load)
            wait_for(lambda: len(load) > before + 50, 30, "writes under the new leader")
        assert metric(full) == "1.0"
        assert full.running
        disk.free()
        wait_writable(full)
        cluster.wait_agreed()
        assert load.lost(full) == []
        assert_kept(full, acknowledged)
