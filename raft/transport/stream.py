"""A stream: one connection after its handshake, carrying frames from one member to another.

A frame is a length (4 bytes, big-endian) and that many bytes; a frame of length 0 says only that
its writer is alive. Both ends write such frames when they have nothing else to say, so that each
notices when the other, or the network between, is gone. Knows nothing of what frames mean.
"""

import asyncio
from collections.abc import Callable
from typing import Final

HEADER_BYTES: Final = 4
_ALIVE: Final = bytes(HEADER_BYTES)


class FrameError(Exception):
    """The bytes received are no frames of ours."""


class FrameReader:
    """Cuts what arrives into frames.

    Invariants:
      1. Less than one frame is kept; its memory is what has arrived, not what was announced.
    """

    __slots__ = ("_max_bytes", "_rest", "_wanted_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The beginning of a frame, and how long it has to be to tell more.
        self._rest = bytearray()
        self._wanted_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes, without empty ones. Raises FrameError."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted_bytes:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames: list[bytes] = []
        size = len(data)
        start = 0
        wanted = HEADER_BYTES
        while size - start >= HEADER_BYTES:
            begin = start + HEADER_BYTES
            high, low = data[start] << 8 | data[start + 1], data[start + 2] << 8 | data[start + 3]
            length = high << 16 | low
            if length > self._max_bytes:
                raise FrameError(f"a frame of {length} bytes, more than {self._max_bytes}")
            if size - begin < length:
                wanted += length
                break
            start = begin + length
            if length:
                frames.append(data[begin:start])
        if start < size:
            self._rest += data[start:]
            self._wanted_bytes = wanted
        return frames


class Stream(asyncio.Protocol):
    """One end of a connection, from the end of its handshake to its loss.

    Invariants:
      1. `on_lost` is called exactly once, with the reason, and nothing after it.
      2. A stream that is closed hands on nothing more, and is gone after `max_silent_ticks`
         ticks at the latest.
    """

    def __init__(
        self,
        *,
        on_frames: Callable[["Stream", list[bytes]], None],
        on_lost: Callable[["Stream", str], None],
        max_frame_bytes: int,
        max_silent_ticks: int,
        streams: set["Stream"],
    ) -> None:
        """Belongs to `streams` while it has a connection."""
        self.age_ticks = 0
        self.lost = asyncio.get_running_loop().create_future()
        self._on_frames = on_frames
        self._on_lost = on_lost
        self._frames = FrameReader(max_frame_bytes)
        self._max_silent_ticks = max_silent_ticks
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._silent_ticks = 0
        self._has_written = False
        self._is_closing = False
        self._reason = ""

    def take_over(self, transport: asyncio.Transport, received: bytes) -> None:
        """Take the connection from its handshake, with what has been received since."""
        self._transport = transport
        self._streams.add(self)
        transport.set_protocol(self)
        if received:
            self.data_received(received)

    @property
    def write_buffer_bytes(self) -> int:
        """The bytes that the other side, or the network, has yet to take."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def write(self, payload: bytes) -> None:
        """Send one frame; never waits, and does nothing once the connection closes."""
        assert self._transport is not None, "written to before the handshake"
        assert payload, "an empty frame carries no message"
        self._has_written = True
        # uvloop raises for a write to what is closed, before it has told that it is lost.
        if not self._is_closing and not self._transport.is_closing():
            self._transport.write(len(payload).to_bytes(HEADER_BYTES, "big") + payload)

    def close(self, reason: str) -> None:
        """Close once the other side has everything that was written.

        It closes when it sees our end. To close first would be a reset if a sign of its life were
        on its way, by which it could lose what it has not read yet.
        """
        self._reason = self._reason or reason
        if self._transport is None or self._is_closing:
            return
        self._is_closing = True
        self._silent_ticks = 0
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once; what was not sent yet is lost."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    def tick(self) -> None:
        """Let one tick pass: write a sign of life when idle, give up a silent connection.

        Ticks and not a clock, so that a process that was stopped for a while does not take its
        own absence for the others' silence.
        """
        self.age_ticks += 1
        self._silent_ticks += 1
        if self._silent_ticks > self._max_silent_ticks:
            self.abort("nothing heard for too long")
        elif not self._has_written and not self._is_closing and not self.write_buffer_bytes:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(_ALIVE)
        self._has_written = False

    def data_received(self, data: bytes) -> None:
        """Hand on the frames that have become complete."""
        if self._is_closing:
            return
        self._silent_ticks = 0
        try:
            frames = self._frames.feed(data)
        except FrameError as error:
            self.abort(str(error))
            return
        if frames:
            self._on_frames(self, frames)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who holds on to this stream."""
        self._streams.discard(self)
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self, self._reason or (str(exc) if exc is not None else "closed by peer"))
