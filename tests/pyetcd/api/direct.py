"""The handlers of keys in front of a store: what is proposed is applied at once.

Unless `holds` is set: then requests wait until the test lets them go on.
"""

from collections.abc import Callable, Sequence

from pyetcd.api.keys import PREFIX, Keys
from pyetcd.cluster import Cluster
from pyetcd.command import Command, encode
from pyetcd.httpd import Route, Router
from pyetcd.server.apply import Applier, Done, Waiter
from pyetcd.server.pending import ReadDone
from pyetcd.store import Store
from raft import NORMAL, Entry
from tests.http import Response, Wire, request
from tests.pyetcd.server.applied import Notes

# 2016-01-26, in nanoseconds since the epoch.
NOW = 1_453_748_462_000_000_000
# Of requests that wait for the time.
LAST_SWEEP = 28
FORM = "Content-Type: application/x-www-form-urlencoded"


class DirectServer:
    """What the handlers need of a server."""

    def __init__(self) -> None:
        self.store = Store()
        self.applier = Applier(self.store, Cluster(0xC1), Notes())
        self.cluster_id = 0xC1
        self.term = 3
        self.time = NOW
        self.commands: list[Command] = []
        # Of the newest command.
        self.last_sweep = 0
        self.holds = False
        self.held: list[tuple[Command, Done]] = []
        self.readers: list[ReadDone] = []
        self.knows = True
        self.learners: list[ReadDone] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []

    @property
    def raft_index(self) -> int:
        return self.applier.raft_index

    def now(self) -> int:
        return self.time

    def knows_time(self) -> bool:
        return self.knows

    def learn_time(self, done: ReadDone, last_sweep: int = 0) -> int:
        self.learners.append(done)
        return last_sweep or LAST_SWEEP

    def propose(self, command: Command, done: Done, last_sweep: int = 0) -> None:
        self.commands.append(command)
        self.last_sweep = last_sweep
        if self.holds:
            self.held.append((command, done))
        else:
            self.apply(command, done)

    def apply(self, command: Command, done: Done) -> None:
        self.applier.waiters[1] = Waiter(done, 0, NORMAL, b"", 0, 0)
        data = encode(1, self.time, command)
        self.applier.apply([Entry(self.raft_index + 1, self.term, NORMAL, data)])

    def read_index(self, done: ReadDone) -> None:
        self.readers.append(done)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        self.timers.append((seconds, callback))


class Client:
    """A user of one member."""

    def __init__(self) -> None:
        self.server = DirectServer()
        self.keys = Keys(self.server)
        handlers = {
            b"GET": self.keys.get,
            b"HEAD": self.keys.get,
            b"PUT": self.keys.put,
            b"POST": self.keys.post,
            b"DELETE": self.keys.delete,
        }
        prefix = PREFIX.encode()
        self.router = Router([Route(prefix + b"/", handlers), Route(prefix, handlers)])

    @property
    def store(self) -> Store:
        return self.server.store

    def begin(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Sequence[str] = (FORM,),
        version: str = "1.1",
    ) -> Wire:
        """Send a request below `/v2/keys` over a connection of its own."""
        wire = Wire(self.router)
        return wire.send(request(method, PREFIX + target, body, headers, version))

    def ask(
        self, method: str, target: str, body: bytes = b"", *, headers: Sequence[str] = (FORM,)
    ) -> Response:
        """Send a request and return its answer."""
        wire = self.begin(method, target, body, headers=headers)
        assert not wire.crashes, wire.crashes
        return wire.response(method)

    def put(self, key: str, value: str = "v") -> Response:
        """Set a key."""
        return self.ask("PUT", key, b"value=" + value.encode())

    def command(self, method: str, target: str, body: bytes = b"", header: str = FORM) -> Command:
        """The command that a request leads to; it is not carried out."""
        self.server.holds = True
        self.begin(method, target, body, headers=(header,))
        command, _ = self.server.held.pop()
        return command

    def run_timers(self) -> list[float]:
        """Call back everything that is due by now, and say how late it was asked for."""
        timers, self.server.timers = self.server.timers, []
        for _, callback in timers:
            callback()
        return [seconds for seconds, _ in timers]
