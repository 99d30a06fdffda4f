"""Members that join, leave and come back: by POST and DELETE on /v2/members and new processes."""

import threading
import time
from pathlib import Path

import pytest

from tests.cluster.processes import NO_ANSWER, OTHER_SERVER, Cluster, Member, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# etcd 3 refuses changes in the first seconds of a cluster unless it is told not to.
FLAGS = ["-strict-reconfig-check=false"] if OTHER_SERVER else []


def test_added_member_joins_with_state_existing(tmp_path: Path):
    """POST, then a process with `-initial-cluster-state existing`: it gets all keys and votes."""
    with Cluster(tmp_path, flags=FLAGS) as cluster:
        cluster.members[0].put("before", "1")
        newcomer = cluster.new_member("infra3")
        added = add(cluster.members[0], newcomer)
        assert (added.status, added.json()["peerURLs"]) == (201, [newcomer.peer_url])
        newcomer.start()
        newcomer.wait_serving()
        cluster.wait_agreed()
        assert newcomer.value("before") == "1"
        assert newcomer.put("after", "1").status == 201
        names = wait_for(lambda: all_names(cluster.members[1], 4), 30, "its name to be published")
        assert names == ["infra0", "infra1", "infra2", "infra3"]
        # The newcomer restarts from its own data, like any other.
        newcomer.kill()
        newcomer.start()
        newcomer.wait_serving()
        cluster.wait_agreed()


def test_member_added_to_one_needs_the_newcomer_for_its_quorum(tmp_path: Path):
    """From one to two: writes go on as soon as the newcomer runs, and two names are known."""
    with Cluster(tmp_path, size=1, flags=FLAGS) as cluster:
        (first,) = cluster.members
        first.put("before", "1")
        newcomer = cluster.new_member("infra1")
        assert add(first, newcomer).status == 201
        newcomer.start()
        newcomer.wait_serving()
        assert newcomer.put("after", "1").status == 201
        assert first.value("after", quorum="true") == "1"


def test_new_member_that_nobody_added_is_refused(tmp_path: Path):
    """`existing` without a POST before: one line that says so, and no data directory is kept."""
    with Cluster(tmp_path, size=1, flags=FLAGS) as cluster:
        stranger = cluster.new_member("infra1")
        stranger.start()
        assert stranger.wait_exit() != 0
        assert "Traceback" not in stranger.log
        assert "member count is unequal" in stranger.log
        assert cluster.members[0].put("fine", "1").status == 201


def test_state_new_on_an_existing_cluster_fails_safely(tmp_path: Path):
    """A member that lost its data and is started with `new` again would forget its votes."""
    with Cluster(tmp_path, flags=FLAGS) as cluster:
        amnesiac = cluster.followers()[0]
        amnesiac.terminate()
        amnesiac.data_dir.rename(tmp_path / "lost")
        amnesiac.start()
        assert amnesiac.wait_exit() != 0
        assert "has already been bootstrapped" in amnesiac.log.splitlines()[-1]
        assert "Traceback" not in amnesiac.log
        # With its data back, it is the member that it was.
        assert amnesiac.files() == []
        if amnesiac.data_dir.exists():
            amnesiac.data_dir.rename(tmp_path / "refused")
        (tmp_path / "lost").rename(amnesiac.data_dir)
        cluster.start()
        cluster.wait_agreed()


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_removed_member_exits(tmp_path: Path, role: str):
    """DELETE of a member: its process ends by itself, the others go on, and it stays away."""
    with Cluster(tmp_path, flags=FLAGS) as cluster:
        removed = cluster.leader() if role == "leader" else cluster.followers()[0]
        other = next(member for member in cluster.members if member is not removed)
        answer = other.request("DELETE", f"/v2/members/{member_id(other, removed.name)}")
        assert answer.status == 204
        removed.wait_exit()
        assert "Traceback" not in removed.log
        cluster.leader()
        assert other.put("after", "1").status == 201
        assert all_names(other, 2) == sorted(
            member.name for member in cluster.members if member is not removed
        )
        # Its data directory still says what it was; the cluster does not take it back.
        removed.start()
        removed.wait_exit()
        assert other.put("after", "2").status == 200


