"""Configuration changes: what each does, what is refused, and that quorums always overlap."""

from itertools import combinations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.confchange import (
    ADD_LEARNER,
    ADD_VOTER,
    REMOVE,
    Change,
    ConfigChange,
    ImpossibleChange,
    apply_change,
    check,
    decode_change,
    encode_change,
)
from raft.entry import Configuration
from raft.errors import RaftError
from raft.quorum import has_quorum

LEAVE = ConfigChange(())
THREE = Configuration(voters=(1, 2, 3))


def make_change(*changes: tuple[int, int]) -> ConfigChange:
    """A change of these servers."""
    return ConfigChange(tuple(Change(*change) for change in changes))


# ------------------------------------------------------------------------------------ single steps


@pytest.mark.parametrize(
    ("kind", "server_id", "expected"),
    [
        (ADD_VOTER, 5, Configuration(voters=(1, 2, 3, 5), learners=(4,))),
        (ADD_VOTER, 4, Configuration(voters=(1, 2, 3, 4))),
        (ADD_VOTER, 2, Configuration(voters=(1, 2, 3), learners=(4,))),
        (ADD_LEARNER, 5, Configuration(voters=(1, 2, 3), learners=(4, 5))),
        (ADD_LEARNER, 4, Configuration(voters=(1, 2, 3), learners=(4,))),
        (ADD_LEARNER, 2, Configuration(voters=(1, 3), learners=(2, 4))),
        (REMOVE, 2, Configuration(voters=(1, 3), learners=(4,))),
        (REMOVE, 4, Configuration(voters=(1, 2, 3))),
        (REMOVE, 5, Configuration(voters=(1, 2, 3), learners=(4,))),
    ],
)
def test_change_of_one_server_takes_effect_in_one_step(
    kind: int, server_id: int, expected: Configuration
) -> None:
    """Added, promoted, demoted, removed, or left as it is."""
    before = Configuration(voters=(1, 2, 3), learners=(4,))
    assert apply_change(before, make_change((kind, server_id))) == expected


def test_first_change_makes_all_servers_voters_at_once() -> None:
    """There is no old configuration that would have to agree."""
    change = make_change((ADD_VOTER, 3), (ADD_VOTER, 1), (ADD_LEARNER, 2))
    expected = Configuration(voters=(1, 3), learners=(2,))
    assert apply_change(Configuration(), change) == expected


def test_context_does_not_matter_to_the_configuration() -> None:
    """It is the user's."""
    change = ConfigChange((Change(ADD_VOTER, 4),), b"name and urls")
    assert apply_change(THREE, change).voters == (1, 2, 3, 4)


# ------------------------------------------------------------------------------------------- joint


def test_change_of_several_servers_enters_a_joint_configuration() -> None:
    """Old and new voters decide together until it is left (thesis 4.3)."""
    joint = apply_change(THREE, make_change((ADD_VOTER, 4), (REMOVE, 1)))
    assert joint == Configuration(voters=(2, 3, 4), voters_outgoing=(1, 2, 3))
    assert joint.servers == (1, 2, 3, 4)
    assert apply_change(joint, LEAVE) == Configuration(voters=(2, 3, 4))


def test_voter_demoted_in_a_joint_configuration_becomes_learner_when_it_is_left() -> None:
    """Until then it votes among the old voters, and no learner does."""
    joint = apply_change(THREE, make_change((ADD_LEARNER, 3), (ADD_VOTER, 4)))
    expected = Configuration(voters=(1, 2, 4), voters_outgoing=(1, 2, 3), learners_next=(3,))
    assert joint == expected
    assert apply_change(joint, LEAVE) == Configuration(voters=(1, 2, 4), learners=(3,))


def test_learners_in_a_joint_configuration_are_added_at_once() -> None:
    """Nothing stands against it: they do not vote on either side."""
    before = Configuration(voters=(1, 2, 3), learners=(7,))
    joint = apply_change(before, make_change((ADD_LEARNER, 4), (ADD_LEARNER, 2)))
    expected = Configuration(
        voters=(1, 3), voters_outgoing=(1, 2, 3), learners=(4, 7), learners_next=(2,)
    )
    assert joint == expected
    assert apply_change(joint, LEAVE) == Configuration(voters=(1, 3), learners=(2, 4, 7))


