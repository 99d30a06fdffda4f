"""Starting one process: the ids that flags lead to, the defaults, and what is refused how.

A refusal is an exit code other than 0 and a last line that names the culprit; whatever was in
the data directory stays as it was.
"""

import socket
from pathlib import Path

import pytest

from tests.cluster.processes import OTHER_SERVER, Cluster, Member, port_is_free, request, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DEFAULT_CLIENT_PORTS = (2379, 4001)
DEFAULT_PEER_PORTS = (2380, 7001)
# Peer ports of the guide's three members; the ids depend on these URLs.
GUIDE_IDS = {2380: "bf9071f4639c75cc", 3380: "df13fa9bb8a2ccdb", 4380: "a53e1491ca0be23a"}


def need_ports(*ports: int) -> None:
    """Skip the test if somebody listens on a port that it cannot do without."""
    taken = [port for port in ports if not port_is_free(port)]
    if taken:
        pytest.skip(f"ports in use: {taken}")


@pytest.fixture
def member(tmp_path: Path):
    """A member that is not started, with the flags of a cluster of one."""
    member = Member("solo", tmp_path)
    member.flags += ["-initial-cluster", f"solo={member.peer_url}"]
    yield member
    member.close()


@pytest.mark.skipif(OTHER_SERVER, reason="the default ports and ids are those of etcd 2")
def test_bare_start_has_etcds_defaults(member: Member):
    """Nothing but the command: etcd's default ports, name, directory and ids; twice."""
    need_ports(*DEFAULT_CLIENT_PORTS, *DEFAULT_PEER_PORTS)
    member.flags = []
    for port in DEFAULT_CLIENT_PORTS * 2:
        member.client_url = f"http://localhost:{port}"
        if not member.running:
            member.start()
        member.wait_serving()
        (listed,) = member.request("GET", "/v2/members").json()["members"]
        assert (listed["name"], listed["id"]) == ("default", "ce2a822cea30bfca")
        cluster_id = member.request("GET", "/v2/members").headers["X-Etcd-Cluster-Id"]
        assert cluster_id == "7e27652122e8b2ae"
        for peer_port in DEFAULT_PEER_PORTS:
            assert request(f"http://localhost:{peer_port}/version").status == 200
        member.put("lasting", str(port))
        if port == DEFAULT_CLIENT_PORTS[-1]:
            member.terminate()
    assert (member.directory / "default.etcd").is_dir()


def test_guide_cluster_has_etcds_ids(tmp_path: Path):
    """Ids are computed from URLs and token: those of the guide's flags are known."""
    need_ports(*GUIDE_IDS)
    cluster = Cluster(tmp_path, token="etcd-cluster-1")
    for member, port in zip(cluster.members, GUIDE_IDS, strict=True):
        member.peer_url = f"http://127.0.0.1:{port}"
    cluster._flag(cluster.members, state="new")
    with cluster:
        answer = cluster.members[0].request("GET", "/v2/members")
    assert answer.headers["X-Etcd-Cluster-Id"] == "8a0d90c0afa94997"
    assert {tuple(listed["peerURLs"]): listed["id"] for listed in answer.json()["members"]} == {
        (f"http://127.0.0.1:{port}",): member_id for port, member_id in GUIDE_IDS.items()
    }


def test_flags_are_taken_in_all_of_etcds_spellings(member: Member):
    """One dash or two, `=` or a space, a repeated flag, variables of the environment."""
    member.flags = [
        "--name=other",
        f"-data-dir={member.data_dir}",
        "--listen-client-urls",
        member.client_url,
        "-advertise-client-urls",
        member.client_url,
        "-initial-cluster",
        "nobody=http://127.0.0.1:1",
        f"--initial-cluster=solo={member.peer_url}",
        "-name",
        "solo",
    ]
    member.environment = {
        "ETCD_LISTEN_PEER_URLS": member.peer_url,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": member.peer_url,
        "ETCD_NO_SUCH_VARIABLE": "1",
    }
    if not OTHER_SERVER:  # etcd 3 refuses what etcd 2 only shadows
        member.environment["ETCD_NAME"] = "from-the-environment"
    member.start()
    member.wait_serving()
    assert member.stats()["name"] == "solo"


@pytest.mark.skipif(OTHER_SERVER, reason="one line, where etcd prints its whole usage")
def test_unknown_flag_is_refused(member: Member):
    """An unknown flag is named; nothing is created."""
    member.flags.append("-no-such-flag")
    assert "no-such-flag" in refusal(member)
    assert not member.data_dir.exists()


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("-listen-client-urls", "127.0.0.1:2379"),
        ("-listen-peer-urls", "http://127.0.0.1"),
        ("-initial-advertise-peer-urls", "http://127.0.0.1:1/path"),
        ("-advertise-client-urls", "ftp://127.0.0.1:1"),
        ("-heartbeat-interval", "soon"),
        ("-initial-cluster-state", "old"),
    ],
)
@pytest.mark.skipif(OTHER_SERVER, reason="etcd 3 prints usage and several lines")
def test_wrong_value_is_refused(member: Member, flag: str, text: str):
    """A value that cannot be right is quoted, or the flag named; nothing is created."""
    member.flags += [flag, text]
    line = refusal(member)
    assert text in line or flag in line
    assert not member.data_dir.exists()


