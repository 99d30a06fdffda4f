"""A snapshot arrives whole and is handed over then, or leaves no trace and both sides know."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import ClientSession

from raft.codec import encode_envelopes
from raft.entry import Configuration, SnapshotMeta
from raft.errors import CorruptRecord
from raft.messages import Envelope
from raft.transport.handshake import Hello
from tests.raft.transport.conftest import Run
from tests.raft.transport.members import (
    CLUSTER_ID,
    QUICK,
    Member,
    cluster,
    heartbeat,
    install,
    stranger,
    until,
)

OTHER_META = SnapshotMeta(8, 2, Configuration(voters=(1, 2)))


def test_snapshot_is_streamed_committed_and_handed_over(run: Run) -> None:
    """The bytes are those that were read, and the core hears of it after the commit."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        # Empty pieces must not end it, and large ones are cut.
        a.disk.sent = [b"head", b"", bytes(range(256)) * 2000, b"tail"]
        async with cluster(a, b):
            a.transport.send([heartbeat(1, 2, 1), install(1, 2), heartbeat(1, 2, 2)])
            await until(lambda: a.snapshots)
            assert a.snapshots == [(2, True)]
            assert b"".join(b.disk.received) == b"".join(a.disk.sent)
            assert (b.disk.committed, b.disk.aborted) == (1, 0)
            await until(lambda: install(1, 2) in b.envelopes)
            assert b.commits == [1, 2]
            await until(lambda: a.disk.closed_readers == 1)

    run(scenario())


def test_snapshot_of_no_bytes_is_a_snapshot(run: Run) -> None:
    """Whether so little can be right is for the receiver's storage to say."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.disk.sent = []
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots == [(2, True)])

    run(scenario())


@pytest.mark.parametrize(
    ("attribute", "error"),
    [
        ("commit_error", CorruptRecord("snap/7", 12, "bad checksum")),
        ("commit_error", OSError(28, "No space left on device")),
        ("write_error", OSError(28, "No space left on device")),
        ("open_error", OSError(13, "Permission denied")),
    ],
)
def test_snapshot_that_is_not_taken_is_aborted_and_reported(
    run: Run, attribute: str, error: Exception
) -> None:
    """The sender learns the reason; the receiver forgets the bytes; the next one can come."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.disk.sent = [bytes(100_000)] * 20
        setattr(b.disk, attribute, error)
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots)
            assert a.snapshots == [(2, False)]
            assert str(error) in a.transport._peers[2].exchange._last_complaint
            assert b.disk.aborted == (0 if attribute == "open_error" else 1)
            assert b.disk.committed == 0
            assert b.envelopes == []
            setattr(b.disk, attribute, None)
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots[1:] == [(2, True)])

    run(scenario())


@pytest.mark.parametrize("error", [CorruptRecord("snap/7", 9, "torn"), OSError(5, "I/O error")])
def test_snapshot_that_cannot_be_read_to_its_end_is_not_delivered(
    run: Run, error: Exception
) -> None:
    """A body that stops in the middle is not taken for a shorter one."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.disk.read_error = error
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots == [(2, False)])
            await until(lambda: b.disk.aborted == 1)
            assert b.disk.committed == 0
            assert b.envelopes == []

    run(scenario())


def test_snapshot_that_cannot_be_opened_is_not_delivered(run: Run) -> None:
    """The file may have been purged, or found corrupt, since the message was made."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            a.transport.send([install(1, 2, SnapshotMeta(404, 1, Configuration((1, 2))))])
            await until(lambda: a.snapshots == [(2, False)])
            assert b.disk.aborted == 0

    run(scenario())


def test_snapshot_with_another_name_than_its_message_is_not_handed_over(run: Run) -> None:
    """The core must not be told of a state that is another one on disk."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        b.disk.committed_meta = OTHER_META
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots == [(2, False)])
            assert "snapshot 8@2, not 7@2" in a.transport._peers[2].exchange._last_complaint
            assert b.envelopes == []

    run(scenario())


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_snapshot_cut_by_a_stop_is_aborted(run: Run, who: str) -> None:
    """Neither side's stop leaves half a file or waits for the whole."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.disk.sent = [b"half"]
        a.disk.may_read.clear()
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: b.disk.received)
            await (a if who == "sender" else b).transport.stop()
            a.disk.may_read.set()
            await until(lambda: b.disk.aborted == 1)
            assert b.disk.committed == 0
            assert b.envelopes == []
            if who == "receiver":
                await until(lambda: a.snapshots == [(2, False)])
            else:
                assert a.snapshots == []

    run(scenario())


def test_snapshot_under_way_ignores_repetition_and_yields_to_a_newer_one(run: Run) -> None:
    """One transfer to a peer at a time; each is answered for once."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.disk.may_read.clear()
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: b.disk.received)
            a.transport.send([install(1, 2)])
            b.disk.committed_meta = OTHER_META
            a.transport.send([install(1, 2, OTHER_META)])
            await asyncio.sleep(0)
            a.disk.may_read.set()
            await until(lambda: a.snapshots)
            # The receiver may still be busy with aborting the first.
            while a.snapshots[-1] != (2, True):
                known = len(a.snapshots)
                a.transport.send([install(1, 2, OTHER_META)])
                await until(lambda known=known: len(a.snapshots) > known)
            assert b.disk.committed == 1

    run(scenario())


def test_snapshot_to_a_removed_peer_ends_untold(run: Run) -> None:
    """Nobody waits for the result, and the transfer does not go on."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        a.disk.may_read.clear()
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: b.disk.received)
            a.transport.remove_peer(2)
            a.disk.may_read.set()
            await until(lambda: b.disk.aborted == 1)
            assert a.snapshots == []

    run(scenario())


