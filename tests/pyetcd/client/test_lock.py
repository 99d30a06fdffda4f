"""Locks and elections on a store of our own, under a clock that jumps."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from pyetcd.client import Attempt, Client, Election, Event, Lock, LockLost, Node, Unavailable
from pyetcd.errors import EtcdError, EventIndexCleared, KeyExists, KeyNotFound
from tests.virtual_time import virtual


class FakeClient:
    """The calls that a lock makes, on a dictionary; TTLs run on the loop's clock."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.index = 0
        self.history: list[Event] = []
        self.changed = asyncio.Event()
        # Called before each request with its name; may raise.
        self.before: Callable[[str], None] = lambda _: None
        # Called after each write is done; may raise, as if the answer were lost.
        self.after: Callable[[str], None] = lambda _: None
        self._expiries: dict[str, asyncio.TimerHandle] = {}

    async def set(self, key: str, value: str, *, ttl_seconds: int, prev_exist: bool) -> Event:
        self.before("set")
        assert prev_exist is False
        if key in self.nodes:
            raise KeyExists(key, self.index)
        self.index += 1
        self.nodes[key] = Node(
            key, value, created_index=self.index, modified_index=self.index, ttl=ttl_seconds
        )
        self._arm(key, ttl_seconds)
        self._tell("create", self.nodes[key])
        self.after("set")
        return Event("create", self.nodes[key], None, self.index)

    async def refresh(self, key: str, ttl_seconds: int) -> Event:
        self.before("refresh")
        if key not in self.nodes:
            raise KeyNotFound(key, self.index)
        self._arm(key, ttl_seconds)
        return Event("update", self.nodes[key], None, self.index)

    async def get(self, key: str, *, quorum: bool) -> Event:
        self.before("get")
        assert quorum
        if key in self.nodes:
            return Event("get", self.nodes[key], None, self.index)
        children = tuple(node for name, node in self.nodes.items() if name.startswith(key + "/"))
        if not children:
            raise KeyNotFound(key, self.index)
        return Event("get", Node(key, is_dir=True, nodes=children), None, self.index)

    async def delete(self, key: str) -> Event:
        self.before("delete")
        return self.remove(key, "delete")

    async def wait(
        self, key: str, *, wait_index: int, recursive: bool, on_header: object
    ) -> Event | None:
        self.before("wait")
        while True:
            for event in self.history:
                name = event.node.key
                if event.node.modified_index >= wait_index:
                    if name == key or (recursive and name.startswith(key + "/")):
                        return event
            await self.changed.wait()

    def remove(self, key: str, action: str) -> Event:
        """Delete or expire a key."""
        if key not in self.nodes:
            raise KeyNotFound(key, self.index)
        self.index += 1
        self._expiries.pop(key).cancel()
        node = replace(self.nodes.pop(key), modified_index=self.index, value="")
        return self._tell(action, node)

    def _arm(self, key: str, seconds: int) -> None:
        if key in self._expiries:
            self._expiries[key].cancel()
        loop = asyncio.get_running_loop()
        self._expiries[key] = loop.call_later(seconds, self.remove, key, "expire")

    def _tell(self, action: str, node: Node) -> Event:
        event = Event(action, node, None, self.index)
        self.history.append(event)
        self.changed.set()
        self.changed = asyncio.Event()
        return event


def fake() -> tuple[FakeClient, Client]:
    """A store, and the same as what a lock takes."""
    store = FakeClient()
    return store, cast(Client, store)


def lost_answer(*_: Any) -> None:
    raise Unavailable((Attempt("http://h:1", "EOF"),), maybe_done=True)


def down(*_: Any) -> None:
    raise Unavailable((Attempt("http://h:1", "refused", unsent=True),))


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])


@virtual
async def test_lock_is_held_by_one_at_a_time_in_the_order_of_asking() -> None:
    """Five programs, far longer than the TTL each."""
    store, client = fake()
    holders: list[int] = []
    inside = 0

    async def work(number: int) -> None:
        nonlocal inside
        async with Lock(client, "l", ttl_seconds=3) as lock:
            inside += 1
            assert inside == 1
            await asyncio.sleep(20)
            assert lock.held
            holders.append(number)
            inside -= 1

    await asyncio.gather(*(work(number) for number in range(5)))
    assert holders == [0, 1, 2, 3, 4]
    assert store.nodes == {}


