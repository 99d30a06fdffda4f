"""One round: clients work, something goes wrong, it is put right, and everything is checked."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from raft.sim.linearizability import NEVER, READ
from scripts.soak import checks
from scripts.soak.faults import Fault, Scene
from scripts.soak.members import Cluster
from scripts.soak.namespaces import Network
from scripts.soak.workloads import (
    Client,
    Counters,
    Leases,
    Locks,
    Queues,
    Registers,
    Workload,
    Writers,
)

QUIET_SECONDS: Final = 0.7
# How long the clients of a round without faults work.
CALM_SECONDS: Final = 8.0
# Keys of earlier rounds are removed, so that the store does not grow.
ROUNDS_KEPT: Final = 2
PAGE_BYTES: Final = 4096


@dataclass(slots=True)
class Totals:
    """What a run has shown."""

    rounds: int = 0
    faults: int = 0
    acknowledged: int = 0
    unknown: int = 0
    quorum_reads: int = 0
    histories: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)
    # How many of them each kind of client has found.
    wrong: Counter[str] = field(default_factory=Counter)


class Round:
    """The clients of a round, and their judgement."""

    def __init__(self, cluster: Cluster, network: Network, seed: int, number: int) -> None:
        self.seed = seed
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.root = f"/soak/{number}"
        self.scene = Scene(cluster, network, random.Random(f"{seed}/{number}/fault"), self.root)
        self._cluster = cluster
        self._stopping = asyncio.Event()
        everybody = self._make_client
        self.registers = Registers(self.root, everybody)
        self.writers = Writers(self.root, everybody)
        self.counters = Counters(self.root, everybody)
        self.queues = Queues(self.root, everybody)
        self.locks = Locks(self.root, everybody)
        self.leases = Leases(self.root, everybody)
        self.workloads: tuple[Workload, ...] = (
            *(self.registers, self.writers, self.counters),
            *(self.queues, self.locks, self.leases),
        )

    def _make_client(self) -> Client:
        def hosts() -> list[str]:
            # Also those that are down: clients do not know.
            return [member.host for member in self._cluster.members]

        return Client(hosts, random.Random(self.random.random()), self._stopping)

    async def run(self, faults: list[Fault], totals: Totals) -> list[str]:
        """Return the problems. Raises Unhealthy."""
        judge = self._make_client()
        before = self._cluster.pids()
        await self.registers.prepare(judge)
        async with asyncio.TaskGroup() as group:
            for workload in self.workloads:
                for client in workload.clients():
                    group.create_task(client)
            try:
                await asyncio.sleep(QUIET_SECONDS)
                if not faults:
                    await asyncio.sleep(CALM_SECONDS)
                await asyncio.gather(*(fault.run(self.scene) for fault in faults))
                await self._heal()
                await asyncio.sleep(QUIET_SECONDS)
            finally:
                self._stopping.set()
        if 2 * len(before & self._cluster.pids()) < len(before):
            self.leases.tolerance_ns = checks.WALLS_NS
        problems = list(self.scene.problems)
        for workload in self.workloads:
            found = await workload.check(judge)
            problems += [f"{workload.name}: {problem}" for problem in found]
            totals.wrong[workload.name] += len(found)
        problems += await self._cluster.agree()
        for member in self._cluster.members:
            problems += [f"{member.name} logs {line}" for line in member.alarming()]
        await self._clean(judge)
        judge.close()
        self._add_up(faults, totals)
        return problems

    async def _heal(self) -> None:
        for member in self._cluster.members:
            member.set_disk(None)
        self.scene.network.heal()
        self._cluster.start()
        await self._cluster.recover()

    async def _clean(self, judge: Client) -> None:
        old = self.number - ROUNDS_KEPT
        if old > 0:
            await judge.insist("DELETE", f"/v2/keys/soak/{old}?recursive=true")

    def _add_up(self, faults: list[Fault], totals: Totals) -> None:
        operations = [it for history in self.registers.histories.values() for it in history]
        writes = [it for it in operations if it.kind != READ]
        totals.rounds += 1
        totals.faults += len(faults)
        totals.acknowledged += (
            len(self.writers.acknowledged)
            + sum(bool(job.key) for job in self.queues.jobs)
            + self.counters.acknowledged
            + sum(it.answered != NEVER for it in writes)
        )
        totals.unknown += sum(it.answered == NEVER for it in writes) + self.counters.unknown
        totals.unknown += sum(not job.key for job in self.queues.jobs)
        totals.quorum_reads += sum(it.kind == READ and it.answered != NEVER for it in operations)
        totals.histories += len(self.registers.histories) + len(self.writers.segments)
        totals.events += sum(len(segment.events) for segment in self.writers.segments)


@dataclass(frozen=True, slots=True)
class Usage:
    """What each member that runs takes."""

    megabytes: list[int]
    descriptors: list[int]

    def __str__(self) -> str:
        megabytes, descriptors = (
            " ".join(map(str, numbers)) for numbers in (self.megabytes, self.descriptors)
        )
        return f"{megabytes} MB, {descriptors} descriptors"


def usage(cluster: Cluster) -> Usage:
    """Look at the members' processes."""
    megabytes, descriptors = [], []
    for member in cluster.running():
        process = member.process.process
        assert process is not None, "it runs"
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        megabytes.append(pages * PAGE_BYTES // 1_000_000)
        descriptors.append(len(member.process.descriptors()))
    return Usage(megabytes, descriptors)
