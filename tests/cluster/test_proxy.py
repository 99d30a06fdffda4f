"""A proxy in front of real members: what passes through, and what happens when they go away."""

import http.client
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.processes import NO_ANSWER, OTHER_SERVER, Cluster, Member, free_port, wait_for
from tests.cluster.test_tls import Files, secure, secured

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="etcd's proxy sends to itself without an end"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three members that serve."""
    with Cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Member]:
    """A proxy of the three members, started, that has found them."""
    everybody = ",".join(f"{member.name}={member.peer_url}" for member in cluster.members)
    proxy = started_proxy(cluster.directory, "-proxy", "on", "-initial-cluster", everybody)
    yield proxy
    proxy.close()


def started_proxy(directory: Path, *flags: str, name: str = "proxy") -> Member:
    """A proxy that serves; closing it is the caller's."""
    proxy = Member(name, directory)
    proxy.flags = ["-name", name, "-data-dir", str(proxy.data_dir)]
    proxy.flags += ["-listen-client-urls", proxy.client_url, *flags]
    proxy.start()
    wait_for(lambda: status(proxy) != 0, 30, "the proxy to serve")
    return proxy


def status(proxy: Member) -> int:
    """The status of a listing; 0 while there is no answer."""
    try:
        return proxy.get("/").status
    except NO_ANSWER:
        return 0


def endpoints(proxy: Member) -> list[str]:
    """Where the proxy forwards to."""
    answer: dict[str, list[str]] = proxy.request("GET", "/v2/config/local/proxy").json()
    return sorted(answer["endpoints"])


def watchers(cluster: Cluster) -> int:
    """Watches that the members hold, all together."""
    return sum(
        int(member.request("GET", "/v2/stats/store").json()["watchers"])
        for member in cluster.members
    )


def test_proxy_answers_what_a_member_answers(cluster: Cluster, proxy: Member) -> None:
    """Statuses, bodies and headers of every method are those of the members."""
    member = cluster.leader()
    assert endpoints(proxy) == sorted(member.client_url for member in cluster.members)
    assert re.search(r'proxy: endpoints found \["http://[^"]+" "http', proxy.log)
    created = proxy.put("a b/ü", "1", ttl=100)
    assert (created.status, created.json()["action"]) == (201, "set")
    assert proxy.request("POST", "/v2/keys/queue", form={"value": "x"}).status == 201
    assert proxy.request("PUT", "/v2/keys/a%20b/%C3%BC?prevValue=2&value=3").status == 412
    assert proxy.request("GET", "/nowhere").body == b"404 page not found\n"
    cluster.wait_agreed()
    for path in ("/v2/keys/?recursive=true", "/v2/members", "/version", "/v2/keys/missing"):
        through, direct = proxy.request("GET", path), member.request("GET", path)
        assert (through.status, len(through.body)) == (direct.status, len(direct.body))
        for name in ("Content-Type", "X-Etcd-Cluster-Id", "X-Etcd-Index"):
            assert through.headers.get_all(name) == direct.headers.get_all(name), name
    head = proxy.request("HEAD", "/v2/keys/")
    assert (head.status, head.body) == (200, b"")
    assert proxy.request("DELETE", "/v2/keys/a%20b?recursive=true").status == 200
    large = "x" * 300_000
    assert proxy.put("large", large).status == 201
    assert proxy.value("large", quorum="true") == large


def test_proxy_shows_its_own_metrics(cluster: Cluster, proxy: Member) -> None:
    """Not those of the member that it would have asked."""
    proxy.put("a", "1")
    proxy.get("a")
    figures = proxy.request("GET", "/metrics").body.decode()
    assert 'etcd_proxy_handled_total{method="PUT"} 1.0' in figures
    assert 'etcd_proxy_handled_total{method="GET"}' in figures
    assert 'etcd_proxy_endpoints{state="available"} 3.0' in figures
    assert "etcd_server_has_leader" not in figures


