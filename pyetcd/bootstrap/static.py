"""First start of a cluster whose members are listed in `-initial-cluster`.

Ids are computed from the flags, so members need not talk to agree on them. The network is asked one
thing: whether the cluster runs already and has seen this member, which has then lost its data.
"""

from typing import Final

from pyetcd.bootstrap.decide import New
from pyetcd.bootstrap.identity import BootstrapError, Identity, already_bootstrapped
from pyetcd.bootstrap.remote import Network, is_bootstrapped, same_urls
from pyetcd.config import Config
from pyetcd.urls import format_urls_map

# Limit for asking the others; in a cluster that really is new, they do not listen yet.
ASK_SECONDS: Final = 1.0


async def new_identity(config: Config, new: New, network: Network) -> Identity:
    """Return the identity of this member in the new cluster.

    Raises BootstrapError if the peer URLs do not match, or the member was started before: with its
    votes and its part of the log gone it would break promises that it made.
    """
    advertised = config.initial_advertise_peer_urls
    if not await same_urls(advertised, new.member.peer_urls, network):
        missing = format_urls_map({config.name: advertised})
        raise BootstrapError(
            f"--initial-cluster must include {missing} given"
            f" --initial-advertise-peer-urls={','.join(advertised)}; write that, or"
            f" -initial-advertise-peer-urls {','.join(new.member.peer_urls)}"
        )
    others = [other for other in new.cluster.in_order() if other.id != new.member.id]
    urls = sorted(url for other in others for url in other.peer_urls)
    if await is_bootstrapped(new.member.id, urls, network, timeout_seconds=ASK_SECONDS):
        raise already_bootstrapped(new.member.id, config)
    return Identity(
        member_id=new.member.id,
        cluster_id=new.cluster.id,
        name=config.name,
        token=config.initial_cluster_token,
        joined=False,
        members=tuple(new.cluster.in_order()),
    )
