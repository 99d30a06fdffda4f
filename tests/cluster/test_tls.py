"""A whole cluster over TLS, where everybody shows a certificate and nobody gets in without one."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.authority import Authority
from tests.cluster.processes import OTHER_SERVER, Cluster, Member, request, wait_for
from tests.cluster.test_membership import add

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="the lines and times are pyetcd's"),
]


class Files:
    """What members and clients are given: paths."""

    def __init__(self, directory: Path) -> None:
        self.ca = Authority(directory)
        self.member = self.ca.issue("member")
        self.client = self.ca.issue("client")
        self.stranger = Authority(directory, "other").issue("stranger")

    def flags(self) -> list[str]:
        """Certificates on both ports, demanded from everybody."""
        cert, key = self.member
        flags: list[str] = []
        for prefix in ("-", "-peer-"):
            flags += [f"{prefix}cert-file", cert, f"{prefix}key-file", key]
            flags += [f"{prefix}trusted-ca-file", self.ca.path, f"{prefix}client-cert-auth"]
        return flags

    def context(self, pair: tuple[str, str] | None) -> ssl.SSLContext:
        """A client that trusts the members, with a certificate or none."""
        context = ssl.create_default_context(cafile=self.ca.path)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, files: Files) -> Iterator[Cluster]:
    """Three members that talk TLS only, and run."""
    with secured(tmp_path, files) as cluster:
        yield cluster


def secured(tmp_path: Path, files: Files, size: int = 3) -> Cluster:
    """Members with https URLs on both ports."""
    cluster = Cluster(tmp_path, size=size, flags=files.flags())
    for member in cluster.members:
        secure(member, files)
    cluster._flag(cluster.members, state="new")
    return cluster


def secure(member: Member, files: Files) -> None:
    member.client_url = member.client_url.replace("http:", "https:")
    member.peer_url = member.peer_url.replace("http:", "https:")
    member.tls = files.context(files.client)


def test_cluster_with_mutual_tls_serves_and_survives_its_leader(
    cluster: Cluster, files: Files
) -> None:
    """Writes, watches, a restart and an election, all of it over TLS; no key is in any log."""
    leader = cluster.leader()
    for member in cluster.members:
        assert member.put(f"on-{member.name}", "1" * 100_000).status == 201
    cluster.wait_agreed()
    leader.kill()
    survivor = cluster.followers()[0]
    assert survivor.put("after", "1").status == 201
    leader.start()
    cluster.start()
    cluster.wait_agreed()
    secrets = [line for line in Path(files.member[1]).read_text().splitlines() if line[:1] != "-"]
    for member in cluster.members:
        assert not any(secret in member.log for secret in secrets)
        assert f"clientTLS: cert = {files.member[0]}" in member.log
        assert "Traceback" not in member.log


def test_client_with_wrong_or_no_certificate_is_refused(cluster: Cluster, files: Files) -> None:
    """On the client port and on the peer port, and the members go on."""
    member = cluster.members[0]
    for url in (member.client_url, member.peer_url):
        for pair in (None, files.stranger):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                request(f"{url}/version", tls=files.context(pair))
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            request(f"{url.replace('https', 'http')}/version")
        assert request(f"{url}/version", tls=files.context(files.client)).status == 200
    assert member.put("fine", "1").status == 201
    assert "Traceback" not in member.log


def test_protocol_before_tls_1_2_is_refused(cluster: Cluster, files: Files) -> None:
    """Whatever certificates it shows."""
    context = files.context(files.client)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        request(f"{cluster.members[0].client_url}/version", tls=context)


def test_replaced_certificates_are_in_use_without_a_restart(cluster: Cluster, files: Files) -> None:
    """Client and peer port show the new certificate within seconds; the cluster goes on."""
    member = cluster.members[0]
    urls = (member.client_url, member.peer_url)
    before = [shown(url, files) for url in urls]
    files.ca.issue("member")
    for url, old in zip(urls, before, strict=True):
        wait_for(lambda url=url, old=old: shown(url, files) != old, 10, "the new certificate")
    # New connections between members are made with it, too.
    cluster.followers()[0].kill()
    cluster.start()
    assert member.put("after", "1").status == 201
    cluster.wait_agreed()


def test_member_joins_over_tls(cluster: Cluster, files: Files) -> None:
    """The newcomer asks the running members for the list, with its certificate."""
    newcomer = cluster.new_member("infra3")
    secure(newcomer, files)
    cluster._flag([newcomer], state="existing")
    assert add(cluster.members[0], newcomer).status == 201
    newcomer.start()
    newcomer.wait_serving()
    assert newcomer.put("from", "the newcomer").status == 201
    cluster.wait_agreed()


def test_member_with_a_strangers_certificate_reaches_nobody(tmp_path: Path, files: Files) -> None:
    """Three members, one of which another authority has signed: it is let in nowhere."""
    cluster = secured(tmp_path, files)
    stranger = cluster.members[2]
    at = stranger.flags.index("-peer-cert-file")
    stranger.flags[at + 1], stranger.flags[at + 3] = files.stranger
    try:
        for member in cluster.members:
            member.start()
        for member in cluster.members[:2]:
            member.wait_serving()
        assert cluster.members[0].put("without", "it").status == 201
        wait_for(lambda: "not accept our certificate" in stranger.log, 10, "its log to say so")
        assert stranger.running
        assert stranger.value("without") is None
    finally:
        for member in cluster.members:
            member.close()


def test_curl_and_etcdctl_work_with_certificates(cluster: Cluster, files: Files) -> None:
    """The tools that people use, as etcd's security guide has it."""
    url = cluster.members[0].client_url
    cert, key = files.client
    curl = ["curl", "-sS", "--cacert", files.ca.path]
    written = subprocess.run(
        [*curl, "--cert", cert, "--key", key, f"{url}/v2/keys/foo", "-XPUT", "-dvalue=bar"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert b'"value":"bar"' in written.stdout
    refused = subprocess.run(
        [*curl, f"{url}/v2/keys/foo"], capture_output=True, timeout=30, check=False
    )
    assert refused.returncode != 0
    if shutil.which("etcdctl") is None:
        pytest.skip("no etcdctl here")
    names = ["--cert-file", cert, "--key-file", key, "--ca-file", files.ca.path]
    read = subprocess.run(
        ["etcdctl", "--endpoints", url, *names, "get", "/foo"],
        capture_output=True,
        timeout=30,
        check=True,
        env=os.environ | {"ETCDCTL_API": "2"},
    )
    assert read.stdout == b"bar\n"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("-cert-file", "none.pem"), "-cert-file: open none.pem: no such file or directory"),
        (("-peer-key-file", "client-key.pem"), "private key does not match public key"),
    ],
)
def test_member_with_unusable_files_does_not_start(
    tmp_path: Path, files: Files, change: tuple[str, str], line: str
) -> None:
    """The last line of its log says which flag is wrong, and nothing is written."""
    (member,) = secured(tmp_path, files, size=1).members
    member.flags += change
    member.start()
    assert member.wait_exit() == 1
    assert line in member.log.splitlines()[-1]
    assert "Traceback" not in member.log
    assert not member.data_dir.exists()


def shown(url: str, files: Files) -> bytes:
    """The certificate that a port shows."""
    parts = urlsplit(url)
    address = (parts.hostname, parts.port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        files.context(files.client).wrap_socket(plain, server_hostname=parts.hostname) as wrapped,
    ):
        certificate = wrapped.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate
