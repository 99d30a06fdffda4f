"""Proves that the driver saves and restores snapshots, and compacts what they contain."""

from itertools import pairwise

import pytest

from raft.driver import CATCH_UP_BYTES, CATCH_UP_ENTRIES, COMPACTED_ENTRIES
from raft.entry import (
    Configuration,
    SnapshotMeta,
)
from raft.errors import CorruptRecord
from raft.messages import (
    AppendResponse,
    InstallSnapshot,
    ReadIndexResponse,
)
from tests.raft.driver_world import FIRST_CONTEXT, World, append, ask, entry


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


def test_long_log_is_compacted_little_by_little():
    """To free all of it at once would hold everybody up; what is durable next frees some more."""
    superfluous = 2 * COMPACTED_ENTRIES + 100
    count = superfluous + CATCH_UP_ENTRIES
    world = World(1, entries=[entry(index) for index in range(2, count + 1)])
    assert world.driver.save_snapshot()
    world.finish_save()
    bases = [world.core.log.base.index]
    world.lead()
    for _ in range(3):
        world.propose()
        world.complete()
        bases.append(world.core.log.base.index)
    assert bases[0] == COMPACTED_ENTRIES
    assert bases[-1] == superfluous
    assert all(after - before <= 2 * COMPACTED_ENTRIES for before, after in pairwise(bases))


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
