"""Members on loopback exchange messages, lose each other and find each other again."""

import asyncio
import gc
import socket
from dataclasses import replace

from raft.entry import NORMAL, Entry
from raft.messages import Append, Envelope
from tests.raft.transport.conftest import Run
from tests.raft.transport.members import QUICK, Member, cluster, heartbeat, install, stranger, until


def test_transport_three_members_deliver_in_order_and_to_the_recipient(run: Run) -> None:
    """Each message reaches the member it names, once, in the order of sending."""

    async def scenario() -> None:
        a, b, c = Member(1), Member(2), Member(3)
        async with cluster(a, b, c):
            for i in range(50):
                a.transport.send([heartbeat(1, 2, i), heartbeat(1, 3, 100 + i), heartbeat(1, 9)])
            c.transport.send([heartbeat(3, 2, 1000)])
            await until(lambda: len(b.envelopes) == 51 and len(c.envelopes) == 50)
            assert [e for e in b.envelopes if e.sender == 1] == [
                heartbeat(1, 2, i) for i in range(50)
            ]
            assert c.commits == list(range(100, 150))
            assert a.envelopes == []

    run(scenario())


def test_transport_one_send_arrives_as_one_batch(run: Run) -> None:
    """The envelopes of one call for one peer come in one call, and are counted on both sides."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            a.transport.send([heartbeat(1, 2, i) for i in range(20)])
            await until(lambda: b.envelopes)
            assert b.batches == [20]
            sent, received = a.transport.stats(2), b.transport.stats(1)
            assert sent is not None
            assert received is not None
            assert (sent.messages_sent, received.messages_received) == (20, 20)
            assert sent.bytes_sent == received.bytes_received > 0
            assert sent.messages_dropped == 0
            assert a.transport.stats(77) is None

    run(scenario())


def test_transport_large_append_arrives_whole(run: Run) -> None:
    """A frame of many reads of the socket is put together."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            entries = [Entry(i, 1, NORMAL, bytes([i]) * 500_000) for i in range(1, 9)]
            envelope = Envelope(1, 2, 1, Append(0, 0, 0, entries))
            a.transport.send([envelope, heartbeat(1, 2, 5)])
            await until(lambda: len(b.envelopes) == 2)
            assert b.envelopes == [envelope, heartbeat(1, 2, 5)]

    run(scenario())


def test_transport_frame_above_the_bound_is_split_and_a_message_above_it_dropped(run: Run) -> None:
    """What is too large together goes in several frames; what is too large alone does not go."""

    async def scenario() -> None:
        a, b = Member(1, tuning=replace(QUICK, max_frame_bytes=200)), Member(2)
        async with cluster(a, b):
            huge = Envelope(1, 2, 1, Append(0, 0, 0, [Entry(1, 1, NORMAL, bytes(300))]))
            a.transport.send([*(heartbeat(1, 2, i) for i in range(100)), huge])
            await until(lambda: len(b.envelopes) == 100 and a.unreachable)
            assert b.commits == list(range(100))
            stats = a.transport.stats(2)
            assert stats is not None
            assert stats.messages_dropped == 1

    run(scenario())


def test_transport_to_a_member_that_is_down_drops_and_tells_once(run: Run) -> None:
    """Nothing is kept for a peer that is not there, and its absence is told once."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, connect=False):
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                a.transport.add_peer(2, [f"http://127.0.0.1:{closed.getsockname()[1]}"])
            for i in range(10):
                a.transport.send([heartbeat(1, 2, i)])
            assert a.unreachable == []  # never from inside the call
            await until(lambda: a.unreachable)
            a.transport.send([heartbeat(1, 2)])
            await asyncio.sleep(0)
            assert a.unreachable == [2]
            stats = a.transport.stats(2)
            assert stats is not None
            assert stats.messages_dropped == 11
            assert a.transport.active_since(2) is None
            assert b.envelopes == []

    run(scenario())


def test_transport_peer_that_stops_is_told_at_once_in_both_directions(run: Run) -> None:
    """Both the stream to the peer and the stream from it are missed; nobody else is."""

    async def scenario() -> None:
        a, b, c = Member(1), Member(2), Member(3)
        async with cluster(a, b, c):
            await c.transport.stop()
            await until(lambda: a.unreachable and a.streams_lost and b.streams_lost)
            assert (a.unreachable, a.streams_lost) == ([3], [3])
            assert a.transport.active_since(3) is None
            assert not a.transport.is_connected(3)
            assert a.transport.active_since(2) is not None
            assert a.transport.is_connected(2)
            assert not a.transport.is_connected(4)
            a.transport.send([heartbeat(1, 2, 8), heartbeat(1, 3, 9)])
            await until(lambda: b.commits == [8])
            # A member that stops tells nothing of its own going.
            assert (c.unreachable, c.streams_lost) == ([], [])

    run(scenario())


def test_transport_peer_that_returns_on_its_port_is_reached_again(run: Run) -> None:
    """Ports can be bound again at once, and streams in both directions come back."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            for turn in range(3):
                await b.transport.stop()
                await until(lambda: a.transport.active_since(2) is None)
                await b.restart()
                b.add(a)
                await a.reach(b)
                await b.reach(a)
                a.transport.send([heartbeat(1, 2, turn)])
                b.transport.send([heartbeat(2, 1, turn)])
                await until(lambda n=turn + 1: len(a.envelopes) == len(b.envelopes) == n)
            assert a.unreachable == [2, 2, 2]
            assert a.reachable == [2, 2, 2, 2]

    run(scenario())


