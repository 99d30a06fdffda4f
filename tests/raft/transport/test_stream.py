"""Frames are cut out of any bytes, and a stream ends in bounded time whatever the other does."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.transport.stream import FrameError, FrameReader, Stream
from tests.raft.transport.conftest import Run

MAX = 1000


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@settings(deadline=None, max_examples=200)
@given(payloads=st.lists(st.binary(max_size=40), max_size=8), data=st.data())
def test_frame_reader_any_cuts_give_the_same_frames(
    payloads: list[bytes], data: st.DataObject
) -> None:
    """How the network cuts the bytes makes no difference; empty frames carry nothing."""
    wire = b"".join(map(frame, payloads))
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=10).map(sorted))
    reader = FrameReader(MAX)
    frames: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        frames += reader.feed(wire[start:end])
    assert frames == [payload for payload in payloads if payload]


@settings(deadline=None, max_examples=200)
@given(pieces=st.lists(st.binary(max_size=20), max_size=20))
def test_frame_reader_of_noise_keeps_no_more_than_it_got(pieces: list[bytes]) -> None:
    """Bytes of any kind are cut or refused, and never announced memory is taken."""
    reader = FrameReader(MAX)
    try:
        for piece in pieces:
            assert sum(map(len, reader.feed(piece))) <= sum(map(len, pieces))
    except FrameError:
        pass
    assert len(reader._rest) <= sum(map(len, pieces))


def test_frame_reader_frame_above_the_bound_is_refused_by_its_header() -> None:
    """Nobody can make us wait for, or keep, gigabytes."""
    assert FrameReader(MAX).feed(frame(bytes(MAX))) == [bytes(MAX)]
    with pytest.raises(FrameError, match="1001"):
        FrameReader(MAX).feed(frame(bytes(MAX + 1))[:4])


class FakeTransport:
    """Remembers what a stream does to its connection."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffered = 0
        self.is_closed = False
        self.is_aborted = False
        # Whether one direction can be closed; TLS cannot do that.
        self.has_halves = True
        self.has_ended = False

    def set_protocol(self, _: asyncio.BaseProtocol) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def can_write_eof(self) -> bool:
        return self.has_halves

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed


class Fixture:
    """A stream over a fake connection. Made inside a running loop."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost: list[str] = []
        self.streams: set[Stream] = set()
        self.transport = FakeTransport()
        self.stream = Stream(
            on_frames=lambda _, frames: self.frames.extend(frames),
            on_lost=lambda _, reason: self.lost.append(reason),
            max_frame_bytes=MAX,
            max_silent_ticks=3,
            streams=self.streams,
        )

    def connect(self, received: bytes = b"") -> None:
        self.stream.take_over(cast(asyncio.Transport, self.transport), received)


def in_loop(run: Run, body: Callable[[], None]) -> None:
    async def scenario() -> None:
        body()

    run(scenario())


def test_stream_takes_bytes_that_followed_the_handshake(run: Run) -> None:
    """Frames that came with the answer are not lost."""

    def body() -> None:
        f = Fixture()
        f.connect(frame(b"a") + frame(b"b")[:3])
        f.stream.data_received(frame(b"b")[3:])
        assert f.frames == [b"a", b"b"]
        assert f.streams == {f.stream}

    in_loop(run, body)


def test_stream_writes_a_frame_in_one_piece(run: Run) -> None:
    """One write per call of `send`."""

    def body() -> None:
        f = Fixture()
        f.connect()
        f.stream.write(b"payload")
        assert f.transport.written == [frame(b"payload")]

    in_loop(run, body)


def test_stream_idle_shows_life_and_busy_does_not(run: Run) -> None:
    """An empty frame goes out in ticks without a message, and with nothing left to flush."""

    def body() -> None:
        f = Fixture()
        f.connect()
        f.stream.tick()
        assert f.transport.written == [bytes(4)]
        f.stream.write(b"x")
        f.stream.tick()
        f.transport.buffered = 10
        f.stream.tick()
        assert f.transport.written == [bytes(4), frame(b"x")]

    in_loop(run, body)


def test_stream_silent_for_too_long_is_aborted(run: Run) -> None:
    """Any byte counts as life; the bound is in ticks."""

    def body() -> None:
        f = Fixture()
        f.connect()
        for _ in range(3):
            f.stream.tick()
        f.stream.data_received(bytes(4))
        for _ in range(3):
            f.stream.tick()
        assert not f.transport.is_aborted
        f.stream.tick()
        assert f.transport.is_aborted
        f.stream.connection_lost(None)
        assert f.lost == ["nothing heard for too long"]
        assert f.frames == []

    in_loop(run, body)


@pytest.mark.parametrize("has_halves", [True, False])
def test_stream_closes_its_own_half_and_waits_for_the_other(run: Run, has_halves: bool) -> None:
    """What was written must not be lost by a reset; nothing is written or handed on after it."""

    def body() -> None:
        f = Fixture()
        f.transport.has_halves = has_halves
        f.connect()
        f.stream.close("removed")
        f.stream.close("again")
        assert (f.transport.has_ended, f.transport.is_closed) == (has_halves, not has_halves)
        f.stream.write(b"late")
        f.stream.tick()
        f.stream.data_received(frame(b"late"))
        assert (f.transport.written, f.frames, f.lost) == ([], [], [])
        f.stream.connection_lost(None)
        assert f.lost == ["removed"]

    in_loop(run, body)


def test_stream_closed_to_a_peer_that_does_not_read_is_aborted(run: Run) -> None:
    """Flushing at the end is bounded too, and an empty frame is no part of it."""

    def body() -> None:
        f = Fixture()
        f.connect()
        f.stream.close("removed")
        for _ in range(4):
            f.stream.tick()
        assert f.transport.is_aborted
        assert f.transport.written == []
        f.stream.connection_lost(OSError("reset"))
        assert f.lost == ["removed"]
        assert f.streams == set()

    in_loop(run, body)


def test_stream_with_a_frame_too_large_is_aborted(run: Run) -> None:
    """What cannot be cut into frames any more is not read any further."""

    def body() -> None:
        f = Fixture()
        f.connect()
        f.stream.data_received(b"GET / HTTP/1.1\r\n\r\n")
        assert f.transport.is_aborted
        f.stream.connection_lost(None)
        assert f.lost == ["a frame of 1195725856 bytes, more than 1000"]

    in_loop(run, body)
