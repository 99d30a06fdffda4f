"""All servers of one world, with the network between them, and who looks after them."""

from collections.abc import Callable

from raft.confchange import REMOVE, Change, ConfigChange
from raft.entry import Configuration
from raft.errors import NotLeader, ProposalDropped
from raft.sim.network import Network
from raft.sim.process import Machine, Process
from raft.sim.server import Server
from raft.sim.world import World


class Cluster:
    """The servers, by id. Ids are never used for another server."""

    def __init__(self, world: World, machine: Callable[[Process], Machine]) -> None:
        """`machine` makes the state machine of each process."""
        self._world = world
        self._machine = machine
        self.network = Network(world, self.find)
        self.servers: dict[int, Server] = {}
        voters = tuple(range(1, world.options.servers + 1))
        for server_id in voters:
            self._add(server_id, voters)
        # Not yet made.
        self.spares = [voters[-1] + 1 + i for i in range(world.options.spares)]

    def find(self, server_id: int) -> Process | None:
        """Return what runs on a server."""
        server = self.servers.get(server_id)
        return server.process if server is not None else None

    def running(self) -> list[Process]:
        """Return all processes, in the order of ids."""
        return [server.process for server in self.servers.values() if server.process is not None]

    def leader(self) -> Process | None:
        """Return the leader of the latest term, as far as anybody leads."""
        leaders = [process for process in self.running() if process.core.role == "leader"]
        return max(leaders, key=lambda process: process.core.term, default=None)

    def start_all(self) -> None:
        """Start whatever does not run."""
        for server in list(self.servers.values()):
            server.start()

    def join(self, server_id: int) -> None:
        """Have a server that can be added to the configuration."""
        if server_id in self.spares:
            self.spares.remove(server_id)
            self._add(server_id, ())
            self.servers[server_id].start()

    def heal(self) -> None:
        """End all that the world does to the servers."""
        self._world.is_healed = True
        self.network.heal()
        for server in self.servers.values():
            server.disk.is_full = server.disk.is_broken = False
            if server.process is not None:
                server.process.paused_until = server.process.slow_until = 0
        self.start_all()

    def has_quorum_left(self, configuration: Configuration, *, besides: int = 0) -> bool:
        """Whether enough voters are undamaged, also if one more were damaged."""
        for voters in (configuration.voters, configuration.voters_outgoing):
            lost = sum(self._is_lost(voter) or voter == besides for voter in voters)
            if voters and 2 * lost >= len(voters):
                return False
        return True

    def propose_config(self, process: Process, *changes: Change) -> bool:
        """Propose a change that leaves a quorum of undamaged servers; whether it was taken."""
        try:
            process.propose_config(ConfigChange(changes))
        except ProposalDropped:
            return False
        self._world.trace(f"{process.server_id:x} proposes {changes}")
        self._world.count("configuration changes proposed")
        return True

    def transfer(self, process: Process, transferee: int) -> None:
        """Ask for a transfer of leadership."""
        try:
            process.core.transfer_leadership(transferee)
        except (NotLeader, ProposalDropped):
            return
        process.arm()
        self._world.trace(f"{process.server_id:x} transfers to {transferee:x}")
        self._world.count("transfers")

    def remove_damaged(self) -> None:
        """Have damaged servers leave the configuration, as an operator would."""
        leader = self.leader()
        if leader is None:
            return
        for server_id in leader.core.configuration.servers:
            if self.servers[server_id].is_damaged:
                self.propose_config(leader, Change(REMOVE, server_id))
                return

    def _is_lost(self, server_id: int) -> bool:
        server = self.servers.get(server_id)
        return server is not None and (server.is_damaged or server.is_spoiled)

    def _add(self, server_id: int, voters: tuple[int, ...]) -> None:
        self.servers[server_id] = Server(
            self._world, server_id, voters, self._machine, self.network.transmit
        )
