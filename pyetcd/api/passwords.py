"""Passwords: bcrypt as etcd 2.3.8 uses it, in threads of its own.

One hash takes some 50 ms of a processor, so it never runs on the event loop, and never on all
processors at once. Results come back in the loop's thread.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import bcrypt

# One processor is left to the event loop, however many wrong passwords are tried.
THREADS: Final = max(1, (os.cpu_count() or 1) - 1)
# As etcd: Go's default cost, the prefix it writes, and what bcrypt can see of a password.
ROUNDS: Final = 10
_PREFIX: Final = b"2a"
_VISIBLE_BYTES: Final = 72


class Passwords(Protocol):
    """Makes hashes of passwords and checks passwords against them."""

    def hash(self, password: bytes, done: Callable[[str], None]) -> None:
        """Call `done` later with a new hash of the password."""

    def check(
        self, password: bytes, stored: str, done: Callable[[bool], None]
    ) -> Callable[[], object]:
        """Call `done` later with whether the password is the one of the stored hash.

        What is returned can be called when nobody wants to know any more.
        """


class Bcrypt:
    """The passwords of a member."""

    def __init__(self, *, rounds: int = ROUNDS, threads: int = THREADS) -> None:
        self._rounds = rounds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")

    def hash(self, password: bytes, done: Callable[[str], None]) -> None:
        """See `Passwords`."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, _hash, password, self._rounds)
        future.add_done_callback(lambda made: done(made.result()))

    def check(
        self, password: bytes, stored: str, done: Callable[[bool], None]
    ) -> Callable[[], object]:
        """See `Passwords`."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, _is_right, password, stored)

        def tell(checked: "asyncio.Future[bool]") -> None:
            if not checked.cancelled():
                done(checked.result())

        future.add_done_callback(tell)
        return future.cancel


def _hash(password: bytes, rounds: int) -> str:
    salt = bcrypt.gensalt(rounds, _PREFIX)
    return bcrypt.hashpw(password[:_VISIBLE_BYTES], salt).decode("ascii")


def _is_right(password: bytes, stored: str) -> bool:
    try:
        return bcrypt.checkpw(password[:_VISIBLE_BYTES], stored.encode())
    except ValueError:
        return False  # what is stored is no hash