def test_all_voters_can_be_exchanged_in_one_change() -> None:
    """The two sides need no voter in common."""
    change = make_change((REMOVE, 1), (REMOVE, 2), (REMOVE, 3), (ADD_VOTER, 4))
    joint = apply_change(THREE, change)
    assert joint == Configuration(voters=(4,), voters_outgoing=(1, 2, 3))


# ----------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("before", "change", "reason"),
    [
        (THREE, LEAVE, "no joint configuration to leave"),
        (Configuration(), LEAVE, "no joint configuration to leave"),
        (Configuration((1,), (2,)), make_change((ADD_VOTER, 3)), "must be left first"),
        (Configuration((1,)), make_change((REMOVE, 1)), "no voter would be left"),
        (Configuration((1,)), make_change((ADD_LEARNER, 1)), "no voter would be left"),
        (
            Configuration((1, 2)),
            make_change((REMOVE, 1), (ADD_LEARNER, 2)),
            "no voter would be left",
        ),
        (Configuration(), make_change((ADD_LEARNER, 1)), "no voter would be left"),
        (Configuration(), make_change((REMOVE, 1)), "no voter would be left"),
        (THREE, make_change((ADD_VOTER, 4), (REMOVE, 4)), "server 4 is named twice"),
        (THREE, make_change((0, 4)), "unknown kind of change 0"),
        (THREE, make_change((4, 4)), "unknown kind of change 4"),
        (THREE, make_change((ADD_VOTER, 0)), "server id 0 is out of range"),
        (THREE, make_change((ADD_VOTER, 2**64)), "server id 18446744073709551616 is out of"),
    ],
)
def test_impossible_change_is_refused(
    before: Configuration, change: ConfigChange, reason: str
) -> None:
    """By a typed error, as it may come from a user or another server; two at a time never."""
    with pytest.raises(ImpossibleChange, match=reason) as caught:
        apply_change(before, change)
    assert isinstance(caught.value, RaftError)
    assert isinstance(caught.value, ValueError)


# ----------------------------------------------------------------------------------------- check()


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(voters=(2, 1)),
        Configuration(voters=(1, 1)),
        Configuration(voters=(0, 1)),
        Configuration(voters=(2**64,)),
        Configuration(learners=(1,)),
        Configuration(voters_outgoing=(1,)),
        Configuration(voters=(1,), learners=(1,)),
        Configuration(voters=(1,), voters_outgoing=(2,), learners=(2,)),
        Configuration(voters=(1,), learners_next=(2,)),
        Configuration(voters=(1,), voters_outgoing=(1,), learners_next=(1,)),
    ],
)
def test_check_catches_each_broken_invariant(configuration: Configuration) -> None:
    """Every numbered invariant has at least one configuration that breaks only it."""
    with pytest.raises(AssertionError):
        check(configuration)


def test_check_accepts_the_empty_configuration() -> None:
    """A server that is about to join knows nobody yet."""
    check(Configuration())


# ---------------------------------------------------------------------------------------- encoding


@pytest.mark.parametrize(
    "change",
    [LEAVE, make_change((ADD_VOTER, 2**64 - 1), (REMOVE, 1)), ConfigChange((), b"\xff")],
)
def test_change_survives_encoding(change: ConfigChange) -> None:
    """What is decoded is the change, also by type."""
    decoded = decode_change(encode_change(change))
    assert decoded == change
    assert all(isinstance(one, Change) for one in decoded.changes)


