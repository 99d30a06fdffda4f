"""Requests that wait for the log: proposals until they are applied here, reads until confirmed.

A result finds its requester by request id, never by log index: an entry can be overwritten, and
another may take its index. There is no task, future or timer per request: one slow timer gives up
those that have waited too long.

A proposal may be lost with a leader. When is it safe to make it again? It is of the term in which
it was made, or in no log at all: raft passes it on within that term only, and a leader takes none
of another term. Terms in a log never fall, so that once an entry of a later term is applied here
(each leader begins with one, thesis 6.4), whatever was proposed before it and is not applied can
never be. It is proposed anew then, and the client has only waited a little longer. After a
snapshot from the leader nobody can tell any more what it contains: those requests are left to
time out, and their clients are told that the outcome is unknown.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from pyetcd.cluster import RequestIds
from pyetcd.command import Command, encode, request_id_of
from pyetcd.errors import EtcdError, RaftInternal
from pyetcd.server.apply import Done, Waiter
from raft import (
    CONFIG,
    NORMAL,
    ConfigChange,
    Node,
    RaftError,
    Rejected,
    Stopped,
    decode_change,
    encode_change,
)
from raft.transport import Transport

SWEEP_SECONDS: Final = 0.25
# Proposals that no leader would take are offered again this often, until they time out.
RETRY_SECONDS: Final = 0.05

# In place of the term of a proposal: it is in no log, and in `_held`; or nobody can tell.
_HELD: Final = 1 << 64
_IN_DOUBT: Final = _HELD + 1

ReadDone = Callable[[EtcdError | None], None]


class _Reader(NamedTuple):
    done: ReadDone
    last_sweep: int


class Pending:
    """Everybody who waits for the log on this member.

    Invariants:
      1. Whoever proposes or reads is called back exactly once, within the request timeout.
      2. A proposal is in `_held` only if it is in no log; then its waiter says so.
    """

    def __init__(
        self,
        waiters: dict[int, Waiter],
        *,
        member_id: int,
        clock: Callable[[], int],
        timeout_seconds: float,
    ) -> None:
        """`waiters` is where the applier looks for them."""
        self._loop = asyncio.get_running_loop()
        self._waiters = waiters
        self._member_id = member_id
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._timeout_sweeps = round(timeout_seconds / SWEEP_SECONDS)
        self._readers: dict[int, _Reader] = {}
        self._ids = RequestIds(member_id, now_milliseconds=clock() // 1_000_000)
        self._held: list[tuple[int, bytes]] = []
        self._sweeps = 0
        self._leader_lost_at = 0.0
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._stopping = False

    def attach(self, node: Node, transport: Transport) -> None:
        """Give it what proposals go to."""
        self._node = node
        self._transport = transport

    def start(self) -> None:
        """Begin to count time."""
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def stop(self) -> None:
        """Answer whoever still waits."""
        self._stopping = True
        for timer in (self._sweep_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        stopped = RaftInternal("etcdserver: server stopped")
        for waiter in self._take_waiters(None):
            waiter.done(stopped)
        for reader in self._take_readers(None):
            reader.done(stopped)

    # ------------------------------------------------------------------------------- requests

    def propose(self, command: Command, done: Done) -> None:
        """Have a command applied by all members, then call `done` with its result.

        `done` gets the store's event, the error it was refused with, or RaftInternal when the
        cluster did not answer in time: then it may or may not happen later.
        """
        request_id = self._ids.next()
        data = encode(request_id, self._clock(), command)
        term = self._offer(NORMAL, data)
        last_sweep = self._sweeps + self._timeout_sweeps
        self._waiters[request_id] = Waiter(done, last_sweep, NORMAL, data, term)

    def propose_change(self, make: Callable[[int], ConfigChange], done: Done) -> None:
        """The same for a membership change, which `make` makes for a request id."""
        request_id = self._ids.next()
        data = encode_change(make(request_id))
        term = self._offer(CONFIG, data)
        last_sweep = self._sweeps + self._timeout_sweeps
        self._waiters[request_id] = Waiter(done, last_sweep, CONFIG, data, term)

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when the store holds all that any member has acknowledged before now."""
        request_id = self._ids.next()
        self._readers[request_id] = _Reader(done, self._sweeps + self._timeout_sweeps)
        try:
            self._node.read_index(partial(self._confirm_read, request_id))
        except Stopped:
            pass  # answered by `stop`

    # -------------------------------------------------------------------------- what raft tells

    def rejected(self, rejected: Rejected) -> None:
        """A proposal of ours came back: it is in no log."""
        request_id = _request_id(rejected.kind, rejected.data)
        waiter = self._waiters.get(request_id)
        if waiter is not None:
            self._waiters[request_id] = waiter._replace(term=_HELD)
            self._hold(rejected.kind, rejected.data)

    def term_began(self, term: int) -> None:
        """The first entry of this term is applied: older proposals that are not never will be."""
        lost = [
            (request_id, waiter)
            for request_id, waiter in self._waiters.items()
            if waiter.term < term
        ]
        for request_id, waiter in lost:
            again = self._offer(waiter.kind, waiter.data)
            self._waiters[request_id] = waiter._replace(term=again)

    def doubt_all(self) -> None:
        """The state has come as a snapshot: what it contains of our proposals is not known."""
        for request_id, waiter in self._waiters.items():
            if waiter.term != _HELD:
                self._waiters[request_id] = waiter._replace(term=_IN_DOUBT)

    def leader_changed(self, leader: int) -> None:
        """There is another leader, or none (0)."""
        if leader == 0:
            self._leader_lost_at = self._loop.time()
        elif self._held:
            self._retry()

    # ---------------------------------------------------------------------------------- inside

    def _offer(self, kind: int, data: bytes) -> int:
        """Propose, or hold; return the term that the proposal is of."""
        node = self._node
        core = node.core
        leader = core.leader
        if leader != self._member_id and self._transport.active_since(leader) is None:
            # Whatever would be sent to the leader now would be lost.
            self._hold(kind, data)
            return _HELD
        term = core.term
        try:
            if kind == NORMAL:
                node.propose(data)
            else:
                node.propose_config(decode_change(data))
        except RaftError:
            self._hold(kind, data)
            return _HELD
        return term

    def _hold(self, kind: int, data: bytes) -> None:
        """Keep a proposal that is in no log, and offer it again soon."""
        self._held.append((kind, data))
        if self._retry_timer is None and not self._stopping:
            self._retry_timer = self._loop.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        held, self._held = self._held, []
        for kind, data in held:
            request_id = _request_id(kind, data)
            waiter = self._waiters.get(request_id)
            if waiter is not None:  # else it was given up
                self._waiters[request_id] = waiter._replace(term=self._offer(kind, data))

    def _confirm_read(self, request_id: int) -> None:
        reader = self._readers.pop(request_id, None)
        if reader is not None:
            reader.done(None)

    def _sweep(self) -> None:
        """Give up whoever has waited too long."""
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        self._sweeps += 1
        for waiter in self._take_waiters(self._sweeps):
            waiter.done(self._timed_out())
        for reader in self._take_readers(self._sweeps):
            reader.done(self._timed_out())

    def _take_waiters(self, sweep: int | None) -> list[Waiter]:
        """Remove those whose time was up by this sweep, or all."""
        due: list[int] = []
        # All wait equally long, so that those who came first are first.
        for request_id, waiter in self._waiters.items():
            if sweep is not None and waiter.last_sweep > sweep:
                break
            due.append(request_id)
        return [self._waiters.pop(request_id) for request_id in due]

    def _take_readers(self, sweep: int | None) -> list[_Reader]:
        due: list[int] = []
        for request_id, reader in self._readers.items():
            if sweep is not None and reader.last_sweep > sweep:
                break
            due.append(request_id)
        return [self._readers.pop(request_id) for request_id in due]

    def _timed_out(self) -> RaftInternal:
        began = self._loop.time() - self._timeout_seconds
        cause = "etcdserver: request timed out"
        if self._node.core.leader == 0:
            cause += ", possibly due to connection lost"
        elif began < self._leader_lost_at:
            cause += ", possibly due to previous leader failure"
        return RaftInternal(cause)


def _request_id(kind: int, data: bytes) -> int:
    return request_id_of(decode_change(data).context if kind == CONFIG else data)
