"""What must hold of a core after every single step, and between one step and the next.

Tests and the simulator call `check` after each input. It asserts, of one moment:
  1. The log's cursors, the configuration, followers' progress and waiting reads are sound.
  2. No entry is of a later term than the server. What is on disk is not ahead of what is known.
  3. A follower does not lead. A candidate has no leader, may vote, and has not won or lost yet.
  4. A leader has its own vote, is a voter or leaving, and its last entry is of its own term.
  5. A leader knows every server of the configuration and no other; nobody has acknowledged what
     the leader does not have, nor the leader itself what is not on its disk.
  6. A leader counts exactly the bytes that are not committed, hands over to another voter only,
     and holds reads back only until an entry of its term is committed.
  7. Messages that may leave at once are for others. Promises are of the current term.
  8. What is compacted or being restored is covered by a snapshot; nothing is given out for
     applying while one is being restored, nor what is not committed.

And of two moments with one input between them:
  9. Terms, commit, applied and base indexes, and snapshots never go back.
 10. In one term there is one vote, and one leader (thesis 3.4, Election Safety).
 11. A committed entry stays, whatever comes (thesis 3.6.3). A leader only appends to its log
     (thesis 3.5), and what a follower has acknowledged to it stands.
 12. Roles change as `_NEXT_ROLES` says, and only a candidate enters a term by itself.
 13. The voters change by one at a time, or by way of a joint configuration (thesis 4.1, 4.3).
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Final, NamedTuple

from raft.candidate import Candidate
from raft.confchange import check as check_configuration
from raft.core import Core
from raft.entry import Configuration, Entry, EntryID, HardState, SnapshotMeta
from raft.leader import Leader
from raft.messages import AppendResponse
from raft.quorum import VoteResult, vote_result

_NEXT_ROLES: Final = {
    "follower": ("follower", "pre_candidate", "candidate"),
    "pre_candidate": ("follower", "pre_candidate", "candidate"),
    "candidate": ("follower", "pre_candidate", "candidate", "leader"),
    "leader": ("follower", "leader"),
}


class Moment(NamedTuple):
    """What is looked at of a core, but for what belongs to its role and for its outboxes.

    All of it is immutable, so that a moment which equals the one before need not be judged again.
    """

    is_sound: bool  # `check` has judged it; what was only observed equals nothing that was
    # What changes seldom; see _STANDING.
    term: int
    vote: int
    leader: int
    role: str
    configuration: Configuration
    snapshot: SnapshotMeta | None
    snapshot_index: int
    # The rest.
    base: EntryID
    last_index: int
    last_term: int
    last_entry: Entry | None
    commit_index: int
    commit_term: int
    applied_index: int  # the log's
    restored_index: int  # the core's
    handed_index: int  # the core's
    stable_index: int
    written_index: int  # the log's handed_index
    entries: int
    sizes: int
    hard_state: HardState
    restoring: SnapshotMeta | None
    unwritten_snapshot: SnapshotMeta | None
    restore: SnapshotMeta | None
    match_indexes: Mapping[int, int]  # a leader's

    @property
    def last_id(self) -> EntryID:
        """The last entry of the log."""
        return EntryID(self.last_index, self.last_term)

    @property
    def commit_id(self) -> EntryID:
        """The last entry known to be committed."""
        return EntryID(self.commit_index, self.commit_term)


# All that `_check_step` looks at, but for what is about the log when a configuration changes.
_STANDING: Final = slice(1, 8)
# Called after every step: what a NamedTuple's own constructor does besides would be felt.
_make_moment: Final = partial(tuple.__new__, Moment)
_NO_INDEXES: Final[Mapping[int, int]] = {}


def observe(core: Core) -> Moment:
    """Return what is to be remembered of a core."""
    return _make_moment(_observe(core, is_sound=False))


def check(before: Moment | None, core: Core) -> Moment:
    """Assert all invariants; return this moment, to be `before` of the next call.

    It is `before` itself, if nothing that it holds has changed: then only what a moment does not
    hold is looked at.
    """
    facts = _observe(core, is_sound=True)
    is_same = facts == before
    if before is None or not is_same:
        after = _make_moment(facts)
        _check_shared(core, after)
    else:
        after = before
    if core._state.messages or core._state.promises:
        _check_outboxes(core)
    role = core._role
    if isinstance(role, Leader):
        _check_leader(core, role)
        _check_progress(core, role)
    elif isinstance(role, Candidate):
        _check_candidate(core, role)
    elif not is_same:
        assert core.leader != core.server_id, f"follower {core.server_id:x} leads itself"
    if before is None or is_same:
        return after
    if before[_STANDING] != after[_STANDING]:
        _check_step(before, after)
    _check_log_step(before, after, core)
    return after


def _observe(core: Core, *, is_sound: bool) -> tuple[object, ...]:
    """Return the fields of a `Moment`, in their order: most of them are found to be the same."""
    state, log, role = core._state, core.log, core._role
    snapshot, entries = state.snapshot, log._entries
    base, commit_index = log.base, log.commit_index
    # Not by way of the log's own answers: whether it gives any is yet to be judged.
    position = commit_index - base.index - 1
    if 0 <= position < len(entries):
        commit_term = entries[position].term
    else:
        commit_term = base.term if position == -1 else 0
    name, match_indexes = "follower", _NO_INDEXES
    if isinstance(role, Leader):
        name = "leader"
        match_indexes = {it: progress.match_index for it, progress in role.progress.items()}
    elif isinstance(role, Candidate):
        name = "pre_candidate" if role.pre_vote else "candidate"
    return (
        is_sound,
        state.term,
        state.vote,
        state.leader,
        name,
        state.configuration,
        snapshot,
        snapshot.index if snapshot else 0,
        base,
        log.last_index,
        log.last_term,
        entries[-1] if entries else None,
        commit_index,
        commit_term,
        log.applied_index,
        core.applied_index,
        core._handed_index,
        log.stable_index,
        log.handed_index,
        len(entries),
        len(log._byte_ends),
        core._hard_state,
        state.restoring,
        state.unwritten_snapshot,
        core._restore,
        match_indexes,
    )


def _check_shared(core: Core, now: Moment) -> None:
    """Assert invariants 1, 2 and 8."""
    core.log.check()
    last = now.last_entry or now.base
    assert last.index == now.last_index, f"last {now.last_index}, but {last}"
    assert last.term == now.last_term, f"last term {now.last_term}, but {last}"
    _check_configuration(now.configuration)
    assert now.last_term <= now.term, f"entry {now.last_id} in term {now.term}"
    assert now.hard_state.term <= now.term, f"{now.hard_state} on disk in term {now.term}"
    assert now.handed_index <= now.commit_index, f"{now.handed_index} > {now.commit_index}"
    restoring, snapshot_index = now.restoring, now.snapshot_index
    covered = max(snapshot_index, restoring.index) if restoring else snapshot_index
    assert now.base.index <= covered, f"log begins after {now.base}, snapshot {covered}"
    assert snapshot_index <= now.applied_index, f"{now.snapshot} > {now.applied_index}"
    restored_index, applied_index = now.restored_index, now.applied_index
    if restoring is None:
        assert now.unwritten_snapshot is None, f"nobody restores {now.unwritten_snapshot}"
        assert now.restore is None, f"nobody restores {now.restore}"
        assert restored_index == applied_index, f"{restored_index}, log {applied_index}"
    else:
        assert restored_index < restoring.index, f"{restored_index} during {restoring}"
        assert applied_index == restoring.index, f"{applied_index} during {restoring}"
        assert now.role == "follower", f"a {now.role} restores {restoring}"


@lru_cache(maxsize=256)
def _check_configuration(configuration: Configuration) -> None:
    """Assert what a configuration promises; none ever changes, so that once is enough."""
    check_configuration(configuration)


@lru_cache(maxsize=256)
def _servers(configuration: Configuration) -> tuple[int, ...]:
    return configuration.servers


def _check_outboxes(core: Core) -> None:
    """Assert invariant 7."""
    state, own = core._state, core.server_id
    for envelope in state.messages:
        assert envelope.sender == own, f"sent for another: {envelope}"
        assert envelope.recipient != own, f"sent to itself: {envelope}"
    for envelope in state.promises:
        assert envelope.term == state.term, f"promised in term {state.term}: {envelope}"
        message = envelope.message
        if isinstance(message, AppendResponse):
            last_index = core.log.last_index
            assert message.match_index <= last_index, f"{message} of a log up to {last_index}"


def _check_candidate(core: Core, candidate: Candidate) -> None:
    """Assert invariant 3."""
    assert core.leader == 0, f"{core.role} with leader {core.leader:x}"
    assert core._state.is_voter, f"{core.role} is not in {core.configuration}"
    result = vote_result(core.configuration, candidate.votes)
    assert result is VoteResult.PENDING, f"{core.role} goes on with {result}: {candidate.votes}"
    if not candidate.pre_vote:
        assert core.vote == core.server_id, f"candidate has voted for {core.vote:x}"


def _check_leader(core: Core, leader: Leader) -> None:
    """Assert invariants 4 and 6."""
    log, state, own = core.log, core._state, core.server_id
    commit_index, first_index = log.commit_index, leader.first_index
    handover, configuration = leader.handover, state.configuration
    assert state.leader == own, f"leader follows {state.leader:x}"
    assert state.vote == own, f"leader has voted for {state.vote:x}"
    assert handover.leaving != state.is_voter, f"{own:x} leads {configuration}"
    assert log.last_term == state.term, f"last entry {log.last_id} of the leader of {state.term}"
    uncommitted_bytes = log.size_since(commit_index)
    assert leader.uncommitted_bytes == uncommitted_bytes, (
        f"{leader.uncommitted_bytes} counted, {uncommitted_bytes} uncommitted"
    )
    pending = leader.pending_config_index
    assert first_index <= pending <= log.last_index, f"pending {pending}, {log.last_id}"
    transferee = handover.transferee
    if transferee:
        assert transferee != own, f"{own:x} hands over to itself"
        voters = configuration.voters
        assert transferee in voters, f"{transferee:x} is not of {voters}"
    if leader.held_reads:
        assert commit_index < first_index, f"{leader.held_reads} held too long"
    if leader.reads.pending:
        assert commit_index >= first_index, "reads wait for an unknown commit index"
    leader.reads.check()


def _check_progress(core: Core, leader: Leader) -> None:
    """Assert invariant 5."""
    log, servers = core.log, _servers(core._state.configuration)
    last_index = log.last_index
    assert tuple(leader.progress) == servers, f"{list(leader.progress)} of {servers}"
    for server_id, progress in leader.progress.items():
        progress.check()
        assert progress.next_index <= last_index + 1, f"{server_id:x}: {progress} {log.last_id}"
    if core.server_id in leader.progress:
        own_match = leader.progress[core.server_id].match_index
        assert own_match <= log.stable_index, f"own match {own_match}, {log.stable_index} stable"


def _check_step(before: Moment, after: Moment) -> None:
    """Assert invariants 10, 12, 13 and the part of 9 that is not about the log."""
    assert before.term <= after.term, f"term {before.term} -> {after.term}"
    assert after.role in _NEXT_ROLES[before.role], f"{before.role} became {after.role}"
    if after.term == before.term:
        assert before.vote in (0, after.vote), f"votes {before.vote:x}, {after.vote:x}"
        if after.leader:
            assert before.leader in (0, after.leader), (
                f"leaders {before.leader:x} and {after.leader:x} in term {after.term}"
            )
    else:
        assert after.role in ("follower", "candidate"), f"a {after.role} entered {after.term}"
    if before.snapshot_index == after.snapshot_index:
        old, new = before.configuration, after.configuration
        if old is not new:
            _check_change(old, new, is_restored=after.base.index > before.commit_index)


def _check_change(old: Configuration, new: Configuration, *, is_restored: bool) -> None:
    """Assert invariant 13."""
    is_joint = old.voters_outgoing or new.voters_outgoing
    if old.voters and not is_joint and not is_restored:
        changed = set(old.voters) ^ set(new.voters)
        assert len(changed) <= 1, f"voters {old.voters} -> {new.voters}"


def _check_log_step(before: Moment, after: Moment, core: Core) -> None:
    """Assert invariants 9 and 11."""
    log = core.log
    assert before.commit_index <= after.commit_index, f"{before.commit_id} -> commit"
    assert before.applied_index <= after.applied_index, f"{before.applied_index} -> applied"
    assert before.base.index <= after.base.index, f"base {before.base}, {after.base}"
    assert before.snapshot_index <= after.snapshot_index, f"snapshot {before.snapshot_index} lost"
    if before.commit_index >= after.base.index:
        if before.commit_index == after.commit_index:
            is_kept = before.commit_term == after.commit_term
        else:
            is_kept = log.matches(before.commit_index, before.commit_term)
        assert is_kept, f"committed {before.commit_id} is gone"
    if before.role == after.role == "leader":
        if before.last_index == after.last_index:
            is_kept = before.last_term == after.last_term
        else:
            is_kept = log.matches(before.last_index, before.last_term)
        assert is_kept, f"leader has overwritten {before.last_id}"
        if before.match_indexes != after.match_indexes:
            _check_acknowledged(before.match_indexes, after.match_indexes)


def _check_acknowledged(before: Mapping[int, int], after: Mapping[int, int]) -> None:
    """Assert invariant 11 as far as it is about followers."""
    for server_id, match_index in before.items():
        later = after.get(server_id, match_index)
        assert match_index <= later, f"{server_id:x}: match {match_index} -> {later}"
