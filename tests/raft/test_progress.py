"""A follower's progress: states, limits, stale answers, and probing between real logs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.entry import NORMAL, Entry
from raft.log import Log
from raft.progress import Progress, ProgressState


def probing(match_index: int = 0, next_index: int = 11) -> Progress:
    """A follower in PROBE."""
    return Progress(
        next_index=next_index,
        match_index=match_index,
        max_inflight_messages=3,
        max_inflight_bytes=100,
    )


def replicating(match_index: int = 10) -> Progress:
    """A follower in REPLICATE, with nothing in flight."""
    progress = probing()
    progress.acknowledged(match_index)
    return progress


def receiving_snapshot(match_index: int = 5, snapshot_index: int = 20) -> Progress:
    """A follower in SNAPSHOT."""
    progress = probing(match_index=match_index)
    progress.become_snapshot(snapshot_index)
    return progress


# ------------------------------------------------------------------------------------------- probe


def test_new_follower_is_probed_by_one_message_at_a_time() -> None:
    """Where the logs agree is not known yet: the answer decides what to send next."""
    progress = probing()
    assert progress.state is ProgressState.PROBE
    assert not progress.is_paused()
    progress.sent_entries(12, 20)
    assert progress.is_paused()
    assert progress.next_index == 11
    progress.check()


def test_empty_probe_pauses_too() -> None:
    """An empty Append asks the same question."""
    progress = probing()
    progress.sent_entries(10, 0)
    assert progress.is_paused()


def test_probe_acknowledged_begins_replication() -> None:
    """The follower's log is known up to the answer."""
    progress = probing()
    progress.sent_entries(12, 20)
    assert progress.acknowledged(12)
    assert progress.state is ProgressState.REPLICATE
    assert (progress.match_index, progress.next_index) == (12, 13)
    assert not progress.is_paused()
    progress.check()


def test_probe_acknowledged_without_news_begins_replication() -> None:
    """After a loss the follower may have nothing new, but it agrees."""
    progress = probing(match_index=10)
    assert not progress.acknowledged(10)
    assert progress.state is ProgressState.REPLICATE


def test_empty_follower_acknowledges_nothing_and_replicates_from_the_first_entry() -> None:
    """Match index 0 is an answer like any other."""
    progress = probing(next_index=1)
    assert not progress.acknowledged(0)
    assert progress.state is ProgressState.REPLICATE
    assert progress.next_index == 1


def test_probe_ignores_an_old_acknowledgement() -> None:
    """It does not answer the probe, and match index never goes back."""
    progress = probing(match_index=10)
    progress.sent_entries(12, 20)
    assert not progress.acknowledged(9)
    assert progress.state is ProgressState.PROBE
    assert progress.match_index == 10
    assert progress.is_paused()


def test_probe_rejected_moves_back_to_the_hint() -> None:
    """The next probe leaves at once."""
    progress = probing()
    progress.sent_entries(12, 20)
    assert progress.rejected(10, hint_next=4)
    assert progress.next_index == 4
    assert not progress.is_paused()
    progress.check()


def test_probe_rejected_without_a_useful_hint_moves_back_by_one() -> None:
    """A hint that leads forward again would go on for ever."""
    progress = probing()
    assert progress.rejected(10, hint_next=99)
    assert progress.next_index == 10


def test_probe_rejected_never_moves_to_what_is_acknowledged() -> None:
    """What matched once is not asked for again."""
    progress = probing(match_index=7)
    assert progress.rejected(10, hint_next=1)
    assert progress.next_index == 8


def test_probe_ignores_the_rejection_of_an_earlier_probe() -> None:
    """Only the probe that is out can be answered."""
    progress = probing()
    progress.rejected(10, hint_next=4)
    progress.sent_entries(3, 0)
    assert not progress.rejected(10, hint_next=4)
    assert progress.next_index == 4
    assert progress.is_paused()


def test_rejection_of_what_was_acknowledged_is_ignored() -> None:
    """From a follower that lost its log; to probe again at once would never end."""
    progress = probing(match_index=10)
    progress.sent_entries(10, 0)
    assert not progress.rejected(10, hint_next=1)
    assert progress.next_index == 11
    assert progress.is_paused()


