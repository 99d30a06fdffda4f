"""Somebody who looks after users and roles: enables auth, and then changes who may do what.

Nothing of this is judged here. The ledger knows who was allowed what at every index, and an
acknowledged change raises the index behind which everything that is asked later must come.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Final

from pyetcd.sim.clients import Find
from pyetcd.sim.ledger import Ledger
from pyetcd.sim.wire import Answer, Call, Credential, json_request
from raft.sim import MILLISECOND, SECOND, Unsafe, World

ROOT: Final[Credential] = ("root", "toor")
USERS: Final = ("alice", "bob")
# Users have one of these; clients try all of them.
PASSWORDS: Final = ("p1", "p2")

# What guests may do to begin with: everything but with the private keys.
_OPEN: Final = ("/r/*", "/t/*", "/c/*", "/q*", "/d/*", "/h/*", "/p/*")
_TIMEOUT_US: Final = 10 * SECOND


class Accountant:
    """The user root."""

    def __init__(self, world: World, ledger: Ledger, find: Find, mean_seconds: float) -> None:
        """`mean_seconds` is the time between two changes; `find` returns some member that runs."""
        self._world = world
        self._ledger = ledger
        self._find = find
        self._mean_seconds = mean_seconds
        self._random = world.stream("accountant")
        self._is_over = False
        # Before auth is enabled, all of it must be there.
        self._steps = [
            _put("users/root", user="root", password=ROOT[1]),
            _put("roles/guest", role="guest", permissions=_rights(_OPEN, _OPEN)),
            _put("roles/owner", role="owner", permissions=_rights(("/a*",), ("/a/*",))),
            _put("users/alice", user="alice", password="p1", roles=["owner"]),
            _put("users/bob", user="bob", password="p1"),
            ("PUT", "enable", ""),
        ]
        self._rest()

    def stop(self) -> None:
        """Change nothing any more."""
        self._is_over = True

    def _rest(self) -> None:
        delay = self._random.expovariate(1 / self._mean_seconds)
        self._world.clock.after(round(delay * SECOND), self._act)

    def _act(self) -> None:
        if self._is_over:
            return
        member = self._find()
        if member is None:
            self._rest()
            return
        is_ready = not self._steps
        step = self._draw(self._random) if is_ready else self._steps[0]
        rights_index = self._ledger.chronicle.rights_index

        def answered(answer: Answer) -> None:
            self._judge(answer, step, rights_index)
            if not is_ready and answer.status in (200, 201, 409):
                self._steps.pop(0)
            go_on()

        def go_on() -> None:
            if not was_left:
                was_left.append(True)
                self._rest()

        def give_up() -> None:
            if not was_left:
                member.close(call)
                go_on()

        was_left: list[bool] = []
        delay = self._random.randrange(3 * MILLISECOND)
        call = Call(self._world, delay, on_answer=answered, on_lost=go_on)
        method, page, body = step
        self._world.trace(f"root asks {method} {page} {body}")
        member.open(call, json_request(method, f"/v2/auth/{page}", body, ROOT))
        self._world.clock.after(_TIMEOUT_US, give_up)

    def _judge(self, answer: Answer, step: tuple[str, str, str], rights_index: int) -> None:
        self._world.count(f"changes of auth answered {answer.status}")
        self._world.trace(f"root is answered {answer.status}")
        if answer.status in (200, 201):
            done_index = self._ledger.chronicle.rights_index
            if done_index == rights_index:
                raise Unsafe(f"{step} was acknowledged, and nothing has changed")
            self._ledger.raise_answered_index(done_index)
        elif answer.status not in (400, 401, 403, 404, 409, 500):
            raise Unsafe(f"{step} is answered {answer}")

    def _draw(self, rng: Random) -> tuple[str, str, str]:
        user = rng.choice(USERS)
        kinds: tuple[Callable[[Random, str], tuple[str, str, str]], ...]
        kinds = (self._draw_role, self._draw_role, self._draw_pattern, self._draw_password)
        if rng.random() < 0.1:
            return ("PUT", "enable", "") if rng.random() < 0.7 else ("DELETE", "enable", "")
        return rng.choice(kinds)(rng, user)

    def _draw_role(self, rng: Random, user: str) -> tuple[str, str, str]:
        if rng.random() < 0.5:
            return _put(f"users/{user}", user=user, grant=["owner"])
        return _put(f"users/{user}", user=user, revoke=["owner"])

    def _draw_pattern(self, rng: Random, user: str) -> tuple[str, str, str]:
        role, pattern = rng.choice((("owner", "/a/*"), ("owner", "/a/1"), ("guest", "/c/*")))
        # The first of them is not enough for a recursive read.
        reads = (rng.choice(("/a", "/a*")),) if role == "owner" else ()
        change = _rights(reads, (pattern,))
        if rng.random() < 0.5:
            return _put(f"roles/{role}", role=role, grant=change)
        return _put(f"roles/{role}", role=role, revoke=change)

    def _draw_password(self, rng: Random, user: str) -> tuple[str, str, str]:
        return _put(f"users/{user}", user=user, password=rng.choice(PASSWORDS))


def _put(page: str, **fields: object) -> tuple[str, str, str]:
    return "PUT", page, json.dumps(fields)


def _rights(read: tuple[str, ...], write: tuple[str, ...]) -> object:
    return {"kv": {"read": list(read), "write": list(write)}}
