"""The network between the members of one cluster.

`Transport` sends messages, receives them for `Events`, and streams snapshots from and to
`SnapshotFiles`. docs/peer-protocol.md describes what travels.
"""

from raft.transport.exchange import PeerStats
from raft.transport.handshake import MemberRemoved
from raft.transport.listener import Reply
from raft.transport.local import Events, SnapshotFiles, SnapshotReceiver, Tuning
from raft.transport.transport import Transport

__all__ = [
    "Transport",
    "Events",
    "SnapshotFiles",
    "SnapshotReceiver",
    "Tuning",
    "PeerStats",
    "Reply",
    "MemberRemoved",
]
