"""Proves that the driver serves disk, network and state machine in the one safe order."""

import logging
import random
from collections.abc import Iterable, Iterator

import pytest

from raft.confchange import ADD_VOTER, REMOVE, Change, ConfigChange, encode_change
from raft.core import Core
from raft.driver import CATCH_UP_BYTES, CATCH_UP_ENTRIES, Driver
from raft.entry import (
    CONFIG,
    NORMAL,
    Configuration,
    Entry,
    HardState,
    SnapshotMeta,
)
from raft.errors import CorruptRecord
from raft.interfaces import Rejected, Write
from raft.invariants import Moment, check
from raft.messages import (
    Append,
    AppendResponse,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    Vote,
    VoteResponse,
)
from raft.state import CoreConfig
from raft.storage import MemoryStorage

RETRY_TICKS = 5
FIRST_CONTEXT = 7
_QUIET = logging.Logger("quiet", logging.CRITICAL)


def change_entry(index: int, *changes: tuple[int, int], term: int = 1) -> Entry:
    """A configuration entry."""
    change = ConfigChange(tuple(Change(*pair) for pair in changes), b"why")
    return Entry(index, term, CONFIG, encode_change(change))


class World:
    """Server 1 of a new cluster, with a disk, a network and a state machine that take notes.

    The notes are of all three, in the order in which things happened.
    """

    def __init__(self, *voters: int, entries: Iterable[Entry] = (), **options: int) -> None:
        self.notes: list[tuple[object, ...]] = []
        self.messages: list[Envelope] = []
        self.voids_changes = False
        # While set, our own snapshots wait in `saves` and not in line with the writes.
        self.saves: list[object] = []
        self.disk = MemoryStorage()
        first = change_entry(1, *((ADD_VOTER, voter) for voter in voters))
        log = [first, *entries]
        self.disk.write(Write(HardState(1, 0, log[-1].index), log, None, []), lambda: None)
        self.disk.complete()
        config = CoreConfig(1, election_ticks=10, heartbeat_ticks=1, **options)
        self.core = Core(config, self.disk.recover(), random.Random(1), _QUIET)
        self.driver = Driver(
            *(self.core, self, self, self),
            first_context=FIRST_CONTEXT,
            read_retry_ticks=RETRY_TICKS,
            log=_QUIET,
        )
        self._moment: Moment | None = None
        self.pump()

    # ---- raft.interfaces.Storage

    def write(self, write: Write, done) -> None:
        self.notes.append(("write", [entry.index for entry in write.entries]))

        def finished() -> None:
            self.notes.append(("durable",))
            done()

        self.disk.write(write, finished)

    def save_snapshot(self, meta: SnapshotMeta, chunks: Iterator[bytes], done) -> None:
        self.notes.append(("save", meta.index))
        drawn = list(chunks)

        def finish() -> None:
            self.disk.install_snapshot(meta, drawn)
            done()

        self.saves.append(finish)

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        return self.disk.read_snapshot(meta)

    # ---- raft.interfaces.Transport

    def send(self, envelopes: list[Envelope]) -> None:
        self.messages += envelopes
        self.notes.append(("send", [type(it.message).__name__ for it in envelopes]))

    # ---- raft.interfaces.StateMachine

    def apply(self, entries: list[Entry]) -> None:
        self.notes.append(("apply", [entry.index for entry in entries]))

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        self.notes.append(("change", entry.index, change.context))
        return not self.voids_changes

    def configured(self, configuration: Configuration) -> None:
        self.notes.append(("configured", configuration.voters))

    def capture(self) -> Iterator[bytes]:
        return iter([b"state at %d" % self.core.applied_index])

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        self.notes.append(("restore", meta.index, b"".join(chunks)))

    def reject(self, rejected: Rejected) -> None:
        self.notes.append(("reject", *rejected))

    # ---- what tests do

    def pump(self) -> None:
        """Let the driver work; check the core."""
        self.driver.pump()
        self._moment = check(self._moment, self.core)

    def receive(self, sender: int, *messages: Message) -> None:
        """Take messages of this term, and work."""
        term = self.core.term
        self.driver.step([Envelope(sender, 1, term, message) for message in messages])
        self.pump()

    def complete(self) -> None:
        """The write in flight reaches the disk."""
        assert self.disk.complete(), "no write is in flight"
        self._moment = check(self._moment, self.core)

    def tick(self, count: int = 1) -> None:
        """Let time pass, and work."""
        for _ in range(count):
            self.driver.tick()
            self.pump()

    def finish_save(self) -> None:
        """Our snapshot reaches the disk."""
        self.saves.pop(0)()
        self._moment = check(self._moment, self.core)

    def lead(self) -> "World":
        """Become the leader, with the no-op applied; forget how."""
        core = self.core
        others = [voter for voter in core.configuration.voters if voter != 1]
        core.campaign()
        self.pump()
        for other in others:
            if core.role == "pre_candidate":
                self.driver.step([Envelope(other, 1, core.term + 1, PreVoteResponse(True))])
                self.pump()
        self.complete()
        for other in others:
            if core.role == "candidate":
                self.receive(other, VoteResponse(True))
        assert core.role == "leader", core.role
        for other in others:
            self.receive(other, AppendResponse(core.log.last_index))
        self.disk.complete_all()
        assert core.applied_index == core.log.last_index
        self.forget()
        return self

    def follow(self, leader: int = 2) -> "World":
        """Hear from a leader; forget how."""
        self.receive(leader, Heartbeat(0, 0))
        assert self.core.leader == leader
        self.forget()
        return self

    def propose(self, data: bytes = b"x") -> None:
        """Have something proposed, and work."""
        self.core.propose(data)
        self.pump()

    def forget(self) -> None:
        """Begin new notes."""
        self.notes.clear()
        self.messages.clear()

    def did(self, *kinds: str) -> list[tuple[object, ...]]:
        """The notes of these kinds."""
        return [note for note in self.notes if note[0] in kinds]

    def sent(self, kind: type) -> list[Message]:
        """The messages of a kind that were sent."""
        return [it.message for it in self.messages if isinstance(it.message, kind)]


