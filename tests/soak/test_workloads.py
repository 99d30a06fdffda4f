"""Proves that clients notice a server that breaks its promises, and bear one that only fails.

The server is one in memory, with a defect of the test's choice: what is planted must be found in
what the clients remember, not only in histories that were written down by hand.
"""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.soak.http import Answer, NoAnswer
from scripts.soak.workloads import Client, Counters, Locks, Queues, Registers, Writers
from tests.virtual_time import virtual

SECONDS = 2.5


class Store:
    """As much of the keys API as the clients of a soak run use; `defect` is what is wrong."""

    def __init__(self, defect: str) -> None:
        self.defect = defect
        self.rng = random.Random(7)
        self.index = 10
        self.nodes: dict[str, tuple[str, int]] = {}
        self.stale: dict[str, tuple[str, int]] = {}

    def answer(self, method: str, path: str, form: dict[str, Any] | None) -> Answer:
        """Do what is asked; sometimes it is done, and nobody hears of it."""
        if self.rng.random() < 0.05:
            self.stale = dict(self.nodes)
        parts = urlsplit(path)
        key = parts.path.removeprefix("/v2/keys")
        query = {name: texts[0] for name, texts in parse_qs(parts.query).items()}
        status, body = self._do(method, key, query | (form or {}))
        if method != "GET" and self.rng.random() < 0.02:
            raise NoAnswer("lost on its way back")
        headers = {"x-etcd-index": str(self.index)}
        return Answer(status, headers, json.dumps(body).encode())

    def _do(self, method: str, key: str, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        old = self.nodes.get(key)
        if method == "GET":
            return self._get(key)
        if self.defect == "two owners" and "prevExist" in form:
            old = None
        if form.get("prevExist") == "false" and old is not None:
            return 412, {"errorCode": 105}
        if "prevValue" in form and old is not None and str(form["prevValue"]) != old[0]:
            return 412, {"errorCode": 101, "cause": f"[{form['prevValue']} != {old[0]}]"}
        if "prevIndex" in form and old is not None and form["prevIndex"] != old[1]:
            return 412, {"errorCode": 101, "cause": f"[{form['prevIndex']} != {old[1]}]"}
        self.index += 1
        if method == "DELETE":
            self.nodes.pop(key, None)
            return 200, {}
        if method == "POST":
            key = f"{key}/{self.index:020d}"
            if self.defect == "twice" and self.rng.random() < 0.2:
                self.nodes[key + "0"] = (str(form["value"]), self.index)
        # Not the first write of all, without which the clients could not begin.
        loses = self.defect == "lost write" and form["value"] != "0" and self.rng.random() < 0.1
        if not loses:
            self.nodes[key] = (str(form["value"]), self.index)
        found: dict[str, Any] = {"node": self._node(key, (str(form["value"]), self.index))}
        if old is not None:
            found["prevNode"] = self._node(key, old)
        return (201 if old is None else 200), found

    def _get(self, key: str) -> tuple[int, dict[str, Any]]:
        is_stale = self.defect == "stale read" and self.rng.random() < 0.1
        nodes = self.stale if is_stale and key in self.stale else self.nodes
        if key in nodes:
            return 200, {"node": self._node(key, nodes[key])}
        below = [
            self._node(it, node) for it, node in self.nodes.items() if it.startswith(f"{key}/")
        ]
        if not below:
            return 404, {"errorCode": 100}
        return 200, {"node": {"nodes": below}}

    def _node(self, key: str, node: tuple[str, int]) -> dict[str, Any]:
        return {"key": key, "value": node[0], "modifiedIndex": node[1]}


class FakeClient(Client):
    """Asks such a store; every answer takes some time."""

    def __init__(self, store: Store, stopping: asyncio.Event, seed: int) -> None:
        super().__init__(list, random.Random(seed), stopping)
        self._store = store

    async def ask(
        self,
        method: str,
        path: str,
        form: dict[str, object] | None = None,
        *,
        body: object = None,
        seconds: float = 3.0,
    ) -> Answer:
        await self.pause(0.005)
        answer = self._store.answer(method, path, form)
        await self.pause(0.005)
        return answer


async def run(kind: Callable[..., Any], defect: str) -> list[str]:
    """Let the clients of one kind work on a store for a while; return the problems they find."""
    store, stopping = Store(defect), asyncio.Event()
    seeds = iter(range(1_000))

    def make() -> Client:
        return FakeClient(store, stopping, next(seeds))

    workload = kind("/soak/1", make)
    judge = make()
    if isinstance(workload, Registers):
        await workload.prepare(judge)
    # Its watchers need streams, which this store has not.
    work = [workload._write(0)] if isinstance(workload, Writers) else workload.clients()
    tasks = [asyncio.ensure_future(client) for client in work]
    await asyncio.sleep(SECONDS)
    stopping.set()
    await asyncio.gather(*tasks)
    store.rng = random.Random(1)
    problems: list[str] = await workload.check(judge)
    return [problem for problem in problems if "never saw the last write" not in problem]


@virtual
@pytest.mark.parametrize("kind", [Registers, Writers, Counters, Queues, Locks])
async def test_server_that_only_loses_answers_is_right(kind: Callable[..., Any]) -> None:
    """What nobody answered may have been done or not."""
    assert await run(kind, "") == []


@virtual
@pytest.mark.parametrize(
    ("kind", "defect"),
    [
        (Registers, "stale read"),
        (Registers, "lost write"),
        (Writers, "lost write"),
        (Counters, "lost write"),
        (Queues, "lost write"),
        (Queues, "twice"),
        (Locks, "two owners"),
    ],
)
async def test_planted_defect_is_found(kind: Callable[..., Any], defect: str) -> None:
    """By the clients whose promise it breaks."""
    assert await run(kind, defect) != []
