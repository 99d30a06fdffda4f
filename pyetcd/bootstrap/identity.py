"""Who this member is: written as metadata of the log when it starts for the first time.

From then on the log is the truth and most flags about bootstrapping are ignored, as in etcd. Three
kinds of flags are not ignored, because they show that the data directory is the wrong one
(`contradictions`):

1. `-name`, given, is not the name stored here: the data of another member.
2. `-initial-cluster-token`, given, is not the token that the ids were made with: another cluster.
   (A member that joined a running cluster made no ids, so its token proves nothing.)
3. `-initial-cluster`, given for a new cluster, has no peer URL in common with the members stored
   here: another cluster. One URL in common is enough, because members come, go and move, and it is
   usual to write their new URLs into the flags.
"""

from typing import Final, NamedTuple

import msgpack

from pyetcd.cluster import BadMembers, Cluster, Member
from pyetcd.config import Config
from pyetcd.urls import Urls, UrlsMap, format_urls_map

# First value of the encoding; another layout gets another number.
FORMAT: Final = 1


class BootstrapError(Exception):
    """This member cannot start: one line, what is wrong and what to type instead."""


class DiscoveryError(BootstrapError):
    """The token cannot lead to a cluster with this member; waiting would not help."""


class ClusterFull(DiscoveryError):
    """Enough other members registered before this one."""


def already_bootstrapped(member_id: int, config: Config) -> BootstrapError:
    """Return why a member that the cluster has seen may not start without its log."""
    return BootstrapError(
        f"member {member_id:x} has already been bootstrapped, but {config.data_dir} has no"
        f" log of it; write the -data-dir that it had, or remove it (DELETE"
        f" /v2/members/{member_id:x}), add it again and start it with"
        " -initial-cluster-state existing"
    )


class BadIdentity(ValueError):
    """Bytes that `Identity.encode` did not write."""


class Identity(NamedTuple):
    """What a member was when it started for the first time.

    Invariants:
      1. `members` has a member with `member_id`, and its name is `name`.
    """

    member_id: int
    cluster_id: int
    name: str
    # What `member_id` was made with; "" if the member joined a running cluster.
    token: str
    # Whether the cluster ran before this member.
    joined: bool
    # All members, as the flags or the running cluster gave them; sorted by id.
    members: tuple[Member, ...]

    @property
    def member(self) -> Member:
        """This member as it was at that time."""
        return next(member for member in self.members if member.id == self.member_id)

    def cluster(self) -> Cluster:
        """Return the cluster as it was at that time."""
        return Cluster(self.cluster_id, {member.id: member for member in self.members})

    def encode(self) -> bytes:
        """Return the bytes to store; equal identities give equal bytes."""
        members = [member.encode() for member in self.members]
        packed: bytes = msgpack.packb(
            [
                FORMAT,
                self.member_id,
                self.cluster_id,
                self.name,
                self.token,
                self.joined,
                members,
            ],
            # What the user typed may be no Unicode; it must come back as it was.
            unicode_errors="surrogatepass",
        )
        return packed

    @staticmethod
    def decode(data: bytes) -> "Identity":
        """Return the identity that was stored.

        Raises BadIdentity.
        """
        try:
            value = msgpack.unpackb(data, unicode_errors="surrogatepass")
        # The exceptions that msgpack has for broken input do not share a base.
        except (ValueError, msgpack.UnpackException) as error:
            raise BadIdentity(f"not msgpack: {error}") from None
        match value:
            case [
                int(version),
                int(member),
                int(cluster),
                str(name),
                str(token),
                bool(joined),
                [*members],
            ] if version == FORMAT:
                try:
                    decoded = tuple(Member.decode(item) for item in members)
                except BadMembers as error:
                    raise BadIdentity(str(error)) from None
                if (member, name) not in [(other.id, other.name) for other in decoded]:
                    raise BadIdentity(f"member {member:x} {name} is not among the members")
                return Identity(member, cluster, name, token, joined, decoded)
            case _:
                raise BadIdentity(f"not an identity of format {FORMAT}: {value!r:.100}")


def contradictions(identity: Identity, config: Config) -> list[str]:
    """Compare the flags with what is stored and return warnings about flags that are ignored.

    Raises BootstrapError if the flags belong to another member or cluster; the rules are above.
    """
    directory = f"the data directory {config.data_dir}"
    if "name" in config.explicit and config.name != identity.name:
        raise BootstrapError(
            f"-name {config.name}: {directory} belongs to member {identity.name}"
            f" ({identity.member_id:x}); write -name {identity.name} or another -data-dir"
        )
    token = config.initial_cluster_token
    # With a discovery URL, that is the token, and the flag counts for nothing.
    counts = not identity.joined and not config.discovery_url
    if "initial-cluster-token" in config.explicit and counts:
        if token != identity.token:
            raise BootstrapError(
                f"-initial-cluster-token {token}: {directory} belongs to cluster"
                f" {identity.cluster_id:x}, made with the token {identity.token}; write"
                f" -initial-cluster-token {identity.token} or another -data-dir"
            )
    if config.discovery_url or config.discovery_srv:
        way = "discovery token" if config.discovery_url else "DNS SRV discovery"
        return [
            f"{way} ignored since a cluster has already been initialized. Valid log found at"
            f' "{config.wal_dir}"'
        ]
    if "initial-cluster" not in config.explicit:
        return []
    given = _all_urls(config.initial_cluster)
    stored = frozenset(url for member in identity.members for url in member.peer_urls)
    if config.is_new_cluster and given.isdisjoint(stored):
        raise BootstrapError(
            f"-initial-cluster {format_urls_map(config.initial_cluster)}: {directory} belongs to"
            f" cluster {identity.cluster_id:x} of other members; leave out -initial-cluster to go"
            " on with that cluster, or write another -data-dir"
        )
    if given != stored:
        return ["-initial-cluster is ignored: the log says who is a member"]
    return []


def _all_urls(urls_map: UrlsMap) -> frozenset[str]:
    url_sets: list[Urls] = list(urls_map.values())
    return frozenset(url for urls in url_sets for url in urls)
