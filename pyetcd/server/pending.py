"""Requests that wait for the log: proposals until they are applied here, reads until confirmed.

A result finds its requester by request id, never by log index: an entry can be overwritten, and
another may take its index. There is no task, future or timer per request: one slow timer gives up
those that have waited too long.

A proposal may be lost with a leader. When is it safe to make it again? It is of the term in which
it was made, or in no log at all: raft passes it on within that term only, and a leader takes none
of another term. Terms in a log never fall, so that once an entry of a later term is applied here
(each leader begins with one, thesis 6.4), whatever was proposed before it and is not applied can
never be. It is proposed anew then, under another request id, so that a rejection of the old one
that comes late is not taken for one of the new. The client has only waited a little longer. After a
snapshot from the leader nobody can tell any more what it contains: those requests are left to
time out, and their clients are told that the outcome is unknown.

But a command that goes by the clock of the leader under which it was made is never proposed in a
later term: the end of a key is an end by that clock only. It is given back as Overtaken.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, TypeVar

from pyetcd.command import (
    Command,
    Overtaken,
    Request,
    decode,
    decode_member_change,
    encode,
    encode_member_change,
    is_of_its_time,
    request_id_of,
)
from pyetcd.errors import EtcdError, RaftInternal
from pyetcd.server.apply import Done, Result, Waiter
from pyetcd.server.request_ids import RequestIds
from pyetcd.server.surroundings import Peers, RaftNode
from raft import (
    CONFIG,
    NO_ROOM,
    NORMAL,
    ConfigChange,
    Durations,
    RaftError,
    Rejected,
    Stopped,
    decode_change,
    encode_change,
)

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 0.25
# Proposals that no leader would take are offered again this often, until they time out.
RETRY_SECONDS: Final = 0.05

# In place of the term of a proposal: it is in no log, and in `_held`; or nobody can tell.
_HELD: Final = 1 << 64
_IN_DOUBT: Final = _HELD + 1
# In place of a sweep: later than any.
_FOREVER: Final = 1 << 64

ReadDone = Callable[[EtcdError | None], None]


class _Reader(NamedTuple):
    done: ReadDone
    last_sweep: int


W = TypeVar("W", Waiter, _Reader)


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
        # How long proposals took, of a sample: a clock for each would cost all of them.
        self.durations = Durations()
        # Proposals that were given up.
        self.failed = 0
        self._sample_due = True
        self._waiters = waiters
        self._member_id = member_id
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._timeout_sweeps = round(timeout_seconds / SWEEP_SECONDS)
        self._readers: dict[int, _Reader] = {}
        self._ids = RequestIds(member_id, now_milliseconds=clock() // 1_000_000)
        self._held: list[tuple[int, bytes]] = []
        # How often it was looked for whoever had waited too long: the clock of `last_sweep`.
        self.sweeps = 0
        self._leader_lost_at = 0.0
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._stopping = False
        # Why nobody is answered any more.
        self._ended: RaftInternal | None = None

    def attach(self, node: RaftNode, transport: Peers) -> None:
        """Give it what proposals go to."""
        self._node = node
        self._transport = transport

    def start(self) -> None:
        """Begin to count time."""
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    @property
    def count(self) -> int:
        """How many proposals wait."""
        return len(self._waiters)

    def stop(self) -> None:
        """Answer whoever still waits."""
        self._stopping = True
        for timer in (self._sweep_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        self.end("etcdserver: server stopped")

    def end(self, cause: str) -> None:
        """Tell whoever waits, and whoever comes, that the log will not be heard of again."""
        self._ended = ended = RaftInternal(cause)
        for waiter in _take_due(self._waiters, _FOREVER):
            waiter.done(ended)
        for reader in _take_due(self._readers, _FOREVER):
            reader.done(ended)

    # ------------------------------------------------------------------------------- requests

    def last_sweep(self) -> int:
        """Return the sweep that gives up a request which comes now."""
        return self.sweeps + self._timeout_sweeps

    def propose(
        self, command: Command, done: Done, auth_revision: int, last_sweep: int = 0
    ) -> None:
        """Have a command applied by all members, then call `done` with its result.

        `done` gets the store's event, the error it was refused with, or RaftInternal when the
        cluster did not answer in time: then it may or may not happen later. Of a full disk it is
        told at once, and nothing has happened or will. A request that has waited before, or is
        made anew after Overtaken, says by `last_sweep` when its time is over.
        """
        if self._ended is not None:
            self._loop.call_soon(done, self._ended)
            return
        request_id = self._ids.next()
        now = self._clock()
        data = encode(request_id, now, command, auth_revision)
        if self._sample_due:
            done = self._timed(done)
        term = self._offer(NORMAL, data)
        last_sweep = last_sweep or self.last_sweep()
        request = Request(request_id, now, command, auth_revision)
        made_in = self._node.core.term
        self._waiters[request_id] = Waiter(done, last_sweep, NORMAL, data, term, made_in, request)

    def propose_change(self, make: Callable[[int], ConfigChange], done: Done) -> None:
        """The same for a membership change, which `make` makes for a request id."""
        if self._ended is not None:
            self._loop.call_soon(done, self._ended)
            return
        request_id = self._ids.next()
        data = encode_change(make(request_id))
        term = self._offer(CONFIG, data)
        last_sweep = self.last_sweep()
        made_in = self._node.core.term
        self._waiters[request_id] = Waiter(done, last_sweep, CONFIG, data, term, made_in)

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when the store holds all that any member has acknowledged before now."""
        if self._ended is not None:
            self._loop.call_soon(done, self._ended)
            return
        request_id = self._ids.next()
        self._readers[request_id] = _Reader(done, self.last_sweep())
        try:
            self._node.read_index(partial(self._confirm_read, request_id))
        except Stopped:
            del self._readers[request_id]  # the API has ended before

    # -------------------------------------------------------------------------- what raft tells

    def rejected(self, rejected: Rejected) -> None:
        """A proposal of ours came back: it is in no log."""
        request_id = _request_id(rejected.kind, rejected.data)
        waiter = self._waiters.get(request_id)
        if waiter is not None and waiter.term != _HELD:
            waiter.term = _HELD
            self._drop(rejected.kind, rejected.data, rejected.reason)

    def term_began(self, term: int) -> None:
        """The first entry of this term is applied: older proposals that are not never will be."""
        waiters = self._waiters
        lost = [request_id for request_id, waiter in waiters.items() if waiter.term < term]
        for request_id in lost:
            waiter = waiters.pop(request_id)
            if _is_overtaken(waiter, term):
                waiter.done(Overtaken(waiter.last_sweep))
                continue
            again = self._ids.next()
            waiter.data = _with_request_id(waiter.kind, waiter.data, again)
            waiter.request = None
            waiter.term = self._offer(waiter.kind, waiter.data)
            waiters[again] = waiter

    def doubt_all(self) -> None:
        """The state has come as a snapshot: what it contains of our proposals is not known."""
        for waiter in self._waiters.values():
            if waiter.term != _HELD:
                waiter.term = _IN_DOUBT

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
        except RaftError as error:
            self._drop(kind, data, str(error))
            return _HELD
        return term

    def _drop(self, kind: int, data: bytes, reason: str) -> None:
        """Go on from a proposal that is in no log."""
        if reason == NO_ROOM:
            # Later: whoever proposes has not noted yet that somebody waits for it.
            self._loop.call_soon(self._refuse, _request_id(kind, data))
        else:
            self._hold(kind, data)

    def _refuse(self, request_id: int) -> None:
        waiter = self._waiters.pop(request_id, None)
        if waiter is not None:
            self.failed += 1
            node = self._node
            member = self._member_id if node.disk_full else node.core.leader
            waiter.done(RaftInternal(f"etcdserver: {NO_ROOM} of member {member:x}"))

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
            if waiter is None:
                continue  # it was given up
            if _is_overtaken(waiter, self._node.core.term):
                del self._waiters[request_id]
                waiter.done(Overtaken(waiter.last_sweep))
            else:
                waiter.term = self._offer(kind, data)

    def _confirm_read(self, request_id: int) -> None:
        reader = self._readers.pop(request_id, None)
        if reader is not None:
            reader.done(None)

    def _sweep(self) -> None:
        """Give up whoever has waited too long."""
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        self.sweeps += 1
        self._sample_due = True
        for waiter in _take_due(self._waiters, self.sweeps):
            self.failed += 1
            waiter.done(self._timed_out())
        for reader in _take_due(self._readers, self.sweeps):
            reader.done(self._timed_out())

    def _timed(self, done: Done) -> Done:
        """Have this proposal measured, and no other until the next sweep."""
        self._sample_due = False
        started = time.perf_counter()

        def measured(result: Result) -> None:
            self.durations.add(time.perf_counter() - started)
            done(result)

        return measured

    def _timed_out(self) -> RaftInternal:
        """Say what may be the reason, in etcd's words."""
        began = self._loop.time() - self._timeout_seconds
        leader = self._node.core.leader
        cause = "etcdserver: request timed out"
        if leader and began < self._leader_lost_at:
            cause += ", possibly due to previous leader failure"
        elif not self._was_connected(leader, since=began):
            cause += ", possibly due to connection lost"
        return RaftInternal(cause)

    def _was_connected(self, leader: int, *, since: float) -> bool:
        """Whether we could reach the leader all the time; without another one, a quorum."""
        own = self._member_id

        def is_reached(member: int) -> bool:
            active_since = self._transport.active_since(member)
            return member == own or (active_since is not None and active_since < since)

        if leader not in (0, own):
            return is_reached(leader)
        voters = self._node.core.configuration.voters
        return 2 * sum(map(is_reached, voters)) > len(voters)


