"""Finds the other members of a new cluster through a token: a directory in any etcd v2 store.

Below the token's URL are `_config/size` and one key for each member that registered: its id, with
`NAME=URL,NAME=URL` as value. Whoever is among the first `size` keys, in the order in which they
were made, is a member; the others are too late (`ClusterFull`).

Every step can be repeated: a member that crashed finds its own registration and goes on. While the
service does not answer, a member waits for it, ever longer up to MAX_RETRY_SECONDS, and says so.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from pyetcd.bootstrap.identity import ClusterFull, DiscoveryError
from pyetcd.bootstrap.remote import Unreachable
from pyetcd.cluster import member_id
from pyetcd.logs import NOTICE
from pyetcd.tls import system_context
from pyetcd.urls import (
    UrlError,
    Urls,
    UrlsMap,
    format_urls_map,
    parse_urls_map,
    without_credentials,
)

log = logging.getLogger(__name__)

# Limit for an answer that is not waited for on purpose.
REQUEST_SECONDS: Final = 10.0
# A watch is begun anew after this: a connection that died without a word would be silent for ever.
WATCH_SECONDS: Final = 60.0
FIRST_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 30.0
# Before the list is read again, where nothing else makes the loop wait.
PAUSE_SECONDS: Final = 0.5
# A list is a hundred bytes a member.
MAX_BODY_BYTES: Final = 4 << 20

_KEY_NOT_FOUND: Final = 100
_KEY_EXISTS: Final = 105
_CONFIG: Final = "_config"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the discovery service."""

    status: int
    # Header X-Etcd-Index; 0 if there is none.
    index: int
    body: bytes


