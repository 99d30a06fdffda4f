"""etcdctl and pyetcdctl on one cluster, of pyetcd or of a real etcd: what one says, both say.

For what takes several members, certificates, the environment, or time; the many commands that need
one member and no more are in tests/pyetcd/ctl/test_side_by_side.py.
"""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.authority import Authority
from tests.cluster import processes
from tests.cluster.processes import Cluster, wait_for

ETCD, ETCDCTL = shutil.which("etcd") or "", shutil.which("etcdctl") or ""
PROGRAMS = {"etcdctl": [ETCDCTL], "pyetcdctl": [sys.executable, "-m", "pyetcd.ctl"]}
SECONDS = 30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not (ETCD and ETCDCTL), reason="no etcd installed"),
]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    error: str


@pytest.fixture(params=["pyetcd", "etcd"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the servers are."""
    make: str = request.param
    if make == "etcd":
        monkeypatch.setattr(
            processes, "COMMAND", [ETCD, "--enable-v2", "--strict-reconfig-check=false"]
        )
    return make


def start(
    program: str, words: list[str], variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start one of the programs."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
    return subprocess.Popen(
        [*PROGRAMS[program], *words],
        env=kept | {"ETCDCTL_API": "2"} | (variables or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    program: str, words: str, variables: Mapping[str, str] | None = None, stdin: str = ""
) -> Ended:
    """Run one of the programs to its end."""
    process = start(program, words.split(), variables)
    out, error = process.communicate(stdin, timeout=SECONDS)
    return Ended(process.returncode, out, error)


def same(words: str, variables: Mapping[str, str] | None = None, stdin: str = "") -> Ended:
    """Run both; exit code and output are the same."""
    theirs, ours = (run(program, words, variables, stdin) for program in PROGRAMS)
    assert (ours.code, ours.out) == (theirs.code, theirs.out), f"{words}: {ours} {theirs}"
    return ours


@pytest.mark.parametrize("program", PROGRAMS)
def test_members_are_added_moved_and_removed(tmp_path: Path, make: str, program: str) -> None:
    """On a cluster of three, by id; the list shows it at once."""
    with Cluster(tmp_path, size=3) as cluster:
        at = f"--endpoints {cluster.members[0].client_url}"
        code, out, _ = run(program, f"{at} member add new http://127.0.0.1:1")
        match = re.fullmatch(
            r"Added member named new with ID ([0-9a-f]+) to cluster\n\n"
            r'ETCD_NAME="new"\nETCD_INITIAL_CLUSTER="(.*)"\nETCD_INITIAL_CLUSTER_STATE="existing"\n',
            out,
        )
        assert match, out
        assert code == 0
        added, initial = match.groups()
        assert "new=http://127.0.0.1:1" in initial.split(",")
        assert len(initial.split(",")) == 4
        assert f"{added}[unstarted]: peerURLs=http://127.0.0.1:1\n" in same(f"{at} member list").out
        assert run(program, f"{at} member update {added} http://127.0.0.1:2") == (
            0,
            f"Updated member with ID {added} in cluster\n",
            "",
        )
        assert f"{added}[unstarted]: peerURLs=http://127.0.0.1:2\n" in same(f"{at} member list").out
        removed = f"Removed member {added} from cluster\n"
        assert run(program, f"{at} member remove {added}") == (0, removed, "")
        assert same(f"{at} member list").out.count("name=infra") == 3
        again = run(program, f"{at} member remove {added}")
        assert again.code == 1, again


def test_health_of_a_cluster_that_loses_members(tmp_path: Path, make: str) -> None:
    """All well, one down, no quorum: the same lines about each member."""
    with Cluster(tmp_path, size=3) as cluster:
        at = "--timeout 2s --endpoints " + ",".join(it.client_url for it in cluster.members)
        assert same(f"{at} cluster-health").code == 0
        first, second = cluster.followers()
        second.kill()
        assert said_of_members(f"{at} cluster-health") == ["healthy", "healthy", "unreachable"]
        assert same(f"{at} get /none").code == 4
        first.kill()
        leader = cluster.answering()[0]
        wait_for(lambda: b"true" not in leader.request("GET", "/health").body, 30, "no quorum")
        assert said_of_members(f"{at} cluster-health") == ["unhealthy"] + 2 * ["unreachable"]
        assert run("pyetcdctl", f"{at} cluster-health").code == 5
        assert run("etcdctl", f"{at} cluster-health").code == 5


def said_of_members(words: str) -> list[str]:
    """What both programs say of each member: the last line of etcdctl 3 is another one."""
    theirs, ours = (run(program, words).out.splitlines()[:-1] for program in PROGRAMS)
    assert [re.sub(r' Get "[^"]*":', "", line) for line in theirs] == ours
    return sorted(line.split()[3].rstrip(":") for line in ours if line.startswith("member"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_exec_watch_runs_a_program_for_each_event(tmp_path: Path, make: str, program: str) -> None:
    """What has happened is in its environment."""
    script = (
        'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_MODIFIED_INDEX"'
    )
    with Cluster(tmp_path, size=1) as cluster:
        (member,) = cluster.members
        words = ["--endpoints", member.client_url, "exec-watch", "--recursive", "/w"]
        with start(program, [*words, "--", "sh", "-c", script]) as watching:
            assert watching.stdout is not None
            while not member.request("GET", "/v2/stats/store").json()["watchers"]:
                assert watching.poll() is None, "it did not wait"
            for number in range(2):
                index = member.put(f"w/{number}", f"v{number}").json()["node"]["modifiedIndex"]
                line = watching.stdout.readline()
                assert line == f"set /w/{number} v{number} {index}\n"
            watching.send_signal(signal.SIGINT)
            watching.communicate(timeout=SECONDS)


def test_certificates_are_shown_and_checked(tmp_path: Path, make: str) -> None:
    """By flags and by variables; without them neither program gets in."""
    authority = Authority(tmp_path)
    (cert, key), (client_cert, client_key) = authority.issue("member"), authority.issue("client")
    flags = ["-cert-file", cert, "-key-file", key, "-trusted-ca-file", authority.path]
    cluster = Cluster(tmp_path, size=1, flags=[*flags, "-client-cert-auth"])
    (member,) = cluster.members
    member.client_url = member.client_url.replace("http:", "https:")
    member.tls = ssl.create_default_context(cafile=authority.path)
    member.tls.load_cert_chain(client_cert, client_key)
    cluster._flag(cluster.members, state="new")
    with cluster:
        at = f"--endpoints {member.client_url}"
        shown = f"--cert-file {client_cert} --key-file {client_key}"
        assert same(f"{at} --ca-file {authority.path} {shown} set /a 1") == (0, "1\n", "")
        variables = {
            "ETCDCTL_ENDPOINTS": member.client_url,
            "ETCDCTL_CA_FILE": authority.path,
            "ETCDCTL_CERT_FILE": client_cert,
            "ETCDCTL_KEY_FILE": client_key,
        }
        assert same("get /a", variables) == (0, "1\n", "")
        health = same("cluster-health", variables)
        assert (health.code, health.out.splitlines()[-1]) == (0, "cluster is healthy")
        assert same(f"{at} {shown} get /a").code == 4
        for program in PROGRAMS:
            # How it is told that it lacks a certificate is a matter of chance.
            assert run(program, f"{at} --ca-file {authority.path} get /a").code in (2, 4)
        assert same(f"{at} --ca-file {tmp_path / 'none.pem'} get /a").code == 1


def test_settings_come_from_flags_and_variables(tmp_path: Path, make: str) -> None:
    """Endpoints by each of their names, users, and a value from stdin."""
    with Cluster(tmp_path, size=1) as cluster:
        url = cluster.members[0].client_url
        for flag in ("--endpoints", "--endpoint", "--peers", "-C"):
            assert same(f"{flag} {url} set /k {flag[-1]}").code == 0
        for variable in ("ETCDCTL_ENDPOINTS", "ETCDCTL_ENDPOINT", "ETCDCTL_PEERS"):
            assert same("get /k", {variable: url}) == (0, "C\n", "")
        assert same(f"--endpoints {url} set /in", stdin="of stdin\nof two lines").code == 0
        assert same(f"--endpoints {url} get /in").out.startswith("of stdin")
        at = {"ETCDCTL_ENDPOINTS": url}
        assert run("etcdctl", "user add root:pw", at).code == 0
        assert run("pyetcdctl", "auth enable", at).code == 0
        assert same("user list", at).code == 1
        assert same("user list", at | {"ETCDCTL_USERNAME": "root:pw"}) == (0, "root\n", "")
        # Where the flag and the variable differ, the flag counts.
        wrong = at | {"ETCDCTL_USERNAME": "root:no"}
        assert same("-u root:pw user list", wrong) == (0, "root\n", "")


def test_debug_prints_the_requests_as_curl_commands(tmp_path: Path, make: str) -> None:
    """The same ones, to stderr; what is printed of the answer is not touched by it."""
    with Cluster(tmp_path, size=1) as cluster:
        url = cluster.members[0].client_url
        for words in ("set /a 1", "get /a", "rm /a", "member list"):
            for sync in ("--no-sync ", ""):
                command = f"--debug {sync}--endpoints {url} {words}"
                theirs, ours = run("etcdctl", command), run("pyetcdctl", command)
                if words != "rm /a":  # there is nothing left for the second one
                    assert (ours.code, ours.out) == (theirs.code, theirs.out)
                assert curl_lines(ours.error) == curl_lines(theirs.error) != []


def curl_lines(error: str) -> list[str]:
    """The requests."""
    return [line for line in error.splitlines() if line.startswith("cURL")]


def test_silent_member_is_given_up_in_time(tmp_path: Path, make: str) -> None:
    """It takes connections and answers nothing: the time-outs say how long that is waited for."""
    with Cluster(tmp_path, size=1) as cluster:
        (member,) = cluster.members
        member.stop()
        at = f"--endpoints {member.client_url}"
        for limits in (
            "--timeout 500ms --total-timeout 1h",
            "--timeout 1h --total-timeout 500ms",
            "--no-sync --timeout 500ms --total-timeout 1h",
        ):
            for words in ("set /a 1", "member list"):
                codes = {}
                for program in PROGRAMS:
                    # Which ends in time, or there is TimeoutExpired.
                    codes[program] = run(program, f"{limits} {at} {words}").code
                assert codes["pyetcdctl"] == codes["etcdctl"] != 0, f"{limits} {words}: {codes}"
        member.cont()
        assert same(f"{at} set /a 1") == (0, "1\n", "")
