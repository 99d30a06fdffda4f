"""Every message that servers exchange, one class each: this module is the protocol's document.

A message travels in an `Envelope`, which says from whom, to whom and in which term. Messages may
be lost, repeated, delayed and reordered; only `InstallSnapshot` needs more than that, see there.
None is changed after it was sent. docs/peer-protocol.md says how they look on the wire.

Rules that hold for all of them are the core's (thesis 3.3): a higher term makes the receiver a
follower of that term before it looks at the message; a lower one makes it answer with its own
term, or nothing. `PreVote` and a granted `PreVoteResponse` are the exceptions: see there.
"""

from dataclasses import dataclass
from typing import TypeAlias

from mypy_extensions import mypyc_attr

from raft.entry import Entry, SnapshotMeta

# ---------------------------------------------------------------------------------- elections


@dataclass(slots=True)
class PreVote:
    """Would you vote for me? Asked before a candidate raises its term (thesis 9.6).

    The envelope's term is the one that the sender would campaign in, its own plus one. It raises
    nobody's term. Granted only by a server that has not heard from a leader for an election
    timeout and whose log is not more up to date.
    """

    last_index: int  # >= 0; the end of the sender's log
    last_term: int  # >= 0


@dataclass(slots=True)
class PreVoteResponse:
    """The answer to `PreVote`. It promises nothing, so it need not wait for the disk.

    When granted, the envelope's term is the one that was asked about; when refused, it is the
    sender's own, and a higher one makes the asker a follower. The committed entry is as in
    `VoteResponse`.
    """

    granted: bool
    commit_index: int = 0  # >= 0
    commit_term: int = 0  # >= 0; 0 only together with commit_index 0


@dataclass(slots=True)
class Vote:
    """A candidate asks for a vote in the envelope's term (thesis 3.4, RequestVote)."""

    last_index: int  # >= 0
    last_term: int  # >= 0
    # True when the leader itself asked for this election (thesis 3.10): voters then disregard
    # that they have heard from a leader lately (thesis 4.2.3).
    transfer: bool


@dataclass(slots=True)
class VoteResponse:
    """The answer to `Vote`. A granted one leaves only once the vote is on disk (thesis 3.8).

    It names the last entry that the sender knows to be committed: that is so for everybody and
    for ever, so that whoever is answered and has this entry commits up to it, whatever the term.
    Otherwise nobody might be elected after a leader has committed that voters leave, and ended:
    those that stay hold the change without knowing that it is committed, still need votes of
    those that have left, and do not get them if their logs are longer.
    """

    granted: bool
    commit_index: int = 0  # >= 0; 0 when the sender knows of none
    commit_term: int = 0  # >= 0; 0 only together with commit_index 0


@dataclass(slots=True)
class TimeoutNow:
    """The leader tells its transferee to campaign at once (thesis 3.10)."""


# -------------------------------------------------------------------------------- replication


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Append:
    """Entries to append after `prev`; empty to probe, or to tell the commit index (thesis 3.5)."""

    prev_index: int  # >= 0; the entry just before `entries`; 0 at the beginning of the log
    prev_term: int  # >= 0; 0 only together with prev_index 0
    commit: int  # >= 0; the leader's commit index; may lie beyond the last of `entries`
    entries: list[Entry]  # consecutive, the first at prev_index + 1

    # By hand, as what `dataclass` writes is never compiled; so in all that are sent all the time.
    def __init__(self, prev_index: int, prev_term: int, commit: int, entries: list[Entry]) -> None:
        self.prev_index = prev_index
        self.prev_term = prev_term
        self.commit = commit
        self.entries = entries


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class AppendResponse:
    """The sender's log agrees with the leader's up to `match_index`, and that is on disk."""

    match_index: int  # >= 0

    def __init__(self, match_index: int) -> None:
        self.match_index = match_index