def test_rejection_of_the_beginning_of_the_log_is_ignored() -> None:
    """Everybody has what lies before the first entry: next index never reaches 0."""
    progress = probing(next_index=1)
    assert not progress.rejected(0, hint_next=0)
    assert progress.next_index == 1


def test_heartbeat_answer_allows_another_probe() -> None:
    """The probe or its answer may have been lost."""
    progress = probing()
    progress.sent_entries(10, 0)
    progress.heartbeat_answered()
    assert not progress.is_paused()
    assert progress.recent_active


# --------------------------------------------------------------------------------------- replicate


def test_replication_does_not_wait_for_answers() -> None:
    """Each batch goes on where the one before ended (thesis 10.2.1)."""
    progress = replicating()
    progress.sent_entries(12, 20)
    progress.sent_entries(15, 20)
    assert progress.next_index == 16
    assert not progress.is_paused()
    progress.check()


def test_replication_pauses_at_so_many_messages() -> None:
    """A follower that does not answer is not sent the whole log."""
    progress = replicating()
    for index in (11, 12, 13):
        assert not progress.is_paused()
        progress.sent_entries(index, 1)
    assert progress.is_paused()
    assert progress.inflight_full


def test_replication_pauses_at_so_many_bytes() -> None:
    """One message may exceed the limit, a second is not sent."""
    progress = replicating()
    progress.sent_entries(11, 99)
    assert not progress.is_paused()
    progress.sent_entries(12, 1)
    assert progress.is_paused()


def test_empty_append_takes_no_place_in_flight() -> None:
    """It tells a commit index; nobody answers for it in particular."""
    progress = replicating()
    for _ in range(9):
        progress.sent_entries(10, 0)
    assert not progress.is_paused()
    assert progress.next_index == 11


def test_acknowledgement_frees_all_messages_up_to_it() -> None:
    """One answer stands for all before it."""
    progress = replicating()
    for index in (11, 13, 15):
        progress.sent_entries(index, 40)
    assert progress.acknowledged(14)
    assert not progress.is_paused()
    progress.check()
    progress.sent_entries(16, 20)
    assert not progress.is_paused()
    progress.sent_entries(17, 40)
    assert progress.is_paused()


def test_acknowledgement_that_frees_too_little_keeps_the_pause() -> None:
    """By bytes, one small message less may not be enough."""
    progress = replicating()
    progress.sent_entries(11, 1)
    progress.sent_entries(12, 200)
    assert progress.acknowledged(11)
    assert progress.is_paused()


@pytest.mark.parametrize("match_index", [9, 10])
def test_stale_acknowledgement_changes_nothing(match_index: int) -> None:
    """Answers are repeated and overtake one another; match index never goes back."""
    progress = replicating()
    progress.sent_entries(12, 20)
    assert not progress.acknowledged(match_index)
    assert (progress.match_index, progress.next_index) == (10, 13)


def test_acknowledgement_beyond_what_was_sent_moves_next_index() -> None:
    """The answer to an Append from before a loss was noticed arrives late."""
    progress = replicating()
    assert progress.acknowledged(20)
    assert progress.next_index == 21
    progress.check()


def test_rejection_while_replicating_probes_from_match_index() -> None:
    """Something got lost: go back to what is certain, and drop what was in flight."""
    progress = replicating()
    progress.sent_entries(12, 60)
    progress.sent_entries(14, 60)
    assert progress.is_paused()
    assert progress.rejected(12, hint_next=11)
    assert progress.state is ProgressState.PROBE
    assert progress.next_index == 11
    assert not progress.is_paused()
    progress.check()


def test_replication_ignores_a_rejection_of_what_was_never_sent() -> None:
    """It answers a probe from before replication began."""
    progress = replicating()
    progress.sent_entries(12, 20)
    assert not progress.rejected(13, hint_next=5)
    assert progress.state is ProgressState.REPLICATE


@pytest.mark.parametrize("rejected_index", [3, 10])
def test_replication_ignores_a_rejection_of_what_was_acknowledged(rejected_index: int) -> None:
    """It is older than the acknowledgement."""
    progress = replicating()
    assert not progress.rejected(rejected_index, hint_next=1)
    assert progress.state is ProgressState.REPLICATE


