"""What raft tells its user when it cannot do as asked.

Local misuse raises one of these at once; nonsense from disk or network raises `CorruptRecord` or
`PeerRejected`. A broken invariant of our own is an `AssertionError` and never one of these.
"""


class RaftError(Exception):
    """The root of every error that raft raises on purpose."""


class ProposalDropped(RaftError):
    """The proposal was not put into any log and never will be: it is safe to try again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotLeader(RaftError):
    """Only the leader can do this; `leader` is its id, or 0 when none is known."""

    def __init__(self, leader: int) -> None:
        super().__init__(f"not the leader; the leader is {leader:x}" if leader else "no leader")
        self.leader = leader


class Compacted(RaftError):
    """The entry asked for is no longer in the log: a snapshot has taken its place."""

    def __init__(self, raft_index: int, first_index: int) -> None:
        super().__init__(f"entry {raft_index} is compacted; the log begins at {first_index}")
        self.raft_index = raft_index
        self.first_index = first_index


class CorruptRecord(RaftError):
    """A file does not hold what was written to it."""

    def __init__(self, path: str, offset: int, problem: str) -> None:
        super().__init__(f"{path}: {problem} at offset {offset}")
        self.path = path
        self.offset = offset
        self.problem = problem


class LogLost(RaftError):
    """This server has acknowledged entries that it does not have: its files are not its own newest.

    Final: its votes and acknowledgements are worth nothing any more, so that it must not run.
    """

    def __init__(self, commit: int, last_index: int) -> None:
        super().__init__(
            f"the leader knows that this server has acknowledged entry {commit}, but its log ends "
            f"at {last_index}: it was truncated, or replaced by an old copy. Remove this member "
            "and add it anew with an empty data directory"
        )
        self.commit = commit
        self.last_index = last_index


class PeerRejected(RaftError):
    """Another server refuses to talk to us, or we to it; the text says what to change."""


class Stopped(RaftError):
    """The node has been stopped: nothing more can be proposed or read."""
