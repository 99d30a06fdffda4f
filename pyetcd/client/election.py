"""Elects one of several programs, and tells everybody who it is.

A candidate is a holder of a lock whose value is what it wants known, an address perhaps: the oldest
key in the election's directory leads. Relies on `lock`, and shares its limits.
"""

from collections.abc import AsyncIterator
from typing import Final

from pyetcd.client.client import Client
from pyetcd.client.lock import DEFAULT_TTL_SECONDS, Lock
from pyetcd.client.watch import Watcher
from pyetcd.errors import EventIndexCleared, KeyNotFound

PREFIX: Final = "/_elections"


class Election:
    """An election by its name, for candidates and for those who want to know the leader."""

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        ttl_seconds: int = DEFAULT_TTL_SECONDS,
        prefix: str = PREFIX,
    ) -> None:
        """Name the election; a leader that dies is replaced when its TTL has passed."""
        self._client = client
        self._name = name
        self._ttl_seconds = ttl_seconds
        self._prefix = prefix

    async def campaign(self, value: str) -> Lock:
        """Wait until we lead, and return what we lead by: watch `lost`, and `release` to resign."""
        lock = Lock(
            self._client,
            self._name,
            value=value,
            ttl_seconds=self._ttl_seconds,
            prefix=self._prefix,
        )
        await lock.acquire()
        return lock

    async def leader(self) -> str | None:
        """Return the value of the leader; None if there is none."""
        return (await self._look())[0]

    async def observe(self) -> AsyncIterator[str | None]:
        """Yield who leads, and again whenever that changes; it may leave out short reigns."""
        shown = False
        last: str | None = None
        while True:
            leader, etcd_index = await self._look()
            if not shown or leader != last:
                shown, last = True, leader
                yield leader
            watcher = Watcher(
                self._client,
                f"{self._prefix}/{self._name}",
                recursive=True,
                after_index=etcd_index,
            )
            try:
                await watcher.next()
            except EventIndexCleared:
                pass  # looking again is what an event would lead to

    async def _look(self) -> tuple[str | None, int]:
        """Return the leader's value and the index of the store at which it led."""
        try:
            listing = await self._client.get(f"{self._prefix}/{self._name}", quorum=True)
        except KeyNotFound as error:
            return None, error.index
        nodes = listing.node.nodes
        if not nodes:
            return None, listing.etcd_index
        return min(nodes, key=lambda node: node.created_index).value, listing.etcd_index
