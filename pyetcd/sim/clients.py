"""Clients that read and write keys: each at one member, until it fails, then at another."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from pyetcd.sim.ledger import REGISTERS, Entry, Ledger, Session
from pyetcd.sim.member import Member
from pyetcd.sim.requests import Request
from pyetcd.sim.wire import Answer, Call, Credential
from raft.sim import MILLISECOND, SECOND, Unsafe, World

# Whoever asked a member that runs is answered within the request timeout; a little is the way.
_PATIENCE_US: Final = 1 * SECOND

# All of them are asked for, at random; see `Client.draw`.
TTL_KEYS: Final = "/t/"
FILES: Final = "/c/"
QUEUE: Final = "/q"
DIRECTORIES: Final = "/d/"
PRIVATE: Final = "/a/"
HIDDEN: Final = "/h/_s/"

Find = Callable[[], Member | None]


class Client:
    """One client with one request at a time."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        number: int,
        find: Find,
        credentials: tuple[Credential | None, ...],
    ) -> None:
        """`find` returns some member that runs; `credentials` are used for private keys."""
        self._world = world
        self._ledger = ledger
        self._number = number
        self._find = find
        self._credentials = credentials
        self._random = world.stream(f"client {number}")
        self._session: Session | None = None
        self._is_over = False
        self._turn = 0
        self._rest()

    def stop(self) -> None:
        """Ask for nothing any more."""
        self._is_over = True

    def _rest(self) -> None:
        delay = round(self._random.expovariate(1 / self._world.options.think_us))
        self._world.clock.after(delay, self._act)

    def _act(self) -> None:
        if self._is_over:
            return
        session = self._session
        if session is None or session.member.process.ended or self._random.random() < 0.02:
            member = self._find()
            if member is None:
                self._session = None
                self._rest()
                return
            session = self._session = Session(member)
        request = self.draw()
        self._turn += 1
        self._send(session, request)

    def _send(self, session: Session, request: Request) -> None:
        entry = self._ledger.ask(request, session)
        turn = self._turn
        call = Call(
            self._world,
            self._random.randrange(3 * MILLISECOND),
            on_answer=partial(self._answered, entry, turn),
            on_lost=partial(self._lost, turn),
        )
        self._world.trace(f"client {self._number} asks {request}")
        session.member.open(call, request.encode())
        server = session.member.server
        patience = round(server.config.request_timeout_seconds * SECOND) + _PATIENCE_US
        now, rights_index = self._world.clock.now, self._ledger.chronicle.rights_index
        give_up = partial(self._give_up, call, session, turn, now, rights_index)
        self._world.clock.after(patience, give_up)

    def _answered(self, entry: Entry, turn: int, answer: Answer) -> None:
        what = self._ledger.answer(entry, answer)
        self._world.count(f"requests {what}")
        self._world.trace(
            f"client {self._number} is answered {answer.status} at {answer.etcd_index}"
        )
        self._go_on(turn)

    def _lost(self, turn: int) -> None:
        self._world.count("requests lost")
        self._session = None
        self._go_on(turn)

    def _go_on(self, turn: int) -> None:
        if turn == self._turn:
            self._turn += 1
            self._rest()

    def _give_up(
        self, call: Call, session: Session, turn: int, asked: int, rights_index: int
    ) -> None:
        """Go on; but a member that ran all the time must have answered.

        Unless rights have changed: then it begins anew, and may be longer about it.
        """
        if turn != self._turn or call.is_over:
            return
        process = session.member.process
        is_same = self._ledger.chronicle.rights_index == rights_index
        if process.paused_until <= asked and not process.ended and is_same:
            raise Unsafe(f"{process.server_id:x} has never answered client {self._number}")
        session.member.close(call)
        self._lost(turn)

    # ---------------------------------------------------------------------------- what is asked

    def draw(self) -> Request:
        """Return some request."""
        rng, ledger = self._random, self._ledger
        kinds = (self._on_register, self._on_ttl, self._on_file, self._on_queue)
        private = (self._on_private,) * (6 if len(self._credentials) > 1 else 1)
        kind = rng.choice((*kinds, *kinds, self._on_directory, self._on_hidden, *private))
        return kind(rng, str(rng.randint(1, self._world.options.keys)), ledger.new_value())

    def _on_register(self, rng: Random, name: str, value: str) -> Request:
        key = REGISTERS + name
        match rng.randrange(5):
            case 0 | 1:
                return Request("PUT", key, {"value": value})
            case 2:
                return Request("PUT", key, {"value": value, "prevValue": self._guess(key, rng)})
            case 3:
                return Request("GET", key, {"quorum": "true"})
            case _:
                return Request("GET", key, is_local=True)

    def _on_ttl(self, rng: Random, name: str, value: str) -> Request:
        key = TTL_KEYS + name
        ttl = str(rng.randint(1, 3))
        match rng.randrange(7):
            case 0 | 1:
                return Request("PUT", key, {"value": value, "ttl": ttl})
            case 2:
                fields = {"ttl": ttl, "refresh": "true"}
                if rng.random() < 0.5:
                    fields["prevExist"] = "true"
                return Request("PUT", key, fields)
            case 3:
                return Request("PUT", key, {"value": value})
            case 4:
                return Request("PUT", key, {"value": value, "prevExist": "true", "ttl": ttl})
            case 5:
                return Request("GET", key, {"quorum": "true"})
            case _:
                return Request("GET", key, is_local=True)

    def _on_file(self, rng: Random, name: str, value: str) -> Request:
        key = FILES + name
        guess = self._guess(key, rng)
        at = self._ledger.chronicle.present.get(key)
        index = str(at.modified_index if at is not None and rng.random() < 0.7 else 1)
        match rng.randrange(8):
            case 0 | 1:
                return Request("PUT", key, {"value": value, "prevExist": "false"})
            case 2:
                return Request("PUT", key, {"value": value, "prevExist": "true"})
            case 3:
                return Request("PUT", key, {"value": value, "prevIndex": index})
            case 4:
                both = {"prevValue": guess, "prevIndex": index}
                return Request("PUT", key, {"value": value, **both})
            case 5:
                return Request("DELETE", key, {"prevValue": guess})
            case 6:
                return Request("DELETE", key, {"prevIndex": index})
            case _:
                return Request("DELETE", key)

    def _on_queue(self, rng: Random, name: str, value: str) -> Request:
        waiting = sorted(key for key in self._ledger.chronicle.present if key.startswith(QUEUE))
        match rng.randrange(4):
            case 0:
                return Request("POST", QUEUE, {"value": value})
            case 1 | 2 if waiting:
                return Request("DELETE", waiting[0])
            case _:
                fields = {"recursive": "true", "sorted": "true"}
                return Request("GET", QUEUE, fields, is_local=True)

    def _on_directory(self, rng: Random, name: str, value: str) -> Request:
        directory = DIRECTORIES + name
        match rng.randrange(6):
            case 0 | 1 | 2:
                return Request("PUT", f"{directory}/{rng.choice('xy')}", {"value": value})
            case 3:
                return Request("DELETE", directory, {"recursive": "true"})
            case 4:
                fields = {"recursive": "true", "quorum": "true"}
                return Request("GET", directory, fields)
            case _:
                return Request("GET", directory, {"recursive": "true"}, is_local=True)

    def _on_private(self, rng: Random, name: str, value: str) -> Request:
        key, credential = PRIVATE + name, rng.choice(self._credentials)
        match rng.randrange(5):
            case 0 | 1:
                return Request("PUT", key, {"value": value}, credential)
            case 2:
                return Request("GET", key, {"quorum": "true"}, credential)
            case 3:
                fields = {"recursive": "true"}
                return Request("GET", PRIVATE[:-1], fields, credential, is_local=True)
            case _:
                return Request("GET", key, {}, credential, is_local=True)

    def _on_hidden(self, rng: Random, name: str, value: str) -> Request:
        return Request("PUT", HIDDEN + name, {"value": value})

    def _guess(self, key: str, rng: Random) -> str:
        """Return the value that a key has, or one that it had, or never."""
        version = self._ledger.chronicle.present.get(key)
        if version is not None and rng.random() < 0.7:
            return version.value
        return str(rng.randint(1, 1000))
