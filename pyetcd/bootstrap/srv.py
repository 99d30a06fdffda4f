"""Finds the members of a new cluster through DNS: SRV records of `-discovery-srv`.

`_etcd-server-ssl._tcp.DOMAIN` names https, `_etcd-server._tcp.DOMAIN` http peer URLs. The record
that points to one of this member's own addresses gets its name; the others are numbered, since DNS
knows no names of members and ids do not depend on them. One of the two services is enough.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from pyetcd.bootstrap.identity import BootstrapError
from pyetcd.bootstrap.remote import Network
from pyetcd.logs import NOTICE
from pyetcd.urls import UrlError, Urls, UrlsMap, address, parse_urls_map

log = logging.getLogger(__name__)

# For all servers in /etc/resolv.conf together.
LOOKUP_SECONDS: Final = 10.0

_SERVICES: Final = (("etcd-server-ssl", "https"), ("etcd-server", "http"))


class LookupFailed(Exception):
    """There are no such records, or nobody who could tell."""


class Record(NamedTuple):
    """Where one member listens; sorted as DNS wants them tried."""

    priority: int
    weight: int
    # Without the dot at its end.
    target: str
    port: int

    @property
    def host_port(self) -> str:
        """The authority of its URL."""
        host = f"[{self.target}]" if ":" in self.target else self.target
        return f"{host}:{self.port}"


# Looks up the SRV records of a name; raises LookupFailed.
Lookup: TypeAlias = Callable[[str], Awaitable[list[Record]]]


async def lookup_srv(name: str) -> list[Record]:
    """Ask the servers that this machine is configured with.

    Raises LookupFailed.
    """
    # Not at the top: few starts need it, and it is a tenth of what a start takes.
    import dns.asyncresolver
    import dns.exception

    try:
        answer = await dns.asyncresolver.resolve(name, "SRV", lifetime=LOOKUP_SECONDS)
    except dns.exception.DNSException as error:
        raise LookupFailed(str(error) or type(error).__name__) from error
    records = [
        Record(data.priority, data.weight, data.target.to_text(omit_final_dot=True), data.port)
        for data in answer
    ]
    return sorted(records)


async def srv_cluster(
    name: str,
    domain: str,
    peer_urls: Urls,
    network: Network,
    *,
    lookup: Lookup = lookup_srv,
    must_be_member: bool = True,
) -> UrlsMap:
    """Return the members that the records name; this one has `name` and listens at `peer_urls`.

    Raises BootstrapError if there are no records, or this member is not in them although it must.
    """
    own = set()
    for url in peer_urls:
        host, port = address(url)
        ip = await network.resolve(host)
        if ip is None:
            raise BootstrapError(
                f"couldn't resolve host {host}:{port} during SRV discovery; write"
                " -initial-advertise-peer-urls with a host that DNS knows"
            )
        own.add((ip, port))
    pairs: list[str] = []
    failures: list[str] = []
    for service, scheme in _SERVICES:
        try:
            records = await lookup(f"_{service}._tcp.{domain}")
        except LookupFailed as error:
            failures.append(f"error querying DNS SRV records for _{service} {error}")
            continue
        for record in records:
            ip = await network.resolve(record.target)
            if ip is None:
                log.warning("couldn't resolve host %s during SRV discovery", record.host_port)
                continue
            # A number as name: no two members have the same, nor has this one.
            number = f"{len(pairs)}"
            other = number if number != name else f"{number}."
            shown = name if (ip, record.port) in own else other
            url = f"{scheme}://{record.host_port}"
            pairs.append(f"{shown}={url}")
            log.log(NOTICE, "got bootstrap from DNS for %s at %s", service, url)
    if len(failures) == len(_SERVICES):
        for failure in failures:
            log.warning("%s", failure)
        log.error("SRV discovery failed: too many errors querying DNS SRV records")
    try:
        found = parse_urls_map(",".join(pairs))
    except UrlError as error:
        raise BootstrapError(
            f"error setting up initial cluster: {error} in the SRV records of {domain}; correct"
            " them, or write -initial-cluster"
        ) from None
    if not found:
        raise BootstrapError(
            f"error setting up initial cluster: {'; '.join(failures) or 'no usable SRV records'};"
            f" add _etcd-server._tcp.{domain} to DNS, or write -initial-cluster"
        )
    if must_be_member and name not in found:
        raise BootstrapError(
            f'error setting up initial cluster: cannot find local etcd member "{name}" in SRV'
            f" records of {domain}; write -initial-advertise-peer-urls with one of"
            f" {','.join(url for urls in found.values() for url in urls)}"
        )
    return found
