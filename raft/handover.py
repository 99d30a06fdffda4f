"""Handover: how a leader passes its office on (thesis 3.10, 4.2.2).

Either to a voter that was asked for, or to any, once the leader has left the cluster or while its
disk is full. It only asks the other to campaign: whoever is elected makes the leader a follower by
its term.
"""

from collections.abc import Mapping

from raft.errors import ProposalDropped
from raft.messages import TimeoutNow
from raft.progress import Progress
from raft.state import LEAVING, TRANSFERRING, State


class Handover:
    """Whether, and to whom, one leader hands over.

    Invariants:
      1. The transferee is 0 or another voter.
      2. It is `leaving` exactly while the leader is no voter itself.
    """

    __slots__ = ("_asked", "_end_tick", "leaving", "state", "transferee")

    def __init__(self, state: State) -> None:
        self.state = state
        self.transferee = 0
        # Not a voter any more: leads on, without counting itself, until another one does.
        self.leaving = False
        # When the transfer is given up, in the leader's ticks.
        self._end_tick = 0
        # How often some successor was asked.
        self._asked = 0

    def refusal(self) -> str:
        """Say why the leader takes no proposals while it hands over."""
        return TRANSFERRING if self.transferee else LEAVING

    def begin(self, transferee: int, tick: int) -> bool:
        """Begin to hand over to `transferee`; False when there is nothing to begin.

        Raises ProposalDropped.
        """
        state = self.state
        own = state.config.server_id
        if transferee not in state.configuration.voters:
            raise ProposalDropped(f"{transferee:x} is not a voter")
        if transferee in (own, self.transferee):
            return False
        if self.transferee:
            self._abort(f"{transferee:x} is to lead instead")
        state.logger.info(
            "%x starts to transfer leadership to %x at term %d", own, transferee, state.term
        )
        self.transferee = transferee
        self._end_tick = tick + state.config.election_ticks
        return True

    def tick(self, tick: int) -> None:
        """Give up a transfer that takes too long: no proposals are taken during it."""
        if self.transferee and tick >= self._end_tick:
            self._abort("it takes too long")

    def matched(self, server_id: int, match_index: int) -> None:
        """Let the transferee campaign as soon as it has the whole log; earlier it could not win."""
        state = self.state
        if server_id == self.transferee and match_index == state.log.last_index:
            state.logger.info(
                "%x sends TimeoutNow to %x, which has the whole log",
                *(state.config.server_id, server_id),
            )
            state.send(server_id, TimeoutNow())

    def configured(self) -> None:
        """Adapt to the configuration that has come into force."""
        state = self.state
        if not state.is_voter and not self.leaving:
            # To step down at once could leave nobody who can be elected: as long as the others do
            # not know that the change is committed they need the votes of servers that have left,
            # whose logs may be longer (thesis 4.2.2; there, changes hold from the first moment).
            state.logger.info("%x is not a voter any more", state.config.server_id)
            self.leaving = True
        if self.transferee and self.transferee not in state.configuration.voters:
            self._abort("it is not a voter any more")

    def find_successor(self, progress: Mapping[int, Progress]) -> None:
        """Ask the next voter that has the whole log; repeated until one is elected."""
        state = self.state
        able = [
            voter
            for voter in state.configuration.voters
            if voter != state.config.server_id
            and progress[voter].recent_active
            and progress[voter].match_index == state.log.last_index
        ]
        if able:
            # One after the other: the first may have reasons of its own not to campaign.
            state.send(able[self._asked % len(able)], TimeoutNow())
            self._asked += 1

    def _abort(self, reason: str) -> None:
        state = self.state
        state.logger.info(
            "%x gives up the transfer of leadership to %x at term %d: %s",
            *(state.config.server_id, self.transferee, state.term, reason),
        )
        self.transferee = 0
