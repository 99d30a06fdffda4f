"""Proves that etcdctl, as it is, finds a cluster of pyetcd by DNS: it asks whom resolv.conf names.

It gets a mount namespace, with another such file, and there is a DNS server on port 53 of an
address that nobody else has.
"""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.cluster.processes import Cluster
from tests.dns_server import DnsServer

ETCDCTL = shutil.which("etcdctl") or ""
# Another one for each run of the tests.
ADDRESS = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
WITH_RESOLVER = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --bind "$0" /etc/resolv.conf && exec "$@"',
]


def may_mount() -> bool:
    """Whether this user may have a mount namespace and port 53."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    command = [*WITH_RESOLVER, os.devnull, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ETCDCTL, reason="etcdctl is not installed"),
    pytest.mark.skipif(not may_mount(), reason="needs root, for a mount namespace and port 53"),
]


@pytest.fixture
def resolver(tmp_path: Path) -> str:
    """A resolv.conf that names the test's server."""
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {ADDRESS}\n")
    return str(path)


def etcdctl(resolver: str, *words: str) -> tuple[int, str, str]:
    """Run it; its exit code, stdout and stderr."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ETCD")}
    ended = subprocess.run(
        [*WITH_RESOLVER, resolver, ETCDCTL, *words],
        env=kept | {"ETCDCTL_API": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_etcdctl_finds_a_cluster_by_srv_records(tmp_path: Path, resolver: str) -> None:
    """Keys, members, health; with a member that is down, and with a domain that nobody has."""
    with Cluster(tmp_path) as cluster:
        down, *_ = cluster.members
        ports = [member.client_url.rpartition(":")[2] for member in cluster.members]
        records = [f"{rank} 0 {port} infra.cluster.test." for rank, port in enumerate(ports)]
        service = {"_etcd-client._tcp.cluster.test": records}
        with DnsServer(service, address=ADDRESS, port=53):
            srv = ["--insecure-discovery", "--discovery-srv", "cluster.test"]
            assert etcdctl(resolver, *srv, "set", "/a", "1") == (0, "1\n", "")
            code, listed, _ = etcdctl(resolver, *srv, "member", "list")
            assert (code, listed.count("name=infra")) == (0, 3)
            code, health, _ = etcdctl(resolver, *srv, "cluster-health")
            assert (code, health.splitlines()[-1]) == (0, "cluster is healthy")
            code, value, error = etcdctl(resolver, *srv, "--no-sync", "--debug", "get", "/a")
            assert (code, value) == (0, "1\n")
            # One of them, by chance.
            assert "curl -X GET http://infra.cluster.test.:" in error
            down.kill()
            assert etcdctl(resolver, *srv, "--no-sync", "set", "/a", "2") == (0, "2\n", "")
            code, value, _ = etcdctl(resolver, "-D", "nowhere.test", "get", "/a")
            assert (code, value) == (1, "")


def test_etcdctl_finds_a_secure_cluster_by_srv_records(tmp_path: Path, resolver: str) -> None:
    """`_etcd-client-ssl._tcp`: https URLs; etcdctl wants the domain in the certificate."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("member", "cluster.test")
    client_cert, client_key = authority.issue("client")
    flags = ["-cert-file", cert, "-key-file", key, "-trusted-ca-file", authority.path]
    cluster = Cluster(tmp_path, size=1, flags=[*flags, "-client-cert-auth"])
    (member,) = cluster.members
    member.client_url = member.client_url.replace("http:", "https:")
    member.tls = ssl.create_default_context(cafile=authority.path)
    member.tls.load_cert_chain(client_cert, client_key)
    cluster._flag(cluster.members, state="new")
    port = member.client_url.rpartition(":")[2]
    service = {"_etcd-client-ssl._tcp.cluster.test": [f"0 0 {port} infra.cluster.test."]}
    with cluster, DnsServer(service, address=ADDRESS, port=53):
        srv = ["--discovery-srv", "cluster.test", "--ca-file", authority.path]
        shown = ["--cert-file", client_cert, "--key-file", client_key]
        assert etcdctl(resolver, *srv, *shown, "set", "/a", "1") == (0, "1\n", "")
        assert member.value("a") == "1"
        code, listed, _ = etcdctl(resolver, *srv, *shown, "member", "list")
        assert (code, listed.count("name=infra0")) == (0, 1)
        assert etcdctl(resolver, *srv, "get", "/a")[0] != 0
