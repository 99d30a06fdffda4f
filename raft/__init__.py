"""Raft: consensus for a replicated state machine, after Ongaro's thesis.

`Node` runs one server in an asyncio event loop, with a log on disk and a network between the
servers. What it replicates are bytes; what they mean is the business of a `StateMachine`:

    disk = DiskStorage.create(StorageConfig(directory), metadata=b"")
    recovered = found_cluster(disk, voters=[1, 2, 3])     # or else: DiskStorage.open(...)
    node = Node(CoreConfig(...), recovered, disk, transport, machine, ...)
    node.start()
    node.propose(b"x")         # machine.apply() sees it on every server, in the same order

`examples/counter.py` is a whole program: a counter on three servers.

Read it from the bottom: `messages.py` is the protocol; `follower.py`, `candidate.py` and
`leader.py` decide, `core.py` holds the rules on terms and votes and changes roles; `driver.py` is
the one place that says in which order disk, network and state machine must be served. All of that
is free of clocks, files and sockets. `wal.py` and `snapshots.py` are the disk, `transport` the
network, and `node.py` puts the parts together.

The promises: an entry that was applied anywhere is applied everywhere, in the same order, and
stays in the log of every leader to come (thesis 3.2). A vote and an acknowledgement leave a
server only when what they promise is on its disk.
"""

from raft.confchange import (
    ADD_LEARNER,
    ADD_VOTER,
    REMOVE,
    Change,
    ConfigChange,
    decode_change,
    encode_change,
)
from raft.core import Core
from raft.driver import Driver
from raft.durations import BOUNDS, DiskDurations, Durations
from raft.entry import (
    CONFIG,
    NOOP,
    NORMAL,
    Configuration,
    Entry,
    EntryID,
    HardState,
    SnapshotMeta,
)
from raft.errors import (
    Compacted,
    CorruptRecord,
    LogLost,
    NotLeader,
    PeerRejected,
    ProposalDropped,
    RaftError,
    Stopped,
)
from raft.inspection import (
    Inspection,
    cut,
    hold,
    inspect,
    read_newest_snapshot,
    set_aside,
)
from raft.interfaces import Recovered, Rejected, StateMachine, Storage, Transport, Write
from raft.messages import Append, AppendResponse, Envelope
from raft.node import Leadership, Node
from raft.peer_events import PeerEvents
from raft.recovery import Unrecoverable
from raft.snapshots import encode_snapshot, read_snapshot
from raft.state import NO_ROOM, CoreConfig, Status
from raft.storage import (
    DirectoryInUse,
    DiskStorage,
    MemoryStorage,
    StorageConfig,
    found_cluster,
)

__all__ = [
    "ADD_LEARNER",
    "ADD_VOTER",
    "BOUNDS",
    "CONFIG",
    "NOOP",
    "NORMAL",
    "NO_ROOM",
    "REMOVE",
    "Append",
    "AppendResponse",
    "Change",
    "Compacted",
    "ConfigChange",
    "Configuration",
    "Core",
    "CoreConfig",
    "CorruptRecord",
    "DirectoryInUse",
    "DiskDurations",
    "DiskStorage",
    "Driver",
    "Durations",
    "Entry",
    "EntryID",
    "Envelope",
    "HardState",
    "Inspection",
    "Leadership",
    "MemoryStorage",
    "Node",
    "NotLeader",
    "PeerEvents",
    "LogLost",
    "PeerRejected",
    "ProposalDropped",
    "RaftError",
    "Recovered",
    "Rejected",
    "SnapshotMeta",
    "StateMachine",
    "Status",
    "Stopped",
    "Storage",
    "StorageConfig",
    "Transport",
    "Unrecoverable",
    "Write",
    "cut",
    "decode_change",
    "encode_change",
    "encode_snapshot",
    "found_cluster",
    "hold",
    "inspect",
    "read_newest_snapshot",
    "read_snapshot",
    "set_aside",
]
