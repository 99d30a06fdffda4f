"""Quorums: examples by hand, and every answer against a search through all subsets."""

from collections.abc import Collection, Mapping
from itertools import chain, combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.entry import Configuration
from raft.quorum import (
    VoteResult,
    committed_index,
    has_quorum,
    joint_committed_index,
    vote_result,
)

quick = settings(max_examples=60, deadline=None)

ids = st.integers(1, 7)
voter_tuples = st.sets(ids, min_size=1, max_size=5).map(lambda voters: tuple(sorted(voters)))
configurations = st.builds(
    Configuration,
    voters=voter_tuples,
    voters_outgoing=st.just(()) | voter_tuples,
    learners=st.sets(st.integers(8, 9)).map(lambda learners: tuple(sorted(learners))),
)


# ---------------------------------------------------------------- the dumb second implementation


def subsets(servers: Collection[int]) -> list[set[int]]:
    """All subsets, the empty one too."""
    ordered = sorted(servers)
    sizes = range(len(ordered) + 1)
    return [set(s) for s in chain.from_iterable(combinations(ordered, size) for size in sizes)]


def is_quorum(configuration: Configuration, servers: set[int]) -> bool:
    """Whether more of each set of voters are among the servers than are missing."""
    halves = [set(half) for half in configuration[:2] if half]
    return bool(halves) and all(len(half & servers) > len(half - servers) for half in halves)


def searched_index(configuration: Configuration, match: Mapping[int, int]) -> int:
    """The highest index that all servers of some quorum have reached."""
    quorums = [s for s in subsets(configuration.servers) if is_quorum(configuration, s)]
    return max((min(match[server] for server in quorum) for quorum in quorums), default=0)


def searched_vote(configuration: Configuration, votes: Mapping[int, bool]) -> VoteResult:
    """What all the ways in which the votes still out may fall have in common."""
    silent = [server for server in configuration.servers if server not in votes]
    outcomes = set()
    for answers in product([True, False], repeat=len(silent)):
        final = {**votes, **dict(zip(silent, answers, strict=True))}
        granted = {server for server, vote in final.items() if vote}
        outcomes.add(is_quorum(configuration, granted))
    if len(outcomes) == 2:
        return VoteResult.PENDING
    return VoteResult.WON if outcomes == {True} else VoteResult.LOST


# --------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize(
    ("indexes", "expected"),
    [
        ([7], 7),
        ([7, 3], 3),
        ([7, 3, 5], 5),
        ([7, 3, 5, 1], 3),
        ([7, 3, 5, 1, 6], 5),
        ([7, 3, 5, 1, 6, 2], 3),
        ([9, 9, 0], 9),
        ([9, 0, 0], 0),
        ([9, 9, 0, 0], 0),
    ],
)
def test_committed_index_needs_more_than_half(indexes: list[int], expected: int) -> None:
    """Half of an even number is no majority, one more than half is."""
    match = dict(enumerate(indexes, start=1))
    assert committed_index(tuple(match), match.__getitem__) == expected


def test_committed_index_without_voters_is_zero() -> None:
    """A configuration without voters commits nothing."""
    assert committed_index((), lambda _: 9) == 0
    assert joint_committed_index(Configuration(), lambda _: 9) == 0


def test_joint_committed_index_is_the_slower_half() -> None:
    """Neither the old nor the new voters commit on their own (thesis 4.3)."""
    match = {1: 9, 2: 9, 3: 4, 4: 4, 5: 0}
    ahead, behind = (1, 2, 3), (3, 4, 5)
    assert joint_committed_index(Configuration(ahead, behind), match.__getitem__) == 4
    assert joint_committed_index(Configuration(behind, ahead), match.__getitem__) == 4


def test_learner_is_never_asked_for_its_index() -> None:
    """Only voters are looked up: a learner cannot commit anything."""
    match = {1: 5, 2: 0, 3: 0}
    configuration = Configuration(voters=(1, 2, 3), learners=(4, 5), voters_outgoing=())
    assert joint_committed_index(configuration, match.__getitem__) == 0


