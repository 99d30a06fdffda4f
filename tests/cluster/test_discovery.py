"""Clusters that find their members: by a token in any etcd v2 store, by a service, by DNS."""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.cluster.processes import (
    COMMAND,
    NO_ANSWER,
    OTHER_SERVER,
    Cluster,
    Member,
    free_port,
    request,
    wait_for,
)
from tests.dns_server import DnsServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="log lines and the discovery service are pyetcd's"),
]

REAL_ETCD = shutil.which("etcd")
STORES = [
    pytest.param(COMMAND, id="pyetcd"),
    pytest.param(
        [REAL_ETCD, "--enable-v2"],
        id="etcd",
        marks=pytest.mark.skipif(REAL_ETCD is None, reason="no etcd is installed"),
    ),
]

DISCOVERY = [*COMMAND, "discovery"]

Make = Callable[[str], Member]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make a process that is ended with the test; its log is shown if the test fails."""
    members: list[Member] = []

    def make_member(name: str) -> Member:
        members.append(Member(name, tmp_path))
        return members[-1]

    yield make_member
    for member in members:
        # Captured, and shown if the test fails.
        sys.stdout.write(member.obituary() + "\n")
        member.close()


@pytest.fixture
def store(make: Make) -> Member:
    """A running store for tokens."""
    return start_store(make("store"))


def start_store(member: Member, command: list[str] = COMMAND) -> Member:
    """Start a cluster of one."""
    member.command = command
    member.flags = [*member.own_flags(), "-initial-cluster", f"store={member.peer_url}"]
    member.start()
    member.wait_serving()
    return member


def token(store: Member, size: object = 3) -> str:
    """Make a token by hand, as the guide does."""
    store.put("discovery/token/_config/size", str(size))
    return f"{store.client_url}/v2/keys/discovery/token"


def joiner(make: Make, name: str, url: str, *flags: str) -> Member:
    """A member that finds the others by a token, started."""
    member = make(name)
    member.flags += ["-discovery", url, *flags]
    member.start()
    return member


def wait_log(member: Member, text: str) -> None:
    """Wait until the member has logged something."""
    wait_for(lambda: text in member.log, 30, f"{member.name} to log {text!r}")


def names(member: Member) -> list[str]:
    """The names of the members as this one knows them."""
    listed = member.request("GET", "/v2/members").json()["members"]
    return sorted(entry["name"] for entry in listed)


def wait_formed(members: list[Member]) -> None:
    """Wait until these members, and no others, are a cluster."""
    for member in members:
        member.wait_serving()
    expected = sorted(member.name for member in members)
    for member in members:
        wait_for(lambda member=member: names(member) == expected, 30, f"{member.name} to know all")


@pytest.mark.parametrize("command", STORES)
def test_fourth_of_three_becomes_a_proxy_and_stays_one(make: Make, command: list[str]) -> None:
    """Three members form the cluster; the proxy needs the token never again."""
    store = start_store(make("store"), command)
    url = token(store)
    members = [joiner(make, f"infra{number}", url) for number in range(3)]
    wait_formed(members)
    proxy = joiner(make, "late", url)
    wait_log(proxy, "discovery cluster full, falling back to proxy")
    wait_log(proxy, "proxy: endpoints found [")
    assert proxy.put("through", "1").status == 201
    assert [member.value("through", quorum="true") for member in members] == ["1"] * 3
    assert not (proxy.data_dir / "member").exists()
    store.terminate()
    proxy.terminate()
    proxy.start()
    wait_for(lambda: gets(proxy, "through") == "1", 30, "the proxy to come back")
    assert "discovery token ignored since the proxy has already been initialized" in proxy.log
    members[0].terminate()
    members[0].start()
    wait_formed(members)
    assert "discovery token ignored since a cluster has already been" in members[0].log


def gets(member: Member, key: str) -> str | None:
    """The value of a key; None also while there is no answer."""
    try:
        return member.value(key)
    except NO_ANSWER:
        return None


def test_member_that_is_too_many_exits_if_told_so(make: Make, store: Member) -> None:
    """`-discovery-fallback exit`; nothing is left in its directory."""
    url = token(store, 1)
    wait_formed([joiner(make, "infra0", url)])
    late = joiner(make, "late", url, "-discovery-fallback", "exit")
    assert late.wait_exit() == 1
    assert "discovery: cluster is full" in late.log
    assert not late.data_dir.exists()


def test_member_that_crashed_while_waiting_goes_on(make: Make, store: Member) -> None:
    """Its own registration is found again and counts."""
    url = token(store, 2)
    first = joiner(make, "infra0", url)
    wait_log(first, "found 1 peer(s), waiting for 1 more")
    first.kill()
    first.start()
    wait_log(first, "has registered at")
    first.terminate()
    first.start()
    wait_formed([first, joiner(make, "infra1", url)])


def test_outage_of_the_store_is_waited_for(make: Make, store: Member) -> None:
    """Members that wait say what for, and the cluster forms when the store is back."""
    url = token(store, 2)
    first = joiner(make, "infra0", url)
    wait_log(first, "found 1 peer(s), waiting for 1 more")
    store.kill()
    wait_log(first, "error connecting to")
    second = joiner(make, "infra1", url)
    wait_log(second, f"cluster status check: error connecting to {url}")
    store.start()
    store.wait_serving()
    wait_formed([first, second])


def test_discovery_that_cannot_succeed_ends_with_etcds_error(make: Make, store: Member) -> None:
    """No token, no size, a bad size, a name twice, an id twice: one line each, exit code 1."""
    base = f"{store.client_url}/v2/keys/discovery"
    expected = {
        "nothing": "discovery: size key not found, token not found",
        "sizeless": "discovery: size key not found in",
        "bad": "discovery: size key is bad",
        "twice": "discovery: found duplicate name",
        "taken": "discovery: found duplicate id",
    }
    store.put("discovery/sizeless/deadbeef", "x=http://127.0.0.1:1")
    store.put("discovery/bad/_config/size", "three")
    store.put("discovery/twice/_config/size", "2")
    store.put("discovery/twice/deadbeef", "twice=http://127.0.0.1:1")
    store.put("discovery/taken/_config/size", "2")
    other = joiner(make, "other", f"{base}/taken")
    wait_log(other, "waiting for 1 more")
    for name, text in expected.items():
        member = make(name)
        member.flags += ["-discovery", f"{base}/{name}"]
        if name == "taken":
            member.peer_url = other.peer_url
            member.flags = [*member.own_flags(), "-discovery", f"{base}/{name}"]
            other.kill()
        member.start()
        assert member.wait_exit() == 1
        assert text in member.log.splitlines()[-1], name
        assert not member.data_dir.exists(), name


def test_token_behind_a_password_and_a_proxy_brings_a_cluster_up(make: Make, store: Member) -> None:
    """A store that lets only one user in, at a host that only the HTTP proxy can reach."""
    token(store, 2)
    user = {"user": "root", "password": "pass:word"}
    assert store.request("PUT", "/v2/auth/users/root", body=user).status == 201
    assert store.request("PUT", "/v2/auth/enable").status == 200
    own = f"{store.client_url.replace('//', '//root:pass%3Aword@')}/v2/auth/roles/guest"
    revoked = subprocess.run(["curl", "-sS", "-f", "-X", "DELETE", own], check=False)
    assert revoked.returncode == 0
    url = "http://root:pass%3Aword@store.invalid/v2/keys/discovery/token"
    # The store takes requests in the form that is meant for proxies.
    through = ["-discovery-proxy", store.client_url]
    members = [joiner(make, f"infra{number}", url, *through) for number in range(2)]
    wait_formed(members)
    stranger = joiner(make, "stranger", url.replace("pass", "wrong"), *through)
    assert stranger.wait_exit() == 1
    assert "answered 401" in stranger.log.splitlines()[-1]
    secret = "(pass|wrong)(:|%3A)word"
    assert [it.name for it in (*members, stranger) if re.search(secret, it.log)] == []


def test_proxy_with_a_token_waits_for_the_cluster(make: Make, store: Member) -> None:
    """It counts for nothing, and serves when the members do."""
    url = token(store, 1)
    proxy = joiner(make, "proxy", url, "-proxy", "on")
    wait_log(proxy, "found 0 peer(s), waiting for 1 more")
    wait_formed([joiner(make, "infra0", url)])
    wait_for(lambda: gets_status(proxy) == 200, 30, "the proxy to serve")


def gets_status(member: Member) -> int:
    """The status of a listing; 0 while there is no answer."""
    try:
        return member.get("/").status
    except NO_ANSWER:
        return 0


def start_service(make: Make, *flags: str) -> tuple[Member, str]:
    """Start a discovery service and return it with its URL."""
    service = make("service")
    url = f"http://127.0.0.1:{free_port()}"
    service.command = DISCOVERY
    service.flags = ["--listen", url, *flags]
    service.start()
    wait_for(lambda: health(url) == 200, 30, "the service to serve")
    return service, url


def health(url: str, tls: ssl.SSLContext | None = None) -> int:
    """The status of a service's health; 0 while there is no answer."""
    try:
        return request(f"{url}/health", tls=tls).status
    except NO_ANSWER:
        return 0