def test_transport_incoming_stream_makes_it_dial_at_once(run: Run) -> None:
    """A peer that dials us is dialed without waiting for the end of the backoff."""

    async def scenario() -> None:
        patient = replace(QUICK, first_backoff_seconds=3600, last_backoff_seconds=3600)
        a, b = Member(1, tuning=patient), Member(2)
        await b.start()
        async with cluster(a, connect=False):
            a.add(b)
            await a.reach(b)
            await b.transport.stop()
            await until(lambda: a.transport.active_since(2) is None)
            await b.restart()
            assert a.transport.active_since(2) is None
            b.add(a)
            await a.reach(b)
            await b.transport.stop()

    run(scenario())


def test_transport_tries_every_url_of_a_peer(run: Run) -> None:
    """A peer with a dead URL and one of no use is reached by its third."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b, connect=False):
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
                a.transport.add_peer(2, [dead, "unix://nowhere", b.url])
                await a.reach(b)

    run(scenario())


def test_transport_update_peer_dials_anew_and_keeps_what_works(run: Run) -> None:
    """New URLs are for the next stream: by the old one the peer may yet learn that it moves."""

    async def scenario() -> None:
        a, b, moved = Member(1), Member(2), Member(2)
        async with cluster(a, b, moved, connect=False):
            a.transport.add_peer(2, [b.url])
            await a.reach(b)
            since = a.transport.active_since(2)
            a.transport.update_peer(2, [moved.url])
            a.transport.update_peer(3, [b.url])
            a.transport.send([heartbeat(1, 2, 4)])
            await until(lambda: b.commits == [4])
            assert a.transport.active_since(2) == since
            await b.transport.stop()
            await until(lambda: a.transport.active_since(2) not in (None, since))
            a.transport.send([heartbeat(1, 2, 5)])
            await until(lambda: moved.commits == [5])
            assert a.transport.peer_ids == [2]

    run(scenario())


def test_transport_update_peer_ends_the_backoff(run: Run) -> None:
    """A peer that was not found is dialed at once where it is said to be now."""

    async def scenario() -> None:
        patient = replace(QUICK, first_backoff_seconds=3600, last_backoff_seconds=3600)
        a, b = Member(1, tuning=patient), Member(2)
        async with cluster(a, b, connect=False):
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                a.transport.add_peer(2, [f"http://127.0.0.1:{closed.getsockname()[1]}"])
                await until(lambda: a.transport._peers[2]._last_failure)
            a.transport.update_peer(2, [b.url])
            await a.reach(b)

    run(scenario())


def test_transport_stopped_reader_is_bounded_and_delays_nobody(run: Run) -> None:
    """A peer that takes nothing costs at most the bound, is told once, and others do not wait."""

    async def scenario() -> None:
        bound = 256 * 1024
        a, b = Member(1, tuning=replace(QUICK, max_buffer_bytes=bound)), Member(2)
        async with cluster(a, b), stranger(take_nothing) as paused:
            a.transport.add_peer(3, [paused])
            await until(lambda: a.transport.active_since(3) is not None)
            data = bytes(64 * 1024)
            for i in range(1, 400):
                entries = [Entry(i, 1, NORMAL, data)]
                a.transport.send([Envelope(1, 3, 1, Append(i - 1, 1 if i > 1 else 0, 0, entries))])
                if i % 100 == 0:
                    a.transport.send([heartbeat(1, 2, i)])
                    await until(lambda i=i: i in b.commits)
            stats = a.transport.stats(3)
            assert stats is not None
            assert stats.messages_dropped > 100
            buffered = [s.write_buffer_bytes for s in a.transport._local.streams]
            assert bound < max(buffered) < bound + 2 * len(data)
            await until(lambda: a.unreachable)
            assert a.unreachable == [3]

    run(scenario())


def test_transport_silent_connection_is_given_up(run: Run) -> None:
    """A peer that neither sends nor closes is lost after the bound of silent ticks."""

    async def scenario() -> None:
        a = Member(1, tuning=replace(QUICK, tick_seconds=0.005, silent_ticks=3))
        async with cluster(a, connect=False), stranger(take_nothing) as paused:
            a.transport.add_peer(3, [paused])
            await until(lambda: a.transport.active_since(3) is not None)
            await until(lambda: a.unreachable)
            assert a.unreachable == [3]

    run(scenario())


def test_transport_peer_that_never_answers_the_handshake_is_given_up(run: Run) -> None:
    """A stopped process takes connections and says nothing; each attempt is bounded."""

    async def say_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        a = Member(1, tuning=replace(QUICK, dial_seconds=0.02))
        async with cluster(a), stranger(say_nothing) as url:
            a.transport.add_peer(3, [url])
            await until(lambda: a.transport._peers[3]._failures > 2)
            assert a.transport._peers[3]._last_failure == f"dial {url}: timed out"
            assert a.transport.active_since(3) is None

    run(scenario())


def test_transport_peer_that_hangs_up_after_the_handshake_is_not_dialed_in_a_loop(run: Run) -> None:
    """A stream that lives for less than a tick counts as a failure, and is followed by a wait."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await writer.drain()

    async def scenario() -> None:
        a = Member(1)
        async with cluster(a), stranger(hang_up) as url:
            a.transport.add_peer(3, [url])
            await until(lambda: a.transport._peers[3]._failures > 3)
            assert set(a.unreachable) == {3}

    run(scenario())


