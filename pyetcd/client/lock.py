"""A lock that all programs share which use the same cluster.

Whoever wants the lock creates a key with a TTL in the lock's directory; the oldest key has it, and
each of the others watches the key before its own. A program that dies loses its key by the TTL, a
living one refreshes it. Relies on keys and watches only, so it works on every etcd 2.

A lock tells who should act, it cannot stop who no longer should: watch `lost`, and hand `token` to
the resource that is protected, which can refuse a smaller one.
"""

import asyncio
import uuid
from types import TracebackType
from typing import Final, Self

from pyetcd.client.client import Client
from pyetcd.client.failure import ClientError, Unavailable
from pyetcd.client.watch import Watcher
from pyetcd.client.wire import Node
from pyetcd.errors import EtcdError, EventIndexCleared, KeyExists, KeyNotFound

DEFAULT_TTL_SECONDS: Final = 30
# A key is refreshed so often within its TTL: one refresh may fail.
REFRESHES_PER_TTL: Final = 3
# What ends the life of a key.
ENDINGS: Final = frozenset({"delete", "expire", "compareAndDelete"})


class LockLost(Exception):
    """The key of a lock was gone before the lock was released."""


class Lock:
    """One attempt to hold a lock; `async with Lock(client, "reports"):` holds it for the block.

    Invariants:
      1. While `held`, our key was the oldest in the directory and was refreshed within its TTL.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        value: str = "",
        ttl_seconds: int = DEFAULT_TTL_SECONDS,
        prefix: str = "/_locks",
    ) -> None:
        """Name the lock; `value` is shown to people who look at the keys."""
        self.directory = f"{prefix}/{name}"
        # Set when the lock was lost while it was held.
        self.lost = asyncio.Event()
        # Grows from holder to holder; 0 before the first `acquire`.
        self.token = 0
        self._client = client
        self._value = value
        self._ttl_seconds = ttl_seconds
        # Our own name tells us, after an answer was lost, whether our key was created.
        self._key = f"{self.directory}/{uuid.uuid4().hex}"
        self._keeper: asyncio.Task[None] | None = None
        self._first = False

    @property
    def held(self) -> bool:
        """Whether the lock is ours, as far as we know."""
        return self._first and not self.lost.is_set()

    async def __aenter__(self) -> Self:
        """Wait until the lock is ours."""
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        await self.release()

    async def acquire(self) -> None:
        """Wait until the lock is ours; whoever gives up waiting leaves no key behind.

        Raises LockLost if our key is removed while we wait.
        """
        assert self._keeper is None, f"{self._key}: acquired twice"
        try:
            self.lost.clear()
            self.token = await self._create()
            self._keeper = asyncio.create_task(self._keep())
            await self._wait_first()
            self._first = True
        except BaseException:
            await asyncio.shield(self._give_up())
            raise

    async def release(self) -> None:
        """Let the next one have the lock; without an answer it goes when the TTL has passed."""
        await self._stop_keeper()
        self._first = False
        try:
            await self._client.delete(self._key)
        except KeyNotFound:
            pass  # it was lost before

    async def _create(self) -> int:
        """Create our key and return the index at which it was."""
        try:
            node = await self._set()
        except Unavailable as error:
            if not error.maybe_done:
                raise
            node = await self._set()
        return node.created_index

    async def _set(self) -> Node:
        try:
            event = await self._client.set(
                self._key, self._value, ttl_seconds=self._ttl_seconds, prev_exist=False
            )
        except KeyExists:
            # Nobody else knows the name: an earlier attempt had arrived.
            event = await self._client.get(self._key, quorum=True)
        return event.node

    async def _wait_first(self) -> None:
        """Return when no older key is left; each waits for one other, so that one wakes."""
        while True:
            listing = await self._client.get(self.directory, quorum=True)
            keys = sorted(listing.node.nodes, key=lambda node: node.created_index)
            names = [node.key for node in keys]
            if self._key not in names or self.lost.is_set():
                raise LockLost(f"{self._key} was removed")
            place = names.index(self._key)
            if place == 0:
                return
            await wait_gone(self._client, names[place - 1], after_index=listing.etcd_index)

    async def _keep(self) -> None:
        """Refresh our key until it is gone, or may be."""
        loop = asyncio.get_running_loop()
        refreshed = loop.time()
        while loop.time() - refreshed < self._ttl_seconds:
            await asyncio.sleep(self._ttl_seconds / REFRESHES_PER_TTL)
            asked = loop.time()
            try:
                async with asyncio.timeout(self._ttl_seconds / REFRESHES_PER_TTL):
                    await self._client.refresh(self._key, self._ttl_seconds)
                refreshed = asked
            except KeyNotFound:
                break
            except (ClientError, EtcdError, TimeoutError):
                pass  # the cluster may be back before the TTL has passed
        self.lost.set()

    async def _give_up(self) -> None:
        try:
            await self.release()
        except (ClientError, EtcdError):
            pass  # the key expires

    async def _stop_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None


async def wait_gone(client: Client, key: str, *, after_index: int) -> None:
    """Return when a key was deleted or expired, or when too much has happened to tell."""
    try:
        async for event in Watcher(client, key, after_index=after_index):
            if event.action in ENDINGS:
                return
    except EventIndexCleared:
        return
