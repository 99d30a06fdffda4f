"""The clients of one round: each kind does its work, remembers what it was told, and is judged.

Every client is a task that asks one thing at a time, at any member. Keys are those of the round
alone, below `/soak/ROUND`, so that each history is short enough to be searched.
"""

import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from raft.sim.linearizability import NEVER, PUT, READ, SWAP, Operation
from scripts.soak import checks
from scripts.soak.checks import SECOND_NS, Hold, Job, Lease, Segment
from scripts.soak.http import Answer, Connection, NoAnswer, NotSent, key_path

REGISTERS: Final = 4
CLIENTS_PER_REGISTER: Final = 3
WRITERS: Final = 4
WATCHERS: Final = 3
LOCK_TTL_SECONDS: Final = 4
KEY_TTL_SECONDS: Final = 2
# Keys that have no TTL are removed so long after; watchers get as long to catch up.
SETTLE_SECONDS: Final = 15.0
KEY_NOT_FOUND: Final = 100
COMPARE_FAILED: Final = 101
EVENT_INDEX_CLEARED: Final = 401

# Who can be asked now.
Hosts = Callable[[], list[str]]


class Workload(Protocol):
    """One kind of client."""

    name: str

    def clients(self) -> list[Any]:
        """The coroutines of its clients; they return soon after `Client.stopping` is set."""

    async def check(self, client: "Client") -> list[str]:
        """Judge, when all is over and the cluster is well; ask it what is needed for that."""


