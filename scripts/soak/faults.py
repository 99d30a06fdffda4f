"""What a fault is, and where it happens. `catalogue.py` has all of them.

A fault is a coroutine: it does harm, lets the clients work for a while, and undoes what it can.
Everything it chooses comes from the scene's random numbers, hence from the seed.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from scripts.soak.members import Cluster, Member
from scripts.soak.namespaces import Network


@dataclass(slots=True)
class Scene:
    """One round, as a fault sees it."""

    cluster: Cluster
    network: Network
    random: random.Random
    # Of things that only this round needs.
    root: str
    # What has been done, for the report.
    notes: list[str] = field(default_factory=list)
    # What the fault itself has found to be wrong.
    problems: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def hold(self, least: float = 1.5, most: float = 3.0) -> None:
        """Let it last."""
        await asyncio.sleep(self.random.uniform(least, most))

    def choose(self) -> Member:
        """Any member that runs."""
        return self.random.choice(self.cluster.running())

    def majority(self) -> list[Member]:
        """More than half of the members."""
        members = self.cluster.members
        return self.random.sample(members, len(members) // 2 + 1)


Run = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of harm."""

    name: str
    run: Run
    # Whether it may happen beside others: it stops no member for good, and changes no membership.
    mixes: bool = False
    # Whether it takes longer than a short run allows.
    long: bool = False
