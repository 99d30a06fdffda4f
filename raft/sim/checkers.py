"""What a run has shown so far: everything later must agree with it, or the run is `Unsafe`.

The five properties of the thesis's figure 3.2 are checked here, over all servers and all time:
Election Safety, Leader Append-Only, Log Matching, Leader Completeness and State Machine Safety.
So is what they rest on: whatever a message promises is on its sender's disk when it leaves, a
quorum holds an entry before it counts as committed, and a start finds what was durable.

Facts know nothing of how servers are run; `raft.sim.server` tells them.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from raft.codec import Batch
from raft.core import Core
from raft.entry import CONFIG, NO_ENTRY, Configuration, Entry, EntryID
from raft.interfaces import Recovered, Write
from raft.invariants import Moment, check
from raft.messages import AppendResponse, CommitTo, Envelope, Heartbeat, TimeoutNow, VoteResponse
from raft.quorum import has_quorum
from raft.recovery import LogImage
from raft.sim.errors import Unsafe

# The messages that vouch for something.
_PROMISES: Final = (AppendResponse, Heartbeat, CommitTo, VoteResponse, TimeoutNow)


@dataclass(slots=True)
class Durable:
    """What one server's disk has confirmed."""

    image: LogImage = field(default_factory=LogImage)
    # Given to the disk, not confirmed: a crash may leave it there or not.
    writing: Write | None = None

    def holds(self, raft_index: int, term: int) -> bool:
        """Say whether that very entry is on the disk, or covered by what replaced the log."""
        image = self.image
        if raft_index <= image.base_index:
            return True
        position = raft_index - image.base_index - 1
        return position < len(image.entries) and image.entries[position].term == term


