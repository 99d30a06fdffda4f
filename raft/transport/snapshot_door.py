"""Receiving snapshots: what another member streams here goes to the disk, or leaves no trace.

The disk is written in a thread, a piece at a time; while it is busy the connection is not read, so
that memory holds a few pieces and no more. Knows nothing of what a snapshot holds.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from raft.codec import DecodeError, decode_envelopes
from raft.entry import SnapshotMeta
from raft.errors import RaftError
from raft.messages import Envelope, InstallSnapshot
from raft.transport.handshake import ENVELOPE_HEADER, Hello, Refusal
from raft.transport.listener import CutOff
from raft.transport.local import Local, SnapshotFiles, SnapshotReceiver
from raft.transport.snapshot_sender import limit

log = logging.getLogger(__name__)


class SnapshotDoor:
    """Takes one snapshot at a time.

    Invariants:
      1. `on_envelopes` gets an `InstallSnapshot` only after its file was committed.
      2. Every receiver that was begun is committed or aborted, also when the sender or we stop.
    """

    def __init__(self, local: Local) -> None:
        self._local = local
        # One thread, so that a receiver is aborted only after the write that was under way.
        self._thread = ThreadPoolExecutor(1, "raft-snapshot-receive")
        self._task: asyncio.Task[object] | None = None

    def cancel(self) -> None:
        """Give up what is being received."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Receive no more; the thread ends with what it is doing."""
        self._thread.shutdown(wait=False)

    async def receive(
        self, hello: Hello, header: str, read: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Take the snapshot that `read` has, which `header` names. Raises Refusal."""
        envelope, meta = _read_header(hello, header, member_id=self._local.member_id)
        if self._task is not None:
            raise Refusal(503, "another snapshot is being received")
        log.info("receiving the snapshot at index %d from %x", meta.index, hello.sender)
        self._task = asyncio.current_task()
        try:
            committed = await self._receive(read)
        except CutOff as error:
            # Nobody is left to read this answer.
            raise Refusal(400, f"snapshot {meta.id} was cut off: {error}") from error
        except RaftError as error:
            raise Refusal(422, str(error)) from error
        except OSError as error:
            raise Refusal(500, str(error)) from error
        finally:
            self._task = None
        if committed != meta:
            raise Refusal(422, f"these bytes are snapshot {committed.id}, not {meta.id}")
        log.info("received the snapshot at index %d from %x", meta.index, hello.sender)
        # From a callback of the loop's own, whose exceptions a request's task cannot catch.
        asyncio.get_running_loop().call_soon(self._local.events.on_envelopes, [envelope])

    async def _receive(self, read: Callable[[], Awaitable[bytes]]) -> SnapshotMeta:
        loop = asyncio.get_running_loop()
        receiving = _Receiving(self._local.files)
        try:
            await loop.run_in_executor(self._thread, receiving.begin)
            while True:
                async with limit(self._local.tuning.stall_seconds, "read"):
                    data = await read()
                if not data:
                    break
                await loop.run_in_executor(self._thread, receiving.write, data)
            return await loop.run_in_executor(self._thread, receiving.commit)
        finally:
            # Shielded: a second cancellation must not take it out of the thread's queue.
            await asyncio.shield(loop.run_in_executor(self._thread, receiving.end))


class _Receiving:
    """One receiver, as the thread sees it. All methods are called in the thread."""

    def __init__(self, files: SnapshotFiles) -> None:
        self._files = files
        self._receiver: SnapshotReceiver | None = None

    def begin(self) -> None:
        self._receiver = self._files.receive_snapshot()

    def write(self, data: bytes) -> None:
        assert self._receiver is not None, "written to before it was begun"
        self._receiver.write(data)

    def commit(self) -> SnapshotMeta:
        assert self._receiver is not None, "committed before it was begun"
        meta = self._receiver.commit()
        self._receiver = None
        return meta

    def end(self) -> None:
        """Abort unless it was committed, or never begun."""
        if self._receiver is not None:
            try:
                self._receiver.abort()
            except OSError as error:
                log.warning("a snapshot that was given up is not removed: %s", error)


def _read_header(hello: Hello, header: str, *, member_id: int) -> tuple[Envelope, SnapshotMeta]:
    try:
        envelopes = decode_envelopes(base64.b64decode(header, validate=True))
    except (DecodeError, ValueError) as error:
        raise Refusal(400, f"header {ENVELOPE_HEADER}: {error}") from None
    for envelope in envelopes:
        message = envelope.message
        if (
            len(envelopes) == 1
            and isinstance(message, InstallSnapshot)
            and envelope.sender == hello.sender
            and envelope.recipient == member_id
        ):
            return envelope, message.meta
    raise Refusal(
        400, f"header {ENVELOPE_HEADER}: not one InstallSnapshot from sender to recipient"
    )