def test_heartbeat_answer_allows_one_message_although_full() -> None:
    """If all that is in flight got lost, its rejection shows it; otherwise it does no harm."""
    progress = replicating()
    for index in (11, 12, 13):
        progress.sent_entries(index, 1)
    progress.heartbeat_answered()
    assert not progress.is_paused()
    assert progress.inflight_full
    progress.sent_entries(13, 0)
    assert progress.is_paused()


def test_sending_entries_twice_while_replicating_is_our_bug() -> None:
    """The next batch begins at next index."""
    progress = replicating()
    progress.sent_entries(12, 1)
    with pytest.raises(AssertionError, match="sent 11, next 13"):
        progress.sent_entries(11, 1)


# ---------------------------------------------------------------------------------------- snapshot


def test_follower_receiving_a_snapshot_is_sent_nothing_else() -> None:
    """It could use nothing before the snapshot is installed; signs of life change nothing."""
    progress = receiving_snapshot()
    assert progress.is_paused()
    progress.heartbeat_answered()
    assert progress.is_paused()
    assert progress.recent_active
    assert progress.pending_snapshot_index == 20
    progress.check()


def test_sending_entries_besides_a_snapshot_is_our_bug() -> None:
    """The pause was overlooked."""
    with pytest.raises(AssertionError, match="SNAPSHOT"):
        receiving_snapshot().sent_entries(21, 1)


def test_snapshot_acknowledged_begins_replication_behind_it() -> None:
    """The follower holds all up to the snapshot's end."""
    progress = receiving_snapshot()
    assert progress.acknowledged(20)
    assert progress.state is ProgressState.REPLICATE
    assert progress.next_index == 21
    assert progress.pending_snapshot_index == 0
    progress.check()


def test_late_acknowledgement_of_entries_does_not_end_the_snapshot() -> None:
    """It belongs to an Append from before; what the follower needs is still on its way."""
    progress = receiving_snapshot()
    assert progress.acknowledged(7)
    assert progress.state is ProgressState.SNAPSHOT
    assert progress.match_index == 7
    assert not progress.acknowledged(7)
    progress.check()


def test_rejection_during_a_snapshot_is_ignored() -> None:
    """It answers what was sent before the snapshot."""
    progress = receiving_snapshot()
    assert not progress.rejected(10, hint_next=6)
    assert progress.state is ProgressState.SNAPSHOT


def test_delivered_snapshot_is_probed_behind_its_end() -> None:
    """Not before the follower gives a sign: it may still be installing."""
    progress = receiving_snapshot()
    progress.snapshot_reported(delivered=True)
    assert progress.state is ProgressState.PROBE
    assert progress.next_index == 21
    assert progress.is_paused()
    progress.check()
    progress.heartbeat_answered()
    assert not progress.is_paused()


def test_failed_snapshot_is_probed_from_match_index() -> None:
    """After the next sign of life, so that an unreachable follower is not flooded with files."""
    progress = receiving_snapshot()
    progress.snapshot_reported(delivered=False)
    assert progress.state is ProgressState.PROBE
    assert progress.next_index == 6
    assert progress.is_paused()
    progress.check()


@pytest.mark.parametrize("delivered", [True, False])
def test_report_after_the_acknowledgement_changes_nothing(delivered: bool) -> None:
    """The follower's answer can be faster than the transport's."""
    progress = receiving_snapshot()
    progress.acknowledged(20)
    progress.snapshot_reported(delivered=delivered)
    assert progress.state is ProgressState.REPLICATE
    assert not progress.is_paused()


def test_snapshot_of_what_the_follower_has_is_our_bug() -> None:
    """It needs none."""
    with pytest.raises(AssertionError, match="10 behind 10"):
        probing(match_index=10).become_snapshot(10)


# ------------------------------------------------------------------------------------ commit index