def append(world: World, *entries: Entry, commit: int = 0) -> Append:
    """Entries of this term's leader, at the end of our log."""
    log = world.core.log
    return Append(log.last_index, log.last_term, commit, list(entries))


def entry(index: int, data: bytes = b"x") -> Entry:
    """An entry of a user."""
    return Entry(index, 1, NORMAL, data)


# ------------------------------------------------------------------------------ order of things


def test_start_tells_the_configuration_and_applies_what_is_committed():
    """Before anything is asked of it, the state machine is where the disk says."""
    world = World(1, 2, 3, entries=[entry(2), entry(3)])
    assert world.notes == [
        ("configured", ()),
        ("change", 1, b"why"),
        ("configured", (1, 2, 3)),
        ("apply", [2, 3]),
    ]


def test_leaders_appends_leave_before_its_own_write_is_durable():
    """Followers write while the leader does (thesis 10.2.1)."""
    world = World(1, 2, 3).lead()
    world.propose()
    assert world.notes == [("send", ["Append", "Append"]), ("write", [3])]


def test_followers_promise_leaves_only_when_it_is_durable():
    """An acknowledgement that a crash undoes could lose a committed entry."""
    world = World(1, 2, 3).follow()
    world.receive(2, append(world, entry(2)))
    assert world.notes == [("write", [2])]
    world.complete()
    assert world.notes == [("write", [2]), ("durable",), ("send", ["AppendResponse"])]
    assert world.sent(AppendResponse) == [AppendResponse(2)]


def test_single_leader_commits_only_what_is_durable():
    """Our own acknowledgement counts by the same path as everybody's."""
    world = World(1).lead()
    world.propose()
    assert world.did("apply") == []
    assert world.core.log.commit_index == 2
    world.complete()
    assert world.notes == [("write", [3]), ("durable",), ("apply", [3])]


