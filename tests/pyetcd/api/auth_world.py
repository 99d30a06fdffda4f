"""One member with users: its handlers, its applier, and passwords that are checked on demand."""

import base64
import json
from collections.abc import Callable
from typing import Any

from pyetcd.api.auth import ROLES, USERS, Accounts
from pyetcd.api.guard import Guard
from pyetcd.api.keys import Keys
from pyetcd.command import Command, CreateRole, CreateUser, EnableAuth, encode
from pyetcd.errors import RaftInternal
from pyetcd.httpd import Request, Route, Router
from pyetcd.server.apply import Done, Waiter
from pyetcd.server.pending import ReadDone
from pyetcd.store import Store
from raft import NORMAL
from tests.http import Response, Wire, request
from tests.pyetcd.server.applied import NOW, World

FORM = "Content-Type: application/x-www-form-urlencoded"
EVERYTHING = (("/*",), ("/*",))


class FakePasswords:
    """Hashes that can be read; each job is done when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        # The passwords that were compared with a hash, and those that nobody waited for.
        self.checked: list[bytes] = []
        self.cancelled: list[bytes] = []

    def hash(self, password: bytes, done: Callable[[str], None]) -> None:
        self.jobs.append(lambda: done(hash_of(password)))

    def check(
        self, password: bytes, stored: str, done: Callable[[bool], None]
    ) -> Callable[[], object]:
        self.checked.append(password)
        self.jobs.append(lambda: done(hash_of(password) == stored))
        return lambda: self.cancelled.append(password)

    def run(self) -> None:
        """Do all jobs."""
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


class AuthWorld:
    """A member, and its clients."""

    def __init__(self, max_sessions: int = 100) -> None:
        self.world = World()
        self.auth = self.world.applier.auth
        self.passwords = FakePasswords()
        self.guard = Guard(self.auth, passwords=self.passwords, max_sessions=max_sessions)
        self.proposals: list[tuple[Command, Done, int]] = []
        self.readers: list[ReadDone] = []
        # What the members page was asked for by root.
        self.passed: list[bytes] = []
        keys, accounts = Keys(self, self.guard), Accounts(self, self.guard)
        on_keys = {
            b"GET": keys.get,
            b"HEAD": keys.get,
            b"PUT": keys.put,
            b"POST": keys.post,
            b"DELETE": keys.delete,
        }
        pages = {
            b"/v2/keys": on_keys,
            b"/v2/keys/": on_keys,
            b"/v2/auth/enable": {None: accounts.enable},
            USERS: {None: accounts.users},
            USERS + b"/": {None: accounts.users},
            ROLES: {None: accounts.roles},
            ROLES + b"/": {None: accounts.roles},
            b"/v2/members": {b"POST": self.guard.root_only(self._members)},
        }
        self.router = Router([Route(path, handlers) for path, handlers in pages.items()])

    def _members(self, to_root: Request) -> None:
        self.passed.append(to_root.target)
        to_root.respond(201)

    # ---------------------------------------------------------------------- a server to handlers

    cluster_id = 0xC1
    raft_index = 12
    term = 3

    @property
    def store(self) -> Store:
        return self.world.store

    def now(self) -> int:
        return NOW

    def propose(self, command: Command, done: Done, last_sweep: int = 0) -> None:
        self.proposals.append((command, done, self.auth.revision_in_force))

    def read_index(self, done: ReadDone) -> None:
        self.readers.append(done)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """No time passes here: the head of a poll, which waits for some, comes with its event."""

    # ------------------------------------------------------------------------------ what happens

    def commit(self) -> None:
        """Apply what is proposed, as it was permitted."""
        proposals, self.proposals = self.proposals, []
        for command, done, revision in proposals:
            request_id = len(self.world.entries) + 1000
            waiter = Waiter(done, 1, NORMAL, b"", 1, 1)
            self.world.applier.waiters[request_id] = waiter
            data = encode(request_id, NOW, command, revision)
            self.world.applier.apply([self.world.entry(NORMAL, data)])

    def time_out(self) -> None:
        """Give up what is proposed."""
        for _, done, _ in self.proposals:
            done(RaftInternal("etcdserver: request timed out"))

    def settle(self) -> None:
        """Let everything take its course."""
        while self.passwords.jobs or self.proposals or self.readers:
            self.passwords.run()
            self.commit()
            readers, self.readers = self.readers, []
            for done in readers:
                done(None)

    def other(self, command: Command) -> None:
        """Apply what somebody proposes on another member."""
        result = self.world.run(command)
        assert not isinstance(result, Exception), result

    def with_user(self, name: str, *roles: str) -> "AuthWorld":
        """Add a user whose password is `pw-NAME`."""
        self.other(CreateUser(name, hash_of(f"pw-{name}".encode()), roles, False))
        return self

    def with_role(self, name: str, read: tuple[str, ...], write: tuple[str, ...]) -> "AuthWorld":
        self.other(CreateRole(name, (read, write), None, None))
        return self

    def enabled(self, *, guests: bool = False) -> "AuthWorld":
        """Add root and enable auth; guests may do nothing, unless they may do everything."""
        self.with_user("root")
        if not guests:
            self.with_role("guest", (), ())
        self.other(EnableAuth())
        return self

    # ---------------------------------------------------------------------------------- clients

    def begin(
        self,
        method: str,
        path: str,
        body: object = b"",
        who: str | None = None,
        headers: tuple[str, ...] = (),
    ) -> Wire:
        """Send a request; `who` is a user with the usual password, or `user:password`."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if path.startswith("/v2/keys") and body:
            headers = (*headers, FORM)
        if who is not None:
            headers = (*headers, authorization(who))
        return Wire(self.router).send(request(method, path, body, headers))

    def ask(self, method: str, path: str, *arguments: Any, **keywords: Any) -> Response:
        """Send a request and let it be answered."""
        wire = self.begin(method, path, *arguments, **keywords)
        self.settle()
        return wire.response(method)

    def document(self, *arguments: Any, **keywords: Any) -> Any:
        """Send a request that succeeds; return what is shown."""
        response = self.ask(*arguments, **keywords)
        assert response.status in (200, 201), response
        return json.loads(response.body)


def hash_of(password: bytes) -> str:
    """What is stored of a password here."""
    return f"hash of {password.hex()}"


def authorization(who: str) -> str:
    """The header of a user with the usual password, or of `user:password`."""
    credential = who if ":" in who else f"{who}:pw-{who}"
    return "Authorization: Basic " + base64.b64encode(credential.encode()).decode()