def test_service_with_a_store_of_its_own_brings_a_cluster_up(make: Make, tmp_path: Path) -> None:
    """GET /new?size=3, three members, and the token outlives the service."""
    service, url = start_service(make, "--data-dir", str(tmp_path / "tokens"))
    new = request(f"{url}/new?size=3").body.decode()
    assert new.startswith(f"{url}/")
    first = joiner(make, "infra0", new)
    wait_log(first, "found 1 peer(s), waiting for 2 more")
    service.terminate()
    service.start()
    wait_for(lambda: health(url) == 200, 30, "the service to come back")
    others = [joiner(make, f"infra{number}", new) for number in (1, 2)]
    wait_formed([first, *others])
    shown = request(new).json()["node"]["nodes"]
    assert sorted(node["value"].partition("=")[0] for node in shown) == [
        "infra0",
        "infra1",
        "infra2",
    ]


@pytest.mark.parametrize("command", STORES)
def test_service_with_a_named_store_brings_a_cluster_up(make: Make, command: list[str]) -> None:
    """`--etcd` takes any etcd v2 store."""
    store = start_store(make("store"), command)
    _, url = start_service(make, "--etcd", store.client_url)
    new = request(f"{url}/new?size=2", "PUT").body.decode()
    wait_formed([joiner(make, f"infra{number}", new) for number in range(2)])