def test_entries_that_others_committed_wait_for_our_own_disk():
    """A state machine must not be ahead of its own log."""
    world = World(1, 2, 3).lead()
    world.propose()
    world.receive(2, AppendResponse(3))
    world.receive(3, AppendResponse(3))
    assert world.core.log.commit_index == 3
    assert world.did("apply") == []
    world.complete()
    assert world.did("durable", "apply") == [("durable",), ("apply", [3])]


def test_proposals_that_arrive_during_a_write_share_the_next():
    """Group commit: one write in flight, however many are proposed."""
    world = World(1).lead()
    for _ in range(4):
        world.propose()
    assert world.disk.pending == 1
    world.complete()
    assert world.did("write") == [("write", [3]), ("write", [4, 5, 6])]
    world.complete()
    assert world.did("apply") == [("apply", [3]), ("apply", [4, 5, 6])]


def test_rejected_proposals_reach_the_state_machine():
    """They were passed on, and came back."""
    world = World(1, 2, 3).follow()
    world.propose(b"mine")
    assert world.sent(Propose) == [Propose([(NORMAL, b"mine")])]
    world.receive(2, ProposeReject("not now", [(NORMAL, b"mine")]))
    assert world.did("reject") == [("reject", NORMAL, b"mine", "not now")]


# ---------------------------------------------------------------------------------- membership


def test_configuration_entries_split_batches():
    """The state machine sees every entry in its place."""
    world = World(1, 2, 3).follow()
    entries = [entry(2), entry(3), change_entry(4, (ADD_VOTER, 4)), entry(5)]
    world.receive(2, append(world, *entries, commit=5))
    world.complete()
    assert world.did("apply", "change", "configured") == [
        ("apply", [2, 3]),
        ("change", 4, b"why"),
        ("configured", (1, 2, 3, 4)),
        ("apply", [5]),
    ]


def test_change_that_the_state_machine_voids_is_not_put_in_force():
    """It says no on every server alike."""
    world = World(1, 2, 3).follow()
    world.voids_changes = True
    world.receive(2, append(world, change_entry(2, (REMOVE, 3)), entry(3), commit=3))
    world.complete()
    assert world.did("change", "configured", "apply") == [
        ("change", 2, b"why"),
        ("configured", (1, 2, 3)),
        ("apply", [3]),
    ]


def test_change_that_nobody_understands_is_void_and_not_shown():
    """Bytes of the log that are no change end no server."""
    world = World(1, 2, 3).follow()
    world.receive(2, append(world, Entry(2, 1, CONFIG, b"?"), commit=2))
    world.complete()
    assert world.did("change", "configured") == [("configured", (1, 2, 3))]
    assert world.core.applied_index == 2


# --------------------------------------------------------------------------------------- reads


def ask(world: World, times: int = 1) -> list[int]:
    """Ask for reads; the list grows by the applied index at which each is served."""
    served: list[int] = []
    for _ in range(times):
        world.driver.read_index(lambda: served.append(world.core.applied_index))
    world.pump()
    return served


def test_read_of_a_single_leader_is_served_at_once():
    """Nobody else can lead."""
    assert ask(World(1).lead()) == [2]


def test_read_of_a_leader_waits_for_a_quorum():
    """A deposed leader would serve old values (thesis 6.4)."""
    world = World(1, 2, 3).lead()
    served = ask(world)
    assert served == []
    world.receive(2, HeartbeatResponse(world.sent(Heartbeat)[-1].read_round))
    assert served == [2]


def test_reads_of_one_turn_are_asked_for_together():
    """One context, however many wait."""
    world = World(1, 2, 3).follow()
    served = ask(world, times=3)
    assert world.sent(ReadIndex) == [ReadIndex(FIRST_CONTEXT)]
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 1))
    assert served == [1, 1, 1]


