"""One simulated member: the real server, its applier and its whole client API, without sockets.

`Member` is the state machine of a process of `raft.sim`, and what `pyetcd.member` is elsewhere: it
puts the parts together. Its clock is its own: apart from the others', and it may jump.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, get_args

from pyetcd import api
from pyetcd.cluster import Cluster
from pyetcd.cluster import Member as ClusterMember
from pyetcd.command import NEED_PERMISSION, KeyCommand, decode
from pyetcd.config import Config, parse
from pyetcd.httpd import Listener, Router
from pyetcd.server.clock import ClusterClock
from pyetcd.server.server import Server
from pyetcd.sim.chronicle import Chronicle
from pyetcd.sim.fingerprint import Fingerprint
from pyetcd.sim.loop import ProcessLoop, running
from pyetcd.sim.node import Directory, SimulatedNode, SimulatedPeers
from pyetcd.sim.options import Load
from pyetcd.sim.rights import Rights, hash_of
from pyetcd.sim.wire import Call
from raft import NORMAL, ConfigChange, Configuration, Entry, Rejected, SnapshotMeta
from raft.sim import MILLISECOND, SECOND, Process, World

CLUSTER_ID: Final = 0xC1
# 2016-01-26, in nanoseconds since the epoch.
_EPOCH: Final = 1_453_748_462_000_000_000
_NANOSECONDS: Final = 1_000_000_000
_HASHING_US: Final = 3 * MILLISECOND
_AUTH_COMMANDS: Final = NEED_PERMISSION - frozenset(get_args(KeyCommand))


@dataclass(slots=True)
class MemberClock:
    """One machine's clock: virtual time, and how wrong it is."""

    world: World
    # Nanoseconds ahead.
    offset: int = 0

    def now(self) -> int:
        """Nanoseconds since the epoch."""
        return _EPOCH + self.world.clock.now * (_NANOSECONDS // SECOND) + self.offset

    def steady(self) -> int:
        """What every process counts by itself, and nobody sets."""
        return self.world.clock.now * (_NANOSECONDS // SECOND)

    def jump(self, nanoseconds: int) -> None:
        """Be set, forward or back."""
        self.offset += nanoseconds


@dataclass(slots=True)
class Site:
    """What a member finds when it starts."""

    world: World
    load: Load
    clock: MemberClock
    directory: Directory
    chronicle: Chronicle
    # Those that its flags name.
    members: list[ClusterMember]
    # It was removed, and ends for good.
    retire: Callable[[], None]
    # A member was added somewhere.
    on_added: Callable[[ClusterMember], None]


class Member:
    """A running member: `raft.sim.Machine` for its process."""

    def __init__(self, site: Site, process: Process) -> None:
        self.process = process
        self.clock = site.clock
        self._site = site
        self._is_open = False
        self._crash: BaseException | None = None
        # Open connections, in the order of their making.
        self._calls: dict[Call, None] = {}
        # What is left out is never called.
        loop = ProcessLoop(site.world, process)  # type: ignore[abstract]
        peers = SimulatedPeers(process, site.directory)
        site.directory.running[process.server_id] = (peers, loop.time())
        with running(loop):
            self.server = Server(
                _config(site, process.server_id),
                process.server_id,
                f"m{process.server_id:x}",
                Cluster(CLUSTER_ID),
                clock=ClusterClock(site.clock.now, site.clock.steady),
                on_removed=site.retire,
            )
            self.server.attach_transport(peers)
            peers.attach(self.server)
            for member in site.members:
                self.server.on_member_added(member)
            self.server.attach_node(SimulatedNode(process, self.server.on_leadership))
            table = api.routes(self.server, passwords=SlowPasswords(process))
            self._listener = Listener(
                Router(table), clock=lambda: site.clock.now() / _NANOSECONDS, on_crash=self._crashed
            )
        self.applier = self.server.applier
        self._fingerprint = Fingerprint(self.applier)
        process.on_end = self._ended
        process.later(0, self._start)

    @property
    def etcd_index(self) -> int:
        """The index of its store."""
        return self.server.store.index

    # ------------------------------------------------------------------------------- clients

    def open(self, call: Call, data: bytes) -> None:
        """Take a connection and the request on it, a little later."""
        self._calls[call] = None
        self.process.later(call.delay_us, partial(self._accept, call, data))

    def close(self, call: Call) -> None:
        """The client goes; the server hears of it, if it still runs."""
        if not self.process.ended:
            self.process.later(0, partial(self._hang_up, call))

    def _accept(self, call: Call, data: bytes) -> None:
        if not self._is_open:
            call.lose_later()
            return
        protocol = self._listener.connect()
        call.connect(protocol)
        protocol.data_received(data)

    def _hang_up(self, call: Call) -> None:
        self._calls.pop(call, None)
        call.hang_up()

    def _ended(self) -> None:
        self._site.directory.running.pop(self.process.server_id, None)
        for call in self._calls:
            call.lose_later()

    def _crashed(self, error: BaseException) -> None:
        """A handler has failed: the process would die, and so does the run."""
        self._crash = error
        self.process.later(0, self._die)

    def _die(self) -> None:
        assert self._crash is not None, "nothing has crashed"
        raise self._crash

    # ------------------------------------------------------------------------------ its start

    def _start(self) -> None:
        """Take part; a member that is alone serves nobody before its log is all committed."""
        if self.process.core.configuration.voters == (self.process.server_id,):
            self.process.read_index(self._open_doors)
            self.process.campaign()
        else:
            self._open_doors()

    def _open_doors(self) -> None:
        self._is_open = True
        self.server.start()

    # ------------------------------------------------------------------ raft's state machine

    def apply(self, entries: list[Entry]) -> None:
        """See `raft.StateMachine`. What changes auth ends a batch, for the chronicle's sake."""
        first = 0
        for position, entry in enumerate(entries, start=1):
            if _changes_auth(entry):
                self._apply(entries[first:position])
                first = position
        if first < len(entries):
            self._apply(entries[first:])

    def _apply(self, entries: list[Entry]) -> None:
        revision = self.applier.auth.revision
        self.applier.apply(entries)
        has_changed = self.applier.auth.revision != revision
        self._learn(Rights.of(self.applier.auth) if has_changed else None)

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        """See `raft.StateMachine`."""
        before = set(self.applier.cluster.members)
        is_valid = self.applier.apply_config(entry, change)
        for member in self.applier.cluster.in_order():
            if member.id not in before:
                self._site.on_added(member)
        self._learn(None)
        return is_valid

    def configured(self, configuration: Configuration) -> None:
        """See `raft.StateMachine`."""
        self.applier.configured(configuration)

    def capture(self) -> Iterator[bytes]:
        """See `raft.StateMachine`."""
        return self.applier.capture()

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """See `raft.StateMachine`."""
        self.applier.restore(meta, chunks)
        self._fingerprint.restored()

    def reject(self, rejected: Rejected) -> None:
        """See `raft.StateMachine`."""
        self.applier.reject(rejected)

    def fingerprint(self) -> int:
        """See `raft.sim.Machine`."""
        return self._fingerprint.take()

    def _learn(self, rights: Rights | None) -> None:
        self._site.chronicle.learn(self.server.store, rights)


class SlowPasswords:
    """`pyetcd.api.passwords.Passwords` that can be read; they take their time as bcrypt does."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def hash(self, password: bytes, done: Callable[[str], None]) -> None:
        """See `Passwords`."""
        self._process.later(_HASHING_US, lambda: done(hash_of(password.decode())))

    def check(
        self, password: bytes, stored: str, done: Callable[[bool], None]
    ) -> Callable[[], object]:
        """See `Passwords`."""
        is_wanted = [True]

        def tell() -> None:
            if is_wanted:
                done(hash_of(password.decode()) == stored)

        self._process.later(_HASHING_US, tell)
        return is_wanted.clear


def peer_url(number: int) -> str:
    """Return the peer URL of the machine of this number."""
    return f"http://10.0.0.{number}:2380"


def _changes_auth(entry: Entry) -> bool:
    return entry.kind == NORMAL and type(decode(entry.data).command) in _AUTH_COMMANDS


def _config(site: Site, server_id: int) -> Config:
    options = site.world.options
    arguments = ["-name", f"m{server_id:x}", "-data-dir", "/nowhere"]
    arguments += ["-advertise-client-urls", f"http://m{server_id:x}:2379"]
    arguments += ["-snapshot-count", str(site.load.snapshot_count)]
    tick_milliseconds = options.tick_us // MILLISECOND
    return replace(
        parse(arguments, {}),
        heartbeat_milliseconds=tick_milliseconds * options.heartbeat_ticks,
        election_milliseconds=tick_milliseconds * options.election_ticks,
        strict_reconfig_check=site.load.strict_reconfig_check,
    )