def test_killed_member_behind_a_proxy_costs_no_request(cluster: Cluster, proxy: Member) -> None:
    """Requests go on with the others; those sent while a leader is missing wait for one."""
    proxy.put("key", "0")
    victim = cluster.leader()
    victim.kill()
    for number in range(20):
        assert proxy.put("key", str(number)).status == 200
    assert proxy.value("key", quorum="true") == "19"


def test_stream_passes_through_and_ends_with_the_client(cluster: Cluster, proxy: Member) -> None:
    """Events arrive one by one; the member's watch is gone when the client is."""
    connection = http.client.HTTPConnection(urlsplit(proxy.client_url).netloc, timeout=10)
    connection.request("GET", "/v2/keys/watched?wait=true&stream=true&recursive=true")
    answer = connection.getresponse()
    assert answer.status == 200
    assert watchers(cluster) == 1
    for number in range(3):
        cluster.leader().put("watched", str(number))
        line = answer.readline()
        assert json.loads(line)["node"]["value"] == str(number)
    answer.close()
    connection.close()
    wait_for(lambda: watchers(cluster) == 0, 10, "the watch to end")


def test_long_poll_passes_through_and_ends_with_the_client(cluster: Cluster, proxy: Member) -> None:
    """The head comes at once, the event when there is one; nobody polls for a client that left."""
    connections = []
    for _ in range(2):
        connection = http.client.HTTPConnection(urlsplit(proxy.client_url).netloc, timeout=10)
        connection.request("GET", "/v2/keys/watched?wait=true")
        connections.append((connection, connection.getresponse()))
    assert watchers(cluster) == 2
    first, second = connections
    second[1].close()
    second[0].close()
    wait_for(lambda: watchers(cluster) == 1, 10, "one watch to end")
    proxy.put("watched", "new")
    assert json.loads(first[1].read())["node"]["value"] == "new"
    first[0].close()
    assert watchers(cluster) == 0


def test_stream_breaks_off_with_its_member(cluster: Cluster, proxy: Member) -> None:
    """The client sees that the stream did not end properly, and can watch anew."""
    connection = http.client.HTTPConnection(urlsplit(proxy.client_url).netloc, timeout=10)
    connection.request("GET", "/v2/keys/watched?wait=true&stream=true")
    answer = connection.getresponse()
    for member in cluster.members:
        member.kill()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        answer.read()
    connection.close()


def test_proxy_without_members_answers_503_and_recovers(cluster: Cluster, proxy: Member) -> None:
    """A JSON message while nobody is there, and ordinary answers when they are back."""
    proxy.put("key", "kept")
    for member in cluster.members:
        member.kill()
    for _ in range(2):
        answer = proxy.put("key", "lost")
        assert answer.status == 503
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["message"].startswith("proxy: ")
    assert answer.json() == {"message": "proxy: zero endpoints currently available"}
    cluster.start()
    wait_for(lambda: status(proxy) == 200, 30, "the proxy to find the members again")
    assert proxy.value("key", quorum="true") == "kept"


def test_proxy_comes_back_from_its_own_list(cluster: Cluster, proxy: Member) -> None:
    """Its flags may name members that are gone: the file knows the others."""
    proxy.terminate()
    first = cluster.members[0]
    first.kill()
    proxy.flags[-1] = f"{first.name}={first.peer_url}"
    proxy.start()
    wait_for(lambda: status(proxy) == 200, 30, "the proxy to come back")
    assert f'from cluster file "{proxy.data_dir}/proxy/cluster"' in proxy.log
    stored = json.loads((proxy.data_dir / "proxy" / "cluster").read_text())
    assert stored == {"PeerURLs": sorted(member.peer_url for member in cluster.members)}


