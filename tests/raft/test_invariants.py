"""The invariants: each of them fails on a core that breaks it."""

import dataclasses
from collections.abc import Callable

import pytest

from raft.candidate import Candidate
from raft.entry import Configuration, Entry, EntryID, HardState, SnapshotMeta
from raft.follower import Follower
from raft.invariants import check, observe
from raft.leader import Leader
from raft.messages import AppendResponse, Envelope, Heartbeat
from tests.raft.server import Server, make_leader, make_server

_META = SnapshotMeta(5, 2, Configuration((1, 2, 3)))


def _follower() -> Server:
    server = make_server(terms=(1, 1, 1))
    server.receive(2, Heartbeat(2, 0))
    return server


def _candidate() -> Server:
    server = make_server(pre_vote=False)
    server.do(lambda core: core.campaign())
    return server


def _set(server: Server, **values: object) -> None:
    for name, value in values.items():
        setattr(server.core._state, name, value)


def _leader_role(server: Server) -> Leader:
    role = server.core._role
    assert isinstance(role, Leader)
    return role


def _replace_entry(server: Server, position: int, **values: int) -> None:
    entries = server.core.log._entries
    entries[position] = dataclasses.replace(entries[position], **values)


def _win_unnoticed(server: Server) -> None:
    role = server.core._role
    assert isinstance(role, Candidate)
    role.votes = {1: True, 2: True}


@pytest.mark.parametrize(
    ("make", "corrupt", "problem"),
    [
        (_follower, lambda it: _set(it, term=0), "in term 0"),
        (_follower, lambda it: _set(it, configuration=Configuration((2, 1))), "not ascending"),
        (_follower, lambda it: setattr(it.core.log, "commit_index", 9), "commit 9, last 3"),
        (
            _follower,
            lambda it: setattr(it.core, "_hard_state", HardState(9, 0, 0)),
            "on disk in term 1",
        ),
        (_follower, lambda it: setattr(it.core, "_handed_index", 3), "3 > 2"),
        (_follower, lambda it: setattr(it.core.log, "base", EntryID(3, 1)), "base 3, applied 2"),
        (_follower, lambda it: setattr(it.core.log, "applied_index", 3), "applied 3, commit 2"),
        (_follower, lambda it: setattr(it.core.log, "stable_index", 1), "applied 2, stable 1"),
        (_follower, lambda it: setattr(it.core.log, "handed_index", 2), "stable 3, handed 2"),
        (_follower, lambda it: setattr(it.core.log, "handed_index", 4), "handed 4, last 3"),
        (_follower, lambda it: it.core.log._entries.pop(), "2 entries after 0, last 3"),
        (_follower, lambda it: it.core.log._byte_ends.pop(), "3 sizes, 3 entries"),
        (_follower, lambda it: setattr(it.core.log, "last_term", 0), "last term 0, but Entry"),
        (_follower, lambda it: _replace_entry(it, -1, term=9), "last term 1, but Entry"),
        (_follower, lambda it: _replace_entry(it, -1, index=9), "last 3, but Entry"),
        (_follower, lambda it: it.core.log.compact(2), "log begins after 2@1, snapshot 0"),
        (_follower, lambda it: _set(it, snapshot=_META), "> 2"),
        (_follower, lambda it: _set(it, unwritten_snapshot=_META), "nobody restores"),
        (_follower, lambda it: setattr(it.core, "_restore", _META), "nobody restores"),
        (_follower, lambda it: setattr(it.core, "applied_index", 1), "1, log 2"),
        (_follower, lambda it: _set(it, restoring=_META), "2 during"),
        (_follower, lambda it: _set(it, leader=1), "leads itself"),
        (
            _follower,
            lambda it: it.core._state.messages.append(Envelope(2, 3, 1, Heartbeat(0, 0))),
            "sent for another",
        ),
        (_follower, lambda it: it.core._state.send(1, Heartbeat(0, 0)), "sent to itself"),
        (
            _follower,
            lambda it: it.core._state.promises.append(Envelope(1, 2, 0, AppendResponse(1))),
            "promised in term 1",
        ),
        (_follower, lambda it: it.core._state.promise_match(2, 9), "of a log up to 3"),
        (_candidate, lambda it: _set(it, leader=2), "with leader 2"),
        (_candidate, lambda it: _set(it, configuration=Configuration((2, 3))), "is not in"),
        (_candidate, lambda it: _set(it, vote=2), "has voted for 2"),
        (_candidate, _win_unnoticed, "goes on with"),
        (make_leader, lambda it: _set(it, leader=2), "follows 2"),
        (make_leader, lambda it: _set(it, vote=2), "has voted for 2"),
        (make_leader, lambda it: _set(it, term=3), "of the leader of 3"),
        (make_leader, lambda it: _set(it, configuration=Configuration((2, 3))), "1 leads"),
        (make_leader, lambda it: setattr(_leader_role(it), "uncommitted_bytes", 1), "1 counted"),
        (make_leader, lambda it: setattr(_leader_role(it), "pending_config_index", 9), "pending 9"),
        (make_leader, lambda it: setattr(_leader_role(it).handover, "transferee", 1), "to itself"),
        (
            make_leader,
            lambda it: setattr(_leader_role(it).handover, "transferee", 9),
            "9 is not of",
        ),
        (make_leader, lambda it: _leader_role(it).reads.add(1, 1, 1), "an unknown commit index"),
        (make_leader, lambda it: _leader_role(it).progress.pop(3), "of \\(1, 2, 3\\)"),
        (
            make_leader,
            lambda it: setattr(_leader_role(it).progress[2], "next_index", 9),
            "2: Progress",
        ),
        (make_leader, lambda it: setattr(it.core.log, "stable_index", 1), "own match 2, 1 stable"),
        (
            make_leader,
            lambda it: setattr(_leader_role(it).progress[2], "_inflight_bytes", 9),
            "9",
        ),
        (
            make_leader,
            lambda it: _leader_role(it).progress[2]._inflight.append((1, 0)),
            "deque|in flight|at next|PROBE",
        ),
        (
            make_leader,
            lambda it: _leader_role(it).reads._answered.update({2: 9}),
            "2 answered 9, 0 begun",
        ),
    ],
)
def test_corrupt_core_is_found_out(
    make: Callable[[], Server], corrupt: Callable[[Server], object], problem: str
) -> None:
    """Facts of one moment that do not go together, also when the moment before was sound."""
    server = make()
    sound = check(None, server.core)
    assert check(sound, server.core) is sound
    corrupt(server)
    for before in (None, sound, sound):
        with pytest.raises(AssertionError, match=problem):
            check(before, server.core)