class Client:
    """Asks any member; one request at a time."""

    def __init__(self, hosts: Hosts, rng: random.Random, stopping: asyncio.Event) -> None:
        self.random = rng
        self.stopping = stopping
        self._hosts = hosts
        self._connections: dict[str, Connection] = {}

    async def ask(
        self,
        method: str,
        path: str,
        form: dict[str, object] | None = None,
        *,
        body: object = None,
        seconds: float = 3.0,
    ) -> Answer:
        """Ask somebody. Raises NoAnswer, also for answers that leave open what was done."""
        host = self.random.choice(self._hosts())
        connection = self._connections.setdefault(host, Connection(host))
        try:
            answer = await connection.request(method, path, form, body, seconds)
        except NotSent:
            await self.pause(0.05)
            raise
        if answer.status >= 500 or answer.status in (401, 403):
            raise NoAnswer(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer

    async def stream(self, path: str) -> tuple[Answer, Any]:
        """Begin a stream on a connection of its own, which ends with us. Raises NoAnswer."""
        connection = Connection(self.random.choice(self._hosts()))
        self._connections["stream"] = connection
        return await connection.stream(path)

    async def close_when_over(self) -> None:
        """End a stream that nothing comes from any more."""
        await self.stopping.wait()
        self.close()

    async def insist(self, method: str, path: str, form: dict[str, object] | None = None) -> Answer:
        """Ask until there is an answer; for what may be done twice."""
        while True:
            try:
                return await self.ask(method, path, form)
            except NoAnswer:
                await asyncio.sleep(0.1)

    async def pause(self, seconds: float) -> None:
        """Let others work for about so long."""
        await asyncio.sleep(seconds * self.random.uniform(0.5, 1.5))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


class Registers:
    """Quorum reads, writes and compare-and-swap: each key is linearizable."""

    name = "registers"

    def __init__(self, root: str, make: Callable[[], Client]) -> None:
        self._keys = [f"{root}/register{number}" for number in range(REGISTERS)]
        self._make = make
        self._values = itertools.count(1)
        self.histories: dict[str, list[Operation]] = {key: [] for key in self._keys}

    def clients(self) -> list[Any]:
        return [self._run(key) for key in self._keys for _ in range(CLIENTS_PER_REGISTER)]

    async def prepare(self, client: Client) -> None:
        """Every register begins with 0."""
        for key in self._keys:
            await client.insist("PUT", key_path(key), {"value": "0"})

    async def check(self, _: Client) -> list[str]:
        return checks.registers(self.histories)

    async def _run(self, key: str) -> None:
        client, seen = self._make(), 0
        while not client.stopping.is_set():
            kind = client.random.choice((READ, READ, PUT, SWAP))
            operation = Operation(kind, time.monotonic_ns(), value=next(self._values))
            if kind == SWAP:
                operation.expected = seen
            self.histories[key].append(operation)
            try:
                answer = await self._ask(client, key, operation)
            except NotSent:
                self.histories[key].remove(operation)
            except NoAnswer:
                pass
            else:
                operation.answered = time.monotonic_ns()
                seen = _found(answer, operation)
            await client.pause(0.02)
        client.close()

    async def _ask(self, client: Client, key: str, operation: Operation) -> Answer:
        if operation.kind == READ:
            return await client.ask("GET", key_path(key, quorum="true"))
        form: dict[str, object] = {"value": operation.value}
        if operation.kind == SWAP:
            form["prevValue"] = operation.expected
        return await client.ask("PUT", key_path(key), form)


def _found(answer: Answer, operation: Operation) -> int:
    """Put what was found into the operation, and return what is there after it."""
    fields = answer.json()
    if fields.get("errorCode") == COMPARE_FAILED:
        # The cause shows both values: "[expected != found]".
        operation.found = int(re.findall(r"\d+", fields["cause"])[1])
        return operation.found
    if operation.kind == READ:
        operation.found = int(fields["node"]["value"])
        return operation.found
    operation.found = int(fields["prevNode"]["value"])
    return operation.value


class Writers:
    """Writes of keys of their own, which watchers watch: none is lost, none unseen."""

    name = "writes and watches"

    def __init__(self, root: str, make: Callable[[], Client]) -> None:
        self._root = f"{root}/writes"
        self._make = make
        self.acknowledged: dict[str, str] = {}
        self.by_index: dict[int, tuple[str, str]] = {}
        self.segments: list[Segment] = []
        # Set when the last write is over, and the watchers are to see it.
        self._last_index = 0
        self._caught_up = 0

    def clients(self) -> list[Any]:
        return [
            *(self._write(number) for number in range(WRITERS)),
            *(self._poll() for _ in range(WATCHERS)),
            *(self._stream() for _ in range(WATCHERS)),
        ]

    async def check(self, client: Client) -> list[str]:
        answer = await client.insist("GET", key_path(self._root, recursive="true", quorum="true"))
        nodes = answer.json().get("node", {}).get("nodes", [])
        found = {node["key"]: node["value"] for node in nodes}
        problems = checks.lost_writes(self.acknowledged, found)
        problems += checks.watches(self.segments, self.by_index)
        if self._caught_up < WATCHERS:
            problems.append(f"{WATCHERS - self._caught_up} watchers never saw the last write")
        return problems

    async def _write(self, number: int) -> None:
        client = self._make()
        for turn in itertools.count():
            if client.stopping.is_set():
                break
            key, value = f"{self._root}/{number}-{turn}", f"{turn}"
            try:
                answer = await client.ask("PUT", key_path(key), {"value": value})
            except NoAnswer:
                continue
            if answer.status == 201:
                self.acknowledged[key] = value
                index = answer.json()["node"]["modifiedIndex"]
                self.by_index[index] = (key, value)
                self._last_index = max(self._last_index, index)
            await client.pause(0.02)
        client.close()

    async def _poll(self) -> None:
        """One event per request, each from where the last one ended."""
        client = self._make()
        segment = Segment((await client.insist("GET", "/v2/keys/")).etcd_index)
        self.segments.append(segment)
        until = float("inf")
        while True:
            if client.stopping.is_set():
                if segment.last >= self._last_index:
                    self._caught_up += 1
                    break
                until = min(until, time.monotonic() + SETTLE_SECONDS)
                if time.monotonic() > until:
                    break
            path = key_path(self._root, wait="true", recursive="true", waitIndex=segment.last + 1)
            try:
                answer = await client.ask("GET", path, seconds=1.0)
                fields = answer.json()
            except (NoAnswer, json.JSONDecodeError):
                continue
            if fields.get("errorCode") == EVENT_INDEX_CLEARED:
                segment = Segment(answer.etcd_index)
                self.segments.append(segment)
            else:
                segment.events.append(_event(fields))
        client.close()

    async def _stream(self) -> None:
        """All that comes while the connection lasts."""
        client = self._make()
        closing = asyncio.ensure_future(client.close_when_over())
        path = key_path(self._root, wait="true", recursive="true", stream="true")
        while not client.stopping.is_set():
            try:
                head, chunks = await client.stream(path)
                if head.status == 200:
                    segment = Segment(head.etcd_index)
                    self.segments.append(segment)
                    async for chunk in chunks:
                        segment.events += [_event(json.loads(line)) for line in chunk.splitlines()]
            except NoAnswer:
                pass
            await client.pause(0.05)
        await closing


def _event(fields: dict[str, Any]) -> tuple[int, str, str | None]:
    node = fields["node"]
    return node["modifiedIndex"], node["key"], node.get("value")


class Counters:
    """Increments by compare-and-swap of the index that was read."""

    name = "counter"

    def __init__(self, root: str, make: Callable[[], Client]) -> None:
        self._key = f"{root}/counter"
        self._make = make
        self.acknowledged = 0
        self.unknown = 0

    def clients(self) -> list[Any]:
        return [self._run() for _ in range(2)]

    async def check(self, client: Client) -> list[str]:
        answer = await client.insist("GET", key_path(self._key, quorum="true"))
        final = int(answer.json()["node"]["value"]) if answer.status == 200 else 0
        return checks.counter(self.acknowledged, self.unknown, final)

    async def _run(self) -> None:
        client = self._make()
        while not client.stopping.is_set():
            try:
                read = await client.ask("GET", key_path(self._key, quorum="true"))
                form: dict[str, object] = {"value": 1, "prevExist": "false"}
                if read.status == 200:
                    node = read.json()["node"]
                    form = {"value": int(node["value"]) + 1, "prevIndex": node["modifiedIndex"]}
            except NoAnswer:
                continue
            try:
                answer = await client.ask("PUT", key_path(self._key), form)
                self.acknowledged += answer.status in (200, 201)
            except NotSent:
                pass
            except NoAnswer:
                self.unknown += 1
            await client.pause(0.05)
        client.close()


class Queues:
    """Jobs that are put into an in-order directory."""

    name = "queue"

    def __init__(self, root: str, make: Callable[[], Client]) -> None:
        self._key = f"{root}/queue"
        self._make = make
        self.jobs: list[Job] = []

    def clients(self) -> list[Any]:
        return [self._run(number) for number in range(2)]

    async def check(self, client: Client) -> list[str]:
        path = key_path(self._key, recursive="true", sorted="true", quorum="true")
        nodes = (await client.insist("GET", path)).json().get("node", {}).get("nodes", [])
        return checks.queue(self.jobs, [(node["key"], node["value"]) for node in nodes])

    async def _run(self, number: int) -> None:
        client = self._make()
        for turn in itertools.count():
            if client.stopping.is_set():
                break
            job = Job(f"{number}-{turn}", time.monotonic_ns())
            self.jobs.append(job)
            try:
                answer = await client.ask("POST", key_path(self._key), {"value": job.value})
                job.answered = time.monotonic_ns()
                job.key = answer.json()["node"]["key"]
            except NoAnswer:
                pass
            await client.pause(0.05)
        client.close()


class Locks:
    """One lock that several want: a key that only one of them can create, with a TTL."""

    name = "lock"

    def __init__(self, root: str, make: Callable[[], Client]) -> None:
        self._key = f"{root}/lock"
        self._make = make
        self.holds: list[Hold] = []

    def clients(self) -> list[Any]:
        return [self._run(f"holder{number}") for number in range(3)]

    async def check(self, _: Client) -> list[str]:
        return checks.locks(self.holds)

    async def _run(self, name: str) -> None:
        client = self._make()
        for turn in itertools.count():
            if client.stopping.is_set():
                break
            await client.pause(0.05)
            owner = f"{name}-{turn}"
            form: dict[str, object] = {
                "value": owner,
                "ttl": LOCK_TTL_SECONDS,
                "prevExist": "false",
            }
            asked = time.monotonic_ns()
            try:
                answer = await client.ask("PUT", key_path(self._key), form)
            except NoAnswer:
                continue  # if it is ours, it will expire
            if answer.status != 201:
                continue
            hold = Hold(owner, asked, time.monotonic_ns(), asked + LOCK_TTL_SECONDS * SECOND_NS)
            self.holds.append(hold)
            await client.pause(0.1)
            hold.ended = min(hold.ended, time.monotonic_ns())
            try:
                await client.ask("DELETE", key_path(self._key, prevValue=owner))
            except NoAnswer:
                pass
        client.close()


class Leases:
    """Keys that are refreshed for a while, and then must go; never before."""

    name = "leases"

    def __init__(self, root: str, make: Callable[[], Client]) -> None:
        self._root = f"{root}/lease"
        self._make = make
        self.leases: list[Lease] = []
        # How early a key may be gone.
        self.tolerance_ns = checks.CLOCK_NS

    def clients(self) -> list[Any]:
        return [self._run(number) for number in range(4)]

    async def check(self, client: Client) -> list[str]:
        problems = checks.leases(self.leases, self.tolerance_ns)
        deadline = time.monotonic() + KEY_TTL_SECONDS + SETTLE_SECONDS
        while True:
            answer = await client.insist("GET", key_path(self._root, quorum="true"))
            left = answer.json().get("node", {}).get("nodes", [])
            if not left or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        return problems + [f"{node['key']} does not expire" for node in left]

    async def _run(self, number: int) -> None:
        client = self._make()
        for turn in itertools.count():
            if client.stopping.is_set():
                break
            lease = Lease(f"{self._root}/{number}-{turn}", KEY_TTL_SECONDS * SECOND_NS, 0)
            form: dict[str, object] = {"value": "1", "ttl": KEY_TTL_SECONDS}
            if await self._refresh(client, lease, form):
                self.leases.append(lease)
                form = {"ttl": KEY_TTL_SECONDS, "refresh": "true", "prevExist": "true"}
                for _ in range(client.random.randrange(3)):
                    await client.pause(KEY_TTL_SECONDS / 2)
                    await self._refresh(client, lease, form)
                await self._wait_gone(client, lease)
            await client.pause(0.1)
        client.close()

    async def _refresh(self, client: Client, lease: Lease, form: dict[str, object]) -> bool:
        """Ask for a new life; note what is known of it."""
        asked = time.monotonic_ns()
        try:
            answer = await client.ask("PUT", key_path(lease.key), form)
        except NoAnswer:
            lease.not_answered(asked)
            return False
        if answer.status in (200, 201):
            lease.answered(asked)
        elif answer.status >= 500:
            lease.not_answered(asked)
        elif answer.json()["errorCode"] == KEY_NOT_FOUND:
            lease.gone = min(lease.gone, time.monotonic_ns())
        return answer.status in (200, 201)

    async def _wait_gone(self, client: Client, lease: Lease) -> None:
        while lease.gone == NEVER and not client.stopping.is_set():
            try:
                answer = await client.ask("GET", key_path(lease.key, quorum="true"))
            except NoAnswer:
                continue
            if answer.status == 404:
                lease.gone = time.monotonic_ns()
            await client.pause(0.1)
