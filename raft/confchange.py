"""Changes of the cluster's configuration, as pure functions (thesis chapter 4).

A change of one server takes effect in one step: the majorities before and after it overlap. A
change of more makes a joint configuration first, in which both the old and the new voters must
agree; the empty change leaves it (thesis 4.3). The exception is the first change, the one of the
empty configuration: nobody could have decided anything yet, so all servers enter at once.

What `check` asserts of a configuration:
  1. Every tuple is ascending, without duplicates, and its ids lie in 1..2^64-1.
  2. It has voters, or it is empty altogether.
  3. No learner is a voter, neither of the new configuration nor of the old one.
  4. Whoever is to become a learner is a voter of the old configuration and not of the new one.
"""

from typing import Final, NamedTuple

import msgpack

from raft.entry import Configuration
from raft.errors import RaftError

# The kinds of changes. Each may name a server that is so already: then it changes nothing.
ADD_VOTER: Final = 1  # also promotes a learner
ADD_LEARNER: Final = 2  # also demotes a voter
REMOVE: Final = 3

_KINDS: Final = (ADD_VOTER, ADD_LEARNER, REMOVE)
_MAX_ID: Final = 2**64 - 1


class Change(NamedTuple):
    """What happens to one server."""

    kind: int  # ADD_VOTER, ADD_LEARNER or REMOVE
    server_id: int  # >= 1


class ConfigChange(NamedTuple):
    """What a CONFIG entry carries; no changes at all leave the joint configuration."""

    changes: tuple[Change, ...]
    context: bytes = b""  # the user's


class ImpossibleChange(RaftError, ValueError):
    """The configuration in force does not allow this change; the text says why."""


def encode_change(change: ConfigChange) -> bytes:
    """Return what `decode_change` turns back: [[[kind, server id], ...], context] in msgpack."""
    encoded: bytes = msgpack.packb(change)
    return encoded


def decode_change(data: bytes) -> ConfigChange:
    """Return the change that was encoded.

    Raises ValueError when `data` is nothing that `encode_change` returns.
    """
    try:
        decoded: object = msgpack.unpackb(data, use_list=False)
    except ValueError as error:
        raise ValueError(f"not a configuration change: {error}") from error
    match decoded:
        case (tuple(pairs), bytes(context)):
            return ConfigChange(tuple(map(_decode_pair, pairs)), context)
        case _:
            raise ValueError("not a configuration change")


def apply_change(configuration: Configuration, change: ConfigChange) -> Configuration:
    """Return the configuration that `change` makes of `configuration`.

    Raises ImpossibleChange. It depends on nothing but the arguments: every server decides alike.
    """
    is_joint = bool(configuration.voters_outgoing)
    if not change.changes:
        if not is_joint:
            raise ImpossibleChange("no joint configuration to leave")
        result = _leave_joint(configuration)
    else:
        if is_joint:
            raise ImpossibleChange("a joint configuration must be left first")
        _require_sound(change)
        result = _change_servers(configuration, change)
        if not result.voters:
            raise ImpossibleChange("no voter would be left")
    check(result)
    return result


def check(configuration: Configuration) -> None:
    """Assert the invariants of the module docstring."""
    for ids in configuration:
        assert list(ids) == sorted(set(ids)), f"not ascending: {ids}"
        assert all(1 <= server_id <= _MAX_ID for server_id in ids), f"id out of range: {ids}"
    voters, outgoing, learners, learners_next = map(set, configuration)
    assert voters or not any(configuration), f"no voters in {configuration}"
    assert not learners & (voters | outgoing), f"learners vote in {configuration}"
    assert learners_next <= outgoing, f"demoted ones never voted in {configuration}"
    assert not learners_next & voters, f"demoted ones vote in {configuration}"


def _leave_joint(configuration: Configuration) -> Configuration:
    learners = {*configuration.learners, *configuration.learners_next}
    return Configuration(voters=configuration.voters, learners=tuple(sorted(learners)))


def _require_sound(change: ConfigChange) -> None:
    """Refuse what makes no sense whatever the configuration is."""
    seen: set[int] = set()
    for kind, server_id in change.changes:
        if kind not in _KINDS:
            raise ImpossibleChange(f"unknown kind of change {kind}")
        if not 1 <= server_id <= _MAX_ID:
            raise ImpossibleChange(f"server id {server_id} is out of range")
        if server_id in seen:
            raise ImpossibleChange(f"server {server_id:x} is named twice")
        seen.add(server_id)


def _change_servers(configuration: Configuration, change: ConfigChange) -> Configuration:
    voters = set(configuration.voters)
    # Empty, and so not joint, also when there were no voters: nobody would have to agree.
    outgoing = configuration.voters if len(change.changes) > 1 else ()
    learners = set(configuration.learners)
    learners_next: set[int] = set()
    for kind, server_id in change.changes:
        voters.discard(server_id)
        learners.discard(server_id)
        if kind == ADD_VOTER:
            voters.add(server_id)
        elif kind == ADD_LEARNER:
            # A voter of the old configuration still counts there, and a learner never may.
            (learners_next if server_id in outgoing else learners).add(server_id)
    # Sorted for determinism.
    return Configuration(
        voters=tuple(sorted(voters)),
        voters_outgoing=outgoing,
        learners=tuple(sorted(learners)),
        learners_next=tuple(sorted(learners_next)),
    )


def _decode_pair(pair: object) -> Change:
    match pair:
        # Compared by type: True is an int to isinstance, and 1 == True == 1.0.
        case (kind, server_id) if type(kind) is int and type(server_id) is int:
            if kind in _KINDS and 1 <= server_id <= _MAX_ID:
                return Change(kind, server_id)
            raise ValueError(f"no such kind of change or id: {pair!r}")
        case _:
            raise ValueError(f"not a change of one server: {pair!r}")
