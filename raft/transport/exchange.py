"""An exchange: the messages to and from one other member, as frames of the streams that there are.

Encodes and counts what leaves; decodes, checks and counts what arrives. Which streams there are is
for `raft.transport.peer` to see to. All messages pass here, so that nothing here waits, and nothing
raises.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from raft.codec import DecodeError, decode_envelopes, encode_envelopes
from raft.messages import Envelope, InstallSnapshot
from raft.transport.local import Local
from raft.transport.stream import Stream

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PeerStats:
    """Totals since the peer was added."""

    messages_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    # To this peer: no stream, or it takes too slowly.
    messages_dropped: int = 0


class Exchange:
    """With one peer.

    Invariants:
      1. What is handed on came from the peer and is for us; a snapshot is not among it.
      2. Nothing is kept for the peer but what its outgoing stream has been given.
    """

    def __init__(self, peer_id: int, local: Local) -> None:
        self.stats = PeerStats()
        # There is no other stream that messages are sent on, or taken from.
        self.outgoing: Stream | None = None
        self.incoming: Stream | None = None
        self._peer_id = peer_id
        self._member_id = local.member_id
        self._events = local.events
        self._max_buffer_bytes = local.tuning.max_buffer_bytes
        self._max_frame_bytes = local.tuning.max_frame_bytes
        self._is_stopped = False
        self._told_unreachable = False
        self._last_complaint = ""

    def stop(self) -> None:
        """Tell nothing more."""
        self._is_stopped = True
        self.incoming = None

    def begin_sending(self, stream: Stream) -> None:
        """Send on this stream from now on."""
        assert self.outgoing is None, f"a second stream to {self._peer_id:x}"
        self.outgoing = stream
        self._told_unreachable = False

    def send(self, envelopes: list[Envelope]) -> None:
        """Send these in one frame, or drop them all."""
        stream = self.outgoing
        if stream is None or stream.write_buffer_bytes > self._max_buffer_bytes:
            self._drop(len(envelopes))
            return
        payload = encode_envelopes(envelopes)
        if len(payload) > self._max_frame_bytes:
            if len(envelopes) > 1:
                middle = len(envelopes) // 2
                self.send(envelopes[:middle])
                self.send(envelopes[middle:])
            else:
                self.complain(f"a message of {len(payload)} bytes is too large to be sent")
                self._drop(1)
            return
        stream.write(payload)
        self._told_unreachable = False
        stats = self.stats
        stats.messages_sent += len(envelopes)
        stats.bytes_sent += len(payload)

    def receive(self, stream: Stream, frames: list[bytes]) -> None:
        """Take what has arrived on a stream that the peer has dialed."""
        if stream is not self.incoming:
            return  # replaced, or the peer was removed
        stats = self.stats
        accepted: list[Envelope] = []
        for frame in frames:
            try:
                envelopes = decode_envelopes(frame)
            except DecodeError as error:
                self.complain(f"sent what is no message: {error}")
                stream.abort("malformed")
                break
            stats.bytes_received += len(frame)
            for envelope in envelopes:
                if envelope.sender != self._peer_id or envelope.recipient != self._member_id:
                    self.complain(
                        f"sent a message from {envelope.sender:x} to {envelope.recipient:x}"
                    )
                elif isinstance(envelope.message, InstallSnapshot):
                    # Without its file: the core would believe to have a state that is nowhere.
                    self.complain("sent a snapshot's message without the snapshot")
                else:
                    accepted.append(envelope)
        if accepted:
            stats.messages_received += len(accepted)
            self._events.on_envelopes(accepted)

    def complain(self, text: str) -> None:
        """Log what is wrong with the peer, unless it is what was wrong before."""
        if text != self._last_complaint:
            self._last_complaint = text
            log.warning("peer %x: %s", self._peer_id, text)

    def tell_unreachable(self) -> None:
        """Messages to the peer are lost from here on."""
        if not self._told_unreachable and not self._is_stopped:
            self._told_unreachable = True
            self._events.on_unreachable(self._peer_id)

    def _drop(self, count: int) -> None:
        self.stats.messages_dropped += count
        if not self._told_unreachable:
            # Later, because whoever sends is in the midst of something.
            asyncio.get_running_loop().call_soon(self.tell_unreachable)


class Exchanges:
    """Those with all peers."""

    def __init__(self, send_snapshot: Callable[[Envelope], None]) -> None:
        """`send_snapshot` gets every `InstallSnapshot`, which is no matter of frames."""
        self._send_snapshot = send_snapshot
        self._by_peer: dict[int, Exchange] = {}

    def add(self, peer_id: int, exchange: Exchange) -> None:
        """Send to this peer from now on."""
        self._by_peer[peer_id] = exchange

    def remove(self, peer_id: int) -> None:
        """Send to this peer no more."""
        del self._by_peer[peer_id]

    def send(self, envelopes: list[Envelope]) -> None:
        """Send each to its recipient, those of one recipient together; drop what is nobody's."""
        groups: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            if isinstance(envelope.message, InstallSnapshot):
                self._send_snapshot(envelope)
                continue
            group = groups.get(envelope.recipient)
            if group is None:
                groups[envelope.recipient] = [envelope]
            else:
                group.append(envelope)
        for peer_id, group in groups.items():
            exchange = self._by_peer.get(peer_id)
            if exchange is not None:
                exchange.send(group)


__all__ = ["Exchange", "Exchanges", "PeerStats"]