# Sends a method to a URL, with form fields or none, and a limit in seconds; raises Unreachable.
Ask: TypeAlias = Callable[[str, str, Mapping[str, str] | None, float], Awaitable[Reply]]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Registration:
    """One key below the token."""

    created_index: int
    # Hexadecimal, as in the key.
    member: str
    # What it registered.
    value: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The token as it was at one moment."""

    size: int
    # In the order of registration; there may be more than `size`.
    registrations: list[Registration]
    # The store's index when it was read: what comes later can be watched for.
    index: int


class Discovery:
    """One token and the way to it."""

    def __init__(self, url: str, ask: Ask, sleep: Sleep = asyncio.sleep) -> None:
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        # For the log and for errors.
        self._shown = without_credentials(self._url)
        self._ask_once = ask
        self._sleep = sleep
        self._retry_seconds = FIRST_RETRY_SECONDS
        # Found peers that the log has named.
        self._told: set[str] = set()

    async def join(self, name: str, peer_urls: Urls, token: str) -> UrlsMap:
        """Register this member and return all members once there are enough.

        Raises DiscoveryError.
        """
        own = f"{member_id(peer_urls, token):x}"
        # Who is too late does not register at all.
        await self._list(own)
        await self._register(own, name, format_urls_map({name: peer_urls}))
        return await self._wait(own)

    async def members(self) -> UrlsMap:
        """Return all members once there are enough, without being one.

        Raises DiscoveryError.
        """
        return await self._wait("")

    async def _wait(self, own: str) -> UrlsMap:
        while True:
            listing = await self._list(own)
            found = listing.registrations[: listing.size]
            self._tell(found, own)
            missing = listing.size - len(found)
            if missing == 0:
                log.log(NOTICE, "found %d needed peer(s)", len(found))
                return self._urls_map(found, listing.size)
            log.log(NOTICE, "found %d peer(s), waiting for %d more", len(found), missing)
            await self._watch(listing)

    async def _list(self, own: str) -> Listing:
        """Read the token. Raises ClusterFull if `own` is not "" and came too late."""
        size = await self._size()
        reply = await self._ask("cluster status check", "GET", self._url)
        node = self._node(reply)
        registrations: list[Registration] = []
        for child in _list_of(node.get("nodes")):
            key, value, created = child.get("key"), child.get("value"), child.get("createdIndex")
            # What is not a registration is somebody else's business, as _config is.
            if isinstance(key, str) and isinstance(value, str) and isinstance(created, int):
                name = key.rpartition("/")[2]
                if name != _CONFIG and not child.get("dir"):
                    registrations.append(Registration(created, name, value))
        registrations.sort(key=lambda registration: registration.created_index)
        first = [registration.member for registration in registrations[:size]]
        if own and len(first) == size and own not in first:
            raise ClusterFull(
                f"discovery: cluster is full: {self._shown} has its {size} members; write a new"
                " token, or -proxy on"
            )
        seen = max((registration.created_index for registration in registrations), default=0)
        return Listing(size, registrations, reply.index or seen)

    async def _size(self) -> int:
        reply = await self._ask("cluster status check", "GET", f"{self._url}/{_CONFIG}/size")
        if self._error_code(reply) == _KEY_NOT_FOUND:
            reply = await self._ask("cluster status check", "GET", self._url)
            if self._error_code(reply) == _KEY_NOT_FOUND:
                raise DiscoveryError(
                    f"discovery: size key not found, token not found: nothing is at {self._shown};"
                    " write the URL of a token that exists"
                )
            raise DiscoveryError(
                f"discovery: size key not found in {self._shown}; set it: curl -XPUT"
                f" {self._shown}/{_CONFIG}/size -d value=3"
            )
        value = self._node(reply).get("value")
        size = int(value) if isinstance(value, str) and value.isdecimal() else 0
        if size < 1:
            raise DiscoveryError(
                f"discovery: size key is bad: {value!r:.40} in {self._shown} is not the number of"
                " members; set it to a whole number, such as 3"
            )
        return size

    async def _register(self, own: str, name: str, value: str) -> None:
        """Make the key of this member; one that it has made before is as good."""
        url = f"{self._url}/{own}"
        form = {"value": value}
        reply = await self._ask("registration", "PUT", f"{url}?prevExist=false", form)
        if self._error_code(reply) != _KEY_EXISTS:
            self._node(reply)
            return
        registered = self._node(await self._ask("registration", "GET", url)).get("value")
        if registered != value:
            raise DiscoveryError(
                f'discovery: found duplicate id: member "{name}" has previously registered with'
                f" discovery service token ({self._shown}), as {own} {registered!r:.200}; write"
                " other -initial-advertise-peer-urls or a new token"
            )
        log.info("member %s has registered at %s before, going on", own, self._shown)

    async def _watch(self, listing: Listing) -> None:
        """Return when the token may have changed since it was listed."""
        url = f"{self._url}?wait=true&recursive=true&waitIndex={listing.index + 1}"
        try:
            reply = await self._ask_once("GET", url, None, WATCH_SECONDS)
        except Unreachable as error:
            await self._back_off("waiting for other nodes", str(error))
            return
        except TimeoutError:
            return
        if _is_trouble(reply):
            await self._back_off("waiting for other nodes", f"status {reply.status}")
            return
        self._retry_seconds = FIRST_RETRY_SECONDS
        if reply.status != 200:
            # Also when the events since then are forgotten: the list has what they led to.
            await self._sleep(PAUSE_SECONDS)
            return
        changed = _object(reply.body).get("node")
        index = changed.get("modifiedIndex") if isinstance(changed, dict) else None
        if not isinstance(index, int) or index <= reply.index or reply.index == 0:
            # Ended without an event; or an old one, which a list that lags behind may lack again.
            await self._sleep(PAUSE_SECONDS)

    def _tell(self, found: list[Registration], own: str) -> None:
        for registration in found:
            if registration.member not in self._told:
                self._told.add(registration.member)
                who = "self" if registration.member == own else "peer"
                log.log(NOTICE, "found %s %s in the cluster", who, registration.member)

    def _urls_map(self, found: list[Registration], size: int) -> UrlsMap:
        text = ",".join(registration.value for registration in found)
        try:
            urls_map = parse_urls_map(text)
        except UrlError as error:
            raise DiscoveryError(
                f"discovery: invalid URL: {error}, registered at {self._shown}; write a new token"
            ) from None
        if len(urls_map) != size:
            raise DiscoveryError(
                "discovery: found duplicate name: member with duplicated name has registered with"
                f" discovery service token({self._shown}): {text:.500}; write another -name, and a"
                " new token"
            )
        return urls_map

    async def _ask(
        self, step: str, method: str, url: str, form: Mapping[str, str] | None = None
    ) -> Reply:
        """Ask until there is an answer that is not the service's own trouble."""
        while True:
            try:
                reply = await self._ask_once(method, url, form, REQUEST_SECONDS)
            except Unreachable as error:
                reason = str(error)
            except TimeoutError:
                reason = f"no answer in {REQUEST_SECONDS:g} s"
            else:
                if not _is_trouble(reply):
                    self._retry_seconds = FIRST_RETRY_SECONDS
                    return reply
                reason = f"status {reply.status}"
            await self._back_off(step, reason)

    async def _back_off(self, step: str, reason: str) -> None:
        seconds = self._retry_seconds
        self._retry_seconds = min(2 * seconds, MAX_RETRY_SECONDS)
        log.warning(
            "%s: error connecting to %s (%s), retrying in %gs", step, self._shown, reason, seconds
        )
        await self._sleep(seconds)

    def _error_code(self, reply: Reply) -> int:
        """Return etcd's error code; 0 for what is no error."""
        if reply.status in (200, 201):
            return 0
        code = _object(reply.body).get("errorCode")
        return code if isinstance(code, int) else 0

    def _node(self, reply: Reply) -> dict[str, object]:
        """Return the node in an answer. Raises DiscoveryError for any other answer."""
        body = _object(reply.body)
        node = body.get("node")
        if reply.status not in (200, 201) or not isinstance(node, dict):
            self._refuse(reply, body)
        return node

    def _refuse(self, reply: Reply, body: dict[str, object]) -> NoReturn:
        message = body.get("message")
        if isinstance(message, str):
            cause = body.get("cause")
            detail = f"{message} ({cause})" if cause else message
            raise DiscoveryError(
                f"discovery: {self._shown} answered {reply.status}: {detail:.200}; write the URL of"
                " a token that can be read and written"
            )
        raise DiscoveryError(
            f"discovery: bad discovery endpoint: {self._shown} answered {reply.status} and nothing"
            " of etcd's; write http://HOST:2379/v2/keys/discovery/TOKEN"
        )