def test_transport_idle_connection_is_kept(run: Run) -> None:
    """Two members with nothing to say to each other stay connected, by their signs of life."""

    async def scenario() -> None:
        tuning = replace(QUICK, tick_seconds=0.01, silent_ticks=10)
        a, b = Member(1, tuning=tuning), Member(2, tuning=tuning)
        async with cluster(a, b):
            since = a.transport.active_since(2)
            ages = [stream.age_ticks for stream in a.transport._local.streams]
            await until(
                lambda: all(s.age_ticks > max(ages) + 20 for s in a.transport._local.streams)
            )
            assert a.transport.active_since(2) == since
            assert a.envelopes == b.envelopes == []

    run(scenario())


def test_transport_member_that_is_not_known_is_answered_at_its_own_url(run: Run) -> None:
    """A follower that lags behind answers a leader it has never heard of; then forgets it."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b, connect=False):
            # Started again, so that it knows its own URL and can say it.
            await a.transport.stop()
            await a.restart()
            a.add(b)
            await b.reach(a)
            a.transport.send([heartbeat(1, 2, 3)])
            await until(lambda: b.commits == [3])
            b.transport.send([heartbeat(2, 1, 4)])
            await until(lambda: a.commits == [4])
            assert b.transport.peer_ids == []
            await a.transport.stop()
            await until(lambda: b.transport.stats(1) is None)
            assert (b.unreachable, b.streams_lost) == ([], [])

    run(scenario())


def test_transport_guest_that_becomes_a_peer_keeps_its_streams(run: Run) -> None:
    """The entry that adds a member may come over the stream of that very member."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b, connect=False):
            a.add(b)
            await a.reach(b)
            await until(lambda: b.transport.stats(1) is not None)
            b.add(a)
            await b.reach(a)
            assert b.transport.peer_ids == [1]
            assert b.streams_lost == a.streams_lost == []

    run(scenario())


def test_transport_removed_peer_gets_what_was_sent_and_nothing_more(run: Run) -> None:
    """What left before the removal arrives; after it there are no messages and no streams."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            entries = [Entry(1, 1, NORMAL, bytes(1_000_000))]
            a.transport.send([Envelope(1, 2, 1, Append(0, 0, 0, entries))])
            a.transport.mark_removed([2])
            a.transport.send([heartbeat(1, 2)])
            await until(lambda: b.envelopes)
            assert b.commits == []
            assert a.transport.peer_ids == []
            a.transport.add_peer(2, [b.url])
            assert a.transport.peer_ids == []
            await until(lambda: b.rejections)
            assert (a.unreachable, a.streams_lost) == ([], [])

    run(scenario())


def test_transport_stop_closes_sockets_and_tells_nothing_more(run: Run) -> None:
    """After `stop` the port is free, late sends are dropped, and no warning is left to be given."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        async with cluster(a, b):
            port = a.port
            await a.transport.stop()
            assert a.transport._local.streams == set()
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            a.transport.send([heartbeat(1, 2), install(1, 2)])
            await until(lambda: b.streams_lost)
            assert (a.unreachable, a.streams_lost, a.snapshots) == ([], [], [])
            assert b.snapshots == []

    run(scenario())
    gc.collect()  # what was not closed warns, and warnings are errors


def test_transport_that_never_started_can_be_stopped(run: Run) -> None:
    """A start that fails elsewhere leaves a transport that stops like any other."""

    async def scenario() -> None:
        a = Member(1)
        a.transport.add_peer(2, ["http://127.0.0.1:1"])
        a.transport.send([heartbeat(1, 2), install(1, 2)])
        await a.transport.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario())


def test_transport_callback_that_raises_reaches_the_loops_exception_handler(run: Run) -> None:
    """A failed assertion of the core is not swallowed on its way through the transport."""

    async def scenario() -> None:
        a, b = Member(1), Member(2)
        seen: list[object] = []
        loop = asyncio.get_running_loop()
        async with cluster(a, b):
            loop.set_exception_handler(lambda _, context: seen.append(context.get("exception")))

            def fail(_: object) -> None:
                raise AssertionError("commit 5 beyond last 3")

            b.on_envelopes = fail  # type: ignore[method-assign]
            a.transport.send([heartbeat(1, 2)])
            await until(lambda: seen)
            assert str(seen[0]) == "commit 5 beyond last 3"

    run(scenario())


async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the handshake and then read nothing, like a process under SIGSTOP."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raft\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()
