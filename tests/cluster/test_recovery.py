"""What is left of a cluster is made into a new one."""

from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.cluster.processes import OTHER_SERVER, Cluster, wait_for
from tests.cluster.test_membership import add, all_names, member_id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="etcd 3 answers the second API in other words"),
]


@pytest.mark.parametrize("flags", [[], ["-snapshot-count", "10"]], ids=["log", "snapshot"])
def test_survivor_of_a_lost_majority_serves_alone_with_all_keys(
    tmp_path: Path, flags: list[str]
) -> None:
    """`-force-new-cluster`: keys, ttls and its own id stay, the others are gone for ever."""
    with Cluster(tmp_path, flags=flags) as cluster:
        survivor = cluster.followers()[0]
        with Load(cluster.members) as load:
            wait_for(lambda: len(load) > 100, 30, "a hundred writes")
        assert survivor.put("ttl", "1", ttl="3600").status == 201
        assert survivor.value("ttl", quorum="true") == "1"
        old_id = member_id(survivor, survivor.name)
        for member in cluster.members:
            member.kill()
        survivor.flags.append("-force-new-cluster")
        # The second time, the flag has nothing to do.
        for _ in range(2):
            survivor.start()
            survivor.wait_serving()
            assert load.lost(survivor) == []
            assert survivor.get("ttl").json()["node"]["ttl"] > 3000
            (only,) = survivor.request("GET", "/v2/members").json()["members"]
            assert (only["id"], only["name"]) == (old_id, survivor.name)
            assert survivor.put("alone", "1").status in (200, 201)
            survivor.kill()
        # One that comes back all the same is refused, and disturbs nobody.
        survivor.flags.remove("-force-new-cluster")
        survivor.start()
        survivor.wait_serving()
        returned = next(member for member in cluster.members if member is not survivor)
        returned.start()
        assert returned.wait_exit() == 0
        assert "permanently removed" in returned.log
        # And it grows again.
        newcomer = cluster.new_member("infra3")
        at = newcomer.flags.index("-initial-cluster")
        newcomer.flags[at + 1] = (
            f"{survivor.name}={survivor.peer_url},{newcomer.name}={newcomer.peer_url}"
        )
        assert add(survivor, newcomer).status == 201
        newcomer.start()
        newcomer.wait_serving()
        assert load.lost(newcomer) == []
        assert all_names(newcomer, 2) == sorted([survivor.name, newcomer.name])


def test_survivor_keeps_the_newest_acknowledged_write(tmp_path: Path) -> None:
    """The log marks an entry as committed only with the next one; it must not be dropped."""
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        assert leader.put("last", "1").status == 201
        for member in cluster.members:
            member.kill()
        leader.flags.append("-force-new-cluster")
        leader.start()
        leader.wait_serving()
        assert leader.value("last") == "1"