def test_restoring_in_another_role_is_found_out() -> None:
    """A server that campaigns has nothing to restore."""
    server = make_server()
    server.holds_writes = True
    server.receive(2, Heartbeat(1, 0))
    server.core.log.restore(EntryID(5, 1))
    _set(server, restoring=_META, leader=0)
    server.core._role = Candidate(server.core._state, True, 10)
    with pytest.raises(AssertionError, match="a pre_candidate restores"):
        check(None, server.core)


def test_log_applied_behind_a_restored_snapshot_is_found_out() -> None:
    """While a snapshot is restored the log begins at its end."""
    server = make_server(terms=(1, 1, 1))
    _set(server, restoring=_META._replace(index=3))
    with pytest.raises(AssertionError, match="1 during"):
        check(None, server.core)


def test_reads_held_too_long_are_found_out() -> None:
    """Once an entry of the term is committed they have an index."""
    leader = make_leader()
    leader.receive(2, AppendResponse(2))
    _leader_role(leader).held_reads.append((1, 1))
    with pytest.raises(AssertionError, match="held too long"):
        check(None, leader.core)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"term": 2}, "term 2 -> 1"),
        ({"role": "leader"}, "leader became candidate"),
        ({"vote": 3}, "votes 3, 1"),
        ({"commit_index": 2}, "-> commit"),
        ({"commit_term": 9}, "committed 1@9 is gone"),
        ({"applied_index": 9}, "9 -> applied"),
        ({"base": EntryID(9, 1)}, "base 9@1, 0@0"),
        ({"snapshot_index": 9}, "snapshot 9 lost"),
        ({"configuration": Configuration((1, 4, 5))}, "voters \\(1, 4, 5\\) -> \\(1, 2, 3\\)"),
    ],
)
def test_step_that_goes_back_is_found_out(changes: dict[str, object], problem: str) -> None:
    """Facts of two moments that do not go together."""
    server = make_server(hard_state=HardState(1, 1, 1))
    before = observe(server.core)
    server.core._role = Candidate(server.core._state, False, 10)
    check(before, server.core)
    with pytest.raises(AssertionError, match=problem):
        check(before._replace(**changes), server.core)


def test_moment_that_was_only_observed_is_judged() -> None:
    """A core that was unsound from the start is found out by the first look."""
    server = _follower()
    server.core.log.handed_index = 4
    with pytest.raises(AssertionError, match="handed 4, last 3"):
        check(observe(server.core), server.core)


def test_committed_entry_that_is_replaced_in_place_is_found_out() -> None:
    """Only its term tells; all indexes stay as they are."""
    server = _follower()
    sound = check(None, server.core)
    _replace_entry(server, 1, term=9)
    with pytest.raises(AssertionError, match="committed 2@1 is gone"):
        check(sound, server.core)


def test_acknowledgement_that_is_taken_back_is_found_out() -> None:
    """An acknowledgement that was seen stands, whatever else has changed."""
    leader = make_leader()
    leader.receive(2, AppendResponse(2))
    sound = check(None, leader.core)
    assert sound.match_indexes[2] == 2
    _leader_role(leader).progress[2].match_index = 1
    with pytest.raises(AssertionError, match="2: match 2 -> 1"):
        check(sound, leader.core)


def test_second_leader_of_a_term_is_found_out() -> None:
    """A follower knows one leader a term."""
    server = _follower()
    before = observe(server.core)
    before = before._replace(leader=3)
    with pytest.raises(AssertionError, match="leaders 3 and 2 in term 1"):
        check(before, server.core)


def test_role_that_enters_a_term_by_other_means_is_found_out() -> None:
    """Only a candidacy or another server's message leads into a new term."""
    leader = make_leader()
    before = observe(leader.core)
    before = before._replace(term=1)
    with pytest.raises(AssertionError, match="a leader entered 2"):
        check(before, leader.core)


def test_leader_that_changes_its_log_or_forgets_acknowledgements_is_found_out() -> None:
    """A leader only appends, and match indexes only rise."""
    leader = make_leader()
    before = observe(leader.core)
    with pytest.raises(AssertionError, match="2: match 9 -> 0"):
        check(before._replace(match_indexes={**before.match_indexes, 2: 9}), leader.core)
    with pytest.raises(AssertionError, match="has overwritten 2@1"):
        check(before._replace(last_term=1), leader.core)


def test_compacted_commit_and_first_configuration_are_fine() -> None:
    """What the log no longer holds cannot be compared."""
    server = make_server(terms=(1, 1, 1))
    before = observe(server.core)._replace(configuration=Configuration())
    server.receive(2, Heartbeat(3, 0))
    server.save_snapshot()
    server.compact(3)
    check(before, server.core)
    assert isinstance(server.core._role, Follower)
    assert server.core.log.slice(4, 1) == list[Entry]()
