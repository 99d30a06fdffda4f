"""A follower as its leader sees it: what it holds, what was sent, whether more may be sent.

A follower is in one of three states. In PROBE the leader does not know where the logs agree: it
sends one message and waits for the answer. In REPLICATE it knows, and sends batch after batch
without waiting (thesis 10.2.1), within limits. In SNAPSHOT the follower is behind the beginning
of the leader's log: nothing is sent until the snapshot's fate is known.

Messages may be lost. In PROBE and REPLICATE the answer to a heartbeat allows one more message,
whose rejection then shows what is missing. Knows nothing of the log or of other followers.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum


class ProgressState(Enum):
    """How a follower is being sent the log."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """One follower.

    Invariants:
      1. match_index < next_index, and match_index never goes back.
      2. Only REPLICATE has messages in flight; they end after match_index, in ascending order.
      3. pending_snapshot_index is not 0 in SNAPSHOT, and 0 elsewhere.
    """

    # The first entry to send next. In REPLICATE it runs ahead of what is acknowledged.
    next_index: int
    max_inflight_messages: int
    # A message is sent while less than this is in flight, so that the sum may exceed it by one
    # message: an entry larger than the limit still gets through.
    max_inflight_bytes: int
    # The follower has told that its log agrees with ours up to here, on disk; 0 at first.
    match_index: int = 0
    state: ProgressState = ProgressState.PROBE
    # Has been heard from since the leader last checked its quorum (thesis 6.2).
    recent_active: bool = False
    # The index of the snapshot on its way.
    pending_snapshot_index: int = 0
    # The highest commit index sent and not known to be lost; kept up by the leader.
    sent_commit: int = 0
    _paused: bool = False
    # (last index, bytes) of each message with entries that is not acknowledged yet.
    _inflight: deque[tuple[int, int]] = field(default_factory=deque)
    _inflight_bytes: int = 0

    def is_paused(self) -> bool:
        """Whether nothing may be sent but heartbeats."""
        return self._paused

    @property
    def inflight_full(self) -> bool:
        """Whether a message that may be sent should carry no entries."""
        return (
            len(self._inflight) >= self.max_inflight_messages
            or self._inflight_bytes >= self.max_inflight_bytes
        )

    def sent_entries(self, last_index: int, size_bytes: int) -> None:
        """Note that an Append has left; last_index is its prev_index when it was empty."""
        if self.state is ProgressState.REPLICATE:
            assert last_index >= self.next_index - 1, f"sent {last_index}, next {self.next_index}"
            if last_index >= self.next_index:
                self.next_index = last_index + 1
                self._inflight.append((last_index, size_bytes))
                self._inflight_bytes += size_bytes
            self._paused = self.inflight_full
        else:
            assert self.state is ProgressState.PROBE, f"entries sent in {self.state}"
            self._paused = True

    def acknowledged(self, match_index: int) -> bool:
        """Note that the follower agrees up to match_index; return whether that is news.

        The first answer that is not stale ends PROBE; one that reaches the pending snapshot ends
        SNAPSHOT.
        """
        # Answers may be repeated and overtake one another: the highest stands (thesis 3.5).
        if match_index < self.match_index:
            return False
        is_news = match_index > self.match_index
        self.match_index = match_index
        if self.state is ProgressState.REPLICATE:
            if is_news:
                self._free_inflight()
                self.next_index = max(self.next_index, match_index + 1)
                self._paused = self.inflight_full
        elif self.state is ProgressState.PROBE or match_index >= self.pending_snapshot_index:
            self.become_replicate()
        return is_news

    def rejected(self, rejected_index: int, hint_next: int) -> bool:
        """Move back after an AppendReject; return False when it is stale.

        hint_next is the entry after the last one that may still agree, by the follower's hint and
        the leader's own log. Every move back makes next_index smaller, so probing comes to an end.
        """
        # Also from a follower that has lost what it acknowledged: to ask again would go on for
        # ever, and to forget match_index would undo what may be committed.
        if rejected_index <= self.match_index:
            return False
        if self.state is ProgressState.SNAPSHOT:
            return False  # sent before the snapshot was
        if self.state is ProgressState.REPLICATE:
            if rejected_index >= self.next_index:
                return False  # nothing was sent with this prev_index since replication began
            self.become_probe()
            return True
        if rejected_index != self.next_index - 1:
            return False  # the answer to an earlier probe
        self.next_index = max(self.match_index + 1, min(rejected_index, hint_next))
        self.sent_commit = min(self.sent_commit, self.next_index - 1)
        self._paused = False
        return True

    def heartbeat_answered(self) -> None:
        """Note a sign of life: whatever was sent before it may be lost, so one more may go."""
        self.recent_active = True
        if self.state is not ProgressState.SNAPSHOT:
            self._paused = False

    def become_probe(self) -> None:
        """Find out where the logs agree; in SNAPSHOT, begin with the end of the snapshot."""
        self._reset(ProgressState.PROBE, max(self.match_index, self.pending_snapshot_index) + 1)
        # What told the follower of a later commit index may be among what got lost.
        self.sent_commit = min(self.sent_commit, self.next_index - 1)

    def become_replicate(self) -> None:
        """Send batch after batch from match_index on."""
        self._reset(ProgressState.REPLICATE, self.match_index + 1)

    def become_snapshot(self, snapshot_index: int) -> None:
        """Send nothing but the snapshot that ends at snapshot_index."""
        assert snapshot_index > self.match_index, f"{snapshot_index} behind {self.match_index}"
        self._reset(ProgressState.SNAPSHOT, snapshot_index + 1)
        self.pending_snapshot_index = snapshot_index
        self.sent_commit = snapshot_index
        self._paused = True

    def snapshot_reported(self, *, delivered: bool) -> None:
        """Leave SNAPSHOT; nothing is sent until the follower's answer or its next sign of life."""
        if self.state is not ProgressState.SNAPSHOT:
            return  # its acknowledgement was faster
        if not delivered:
            self.pending_snapshot_index = 0
        self.become_probe()
        self._paused = True

    def check(self) -> None:
        """Assert the invariants above."""
        assert self.match_index < self.next_index, f"{self.match_index} !< {self.next_index}"
        if self._inflight:
            self._check_inflight()
        else:
            assert self._inflight_bytes == 0, f"0 != {self._inflight_bytes}"
        is_snapshot = self.state is ProgressState.SNAPSHOT
        pending = self.pending_snapshot_index
        assert is_snapshot == (pending > 0), f"pending snapshot {pending} in {self.state}"

    def _check_inflight(self) -> None:
        inflight, end, size_bytes = self._inflight, self.match_index, 0
        assert self.state is ProgressState.REPLICATE, f"{inflight} in {self.state}"
        for last_index, size in inflight:
            assert last_index > end, f"{inflight} out of order, match {self.match_index}"
            end = last_index
            size_bytes += size
        assert end < self.next_index, f"{inflight} at next {self.next_index}"
        assert size_bytes == self._inflight_bytes, f"{size_bytes} != {self._inflight_bytes}"

    def _reset(self, state: ProgressState, next_index: int) -> None:
        self.state = state
        self.next_index = next_index
        self.pending_snapshot_index = 0
        self._paused = False
        self._inflight.clear()
        self._inflight_bytes = 0

    def _free_inflight(self) -> None:
        inflight = self._inflight
        while inflight and inflight[0][0] <= self.match_index:
            self._inflight_bytes -= inflight.popleft()[1]
