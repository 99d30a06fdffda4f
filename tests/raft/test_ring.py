"""Proves that a ring's write has ended when it says so, is durable, and may fail."""

import ctypes
import errno
import os
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft.files import PAGE
from raft.ring import MAX_BYTES, Ring, load_system_call
from tests.raft.rings import needs_ring

LONG_SECONDS = 10.0


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    ring.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, 2 * MAX_BYTES)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def direct(tmp_path: Path, file: int) -> Iterator[int]:
    """The same file, past the kernel's cache."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_DIRECT)
    yield descriptor
    os.close(descriptor)


def until_finished(ring: Ring) -> int:
    """How often it was asked for in vain."""
    deadline = time.monotonic() + LONG_SECONDS
    asked = 0
    while not ring.finish():
        assert time.monotonic() < deadline, "the write does not end"
        asked += 1
        select.select([ring], [], [], LONG_SECONDS)
    return asked


@needs_ring
def test_write_that_is_waited_for_has_ended(ring: Ring, file: int) -> None:
    """Each where it is to be, however many there are."""
    for at in range(20):
        ring.begin(file, b"%20d" % at, 20 * at, LONG_SECONDS, direct=False)
        assert ring.is_busy
        assert ring.finish()
        assert not ring.is_busy
    assert os.pread(file, 400, 0) == b"".join(b"%20d" % at for at in range(20))


@needs_ring
def test_write_is_asked_to_be_durable(ring: Ring, file: int) -> None:
    """Nothing that can be seen from outside but what the kernel is told; also by whom."""
    ring.begin(file, b"durable", 0, LONG_SECONDS, direct=False)
    assert ring.finish()
    assert asked_for(ring) == (23, 1 << 4, os.RWF_DSYNC)


@needs_ring
def test_direct_write_needs_no_worker(ring: Ring, direct: int) -> None:
    """It is as durable."""
    ring.begin(direct, b"pages" * PAGE, PAGE, LONG_SECONDS, direct=True)
    assert ring.finish()
    assert asked_for(ring) == (23, 0, os.RWF_DSYNC)


class Noting:
    """The system call, and what its callers want of it: entries taken, answers waited for."""

    def __init__(self) -> None:
        self._real = load_system_call()
        self.enters: list[tuple[int, int]] = []
        # Whether a write is kept from the kernel until somebody sleeps for it.
        self.delays = False

    def __call__(self, number: int, *arguments: int) -> int:
        if number == 426:
            ring, taken, awaited, *others = arguments
            self.enters.append((taken, awaited))
            if self.delays and not awaited:
                return taken
            arguments = (ring, 1 if self.delays else taken, awaited, *others)
        return self._real(number, *arguments)


@needs_ring
def test_direct_write_is_looked_at_before_its_writer_sleeps(
    monkeypatch: pytest.MonkeyPatch, file: int, direct: int
) -> None:
    """Unless the last one took long; and no other write is, nor one that nobody waits for."""
    call = Noting()
    ring = Ring(call)

    def enters(descriptor: int, wait_seconds: float) -> list[tuple[int, int]]:
        call.enters.clear()
        ring.begin(descriptor, b"p" * PAGE, 0, wait_seconds, direct=descriptor == direct)
        until_finished(ring)
        return call.enters.copy()

    monkeypatch.setattr("raft.ring.LOOK_SECONDS", LONG_SECONDS)
    assert enters(direct, LONG_SECONDS) == [(1, 0)]
    assert enters(file, LONG_SECONDS) == [(1, 1)]
    monkeypatch.setattr("raft.ring.LOOK_SECONDS", 0.0)
    call.delays = True
    assert enters(direct, LONG_SECONDS) == [(1, 0), (0, 1)], "looked at in vain"
    call.delays = False
    assert enters(direct, LONG_SECONDS) == [(1, 1)], "the last one took long"
    monkeypatch.setattr("raft.ring.LOOK_SECONDS", LONG_SECONDS)
    assert enters(direct, 0.0) == [(1, 0)]
    assert enters(direct, LONG_SECONDS) == [(1, 1)], "nobody knows that it will not"
    assert enters(direct, LONG_SECONDS) == [(1, 0)]
    ring.close()


def asked_for(ring: Ring) -> tuple[int, int, int]:
    """The operation, its flags, and those of the write."""
    operation, flags = struct.unpack_from("<BB", ring._sqes)
    (write_flags,) = struct.unpack_from("<i", ring._sqes, 28)
    return operation, flags, write_flags


@needs_ring
def test_largest_write_is_not_waited_for(ring: Ring, file: int) -> None:
    """And is told of by the descriptor."""
    data = os.urandom(MAX_BYTES)
    ring.begin(file, data, 100, 0.0, direct=False)
    until_finished(ring)
    assert os.pread(file, MAX_BYTES, 100) == data


@needs_ring
def test_direct_writes_and_others_see_one_file(ring: Ring, file: int, direct: int) -> None:
    """Whichever of the two came last to a page."""
    os.pwrite(file, b"a" * 3 * PAGE, 0)
    for at in range(3):
        ring.begin(direct, b"%d" % at * PAGE, at * PAGE, 0.0, direct=True)
        until_finished(ring)
        assert os.pread(file, PAGE, at * PAGE) == b"%d" % at * PAGE
    os.pwritev(file, [b"b" * PAGE], PAGE, os.RWF_DSYNC)
    ring.begin(direct, os.urandom(MAX_BYTES), 2 * PAGE, 0.0, direct=True)
    until_finished(ring)
    assert os.pread(file, 2 * PAGE, 0) == b"0" * PAGE + b"b" * PAGE


@needs_ring
def test_wait_ends_while_the_write_goes_on(ring: Ring) -> None:
    """A pipe that nobody reads is slow; and what it takes in parts is written whole."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        started = time.monotonic()
        ring.begin(writer, b"x" * 500_000, 0, 0.01, direct=False)
        assert time.monotonic() - started < LONG_SECONDS / 2
        assert not ring.finish()
        got = b""
        deadline = time.monotonic() + LONG_SECONDS
        while not ring.finish():
            assert time.monotonic() < deadline, f"{len(got)} bytes came"
            select.select([reader, ring], [], [], LONG_SECONDS)
            try:
                got += os.read(reader, 1 << 16)
            except BlockingIOError:
                pass
        while len(got) < 500_000:
            got += os.read(reader, 1 << 16)
        assert got == b"x" * 500_000
    finally:
        os.close(reader)
        os.close(writer)


