"""Three members with the flags of etcd's guide, healthy: what a user may rely on every day."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster.processes import NO_ANSWER, Cluster, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# A paused follower may cost nothing; the allowance is for a busy machine. An election takes longer.
WRITE_SECONDS = 0.5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One healthy cluster for all tests of this file; each uses its own keys."""
    with Cluster(tmp_path_factory.mktemp("story")) as cluster:
        yield cluster


def test_write_on_one_member_is_read_the_same_on_the_others(cluster):
    """A write is the same event, with the same indexes, wherever it is read."""
    for writer in cluster.members:
        written = writer.put(f"same/{writer.name}", "a b=c").json()
        assert written["action"] == "set"
        cluster.wait_agreed()
        for reader in cluster.members:
            read = reader.get(f"same/{writer.name}").json()
            assert read == {"action": "get", "node": written["node"]}


def test_follower_takes_writes(cluster):
    """Every member takes writes, whoever leads, and indexes grow in the order of the answers."""
    leader = cluster.leader()
    followers = cluster.followers()
    assert len(followers) == 2
    indexes = [
        member.put(f"through/{member.name}", "1").json()["node"]["modifiedIndex"]
        for member in (*followers, leader)
    ]
    assert indexes == sorted(set(indexes))


def test_compare_and_swap_through_two_members_has_one_winner(cluster):
    """Conditions are checked in log order: of two swaps of one value, the second fails."""
    first, second = cluster.followers()
    first.put("swap", "old")
    won = first.put("swap", "new", prevValue="old")
    lost = second.put("swap", "newer", prevValue="old")
    assert (won.status, lost.status) == (200, 412)
    assert lost.json()["errorCode"] == 101


def test_quorum_read_through_any_member_sees_the_newest_write(cluster):
    """`quorum=true` through any member shows a write that was acknowledged by another."""
    for turn in range(10):
        writer = cluster.members[turn % 3]
        writer.put("newest", str(turn))
        for reader in cluster.members:
            assert reader.value("newest", quorum="true") == str(turn)


def test_watch_on_one_member_sees_a_write_on_another(cluster):
    """A watcher that gives the next index is answered with the event, on whichever member."""
    first, second = cluster.followers()
    index = first.put("watched", "1").json()["node"]["modifiedIndex"]
    second.put("watched", "2")
    event = first.get("watched", wait="true", waitIndex=index + 1).json()
    assert (event["action"], event["node"]["value"]) == ("set", "2")


def test_expired_key_disappears_from_all_members(cluster):
    """Expiry is an entry of the log: all members drop the key, under one index."""
    written = cluster.members[0].put("fleeting", "1", ttl=1).json()
    assert written["node"]["ttl"] == 1
    for member in cluster.members:
        wait_for(lambda m=member: m.value("fleeting") is None, 10, f"{member.name} to drop it")
    cluster.wait_agreed()
    events = [
        member.get("fleeting", wait="true", waitIndex=written["node"]["modifiedIndex"] + 1).json()
        for member in cluster.members
    ]
    assert events[0]["action"] == "expire"
    assert events.count(events[0]) == 3


def test_key_with_ttl_does_not_expire_early(cluster):
    """A key lives at least for its TTL, also where the request was not sent."""
    started = time.monotonic()
    cluster.members[0].put("patient", "1", ttl=2)
    cluster.wait_agreed()
    wait_for(lambda: cluster.members[2].value("patient") is None, 10, "the key to expire")
    # The expiration is kept with full precision, and the clock is the same for all here.
    assert time.monotonic() - started > 1.9


def test_members_list_is_the_same_everywhere(cluster):
    """Every member lists all three, with the URLs of their flags."""
    lists = [member.request("GET", "/v2/members").json()["members"] for member in cluster.members]
    for members in lists:
        assert {
            member["name"]: (member["peerURLs"], member["clientURLs"]) for member in members
        } == {member.name: ([member.peer_url], [member.client_url]) for member in cluster.members}
    ids = [sorted(member["id"] for member in members) for members in lists]
    assert ids.count(ids[0]) == 3


def test_paused_follower_does_not_delay_writes(cluster):
    """A majority is enough: while a follower is paused, no write waits for it."""
    paused, other = cluster.followers()
    leader = cluster.leader()
    paused.stop()
    try:
        took = []
        for turn in range(20):
            started = time.monotonic()
            assert (leader, other)[turn % 2].put("delay", str(turn)).status in (200, 201)
            took.append(time.monotonic() - started)
    finally:
        paused.cont()
    assert max(took) < WRITE_SECONDS, took
    cluster.wait_agreed()
    assert paused.value("delay") == "19"


def test_paused_leader_serves_no_stale_quorum_read(cluster):
    """A leader that slept through its successor's election must find out before it answers."""
    old = cluster.leader()
    old.put("stale", "old")
    old.stop()
    try:
        new = wait_for(lambda: next(iter(_leaders(cluster)), None), 30, "another leader")
        assert new is not old
        new.put("stale", "new")
    finally:
        old.cont()
    # It may refuse while it finds out; it may not answer with what it remembers.
    answer = wait_for(lambda: _answered(old, "stale"), 30, "a quorum read through it")
    assert answer["node"]["value"] == "new"
    cluster.wait_agreed()


def _leaders(cluster):
    for member in cluster.answering():
        try:
            if member.stats()["state"] == "StateLeader":
                yield member
        except NO_ANSWER:
            continue


def _answered(member, key):
    answer = member.get(key, quorum="true")
    return answer.json() if answer.status == 200 else None
