"""All requests on keys and what became of them: what was promised to clients must be kept.

The order of all that happens is that of the store's index. So the ledger needs no search to see
whether there is one order that explains every answer: a write took the index in its answer, a read
saw the state at the index in its answer, and

1. a write, a quorum read and a refusal come after all that was answered before they were asked;
2. on one member, a client's reads never go back, nor behind its own writes there;
3. what was refused has not happened, and nothing happens twice;
4. whoever did something was allowed to at that index.

Registers are searched as well (`raft.sim.is_linearizable`), by their values alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

from pyetcd.sim.chronicle import Chronicle
from pyetcd.sim.lifetimes import Lifetimes
from pyetcd.sim.member import Member
from pyetcd.sim.requests import (
    COMPARE_FAILED,
    KEY_NOT_FOUND,
    RAFT_INTERNAL,
    UNAUTHORIZED,
    Request,
)
from pyetcd.sim.wire import Answer
from pyetcd.store import Event
from raft.sim import PUT, READ, SWAP, Operation, Unsafe, World, require_linearizable

REGISTERS = "/r/"


@dataclass(slots=True)
class Session:
    """What one client has seen on one member since that started."""

    member: Member
    etcd_index: int = 0


@dataclass(slots=True)
class Entry:
    """A request that was made."""

    request: Request
    session: Session
    # What had been answered to anybody when it was asked, and where its member's store was.
    answered_index: int
    member_index: int
    operation: Operation | None = None


class Ledger:
    """Judges every answer."""

    def __init__(self, world: World, settings: Callable[[], int]) -> None:
        """`settings` is how often cluster time was set by wall clocks, as nobody knew it."""
        self.chronicle = Chronicle(self._happened)
        # The highest index that anybody has been answered with, who did not read locally.
        self.answered_index = 0
        self._world = world
        self._lifetimes = Lifetimes(world, settings)
        self._moments = count(1)
        self._values = count(1)
        self._by_value: dict[str, Request] = {}
        self._happened_values: set[str] = set()
        self._refused_values: set[str] = set()
        # Who has got the answer of an index.
        self._owners: dict[int, Request] = {}
        self._histories: dict[str, list[Operation]] = {}

    def new_value(self) -> str:
        """Return a value that nobody else writes."""
        return str(next(self._values))

    def ask(self, request: Request, session: Session) -> Entry:
        """Note that a request is made."""
        if request.value:
            self._by_value[request.value] = request
        self._lifetimes.asked(request)
        entry = Entry(request, session, self.answered_index, session.member.etcd_index)
        if request.key.startswith(REGISTERS) and not request.is_local:
            entry.operation = self._begin_operation(request)
        return entry

    def answer(self, entry: Entry, answer: Answer) -> str:
        """Judge an answer, and say in a word what it was. Raises Unsafe."""
        request = entry.request
        if answer.status in (200, 201):
            if request.is_write:
                self._judge_write(entry, answer)
            else:
                self._judge_read(entry, answer)
            return "done"
        code = request.check_error(answer, self.chronicle)
        if code == RAFT_INTERNAL:
            return "not answered"
        self._refuse(entry, code, answer)
        return "refused"

    def raise_answered_index(self, etcd_index: int) -> None:
        """Somebody was answered at this index: whatever is asked from now on comes later."""
        self.answered_index = max(self.answered_index, etcd_index)

    def check_registers(self) -> None:
        """Search an order for the operations on each register. Raises Unsafe."""
        require_linearizable(self._histories, partial(self._world.count, "histories undecided"))

    # ---------------------------------------------------------------------------------- events

    def _happened(self, event: Event) -> None:
        """The chronicle has a new event: see whose it is."""
        node = event.node
        if event.action == "expire":
            self._lifetimes.check(event)
        if node is None or node.value is None or event.refresh:
            return
        request = self._by_value.get(node.value)
        if request is None:
            raise Unsafe(f"{event.key} was set to {node.value}, which nobody has asked for")
        if node.value in self._refused_values:
            raise Unsafe(f"{request} was refused, and happens at {event.etcd_index}")
        if node.value in self._happened_values:
            raise Unsafe(f"{request} happens again, at {event.etcd_index}")
        self._happened_values.add(node.value)
        request.check_event(event)
        self._lifetimes.began(request, event.etcd_index)
        self._check_rights(request, event.etcd_index)

    # --------------------------------------------------------------------------------- answers

    def _judge_write(self, entry: Entry, answer: Answer) -> None:
        request, index = entry.request, answer.etcd_index
        event = self.chronicle.events[index] if index <= self.chronicle.last_index else None
        if event is None:
            raise Unsafe(f"{request} was answered with index {index}, where nothing is")
        if event.body() != answer.body:
            raise Unsafe(f"{request} was answered {answer.body!r}, but {event.body()!r} happened")
        request.check_event(event)
        self._lifetimes.began(request, index)
        self._check_rights(request, index)
        self._check_order(entry, index, least=1)
        owner = self._owners.setdefault(index, request)
        if owner is not request:
            raise Unsafe(f"{request} and {owner} were both answered with index {index}")
        operation = entry.operation
        if operation is not None:
            operation.answered = next(self._moments)
            if operation.kind == SWAP:
                operation.found = operation.expected
        self._see(entry, index)

    def _judge_read(self, entry: Entry, answer: Answer) -> None:
        request, session, index = entry.request, entry.session, answer.etcd_index
        if index > self.chronicle.last_index:
            raise Unsafe(f"{request} was answered with index {index}, which is not committed")
        if request.is_local:
            if index < session.etcd_index:
                member = session.member.process.server_id
                raise Unsafe(
                    f"{request} goes back from {session.etcd_index} to {index}: {member:x}"
                )
        else:
            self._check_order(entry, index)
        request.check_read(answer, self.chronicle)
        rights = self.chronicle.rights(index)
        key, recursive = request.key, request.is_recursive
        if not rights.allows(request.credential, key, write=False, recursive=recursive):
            raise Unsafe(f"{request} by {request.credential} was not allowed at {index}")
        if entry.operation is not None:
            entry.operation.answered = next(self._moments)
            version = self.chronicle.version(request.key, index)
            entry.operation.found = int(version.value) if version is not None else 0
        self._see(entry, index)

    def _refuse(self, entry: Entry, code: int, answer: Answer) -> None:
        request = entry.request
        if request.value in self._happened_values:
            raise Unsafe(f"{request} is refused, and has happened")
        if request.value:
            self._refused_values.add(request.value)
        if code == UNAUTHORIZED:
            self._check_refusal(entry)
            self._drop_operation(entry)
            return
        if request.is_local:
            if answer.etcd_index < entry.session.etcd_index:
                raise Unsafe(f"{request} goes back to {answer.etcd_index}")
        else:
            self._check_order(entry, answer.etcd_index)
        self._end_refused_operation(entry, code, answer)
        self._see(entry, answer.etcd_index)

    def _see(self, entry: Entry, index: int) -> None:
        entry.session.etcd_index = max(entry.session.etcd_index, index)
        if not entry.request.is_local:
            self.raise_answered_index(index)

    def _check_order(self, entry: Entry, index: int, *, least: int = 0) -> None:
        """Check that the request took its turn after all that had been answered before it.

        It took at least so many indexes of its own.
        """
        if index < entry.answered_index + least:
            raise Unsafe(
                f"{entry.request} took its turn at {index}; when it was asked, "
                f"{entry.answered_index} had been answered"
            )

    def _check_rights(self, request: Request, index: int) -> None:
        rights = self.chronicle.rights(index - 1)
        key, recursive = request.key, request.is_recursive
        if not rights.allows(request.credential, key, write=True, recursive=recursive):
            raise Unsafe(f"{request} by {request.credential} was not allowed at {index}")

    def _check_refusal(self, entry: Entry) -> None:
        """Check that there was a moment at which the sender was not allowed to do this."""
        request, last = entry.request, entry.session.member.etcd_index
        write, recursive = request.is_write, request.is_recursive
        for rights in self.chronicle.rights_between(entry.member_index, last):
            if not rights.allows(request.credential, request.key, write=write, recursive=recursive):
                return
        raise Unsafe(f"{request} by {request.credential} was refused, and allowed all the time")

    # ------------------------------------------------------------------------------- registers

    def _begin_operation(self, request: Request) -> Operation | None:
        fields = request.fields
        if request.method == "GET":
            operation = Operation(READ, next(self._moments))
        elif "prevValue" in fields:
            expected = int(fields["prevValue"])
            value = int(request.value)
            operation = Operation(SWAP, next(self._moments), value=value, expected=expected)
        else:
            operation = Operation(PUT, next(self._moments), value=int(request.value))
        self._histories.setdefault(request.key, []).append(operation)
        return operation

    def _end_refused_operation(self, entry: Entry, code: int, answer: Answer) -> None:
        operation = entry.operation
        if operation is None:
            return
        assert code in (KEY_NOT_FOUND, COMPARE_FAILED), f"error {code} on a register"
        version = self.chronicle.version(entry.request.key, answer.etcd_index)
        operation.answered = next(self._moments)
        operation.found = int(version.value) if version is not None else 0

    def _drop_operation(self, entry: Entry) -> None:
        if entry.operation is not None:
            self._histories[entry.request.key].remove(entry.operation)
