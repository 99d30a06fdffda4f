"""Members that are killed, one or all, with or without load: no acknowledged write is ever lost."""

import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.cluster.processes import Cluster, last_number, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# What users of etcd see with its default timeouts: an election of one to two seconds.
MEDIAN_GAP_SECONDS = 2.0
# Long, so that a handover and an election cannot be mistaken for each other.
LONG_ELECTION = ["-heartbeat-interval", "100", "-election-timeout", "3000"]
HANDOVER_SECONDS = 1.0
SHORT_ELECTION = ["-heartbeat-interval", "50", "-election-timeout", "500"]
# Five seconds for the request and two election timeouts, as in etcd.
REQUEST_TIMEOUT_SECONDS = 5.0 + 2 * 0.5
LONELY_REQUESTS = 20
# How many entries behind its snapshot a member keeps for followers that lag, as in etcd.
CATCH_UP_ENTRIES = 5_000
SAVED = r"saved (?:the )?snapshot at index (\d+)"
RECEIVED = r"(?:received the|incoming) snapshot at index \d+"


def test_leader_killed_five_times_loses_no_acknowledged_write(tmp_path: Path):
    """`kill -9` of the leader under load: a new one soon takes writes, the old one catches up."""
    gaps = []
    with Cluster(tmp_path) as cluster, Load(cluster.members) as load:
        for _ in range(5):
            victim = cluster.leader()
            killed_at = time.monotonic()
            victim.kill()
            cluster.leader()
            _wait_for_more(load, 50)
            gaps.append(load.longest_gap(killed_at))
            victim.start()
            victim.wait_serving()
            target = cluster.leader().raft_index()
            wait_for(lambda v=victim, t=target: v.raft_index() >= t, 30, "it to catch up")
        load.end()
        cluster.wait_agreed()
        for member in cluster.members:
            assert load.lost(member) == []
    assert statistics.median(gaps) <= MEDIAN_GAP_SECONDS, gaps


def test_all_members_killed_at_once_keep_every_acknowledged_write(tmp_path: Path):
    """`kill -9` of all three under load, three times: whatever was acknowledged was on disk."""
    with Cluster(tmp_path) as cluster:
        loads = []
        for turn in range(3):
            with Load(cluster.members, writers=8, prefix=f"load{turn}") as load:
                _wait_for_more(load, 200)
                for member in cluster.members:
                    member.kill()
            loads.append(load)
            cluster.start()
            cluster.leader()
        cluster.wait_agreed()
        for load in loads:
            for member in cluster.members:
                assert load.lost(member) == []


def test_restarted_member_catches_up_and_answers_local_reads(tmp_path: Path):
    """A member that was down for a while has, after its restart, what was written meanwhile."""
    with Cluster(tmp_path) as cluster:
        victim = cluster.followers()[0]
        victim.put("before", "1")
        victim.kill()
        for number in range(50):
            cluster.leader().put(f"meanwhile/{number}", "1")
        victim.start()
        target = cluster.leader().raft_index()
        wait_for(lambda: victim.raft_index() >= target, 30, "the member to catch up")
        assert victim.value("before") == "1"
        assert victim.value("meanwhile/49") == "1"


def test_member_down_past_compaction_is_sent_a_snapshot(tmp_path: Path):
    """A log that no longer reaches back is replaced by a snapshot: keys, TTLs, indexes, members."""
    with Cluster(tmp_path, flags=["-snapshot-count", "100"]) as cluster:
        victim = cluster.followers()[0]
        leader = cluster.leader()
        leader.put("kept/before", "1")
        victim.kill()
        needed = leader.raft_index() + CATCH_UP_ENTRIES
        leader.put("kept/fleeting", "1", ttl=600)
        leader.put("kept/expires", "1", ttl=20)
        with Load(cluster.answering(), prefix="bulk"):
            wait_for(lambda: last_number(SAVED, leader.log) > needed, 60, "a compaction")
        victim.start()
        victim.wait_serving()
        wait_for(lambda: re.search(RECEIVED, victim.log), 30, "the snapshot")
        cluster.wait_agreed()
        assert victim.value("kept/before") == "1"
        assert 500 < victim.get("kept/fleeting").json()["node"]["ttl"] <= 600
        wait_for(lambda: victim.value("kept/expires") is None, 40, "the short key to expire")
        assert len(victim.request("GET", "/v2/members").json()["members"]) == 3
        victim.kill()
        victim.start()
        victim.wait_serving()
        cluster.wait_agreed()


