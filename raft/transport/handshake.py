"""The handshake: who dials whom, in which cluster; and what the door says to the wrong ones.

Pure functions over headers, so that both ends are tested without a socket. The header names are
those of etcd 2 where it has them. docs/peer-protocol.md describes the whole exchange.
"""

from collections.abc import Mapping, Set
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from raft.errors import PeerRejected

# Raised whenever the framing or the encoding of messages changes: there is no negotiation.
PROTOCOL_VERSION: Final = "1"

STREAM_PATH: Final = "/raft/stream"
SNAPSHOT_PATH: Final = "/raft/snapshot"
PROBING_PATH: Final = "/raft/probing"
UPGRADE: Final = "raft"

CLUSTER_HEADER: Final = "X-Etcd-Cluster-ID"
SENDER_HEADER: Final = "X-Server-From"
RECIPIENT_HEADER: Final = "X-Raft-To"
PROTOCOL_HEADER: Final = "X-Raft-Protocol"
VERSION_HEADER: Final = "X-Server-Version"
URLS_HEADER: Final = "X-PeerURLs"
ENVELOPE_HEADER: Final = "X-Raft-Envelope"

# What a stranger may make us remember about it.
_MAX_URLS: Final = 8


class MemberRemoved(PeerRejected):
    """We have been removed from the cluster for good: nobody there will ever talk to us again."""


class Refusal(PeerRejected):
    """We refuse to talk to another server; `status` and text are our HTTP answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Hello(NamedTuple):
    """What a dialer says about itself."""

    cluster_id: int
    sender: int
    # The member that the dialer believes to find here.
    recipient: int
    server_version: str
    # Where the sender can be dialed, for a member that does not know it yet.
    peer_urls: tuple[str, ...]

    def headers(self) -> dict[str, str]:
        """Return the headers of a request that says this."""
        return {
            PROTOCOL_HEADER: PROTOCOL_VERSION,
            CLUSTER_HEADER: f"{self.cluster_id:x}",
            SENDER_HEADER: f"{self.sender:x}",
            RECIPIENT_HEADER: f"{self.recipient:x}",
            VERSION_HEADER: self.server_version,
            URLS_HEADER: ",".join(self.peer_urls),
        }


def admit(
    headers: Mapping[str, str], *, member_id: int, cluster_id: int, removed: Set[int]
) -> Hello:
    """Return what the dialer says, if this member may talk to it; raises Refusal.

    A sender that is not in our configuration is admitted: it may have been added by entries that
    we have yet to receive, perhaps from that very sender.
    """
    version = headers.get(PROTOCOL_HEADER, "")
    if version != PROTOCOL_VERSION:
        raise Refusal(
            426,
            f"peer protocol {version or 'unknown'} (server version "
            f"{headers.get(VERSION_HEADER) or 'unknown'}) is not understood; this member speaks "
            f"{PROTOCOL_VERSION}: run versions that speak the same on all members",
        )
    hello = _read_hello(headers)
    if hello.cluster_id != cluster_id:
        raise Refusal(
            412,
            f"cluster ID mismatch: member {hello.sender:x} belongs to cluster "
            f"{hello.cluster_id:x}, member {member_id:x} to {cluster_id:x}; -initial-cluster and "
            "-initial-cluster-token must be the same on all members, and -data-dir must not be "
            "one of another cluster",
        )
    if hello.sender in removed:
        raise Refusal(
            410, f"member {hello.sender:x} has been permanently removed from cluster {cluster_id:x}"
        )
    if hello.recipient != member_id:
        raise Refusal(
            412,
            f"member ID mismatch: this is member {member_id:x}, not {hello.recipient:x}; the "
            f"member list of {hello.sender:x} has a wrong peer URL for {hello.recipient:x}: check "
            "-initial-cluster and -initial-advertise-peer-urls",
        )
    if hello.sender == member_id:
        raise Refusal(
            412,
            f"member {member_id:x} cannot be its own peer: two members run with the same name "
            "and peer URLs, or with copies of one -data-dir",
        )
    return hello


def failure(status: int, text: str, *, peer_id: int, url: str) -> PeerRejected | OSError:
    """Return what an answer of `status` means: a refusal for the user to mend, or mere trouble."""
    if status >= 500 or status == 422:
        return OSError(f"member {peer_id:x} at {url}: {text or f'HTTP {status}'}")
    if status == 410:
        return MemberRemoved(
            "this member has been permanently removed from the cluster "
            f"(says member {peer_id:x} at {url})"
        )
    if status in (400, 412, 426) and text:
        return PeerRejected(f"member {peer_id:x} at {url} refuses us: {text}")
    return PeerRejected(
        f"{url} does not answer like member {peer_id:x} (HTTP {status}): is it the URL of a "
        "peer port? check -initial-cluster"
    )


def parse_url(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is wanted; raises ValueError for what is no peer URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None:
        raise ValueError(f"{url!r} is not of the form http://host:port")
    return parts.hostname, parts.port, parts.scheme == "https"


def _read_hello(headers: Mapping[str, str]) -> Hello:
    urls = tuple(url for url in headers.get(URLS_HEADER, "").split(",") if url)
    try:
        for url in urls:
            parse_url(url)
    except ValueError as error:
        raise Refusal(400, f"header {URLS_HEADER}: {error}") from None
    return Hello(
        cluster_id=_read_id(headers, CLUSTER_HEADER),
        sender=_read_id(headers, SENDER_HEADER),
        recipient=_read_id(headers, RECIPIENT_HEADER),
        server_version=headers.get(VERSION_HEADER, ""),
        peer_urls=urls[:_MAX_URLS],
    )


def _read_id(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name, "")
    # int() alone would also take signs, blanks, underscores and other digits than ours.
    if 0 < len(text) <= 16 and set(text) <= set("0123456789abcdef") and int(text, 16) > 0:
        return int(text, 16)
    raise Refusal(400, f"header {name} is no id: {text[:32]!r}")
