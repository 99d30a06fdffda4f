"""Majorities: which index a configuration has committed, and how an election stands.

Pure functions of their arguments. In a joint configuration a decision needs a majority of the old
voters and one of the new voters (thesis 4.3); an empty `voters_outgoing` asks for nothing. Only
voters are ever looked up, so that learners and strangers never count. A configuration without
voters decides nothing: it commits index 0, loses every election and has no quorum.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum

from raft.entry import Configuration


class VoteResult(Enum):
    """How an election stands."""

    PENDING = "pending"  # the votes still out decide
    LOST = "lost"  # not even all the votes still out would win it
    WON = "won"


def committed_index(voters: Sequence[int], match: Callable[[int], int]) -> int:
    """Return the highest index that a majority of `voters` has reached; 0 without voters."""
    if not voters:
        return 0
    # In ascending order, a majority of the voters stands at or after this place, also when their
    # number is even: of four, the second lowest is reached by three.
    matches = [match(voter) for voter in voters]
    matches.sort()
    return matches[(len(voters) - 1) // 2]


def joint_committed_index(configuration: Configuration, match: Callable[[int], int]) -> int:
    """Return the highest index that a quorum of `configuration` has reached."""
    index = committed_index(configuration.voters, match)
    if configuration.voters_outgoing:
        return min(index, committed_index(configuration.voters_outgoing, match))
    return index


def vote_result(configuration: Configuration, votes: Mapping[int, bool]) -> VoteResult:
    """Say how the election stands, given who has granted (True) or refused (False)."""
    result = _majority_result(configuration.voters, votes)
    if not configuration.voters_outgoing:
        return result
    outgoing = _majority_result(configuration.voters_outgoing, votes)
    if result is outgoing:
        return result
    if VoteResult.LOST in (result, outgoing):
        return VoteResult.LOST
    return VoteResult.PENDING


def has_quorum(configuration: Configuration, servers: Collection[int]) -> bool:
    """Say whether `servers` contain a quorum of `configuration`."""
    if not _has_majority(configuration.voters, servers):
        return False
    outgoing = configuration.voters_outgoing
    return not outgoing or _has_majority(outgoing, servers)


def _majority_result(voters: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    answers = [votes[voter] for voter in voters if voter in votes]
    granted = sum(answers)
    if 2 * granted > len(voters):
        return VoteResult.WON
    still_out = len(voters) - len(answers)
    if 2 * (granted + still_out) > len(voters):
        return VoteResult.PENDING
    return VoteResult.LOST


def _has_majority(voters: Sequence[int], servers: Collection[int]) -> bool:
    return 2 * sum(voter in servers for voter in voters) > len(voters)