def test_proxy_follows_the_member_list(cluster: Cluster, proxy: Member) -> None:
    """A member that joins is used after the next refresh, and one that left is not."""
    proxy.terminate()
    proxy.flags += ["-proxy-refresh-interval", "200"]
    proxy.start()
    wait_for(lambda: status(proxy) == 200, 30, "the proxy to serve")
    newcomer = cluster.new_member("infra3")
    cluster.leader().request("POST", "/v2/members", body={"peerURLs": [newcomer.peer_url]})
    newcomer.start()
    newcomer.wait_serving()
    wait_for(lambda: newcomer.client_url in endpoints(proxy), 10, "the newcomer to be used")
    gone = cluster.members[0]
    cluster.leader().request("DELETE", f"/v2/members/{gone.stats()['id']}")
    wait_for(lambda: gone.client_url not in endpoints(proxy), 10, "the member to be dropped")
    assert "proxy: updated peer urls in cluster file from [" in proxy.log


def test_readonly_proxy_refuses_writes(cluster: Cluster) -> None:
    """Everything but GET is 501, as etcd has it."""
    member = cluster.members[0]
    proxy = started_proxy(
        cluster.directory, "-proxy", "readonly", "-initial-cluster", f"a={member.peer_url}"
    )
    try:
        assert status(proxy) == 200
        for method in ("PUT", "POST", "DELETE", "HEAD"):
            answer = proxy.request(method, "/v2/keys/a?value=1")
            assert (answer.status, answer.body) == (501, b"")
        assert cluster.leader().get("a").status == 404
    finally:
        proxy.close()


def test_proxy_pointed_at_itself_notices(tmp_path: Path) -> None:
    """A member that advertises the proxy's URL: 508, no chain of connections, and no silence."""
    port = free_port()
    with Cluster(
        tmp_path, size=1, flags=["-advertise-client-urls", f"http://127.0.0.1:{port}"]
    ) as (cluster):
        (member,) = cluster.members
        flags = ["-proxy", "on", "-initial-cluster", f"a={member.peer_url}"]
        proxy = Member("proxy", tmp_path)
        proxy.client_url = f"http://127.0.0.1:{port}"
        proxy.flags = ["-data-dir", str(proxy.data_dir), "-listen-client-urls", proxy.client_url]
        proxy.flags += flags
        proxy.start()
        try:
            wait_for(lambda: status(proxy) != 0, 30, "the proxy to serve")
            answer = proxy.put("key", "1")
            assert answer.status in (503, 508)
            assert answer.json()["message"].startswith("proxy: ")
            assert "it leads back to this proxy" in proxy.log
            assert len(proxy.descriptors()) < 40
            assert member.get("key").status == 404
        finally:
            proxy.close()


def test_two_proxies_pointed_at_each_other_notice(tmp_path: Path) -> None:
    """The request comes back over the other one, and ends."""
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    proxies: list[Member] = []
    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir()
    with (
        Cluster(directories[0], size=1, flags=["-advertise-client-urls", urls[1]]) as first,
        Cluster(directories[1], size=1, flags=["-advertise-client-urls", urls[0]]) as second,
    ):
        try:
            for number, cluster in enumerate((first, second)):
                proxy = Member(f"proxy{number}", tmp_path)
                proxy.client_url = urls[number]
                proxy.flags = ["-data-dir", str(proxy.data_dir), "-proxy", "on"]
                proxy.flags += ["-listen-client-urls", urls[number]]
                proxy.flags += ["-initial-cluster", f"a={cluster.members[0].peer_url}"]
                proxies.append(proxy)
                proxy.start()
            for proxy in proxies:
                wait_for(lambda proxy=proxy: status(proxy) != 0, 30, "the proxy to serve")
                assert proxy.put("key", "1").status in (503, 508)
                assert len(proxy.descriptors()) < 40
        finally:
            for proxy in proxies:
                proxy.close()


