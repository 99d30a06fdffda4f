"""Ring: one durable write at a time, carried out by the kernel while our own threads go on.

By io_uring (Linux 5.11 and later; io_uring_enter(2)), without a library. To begin a write and to
wait for it, for a bounded time, is one system call; no thread of ours has to be woken for either,
nor the interpreter passed on. Whoever waits for a disk that is quick does not sleep either, but
looks whether it has answered, and gives way in between. Where the kernel has no io_uring, or a
container forbids it, `Ring()` raises OSError, and a thread has to do: see `raft.loop_storage`.

The kernel and we share two queues in memory. An entry that we put into one of them is looked at
during our system call; an answer in the other is complete before its number is raised. So there is
no race to guard against by more than the order of the statements below.
"""

import ctypes
import errno
import mmap
import os
import struct
import time
from collections.abc import Callable
from typing import Final

# A larger write is somebody else's: its copy would hold up the loop.
MAX_BYTES: Final = 1 << 20
# A write past the kernel's cache is looked at for so long before whoever waits for it sleeps, if
# the one before took no longer. Two commands to a disk that is near take a third of this; to be
# woken by each of them, on a processor that sleeps as well, takes as long as that again.
LOOK_SECONDS = 0.0003

# System calls have these numbers on all processors but Alpha.
_SETUP: Final = 425
_ENTER: Final = 426
_ENTRIES: Final = 1
_SQES_OFFSET: Final = 0x1000_0000
_PARAMS_BYTES: Final = 120
# Kernels that can wait with a timeout, and have both queues in one mapping, say so.
_FEATURES_OFFSET: Final = 20
_SINGLE_MAP: Final = 1 << 0
_EXT_ARG: Final = 1 << 8
_GET_EVENTS: Final = 1 << 0
_ENTER_EXT_ARG: Final = 1 << 3
# The entry of a write: operation, flags, priority, file, offset, address, length, and flags again.
# The rest of its 64 bytes stays zero.
_SQE: Final = struct.Struct("=BBHiQQIi")
_SQE_BYTES: Final = 64
_WRITE: Final = 23
# By a worker of the kernel, not in our system call, which a write into its cache would hold up.
_ASYNC: Final = 1 << 4
_CQE_BYTES: Final = 16
# Where a result is in it, in words.
_RESULT: Final = 2
_MASK: Final = 0xFFFF_FFFF


SystemCall = Callable[..., int]


def load_quick_call() -> SystemCall:
    """Return syscall(2) at half the cost, of which nothing is known but -1 when it fails.

    Integers are passed as C's int; what is none has to be a value of `ctypes`.
    """
    call = ctypes.CDLL(None).syscall
    call.restype = ctypes.c_long
    return call