def test_sent_commit_is_taken_back_when_messages_may_be_lost() -> None:
    """Otherwise a follower might never be told of a commit index again."""
    progress = replicating()
    progress.sent_entries(15, 1)
    progress.sent_commit = 15
    progress.rejected(15, hint_next=11)
    assert progress.sent_commit == 10
    progress.next_index, progress.sent_commit = 21, 18
    progress.rejected(20, hint_next=15)
    assert progress.sent_commit == 14


def test_sent_commit_of_a_snapshot_is_its_index() -> None:
    """A snapshot holds nothing that is not committed."""
    assert receiving_snapshot().sent_commit == 20


# -------------------------------------------------------------------------------------- properties

calls = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "acknowledged", "rejected", "heartbeat", "probe", "snapshot", "reported"]
        ),
        st.integers(0, 30),
        st.integers(0, 60),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(calls)
def test_invariants_hold_whatever_a_follower_answers(calls: list[tuple[str, int, int]]) -> None:
    """Nonsense from the network breaks nothing, and match index never goes back."""
    progress = probing()
    for kind, index, number in calls:
        match_before = progress.match_index
        if kind == "send" and not progress.is_paused():
            progress.sent_entries(progress.next_index - 1 + index % 3, number)
        elif kind == "acknowledged":
            assert progress.acknowledged(index) is (progress.match_index > match_before)
        elif kind == "rejected":
            next_before, state_before = progress.next_index, progress.state
            if progress.rejected(index, number) and state_before is ProgressState.PROBE:
                assert progress.next_index < next_before
        elif kind == "heartbeat":
            progress.heartbeat_answered()
        elif kind == "probe":
            progress.become_probe()
        elif kind == "snapshot":
            progress.become_snapshot(progress.match_index + 1 + index)
        elif kind == "reported":
            progress.snapshot_reported(delivered=index % 2 == 0)
        progress.check()
        assert progress.match_index >= match_before


def log_of(terms: list[int]) -> Log:
    """A log of entries of these terms."""
    entries = [Entry(index, term, NORMAL, b"") for index, term in enumerate(terms, start=1)]
    return Log(entries=entries, commit_index=0, applied_index=0)


def probe_until_match(leader: Log, follower: Log) -> tuple[int, int]:
    """Play leader and follower until a probe matches; return where, and after how many probes."""
    progress = probing(next_index=leader.last_index + 1)
    for probes in range(1, leader.last_index + 2):
        prev_index = progress.next_index - 1
        if follower.matches(prev_index, leader.term(prev_index)):
            return prev_index, probes
        hint = follower.find_hint(prev_index, leader.term(prev_index))
        assert progress.rejected(prev_index, leader.find_hint(*hint).index + 1)
    raise AssertionError("probing does not end")


# Two logs share what came before they parted; later terms never agree again, as each term has one
# leader (thesis 3.6.3, Log Matching): odd terms went to one, even terms to the other.
shared_terms = st.lists(st.integers(1, 3), max_size=6).map(sorted)
leader_terms = st.lists(st.sampled_from([5, 7, 9]), max_size=12).map(sorted)
follower_terms = st.lists(st.sampled_from([4, 6, 8]), max_size=12).map(sorted)


@settings(max_examples=80, deadline=None)
@given(shared=shared_terms, ours=leader_terms, theirs=follower_terms)
def test_probing_finds_where_two_logs_part_within_one_probe_a_term(
    shared: list[int], ours: list[int], theirs: list[int]
) -> None:
    """Each rejection skips a whole term of the leader's or the follower's (thesis 3.5)."""
    found, probes = probe_until_match(log_of(shared + ours), log_of(shared + theirs))
    assert found == len(shared)
    parted = [*shared, *ours][len(shared) :] + theirs
    assert probes <= 2 + len(set(parted))


def test_probing_a_follower_that_lost_its_log_begins_with_the_first_entry() -> None:
    """An empty follower's hint leads to the beginning in one step."""
    assert probe_until_match(log_of([1] * 50), log_of([])) == (0, 2)


def test_probing_a_long_foreign_tail_takes_one_probe_for_it() -> None:
    """Not one for each entry of the tail."""
    found, probes = probe_until_match(log_of([1, 1, *[5] * 30]), log_of([1, 1, *[4] * 30]))
    assert found == 2
    assert probes <= 3