@dataclass(slots=True)
class AppendReject:
    """The sender has no entry (prev_index, prev_term): the leader must look further back.

    (hint_index, hint_term) is the last entry of the sender at or below prev_index whose term is
    at most prev_term: nothing after it can match, so that a leader which takes the hint skips a
    whole term at each step (thesis 3.5, at the end).
    """

    rejected_index: int  # the prev_index that was refused
    hint_index: int  # >= 0, <= rejected_index
    hint_term: int  # >= 0; 0 only together with hint_index 0


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class CommitTo:
    """The commit index has grown, and there is no entry to send with it. Not answered.

    Only for a follower that has acknowledged all up to there in this term. It saves the answer
    that an empty `Append` would bring, at each commit that is not followed by the next entry.
    """

    commit: int  # >= 1; at most what the recipient is known to hold

    def __init__(self, commit: int) -> None:
        self.commit = commit


@dataclass(slots=True)
class InstallSnapshot:
    """The follower is behind the beginning of the leader's log: here is the state instead.

    The state itself is too large for a message. The transport streams the file that `meta` names
    to the follower's storage, and hands this message to the follower's core only when the whole
    file is verified and durable there (thesis chapter 5). Answered by `AppendResponse`.
    """

    meta: SnapshotMeta


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Heartbeat:
    """The leader is alive (thesis 3.4). Carries the round for pending reads (thesis 6.4)."""

    commit: int  # >= 0; min(leader's commit, what the recipient is known to hold)
    read_round: int  # >= 0; grows during a leadership; 0 when no read has been asked for yet

    def __init__(self, commit: int, read_round: int) -> None:
        self.commit = commit
        self.read_round = read_round


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class HeartbeatResponse:
    """The sender still follows the leader of this term; `read_round` is repeated."""

    read_round: int  # >= 0

    def __init__(self, read_round: int) -> None:
        self.read_round = read_round


# ---------------------------------------------------------------------------- on behalf of users


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Propose:
    """A follower passes proposals on to the leader (thesis 6.2).

    A network that repeats it puts its proposals into the log twice: to tell them apart is the
    business of the state machine. The transport never does (docs/peer-protocol.md).
    """

    proposals: list[tuple[int, bytes]]  # (kind, data); kind is NORMAL or CONFIG

    def __init__(self, proposals: list[tuple[int, bytes]]) -> None:
        self.proposals = proposals


@dataclass(slots=True)
class ProposeReject:
    """The sender has put none of these into its log: it is not the leader, or it may not.

    They come back whole, so that the proposer can tell which of its requests they were.
    """

    reason: str  # not empty; for a person
    proposals: list[tuple[int, bytes]]


@dataclass(slots=True, init=False)
class ReadIndex:
    """A follower asks for a commit index that a read may rely on (thesis 6.4)."""

    context: int  # >= 1; chosen by the asker and never used again by it

    def __init__(self, context: int) -> None:
        self.context = context


@dataclass(slots=True, init=False)
class ReadIndexResponse:
    """Reads asked for under `context` may be served once `read_index` is applied."""

    context: int  # >= 1
    read_index: int  # >= 1

    def __init__(self, context: int, read_index: int) -> None:
        self.context = context
        self.read_index = read_index


Message: TypeAlias = (
    PreVote
    | PreVoteResponse
    | Vote
    | VoteResponse
    | TimeoutNow
    | Append
    | AppendResponse
    | AppendReject
    | CommitTo
    | InstallSnapshot
    | Heartbeat
    | HeartbeatResponse
    | Propose
    | ProposeReject
    | ReadIndex
    | ReadIndexResponse
)


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Envelope:
    """A message with its addresses and term."""

    sender: int  # >= 1
    recipient: int  # >= 1; equal to sender for a server's own acknowledgements
    term: int  # >= 1; the sender's term, but for the two exceptions named above
    message: Message

    def __init__(self, sender: int, recipient: int, term: int, message: Message) -> None:
        self.sender = sender
        self.recipient = recipient
        self.term = term
        self.message = message
