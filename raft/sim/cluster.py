"""All servers of one world, with the network between them, and who looks after them."""

from collections.abc import Callable

from raft.entry import Configuration, Entry
from raft.errors import NotLeader, ProposalDropped
from raft.sim.network import Network
from raft.sim.process import Machine, Process
from raft.sim.server import Server
from raft.sim.world import World


class Cluster:
    """The servers, by id. Ids are never used for another server."""

    def __init__(
        self,
        world: World,
        machine: Callable[[Process], Machine],
        first_entries: Callable[[tuple[int, ...]], list[Entry]],
    ) -> None:
        """`machine` makes the state machine of each process, `first_entries` the log of voters."""
        self._world = world
        self._machine = machine
        self.network = Network(world, self.find)
        self.servers: dict[int, Server] = {}
        voters = tuple(range(1, world.options.servers + 1))
        for server_id in voters:
            self._add(server_id, first_entries(voters))

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
        """Have a server that can be added to the configuration, if it was not there before."""
        if server_id not in self.servers:
            self._add(server_id, [])
            self.servers[server_id].start()

    def heal(self) -> None:
        """End all that the world does to the servers."""
        self._world.is_healed = True
        self.network.heal()
        for server in self.servers.values():
            server.disk.is_full = server.disk.is_broken = False
            if (process := server.process) is not None:
                process.resume()
                process.slow_until = 0
        self.start_all()

    def has_quorum_left(self, configuration: Configuration, *, besides: int = 0) -> bool:
        """Whether enough voters are undamaged, also if one more were damaged."""
        for voters in (configuration.voters, configuration.voters_outgoing):
            lost = sum(self._is_lost(voter) or voter == besides for voter in voters)
            if voters and 2 * lost >= len(voters):
                return False
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

    def find_damaged(self) -> tuple[Process, int] | None:
        """Return the leader and a damaged server of its configuration, if there are both."""
        leader = self.leader()
        if leader is None:
            return None
        damaged = (it for it in leader.core.configuration.servers if self._is_damaged(it))
        server_id = next(damaged, 0)
        return (leader, server_id) if server_id else None

    def _is_lost(self, server_id: int) -> bool:
        server = self.servers.get(server_id)
        return server is not None and (server.is_damaged or server.is_spoiled)

    def _is_damaged(self, server_id: int) -> bool:
        server = self.servers.get(server_id)
        return server is not None and server.is_damaged

    def _add(self, server_id: int, first_entries: list[Entry]) -> None:
        self.servers[server_id] = Server(
            self._world, server_id, first_entries, self._machine, self.network.transmit
        )