def test_service_limits_sizes_and_rates_and_forgets_tokens(make: Make) -> None:
    """400 and 429 say why; a token lives for --ttl, and who comes later is told that it is gone."""
    store = start_store(make("store"))
    limits = ["--max-size", "5", "--rate", "3", "--ttl", "60"]
    _, url = start_service(make, "--etcd", store.client_url, *limits)
    for size in ("6", "0", "x"):
        refused = request(f"{url}/new?size={size}")
        assert (refused.status, b"from 1 to 5" in refused.body) == (400, True)
    new = [request(f"{url}/new?size=5") for _ in range(4)]
    assert [answer.status for answer in new] == [200, 200, 200, 429]
    assert 0 < int(new[3].headers["Retry-After"]) <= 60
    assert request(f"{url}/health").status == 200
    token_url = new[0].body.decode()
    ends = request(token_url.replace(url, f"{store.client_url}/v2/keys/_etcd/registry"))
    assert 0 < ends.json()["node"]["ttl"] <= 60
    key = token_url.replace(url, "_etcd/registry")
    store.request("PUT", f"/v2/keys/{key}", form={"dir": "true", "prevExist": "true", "ttl": 1})
    wait_for(lambda: request(token_url).status == 404, 30, "the token to be forgotten")
    late = joiner(make, "late", token_url)
    assert late.wait_exit() == 1
    assert "discovery" in late.log.splitlines()[-1]


@pytest.mark.skipif(REAL_ETCD is None, reason="no etcd is installed")
def test_service_brings_a_cluster_of_real_etcds_up(make: Make, tmp_path: Path) -> None:
    """They find the service as good as the one they know, and the one too many is a proxy."""
    assert REAL_ETCD is not None
    _, url = start_service(make, "--data-dir", str(tmp_path / "tokens"))
    new = request(f"{url}/new?size=2").body.decode()
    members = []
    for number in range(3):
        member = make(f"infra{number}")
        member.command = [REAL_ETCD, "--enable-v2"]
        member.flags += ["-discovery", new]
        members.append(member)
    for member in members[:2]:
        member.start()
    wait_formed(members[:2])
    members[2].start()
    wait_log(members[2], "falling back to proxy")


