"""Users and roles that change all the time, and what becomes of others' requests meanwhile."""

import base64
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.processes import OTHER_SERVER, Cluster, Member, Response

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="etcd checks where a request comes in, and only there"),
]

ROOT = "Basic " + base64.b64encode(b"root:password").decode()
FORM = "application/x-www-form-urlencoded"
# With the default election timeout.
REQUEST_SECONDS = 7.0
# This far behind, the slow member never knows the users and roles that a write will meet.
SLOW_DISK_SECONDS = "0.2"


def test_write_through_a_member_that_lags_behind_changes_of_roles_is_answered_in_time(
    tmp_path: Path,
) -> None:
    """Each time that its turn comes, roles are others: it is asked again, and given up in time."""
    with Cluster(tmp_path) as cluster:
        slow = cluster.followers()[0]
        slow.terminate()
        way = ["-m", "tests.cluster.slow_disk", SLOW_DISK_SECONDS, "thread"]
        slow.command = [sys.executable, *way]
        slow.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        slow.start()
        slow.wait_serving()
        leader = cluster.leader()
        assert leader is not slow
        user = {"user": "root", "password": "password"}
        assert leader.request("PUT", "/v2/auth/users/root", body=user).status == 201
        assert leader.request("PUT", "/v2/auth/enable").status == 200
        assert ask(leader, "PUT", "/v2/keys/before", "value=1").status == 201
        assert ask(slow, "PUT", "/v2/keys/also", "value=1").status == 201
        with changes(leader):
            began = time.monotonic()
            answer = ask(slow, "PUT", "/v2/keys/meanwhile", "value=1")
            seconds = time.monotonic() - began
            assert seconds < REQUEST_SECONDS + 1
            assert answer.status in (201, 500)
            if answer.status == 500:
                assert "request timed out" in answer.json()["cause"]
            began = time.monotonic()
            assert ask(slow, "GET", "/v2/keys/before?quorum=true").status == 200
            assert time.monotonic() - began < REQUEST_SECONDS / 2
        assert ask(slow, "PUT", "/v2/keys/after", "value=1").status == 201


def ask(member: Member, method: str, path: str, body: str = "", kind: str = FORM) -> Response:
    """Ask as root."""
    connection = http.client.HTTPConnection(urlsplit(member.client_url).netloc, timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": ROOT, "Content-Type": kind})
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


@contextmanager
def changes(member: Member) -> Iterator[None]:
    """Roles are created and deleted as fast as they can be."""
    ended = threading.Event()
    statuses: set[int] = set()

    def change(number: int) -> None:
        path = f"/v2/auth/roles/role{number}"
        while not ended.is_set():
            role = json.dumps({"role": f"role{number}"})
            statuses.add(ask(member, "PUT", path, role, "application/json").status)
            statuses.add(ask(member, "DELETE", path).status)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert statuses == {200, 201}
