"""The cluster of a soak run: real members, each in a namespace of its own, and what is asked of it.

Members are started on a disk that can be made to fail (`scripts.soak.start`). One that must not
come back as it was is replaced: thrown out, and added anew with an empty directory.
"""

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from scripts.soak.disk import Plan
from scripts.soak.http import Connection, NoAnswer
from scripts.soak.names import PASSWORD, PEER_PORT, PORT, USER
from scripts.soak.namespaces import CLIENTS, Network, address
from tests.cluster.processes import Member as Process
from tests.cluster.processes import without_ttl

# The module that is a member, and its first arguments; `tests/cluster/broken_soak.py` has another.
ENTRY_POINT: Final = ["scripts.soak.start"]
FIRST_NODE: Final = 11
# Short, so that a round sees elections and snapshots.
FLAGS: Final = [
    *("-heartbeat-interval", "50"),
    *("-election-timeout", "500"),
    *("-snapshot-count", "1000"),
]
# How long a healthy majority may need to serve again, on a busy machine.
RECOVERY_SECONDS: Final = 40.0
# "" where it is not installed: no faults of the clock then.
LIBFAKETIME: Final = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")

T = TypeVar("T")


class Unhealthy(Exception):
    """The cluster does not do in time what it should."""


class Member:
    """A place in the network, and the process that is there."""

    def __init__(self, node: int, directory: Path, network: Network) -> None:
        self.node = node
        self.host = address(node)
        self.directory = directory
        self.plan_path = directory / f"disk{node}.json"
        self.clock_path = directory / f"clock{node}"
        self._network = network
        self._generation = 0
        self.process = self._make_process()

    @property
    def name(self) -> str:
        return self.process.name

    def renew(self) -> None:
        """Be a new member at the old place: another name, another directory."""
        self._generation += 1
        self.process = self._make_process()

    def _make_process(self) -> Process:
        process = Process(f"m{self.node}-{self._generation}", self.directory)
        process.client_url = f"http://{self.host}:{PORT}"
        process.peer_url = f"http://{self.host}:{PEER_PORT}"
        command = [sys.executable, "-m", *ENTRY_POINT, str(self.plan_path)]
        process.command = self._network.command(self.node, command)
        process.environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
        return process

    def set_clock(self, how: str) -> None:
        """Have the clock go otherwise; libfaketime's words, "+0" for as it should.

        It has to be told when it starts that its clock may: see `fake_clock`.
        """
        fresh = self.clock_path.with_suffix(".new")
        fresh.write_text(how + "\n")
        fresh.rename(self.clock_path)

    def fake_clock(self) -> None:
        """From its next start on, have a clock of its own."""
        self.set_clock("+0")
        self.process.environment |= {
            "LD_PRELOAD": LIBFAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(self.clock_path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def real_clock(self) -> None:
        """From its next start on, have everybody's clock."""
        self.process.environment.pop("LD_PRELOAD", None)

    def set_disk(self, plan: Plan | None) -> None:
        """Have the disk fail in some way, or in none."""
        if plan is None:
            self.plan_path.unlink(missing_ok=True)
        else:
            plan.write(self.plan_path)

    def alarming(self) -> list[str]:
        """Lines of the log that no fault explains: stack traces are of bugs only."""
        lines = self.process.log.splitlines()
        return [line for line in lines if re.search(r"AssertionError|Unhandled|was never", line)]


class Cluster:
    """`size` members; as a context manager running on entry, and gone on exit."""

    def __init__(self, directory: Path, network: Network, size: int) -> None:
        self.network = network
        self.members = [Member(FIRST_NODE + it, directory, network) for it in range(size)]
        everybody = [it.process for it in self.members]
        for member in self.members:
            self._flag(member, everybody, "new")

    @property
    def nodes(self) -> list[int]:
        return [member.node for member in self.members]

    def pids(self) -> set[int]:
        """Of the processes that are there."""
        processes = (member.process.process for member in self.members)
        return {process.pid for process in processes if process is not None}

    def running(self) -> list[Member]:
        return [member for member in self.members if member.process.running]

    def start(self) -> None:
        """Start whoever does not run. To be called in the main thread, whose death ends them."""
        for member in self.members:
            if not member.process.running:
                member.process.start()

    def close(self) -> None:
        for member in self.members:
            member.process.close()

    # -------------------------------------------------------------------------- what they are asked

    async def ask(
        self,
        member: Member,
        method: str,
        path: str,
        form: dict[str, object] | None = None,
        body: object = None,
        seconds: float = 2.0,
    ) -> Any:
        """Ask a member; the answer's JSON, None without one. Raises NoAnswer."""
        connection = Connection(member.host)
        try:
            answer = await connection.request(method, path, form, body, seconds)
        finally:
            connection.close()
        if answer.status >= 500:
            raise NoAnswer(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        return answer.json() if answer.body else None

    async def find_leader(self) -> Member | None:
        """Who says that it leads; the newest of them, should an old one not know yet."""
        found: list[tuple[int, Member]] = []
        for member in self.running():
            try:
                if (await self.ask(member, "GET", "/v2/stats/self", seconds=0.5))[
                    "state"
                ] == "StateLeader":
                    found.append((member.node, member))
            except NoAnswer:
                continue
        return found[-1][1] if found else None

    async def leader(self) -> Member:
        """Wait for one that leads. Raises Unhealthy."""
        return await self.until(self.find_leader, "a leader")

    async def follower(self) -> Member:
        """One that runs and does not lead."""
        leader = await self.leader()
        return next(member for member in self.running() if member is not leader)

    async def recover(self) -> None:
        """Wait until all members serve, and take writes. Raises Unhealthy."""
        for member in self.members:
            await self.until(partial(self.serves, member), f"{member.name} to serve")

    async def until(
        self,
        question: Callable[[], Awaitable[T | None]],
        what: str,
        seconds: float = RECOVERY_SECONDS,
    ) -> T:
        """Ask until the answer is true. Raises Unhealthy."""
        deadline = time.monotonic() + seconds
        while True:
            answer = await question()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise Unhealthy(f"waited {seconds:.0f} s for {what}")
            await asyncio.sleep(0.05)

    async def serves(self, member: Member) -> bool:
        if not member.process.running:
            code = member.process.process.returncode if member.process.process else None
            raise Unhealthy(f"{member.name} ended with {code}\n{member.process.obituary()}")
        try:
            path = "/v2/keys/soak-health"
            await self.ask(member, "PUT", path, {"value": member.name})
            return True
        except (NoAnswer, ValueError):
            return False

    async def ids(self) -> dict[str, str]:
        """The ids of the members by their peer URLs, as anybody tells them."""

        async def question() -> dict[str, str] | None:
            for member in self.running():
                try:
                    members = (await self.ask(member, "GET", "/v2/members"))["members"]
                except NoAnswer:
                    continue
                return {it["peerURLs"][0]: it["id"] for it in members}
            return None

        return await self.until(question, "the list of members")

    async def agree(self) -> list[str]:
        """Wait until all members have the same keys; the problems if they do not come to that."""
        states: list[object] = []

        async def question() -> bool:
            try:
                states[:] = [await self._contents(member) for member in self.running()]
            except (NoAnswer, ValueError, KeyError):
                return False
            return all(state == states[0] for state in states)

        try:
            await self.until(question, "the members to hold the same keys")
        except Unhealthy as error:
            return [f"{error}: {_difference(states)}"]
        return []

    async def _contents(self, member: Member) -> object:
        connection = Connection(member.host)
        try:
            path = "/v2/keys/?recursive=true&sorted=true"
            answer = await connection.request("GET", path, seconds=10.0)
        finally:
            connection.close()
        return answer.etcd_index, without_ttl(answer.json()["node"])

    async def enable_auth(self) -> None:
        """Have every request need a password from now on."""
        first = self.members[0]
        user = {"user": USER, "password": PASSWORD}
        await self.ask(first, "PUT", f"/v2/auth/users/{USER}", body=user)
        await self.ask(first, "PUT", "/v2/auth/enable")

    # ---------------------------------------------------------------------------- who belongs to it

    async def remove(self, member: Member) -> None:
        """Throw a member out; anybody else is asked."""
        ids = await self.ids()

        async def question() -> bool:
            for other in self.running():
                if other is not member:
                    try:
                        path = f"/v2/members/{ids[member.process.peer_url]}"
                        await self.ask(other, "DELETE", path, seconds=5.0)
                    except (NoAnswer, ValueError):
                        continue
            return member.process.peer_url not in await self.ids()

        await self.until(question, f"{member.name} to be removed")

    async def replace(self, member: Member) -> None:
        """Throw a member out, dead or alive, and start a new one in its place."""
        await self.remove(member)
        await asyncio.to_thread(member.process.close)
        await self.join(member)

    async def join(self, member: Member) -> None:
        """Start a new member at the place of one that was removed."""
        member.renew()

        async def question() -> bool:
            for other in self.running():
                try:
                    body = {"peerURLs": [member.process.peer_url]}
                    await self.ask(other, "POST", "/v2/members", body=body, seconds=5.0)
                except (NoAnswer, ValueError):
                    continue
                break
            return member.process.peer_url in await self.ids()

        await self.until(question, f"{member.name} to be added")
        others = [it.process for it in self.members]
        known = await self.ids()
        self._flag(member, [it for it in others if it.peer_url in known], "existing")
        member.process.start()

    def _flag(self, member: Member, everybody: list[Process], state: str) -> None:
        urls = ",".join(f"{process.name}={process.peer_url}" for process in everybody)
        member.process.flags = [
            *member.process.own_flags(),
            *("-initial-cluster-token", "soak"),
            *("-initial-cluster", urls),
            *("-initial-cluster-state", state),
            *FLAGS,
        ]


def _difference(states: list[object]) -> str:
    return " | ".join(str(state)[:300] for state in states)


__all__ = ["CLIENTS", "Cluster", "Member", "Unhealthy"]