def test_stopped_member_behind_a_proxy_is_passed_by_reads(cluster: Cluster, proxy: Member) -> None:
    """With a read timeout, silence is a failure: another member answers."""
    proxy.terminate()
    proxy.flags += ["-proxy-read-timeout", "500"]
    proxy.start()
    wait_for(lambda: status(proxy) == 200, 30, "the proxy to serve")
    follower = cluster.followers()[0]
    follower.stop()
    try:
        for _ in range(5):
            assert status(proxy) == 200
    finally:
        follower.cont()


def test_write_that_a_silent_member_may_have_is_not_sent_to_another(
    cluster: Cluster, proxy: Member
) -> None:
    """The client is told that nobody knows; in the end each value is there once, or not at all."""
    proxy.terminate()
    proxy.flags += ["-proxy-read-timeout", "500", "-proxy-failure-wait", "100"]
    proxy.start()
    wait_for(lambda: status(proxy) == 200, 30, "the proxy to serve")
    told: dict[str, int] = {}
    for silent in cluster.members:
        # Whom a proxy asks first is drawn when it learns of the members.
        silent.stop()
        for _ in range(5):
            value = f"{len(told)}"
            told[value] = proxy.request("POST", "/v2/keys/queue", form={"value": value}).status
        silent.cont()
        # It has answered what it was asked before, once it serves this.
        silent.wait_serving()
    assert set(told.values()) <= {201, 502}
    assert 502 in told.values(), "no silent member was ever asked"
    cluster.wait_agreed()
    nodes = cluster.leader().get("queue", quorum="true").json()["node"].get("nodes", [])
    there = Counter(node["value"] for node in nodes)
    for value, answered in told.items():
        assert there[value] == 1 or (answered == 502 and there[value] == 0), value


def test_proxy_of_a_cluster_with_mutual_tls(tmp_path: Path) -> None:
    """It shows the peer certificate to members, and its clients show theirs to it."""
    files = Files(tmp_path)
    with secured(tmp_path, files) as cluster:
        everybody = ",".join(f"{member.name}={member.peer_url}" for member in cluster.members)
        proxy = Member("proxy", tmp_path)
        secure(proxy, files)
        proxy.flags = ["-proxy", "on", "-data-dir", str(proxy.data_dir), *files.flags()]
        proxy.flags += ["-listen-client-urls", proxy.client_url, "-initial-cluster", everybody]
        proxy.start()
        try:
            wait_for(lambda: status(proxy) == 200, 30, "the proxy to serve")
            assert proxy.put("through", "1").status == 201
            assert cluster.leader().value("through") == "1"
            cluster.leader().kill()
            assert proxy.put("through", "2").status == 200
        finally:
            proxy.close()


def test_proxy_is_promoted_to_a_member(cluster: Cluster, proxy: Member) -> None:
    """As etcd's guide has it: add the member, stop the proxy, remove its directory, start anew."""
    newcomer = cluster.new_member("proxy")
    newcomer.data_dir = proxy.data_dir
    added = proxy.request("POST", "/v2/members", body={"peerURLs": [newcomer.peer_url]})
    assert added.status == 201
    proxy.terminate()
    newcomer.start()
    wait_for(lambda: newcomer.log_path.read_text().count("starting as etcd proxy"), 30, "a proxy")
    newcomer.terminate()
    shutil.rmtree(proxy.data_dir / "proxy")
    newcomer.start()
    newcomer.wait_serving()
    assert newcomer.put("promoted", "1").status == 201
    cluster.wait_agreed()


def test_proxy_ends_in_order(cluster: Cluster, proxy: Member) -> None:
    """SIGTERM: exit code 0, also while a client streams."""
    connection = http.client.HTTPConnection(urlsplit(proxy.client_url).netloc, timeout=10)
    connection.request("GET", "/v2/keys/watched?wait=true&stream=true")
    answer = connection.getresponse()
    assert proxy.process is not None
    proxy.process.send_signal(signal.SIGTERM)
    assert answer.read() == b""
    assert proxy.wait_exit(5) == 0
    connection.close()
