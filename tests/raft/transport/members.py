"""Members that do nothing but exchange messages on loopback, and remember what they were told."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from ssl import SSLContext

from raft.entry import Configuration, SnapshotMeta
from raft.errors import CorruptRecord, PeerRejected
from raft.messages import Envelope, Heartbeat, InstallSnapshot
from raft.transport import Transport, Tuning

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]

CLUSTER_ID = 0xC0FFEE

# Quick enough for a test, and slow enough for a busy machine.
QUICK = Tuning(
    tick_seconds=0.02,
    silent_ticks=100,
    dial_seconds=2.0,
    first_backoff_seconds=0.002,
    last_backoff_seconds=0.01,
    stall_seconds=5.0,
    commit_seconds=5.0,
    stop_seconds=0.5,
)

META = SnapshotMeta(7, 2, Configuration(voters=(1, 2)))


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Return when `condition` holds; fails when it never does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - not all of it sets an event
            await asyncio.sleep(0.001)


def heartbeat(sender: int, recipient: int, commit: int = 0) -> Envelope:
    """A message that is recognised by its commit index."""
    return Envelope(sender, recipient, 1, Heartbeat(commit, 0))


def install(sender: int, recipient: int, meta: SnapshotMeta = META) -> Envelope:
    """The message that makes the transport stream a snapshot."""
    return Envelope(sender, recipient, 2, InstallSnapshot(meta))


class Disk:
    """Snapshots in memory: `sent` is what this member streams, `received` what it was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = [b"state"]
        # Raised by the reader after all of `sent`.
        self.read_error: Exception | None = None
        # Raised by `receive_snapshot`, `write` and `commit`, respectively.
        self.open_error: Exception | None = None
        self.write_error: Exception | None = None
        self.commit_error: Exception | None = None
        self.committed_meta = META
        # Held back until set; for what happens in the midst of a snapshot.
        self.may_read = threading.Event()
        self.may_read.set()
        self.received: list[bytes] = []
        self.committed = 0
        self.aborted = 0
        self.closed_readers = 0

    def open_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        if meta.index == 404:
            raise CorruptRecord("snap/404", 0, "bad checksum")
        return self._read()

    def _read(self) -> Iterator[bytes]:
        try:
            for chunk in self.sent:
                yield chunk
                assert self.may_read.wait(10), "held back for too long"
            if self.read_error is not None:
                raise self.read_error
        finally:
            self.closed_readers += 1

    def receive_snapshot(self) -> "Disk":
        if self.open_error is not None:
            raise self.open_error
        self.received = []
        return self

    def write(self, data: bytes) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.received.append(data)

    def commit(self) -> SnapshotMeta:
        if self.commit_error is not None:
            raise self.commit_error
        self.committed += 1
        return self.committed_meta

    def abort(self) -> None:
        self.aborted += 1


class Member:
    """One transport and everything it told."""

    def __init__(
        self,
        member_id: int,
        *,
        tuning: Tuning = QUICK,
        cluster_id: int = CLUSTER_ID,
        server_tls: SSLContext | None = None,
        client_tls: SSLContext | None = None,
    ) -> None:
        self.member_id = member_id
        self.disk = Disk()
        self.envelopes: list[Envelope] = []
        self.batches: list[int] = []
        self.unreachable: list[int] = []
        self.reachable: list[int] = []
        self.streams_lost: list[int] = []
        self.rejections: list[tuple[int, PeerRejected]] = []
        self.snapshots: list[tuple[int, bool]] = []
        self.addresses: list[tuple[str, int]] = []
        self._cluster_id = cluster_id
        self._tuning = tuning
        self._server_tls = server_tls
        self._client_tls = client_tls
        self.transport = self._make()

    def _make(self, port: int = 0) -> Transport:
        # Only a fixed port can be told to strangers before it is known.
        urls = [f"http://127.0.0.1:{port}"] if port else []
        return Transport(
            self.member_id,
            self._cluster_id,
            events=self,
            files=self.disk,
            random=random.Random(self.member_id),
            peer_urls=urls,
            server_version="2.3.8",
            tuning=self._tuning,
            server_tls=self._server_tls,
            client_tls=None if self._client_tls is None else lambda: self._client_tls,
            wall_clock=lambda: 1500.25,
        )

    @property
    def port(self) -> int:
        return self.addresses[0][1]

    @property
    def url(self) -> str:
        return f"{'https' if self._server_tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def commits(self) -> list[int]:
        """What recognises the heartbeats that came."""
        return [e.message.commit for e in self.envelopes if isinstance(e.message, Heartbeat)]

    async def start(self) -> None:
        self.addresses = await self.transport.start([("127.0.0.1", 0)])

    async def restart(self) -> None:
        """Begin anew on the same port, after `transport.stop`, knowing no peer."""
        self.transport = self._make(self.port)
        self.addresses = await self.transport.start([("127.0.0.1", self.port)])

    def add(self, *others: "Member") -> None:
        for other in others:
            self.transport.add_peer(other.member_id, [other.url])

    async def reach(self, *others: "Member") -> None:
        """Wait until there is a stream to all of these."""
        for other in others:
            await until(lambda id_=other.member_id: self.transport.active_since(id_) is not None)

    def on_envelopes(self, envelopes: list[Envelope]) -> None:
        self.envelopes.extend(envelopes)
        self.batches.append(len(envelopes))

    def on_unreachable(self, peer_id: int) -> None:
        self.unreachable.append(peer_id)

    def on_reachable(self, peer_id: int) -> None:
        self.reachable.append(peer_id)

    def on_stream_lost(self, peer_id: int) -> None:
        self.streams_lost.append(peer_id)

    def on_rejected(self, peer_id: int, error: PeerRejected) -> None:
        self.rejections.append((peer_id, error))

    def on_snapshot_sent(self, peer_id: int, *, delivered: bool) -> None:
        self.snapshots.append((peer_id, delivered))


@asynccontextmanager
async def cluster(*members: Member, connect: bool = True) -> AsyncIterator[None]:
    """Start these, connect each with each, and leave nothing behind."""
    before = asyncio.all_tasks()
    try:
        for member in members:
            await member.start()
        if connect:
            for member in members:
                others = [other for other in members if other is not member]
                member.add(*others)
            for member in members:
                await member.reach(*[other for other in members if other is not member])
        yield
    finally:
        for member in members:
            member.disk.may_read.set()
            await member.transport.stop()
        left = asyncio.all_tasks() - before
        assert not left, f"tasks left behind: {left}"


@asynccontextmanager
async def stranger(handle: Handle) -> AsyncIterator[str]:
    """A server that is no member of ours: `handle` gets each connection. Yields its URL."""
    tasks: set[asyncio.Task[None]] = set()
    is_open = True

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_open:
            tasks.add(asyncio.ensure_future(_handle(handle, reader, writer)))
        else:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        is_open = False
        server.close()
        await server.wait_closed()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _handle(
    handle: Handle, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        await handle(reader, writer)
    except (OSError, EOFError):
        pass
    finally:
        writer.transport.abort()
        try:
            await writer.wait_closed()
        except OSError:
            pass
