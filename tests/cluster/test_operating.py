"""What operators do to members, and what members tell them."""

import signal
import threading
import time
from pathlib import Path

import pytest

from tests.cluster.processes import NO_ANSWER, OTHER_SERVER, Cluster, Member, free_port, wait_for
from tests.cluster.test_membership import add, member_id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="the words, and some of the behaviour, are pyetcd's"),
]

PASSWORD = "hunter2"


def test_member_with_several_peer_urls_is_reached_by_the_one_that_works(tmp_path: Path) -> None:
    """Each name may come several times in -initial-cluster; here, one URL leads nowhere."""
    cluster = Cluster(tmp_path)
    several = cluster.members[0]
    dead_url = f"http://127.0.0.1:{free_port()}"
    for member in cluster.members:
        at = member.flags.index("-initial-cluster")
        member.flags[at + 1] += f",{several.name}={dead_url}"
    at = several.flags.index("-initial-advertise-peer-urls")
    several.flags[at + 1] += f",{dead_url}"
    with cluster:
        for member in cluster.members:
            assert member.put(member.name, "1").status == 201
        cluster.wait_agreed()
        for member in cluster.members:
            listed = member.request("GET", "/v2/members").json()["members"]
            urls = next(it["peerURLs"] for it in listed if it["name"] == several.name)
            assert sorted(urls) == sorted([several.peer_url, dead_url])
        # Also by one that has lost its connections.
        several.kill()
        several.start()
        several.wait_serving()
        assert several.value("infra1", quorum="true") == "1"


def test_strict_check_refuses_changes_that_would_cost_the_quorum(tmp_path: Path) -> None:
    """At once; without the flag such a change can be made, and the cluster waits for the member."""
    with Cluster(tmp_path, size=1, flags=["-strict-reconfig-check"]) as cluster:
        (member,) = cluster.members
        first = cluster.new_member("first")
        second = cluster.new_member("second")
        assert add(member, first).status == 201
        began = time.monotonic()
        assert add(member, second).status == 500
        assert time.monotonic() - began < 2
        assert "re-configuration failed due to not enough started members" in member.log
        first.flags[first.flags.index("-initial-cluster") + 1] = (
            f"{member.name}={member.peer_url},{first.name}={first.peer_url}"
        )
        first.start()
        first.wait_serving()
        wait_for(lambda: add(member, second).status == 201, 30, "a change that is safe")


def test_last_member_is_not_removed(tmp_path: Path) -> None:
    """It is told at once, and serves on."""
    with Cluster(tmp_path, size=1) as cluster:
        (member,) = cluster.members
        began = time.monotonic()
        answer = member.request("DELETE", f"/v2/members/{member_id(member, member.name)}")
        assert time.monotonic() - began < 2
        assert answer.status == 409
        assert "delete its data directory" in answer.json()["message"]
        assert member.put("after", "1").status == 201


def test_removed_member_says_why_it_ends_and_is_not_let_in_again(tmp_path: Path) -> None:
    """Also one that was down when it was removed, and only learns of it from the others."""
    with Cluster(tmp_path) as cluster:
        removed, other = cluster.followers()
        removed.kill()
        answer = other.request("DELETE", f"/v2/members/{member_id(other, removed.name)}")
        assert answer.status == 204
        for times in (1, 2):
            removed.start()
            removed.wait_exit()
            said = "the member has been permanently removed from the cluster"
            assert removed.log.count(said) == times
            assert "the data-dir used by this member must be removed" in removed.log
        assert other.put("after", "1").status == 201


def test_second_signal_ends_a_member_at_once(tmp_path: Path) -> None:
    """The first lets a request finish, which can't be without a quorum."""
    with Cluster(tmp_path) as cluster:
        member, *others = cluster.members
        assert member.put("kept", "1").status == 201
        for other in others:
            other.kill()

        outcomes: list[object] = []

        def ask() -> None:
            try:
                outcomes.append(member.put("waits", "1").status)
            except NO_ANSWER as error:
                outcomes.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        pending = "etcd_server_pending_proposal_total 1.0"
        wait_for(lambda: pending in figures(member), 30, "the request to wait")
        assert member.process is not None
        member.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "shutting down" in member.log, 30, "the first signal to be taken")
        began = time.monotonic()
        member.process.send_signal(signal.SIGTERM)
        assert member.wait_exit() == -signal.SIGTERM
        assert time.monotonic() - began < 0.5
        asking.join()
        assert isinstance(outcomes[0], NO_ANSWER)
        for it in cluster.members:
            it.start()
        for it in cluster.members:
            it.wait_serving()
        assert member.value("kept", quorum="true") == "1"


def figures(member: Member) -> str:
    return member.request("GET", "/metrics").body.decode()


def test_secrets_are_in_no_log_error_or_process_list(tmp_path: Path) -> None:
    """The password of a discovery URL, from the environment; one that is wrong, and one not."""
    member = Member("secret", tmp_path)
    nobody = f"127.0.0.1:{free_port()}"
    member.environment["ETCD_DISCOVERY"] = f"http://user:{PASSWORD}@{nobody}/v2/keys/d/token"
    member.flags.append("-debug")
    try:
        member.start()
        wait_for(lambda: nobody in member.log, 30, "the store to be missed")
        assert member.process is not None
        process = Path(f"/proc/{member.process.pid}/cmdline").read_text()
        assert member.name in process
        assert PASSWORD not in process + member.log
    finally:
        member.close()
    with Cluster(tmp_path, size=1, flags=["-debug"]) as cluster:
        (member,) = cluster.members
        body = {"user": "root", "password": PASSWORD}
        answers = [
            member.request("PUT", "/v2/auth/users/root", body=body),
            member.request("PUT", "/v2/auth/users/bad%20", body=body | {"user": "other"}),
            member.request("PUT", "/v2/auth/users/root", body=[PASSWORD]),
            member.request("PUT", "/v2/auth/enable"),
            member.request("GET", "/v2/auth/users"),
            member.request("GET", "/debug/vars"),
        ]
        assert answers[0].status == 201
        assert PASSWORD not in member.log
        assert [it.body for it in answers if PASSWORD.encode() in it.body] == []
