"""What dialers say, what the door makes of it, and what users are told."""

import pytest

from raft.errors import PeerRejected
from raft.transport.handshake import (
    CLUSTER_HEADER,
    PROTOCOL_HEADER,
    RECIPIENT_HEADER,
    SENDER_HEADER,
    URLS_HEADER,
    Hello,
    MemberRemoved,
    Refusal,
    admit,
    failure,
    parse_url,
)

HELLO = Hello(
    cluster_id=0x7E27652122E8B2AE,
    sender=0xCE2A822CEA30BFCA,
    recipient=2,
    server_version="2.3.8",
    peer_urls=("http://10.0.0.1:2380", "http://[::1]:7001"),
)


def enter(headers: dict[str, str]) -> Hello:
    return admit(headers, member_id=2, cluster_id=HELLO.cluster_id, removed={0xDEAD})


def test_admit_of_own_headers_returns_what_was_said() -> None:
    """Both ends agree about the headers."""
    assert enter(HELLO.headers()) == HELLO


@pytest.mark.parametrize(
    ("name", "value", "status", "text"),
    [
        (PROTOCOL_HEADER, "2", 426, "peer protocol 2 (server version 2.3.8) is not understood"),
        (PROTOCOL_HEADER, "", 426, "peer protocol unknown"),
        (CLUSTER_HEADER, "1", 412, "-initial-cluster-token must be the same"),
        (SENDER_HEADER, "dead", 410, "member dead has been permanently removed"),
        (RECIPIENT_HEADER, "3", 412, "this is member 2, not 3"),
        (SENDER_HEADER, "2", 412, "cannot be its own peer"),
        (SENDER_HEADER, "0", 400, "X-Server-From is no id"),
        (SENDER_HEADER, "", 400, "X-Server-From is no id"),
        (SENDER_HEADER, "+1", 400, "X-Server-From is no id"),
        (SENDER_HEADER, "1_0", 400, "X-Server-From is no id"),
        (SENDER_HEADER, "11112222333344445", 400, "X-Server-From is no id"),
        (CLUSTER_HEADER, "x", 400, "X-Etcd-Cluster-ID is no id"),
        (RECIPIENT_HEADER, " 2", 400, "X-Raft-To is no id"),
        (URLS_HEADER, "ftp://a:1", 400, "X-PeerURLs"),
        (URLS_HEADER, "http://a:99999", 400, "X-PeerURLs"),
    ],
)
def test_admit_of_the_wrong_dialer_refuses(name: str, value: str, status: int, text: str) -> None:
    """Each mistake has its status, and a text that says what to change."""
    with pytest.raises(Refusal) as refused:
        enter({**HELLO.headers(), name: value})
    assert refused.value.status == status
    assert text in str(refused.value)


def test_admit_of_a_removed_member_of_another_cluster_blames_the_cluster() -> None:
    """Only our own cluster can have removed anybody for good."""
    headers = {**HELLO.headers(), CLUSTER_HEADER: "1", SENDER_HEADER: "dead"}
    with pytest.raises(Refusal, match="cluster ID mismatch"):
        enter(headers)


def test_admit_keeps_few_urls_of_a_stranger() -> None:
    """A dialer cannot make us remember as much as it likes."""
    urls = ",".join(f"http://h:{port}" for port in range(1, 100))
    assert len(enter({**HELLO.headers(), URLS_HEADER: urls}).peer_urls) == 8


def test_failure_gone_is_final() -> None:
    """A removed member is told in a type of its own, for it must stop."""
    error = failure(410, "x", peer_id=0xAB, url="http://h:1")
    assert isinstance(error, MemberRemoved)
    assert "permanently removed" in str(error)


@pytest.mark.parametrize("status", [400, 412, 426])
def test_failure_by_the_door_repeats_its_text(status: int) -> None:
    """What the far side says is what the user should read."""
    error = failure(status, "cluster ID mismatch", peer_id=0xAB, url="http://h:1")
    assert type(error) is PeerRejected
    assert str(error) == "member ab at http://h:1 refuses us: cluster ID mismatch"


@pytest.mark.parametrize(("status", "text"), [(404, "page"), (200, ""), (412, "")])
def test_failure_by_something_else_asks_for_the_url(status: int, text: str) -> None:
    """A server of another kind at the URL is a mistake in the configuration."""
    error = failure(status, text, peer_id=0xAB, url="http://h:1")
    assert f"(HTTP {status})" in str(error)
    assert "page" not in str(error)


@pytest.mark.parametrize(("status", "text"), [(503, "this member stops"), (422, "bad"), (500, "")])
def test_failure_that_passes_is_no_refusal(status: int, text: str) -> None:
    """What may be better the next time is nothing for the user to mend."""
    error = failure(status, text, peer_id=0xAB, url="http://h:1")
    assert isinstance(error, OSError)
    assert str(error) == f"member ab at http://h:1: {text or 'HTTP 500'}"


def test_parse_url_takes_what_a_peer_url_is() -> None:
    """Host, port and scheme, also of IPv6."""
    assert parse_url("http://127.0.0.1:2380") == ("127.0.0.1", 2380, False)
    assert parse_url("https://[::1]:7001/") == ("::1", 7001, True)


@pytest.mark.parametrize("url", ["", "h:1", "http://h", "unix://x:1", "http://:1", "http://h:x"])
def test_parse_url_refuses_the_rest(url: str) -> None:
    """A URL without host or port cannot be dialed."""
    with pytest.raises(ValueError):
        parse_url(url)
