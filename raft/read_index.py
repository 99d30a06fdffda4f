"""Reads that wait until a quorum has confirmed that their leader still leads (thesis 6.4).

Confirmations come in rounds: heartbeats carry a number, and their answers repeat it. A read is
confirmed by a round that began after the read was asked for, because only then has a quorum still
followed this leader at a later moment. One round confirms every read asked for before it began.
The leader calls `begin_round` each time before it sends heartbeats, and sends what it returns.

A leader owns one `ReadQueue` and drops it with its leadership. It must add no read before it has
committed an entry of its own term: until then its commit index may lag behind (thesis 6.4).
"""

from collections import deque
from typing import NamedTuple

from raft.entry import Configuration
from raft.quorum import joint_committed_index


class ConfirmedRead(NamedTuple):
    """`requester` may serve the reads of `context` once `read_index` is applied there."""

    requester: int
    context: int
    read_index: int


class ReadQueue:
    """The reads of one leadership that are not yet confirmed.

    Invariants:
      1. Rounds of waiting reads never fall, and none is beyond `round` + 1.
      2. No server is known to have answered a round that has not begun.
    """

    __slots__ = ("_answered", "_reads", "round")

    def __init__(self) -> None:
        # What heartbeats carry: the latest round that has begun; 0 before the first.
        self.round = 0
        # (the round that confirms it, the read), in the order of arrival.
        self._reads: deque[tuple[int, ConfirmedRead]] = deque()
        # The latest round that each server has answered.
        self._answered: dict[int, int] = {}

    @property
    def pending(self) -> bool:
        """Whether any read waits."""
        return bool(self._reads)

    @property
    def needs_heartbeat(self) -> bool:
        """Whether a read waits for a round that has not begun."""
        return bool(self._reads) and self._reads[-1][0] > self.round

    def add(self, requester: int, context: int, commit_index: int) -> None:
        """Let a read wait for the next round; it reads at `commit_index` or later."""
        # Never for the round under way: its heartbeats left before this read was asked for.
        self._reads.append((self.round + 1, ConfirmedRead(requester, context, commit_index)))

    def begin_round(self) -> int:
        """Return the round for heartbeats that leave now: a new one if a read waits for it."""
        if self.needs_heartbeat:
            self.round += 1
        return self.round

    def acknowledged(self, server: int, read_round: int) -> None:
        """Note that `server` has answered a heartbeat that carried `read_round`."""
        # A round that has not begun was carried by no heartbeat of ours: nonsense, not believed.
        if self._answered.get(server, 0) < read_round <= self.round:
            self._answered[server] = read_round

    def take_confirmed(self, configuration: Configuration, own_id: int) -> list[ConfirmedRead]:
        """Remove and return the reads that a quorum has confirmed, in the order of arrival."""
        if not self._reads:
            return []

        def answered_round(server: int) -> int:
            # We need no heartbeat to know that we lead: alone, reads are confirmed at once.
            return self.round + 1 if server == own_id else self._answered.get(server, 0)

        confirmed_round = joint_committed_index(configuration, answered_round)
        confirmed = []
        while self._reads and self._reads[0][0] <= confirmed_round:
            confirmed.append(self._reads.popleft()[1])
        return confirmed

    def check(self) -> None:
        """Assert the invariants above."""
        if self._reads:
            rounds = [read_round for read_round, _ in self._reads]
            assert rounds == sorted(rounds), f"rounds of waiting reads fall: {rounds}"
            assert rounds[-1] <= self.round + 1, f"{rounds} beyond {self.round} + 1"
        for server, answered in self._answered.items():
            assert answered <= self.round, f"{server:x} answered {answered}, {self.round} begun"
