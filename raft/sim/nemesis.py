"""The troubles of the first phase, each at random times of its own."""

from collections.abc import Callable
from functools import partial

from raft.sim.application import Application
from raft.sim.clock import SECOND
from raft.sim.cluster import Cluster
from raft.sim.server import Server
from raft.sim.world import World


class Nemesis:
    """What happens to a cluster until it is told to stop."""

    def __init__(self, world: World, cluster: Cluster, application: Application) -> None:
        """Begin. The application's operators are called up by chance like any trouble."""
        self._world = world
        self._cluster = cluster
        self._application = application
        self._random = world.stream("nemesis")
        self._is_over = False
        options = world.options
        troubles: list[tuple[float, Callable[[], None]]] = [
            (options.partition_seconds, self._partition),
            (options.one_way_seconds, self._block_one_way),
            (options.clog_seconds, self._clog),
            (options.slow_seconds, self._slow),
            (options.eio_seconds, self._break_disk),
            (options.full_seconds, self._fill_disk),
            (options.flip_seconds, self._flip),
            (options.kill_seconds, self._kill),
            (options.power_seconds, self._cut_power),
            (options.blackout_seconds, self._black_out),
            (options.pause_seconds, self._pause),
            (options.change_seconds, self._change),
            (options.transfer_seconds, self._transfer),
            (2.0, self._repair),
        ]
        for seconds, trouble in troubles:
            if seconds > 0:
                self._plan(seconds, trouble)

    def stop(self) -> None:
        """Let nothing happen any more."""
        self._is_over = True

    def _plan(self, seconds: float, trouble: Callable[[], None]) -> None:
        delay = round(self._random.expovariate(1 / seconds) * SECOND)
        self._world.clock.after(delay, partial(self._strike, seconds, trouble))

    def _strike(self, seconds: float, trouble: Callable[[], None]) -> None:
        if not self._is_over:
            trouble()
            self._plan(seconds, trouble)

    def _until_later(self, undo: Callable[[], None], *, most_seconds: float) -> None:
        delay = round(self._random.uniform(0.01, most_seconds) * SECOND)
        self._world.clock.after(delay, lambda: None if self._is_over else undo())

    # ------------------------------------------------------------------------------- network

    def _partition(self) -> None:
        """Cut the servers in two groups, for a while."""
        ids = list(self._cluster.servers)
        group = {server_id for server_id in ids if self._random.random() < 0.5}
        if (leader := self._cluster.leader()) and self._random.random() < 0.5:
            group = {leader.server_id, self._random.choice((leader.server_id, *ids))}
        links = {(a, b) for a in ids for b in ids if (a in group) != (b in group)}
        self._block(links, f"partition {sorted(group)}")

    def _block_one_way(self) -> None:
        """Let one server hear nobody, be heard by nobody, or not by one other."""
        ids = list(self._cluster.servers)
        victim, other = self._random.choice(ids), self._random.choice(ids)
        if (leader := self._cluster.leader()) and self._random.random() < 0.5:
            victim = leader.server_id
        links = self._random.choice(
            (
                {(victim, server_id) for server_id in ids},
                {(server_id, victim) for server_id in ids},
                {(victim, other)},
            )
        )
        self._block(links, f"one-way block {len(links)} at {victim:x}")

    def _block(self, links: set[tuple[int, int]], what: str) -> None:
        self._world.trace(what)
        self._world.count("partitions")
        blocked = self._cluster.network.blocked
        blocked.clear()  # what was cut before is mended
        blocked |= links
        self._until_later(lambda: blocked.difference_update(links), most_seconds=8)

    def _clog(self) -> None:
        """Hold up all messages of a link, which then arrive at once."""
        ids = list(self._cluster.servers)
        link = (self._random.choice(ids), self._random.choice(ids))
        delay = round(self._random.uniform(0.05, 3) * SECOND)
        self._cluster.network.clogged[link] = self._world.clock.now + delay
        self._world.trace(f"clog {link}")
        self._world.count("clogs")

    # --------------------------------------------------------------------------------- disks

    def _slow(self) -> None:
        for process in self._cluster.running():
            if self._random.random() < 0.4:
                seconds = self._random.uniform(0.5, 4)
                process.slow_until = self._world.clock.now + round(seconds * SECOND)
                self._world.count("slow disks")

    def _break_disk(self) -> None:
        """Let the next write or flush of a server fail, which kills it."""
        if server := self._any_running():
            server.disk.is_broken = True
            self._start_later(server)

    def _fill_disk(self) -> None:
        """Leave a server no room, for a while; it must not die of it."""
        if server := self._any_running():
            server.disk.is_full = True
            self._world.count("full disks")

            def make_room() -> None:
                server.disk.is_full = False
                server.start()

            self._until_later(make_room, most_seconds=self._random.choice((3, 20)))

    def _flip(self) -> None:
        """Flip a bit of a server that is down, if a quorum could do without it."""
        cluster = self._cluster
        servers = [
            server
            for server in cluster.servers.values()
            if server.process is None
            and cluster.has_quorum_left(self._world.facts.configuration, besides=server.server_id)
        ]
        if servers:
            server = self._random.choice(servers)
            where = server.disk.flip_bit()
            if where:
                server.is_spoiled = True
                self._world.trace(f"flip {where}")
                self._world.count("bits flipped")

    # ----------------------------------------------------------------------------- processes

    def _kill(self) -> None:
        if server := self._any_running():
            server.stop(power=False)
            self._world.count("kills")
            self._start_later(server)

    def _cut_power(self) -> None:
        if server := self._any_running():
            server.stop(power=True)
            self._world.count("power cuts")
            self._start_later(server)

    def _black_out(self) -> None:
        self._world.count("blackouts")
        for server in self._cluster.servers.values():
            server.stop(power=True)
            self._start_later(server)

    def _pause(self) -> None:
        if server := self._any_running():
            assert server.process is not None, f"{server.server_id:x} does not run"
            seconds = self._random.uniform(0.1, 5)
            server.process.pause(round(seconds * SECOND))
            self._world.trace(f"{server.server_id:x} stands still")
            self._world.count("pauses")

    def _start_later(self, server: Server) -> None:
        def start() -> None:
            server.start()
            if server.process is None and not server.is_gone:
                self._start_later(server)

        self._until_later(start, most_seconds=self._random.choice((0.2, 2, 8)))

    # ----------------------------------------------------------------------------- operators

    def _change(self) -> None:
        """Ask some server, the leader or not, for a change of the configuration."""
        running = self._cluster.running()
        if not running:
            return
        self._application.change(self._random.choice(running), self._random)

    def _transfer(self) -> None:
        if leader := self._cluster.leader():
            self._cluster.transfer(leader, self._random.choice(list(self._cluster.servers)))

    def _repair(self) -> None:
        if found := self._cluster.find_damaged():
            self._application.remove(*found)

    def _any_running(self) -> Server | None:
        """Return the leader's server or any other that runs."""
        running = [it for it in self._cluster.servers.values() if it.process is not None]
        if (leader := self._cluster.leader()) and self._random.random() < 0.4:
            return self._cluster.servers[leader.server_id]
        return self._random.choice(running) if running else None
