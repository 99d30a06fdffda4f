"""Reads waiting for confirmation: which round confirms which read, and whose answers count."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.entry import Configuration
from raft.quorum import has_quorum
from raft.read_index import ConfirmedRead, ReadQueue

THREE = Configuration(voters=(1, 2, 3))


def waiting_read() -> ReadQueue:
    """A queue with one read by server 2 at commit index 5, whose round has begun."""
    queue = ReadQueue()
    queue.add(2, context=70, commit_index=5)
    queue.begin_round()
    return queue


def test_new_queue_needs_nothing() -> None:
    """Without reads no heartbeat is sent early, and rounds do not grow."""
    queue = ReadQueue()
    assert not queue.pending
    assert not queue.needs_heartbeat
    assert queue.begin_round() == 0
    assert queue.take_confirmed(THREE, own_id=1) == []


def test_read_is_confirmed_by_a_majority_with_the_leader() -> None:
    """One answer and the leader itself are two of three (thesis 6.4)."""
    queue = waiting_read()
    assert queue.take_confirmed(THREE, own_id=1) == []
    queue.acknowledged(3, 1)
    assert queue.take_confirmed(THREE, own_id=1) == [ConfirmedRead(2, 70, 5)]
    assert not queue.pending
    assert queue.take_confirmed(THREE, own_id=1) == []


def test_read_added_after_the_heartbeats_left_waits_for_the_next_round() -> None:
    """An answer to an earlier heartbeat says nothing about the time after the read."""
    queue = waiting_read()
    queue.add(1, context=71, commit_index=6)
    assert queue.needs_heartbeat
    queue.acknowledged(2, 1)
    assert queue.take_confirmed(THREE, own_id=1) == [ConfirmedRead(2, 70, 5)]
    queue.acknowledged(3, 1)
    assert queue.take_confirmed(THREE, own_id=1) == []
    assert queue.begin_round() == 2
    assert not queue.needs_heartbeat
    queue.acknowledged(3, 2)
    assert queue.take_confirmed(THREE, own_id=1) == [ConfirmedRead(1, 71, 6)]


def test_one_round_confirms_all_reads_added_before_it() -> None:
    """Reads are batched: their number does not matter to the network."""
    queue = ReadQueue()
    for context in (1, 2, 3):
        queue.add(1, context, commit_index=context)
    assert queue.begin_round() == 1
    queue.acknowledged(2, 1)
    contexts = [read.context for read in queue.take_confirmed(THREE, own_id=1)]
    assert contexts == [1, 2, 3]


def test_later_round_confirms_earlier_reads() -> None:
    """A lost heartbeat delays reads until any later one is answered."""
    queue = waiting_read()
    queue.add(1, context=71, commit_index=6)
    queue.begin_round()
    queue.acknowledged(3, 2)
    assert len(queue.take_confirmed(THREE, own_id=1)) == 2


def test_round_is_repeated_while_nothing_was_added() -> None:
    """The periodic heartbeat carries the same round again, and so repairs a loss."""
    queue = waiting_read()
    assert queue.begin_round() == 1
    assert queue.round == 1


def test_answer_to_a_round_that_has_not_begun_is_not_believed() -> None:
    """A number that was never sent, by a confused peer, confirms nothing later."""
    queue = waiting_read()
    queue.add(1, context=71, commit_index=6)
    queue.acknowledged(3, 2)
    assert queue.take_confirmed(THREE, own_id=1) == []
    queue.begin_round()
    assert queue.take_confirmed(THREE, own_id=1) == []


def test_stale_answer_does_not_undo_a_later_one() -> None:
    """Answers overtake one another on the network."""
    queue = waiting_read()
    queue.add(1, context=71, commit_index=6)
    queue.begin_round()
    queue.acknowledged(3, 2)
    queue.acknowledged(3, 1)
    assert len(queue.take_confirmed(THREE, own_id=1)) == 2


def test_answer_repeated_by_one_server_counts_once() -> None:
    """Two answers of one follower are not two followers."""
    queue = waiting_read()
    five = Configuration(voters=(1, 2, 3, 4, 5))
    queue.acknowledged(3, 1)
    queue.acknowledged(3, 1)
    assert queue.take_confirmed(five, own_id=1) == []


@pytest.mark.parametrize("server", [8, 9])
def test_answer_of_a_learner_or_stranger_does_not_count(server: int) -> None:
    """Only voters confirm a leader."""
    queue = waiting_read()
    queue.acknowledged(server, 1)
    configuration = Configuration(voters=(1, 2, 3), learners=(8,))
    assert queue.take_confirmed(configuration, own_id=1) == []


def test_leader_that_is_no_voter_does_not_count_itself() -> None:
    """A leader that is being removed needs a majority of the others."""
    queue = waiting_read()
    without_leader = Configuration(voters=(2, 3, 4))
    queue.acknowledged(2, 1)
    assert queue.take_confirmed(without_leader, own_id=1) == []
    queue.acknowledged(4, 1)
    assert len(queue.take_confirmed(without_leader, own_id=1)) == 1


def test_joint_configuration_confirms_by_both_halves() -> None:
    """The old voters might have another leader already, or the new ones (thesis 4.3)."""
    queue = waiting_read()
    joint = Configuration(voters=(1, 2, 3), voters_outgoing=(1, 4, 5))
    queue.acknowledged(2, 1)
    assert queue.take_confirmed(joint, own_id=1) == []
    queue.acknowledged(5, 1)
    assert len(queue.take_confirmed(joint, own_id=1)) == 1


def test_single_voter_confirms_at_once() -> None:
    """Alone in the cluster no heartbeat is needed, nor sent early."""
    queue = ReadQueue()
    queue.add(1, context=70, commit_index=5)
    assert len(queue.take_confirmed(Configuration(voters=(1,)), own_id=1)) == 1
    assert not queue.needs_heartbeat


# -------------------------------------------------------------------- against a model with a clock


@dataclass(slots=True)
class Model:
    """A leader 1 of three, that knows when each heartbeat left and each read was asked for."""

    queue: ReadQueue = field(default_factory=ReadQueue)
    now: int = 0
    asked: dict[int, int] = field(default_factory=dict)  # context -> when
    left: list[tuple[int, int]] = field(default_factory=list)  # (round, when)
    latest: dict[int, int] = field(default_factory=dict)  # server -> departure of what it answered

    def confirmed_by_time(self, context: int) -> bool:
        """Whether a quorum answered heartbeats that left after the read was asked for."""
        answered = {server for server, when in self.latest.items() if when > self.asked[context]}
        return has_quorum(THREE, {1, *answered})

    def run(self, kind: str, number: int) -> None:
        """Do one thing at the next moment."""
        self.now += 1
        if kind == "add":
            self.asked[self.now] = self.now
            self.queue.add(1, context=self.now, commit_index=self.now)
        elif kind == "heartbeat":
            self.left.append((self.queue.begin_round(), self.now))
        elif self.left:
            server = 2 + number % 2
            read_round, when = self.left[number % len(self.left)]
            self.queue.acknowledged(server, read_round)
            self.latest[server] = max(self.latest.get(server, 0), when)


steps = st.lists(
    st.tuples(st.sampled_from(["add", "heartbeat", "answer", "answer"]), st.integers(0, 40)),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_reads_are_confirmed_exactly_when_time_allows_it(steps: list[tuple[str, int]]) -> None:
    """At the very step at which a quorum answered what left after the read: not before or after.

    Numbered rounds lose nothing against a leader that remembers each heartbeat's departure.
    """
    model = Model()
    for kind, number in steps:
        model.run(kind, number)
        model.queue.check()
        for read in model.queue.take_confirmed(THREE, own_id=1):
            assert model.confirmed_by_time(read.context), f"{read} too early"
            del model.asked[read.context]
        late = [context for context in model.asked if model.confirmed_by_time(context)]
        assert not late, f"reads {late} could be served"
    model.run("heartbeat", 0)
    model.queue.acknowledged(2, model.left[-1][0])
    model.queue.take_confirmed(THREE, own_id=1)
    assert not model.queue.pending