def test_removed_member_comes_back_as_a_new_one(tmp_path: Path):
    """The same name and URLs with an empty data directory, after another POST, are a new member."""
    with Cluster(tmp_path, flags=FLAGS) as cluster:
        removed, other = cluster.followers()
        old_id = member_id(other, removed.name)
        assert other.request("DELETE", f"/v2/members/{old_id}").status == 204
        removed.wait_exit()
        removed.data_dir.rename(tmp_path / "old")
        added = wait_for(lambda: _added(other, removed), 30, "the member to be added again")
        assert added["id"] != old_id
        removed.flags[removed.flags.index("new")] = "existing"
        removed.start()
        removed.wait_serving()
        cluster.wait_agreed()


@pytest.mark.skipif(OTHER_SERVER, reason="etcd drops such changes now and then")
def test_changes_through_a_follower_one_after_another_are_all_made(tmp_path: Path):
    """Two additions and removals at once through a follower: none is dropped, none hangs."""
    with Cluster(tmp_path, flags=FLAGS) as cluster:
        follower = cluster.followers()[0]
        for turn in range(5):
            ghost = cluster.new_member(f"ghost{turn}")
            added = add(follower, ghost)
            assert added.status == 201, added.body
            removed = follower.request("DELETE", f"/v2/members/{added.json()['id']}")
            assert removed.status == 204, removed.body
        assert len(follower.request("GET", "/v2/members").json()["members"]) == 3


def test_member_asked_to_move_itself_answers_and_moves(tmp_path: Path):
    """The others know that it moves before it does; they tell it where it is still reached."""
    with Cluster(tmp_path, flags=FLAGS) as cluster:
        for turn in range(10):
            follower = cluster.followers()[turn % 2]
            url = f"/v2/members/{member_id(follower, follower.name)}"
            for peer_url in (
                follower.peer_url.replace("127.0.0.1", "127.0.0.9"),
                follower.peer_url,
            ):
                answer = follower.request("PUT", url, body={"peerURLs": [peer_url]})
                assert answer.status == 204, answer.body
        assert follower.put("after", "1").status == 201


@pytest.mark.skipif(OTHER_SERVER, reason="etcd lets them wait until they time out")
@pytest.mark.parametrize("size", [2, 3])
def test_members_that_remove_each_other_are_both_answered_at_once(tmp_path: Path, size: int):
    """One of them is removed first; what it asked for may have happened or not, which it says."""
    with Cluster(tmp_path, size=size, flags=FLAGS) as cluster:
        pair = [cluster.leader(), cluster.followers()[0]]
        ids = {member: member_id(member, member.name) for member in pair}
        answers = {}

        def remove(asked: Member, removed: Member):
            began = time.monotonic()
            answer = asked.request("DELETE", f"/v2/members/{ids[removed]}")
            answers[asked] = answer.status, time.monotonic() - began

        asking = [threading.Thread(target=remove, args=it) for it in (pair, pair[::-1])]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert max(seconds for _, seconds in answers.values()) < 1
        statuses = [answers[member][0] for member in pair]
        # 409 is for the last member, which may not be removed: of two, who is left.
        assert sorted(statuses) in ([204, 204], [204, 500], *([[204, 409]] if size == 2 else []))
        left = [member for member in cluster.members if member not in pair]
        for asked, removed in (pair, pair[::-1]):
            if answers[asked][0] == 204:
                assert removed.wait_exit() == 0
            else:
                left += [removed] if removed.running and answers[removed][0] == 204 else []
        wait_for(lambda: put_somewhere(left), 30, "whoever is left to take a write")


def put_somewhere(members: list[Member]) -> bool:
    """Write through the first who can."""
    for member in members:
        try:
            if member.put("after", "1").status in (200, 201):
                return True
        except NO_ANSWER:
            pass
    return False


def add(through: Member, newcomer: Member):
    """POST a member's peer URL."""
    return through.request("POST", "/v2/members", body={"peerURLs": [newcomer.peer_url]})


def _added(through: Member, newcomer: Member):
    answer = add(through, newcomer)
    return answer.json() if answer.status == 201 else None


def member_id(through: Member, name: str) -> str:
    """The id that the cluster knows a member by."""
    members = through.request("GET", "/v2/members").json()["members"]
    return next(member["id"] for member in members if member["name"] == name)


def all_names(through: Member, count: int) -> list[str]:
    """The names of all members, once that many are known; else an empty list."""
    members = through.request("GET", "/v2/members").json()["members"]
    names = sorted(member["name"] for member in members)
    return names if len(names) == count and all(names) else []