def test_restart_after_snapshots_keeps_everything(tmp_path: Path):
    """A member alone restarts from snapshot and log to the same keys; indexes go on."""
    with Cluster(tmp_path, size=1, flags=["-snapshot-count", "50"]) as cluster:
        (member,) = cluster.members
        for number in range(220):
            assert member.put(f"key{number % 40}", str(number)).status in (200, 201)
        index, keys = member.contents()
        member.kill()
        cluster.start()
        # Publishing its URLs anew may take an index.
        assert member.contents()[1] == keys
        member.terminate()
        cluster.start()
        assert member.contents()[1] == keys
        assert member.put("next", "1").json()["node"]["modifiedIndex"] > index


def test_terminated_leader_hands_over_without_an_election_timeout(tmp_path: Path):
    """SIGTERM of the leader: it makes another one leader first, so writers hardly notice."""
    with Cluster(tmp_path, flags=LONG_ELECTION) as cluster, Load(cluster.members) as load:
        leader = cluster.leader()
        _wait_for_more(load, 20)
        terminated_at = time.monotonic()
        leader.terminate()
        _wait_for_more(load, 50)
        assert load.longest_gap(terminated_at) < HANDOVER_SECONDS
        load.end()
        for member in cluster.answering():
            assert load.lost(member) == []


def test_request_without_quorum_times_out_with_error_300(tmp_path: Path):
    """Writes and quorum reads give up after the request timeout, and leave nothing behind."""
    with Cluster(tmp_path, flags=SHORT_ELECTION) as cluster:
        survivor, second = cluster.followers()
        survivor.put("calm", "1")
        descriptors = len(survivor.descriptors())
        second.kill()
        cluster.leader().kill()
        # Local reads still work (stale, as documented); writes and quorum reads do not.
        assert survivor.value("calm") == "1"
        started = time.monotonic()
        with ThreadPoolExecutor(LONELY_REQUESTS + 1) as pool:
            lonely = [pool.submit(survivor.put, "lonely", str(n)) for n in range(LONELY_REQUESTS)]
            lonely.append(pool.submit(survivor.get, "calm", quorum="true"))
            answers = [future.result() for future in lonely]
        took = time.monotonic() - started
        for refused in answers:
            assert (refused.status, refused.json()["errorCode"]) == (500, 300)
            assert "timed out" in refused.json()["cause"]
        assert REQUEST_TIMEOUT_SECONDS - 0.5 < took < REQUEST_TIMEOUT_SECONDS + 2.0
        cluster.start()
        cluster.leader()
        assert survivor.put("calm", "2").status == 200
        cluster.wait_agreed()
        # Streams to the others may differ by a few; the requests that timed out hold nothing.
        wait_for(
            lambda: len(survivor.descriptors()) < descriptors + LONELY_REQUESTS // 2,
            30,
            "descriptors to be closed",
        )


def test_single_member_under_load_loses_nothing_when_killed(tmp_path: Path):
    """A cluster of one has no other copy: what it acknowledged is on its disk."""
    with Cluster(tmp_path, size=1) as cluster:
        (member,) = cluster.members
        with Load(cluster.members, writers=8) as load:
            _wait_for_more(load, 200)
            member.kill()
        cluster.start()
        assert load.lost(member) == []


def _wait_for_more(load: Load, count: int) -> None:
    """Wait until that many more writes are acknowledged."""
    target = len(load) + count
    wait_for(lambda: len(load) >= target, 30, f"{count} more acknowledged writes")