class Facts:
    """The checkers of safety."""

    def __init__(self) -> None:
        # Election Safety: who leads a term, and who got whose vote in it.
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        # Log Matching: each entry, and the term of the one before it.
        self.entries: dict[EntryID, tuple[Entry, int]] = {}
        # State Machine Safety: the term of each committed entry; 0 at first, for the index 0.
        self.committed: list[int] = [0]
        # The term of the leader that committed it.
        self.committed_in: list[int] = [0]
        # The state at each index at which some server has stood.
        self.fingerprints: dict[int, int] = {}
        self.durable: dict[int, Durable] = {}
        # The configuration that came into force last, anywhere, and when.
        self.configuration = Configuration()
        self.configuration_index = 0
        self.steps = 0

    @property
    def last_committed(self) -> int:
        """The highest index that any server knows to be committed."""
        return len(self.committed) - 1

    # -------------------------------------------------------------------------------- one step

    def after_step(self, before: Moment, core: Core) -> Moment:
        """Check one server after one input; return the moment for the next time."""
        self.steps += 1
        try:
            after = check(before, core)
        except AssertionError as error:
            raise Unsafe(f"server {core.server_id:x}: {error}") from error
        if after is before:
            return after
        if after.commit_index > before.commit_index:
            self._see_commit(before.commit_index, core)
        if "candidate" in after.role and (before.role, before.term) != (after.role, after.term):
            self._see_candidate(core)
        if after.role == "leader" and (before.role != "leader" or before.term != after.term):
            self._see_leader(core)
        return after

    def came_up(self, core: Core) -> None:
        """A server has started: check what it takes for committed."""
        log = core.log
        if len(self.committed) == 1 and log.commit_index:
            # The first entries of all are committed by whoever makes the cluster. Nobody asks for
            # the terms of those in a snapshot.
            self.committed += [0] * log.base.index
            first_index = log.base.index + 1
            self.committed += [log.term(it) for it in range(first_index, log.commit_index + 1)]
            self.committed_in = self.committed.copy()
        self._see_commit(log.base.index, core)

    def _see_candidate(self, core: Core) -> None:
        """Check that only a voter campaigns, and in the configuration that is committed."""
        own, log, configuration = core.server_id, core.log, core.configuration
        if own not in (*configuration.voters, *configuration.voters_outgoing):
            raise Unsafe(f"{own:x} campaigns, and is no voter of {configuration}")
        for entry in log.slice(log.applied_index + 1, 1 << 62):
            if entry.index <= log.commit_index and entry.kind == CONFIG:
                raise Unsafe(f"{own:x} campaigns, and has not applied the change {entry.index}")

    def _see_leader(self, core: Core) -> None:
        """Check Election Safety and Leader Completeness."""
        own, log = core.server_id, core.log
        other = self.leaders.setdefault(core.term, own)
        if other != own:
            raise Unsafe(f"{other:x} and {own:x} both lead term {core.term}")
        voters = [
            voter
            for (voter, term), candidate in self.votes.items()
            if (term, candidate) == (core.term, own)
        ]
        if not has_quorum(core.configuration, voters):
            raise Unsafe(f"{own:x} leads term {core.term} by the votes of {voters} alone")
        # Its no-op is the last entry, and of this term.
        for raft_index in range(log.base.index + 1, len(self.committed)):
            term = self.committed[raft_index]
            # Who hears only now that it was elected need not have what a later term has committed.
            if self.committed_in[raft_index] < core.term and not log.matches(raft_index, term):
                raise Unsafe(
                    f"{own:x} leads term {core.term} without the committed {raft_index}@{term}"
                )

    def _see_commit(self, known_index: int, core: Core) -> None:
        """Check that all agree on what is committed, and that a quorum held it first."""
        log, committed = core.log, self.committed
        # What is compacted here was seen before, or came in a snapshot of what others committed.
        first_index = max(known_index, log.base.index) + 1
        if first_index > len(committed):
            raise Unsafe(f"{core.server_id:x} has a snapshot beyond what was ever committed")
        for raft_index in range(first_index, log.commit_index + 1):
            term = log.term(raft_index)
            if raft_index < len(committed):
                if committed[raft_index] != term:
                    raise Unsafe(
                        f"{core.server_id:x} commits {raft_index}@{term}, another server "
                        f"{raft_index}@{committed[raft_index]}"
                    )
            else:
                if core.role != "leader":
                    raise Unsafe(f"{core.server_id:x} commits {raft_index}@{term}, no leader has")
                committed.append(term)
                self.committed_in.append(core.term)
                self._require_quorum(core, raft_index, term)

    def _require_quorum(self, core: Core, raft_index: int, term: int) -> None:
        holders = [
            server_id
            for server_id, durable in self.durable.items()
            if durable.holds(raft_index, term)
        ]
        if not has_quorum(core.configuration, holders):
            raise Unsafe(
                f"{core.server_id:x} commits {raft_index}@{term}, which only {holders} have on "
                f"disk, in {core.configuration}"
            )

    # --------------------------------------------------------------------------------- the disk

    def begin_write(self, core: Core, write: Write) -> None:
        """A server gives `write` to its disk: check Log Matching."""
        self.durable[core.server_id].writing = write
        if not write.entries:
            return
        if core.role == "leader" and any(entry.kind == CONFIG for entry in write.entries):
            self._require_one_change(core)
        prev_term = self._term_before(core, write.entries[0].index)
        for entry in write.entries:
            seen = (entry, prev_term)
            other = self.entries.setdefault(EntryID(entry.index, entry.term), seen)
            if other != seen:
                raise Unsafe(f"{core.server_id:x} has {seen}, another server has {other}")
            prev_term = entry.term

    def _require_one_change(self, core: Core) -> None:
        """Check that a change is proposed only when the one before is applied (thesis 4.1)."""
        log = core.log
        entries = log.slice(log.applied_index + 1, 1 << 62)
        changes = [entry.index for entry in entries if entry.kind == CONFIG]
        if len(changes) > 1:
            raise Unsafe(f"{core.server_id:x} has changes {changes} under way at a time")

    def end_write(self, server_id: int, write: Write) -> None:
        """The disk has confirmed `write`."""
        durable = self.durable[server_id]
        assert durable.writing is write, f"{write} is confirmed, {durable.writing} was begun"
        durable.image.replay(Batch(write.snapshot, write.entries, write.hard_state))
        durable.writing = None

    def promised(self, envelope: Envelope, core: Core) -> None:
        """A message leaves: check that its sender's disk holds what it says."""
        message, sender = envelope.message, envelope.sender
        if not isinstance(message, _PROMISES):
            return
        match message:
            case VoteResponse(granted=True):
                hard_state = self.durable[sender].image.hard_state
                if (hard_state.term, hard_state.vote) != (envelope.term, envelope.recipient):
                    raise Unsafe(f"{envelope} leaves, but on disk is {hard_state}")
                key = (sender, envelope.term)
                other = self.votes.setdefault(key, envelope.recipient)
                if other != envelope.recipient:
                    raise Unsafe(
                        f"{sender:x} votes for {other:x} and {envelope.recipient:x} "
                        f"in term {envelope.term}"
                    )
            case AppendResponse(match_index=match_index) if match_index > 0:
                last = self.durable[sender].image.last
                if match_index > last.index:
                    raise Unsafe(f"{envelope} leaves, but the log on disk ends at {last}")
            case Heartbeat(commit=commit) | CommitTo(commit=commit) if commit > 0:
                term = core.log.term(commit) if commit > core.log.base.index else 0
                if term and not self.durable[envelope.recipient].holds(commit, term):
                    raise Unsafe(f"{envelope} leaves, and the recipient has no {commit}@{term}")
            case TimeoutNow():
                # A transfer that was given up since does not keep the log from growing.
                status, last = core.status(), core.log.last_id
                is_current = (status.term, status.transferee) == (envelope.term, envelope.recipient)
                if is_current and not self.durable[envelope.recipient].holds(*last):
                    raise Unsafe(f"{envelope} leaves, but the recipient does not hold {last}")
            case _:
                pass

    def started(self, server_id: int, recovered: Recovered) -> None:
        """A server starts: check that it finds what was durable, and note what it has now."""
        durable = self.durable.get(server_id)
        problem = ""
        if durable is None:
            durable = self.durable[server_id] = Durable()  # its first start
        else:
            problem = _missing(durable.image, recovered)
        if problem and durable.writing is not None:
            write, image = durable.writing, durable.image
            longer = replace(image, entries=list(image.entries))
            longer.replay(Batch(write.snapshot, write.entries, write.hard_state))
            problem = _missing(longer, recovered) and problem
        if problem:
            raise Unsafe(f"{server_id:x} has forgotten: {problem}")
        base = recovered.snapshot.id if recovered.snapshot else NO_ENTRY
        hard_state = recovered.hard_state
        if hard_state.commit <= base.index:
            # It may be the snapshot that says so, and not the log, from which less is found again
            # once the snapshot is damaged.
            known = min(hard_state.commit, durable.image.hard_state.commit)
            hard_state = hard_state._replace(commit=known)
        durable.image = LogImage(
            *(base.index, base.term, list(recovered.entries)),
            *(hard_state, durable.image.marker),
        )
        durable.writing = None

    # ------------------------------------------------------------------------ the state machine

    def applied(self, server_id: int, raft_index: int, fingerprint: int) -> None:
        """A state machine has come to `raft_index`: check that its state is what others had."""
        if raft_index > self.last_committed:
            raise Unsafe(f"{server_id:x} applied {raft_index}, committed {self.last_committed}")
        other = self.fingerprints.setdefault(raft_index, fingerprint)
        if other != fingerprint:
            raise Unsafe(f"the state of {server_id:x} at {raft_index} is not that of others")

    def apply_entry(self, server_id: int, entry: Entry) -> None:
        """A server applies `entry`: check that it is the one which was committed there."""
        index, committed = entry.index, self.committed
        if index >= len(committed) or committed[index] != entry.term:
            raise Unsafe(f"{server_id:x} applies {entry}, which is not committed")
        # Equal in index and term is equal in all, as far as it was ever written (Log Matching).
        seen = self.entries.get(EntryID(index, entry.term))
        if seen is not None and seen[0] != entry:
            raise Unsafe(f"{server_id:x} applies {entry}, another server has {seen[0]}")

    def configured(self, raft_index: int, configuration: Configuration) -> None:
        """A configuration is in force as of `raft_index`."""
        if raft_index > self.configuration_index:
            self.configuration_index = raft_index
            self.configuration = configuration

    def _term_before(self, core: Core, raft_index: int) -> int:
        return core.log.term(raft_index - 1) if raft_index > core.log.base.index else 0


