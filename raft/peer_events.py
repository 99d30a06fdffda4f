"""What a transport reports of the other servers, passed on to the node.

For programs that put a `raft.Node` and a `raft.transport.Transport` together and have nothing of
their own to do when a peer comes or goes. It knows neither's insides.
"""

import logging

from raft.errors import PeerRejected
from raft.messages import Envelope
from raft.node import Node

log = logging.getLogger(__name__)


class PeerEvents:
    """Implements `raft.transport.Events`.

    The transport is made before the node, which needs it: `node` is to be set before it starts.
    """

    node: Node

    def on_envelopes(self, envelopes: list[Envelope]) -> None:
        """See `raft.transport.Events`."""
        self.node.receive(envelopes)

    def on_unreachable(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self.node.report_unreachable(peer_id)

    def on_reachable(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        self.node.report_reachable(peer_id)

    def on_stream_lost(self, peer_id: int) -> None:
        """See `raft.transport.Events`."""
        if peer_id == self.node.core.leader:
            self.node.report_leader_lost()

    def on_rejected(self, peer_id: int, error: PeerRejected) -> None:
        """See `raft.transport.Events`."""
        log.error("%x is refused by peer %x: %s", self.node.core.server_id, peer_id, error)

    def on_snapshot_sent(self, peer_id: int, *, delivered: bool) -> None:
        """See `raft.transport.Events`."""
        self.node.report_snapshot(peer_id, delivered)
