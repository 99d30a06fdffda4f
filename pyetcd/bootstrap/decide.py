"""Decides how a member starts, from its flags and from what is in its data directory.

Pure: what is on the disk comes in as a value, and what only the network can tell is left to
`static.py` and `existing.py`. Every error found here is found before anything is touched.
"""

from typing import NamedTuple, TypeAlias

from pyetcd.bootstrap.identity import BadIdentity, BootstrapError, Identity, contradictions
from pyetcd.cluster import Cluster, Member, MembershipError
from pyetcd.config import Config
from pyetcd.urls import duplicate_url, format_urls_map


class OnDisk(NamedTuple):
    """What the data directory has."""

    # A log that was begun; without one everything else is ignored.
    has_wal: bool = False
    # Metadata of the log; None if it could not be read.
    stored_identity: bytes | None = None


class Restart(NamedTuple):
    """There is a log: go on as the member that wrote it."""

    identity: Identity
    # About flags that are ignored.
    warnings: tuple[str, ...]


class New(NamedTuple):
    """Start a cluster together with the members of `-initial-cluster`."""

    cluster: Cluster
    # This member.
    member: Member


class Existing(NamedTuple):
    """Join a cluster that runs and has been told of this member."""

    # As the flags describe it: the ids are not those of the running cluster.
    cluster: Cluster
    # This member, in that description.
    member: Member


Decision: TypeAlias = Restart | New | Existing


def decide(config: Config, on_disk: OnDisk) -> Decision:
    """Decide how to start.

    Raises BootstrapError if flags contradict each other or the data directory.
    """
    if on_disk.has_wal:
        identity = _stored_identity(config, on_disk)
        return Restart(identity, tuple(contradictions(identity, config)))
    cluster, member = _described(config)
    return New(cluster, member) if config.is_new_cluster else Existing(cluster, member)


def _stored_identity(config: Config, on_disk: OnDisk) -> Identity:
    try:
        return Identity.decode(on_disk.stored_identity or b"")
    except BadIdentity as error:
        raise BootstrapError(
            f"the log in {config.wal_dir} does not say whose it is ({error}); restore it from a"
            " backup, or write another -data-dir"
        ) from None


def _described(config: Config) -> tuple[Cluster, Member]:
    """Return the cluster of `-initial-cluster`, and this member in it."""
    described = format_urls_map(config.initial_cluster)
    if config.name not in config.initial_cluster:
        example = format_urls_map({config.name: config.initial_advertise_peer_urls})
        raise BootstrapError(
            f'couldn\'t find local name "{config.name}" in the initial cluster configuration'
            f" -initial-cluster {described}; write -name with one of its names, or add {example}"
        )
    twice = duplicate_url(config.initial_cluster)
    if twice is not None:
        raise BootstrapError(
            f"initial cluster {described} has duplicate url {twice}; write -initial-cluster with"
            " each URL once"
        )
    try:
        cluster = Cluster.initial(config.initial_cluster, config.initial_cluster_token)
    except MembershipError as error:
        raise BootstrapError(
            f"member exists with identical ID {error.member_id:x} in -initial-cluster {described};"
            " write another -initial-cluster"
        ) from None
    member = cluster.by_name(config.name)
    assert member is not None, f"{config.name} is lost from {described}"
    return cluster, member