@pytest.mark.parametrize("count", range(1, 8))
def test_vote_is_won_by_one_more_than_half_and_no_less(count: int) -> None:
    """The winning vote is number n // 2 + 1, for even n too."""
    configuration = Configuration(voters=tuple(range(1, count + 1)))
    needed = count // 2 + 1
    almost = dict.fromkeys(range(1, needed), True)
    assert vote_result(configuration, almost) is VoteResult.PENDING
    assert vote_result(configuration, {**almost, needed: True}) is VoteResult.WON


@pytest.mark.parametrize("count", range(1, 8))
def test_vote_is_lost_when_a_majority_is_out_of_reach(count: int) -> None:
    """An even split of all votes loses; one vote more still out keeps it open."""
    configuration = Configuration(voters=tuple(range(1, count + 1)))
    enough = (count + 1) // 2
    refused = dict.fromkeys(range(1, enough + 1), False)
    assert vote_result(configuration, refused) is VoteResult.LOST
    del refused[enough]
    assert vote_result(configuration, refused) is VoteResult.PENDING


def test_vote_of_a_learner_or_stranger_does_not_count() -> None:
    """Votes are counted among the voters only."""
    configuration = Configuration(voters=(1, 2, 3), learners=(4,))
    assert vote_result(configuration, {1: True, 4: True, 9: True}) is VoteResult.PENDING
    assert vote_result(configuration, {1: True, 4: False, 9: False}) is VoteResult.PENDING


def test_joint_vote_needs_both_halves() -> None:
    """One half won is not enough, and one half lost decides (thesis 4.3)."""
    configuration = Configuration(voters=(1, 2, 3), voters_outgoing=(3, 4, 5))
    new_half = {1: True, 2: True}
    assert vote_result(configuration, new_half) is VoteResult.PENDING
    assert vote_result(configuration, {**new_half, 4: False, 5: False}) is VoteResult.LOST
    assert vote_result(configuration, {4: False, 5: False}) is VoteResult.LOST
    assert vote_result(configuration, {**new_half, 4: True, 5: True}) is VoteResult.WON


def test_vote_without_voters_is_lost() -> None:
    """Nobody can be elected by nobody."""
    assert vote_result(Configuration(), {1: True}) is VoteResult.LOST
    assert not has_quorum(Configuration(), [1])


def test_has_quorum_counts_a_server_named_twice_once() -> None:
    """An answer that was repeated on the way counts once."""
    assert not has_quorum(Configuration(voters=(1, 2, 3)), [1, 1, 1])
    assert has_quorum(Configuration(voters=(1, 2, 3)), [1, 3])


def test_has_quorum_in_a_joint_configuration_needs_both_halves() -> None:
    """A majority of the new voters alone is no quorum, nor of the old ones (thesis 4.3)."""
    configuration = Configuration(voters=(1, 2, 3), voters_outgoing=(3, 4, 5))
    assert not has_quorum(configuration, {1, 2, 3})
    assert not has_quorum(configuration, {3, 4, 5})
    assert has_quorum(configuration, {1, 3, 4})


# ------------------------------------------------------------------------------------- properties


@quick
@given(configurations, st.fixed_dictionaries({i: st.integers(0, 6) for i in range(1, 10)}))
def test_committed_index_equals_a_search_of_all_quorums(
    configuration: Configuration, match: dict[int, int]
) -> None:
    """It is the highest index that some quorum holds completely."""
    found = joint_committed_index(configuration, match.__getitem__)
    assert found == searched_index(configuration, match)


@quick
@given(configurations, st.dictionaries(st.integers(1, 9), st.booleans()))
def test_vote_result_equals_a_search_of_all_outcomes(
    configuration: Configuration, votes: dict[int, bool]
) -> None:
    """It is decided exactly when no vote still out can change it."""
    assert vote_result(configuration, votes) is searched_vote(configuration, votes)


@quick
@given(configurations, st.lists(st.integers(1, 9)))
def test_has_quorum_agrees_with_the_definition(
    configuration: Configuration, servers: list[int]
) -> None:
    """Order and repetition of the servers do not matter, nor do learners."""
    assert has_quorum(configuration, servers) == is_quorum(configuration, set(servers))


@quick
@given(configurations)
def test_any_two_quorums_share_a_voter(configuration: Configuration) -> None:
    """What makes two leaders of one term impossible (thesis 3.6.3, Election Safety)."""
    everybody = set(configuration.servers)
    for servers in subsets(everybody):
        if has_quorum(configuration, servers):
            assert not has_quorum(configuration, everybody - servers)