def test_read_is_served_only_when_its_index_is_applied():
    """Confirmed is not enough: the write it must see may still be on its way."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 3), append(world, entry(2), commit=2))
    world.complete()
    assert (served, world.core.applied_index) == ([], 2)
    world.receive(2, append(world, entry(3), commit=3))
    assert served == []
    world.complete()
    assert served == [3]


def test_lost_read_is_asked_again_under_a_new_context():
    """Question or answer got lost; other reads in between have their own."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    world.tick(RETRY_TICKS - 1)
    assert world.sent(ReadIndex) == [ReadIndex(FIRST_CONTEXT)]
    world.tick()
    assert world.sent(ReadIndex)[1:] == [ReadIndex(FIRST_CONTEXT + 1)]
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 1, 1))
    assert served == [1]


def test_late_answer_to_an_abandoned_question_is_ignored():
    """It may come from a leader that has been deposed since."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    world.tick(RETRY_TICKS)
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 1))
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 17, 1))
    assert served == []
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 1, 1))
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT + 1, 1))
    assert served == [1]


def test_read_without_a_leader_waits_for_one():
    """Nothing is asked of nobody."""
    world = World(1, 2, 3)
    served = ask(world)
    world.tick()
    assert world.sent(ReadIndex) == []
    world.receive(2, Heartbeat(0, 0))
    assert world.sent(ReadIndex) == [ReadIndex(FIRST_CONTEXT)]
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 1))
    assert served == [1]


def test_read_that_asks_for_a_read_is_served_in_turn():
    """Callbacks may come back for more."""
    world = World(1).lead()
    inner: list[int] = []
    world.driver.read_index(lambda: inner.extend(ask(world)))
    world.pump()
    assert inner == [2]


def test_first_context_of_zero_is_our_bug():
    """0 means none everywhere."""
    with pytest.raises(AssertionError, match="contexts begin at 1"):
        Driver(*[object()] * 4, first_context=0, read_retry_ticks=1, log=_QUIET)


# ----------------------------------------------------------------------------------- snapshots


def test_own_snapshots_are_saved_one_at_a_time():
    """And only when there is something new."""
    world = World(1).lead()
    assert world.driver.save_snapshot()
    assert world.driver.saving
    world.propose()
    world.complete()
    assert not world.driver.save_snapshot()
    world.finish_save()
    assert (world.driver.saving, world.core.snapshot_index) == (False, 2)
    assert world.driver.save_snapshot()
    world.finish_save()
    assert world.core.snapshot_index == 3
    assert not world.driver.save_snapshot()
    assert world.did("save") == [("save", 2), ("save", 3)]


def test_own_snapshot_is_of_the_moment_it_was_begun():
    """It names what the state machine held, and the configuration of that moment."""
    world = World(1).lead()
    world.driver.save_snapshot()
    world.propose()
    world.complete()
    world.finish_save()
    recovered = world.disk.recover()
    assert recovered.snapshot == SnapshotMeta(2, 2, Configuration(voters=(1,)))
    assert list(world.disk.read_snapshot(recovered.snapshot)) == [b"state at 2"]
    assert [it.index for it in recovered.entries] == [3]


def test_snapshot_leaves_entries_for_followers_that_are_a_little_behind():
    """They are sent entries instead of the whole state."""
    count = CATCH_UP_ENTRIES + 100
    world = World(1, entries=[entry(index) for index in range(2, count + 1)])
    assert world.driver.save_snapshot()
    world.finish_save()
    assert world.core.log.base.index == count - CATCH_UP_ENTRIES


def test_snapshot_of_a_short_log_compacts_nothing():
    """All of it is worth keeping."""
    world = World(1, entries=[entry(2)])
    world.driver.save_snapshot()
    world.finish_save()
    assert world.core.log.base.index == 0


def test_snapshot_leaves_no_more_bytes_than_memory_allows():
    """Few entries may be large."""
    large = bytes(CATCH_UP_BYTES // 8)
    world = World(1, entries=[entry(index, large) for index in range(2, 40)])
    world.driver.save_snapshot()
    world.finish_save()
    log = world.core.log
    assert 0 < log.size_since(log.base.index) <= CATCH_UP_BYTES


def test_snapshot_before_large_new_entries_compacts_up_to_itself():
    """What came after it is not in it, and stays."""
    world = World(1).lead()
    world.driver.save_snapshot()
    world.propose(bytes(CATCH_UP_BYTES + 1))
    world.complete()
    world.finish_save()
    assert world.core.log.base.index == 2


META = SnapshotMeta(9, 1, Configuration(voters=(1, 2, 3)))


def begin_restore(world: World) -> World:
    """A snapshot has come from leader 2, its file is durable, its `Write` is in flight."""
    world.disk.install_snapshot(META, [b"state ", b"at 9"])
    world.receive(2, InstallSnapshot(META))
    return world


def test_snapshot_of_the_leader_is_restored_when_its_write_is_durable():
    """Then it is acknowledged, and the log goes on behind it."""
    world = begin_restore(World(1, 2, 3).follow())
    assert world.notes == [("write", [])]
    world.complete()
    assert world.notes == [
        ("write", []),
        ("durable",),
        ("send", ["AppendResponse"]),
        ("restore", 9, b"state at 9"),
        ("configured", (1, 2, 3)),
    ]
    assert world.sent(AppendResponse) == [AppendResponse(9)]
    assert (world.core.applied_index, world.core.restoring) == (9, False)
    world.receive(2, append(world, entry(10), commit=10))
    world.complete()
    assert world.did("apply") == [("apply", [10])]


def test_read_waits_until_an_accepted_snapshot_is_restored():
    """The log counts it as applied at once; the state machine does not hold it yet."""
    world = World(1, 2, 3).follow()
    served = ask(world)
    begin_restore(world)
    world.receive(2, ReadIndexResponse(FIRST_CONTEXT, 9))
    assert served == []
    world.complete()
    assert served == [9]


def test_no_snapshot_is_begun_while_another_is_being_restored():
    """It would have the old state under the new one's name."""
    world = begin_restore(World(1, 2, 3, entries=[entry(2)]).follow())
    assert not world.driver.save_snapshot()
    world.complete()
    assert not world.driver.save_snapshot()
    assert world.did("save") == []


