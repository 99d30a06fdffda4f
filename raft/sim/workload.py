"""Clients that put, swap and read registers, and remember what they were told.

Every client does one thing at a time, at any server. A client that hears nothing for too long goes
on: then nobody knows whether it was done. A request that was refused must never have been done.
"""

import random
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from raft.confchange import ADD_VOTER, Change, ConfigChange, encode_change
from raft.entry import CONFIG, Entry
from raft.errors import ProposalDropped
from raft.sim.clock import SECOND
from raft.sim.cluster import Cluster
from raft.sim.errors import Unsafe
from raft.sim.linearizability import PUT, READ, SWAP, Operation, require_linearizable
from raft.sim.machine import Answer, Registers, Request, encode
from raft.sim.operators import Operators
from raft.sim.process import Process
from raft.sim.world import World

_TIMEOUT_US: Final = 3 * SECOND


class Workload:
    """All clients, and the histories of all registers: `raft.sim.application.Application`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.stream("workload")
        self._moments = count(1)
        self._request_ids = count(1)
        self._histories: dict[int, list[Operation]] = {
            key: [] for key in range(1, world.options.keys + 1)
        }
        self._waiting: dict[int, _Waiting] = {}
        self._refused: set[int] = set()
        self._acknowledged: set[int] = set()
        self._cluster: Cluster | None = None
        self._operators: Operators | None = None
        self.is_over = False

    def first_entries(self, voters: tuple[int, ...]) -> list[Entry]:
        """See `Application`: one entry names all voters."""
        change = ConfigChange(tuple(Change(ADD_VOTER, voter) for voter in voters))
        return [Entry(1, 1, CONFIG, encode_change(change))]

    def make_machine(self, process: Process) -> Registers:
        """See `Application`."""
        return Registers(partial(self._applied, process), self._rejected)

    def start(self, cluster: Cluster) -> None:
        """See `Application`."""
        self._cluster = cluster
        self._operators = Operators(self._world, cluster)
        for client in range(self._world.options.clients):
            self._rest(client)

    def change(self, process: Process, rng: random.Random) -> None:
        """See `Application`."""
        assert self._operators is not None, "operators act before they were started"
        self._operators.change(process, rng)

    def remove(self, process: Process, server_id: int) -> None:
        """See `Application`."""
        assert self._operators is not None, "operators act before they were started"
        self._operators.remove(process, server_id)

    def heal(self) -> None:
        """See `Application`: there are no other troubles."""

    def stop(self) -> None:
        """See `Application`."""
        self.is_over = True

    def unrest(self, leader: Process) -> str:
        """See `Application`: registers have nothing else to do."""
        return ""

    def probe(self, process: Process) -> "Probe":
        """See `Application`: put and read at this very server."""
        probe = Probe(process)
        process.read_index(probe.read)
        request_id = next(self._request_ids)
        operation = Operation(PUT, next(self._moments), value=request_id)
        try:
            process.propose(encode(Request(request_id, PUT, 1, request_id, 0)))
        except ProposalDropped:
            return probe
        self._histories[1].append(operation)
        self._waiting[request_id] = _Waiting(process, operation, 1, probe)
        return probe

    def verify(self, process: Process) -> None:
        """See `Application`: nothing acknowledged is missing, and every history is possible."""
        machine = process.machine
        assert isinstance(machine, Registers), f"{machine} has no registers"
        lost = sorted(self._acknowledged - machine.seen)
        if lost:
            raise Unsafe(f"acknowledged, and lost: {lost}")
        require_linearizable(self._histories, partial(self._world.count, "histories undecided"))

    # ------------------------------------------------------------------------------- a client

    def _rest(self, client: int) -> None:
        delay = round(self._random.expovariate(1 / self._world.options.think_us))
        self._world.clock.after(delay, partial(self._act, client))

    def _act(self, client: int) -> None:
        assert self._cluster is not None, "clients act before they were started"
        if self.is_over:
            return
        running = self._cluster.running()
        if not running:
            self._rest(client)
            return
        process = self._random.choice(running)
        key = self._random.randint(1, self._world.options.keys)
        if self._random.random() < 0.4:
            self._read(client, process, key)
        else:
            self._change(client, process, key)

    def _read(self, client: int, process: Process, key: int) -> None:
        facts = self._world.facts
        operation = Operation(READ, next(self._moments))
        # Whatever was committed by now must be seen (thesis 6.4).
        least_index = facts.last_committed
        is_open = [True]

        def done() -> None:
            applied_index = process.core.applied_index
            if applied_index < least_index:
                raise Unsafe(
                    f"{process.server_id:x} reads at {applied_index}; "
                    f"{least_index} was committed when it was asked"
                )
            if is_open[0]:
                is_open[0] = False
                machine = process.machine
                assert isinstance(machine, Registers), f"{machine} has no registers"
                operation.found = machine.values.get(key, 0)
                operation.answered = next(self._moments)
                self._histories[key].append(operation)
                self._world.count("reads")
                self._world.trace(f"client {client} reads {key}: {operation.found}")
                self._rest(client)

        def give_up() -> None:
            if is_open[0]:
                is_open[0] = False
                self._world.count("reads not answered")
                self._rest(client)

        process.read_index(done)
        self._world.clock.after(_TIMEOUT_US, give_up)

    def _change(self, client: int, process: Process, key: int) -> None:
        rng, history = self._random, self._histories[key]
        request_id = next(self._request_ids)
        kind, expected = PUT, 0
        if rng.random() < 0.3:
            kind = SWAP
            expected = history[-1].value or history[-1].found or 0 if history else 0
        # Mostly small; some larger than a sector, and some that look like what a crash leaves.
        filling = b""
        if rng.random() < (0.3 if self._world.options.flip_seconds else 0.1):
            size = rng.randrange(3000)
            filling = rng.choice((bytes(size), rng.randbytes(size)))
        operation = Operation(kind, next(self._moments), value=request_id, expected=expected)
        try:
            process.propose(encode(Request(request_id, kind, key, request_id, expected, filling)))
        except ProposalDropped:
            self._refused.add(request_id)
            self._world.count("changes refused")
            self._rest(client)
            return
        history.append(operation)
        self._waiting[request_id] = _Waiting(process, operation, key, client)
        self._world.clock.after(_TIMEOUT_US, partial(self._give_up, request_id))

    def _give_up(self, request_id: int) -> None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self._world.count("changes not answered")
            self._go_on(waiting)

    def _applied(self, process: Process, request_id: int, answer: Answer) -> None:
        if request_id in self._refused:
            raise Unsafe(f"request {request_id} was refused, and is applied")
        waiting = self._waiting.get(request_id)
        if waiting is None or waiting.process is not process:
            return
        del self._waiting[request_id]
        operation = waiting.operation
        operation.answered = next(self._moments)
        if operation.kind == SWAP:
            operation.found = answer.found
        self._acknowledged.add(request_id)
        if isinstance(waiting.asker, Probe):
            waiting.asker.has_put = True
        self._world.count("changes")
        self._world.trace(f"request {request_id} is done at {answer.raft_index}")
        self._go_on(waiting)

    def _rejected(self, request_id: int) -> None:
        self._refused.add(request_id)
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            self._histories[waiting.key].remove(waiting.operation)
            self._world.count("changes refused")
            self._go_on(waiting)

    def _go_on(self, waiting: "_Waiting") -> None:
        if isinstance(waiting.asker, int):
            self._rest(waiting.asker)


class _Waiting(NamedTuple):
    """A request under way."""

    process: Process
    operation: Operation
    key: int
    asker: "int | Probe"  # a client


class Probe:
    """One put and one read at one server, to see whether it answers.

    Its put belongs to the history like any other.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.has_read = False
        self.has_put = False

    @property
    def is_answered(self) -> bool:
        """Whether both were answered."""
        return self.has_read and self.has_put

    def read(self) -> None:
        """The read was answered."""
        self.has_read = True