def _missing(image: LogImage, recovered: Recovered) -> str:
    """Return what of `image` is not in `recovered`; "" if nothing is."""
    snapshot, hard_state = recovered.snapshot, recovered.hard_state
    base = snapshot.id if snapshot else NO_ENTRY
    if hard_state.term < image.hard_state.term:
        return f"term {image.hard_state.term}, found {hard_state}"
    if hard_state.term == image.hard_state.term and hard_state.vote != image.hard_state.vote:
        return f"the vote of {image.hard_state}, found {hard_state}"
    if hard_state.commit < image.hard_state.commit:
        return f"the commit index of {image.hard_state}, found {hard_state}"
    if base.index < image.marker.index:
        return f"the snapshot {image.marker}, found {base}"
    kept = [entry for entry in image.entries if entry.index > base.index]
    # The start may have had to go back to an older snapshot.
    if kept == [entry for entry in recovered.entries if entry.index > image.base_index]:
        return ""
    if _replaced(image, base) and not recovered.entries:
        return ""
    found = recovered.entries[-1] if recovered.entries else base
    return f"the log up to {image.last}, found one up to {found.index}@{found.term}"


def _replaced(image: LogImage, base: EntryID) -> bool:
    """Whether a snapshot that ends with `base` contradicts the log, or is beyond it."""
    if base.index <= image.base_index:
        return False
    position = base.index - image.base_index - 1
    return position >= len(image.entries) or image.entries[position].term != base.term
