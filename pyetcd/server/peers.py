"""Between the server and the transport: messages that go by are counted for the statistics.

In front of the transport is what counts the Appends that this member sends; behind it is what hands
the server whatever the transport tells. What arrives is counted by the server.
"""

import time

from pyetcd.server.server import Server
from pyetcd.stats import Traffic
from raft import Append, Envelope, PeerRejected, Transport


class CountedTransport:
    """`raft.interfaces.Transport`: another one, whose Appends are counted."""

    def __init__(self, transport: Transport, traffic: Traffic) -> None:
        self._send = transport.send
        self._traffic = traffic

    def send(self, envelopes: list[Envelope]) -> None:
        """See `raft.interfaces.Transport`."""
        self._send(envelopes)
        for envelope in envelopes:
            message = envelope.message
            if isinstance(message, Append):
                entries = message.entries
                last_index = entries[-1].index if entries else 0
                size_bytes = sum([len(entry.data) for entry in entries])
                now = time.monotonic()
                self._traffic.append_sent(envelope.recipient, last_index, size_bytes, now)


class PeerEvents:
    """`raft.transport.Events`: what the transport tells goes to the server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def on_envelopes(self, envelopes: list[Envelope]) -> None:
        """See `raft.transport.Events`."""
        self._server.on_envelopes(envelopes)

    def on_unreachable(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self._server.on_unreachable(peer_id)

    def on_reachable(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self._server.on_reachable(peer_id)

    def on_stream_lost(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self._server.on_stream_lost(peer_id)

    def on_rejected(self, peer_id: int, error: PeerRejected) -> None:
        """See `raft.transport.Events`."""
        self._server.on_rejected_by_peer(peer_id, error)

    def on_snapshot_sent(self, peer_id: int, *, delivered: bool) -> None:
        """See `raft.transport.Events`."""
        self._server.on_snapshot_sent(peer_id, delivered=delivered)


__all__ = ["CountedTransport", "PeerEvents"]