def test_election_timeout_below_five_heartbeats_is_refused(member: Member):
    """Elections that close to the heartbeat would never end."""
    member.flags += ["-heartbeat-interval", "300", "-election-timeout", "400"]
    refusal(member)
    assert "-election-timeout" in member.log
    assert not member.data_dir.exists()


def test_advertised_client_url_must_be_given_with_the_listening_one(member: Member):
    """Listening elsewhere while advertising the default would send clients to nobody."""
    at = member.flags.index("-advertise-client-urls")
    del member.flags[at : at + 2]
    refusal(member)
    assert "-advertise-client-urls" in member.log


def test_name_missing_from_initial_cluster_is_refused(member: Member):
    """A member that the initial cluster does not list could never vote."""
    member.flags += ["-initial-cluster", f"somebody={member.peer_url}"]
    assert '"solo"' in refusal(member)
    assert member.files() == []


def test_peer_urls_unlike_those_of_initial_cluster_are_refused(member: Member):
    """The others would look for this member where it does not say it is."""
    member.flags += ["-initial-cluster", "solo=http://127.0.0.1:1"]
    refusal(member)
    assert "initial-cluster" in member.log
    assert member.peer_url in member.log
    assert member.files() == []


@pytest.mark.parametrize("which", ["client_url", "peer_url"])
def test_port_in_use_is_refused(member: Member, which: str):
    """Somebody else listens there: the address is named."""
    with socket.socket() as other:
        port = int(getattr(member, which).rpartition(":")[2])
        other.bind(("127.0.0.1", port))
        other.listen()
        assert f"127.0.0.1:{port}" in refusal(member)
    member.start()
    member.wait_serving()


@pytest.mark.skipif(OTHER_SERVER, reason="etcd waits for the lock instead")
def test_data_directory_in_use_is_refused(member: Member):
    """Two processes on one directory would destroy it: the second ends and says why."""
    member.start()
    member.wait_serving()
    second = Member("solo", member.directory)
    second.flags += ["-initial-cluster", f"solo={second.peer_url}"]
    second.log_path = member.directory / "second.log"
    try:
        assert str(second.data_dir) in refusal(second)
        assert member.put("fine", "1").status == 201
    finally:
        second.close()


def test_data_directory_keeps_its_member_without_the_flags_of_its_first_start(member: Member):
    """After the first start the directory knows: the -initial- flags may go, or say `existing`."""
    member.start()
    member.wait_serving()
    first = member.request("GET", "/v2/members")
    given = member.flags
    for flags in (
        [*given, "-initial-cluster-state", "existing"],
        [*given[: given.index("-initial-advertise-peer-urls")]],
    ):
        member.terminate()
        member.flags = flags
        member.start()
        member.wait_serving()
        again = member.request("GET", "/v2/members")
        assert again.headers["X-Etcd-Cluster-Id"] == first.headers["X-Etcd-Cluster-Id"]
        assert again.json() == first.json()


@pytest.mark.skipif(OTHER_SERVER, reason="etcd looks at the token at the first start only")
def test_data_directory_made_with_another_token_is_refused(member: Member):
    """A token that is not the directory's own means that one of the two is a mistake."""
    member.start()
    member.wait_serving()
    member.kill()
    before = {path: path.read_bytes() for path in member.files()}
    member.flags += ["-initial-cluster-token", "other"]
    assert "-initial-cluster-token" in refusal(member)
    assert {path: path.read_bytes() for path in member.files()} == before


def test_data_directory_of_another_cluster_does_not_mix(tmp_path: Path):
    """A member with the data of another cluster is not let in, and disturbs nobody."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Cluster(tmp_path / "a") as cluster, Cluster(tmp_path / "b", size=1, token="b") as other:
        (stranger,) = other.members
        stranger.put("foreign", "1")
        stranger.terminate()
        guest = next(member for member in cluster.members if member.name == stranger.name)
        guest.terminate()
        guest.data_dir.rename(tmp_path / "own")
        stranger.data_dir.rename(guest.data_dir)
        before = {path: path.read_bytes() for path in guest.files()}
        guest.start()
        leader = cluster.leader()
        assert leader.put("alone", "1").status == 201
        if not OTHER_SERVER:
            assert guest.wait_exit() != 0
            assert str(guest.data_dir) in guest.log.splitlines()[-1]
            assert {path: path.read_bytes() for path in guest.files()} == before
        assert leader.value("foreign", quorum="true") is None
        guest.close()


def test_terminated_member_ends_cleanly_and_frees_its_ports(member: Member):
    """SIGTERM is the way to stop a member; its ports can be bound again at once."""
    for _ in range(2):
        member.start()
        member.wait_serving()
        assert member.put("fine", "1").status in (200, 201)
        member.terminate()


@pytest.mark.skipif(OTHER_SERVER, reason="other log lines")
def test_log_has_the_lines_that_suites_wait_for(tmp_path: Path):
    """Every member prints that it has published itself and that the version is settled."""
    with Cluster(tmp_path) as cluster:
        for member in cluster.members:
            for line in (
                f"published {{Name:{member.name}",
                "etcdserver: set the initial cluster version to",
            ):
                wait_for(lambda m=member, text=line: text in m.log, 30, f"{member.name}: {line}")


def refusal(member: Member) -> str:
    """Start a member that must refuse to run; its last line."""
    member.start()
    code = member.wait_exit()
    lines = member.log.splitlines()
    assert code != 0, lines
    assert "Traceback" not in member.log, member.log
    return lines[-1]
