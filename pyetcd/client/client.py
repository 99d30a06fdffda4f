"""A client of etcd's v2 API, for asyncio.

    async with Client(["http://127.0.0.1:2379"]) as client:
        await client.set("/greeting", "hello", ttl_seconds=60)
        print((await client.get("/greeting")).node.value)

Asks the next endpoint when one is down, and never sends a write twice that may have arrived: then
it raises Unavailable with `maybe_done`. Refusals are `pyetcd.errors.EtcdError`.
"""

import random
import ssl
from collections.abc import Iterable
from typing import Final, Self

from pyetcd.client.auth import Auth
from pyetcd.client.endpoints import Credentials, Endpoints, OnHeader, Trace
from pyetcd.client.failure import NotEtcd
from pyetcd.client.members import Members
from pyetcd.client.wire import Event, Fields, Request, event_from, json_object, key_request

DEFAULT_ENDPOINTS: Final = ("http://127.0.0.1:2379", "http://127.0.0.1:4001")
DEFAULT_TIMEOUT_SECONDS: Final = 5.0


class Client:
    """Keys, members and users of one cluster.

    Use it in one event loop, as a context manager, or close it.
    """

    def __init__(
        self,
        endpoints: Iterable[str] = DEFAULT_ENDPOINTS,
        *,
        username: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        trace: Trace | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Keep the settings; nothing is sent yet.

        The time-out is for each endpoint that is asked; `asyncio.timeout` limits a whole call.
        Raises BadSetting for an endpoint that is no URL, and NoEndpoints.
        """
        self._endpoints = Endpoints(
            endpoints,
            credentials=Credentials(username, password) if username else None,
            tls=tls,
            timeout_seconds=timeout_seconds,
            trace=trace,
            rng=rng,
        )
        self.members = Members(self._endpoints)
        self.auth = Auth(self._endpoints)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._endpoints.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints in the order in which they are asked."""
        return self._endpoints.urls

    async def sync(self) -> None:
        """Use the client URLs that the members publish.

        Raises NoEndpoints, and changes nothing, if they publish none.
        """
        members = await self.members.list()
        self._endpoints.replace(url for member in members for url in member.client_urls)

    async def healthy(self, url: str) -> bool:
        """Return what the member behind one client URL says of its health."""
        answer = await self._endpoints.ask(url, Request("GET", "/health"))
        health = json_object(answer.body).get("health")
        if not isinstance(health, str | bool):
            raise NotEtcd
        return health in ("true", True)

    # Keys

    async def get(
        self, key: str, *, recursive: bool = False, in_order: bool = False, quorum: bool = False
    ) -> Event:
        """Return a key, or a directory with its children; `recursive` shows all below it.

        `quorum` asks the cluster, not the member: what was written before is seen.
        """
        query = (
            ("quorum", _text(quorum)),
            ("recursive", _text(recursive)),
            ("sorted", _text(in_order)),
        )
        return await self._send("GET", key, query)

    async def set(
        self,
        key: str,
        value: str,
        *,
        ttl_seconds: int | None = None,
        prev_exist: bool | None = None,
        prev_value: str | None = None,
        prev_index: int | None = None,
    ) -> Event:
        """Give a key a value, if all that is said of the present one is true.

        `prev_exist` True only updates, and False only creates.
        """
        query = _conditions(prev_exist, prev_value, prev_index)
        return await self._send("PUT", key, query, [("value", value), *_ttl(ttl_seconds)])

    async def set_dir(
        self, key: str, *, ttl_seconds: int | None = None, prev_exist: bool | None = None
    ) -> Event:
        """Create a directory, or give the one that is there another TTL."""
        query = [("dir", "true"), *_conditions(prev_exist, None, None)]
        return await self._send("PUT", key, query, _ttl(ttl_seconds))

    async def create_in_order(
        self, directory: str, value: str, *, ttl_seconds: int | None = None
    ) -> Event:
        """Create a key in a directory, named so that keys sort by their creation."""
        return await self._send("POST", directory, (), [("value", value), *_ttl(ttl_seconds)])

    async def refresh(
        self,
        key: str,
        ttl_seconds: int,
        *,
        prev_value: str | None = None,
        prev_index: int | None = None,
    ) -> Event:
        """Give a key that exists another TTL; the value stays and no watcher is woken."""
        query = _conditions(True, prev_value, prev_index)
        return await self._send("PUT", key, query, [*_ttl(ttl_seconds), ("refresh", "true")])

    async def delete(
        self,
        key: str,
        *,
        is_dir: bool = False,
        recursive: bool = False,
        prev_value: str | None = None,
        prev_index: int | None = None,
    ) -> Event:
        """Delete a key; `is_dir` allows an empty directory, and `recursive` any."""
        query = _conditions(None, prev_value, prev_index)
        if is_dir:
            query.append(("dir", "true"))
        if recursive:
            query.append(("recursive", "true"))
        return await self._send("DELETE", key, query, ())

    async def wait(
        self,
        key: str,
        *,
        wait_index: int = 0,
        recursive: bool = False,
        on_header: OnHeader | None = None,
    ) -> Event | None:
        """Return the first event from `wait_index` on, or the next one if that is 0.

        None when the server ended the wait without one. `on_header` gets the store's index at the
        time when the watch began. `watch.Watcher` is the comfortable form.
        """
        query = (
            ("recursive", _text(recursive)),
            ("wait", "true"),
            ("waitIndex", str(wait_index)),
        )
        request = key_request("GET", key, query=query, waits=True)
        answer = await self._endpoints.send(request, on_header)
        if answer.status == 200 and not answer.body:
            return None
        return event_from(answer)

    async def _send(
        self, method: str, key: str, query: Fields, form: Fields | None = None
    ) -> Event:
        request = key_request(method, key, query=query, form=form)
        return event_from(await self._endpoints.send(request))


def _conditions(
    prev_exist: bool | None, prev_value: str | None, prev_index: int | None
) -> list[tuple[str, str]]:
    query = []
    if prev_exist is not None:
        query.append(("prevExist", _text(prev_exist)))
    if prev_value is not None:
        query.append(("prevValue", prev_value))
    if prev_index is not None:
        query.append(("prevIndex", str(prev_index)))
    return query


def _ttl(ttl_seconds: int | None) -> list[tuple[str, str]]:
    return [] if ttl_seconds is None else [("ttl", str(ttl_seconds))]


def _text(flag: bool) -> str:
    return "true" if flag else "false"