@pytest.mark.parametrize("saved_while_restoring", [True, False])
def test_own_snapshot_that_a_newer_one_overtakes_changes_nothing(saved_while_restoring: bool):
    """The leader's came while ours was being written."""
    world = World(1, 2, 3, entries=[entry(2)]).follow()
    assert world.driver.save_snapshot()
    begin_restore(world)
    if saved_while_restoring:
        world.finish_save()
        world.complete()
    else:
        world.complete()
        world.finish_save()
    assert not world.driver.saving
    assert world.core.snapshot_index == 9
    assert world.core.log.base.index == 9
    assert world.disk.recover().snapshot == META


def test_snapshot_that_cannot_be_read_is_an_error_of_the_caller():
    """What was durable and is not readable: the server can't go on."""
    world = World(1, 2, 3).follow()
    world.receive(2, InstallSnapshot(META))
    with pytest.raises(CorruptRecord):
        world.disk.complete()


def test_vote_is_durable_before_anybody_hears_of_the_campaign():
    """A candidate that forgot its own vote could give it twice in one term."""
    world = World(1, 2, 3)
    world.core.campaign()
    world.pump()
    world.driver.step([Envelope(2, 1, world.core.term + 1, PreVoteResponse(True))])
    world.pump()
    assert (world.core.role, world.sent(Vote)) == ("candidate", [])
    world.complete()
    assert len(world.sent(Vote)) == 2
    hard_state = world.disk.recover().hard_state
    assert (hard_state.term, hard_state.vote) == (2, 1)
