"""Proves that etcdctl, with etcd's v2 API and as it is, says of pyetcd what it says of etcd.

What is expected was printed by etcdctl 3.4.23 for etcd 3.4.23 with `--enable-v2`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import Cluster, Member

ETCDCTL = shutil.which("etcdctl") or ""
SECONDS = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ETCDCTL, reason="etcdctl is not installed"),
]

# Each step is an argument list, the exit code and the output; indexes are those of a new member.
Step = tuple[str, int, str]

KEYS: list[Step] = [
    ("ls /", 0, ""),
    ("mk /a 1", 0, "1"),
    ("mk /a 1", 4, "Error:  105: Key already exists (/a) [4]"),
    ("mk --in-order /q x", 0, "x"),
    ("mkdir /d", 0, ""),
    ("mkdir /d", 4, "Error:  105: Key already exists (/d) [6]"),
    ("mkdir --ttl 100 /dt", 0, ""),
    ("set /d/k v", 0, "v"),
    ("set /d/k v2 --swap-with-value v", 0, "v2"),
    ("set /d/k v3 --swap-with-value no", 4, "Error:  101: Compare failed ([no != v2]) [9]"),
    ("set /d/k v3 --swap-with-index 1", 4, "Error:  101: Compare failed ([1 != 9]) [9]"),
    ("set /d/t tt --ttl 100", 0, "tt"),
    ("get /d/k", 0, "v2"),
    ("get --quorum /d/k", 0, "v2"),
    ("get /nope", 4, "Error:  100: Key not found (/nope) [10]"),
    ("get /d", 1, "/d: is a directory"),
    (
        "-o extended get /d/k",
        0,
        "Key: /d/k\nCreated-Index: 8\nModified-Index: 9\nTTL: 0\nIndex: 10\n\nv2",
    ),
    (
        "-o json get /d/k",
        0,
        '{"action":"get","node":{"key":"/d/k","value":"v2","nodes":null,"createdIndex":8,'
        '"modifiedIndex":9},"prevNode":null}',
    ),
    ("ls --sort --recursive -p /", 0, "/a\n/d/\n/d/k\n/d/t\n/dt/\n/q/\n/q/00000000000000000005"),
    ("update /d/k v5", 0, "v5"),
    ("update /d/nope v5", 4, "Error:  100: Key not found (/d/nope) [11]"),
    ("updatedir /d --ttl 50", 0, ""),
    ("updatedir /nope --ttl 50", 4, "Error:  100: Key not found (/nope) [12]"),
    ("setdir /d2", 0, ""),
    ("setdir /d2", 4, "Error:  102: Not a file (/d2) [13]"),
    ("rm /d/k", 0, "PrevNode.Value: v5"),
    ("rm /d", 4, "Error:  102: Not a file (/d) [14]"),
    ("rm --dir /d", 4, "Error:  108: Directory not empty (/d) [14]"),
    ("rm --recursive /d", 0, ""),
    ("rmdir /d2", 0, ""),
    ("rm --with-value 2 /a", 4, "Error:  101: Compare failed ([2 != 1]) [16]"),
    ("rm --with-value 1 /a", 0, ""),
    ("watch --after-index 4 /a", 0, ""),
    ("set /uni/ключ значение", 0, "значение"),
    ("get /uni/ключ", 0, "значение"),
]

AUTH: list[Step] = [
    ("auth enable", 1, "auth: No root user available, please create one"),
    ("user list", 0, ""),
    ("role list", 0, "root"),
    ("user add root:pw", 0, "User root created"),
    ("user add u:pw", 0, "User u created"),
    ("user list", 0, "root\nu"),
    ("role add r", 0, "Role r created"),
    ("role grant r --path /p/* --readwrite", 0, "Role r updated"),
    ("role get r", 0, "Role: r\nKV Read:\n\t/p/*\nKV Write:\n\t/p/*"),
    ("user grant u --roles r", 0, "User u updated"),
    ("user get u", 0, "User: u\nRoles:  r"),
    ("set /e 1", 0, "1"),
    ("auth enable", 0, "Authentication Enabled"),
    ("get /e", 0, "1"),
    ("--username u:pw set /p/x 1", 0, "1"),
    (
        "--username u:pw set /other 1",
        4,
        "Error:  110: The request requires user authentication (Insufficient credentials) [0]",
    ),
    (
        "--username u:bad get /p/x",
        4,
        "Error:  110: The request requires user authentication (Insufficient credentials) [0]",
    ),
    ("role revoke guest --path /* --readwrite", 1, "Insufficient credentials"),
    ("--username root:pw role revoke guest --path /* --readwrite", 0, "Role guest updated"),
    ("--username root:pw role get guest", 0, "Role: guest\nKV Read:\nKV Write:"),
    (
        "get /e",
        4,
        "Error:  110: The request requires user authentication (Insufficient credentials) [0]",
    ),
    ("--username root:pw role revoke r --path /p/* --write", 0, "Role r updated"),
    ("--username root:pw role get r", 0, "Role: r\nKV Read:\n\t/p/*\nKV Write:"),
    ("--username root:pw user revoke u --roles r", 0, "User u updated"),
    ("--username root:pw user remove u", 0, "User u removed"),
    ("--username root:pw role remove r", 0, "Role r removed"),
    ("--username root:pw user get u", 1, "auth: User u does not exist."),
    ("--username root:pw auth disable", 0, "Authentication Disabled"),
    ("get /e", 0, "1"),
]


class Etcdctl:
    """The program, talking to one member."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        """Start it."""
        return subprocess.Popen(
            [ETCDCTL, "--endpoints", self.member.client_url, *words],
            env=os.environ | {"ETCDCTL_API": "2"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, words: str) -> tuple[int, str]:
        """Run it; its exit code, and what it printed."""
        process = self.start(words.split())
        printed, _ = process.communicate(timeout=SECONDS)
        return process.returncode, printed.strip("\n")


@pytest.fixture
def etcdctl(tmp_path: Path) -> Iterator[Etcdctl]:
    """etcdctl and a new member."""
    with Cluster(tmp_path, size=1) as cluster:
        yield Etcdctl(cluster.members[0])


@pytest.mark.parametrize("steps", [KEYS, AUTH], ids=["keys", "auth"])
def test_etcdctl_prints_of_pyetcd_what_it_prints_of_etcd(
    etcdctl: Etcdctl, steps: list[Step]
) -> None:
    """Every subcommand of the v2 API that reads or writes, its errors included."""
    for words, code, printed in steps:
        assert etcdctl.run(words) == (code, printed), words


def test_etcdctl_watch_sees_the_event(etcdctl: Etcdctl) -> None:
    """The client waits with `wait=true`, and prints what another one writes."""
    watching = etcdctl.start(["watch", "--recursive", "/w"])
    while not etcdctl.member.request("GET", "/v2/stats/store").json()["watchers"]:
        assert watching.poll() is None, "it did not wait"
    etcdctl.run("set /w/a 1")
    printed, _ = watching.communicate(timeout=SECONDS)
    assert printed == "[set] /w/a\n1\n"


def test_etcdctl_shows_and_changes_the_members(etcdctl: Etcdctl) -> None:
    """What operators do: look at the health, let a member in."""
    member = etcdctl.member
    code, printed = etcdctl.run("cluster-health")
    assert (code, printed.splitlines()[-1]) == (0, "cluster is healthy")
    (known,) = member.request("GET", "/v2/members").json()["members"]
    line = f"{known['id']}: name=infra0 peerURLs={member.peer_url} clientURLs={member.client_url}"
    assert etcdctl.run("member list") == (0, f"{line} isLeader=true")
    code, printed = etcdctl.run("member add other http://127.0.0.1:1")
    assert (code, printed.split(" with ID ")[0]) == (0, "Added member named other")
    assert 'ETCD_INITIAL_CLUSTER_STATE="existing"' in printed
