"""Backups of running clusters and of data directories become clusters that have everything."""

import asyncio
import base64
from pathlib import Path

import pytest

from pyetcd.backup import BackupError, Target, backup, check, restore, save
from pyetcd.urls import parse_urls
from tests.cluster.load import Load
from tests.cluster.processes import OTHER_SERVER, Cluster, Member, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="pyetcd's own backups"),
]

ROOT = {"Authorization": "Basic " + base64.b64encode(b"root:secret").decode()}


def save_from(member: Member, path: Path, **options) -> list[int]:
    """Save a backup; what the progress was told."""
    told: list[int] = []
    asyncio.run(save(member.client_url, path, progress=told.append, **options))
    return told


def members_and_cluster(member: Member) -> tuple[set[str], str | None]:
    answer = member.request("GET", "/v2/members")
    ids = {listed["id"] for listed in answer.json()["members"]}
    return ids, answer.headers["X-Etcd-Cluster-Id"]


def test_saved_backup_of_a_busy_cluster_is_restored_to_a_new_one(tmp_path: Path) -> None:
    """Keys, indexes and ttls are there, ids are new, and old members are strangers."""
    path = tmp_path / "backup"
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with Cluster(tmp_path / "old") as old, Load(old.members, prefix="load") as load:
        member = old.followers()[0]
        assert member.put("ttl", "1", ttl="3600").status == 201
        assert member.put("last", "ü" * 300_000).status == 201
        wait_for(lambda: len(load) > 100, 30, "some load")
        before = dict(load.acknowledged)
        told = save_from(member, path)
        load.end()
        old_ids = members_and_cluster(member)
        index = int(member.get("last").headers["X-Etcd-Index"])
    content = check(path)
    assert (content.members, content.size_bytes) == (3, told[-1])
    assert path.stat().st_mode & 0o077 == 0
    new = Cluster(tmp_path / "new", token="another")
    urls_map = {member.name: parse_urls([member.peer_url]) for member in new.members}
    # One machine makes its own, another makes two: they agree.
    one, *others = [Target(member.name, member.data_dir) for member in new.members]
    told.clear()
    restore(path, [one], initial_cluster=urls_map, token="another", progress=told.append)
    assert told == sorted(told)
    restore(path, others, initial_cluster=urls_map, token="another")
    with new:
        new.wait_agreed()
        first = new.members[0]
        assert first.value("last") == "ü" * 300_000
        assert first.get("ttl").json()["node"]["ttl"] > 3000
        listed = first.get("load", recursive="true").json()["node"]["nodes"]
        found = {node["key"]: node["value"] for node in listed}
        assert {f"/{key}": value for key, value in before.items()}.items() <= found.items()
        assert int(first.get("last").headers["X-Etcd-Index"]) > index - len(load) + len(before)
        ids, cluster_id = members_and_cluster(first)
        assert ids.isdisjoint(old_ids[0])
        assert cluster_id != old_ids[1]
        for member in new.members:
            assert member.put(f"by-{member.name}", "1").status == 201
        # A restart needs nothing of the backup.
        first.kill()
        new.start()
        new.wait_agreed()


def test_backup_needs_root_and_keeps_the_users(tmp_path: Path) -> None:
    """With auth on nobody else gets one; the restored cluster asks for the same password."""
    path = tmp_path / "backup"
    (tmp_path / "old").mkdir()
    with Cluster(tmp_path / "old", size=1) as old:
        (member,) = old.members
        user = {"user": "root", "password": "secret"}
        assert member.request("PUT", "/v2/auth/users/root", body=user).status == 201
        assert member.request("PUT", "/v2/auth/enable").status == 200
        with pytest.raises(BackupError, match="401"):
            save_from(member, path)
        assert not path.exists()
        save_from(member, path, headers=ROOT)
    (tmp_path / "new").mkdir()
    new = Cluster(tmp_path / "new", size=1)
    (member,) = new.members
    urls_map = {member.name: parse_urls([member.peer_url])}
    restore(path, [Target(member.name, member.data_dir)], initial_cluster=urls_map, token="test")
    with new:
        assert member.request("GET", "/v2/auth/enable").json() == {"enabled": True}
        with pytest.raises(BackupError, match="401"):
            save_from(member, tmp_path / "again")
        save_from(member, tmp_path / "again", headers=ROOT)


@pytest.mark.parametrize("live", [True, False], ids=["live", "stopped"])
@pytest.mark.parametrize("count", [10_000, 20], ids=["log", "snapshot"])
def test_backup_of_a_data_dir_has_the_newest_write(tmp_path: Path, live: bool, count: int) -> None:
    """With a member that runs, one that was killed, with and without snapshots of its own."""
    flags = ["-snapshot-count", str(count), "-max-wals", "1"]
    copy = tmp_path / "copy"
    with Cluster(tmp_path, size=1, flags=flags) as cluster, Load(cluster.members) as load:
        (member,) = cluster.members
        wait_for(lambda: len(load) > 100, 30, "some load")
        if not live:
            load.end()
            member.kill()
        before = dict(load.acknowledged)
        backup(member.data_dir, copy)
        load.end()
        if live:
            assert member.put("unharmed", "1").status == 201
            assert load.lost(member) == []
            old_ids = members_and_cluster(member)
            member.terminate()
            for number in range(5):
                backup(member.data_dir, tmp_path / f"{number}")
        member.flags = [*member.own_flags(), "-force-new-cluster"]
        member.flags[member.flags.index("-data-dir") + 1] = str(copy)
        member.start()
        member.wait_serving()
        load.acknowledged = before
        assert load.lost(member) == []
        if live:
            assert members_and_cluster(member)[0].isdisjoint(old_ids[0])
        assert member.put("after", "1").status == 201


def test_backup_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    """Nobody listens, or the member is no member: one line, and no file that looks like one."""
    (tmp_path / "data").mkdir()
    with Cluster(tmp_path / "data", size=1) as cluster:
        (member,) = cluster.members
        url = member.client_url
        with pytest.raises(BackupError, match="status 404"):
            asyncio.run(save(f"{url}/v2/keys/none", tmp_path / "backup"))
    with pytest.raises(BackupError, match="broke off"):
        asyncio.run(save(url, tmp_path / "backup"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
