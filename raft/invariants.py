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

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, assert_never

from raft.candidate import Candidate
from raft.confchange import check as check_configuration
from raft.core import Core
from raft.entry import Configuration, EntryID
from raft.follower import Follower
from raft.leader import Leader
from raft.messages import AppendResponse
from raft.quorum import VoteResult, vote_result

_NEXT_ROLES: Final = {
    "follower": ("follower", "pre_candidate", "candidate"),
    "pre_candidate": ("follower", "pre_candidate", "candidate"),
    "candidate": ("follower", "pre_candidate", "candidate", "leader"),
    "leader": ("follower", "leader"),
}


@dataclass(slots=True)
class Moment:
    """What is remembered of a core to judge its next step."""

    term: int
    vote: int
    leader: int
    role: str
    last_id: EntryID
    commit_id: EntryID
    applied_index: int
    base_index: int
    snapshot_index: int
    configuration: Configuration
    match_indexes: dict[int, int]  # a leader's


def observe(core: Core) -> Moment:
    """Return what is to be remembered of a core."""
    log, role = core.log, core._role
    return Moment(
        *(core.term, core.vote, core.leader, core.role),
        last_id=log.last_id,
        commit_id=EntryID(log.commit_index, log.term(log.commit_index)),
        applied_index=log.applied_index,
        base_index=log.base.index,
        snapshot_index=core.snapshot_index,
        configuration=core.configuration,
        match_indexes=(
            {server_id: progress.match_index for server_id, progress in role.progress.items()}
            if isinstance(role, Leader)
            else {}
        ),
    )


def check(before: Moment | None, core: Core) -> Moment:
    """Assert all invariants; return this moment, to be `before` of the next call."""
    _check_shared(core)
    _check_outboxes(core)
    match core._role:
        case Follower():
            assert core.leader != core.server_id, f"follower {core.server_id:x} leads itself"
        case Candidate() as candidate:
            _check_candidate(core, candidate)
        case Leader() as leader:
            _check_leader(core, leader)
            _check_progress(core, leader)
        case unreachable:
            assert_never(unreachable)
    after = observe(core)
    if before is not None:
        _check_step(before, after)
        _check_log_step(before, after, core)
    return after


def _check_shared(core: Core) -> None:
    """Assert invariants 1, 2 and 8."""
    state, log, hard_state = core._state, core.log, core._hard_state
    log.check()
    _check_configuration(core.configuration)
    assert log.last_term <= core.term, f"entry {log.last_id} in term {core.term}"
    assert hard_state.term <= core.term, f"{hard_state} on disk in term {core.term}"
    assert core._handed_index <= log.commit_index, f"{core._handed_index} > {log.commit_index}"
    restoring = state.restoring
    covered = max(core.snapshot_index, restoring.index if restoring else 0)
    assert log.base.index <= covered, f"log begins after {log.base}, snapshot {covered}"
    assert core.snapshot_index <= log.applied_index, f"{state.snapshot} > {log.applied_index}"
    if restoring is None:
        assert state.unwritten_snapshot is None, f"nobody restores {state.unwritten_snapshot}"
        assert core._restore is None, f"nobody restores {core._restore}"
        applied_index = core.applied_index
        assert applied_index == log.applied_index, f"{applied_index}, log {log.applied_index}"
    else:
        assert core.applied_index < restoring.index, f"{core.applied_index} during {restoring}"
        assert log.applied_index == restoring.index, f"{log.applied_index} during {restoring}"
        assert core.role == "follower", f"a {core.role} restores {restoring}"


@lru_cache(maxsize=256)
def _check_configuration(configuration: Configuration) -> None:
    """Assert what a configuration promises; none ever changes, so that once is enough."""
    check_configuration(configuration)


def _check_outboxes(core: Core) -> None:
    """Assert invariant 7."""
    for envelope in core._state.messages:
        assert envelope.sender == core.server_id, f"sent for another: {envelope}"
        assert envelope.recipient != core.server_id, f"sent to itself: {envelope}"
    for envelope in core._state.promises:
        assert envelope.term == core.term, f"promised in term {core.term}: {envelope}"
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
    log, own = core.log, core.server_id
    assert core.leader == own, f"leader follows {core.leader:x}"
    assert core.vote == own, f"leader has voted for {core.vote:x}"
    assert leader.handover.leaving != core._state.is_voter, f"{own:x} leads {core.configuration}"
    assert log.last_term == core.term, f"last entry {log.last_id} of the leader of {core.term}"
    uncommitted_bytes = log.size_since(log.commit_index)
    assert leader.uncommitted_bytes == uncommitted_bytes, (
        f"{leader.uncommitted_bytes} counted, {uncommitted_bytes} uncommitted"
    )
    pending = leader.pending_config_index
    assert leader.first_index <= pending <= log.last_index, f"pending {pending}, {log.last_id}"
    transferee = leader.handover.transferee
    assert transferee != own, f"{own:x} hands over to itself"
    voters = core.configuration.voters
    assert transferee in (0, *voters), f"{transferee:x} is not of {voters}"
    if leader.held_reads:
        assert log.commit_index < leader.first_index, f"{leader.held_reads} held too long"
    if leader.reads.pending:
        assert log.commit_index >= leader.first_index, "reads wait for an unknown commit index"
    leader.reads.check()


def _check_progress(core: Core, leader: Leader) -> None:
    """Assert invariant 5."""
    log, servers = core.log, core.configuration.servers
    assert tuple(leader.progress) == servers, f"{list(leader.progress)} of {servers}"
    for server_id, progress in leader.progress.items():
        progress.check()
        assert progress.next_index <= log.last_index + 1, f"{server_id:x}: {progress} {log.last_id}"
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
            leaders = f"leaders {before.leader:x} and {after.leader:x} in term {after.term}"
            assert before.leader in (0, after.leader), leaders
    else:
        assert after.role in ("follower", "candidate"), f"a {after.role} entered {after.term}"
    if before.snapshot_index == after.snapshot_index:
        old, new = before.configuration, after.configuration
        is_joint = old.voters_outgoing or new.voters_outgoing
        is_restored = after.base_index > before.commit_id.index
        if old.voters and not is_joint and not is_restored:
            changed = set(old.voters) ^ set(new.voters)
            assert len(changed) <= 1, f"voters {old.voters} -> {new.voters}"


def _check_log_step(before: Moment, after: Moment, core: Core) -> None:
    """Assert invariants 9 and 11."""
    log = core.log
    assert before.commit_id.index <= after.commit_id.index, f"{before.commit_id} -> commit"
    assert before.applied_index <= after.applied_index, f"{before.applied_index} -> applied"
    assert before.base_index <= after.base_index, f"base {before.base_index}, {after.base_index}"
    assert before.snapshot_index <= after.snapshot_index, f"snapshot {before.snapshot_index} lost"
    if before.commit_id.index >= log.base.index:
        assert log.matches(*before.commit_id), f"committed {before.commit_id} is gone"
    if before.role == after.role == "leader":
        assert log.matches(*before.last_id), f"leader has overwritten {before.last_id}"
        for server_id, match_index in before.match_indexes.items():
            later = after.match_indexes.get(server_id, match_index)
            assert match_index <= later, f"{server_id:x}: match {match_index} -> {later}"
