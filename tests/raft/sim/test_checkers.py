"""The checkers, each with the lie that it must see."""

import logging
import random
from dataclasses import replace

import pytest

from raft.entry import NORMAL, Configuration, Entry, HardState, SnapshotMeta
from raft.interfaces import Recovered
from raft.messages import AppendResponse, Envelope, VoteResponse
from raft.sim.checkers import Facts
from raft.sim.clock import Clock
from raft.sim.errors import Unsafe
from raft.sim.watched import WatchedCore
from raft.state import CoreConfig
from tests.raft.server import make_leader

VOTERS = Configuration(voters=(1, 2, 3))
FOUND = Recovered(
    b"",
    HardState(2, 3, 5),
    SnapshotMeta(4, 1, VOTERS),
    [Entry(5, 2, NORMAL, b"a"), Entry(6, 2, NORMAL, b"b")],
)


def started() -> Facts:
    facts = Facts()
    facts.started(1, FOUND)
    return facts


def core_of(facts: Facts) -> WatchedCore:
    config = CoreConfig(1, election_ticks=10, heartbeat_ticks=1)
    return WatchedCore(config, FOUND, random.Random(1), logging.Logger("quiet"), facts)


def test_start_that_finds_everything_is_fine() -> None:
    """The same again."""
    started().started(1, FOUND)


@pytest.mark.parametrize(
    "found",
    [
        replace(FOUND, hard_state=HardState(1, 0, 5)),
        replace(FOUND, hard_state=HardState(2, 0, 5)),
        replace(FOUND, hard_state=HardState(2, 3, 4)),
        replace(FOUND, entries=FOUND.entries[:1]),
        replace(FOUND, entries=[]),
        replace(FOUND, entries=[FOUND.entries[0], Entry(6, 2, NORMAL, b"c")]),
    ],
)
def test_start_that_has_forgotten_is_unsafe(found: Recovered) -> None:
    """Term, vote, commit index and entries are all missed."""
    with pytest.raises(Unsafe, match="has forgotten"):
        started().started(1, found)


def test_commit_index_that_only_a_snapshot_had_may_be_lost_with_it() -> None:
    """Bits of it flipped; the log's own commit index is not missed then, and no further one is."""
    snapshot = SnapshotMeta(6, 2, VOTERS)
    facts = started()
    facts.started(1, Recovered(b"", HardState(2, 3, 6), snapshot, []))
    facts.started(1, FOUND)
    with pytest.raises(Unsafe, match="has forgotten: the commit index"):
        facts.started(1, replace(FOUND, hard_state=HardState(2, 3, 4)))


def test_vote_that_is_not_on_disk_is_unsafe() -> None:
    """The disk says 3."""
    facts = started()
    core = core_of(facts)
    facts.promised(Envelope(1, 3, 2, VoteResponse(True, 0, 0)), core)
    with pytest.raises(Unsafe, match="leaves, but on disk is"):
        facts.promised(Envelope(1, 2, 2, VoteResponse(True, 0, 0)), core)


def test_acknowledgement_beyond_the_disk_is_unsafe() -> None:
    """The disk ends at 6."""
    facts = started()
    core = core_of(facts)
    facts.promised(Envelope(1, 3, 2, AppendResponse(6)), core)
    with pytest.raises(Unsafe, match="the log on disk ends at 6@2"):
        facts.promised(Envelope(1, 3, 2, AppendResponse(7)), core)


def test_entry_that_is_not_committed_must_not_be_applied() -> None:
    """Nobody has committed 6."""
    facts = started()
    core_of(facts)
    with pytest.raises(Unsafe, match="not committed"):
        facts.apply_entry(1, FOUND.entries[1])


def test_leader_that_lacks_what_was_committed_before_its_term_is_unsafe() -> None:
    """Leader Completeness. What a later term has committed it need not have: it was paused."""
    core = make_leader(terms=(1, 1)).core
    assert (core.term, core.log.last_index, core.log.last_term) == (2, 3, 2)
    facts = Facts()
    facts.votes = {(voter, 2): 1 for voter in (1, 2, 3)}
    facts.committed, facts.committed_in = [0, 1, 1, 1], [0, 1, 1, 3]
    facts._see_leader(core)
    facts.committed_in[3] = 1
    with pytest.raises(Unsafe, match="1 leads term 2 without the committed 3@1"):
        facts._see_leader(core)


def test_states_that_differ_at_one_index_are_unsafe() -> None:
    """State Machine Safety."""
    facts = started()
    core_of(facts)
    facts.applied(1, 5, 77)
    facts.applied(2, 5, 77)
    with pytest.raises(Unsafe, match="the state of 3 at 5"):
        facts.applied(3, 5, 78)


def test_clock_does_things_in_the_order_of_time_then_of_asking() -> None:
    """Time jumps, and never back."""
    clock, done = Clock(), []
    clock.after(20, lambda: done.append((clock.now, "late")))
    clock.after(10, lambda: done.append((clock.now, "first")))
    clock.after(10, lambda: done.append((clock.now, "second")))
    clock.run_until(15)
    assert done == [(10, "first"), (10, "second")]
    assert clock.now == 15
    clock.run_until(30)
    assert done[2] == (20, "late")
