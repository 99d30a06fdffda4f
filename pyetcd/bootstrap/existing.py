"""First start of a member that joins a cluster which runs.

The cluster was told of this member by `POST /v2/members` and gave it an id. The running members are
asked for the list; `-initial-cluster` must describe the same members, and this one takes the id of
the entry that has its peer URLs.
"""

import json
from dataclasses import replace
from typing import Final

from pyetcd.bootstrap.decide import Existing
from pyetcd.bootstrap.identity import BootstrapError, Identity, already_bootstrapped
from pyetcd.bootstrap.remote import Network, RemoteCluster, first_cluster, same_urls
from pyetcd.cluster import Member
from pyetcd.config import Config
from pyetcd.urls import format_urls_map

# Limit for the running members to answer; one of them is enough.
ASK_SECONDS: Final = 10.0


async def joining_identity(config: Config, existing: Existing, network: Network) -> Identity:
    """Return the identity that the running cluster has given to this member.

    Raises BootstrapError if no member answers, if the flags describe another membership, or if this
    member has run before and has lost its log.
    """
    others = [other for other in existing.cluster.in_order() if other.name != config.name]
    urls = sorted(url for other in others for url in other.peer_urls)
    remote = await first_cluster(urls, network, timeout_seconds=ASK_SECONDS)
    if remote is None:
        asked = f"none of {','.join(urls)} answers" if urls else "it names no other member"
        raise BootstrapError(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from"
            f" the given urls; write -initial-cluster with the members that run ({asked})"
        )
    mine = await _match(config, existing, remote, network)
    if mine.client_urls:
        # It has published them. etcd lets it in, though it has forgotten its votes and entries.
        raise already_bootstrapped(mine.id, config)
    members = (
        replace(other, name=config.name) if other.id == mine.id else other
        for other in remote.members
    )
    return Identity(
        member_id=mine.id,
        cluster_id=remote.cluster_id,
        name=config.name,
        token="",
        joined=True,
        members=tuple(sorted(members, key=lambda member: member.id)),
    )


async def _match(
    config: Config, existing: Existing, remote: RemoteCluster, network: Network
) -> Member:
    """Return the running cluster's entry for this member, after comparing all entries."""
    local = existing.cluster.in_order()
    if len(local) != len(remote.members):
        raise BootstrapError(
            f"error validating peerURLs: member count is unequal, {len(local)} in -initial-cluster"
            f" and {len(remote.members)} in cluster {remote.cluster_id:x};"
            f" {_advice(config, existing, remote)}"
        )
    mine: Member | None = None
    unmatched = list(remote.members)
    for member in local:
        entry = await _with_urls_of(member, unmatched, network)
        if entry is None:
            raise BootstrapError(
                "error validating peerURLs: unmatched member while checking PeerURLs,"
                f" {format_urls_map({member.name: member.peer_urls})} is not in cluster"
                f" {remote.cluster_id:x}; {_advice(config, existing, remote)}"
            )
        unmatched.remove(entry)
        if member.name == config.name:
            mine = entry
    assert mine is not None, f"{config.name} is lost from the initial cluster"
    return mine


async def _with_urls_of(
    member: Member, candidates: list[Member], network: Network
) -> Member | None:
    # Equal texts first: only what is left over needs DNS.
    for candidate in candidates:
        if candidate.peer_urls == member.peer_urls:
            return candidate
    for candidate in candidates:
        if await same_urls(candidate.peer_urls, member.peer_urls, network):
            return candidate
    return None


def _advice(config: Config, existing: Existing, remote: RemoteCluster) -> str:
    """Say what to type: the right -initial-cluster, or how to add this member first."""
    own_urls = existing.member.peer_urls
    if not any(member.peer_urls == own_urls for member in remote.members):
        body = json.dumps({"peerURLs": list(own_urls)}, separators=(",", ":"))
        return (
            "add this member first: curl -XPOST CLIENT_URL/v2/members"
            f" -H 'Content-Type: application/json' -d '{body}'"
        )
    urls_map = {
        config.name if member.peer_urls == own_urls else member.name or f"{member.id:x}": (
            member.peer_urls
        )
        for member in remote.members
    }
    return f"write -initial-cluster {format_urls_map(urls_map)}"