@needs_ring
@pytest.mark.parametrize(
    ("path", "flags", "data", "number"),
    [
        ("/dev/full", os.O_WRONLY, b"x", errno.ENOSPC),
        ("/dev/null", os.O_RDONLY, b"x", errno.EBADF),
        ("/dev/null", os.O_WRONLY, b"", errno.EIO),
    ],
)
def test_failed_write_raises_once(
    ring: Ring, path: str, flags: int, data: bytes, number: int
) -> None:
    """What the kernel says; or EIO when it writes nothing, of which there would be no end."""
    descriptor = os.open(path, flags)
    ring.begin(descriptor, data, 0, LONG_SECONDS, direct=False)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        ring.finish()
    assert caught.value.errno == number
    assert not ring.is_busy
    os.close(descriptor)


class Refusing:
    """The system call, in a container that forbids it or on an old kernel."""

    def __init__(self, **answers: int) -> None:
        self._real = load_system_call()
        self.answers = answers
        self.is_old = False
        self.refuses_once = False

    def __call__(self, number: int, *arguments: int) -> int:
        name = {425: "setup", 426: "enter"}[number]
        answer = self.answers.get(name)
        if name == "enter" and self.refuses_once:
            self.refuses_once = False
            return -1
        if answer is None:
            result = self._real(number, *arguments)
            if name == "setup" and self.is_old:
                ctypes.memset(arguments[1] + 20, 0, 4)  # the features
            return result
        if answer < 0:
            ctypes.set_errno(-answer)
            return -1
        return answer


def test_no_ring_where_it_is_forbidden() -> None:
    """As docker does."""
    with pytest.raises(PermissionError, match="io_uring: Operation not permitted"):
        Ring(Refusing(setup=-errno.EPERM))


@needs_ring
def test_no_ring_on_an_old_kernel() -> None:
    """One that could not wait for a bounded time; nothing is left open."""
    call = Refusing()
    call.is_old = True
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="too old"):
        Ring(call)
    assert len(os.listdir("/proc/self/fd")) == before


@needs_ring
@pytest.mark.parametrize(("answer", "text"), [(-errno.EBUSY, "busy"), (0, "takes no write")])
def test_write_that_cannot_be_begun_raises(file: int, answer: int, text: str) -> None:
    """It counts as one that has failed."""
    call = Refusing()
    ring = Ring(call)
    call.answers["enter"] = answer
    with pytest.raises(OSError, match=text):
        ring.begin(file, b"x", 0, 0.0, direct=False)
    assert not ring.is_busy
    ring.close()


@needs_ring
def test_write_that_is_refused_for_a_moment_is_offered_again(file: int) -> None:
    """The first of the two calls does not say what is wrong."""
    call = Refusing()
    ring = Ring(call)
    call.refuses_once = True
    ring.begin(file, b"again", 0, LONG_SECONDS, direct=False)
    assert not call.refuses_once
    until_finished(ring)
    assert os.pread(file, 5, 0) == b"again"
    ring.close()
