"""Asks members that run already who is in the cluster: `GET /members` on their peer URLs.

All are asked at once and each within a limit, so a machine that is off costs nothing but the limit.
What they answer is checked, never believed: a port may belong to another program.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from ssl import SSLContext
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import h11

from pyetcd.cluster import MAX_ID, BadMembers, Member, members_from_peer_json
from pyetcd.tls import system_context
from pyetcd.urls import Urls, address
from raft.transport.dial import address_text, describe

log = logging.getLogger(__name__)

# A list of members is some hundred bytes a member.
MAX_BODY_BYTES: Final = 1 << 20
# A name that is not resolved by then is taken for unknown.
RESOLVE_SECONDS: Final = 5.0


class Unreachable(Exception):
    """A URL that gave no answer."""


class Answer(NamedTuple):
    """An HTTP answer, as far as it matters here."""

    status: int
    # Header X-Etcd-Cluster-ID; "" if there is none.
    cluster_id: str
    body: bytes


class RemoteCluster(NamedTuple):
    """What a running member says about its cluster."""

    cluster_id: int
    # At least one.
    members: tuple[Member, ...]


class Failure(NamedTuple):
    """Why a URL told us nothing."""

    url: str
    reason: str


# Gets a URL; raises Unreachable.
Get: TypeAlias = Callable[[str], Awaitable[Answer]]
# Finds the IP address of a host name; None if it has none.
Resolve: TypeAlias = Callable[[str], Awaitable[str | None]]


class Network(NamedTuple):
    """The two ways in which bootstrapping reaches out of the process; tests have their own."""

    get: Get
    resolve: Resolve


async def first_cluster(
    urls: Sequence[str],
    network: Network,
    *,
    timeout_seconds: float,
    failure_level: int = logging.WARNING,
) -> RemoteCluster | None:
    """Return what the first member to answer says; None, and a log line for each, if none does."""
    async with aclosing(_ask_all(urls, network, timeout_seconds)) as answers:
        async for answer in answers:
            if isinstance(answer, RemoteCluster):
                return answer
            log.log(
                failure_level,
                "could not get cluster response from %s: %s",
                answer.url,
                answer.reason,
            )
    return None


async def is_bootstrapped(
    member: int, urls: Sequence[str], network: Network, *, timeout_seconds: float
) -> bool:
    """Tell whether any member that runs knows this one as started; silence means no."""
    async with aclosing(_ask_all(urls, network, timeout_seconds)) as answers:
        async for answer in answers:
            if isinstance(answer, RemoteCluster):
                if any(other.id == member and other.client_urls for other in answer.members):
                    return True
    return False


async def same_urls(first: Urls, second: Urls, network: Network) -> bool:
    """Tell whether two lists are the same URLs, where a host name equals its IP address."""
    if first == second:
        return True
    if len(first) != len(second):
        return False
    resolved = await asyncio.gather(*(_with_ip(url, network) for url in (*first, *second)))
    return sorted(resolved[: len(first)]) == sorted(resolved[len(first) :])


async def http_get(url: str, *, tls: Callable[[], SSLContext] = system_context) -> Answer:
    """Get a URL, with `tls()` if it is https; follow nothing, and let the caller limit the time.

    Raises Unreachable.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    context = tls() if parts.scheme == "https" else None
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError as error:
        reason = describe(error, f"dial tcp {address_text(host, port)}")
        raise Unreachable(str(reason)) from error
    try:
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", parts.netloc), ("Connection", "close")]
        head = h11.Request(method="GET", target=parts.path or "/", headers=headers)
        writer.write((http.send(head) or b"") + (http.send(h11.EndOfMessage()) or b""))
        return await _read_answer(http, reader)
    except (h11.RemoteProtocolError, OSError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    finally:
        writer.transport.abort()


async def _read_answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    """Raises Unreachable, h11.RemoteProtocolError or OSError."""
    status, cluster_id, body = 0, b"", bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
            cluster_id = dict(event.headers).get(b"x-etcd-cluster-id", b"")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise Unreachable(f"answered with more than {MAX_BODY_BYTES} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, cluster_id.decode("latin-1"), bytes(body))


async def resolve_host(host: str) -> str | None:
    """Ask DNS for a host's address; IPv4 is preferred, as in Go."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # TimeoutError is an OSError
        return None
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    return str(found[0][4][0]) if found else None


REAL_NETWORK: Final = Network(http_get, resolve_host)


def secure_network(tls: Callable[[], SSLContext]) -> Network:
    """Return the real network, in which https URLs are asked with the certificates of `tls()`."""
    return Network(partial(http_get, tls=tls), resolve_host)


async def _ask_all(
    urls: Sequence[str], network: Network, timeout_seconds: float
) -> AsyncGenerator[RemoteCluster | Failure, None]:
    """Ask all URLs at once and yield what they say, in the order in which they say it."""
    tasks = [asyncio.create_task(_ask(url, network, timeout_seconds)) for url in urls]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(url: str, network: Network, timeout_seconds: float) -> RemoteCluster | Failure:
    try:
        async with asyncio.timeout(timeout_seconds):
            answer = await network.get(f"{url}/members")
    except TimeoutError:
        return Failure(url, f"no answer in {timeout_seconds:g} s")
    except Unreachable as error:
        return Failure(url, str(error))
    if answer.status != 200:
        return Failure(url, f"answered with status {answer.status}")
    try:
        cluster_id = int(answer.cluster_id, 16)
        members = members_from_peer_json(answer.body)
    except BadMembers as error:
        return Failure(url, str(error))
    except ValueError:
        cluster_id, members = 0, []
    if not 0 < cluster_id <= MAX_ID or not members:
        return Failure(url, "the answer does not name a cluster and its members")
    return RemoteCluster(cluster_id, tuple(members))


async def _with_ip(url: str, network: Network) -> str:
    """Return the URL with its host as an IP address, as far as it is known."""
    host, port = address(url)
    if host == "localhost" or _is_ip(host):
        return f"{host} {port}"  # localhost is not looked up, as in etcd
    return f"{await network.resolve(host) or host} {port}"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