@virtual
async def test_lock_of_a_program_that_dies_goes_to_the_next_one() -> None:
    """When its TTL has passed, and not before."""
    _, client = fake()
    loop = asyncio.get_running_loop()
    dead, waiting = Lock(client, "l", ttl_seconds=10), Lock(client, "l", ttl_seconds=10)
    await dead.acquire()
    assert dead._keeper is not None
    await cancel(dead._keeper)
    begin = loop.time()
    await waiting.acquire()
    assert loop.time() - begin == pytest.approx(10, abs=0.1)
    assert waiting.token > dead.token
    await waiting.release()


@virtual
async def test_lock_is_lost_when_it_cannot_be_refreshed_for_a_ttl() -> None:
    """The holder is told, and lets go without an error."""
    store, client = fake()
    async with Lock(client, "l", ttl_seconds=9) as lock:
        store.before = lambda call: down() if call == "refresh" else None
        await asyncio.wait_for(lock.lost.wait(), 10)
        assert not lock.held


@virtual
async def test_lock_survives_a_refresh_that_fails_once() -> None:
    """There are three in a TTL."""
    store, client = fake()
    failures = [True]

    def fail_once(call: str) -> None:
        if call == "refresh" and failures:
            failures.pop()
            down()

    async with Lock(client, "l", ttl_seconds=9) as lock:
        store.before = fail_once
        await asyncio.sleep(60)
        assert lock.held


@virtual
async def test_lock_whose_key_is_removed_is_lost_at_the_next_refresh() -> None:
    """Somebody else may hold it then."""
    store, client = fake()
    async with Lock(client, "l", ttl_seconds=9) as lock:
        store.remove(next(iter(store.nodes)), "delete")
        await asyncio.wait_for(lock.lost.wait(), 4)
        assert not lock.held


@virtual
async def test_lock_whose_key_is_removed_while_waiting_raises() -> None:
    """It has lost its place."""
    store, client = fake()
    first, second = Lock(client, "l"), Lock(client, "l")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    store.remove(max(store.nodes.values(), key=lambda node: node.created_index).key, "delete")
    await first.release()
    with pytest.raises((LockLost, KeyNotFound)):
        await waiting


@virtual
async def test_lock_whose_answer_is_lost_is_created_once() -> None:
    """The key's own name tells that the first attempt had arrived."""
    store, client = fake()
    answers = [True]

    def lose_first(call: str) -> None:
        if answers:
            answers.pop()
            lost_answer()

    store.after = lose_first
    async with Lock(client, "l", value="me"):
        assert [node.value for node in store.nodes.values()] == ["me"]


@virtual
async def test_lock_given_up_while_waiting_leaves_no_key() -> None:
    """Otherwise those behind would wait for nobody."""
    store, client = fake()
    async with Lock(client, "l"):
        waiting = asyncio.create_task(Lock(client, "l").acquire())
        await asyncio.sleep(1)
        assert len(store.nodes) == 2
        await cancel(waiting)
        assert len(store.nodes) == 1


@virtual
async def test_lock_in_a_cluster_that_is_down_raises() -> None:
    """Nothing is left running."""
    store, client = fake()
    store.before = down
    with pytest.raises(Unavailable):
        await Lock(client, "l").acquire()
    assert len(asyncio.all_tasks()) == 1


@virtual
async def test_lock_waiting_longer_than_history_looks_again() -> None:
    """A watch that is too far back says only that something has happened."""
    store, client = fake()
    failures: list[EtcdError] = [EventIndexCleared("x", 5)]

    def clear_once(call: str) -> None:
        if call == "wait" and failures:
            raise failures.pop()

    store.before = clear_once
    first, second = Lock(client, "l"), Lock(client, "l")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    await first.release()
    await waiting
    assert second.held
    await second.release()


@virtual
async def test_election_has_one_leader_whom_observers_see_change() -> None:
    """Nobody, one, the other, nobody."""
    _, client = fake()
    election = Election(client, "e", ttl_seconds=9)
    seen: list[str | None] = []

    async def observe() -> None:
        async for leader in election.observe():
            seen.append(leader)

    observing = asyncio.create_task(observe())
    await asyncio.sleep(1)
    assert await election.leader() is None
    first = await election.campaign("a")
    second: Awaitable[Lock] = asyncio.create_task(election.campaign("b"))
    await asyncio.sleep(30)
    assert await election.leader() == "a"
    await first.release()
    second_lock = await second
    await asyncio.sleep(1)
    await second_lock.release()
    await asyncio.sleep(1)
    await cancel(observing)
    assert seen == [None, "a", "b", None]
