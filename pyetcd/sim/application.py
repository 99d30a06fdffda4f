"""A whole cluster of pyetcd as an application of `raft.sim`: members, clients and operators.

`simulate` runs one world. What is checked, and by whom: `ledger.py` judges answers, `watchers.py`
what watches are told, `chronicle.py` that events follow from one another; here, at the end, all
members must hold the same, byte for byte, and have done what they do by themselves.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Final

from pyetcd.cluster import Member as ClusterMember
from pyetcd.member import first_entries
from pyetcd.server.clock import ClusterClock
from pyetcd.sim.accounts import PASSWORDS, ROOT, USERS, Accountant
from pyetcd.sim.clients import Client
from pyetcd.sim.ledger import Entry, Ledger, Session
from pyetcd.sim.member import Member, MemberClock, Site, peer_url
from pyetcd.sim.node import Directory
from pyetcd.sim.options import Load, World
from pyetcd.sim.requests import Request
from pyetcd.sim.watchers import Watcher
from pyetcd.sim.wire import Answer, Call, Credential, json_request
from pyetcd.store import Store
from raft import Entry as LogEntry
from raft.sim import MILLISECOND, SECOND, Cluster, Outcome, Process, Say, Unsafe, simulate
from raft.sim import World as RaftWorld

_MAX_MEMBERS: Final = 5
_NANOSECONDS: Final = 1_000_000_000
# A key is gone so long after its time, once there is a leader.
_EXPIRY_NANOSECONDS: Final = 1 * _NANOSECONDS
# Clocks jump by up to so much.
_JUMP_SECONDS: Final = 20.0


class Etcd:
    """`raft.sim.Application`."""

    def __init__(self, load: Load, world: RaftWorld) -> None:
        self.ledger = Ledger(world, self._settings)
        self.members: dict[int, Member] = {}
        self._world = world
        self._load = load
        self._random = world.stream("etcd")
        self._directory = Directory()
        self._clocks: dict[int, MemberClock] = {}
        # Of every process that there was.
        self._cluster_clocks: list[ClusterClock] = []
        self._machines = count(world.options.servers + 1)
        # All that were ever added.
        self._known: dict[int, ClusterMember] = {}
        self._clients: list[Client] = []
        self._watchers: list[Watcher] = []
        self._accountant: Accountant | None = None
        self._is_calm = False

    # ------------------------------------------------------------------ what raft.sim asks for

    def first_entries(self, voters: tuple[int, ...]) -> list[LogEntry]:
        """See `Application`."""
        for voter in voters:
            member = ClusterMember(voter, f"m{voter:x}", (peer_url(voter),))
            self._known[voter] = member
        return first_entries(self._known.values())

    def make_machine(self, process: Process) -> Member:
        """See `Application`."""
        server_id = process.server_id
        clock = self._clocks.get(server_id)
        if clock is None:
            skew = round(self._load.skew_seconds * _NANOSECONDS)
            clock = MemberClock(self._world, self._random.randint(-skew, skew))
            self._clocks[server_id] = clock
        site = Site(
            *(self._world, self._load, clock, self._directory, self.ledger.chronicle),
            members=list(self._known.values()),
            retire=partial(self._retire, server_id),
            on_added=self._added,
        )
        member = self.members[server_id] = Member(site, process)
        self._cluster_clocks.append(member.server.clock)
        return member

    def start(self, cluster: Cluster) -> None:
        """See `Application`."""
        self._cluster = cluster
        self._directory.blocked = cluster.network.blocked
        world, options = self._world, self._world.options
        credentials: tuple[Credential | None, ...] = (None,)
        if self._load.auth_seconds:
            credentials += tuple((user, word) for user in USERS for word in PASSWORDS)
            self._accountant = Accountant(
                world, self.ledger, self._some_member, self._load.auth_seconds
            )
        self._clients = [
            Client(world, self.ledger, number, self._some_member, credentials)
            for number in range(options.clients)
        ]
        self._watchers = [
            Watcher(world, self.ledger, number, self._some_member)
            for number in range(self._load.watchers)
        ]
        if self._load.jump_seconds:
            self._plan_jump()

    def heal(self) -> None:
        """See `Application`: clocks are not set any more."""
        self._is_calm = True

    def stop(self) -> None:
        """See `Application`."""
        for client in self._clients:
            client.stop()
        for watcher in self._watchers:
            watcher.stop()
        if self._accountant is not None:
            self._accountant.stop()

    def unrest(self, leader: Process) -> str:
        """See `Application`."""
        server = self.members[leader.server_id].server
        for member in server.cluster.in_order():
            if not member.is_started:
                return f"{member.id:x} has not published itself"
        if server.cluster.version is None:
            return "the version is not known"
        expiration = server.store.next_expiration()
        if expiration is not None and expiration + _EXPIRY_NANOSECONDS < server.now():
            return f"a key was to expire at {expiration}, and it is {server.now()}"
        for server_id in leader.core.configuration.servers:
            # What became of some nobody can tell: they are given up at their timeout.
            if self.members[server_id].server.pending.count:
                return f"{server_id:x} has proposals left, and nobody waits"
        return ""

    def probe(self, process: Process) -> "Probe":
        """See `Application`."""
        return Probe(self._world, self.ledger, self.members[process.server_id])

    def verify(self, leader: Process) -> None:
        """See `Application`."""
        own = self.members[leader.server_id]
        state = list(own.capture())
        for server_id in leader.core.configuration.servers:
            member = self.members[server_id]
            member.server.store.check()
            member.server.cluster.check()
            member.server.auth.check()
            if list(member.capture()) != state:
                raise Unsafe(f"the snapshots of {server_id:x} and {leader.server_id:x} differ")
            if member.server.store.watcher_count:
                raise Unsafe(f"{server_id:x} has watchers left, and all clients have gone")
            if member.server.pending.count:
                raise Unsafe(f"{server_id:x} has proposals left, and nobody waits")
        self._verify_store(own.server.store, state)
        self.ledger.check_registers()

    def _verify_store(self, store: Store, state: list[bytes]) -> None:
        chronicle = self.ledger.chronicle
        if store.index != chronicle.last_index:
            raise Unsafe(f"the store is at {store.index}, history at {chronicle.last_index}")
        values = {node.path: node.value for node in store.nodes() if node.value is not None}
        expected = {key: version.value for key, version in chronicle.present.items()}
        if values != expected:
            raise Unsafe(f"the store holds {values}, by its history {expected}")
        restored = Store.restore(state[1:])
        if list(restored.capture().encode()) != state[1:]:
            raise Unsafe("a snapshot that was restored is not the one that was taken")

    # ------------------------------------------------------------------------------ operators

    def change(self, process: Process, rng: Random) -> None:
        """See `Application`: add a member, remove one, or give one another URL."""
        members = self.members[process.server_id].server.cluster.in_order()
        if not members:
            return  # it has only just joined, and knows nobody
        is_small = len(members) < _MAX_MEMBERS
        match rng.randrange(3):
            case 0 if is_small:
                url = peer_url(next(self._machines))
                self._ask(process, "POST", "", f'{{"peerURLs":["{url}"]}}')
            case 1 if len(members) > 1:
                self._remove(process, rng.choice(members).id)
            case _:
                url = peer_url(next(self._machines))
                member = rng.choice(members)
                self._ask(process, "PUT", f"/{member.id:x}", f'{{"peerURLs":["{url}"]}}')

    def remove(self, process: Process, server_id: int) -> None:
        """See `Application`."""
        self._remove(process, server_id)

    def _remove(self, process: Process, server_id: int) -> None:
        """Ask for a removal, if enough undamaged members stay."""
        configuration = self._world.facts.configuration
        servers = self._cluster.servers
        stay = [it for it in configuration.voters if it != server_id]
        lost = [
            it for it in stay if it in servers and (servers[it].is_gone or servers[it].is_spoiled)
        ]
        if stay and 2 * len(lost) < len(stay):
            self._ask(process, "DELETE", f"/{server_id:x}", "")

    def _ask(self, process: Process, method: str, page: str, body: str) -> None:
        def answered(answer: Answer) -> None:
            self._world.count(f"changes of members answered {answer.status}")
            if answer.status not in (201, 204, 401, 404, 409, 410, 500):
                raise Unsafe(f"{method} {page} {body} is answered {answer}")

        delay = self._random.randrange(3 * MILLISECOND)
        call = Call(self._world, delay, on_answer=answered, on_lost=_nothing)
        self._world.trace(f"operator asks {process.server_id:x} {method} {page} {body}")
        target = f"/v2/members{page}"
        self.members[process.server_id].open(call, json_request(method, target, body, ROOT))

    def _added(self, member: ClusterMember) -> None:
        """A member was added: its operator starts it."""
        if member.id not in self._known:
            self._known[member.id] = member
            delay = self._random.randrange(SECOND)
            self._world.clock.after(delay, partial(self._cluster.join, member.id))

    def _retire(self, server_id: int) -> None:
        self._world.count("members retired")
        self._cluster.servers[server_id].retire()

    # ---------------------------------------------------------------------------------- inside

    def _settings(self) -> int:
        return sum(clock.settings for clock in self._cluster_clocks)

    def _some_member(self) -> Member | None:
        running = self._cluster.running()
        return self.members[self._random.choice(running).server_id] if running else None

    def _plan_jump(self) -> None:
        delay = self._random.expovariate(1 / self._load.jump_seconds)
        self._world.clock.after(round(delay * SECOND), self._jump)

    def _jump(self) -> None:
        """Set a clock."""
        if self._is_calm:
            return
        server_id = self._random.choice(sorted(self._clocks))
        seconds = self._random.uniform(-_JUMP_SECONDS, _JUMP_SECONDS)
        self._clocks[server_id].jump(round(seconds * _NANOSECONDS))
        self._world.trace(f"the clock of {server_id:x} jumps by {seconds:.3f} s")
        self._world.count("clock jumps")
        self._plan_jump()


class Probe:
    """`raft.sim.Probe`: a write and a quorum read through one member's API."""

    def __init__(self, world: RaftWorld, ledger: Ledger, member: Member) -> None:
        self.process = member.process
        self._answered = 0
        self._ledger = ledger
        session = Session(member)
        key = f"/p/{member.process.server_id:x}"
        for request in (
            Request("PUT", key, {"value": ledger.new_value()}, ROOT),
            Request("GET", "/p", {"quorum": "true", "recursive": "true"}, ROOT),
        ):
            entry = ledger.ask(request, session)
            judge: Callable[[Answer], None] = partial(self._judge, entry)
            call = Call(world, 0, on_answer=judge, on_lost=_nothing)
            member.open(call, request.encode())

    @property
    def is_answered(self) -> bool:
        """Whether both were answered."""
        return self._answered == 2

    def _judge(self, entry: Entry, answer: Answer) -> None:
        if self._ledger.answer(entry, answer) != "not answered":
            self._answered += 1


def simulate_world(world: World, say: Say | None = None) -> Outcome:
    """Run one world and say what became of it."""
    return simulate(world.options, say, partial(Etcd, world.load))


def _nothing() -> None:
    """For who asks again anyway."""