def load_system_call() -> SystemCall:
    """Return syscall(2): -1 for an error, which `ctypes.get_errno` has."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long] * 5 + [ctypes.c_void_p, ctypes.c_long]
    return call


class Ring:
    """The queues of one file's writes.

    Invariants:
      1. At most one write is under way; its bytes are in `_buffer` and nobody changes them.
      2. A write that was begun is finished once, by the first `finish` that returns True or raises.
    """

    def __init__(self, call: SystemCall | None = None) -> None:
        """Raises OSError where there is no io_uring, or none that does what is needed."""
        self._call = call or load_system_call()
        self._quick_call = call or load_quick_call()
        params = ctypes.create_string_buffer(_PARAMS_BYTES)
        self._descriptor = self._checked(
            self._call(_SETUP, _ENTRIES, ctypes.addressof(params), 0, 0, None, 0)
        )
        os.set_inheritable(self._descriptor, False)
        try:
            self._map(params.raw)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._buffer = mmap.mmap(-1, MAX_BYTES)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        # How long to wait, also as the kernel reads it.
        self._wait_seconds = 0.0
        self._timeout = (ctypes.c_longlong * 2)()
        self._extended = ctypes.create_string_buffer(
            struct.pack("=QIIQ", 0, 0, 0, ctypes.addressof(self._timeout)), 24
        )
        self._argument = ctypes.c_void_p(ctypes.addressof(self._extended))
        self._argument_bytes = ctypes.c_long(24)
        self._durably: int = os.RWF_DSYNC
        # The write that is under way: its file, where it goes, how long it is, and how much of it
        # is done.
        self._file = -1
        self._offset = 0
        self._size = 0
        self._done = 0
        self._flags = _ASYNC
        # The last write that was waited for took no longer than LOOK_SECONDS.
        self._is_prompt = True

    def _map(self, params: bytes) -> None:
        entries, cq_entries = struct.unpack_from("<II", params)
        (features,) = struct.unpack_from("<I", params, _FEATURES_OFFSET)
        if features & (_SINGLE_MAP | _EXT_ARG) != _SINGLE_MAP | _EXT_ARG:
            raise OSError(errno.EOPNOTSUPP, "this kernel's io_uring is too old")
        _, tail, _, _, _, _, array = struct.unpack_from("<7I", params, 40)
        cq_head, cq_tail, cq_mask, _, _, cqes = struct.unpack_from("<6I", params, 80)
        size = max(array + 4 * entries, cqes + _CQE_BYTES * cq_entries)
        self._queues = mmap.mmap(self._descriptor, size, mmap.MAP_SHARED)
        self._sqes = mmap.mmap(
            self._descriptor, _SQE_BYTES * entries, mmap.MAP_SHARED, offset=_SQES_OFFSET
        )
        self._words = memoryview(self._queues).cast("I")
        self._results = memoryview(self._queues).cast("i")
        # The only entry is always the next one.
        self._words[array // 4] = 0
        self._tail, self._cq_head, self._cq_tail = tail // 4, cq_head // 4, cq_tail // 4
        self._cqes, self._cq_mask = cqes // 4, self._words[cq_mask // 4]
        # How many were submitted, and how many have ended; modulo 2**32.
        self._submitted = self._words[self._tail]
        self._ended = self._words[self._cq_head]

    def fileno(self) -> int:
        """Return what becomes readable when a write has ended."""
        return self._descriptor

    @property
    def is_busy(self) -> bool:
        """Whether a write is under way."""
        return self._file >= 0

    def begin(
        self, descriptor: int, data: bytes, offset: int, wait_seconds: float, *, direct: bool
    ) -> None:
        """Have `data`, of at most MAX_BYTES, written durably; wait so long for it at most.

        `direct` says that the file was opened with O_DIRECT, and that data and offset are whole
        pages: the kernel hands these to the disk at once, and needs nobody to wait for it. Raises
        OSError when the write could not be begun.
        """
        assert not self.is_busy, "a write during another one"
        self._size = len(data)
        self._buffer[: self._size] = data
        self._file, self._offset, self._done = descriptor, offset, 0
        self._flags = 0 if direct else _ASYNC
        started = time.perf_counter()
        looks = direct and self._is_prompt and wait_seconds > 0
        self._submit(0.0 if looks else wait_seconds)
        if looks and not self._look(started + LOOK_SECONDS):
            # Whatever comes of it, `finish` tells.
            self._enter(0, wait_seconds)
        if wait_seconds > 0:
            self._is_prompt = time.perf_counter() - started < LOOK_SECONDS

    def finish(self) -> bool:
        """Whether the write has ended, all of it being on disk. Raises OSError if it has failed."""
        ended = self._ended
        if ended == self._words[self._cq_tail]:
            return False
        at = self._cqes + (ended & self._cq_mask) * (_CQE_BYTES // 4) + _RESULT
        result: int = self._results[at]
        self._ended = (ended + 1) & _MASK
        self._words[self._cq_head] = self._ended
        if result <= 0:
            self._file = -1
            # Nothing written is no error of the kernel's, but there would be no end of it.
            number = -result or errno.EIO
            raise OSError(number, os.strerror(number))
        self._done += result
        if self._done < self._size:
            self._submit(0.0)
            return False
        self._file = -1
        return True

    def close(self) -> None:
        """Give the queues back; no write may be under way."""
        assert not self.is_busy, "closed during a write"
        self._words.release()
        self._results.release()
        self._queues.close()
        self._sqes.close()
        os.close(self._descriptor)

    def _submit(self, wait_seconds: float) -> None:
        _SQE.pack_into(
            self._sqes,
            0,
            _WRITE,
            self._flags,
            0,
            self._file,
            self._offset + self._done,
            self._address + self._done,
            self._size - self._done,
            self._durably,
        )
        self._submitted = (self._submitted + 1) & _MASK
        self._words[self._tail] = self._submitted
        result = self._enter(1, wait_seconds)
        if result < 0:
            # The entry was not taken: it is offered again, to be taken or to learn why not.
            result = self._call(_ENTER, self._descriptor, 1, 0, 0, None, 0)
        if result != 1:
            self._file = -1
            self._checked(result)
            raise OSError(errno.EAGAIN, "the kernel takes no write")

    def _enter(self, count: int, wait_seconds: float) -> int:
        """Hand over so many entries, and wait so long for an answer; return what the call does."""
        if wait_seconds <= 0:
            return self._quick_call(_ENTER, self._descriptor, count, 0, 0, None, 0)
        if wait_seconds != self._wait_seconds:
            self._wait_seconds = wait_seconds
            self._timeout[1] = round(wait_seconds * 1e9)
        flags = _GET_EVENTS | _ENTER_EXT_ARG
        argument, size = self._argument, self._argument_bytes
        return self._quick_call(_ENTER, self._descriptor, count, 1, flags, argument, size)

    def _look(self, until: float) -> bool:
        """Whether the write ends until then; meanwhile others may run, the kernel's threads too."""
        while self._ended == self._words[self._cq_tail]:
            if time.perf_counter() >= until:
                return False
            os.sched_yield()
        return True

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"io_uring: {os.strerror(number)}")
        return result