def test_second_snapshot_while_one_is_received_is_refused(run: Run) -> None:
    """Two leaders at once cannot fill a follower's disk together."""

    async def scenario() -> None:
        a, b, c = Member(1), Member(2), Member(3)
        a.disk.may_read.clear()
        async with cluster(a, b, c):
            a.transport.send([install(1, 2)])
            await until(lambda: b.disk.received)
            c.transport.send([install(3, 2)])
            await until(lambda: c.snapshots == [(2, False)])
            a.disk.may_read.set()
            await until(lambda: a.snapshots == [(2, True)])

    run(scenario())


def test_snapshot_to_a_peer_that_is_down_or_silent_is_reported(run: Run) -> None:
    """No answer is an answer after a bounded time: no URL, nobody there, nothing said."""

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async def scenario() -> None:
        a = Member(1, tuning=replace(QUICK, stall_seconds=0.05, commit_seconds=0.05))
        a.disk.sent = [bytes(1_000_000)] * 20
        async with cluster(a), stranger(silent) as url:
            a.transport.add_peer(2, [])
            a.transport.add_peer(3, ["http://127.0.0.1:1"])
            a.transport.add_peer(4, [url])
            a.transport.send([install(1, 2), install(1, 3), install(1, 4), install(1, 9)])
            await until(lambda: len(a.snapshots) == 3)
            assert sorted(a.snapshots) == [(2, False), (3, False), (4, False)]
            assert "no progress for 0.05 s" in a.transport._peers[4].exchange._last_complaint

    run(scenario())


def test_snapshot_sender_that_falls_silent_is_given_up(run: Run) -> None:
    """A receiver does not wait for ever with half a file; the next sender gets its turn."""

    async def scenario() -> None:
        b = Member(2, tuning=replace(QUICK, stall_seconds=0.05))
        async with cluster(b):
            reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
            lines = [f"{name}: {value}" for name, value in headers().items()]
            head = ["POST /raft/snapshot HTTP/1.1", "Host: x", "Transfer-Encoding: chunked"]
            writer.write("\r\n".join([*head, *lines, "", "4\r\nhalf\r\n"]).encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 500 " in answer
            assert b.disk.aborted == 1
            writer.close()
            await writer.wait_closed()

    run(scenario())


def headers(*envelopes: Envelope, **changed: str) -> dict[str, str]:
    hello = Hello(CLUSTER_ID, 1, 2, "2.3.8", ()).headers()
    encoded = base64.b64encode(encode_envelopes(list(envelopes) or [install(1, 2)])).decode()
    return {**hello, "X-Raft-Envelope": encoded, **changed}


@asynccontextmanager
async def posted(member: Member, said: dict[str, str]) -> AsyncIterator[tuple[int, str]]:
    async with (
        ClientSession() as session,
        session.post(f"{member.url}/raft/snapshot", headers=said, data=b"state") as response,
    ):
        yield response.status, await response.text()


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (headers(), 204, ""),
        (headers(**{"X-Etcd-Cluster-ID": "5"}), 412, "cluster ID mismatch"),
        (headers(**{"X-Server-From": "99"}), 400, "InstallSnapshot"),
        (headers(**{"X-Raft-Envelope": ""}), 400, "X-Raft-Envelope"),
        (headers(**{"X-Raft-Envelope": "§"}), 400, "X-Raft-Envelope"),
        (headers(**{"X-Raft-Envelope": "AAAA"}), 400, "X-Raft-Envelope"),
        (headers(heartbeat(1, 2)), 400, "not one InstallSnapshot"),
        (headers(install(1, 2), install(1, 2)), 400, "not one InstallSnapshot"),
        (headers(install(1, 3)), 400, "not one InstallSnapshot"),
    ],
)
def test_snapshot_request_is_checked_before_its_body(
    run: Run, said: dict[str, str], status: int, text: str
) -> None:
    """Only one InstallSnapshot from a member of the cluster to this one opens a file."""

    async def scenario() -> None:
        b = Member(2)
        async with cluster(b):
            async with posted(b, said) as (got, body):
                assert got == status
                assert text in body
            assert b.disk.committed == (1 if status == 204 else 0)
            assert b.disk.aborted == 0

    run(scenario())


def test_snapshot_refused_by_the_door_is_told_to_the_sender(run: Run) -> None:
    """A peer that has come to belong to another cluster takes no state of ours."""

    async def scenario() -> None:
        a, b = Member(1), Member(2, cluster_id=5)
        async with cluster(a, b, connect=False):
            a.add(b)
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots == [(2, False)])
            assert "cluster ID mismatch" in a.transport._peers[2].exchange._last_complaint

    run(scenario())


@pytest.mark.parametrize("where", ["commit_error", "read_error"])
def test_snapshot_failed_assertion_reaches_the_loops_exception_handler(
    run: Run, where: str
) -> None:
    """A bug in storage is not mistaken for a failure of the network, on either side."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        seen: list[object] = []
        setattr(a.disk if where == "read_error" else b.disk, where, AssertionError("ours"))
        async with cluster(a, b):
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
            a.transport.send([install(1, 2)])
            await until(lambda: seen)
            assert isinstance(seen[0], AssertionError)

    run(scenario())


def test_snapshot_that_cannot_be_removed_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """An abort that fails does not hide what made it necessary."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)

        def fail() -> None:
            raise OSError(30, "Read-only file system")

        b.disk.write_error = OSError(30, "Read-only file system")
        b.disk.abort = fail  # type: ignore[method-assign]
        async with cluster(a, b):
            a.transport.send([install(1, 2)])
            await until(lambda: a.snapshots == [(2, False)])

    run(scenario())
    assert any("is not removed" in record.getMessage() for record in caplog.records)
