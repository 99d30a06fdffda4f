"""Proves that passwords are hashed as etcd hashes them, off the event loop."""

import asyncio
import threading

from pyetcd.api.passwords import ROUNDS, Bcrypt

# Of "secret", made by etcd 3.4.23.
OF_ETCD = "$2a$10$CrhU86yQCctTPf7dbiN3ouLRtPqC2/ytvCHsRvm2dlTTbAov5QL6a"


def hashed(password: bytes, rounds: int = 4) -> str:
    async def run() -> str:
        made = asyncio.get_running_loop().create_future()
        Bcrypt(rounds=rounds).hash(password, made.set_result)
        return await made

    return asyncio.run(run())


def is_right(password: bytes, stored: str) -> bool:
    async def run() -> bool:
        checked = asyncio.get_running_loop().create_future()
        Bcrypt().check(password, stored, checked.set_result)
        return await checked

    return asyncio.run(run())


def test_hash_is_the_one_of_its_password_alone():
    """Salted, so that equal passwords look different."""
    first, second = hashed(b"secret"), hashed(b"secret")
    assert first != second
    assert first.startswith("$2a$04$")
    assert is_right(b"secret", first)
    assert not is_right(b"Secret", first)
    assert ROUNDS == 10


def test_hash_of_etcd_is_understood():
    """Data can move between the two."""
    assert is_right(b"secret", OF_ETCD)


def test_password_beyond_72_bytes_is_cut():
    """As bcrypt has it, and as etcd's does; a NUL is nothing special."""
    stored = hashed(b"x" * 72 + b"y")
    assert is_right(b"x" * 72 + b"z", stored)
    assert not is_right(b"x" * 71, stored)
    assert not is_right(b"a\0b", hashed(b"a\0c"))


def test_what_is_stored_but_no_hash_fits_no_password():
    """It is no reason to die."""
    for stored in ("", "secret", "$2a$10$short"):
        assert not is_right(b"secret", stored)


def test_check_that_nobody_wants_is_not_made():
    """A check that is cancelled calls nobody; those behind it are made."""

    async def run() -> list[str]:
        passwords, told = Bcrypt(threads=1), []
        stored = await asyncio.to_thread(hashed, b"p")
        gate = threading.Event()
        passwords._pool.submit(gate.wait)
        cancel = passwords.check(b"p", stored, lambda _: told.append("cancelled"))
        wanted = asyncio.get_running_loop().create_future()
        passwords.check(b"p", stored, wanted.set_result)
        cancel()
        gate.set()
        assert await wanted
        return told

    assert asyncio.run(run()) == []
