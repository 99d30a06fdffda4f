"""Members that stop and start under load: requests wait a moment, and none is lost."""

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.cluster.load import HEADERS, Load
from tests.cluster.processes import NO_ANSWER, OTHER_SERVER, Cluster, Member, wait_for
from tests.cluster.test_membership import add, all_names, member_id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(OTHER_SERVER, reason="what etcd 3 promises is different"),
]

# The promise, for a request with its retries.
LONGEST_SECONDS = 0.1
ROUNDS = 4
# A member that answers nothing at all for so long has failed.
ATTEMPT_SECONDS = 5.0
# Between two requests of a client: the clients must not take the processors from the members.
PAUSE_SECONDS = 0.005


@dataclass(slots=True)
class Slow:
    """A request that took long, with its retries."""

    key: str
    seconds: float
    tries: list[str]


class Clients:
    """Clients as people write them: a write that gets no answer goes to the next member.

    Every second one has a connection for each request, as scripts with curl do.
    """

    def __init__(self, members: Sequence[Member], *, count: int = 2) -> None:
        self._addresses = [urlsplit(member.client_url).netloc for member in members]
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        self.acknowledged: dict[str, str] = {}
        # Answers that are errors: a member that stops must not give any.
        self.errors: list[str] = []
        self.slow: list[Slow] = []
        self.retried = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        turn, request = number, 0
        connection: http.client.HTTPConnection | None = None
        while not self._ended.wait(PAUSE_SECONDS):
            request += 1
            key = f"rolling/{number}-{request}"
            tries: list[str] = []
            began = time.monotonic()
            while True:
                address = self._addresses[turn % len(self._addresses)]
                connection = connection or http.client.HTTPConnection(
                    address, timeout=ATTEMPT_SECONDS
                )
                try:
                    connection.request("PUT", f"/v2/keys/{key}", f"value={request}", HEADERS)
                    answer = connection.getresponse()
                    body = answer.read()
                except NO_ANSWER as error:
                    tries.append(f"{address}: {error!r}")
                    connection.close()
                    connection = None
                    turn += 1
                    continue
                if answer.status in (http.client.OK, http.client.CREATED):
                    break
                self.errors.append(f"{key} at {address}: {answer.status} {body!r}")
                connection.close()
                connection = None
                turn += 1
            seconds = time.monotonic() - began
            if number % 2:
                connection.close()
                connection = None
            self.acknowledged[f"/{key}"] = str(request)
            self.retried += bool(tries)
            if seconds > LONGEST_SECONDS:
                self.slow.append(Slow(key, seconds, tries))
        if connection is not None:
            connection.close()

    def lost(self, member: Member) -> list[str]:
        """The acknowledged keys that a member does not have."""
        answer = member.get("rolling", recursive="true", quorum="true")
        found = {node["key"]: node["value"] for node in answer.json()["node"]["nodes"]}
        return sorted(k for k, value in self.acknowledged.items() if found.get(k) != value)


def test_rolling_restart_delays_no_request_by_more_than_a_tenth_of_a_second(
    tmp_path: Path,
) -> None:
    """Each member in turn, the leader last, and then the new leader once more.

    A machine that is busy with other things delays requests by itself: one round of a few must
    keep the promise on time. Errors and lost writes count in all of them.
    """
    with Cluster(tmp_path) as cluster:
        rounds = []
        while [] not in rounds and len(rounds) < ROUNDS:
            rounds.append(rolling_restart(cluster))
        assert [] in rounds


def rolling_restart(cluster: Cluster) -> list[Slow]:
    """Restart every member under load; return the requests that took too long."""
    with Clients(cluster.members) as clients:
        leader = cluster.leader()
        for member in [*cluster.followers(), leader, None]:
            member = member or cluster.leader()
            member.terminate()
            member.start()
            member.wait_serving()
        wait_for(lambda: len(clients.acknowledged) > 200, 30, "some load")
    assert clients.retried > 0
    assert clients.errors == []
    cluster.wait_agreed()
    for member in cluster.members:
        assert clients.lost(member) == []
    return clients.slow


def test_cluster_grows_to_five_and_shrinks_back_under_load(tmp_path: Path) -> None:
    """1 → 3 → 5 → 3 → 1: every acknowledged write is on whoever is left."""
    with Cluster(tmp_path, size=1) as cluster:
        (first,) = cluster.members
        with Load(cluster.members, writers=2) as load:
            for size in range(2, 6):
                newcomer = cluster.new_member(f"infra{size - 1}")
                wait_for(lambda n=newcomer: add(first, n).status == 201, 30, "a member to be added")
                newcomer.start()
                newcomer.wait_serving()
                wait_for(lambda n=size: len(all_names(first, n)) == n, 30, "all names")
            written = len(load)
            assert written > 0
            for member in cluster.members[1:]:
                gone = member_id(first, member.name)
                assert first.request("DELETE", f"/v2/members/{gone}").status == 204
                assert member.wait_exit() == 0
                assert "permanently removed" in member.log
            wait_for(lambda: len(load) > written, 30, "writes after the last removal")
        assert load.lost(first) == []
        assert len(first.request("GET", "/v2/members").json()["members"]) == 1


def test_member_without_a_quorum_ends_soon_and_says_so(tmp_path: Path) -> None:
    """A write that nobody can acknowledge gets an error, and holds nobody up for long."""
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        for member in cluster.followers():
            member.kill()
        answers = []
        writer = threading.Thread(target=lambda: answers.append(leader.put("in", "vain")))
        writer.start()
        wait_for(lambda: leader.request("GET", "/health").status == 503, 30, "it to notice")
        began = time.monotonic()
        leader.terminate()
        assert time.monotonic() - began < 5
        writer.join()
        assert [answer.status for answer in answers] == [500]
        assert answers[0].json()["cause"] == "etcdserver: server stopped"