def test_encoding_of_a_change_is_fixed() -> None:
    """Entries stay on disk for years: these bytes must not change."""
    change = ConfigChange((Change(ADD_LEARNER, 258),), b"ctx")
    assert encode_change(change).hex() == "929192" + "02" + "cd0102" + "c403" + b"ctx".hex()


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        [],
        [[]],
        [[], b"", b""],
        [[], "text"],
        [7, b""],
        [[7], b""],
        [[[1]], b""],
        [[[1, 2, 3]], b""],
        [[["1", 2]], b""],
        [[[1, 2.0]], b""],
        [[[True, 2]], b""],
        [[[1, True]], b""],
        [[[0, 2]], b""],
        [[[4, 2]], b""],
        [[[1, 0]], b""],
        [[[1, -1]], b""],
        {"changes": []},
    ],
)
def test_msgpack_of_something_else_is_a_value_error(value: object) -> None:
    """Bytes of another shape may come from a peer or a damaged disk."""
    with pytest.raises(ValueError, match="change"):
        decode_change(msgpack.packb(value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x92\x90",  # ends early
        b"\x92\x90\xc4\x00\x00",  # goes on
        b"\xc1",  # no msgpack at all
        b"\x81\x90\x00",  # a map whose key is an array
        b"\x81\x81\x00\x00\x00",  # a map whose key is a map
        b"\xa1\xff",  # text that is no UTF-8
        b"\x91" * 2000,  # nested too deep
        b"\xdd\xff\xff\xff\xff",  # a length that would fill the memory
    ],
)
def test_bytes_that_are_no_change_are_a_value_error(data: bytes) -> None:
    """Whatever msgpack says about them."""
    with pytest.raises(ValueError, match="not a configuration change"):
        decode_change(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b"\x92\x91\x92" + tail))
def test_any_bytes_decode_or_are_a_value_error(data: bytes) -> None:
    """No other error, and no change that could not be applied for its own sake."""
    try:
        change = decode_change(data)
    except ValueError:
        return
    assert decode_change(encode_change(change)) == change


# -------------------------------------------------------------------------------------- properties

changes = st.lists(
    st.builds(Change, st.sampled_from([ADD_VOTER, ADD_LEARNER, REMOVE]), st.integers(1, 5)),
    max_size=4,
    unique_by=lambda change: change.server_id,
).map(lambda changes: ConfigChange(tuple(changes)))


def expected_roles(before: dict[int, int], change: ConfigChange) -> dict[int, int]:
    """Each server's role after the change and after leaving the joint one: kinds as roles."""
    after = dict(before)
    for kind, server_id in change.changes:
        after.pop(server_id, None)
        if kind != REMOVE:
            after[server_id] = kind
    return after


def roles(configuration: Configuration) -> dict[int, int]:
    """Each server's role once no joint configuration is in force any more."""
    learners = (*configuration.learners, *configuration.learners_next)
    return {
        **dict.fromkeys(configuration.voters, ADD_VOTER),
        **dict.fromkeys(learners, ADD_LEARNER),
    }


def assert_quorums_overlap(first: Configuration, second: Configuration) -> None:
    """No quorum of the one is disjoint from a quorum of the other."""
    everybody = sorted({*first.servers, *second.servers})
    for size in range(len(everybody) + 1):
        for some in combinations(everybody, size):
            others = set(everybody) - set(some)
            if has_quorum(first, some):
                assert not has_quorum(second, others), f"{some} of {first}, {others} of {second}"


@settings(max_examples=60, deadline=None)
@given(st.lists(changes, max_size=8))
def test_random_changes_keep_the_invariants_and_overlapping_quorums(
    sequence: list[ConfigChange],
) -> None:
    """Two servers in consecutive configurations can never decide differently (thesis 4.1, 4.3)."""
    configuration = Configuration()
    for change in sequence:
        before = configuration
        try:
            configuration = apply_change(before, change)
        except ImpossibleChange:
            if before.voters_outgoing:
                assert change.changes
            elif change.changes:
                after = expected_roles(roles(before), change)
                assert ADD_VOTER not in after.values(), f"{change} refused by {before}"
            continue
        check(configuration)
        assert roles(configuration) == expected_roles(roles(before), change)
        if before.voters:
            assert_quorums_overlap(before, configuration)
            assert bool(configuration.voters_outgoing) == (len(change.changes) > 1)
