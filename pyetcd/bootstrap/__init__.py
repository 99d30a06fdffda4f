"""How a member finds out who it is: it restarts, starts a cluster, or joins one.

`plan` is called before anything is written. `decide.py` looks at flags and data directory;
`static.py` and `existing.py` ask what only the network can tell, and `discovery.py` and `srv.py`
find members that no flag lists. The storage is not known here: the
caller says what is on the disk and stores `Plan.identity` as metadata of a new log.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, assert_never

from pyetcd.bootstrap.data_dir import Use, used_as
from pyetcd.bootstrap.decide import Decision, Existing, New, OnDisk, Restart, decide
from pyetcd.bootstrap.existing import joining_identity
from pyetcd.bootstrap.identity import BadIdentity, BootstrapError, ClusterFull, Identity
from pyetcd.bootstrap.remote import REAL_NETWORK, Network, secure_network
from pyetcd.bootstrap.srv import srv_cluster
from pyetcd.bootstrap.standalone import stand_alone
from pyetcd.bootstrap.static import new_identity
from pyetcd.config import Config
from pyetcd.urls import Urls

if TYPE_CHECKING:
    from pyetcd.bootstrap.discovery import Discovery

__all__ = [
    "plan",
    "find_peer_urls",
    "Use",
    "used_as",
    "stand_alone",
    "Plan",
    "Start",
    "OnDisk",
    "Identity",
    "BootstrapError",
    "ClusterFull",
    "BadIdentity",
    "Network",
    "REAL_NETWORK",
    "secure_network",
    "decide",
    "Decision",
    "Restart",
    "New",
    "Existing",
]


# Makes the way to a token from its URL and that of an HTTP proxy or "".
DiscoveryMaker: TypeAlias = Callable[[str, str], "Discovery"]


def _over_the_network(url: str, http_proxy: str) -> "Discovery":
    # Not before: most members have no token, and its HTTP client takes long to load.
    from pyetcd.bootstrap.discovery import real_discovery

    return real_discovery(url, http_proxy)


class Start(Enum):
    """The three ways to start."""

    # The log tells the rest.
    RESTART = "restart"
    # `identity.members` are the first members of the log.
    NEW = "new"
    # The log comes from the members that run; until then `identity.members` says where they are.
    JOIN = "join"


class Plan(NamedTuple):
    """Who this member is, and how it begins."""

    start: Start
    identity: Identity
    # About flags that are ignored; to be logged.
    warnings: tuple[str, ...] = ()


async def plan(
    config: Config,
    on_disk: OnDisk,
    network: Network = REAL_NETWORK,
    discovery: DiscoveryMaker = _over_the_network,
) -> Plan:
    """Find out how to start.

    Raises BootstrapError; nothing was written then. ClusterFull is one, for which
    `-discovery-fallback` has the answer.
    """
    if not on_disk.has_wal:
        config = await _with_found_members(config, network, discovery)
    match decide(config, on_disk):
        case Restart(identity, warnings):
            return Plan(Start.RESTART, identity, warnings)
        case New() as new:
            return Plan(Start.NEW, await new_identity(config, new, network))
        case Existing() as existing:
            return Plan(Start.JOIN, await joining_identity(config, existing, network))
        case unreachable:
            assert_never(unreachable)


async def find_peer_urls(
    config: Config,
    network: Network = REAL_NETWORK,
    discovery: DiscoveryMaker = _over_the_network,
) -> Urls:
    """Return where the members of a cluster are, for somebody who is none of them.

    Raises BootstrapError.
    """
    urls_map = config.initial_cluster
    if config.discovery_url:
        urls_map = await discovery(config.discovery_url, config.discovery_proxy).members()
    elif config.discovery_srv:
        advertised = config.initial_advertise_peer_urls
        urls_map = await srv_cluster(
            config.name, config.discovery_srv, advertised, network, must_be_member=False
        )
    return tuple(sorted(url for urls in urls_map.values() for url in urls))


async def _with_found_members(
    config: Config, network: Network, discovery: DiscoveryMaker
) -> Config:
    """Return the configuration with all members in `initial_cluster`."""
    advertised = config.initial_advertise_peer_urls
    if config.discovery_url:
        token = discovery(config.discovery_url, config.discovery_proxy)
        found = await token.join(config.name, advertised, config.initial_cluster_token)
        return replace(config, initial_cluster=found)
    if config.discovery_srv:
        found = await srv_cluster(config.name, config.discovery_srv, advertised, network)
        return replace(config, initial_cluster=found)
    return config
