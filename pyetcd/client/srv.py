"""Finds the endpoints of a cluster by DNS SRV records.

Relies on dnspython and the system's resolver settings; asks for `_etcd-client-ssl._tcp` and
`_etcd-client._tcp`. dnspython is imported when somebody asks: most programs never do, and pyetcdctl
starts so much faster.
"""

from typing import TYPE_CHECKING, Final

from pyetcd.client.failure import BadSetting

if TYPE_CHECKING:
    import dns.asyncresolver

# Service name and the scheme of the URLs, secure ones first.
SERVICES: Final = (("etcd-client-ssl", "https"), ("etcd-client", "http"))
LIFETIME_SECONDS: Final = 5.0


async def discover(
    domain: str, resolver: "dns.asyncresolver.Resolver | None" = None
) -> tuple[str, ...]:
    """Return the endpoints that a domain names, best first.

    Raises BadSetting, with the reasons, if it names none.
    """
    import dns.asyncresolver
    import dns.exception
    import dns.rdatatype
    import dns.resolver
    from dns.rdtypes.IN.SRV import SRV

    endpoints: list[str] = []
    reasons: list[str] = []
    for service, scheme in SERVICES:
        name = f"_{service}._tcp.{domain}"
        try:
            asked = resolver or dns.asyncresolver.get_default_resolver()
            answer = await asked.resolve(name, dns.rdatatype.SRV, lifetime=LIFETIME_SECONDS)
        except dns.resolver.NXDOMAIN:
            reasons.append(f"lookup {name}: no such host")
            continue
        except (dns.exception.DNSException, OSError) as error:
            reasons.append(f"lookup {name}: {error}")
            continue
        records = [record for record in answer if isinstance(record, SRV)]
        for record in sorted(records, key=lambda each: (each.priority, -each.weight)):
            endpoints.append(
                f"{scheme}://{record.target.to_text(omit_final_dot=True)}:{record.port}"
            )
    if not endpoints:
        raise BadSetting("dns lookup errors: " + " and ".join(reasons))
    return tuple(endpoints)