def real_discovery(url: str, http_proxy: str) -> Discovery:
    """Return a token as it is reached over the network, through a proxy unless that is ""."""
    if http_proxy:
        log.info('using proxy "%s"', without_credentials(http_proxy))
    return Discovery(url, partial(http_ask, http_proxy))


async def http_ask(
    http_proxy: str, method: str, url: str, form: Mapping[str, str] | None, seconds: float
) -> Reply:
    """Ask over HTTP; user and password are taken from the URL.

    Raises Unreachable, or TimeoutError if the limit is over.
    """
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession() as session,
            session.request(
                method,
                URL(url, encoded=True),
                data=form,
                proxy=http_proxy or None,
                # Also of an http URL: it may lead to another, or through a proxy.
                ssl=system_context(),
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Unreachable(f"answered with more than {MAX_BODY_BYTES} bytes")
            index = response.headers.get("X-Etcd-Index", "")
            return Reply(response.status, int(index) if index.isdecimal() else 0, bytes(body))
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Its text may have the whole URL, with the password.
        reason = without_credentials(str(error)) or type(error).__name__
        raise Unreachable(reason) from error


def _is_trouble(reply: Reply) -> bool:
    """Tell whether the same request may be answered otherwise later."""
    return reply.status >= 500 or reply.status == 429


def _object(body: bytes) -> dict[str, object]:
    """Return the JSON object that a body is; empty for anything else."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _list_of(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
