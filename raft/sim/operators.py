"""Operators of a cluster of registers: they ask any server for changes of the configuration."""

import random
from typing import Final

from raft.confchange import ADD_LEARNER, ADD_VOTER, REMOVE, Change, ConfigChange
from raft.errors import ProposalDropped
from raft.sim.cluster import Cluster
from raft.sim.process import Process
from raft.sim.world import World

_MAX_VOTERS: Final = 5


class Operators:
    """Those who add and remove servers, one or two at a time."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self._world = world
        self._cluster = cluster
        last_id = max(cluster.servers)
        # Servers that are not there yet.
        self._spares = [last_id + 1 + i for i in range(world.options.spares)]

    def change(self, process: Process, rng: random.Random) -> None:
        """Ask for some change."""
        configuration = process.core.configuration
        changes = [self._draw(configuration.servers, rng)]
        if rng.random() < 0.3:
            changes.append(self._draw(configuration.servers, rng))
        for change in changes:
            if change.kind != REMOVE and change.server_id in self._spares:
                self._spares.remove(change.server_id)
                self._cluster.join(change.server_id)
        if len(configuration.voters) <= _MAX_VOTERS:
            self._propose(process, *changes)

    def remove(self, process: Process, server_id: int) -> None:
        """Ask for the removal of a server."""
        self._propose(process, Change(REMOVE, server_id))

    def _draw(self, servers: tuple[int, ...], rng: random.Random) -> Change:
        pool = [*self._cluster.servers, *self._spares[:1]]
        kind = rng.choice((ADD_VOTER, ADD_VOTER, ADD_LEARNER, REMOVE))
        return Change(kind, rng.choice(servers if kind == REMOVE and servers else pool))

    def _propose(self, process: Process, *changes: Change) -> None:
        try:
            process.propose_config(ConfigChange(changes))
        except ProposalDropped:
            return
        self._world.trace(f"{process.server_id:x} proposes {changes}")
        self._world.count("configuration changes proposed")