def _take_due(waiting: dict[int, W], sweep: int) -> list[W]:
    """Remove and return those whose time is up by this sweep."""
    due = [request_id for request_id, it in waiting.items() if it.last_sweep <= sweep]
    return [waiting.pop(request_id) for request_id in due]


def _is_overtaken(waiter: Waiter, term: int) -> bool:
    """Whether a proposal that is in no log must not be made again in this term."""
    return (
        waiter.kind == NORMAL
        and waiter.made_in != term
        and is_of_its_time(decode(waiter.data).command)
    )


def _request_id(kind: int, data: bytes) -> int:
    """Return the request id of a proposal; 0, which nobody has, for what is none."""
    try:
        return request_id_of(decode_change(data).context if kind == CONFIG else data)
    except ValueError as error:
        # It comes from another member, as an answer to what we have never asked.
        log.warning("ignored a rejection: %s", error)
        return 0


def _with_request_id(kind: int, data: bytes, request_id: int) -> bytes:
    """Return a proposal of ours under another request id."""
    if kind == CONFIG:
        change = decode_change(data)
        context = decode_member_change(change.context)._replace(request_id=request_id)
        return encode_change(change._replace(context=encode_member_change(context)))
    request = decode(data)
    return encode(request_id, request.now, request.command, request.auth_revision)