def test_service_over_https_brings_a_cluster_up(make: Make, tmp_path: Path) -> None:
    """Members check the service's certificate, against the authorities of their machine."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("service")
    context = ssl.create_default_context(cafile=authority.path)
    service = make("service")
    url = f"https://127.0.0.1:{free_port()}"
    service.command = DISCOVERY
    service.flags = ["--listen", url, "--cert-file", cert, "--key-file", key]
    service.start()
    wait_for(lambda: health(url, context) == 200, 30, "the service to serve")
    new = request(f"{url}/new?size=2", tls=context).body.decode()
    assert new.startswith("https://127.0.0.1:")
    stranger = joiner(make, "stranger", new)
    wait_log(stranger, "cluster status check: error connecting to https://")
    members = []
    for number in range(2):
        member = make(f"infra{number}")
        member.environment["SSL_CERT_FILE"] = authority.path
        member.flags += ["-discovery", new]
        member.start()
        members.append(member)
    wait_formed(members)


# Runs pyetcd with a DNS server of the test in place of the machine's.
WITH_DNS = """
import dns.asyncresolver, sys
resolver = dns.asyncresolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(sys.argv.pop(1))
dns.asyncresolver.default_resolver = resolver
from pyetcd import ctl, main
sys.argv[0] = sys.argv.pop(1)
(ctl if sys.argv[0] == "pyetcdctl" else main).main()
"""


def test_srv_records_bring_a_cluster_up(make: Make) -> None:
    """Three members and a proxy know nothing but a domain."""
    members = [make(f"infra{number}") for number in range(3)]
    ports = [member.peer_url.rpartition(":")[2] for member in members]
    records = [f"0 0 {port} localhost." for port in ports]
    with DnsServer({"_etcd-server._tcp.cluster.test": records}) as server:
        for member, port in zip(members, ports, strict=True):
            member.peer_url = f"http://localhost:{port}"
        proxy = make("proxy")
        for process in (*members, proxy):
            process.command = [sys.executable, "-c", WITH_DNS, str(server.port), "pyetcd"]
            process.flags = [*process.own_flags(), "-discovery-srv", "cluster.test"]
        proxy.flags += ["-proxy", "on"]
        for process in (*members, proxy):
            process.start()
        wait_formed(members)
        wait_for(lambda: gets_status(proxy) == 200, 30, "the proxy to serve")
        stranger = make("stranger")
        stranger.command = members[0].command
        stranger.flags += ["-discovery-srv", "cluster.test"]
        stranger.start()
        assert stranger.wait_exit() == 1
        assert 'cannot find local etcd member "stranger" in SRV records' in stranger.log
    assert "got bootstrap from DNS for etcd-server at http://localhost:" in members[0].log
    assert os.listdir(proxy.data_dir) == ["proxy"]


def test_pyetcdctl_finds_a_cluster_by_srv_records(tmp_path: Path) -> None:
    """Members that are down are passed by; a domain without records is an error that says so."""
    with Cluster(tmp_path) as cluster:
        down, *others = cluster.members
        ports = [member.client_url.rpartition(":")[2] for member in cluster.members]
        records = [f"{rank} 0 {port} localhost." for rank, port in enumerate(ports)]
        with DnsServer({"_etcd-client._tcp.cluster.test": records}) as server:

            def ctl(*args: str) -> tuple[int, str, str]:
                prefix = [sys.executable, "-c", WITH_DNS, str(server.port), "pyetcdctl"]
                environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
                done = subprocess.run(
                    [*prefix, *args], env=environment, capture_output=True, text=True, timeout=30
                )
                return done.returncode, done.stdout, done.stderr

            assert ctl("--discovery-srv", "cluster.test", "set", "/a", "1") == (0, "1\n", "")
            code, listed, _ = ctl("-D", "cluster.test", "member", "list")
            assert (code, listed.count("name=infra")) == (0, 3)
            code, health, _ = ctl("--discovery-srv", "cluster.test", "cluster-health")
            assert (code, health.splitlines()[-1]) == (0, "cluster is healthy")
            # Before any endpoint that is named; the members are at the URLs of the records.
            wrong = ["--endpoints", "http://127.0.0.1:1", "-D", "cluster.test", "--no-sync"]
            code, out, err = ctl(*wrong, "--debug", "get", "/a")
            assert (code, out) == (0, "1\n")
            assert f"http://localhost:{ports[0]}" in err
            down.kill()
            assert ctl("-D", "cluster.test", "get", "--quorum", "/a") == (0, "1\n", "")
            assert ctl("-D", "cluster.test", "--no-sync", "set", "/a", "2") == (0, "2\n", "")
            assert others[0].value("a", quorum="true") == "2"
            code, out, err = ctl("-D", "nowhere.test", "get", "/a")
            assert (code, out) == (1, "")
            assert "lookup _etcd-client._tcp.nowhere.test: no such host" in err
