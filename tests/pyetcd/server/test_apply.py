"""Proves that entries do to the store what their commands say, and tell whoever waits."""

import logging

import msgpack
import pytest

from pyetcd.command import (
    AskTime,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Sync,
    TellTime,
    Update,
    encode,
)
from pyetcd.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    KeyExists,
    KeyNotFound,
    NotDirectory,
    NotFile,
    RootReadOnly,
)
from pyetcd.server.apply import Waiter
from pyetcd.store import Event
from raft import (
    NOOP,
    NORMAL,
    Configuration,
    Rejected,
)
from tests.pyetcd.server.applied import FIRST, META, NOW, OTHER, SECOND, TERM, World

# ------------------------------------------------------------------------------------ commands


def test_set_creates_and_replaces():
    """With all that the command says."""
    world = World()
    assert world.event(Set("/a", "1", False, 0, False)).is_created
    event = world.event(Set("/a", "2", False, NOW + 5 * SECOND, False))
    assert (event.action, event.etcd_index - world.base) == ("set", 2)
    assert b'"ttl":5' in event.body()
    assert world.event(Set("/d", "", True, 0, False)).node.value is None


def test_refresh_keeps_the_value_and_wakes_nobody():
    """The flag reaches the store by every command that has it."""
    world = World()
    world.run(Set("/a", "1", False, 0, False))
    seen: list[Event] = []
    world.store.watch("/a", seen.append, stream=True)
    world.run(Set("/a", "", False, NOW + SECOND, True))
    world.run(Update("/a", "", NOW + 2 * SECOND, True))
    world.run(CompareAndSwap("/a", "", "1", 0, NOW + 3 * SECOND, True))
    assert (world.value("/a"), seen) == ("1", [])
    assert world.store.next_expiration() == NOW + 3 * SECOND


def test_create_makes_what_is_not_there():
    """A key or a directory, with an expiration."""
    world = World()
    event = world.event(Create("/d", "", True, NOW + SECOND))
    assert (event.action, event.node.value) == ("create", None)
    assert world.store.next_expiration() == NOW + SECOND
    assert world.event(Create("/d/k", "v", False, 0)).node.value == "v"


def test_create_in_order_names_keys_by_index():
    """Two in a row get different names."""
    world = World()
    first = world.event(CreateInOrder("/q", "1", False, 0)).key
    second = world.event(CreateInOrder("/q", "", True, NOW + SECOND))
    assert first == f"/q/{world.base + 1:020d}"
    assert second.key == f"/q/{world.base + 2:020d}"
    assert second.node.value is None


def test_update_changes_what_is_there():
    """Value and expiration."""
    world = World()
    world.run(Set("/a", "1", False, 0, False))
    event = world.event(Update("/a", "2", NOW + SECOND, False))
    assert (event.action, world.value("/a")) == ("update", "2")
    assert world.store.next_expiration() == NOW + SECOND


def test_compare_and_swap_compares_value_and_index():
    """Each by itself and both together."""
    world = World()
    world.run(Set("/a", "1", False, 0, False))
    index = world.store.index
    assert world.event(CompareAndSwap("/a", "2", "1", 0, 0, False)).action == "compareAndSwap"
    assert world.event(CompareAndSwap("/a", "3", "", index + 1, 0, False))
    event = world.event(CompareAndSwap("/a", "4", "3", index + 2, NOW + SECOND, False))
    assert (event.etcd_index, world.value("/a")) == (index + 3, "4")
    assert world.store.next_expiration() == NOW + SECOND


def test_delete_removes_keys_and_directories():
    """As far as its two flags allow."""
    world = World()
    for path in ("/a", "/d/k", "/e/k"):
        world.run(Set(path, "1", False, 0, False))
    assert world.event(Delete("/a", False, False)).action == "delete"
    assert world.event(Delete("/d", False, True)).node is None
    world.run(Delete("/e/k", False, False))
    assert world.event(Delete("/e", True, False)).action == "delete"


def test_compare_and_delete_compares_value_and_index():
    """Each by itself."""
    world = World()
    for path in ("/a", "/b"):
        world.run(Set(path, "1", False, 0, False))
    assert world.event(CompareAndDelete("/a", "1", 0)).action == "compareAndDelete"
    assert world.event(CompareAndDelete("/b", "", world.base + 2)).node is None


def test_sync_removes_what_has_expired_the_earliest_first():
    """No more than it says at once, by the leader's clock and by no other."""
    world = World()
    for number in (3, 1, 2):
        world.run(Set(f"/{number}", "v", False, NOW + number * SECOND, False))
    assert world.run(Sync(NOW + 2 * SECOND, 1), now=NOW + 9 * SECOND) is None
    assert world.store.next_expiration() == NOW + 2 * SECOND
    world.run(Sync(NOW + 2 * SECOND, 10), now=NOW + 9 * SECOND)
    assert world.store.next_expiration() == NOW + 3 * SECOND
    assert world.index == 5


def test_ttl_in_the_event_is_counted_from_the_proposers_clock():
    """Every member renders the same body, whenever it applies the entry."""
    world = World()
    result = world.run(Set("/a", "1", False, NOW + 10 * SECOND, False), now=NOW + 3 * SECOND)
    assert isinstance(result, Event)
    assert b'"ttl":7,' in result.body()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Set("/", "", False, 0, False), RootReadOnly),
        (Set("/d", "x", False, 0, False), NotFile),
        (Set("/a/b", "x", False, 0, False), NotDirectory),
        (Set("/none", "", False, 0, True), KeyNotFound),
        (Create("/a", "x", False, 0), KeyExists),
        (Create("/", "x", False, 0), RootReadOnly),
        (CreateInOrder("/a", "x", False, 0), NotDirectory),
        (Update("/none", "x", 0, False), KeyNotFound),
        (Update("/d", "x", 0, False), NotFile),
        (CompareAndSwap("/none", "x", "1", 0, 0, False), KeyNotFound),
        (CompareAndSwap("/a", "x", "2", 0, 0, False), CompareFailed),
        (CompareAndSwap("/d", "x", "2", 0, 0, False), NotFile),
        (Delete("/none", False, False), KeyNotFound),
        (Delete("/d", False, False), NotFile),
        (Delete("/d", True, False), DirectoryNotEmpty),
        (CompareAndDelete("/a", "2", 0), CompareFailed),
        (CompareAndDelete("/none", "2", 0), KeyNotFound),
    ],
)
def test_refusal_of_the_store_is_a_result(command: Command, error: type):
    """It carries the store's index, takes none, and the log goes on."""
    world = World()
    world.run(Set("/a", "1", False, 0, False))
    world.run(Set("/d/k", "1", False, 0, False))
    result = world.run(command)
    assert type(result) is error
    assert result.index == world.base + 2
    assert world.index == 2
    assert world.event(Set("/a", "2", False, 0, False)).etcd_index == world.base + 3


# ------------------------------------------------------------------------------- who is told


def test_waiter_is_told_once_and_forgotten():
    """Only the one whose request it is; an entry that comes again finds nobody."""
    world = World()
    mine, others = world.wait(7), world.wait(8)
    data = encode(7, NOW, Set("/a", "1", False, 0, False))
    world.applier.apply([world.entry(NORMAL, data), world.entry(NORMAL, data)])
    assert len(mine) == 1
    assert others == []
    assert list(world.applier.waiters) == [8]


def test_membership_waiter_is_told_once_and_forgotten():
    """Also when the change is refused."""
    world = World()
    world.change(FIRST)
    world.change(OTHER)
    assert world.applier.waiters == {}


def test_waiter_sees_the_store_as_of_its_own_entry():
    """Results are given between the entries, not behind a batch."""
    world = World()
    seen: list[int] = []
    for request_id in (1, 2):
        world.applier.waiters[request_id] = Waiter(
            lambda _: seen.append(world.applier.raft_index), 1, NORMAL, b"", 1, 1
        )
    entries = [
        world.entry(NORMAL, encode(request_id, NOW, Delete("/none", False, False)))
        for request_id in (1, 2)
    ]
    world.applier.apply(entries)
    assert seen == [2, 3]


def test_noop_tells_of_its_term():
    """What was proposed in earlier terms and is not applied by now never will be."""
    world = World()
    world.applier.apply([world.entry(NOOP, b"")])
    assert world.notes.told == [("term", 3), ("applied",)]
    assert world.applier.raft_index == 2


def test_batch_is_told_once():
    """However many entries it has."""
    world = World()
    data = encode(0, NOW, Set("/a", "1", False, 0, False))
    world.applier.apply([world.entry(NORMAL, data) for _ in range(3)])
    assert world.notes.told == [("applied",)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(1),
        msgpack.packb([99, 7, NOW]),
        msgpack.packb([[], 7, NOW]),
        msgpack.packb([1, 7, NOW, "/a"]),
        encode(7, NOW, Set("/a", "1", False, 0, False)) + b"x",
    ],
)
def test_entry_that_nobody_understands_is_skipped(data: bytes, caplog: pytest.LogCaptureFixture):
    """The same on every member: nothing happens, and the next entry is applied."""
    world = World()
    waiting = world.wait(7)
    good = encode(8, NOW, Set("/b", "1", False, 0, False))
    world.applier.apply([world.entry(NORMAL, data), world.entry(NORMAL, good)])
    assert (world.index, world.applier.raft_index, waiting) == (1, 3, [])
    assert "entry 2 is skipped: not a command" in caplog.text


def test_rejections_and_configurations_are_passed_on():
    """They are for the server."""
    world = World()
    rejected = Rejected(NORMAL, b"x", "no leader")
    world.applier.reject(rejected)
    world.applier.configured(Configuration(voters=(1, 2)))
    assert world.notes.told == [("rejected", rejected), ("configured", (1, 2))]


def test_skipped_and_void_entries_are_logged_as_errors(caplog: pytest.LogCaptureFixture):
    """Somebody must look into it."""
    world = World()
    world.applier.apply([world.entry(NORMAL, b"?")])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# ----------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    "command",
    [
        Set("/a", "2", False, NOW - 50 * SECOND, False),
        Create("/b", "2", False, NOW - 50 * SECOND),
        CreateInOrder("/c", "2", False, NOW - 50 * SECOND),
        Update("/a", "2", NOW - 50 * SECOND, False),
        CompareAndSwap("/a", "2", "1", 0, NOW - 50 * SECOND, False),
    ],
)
def test_command_of_a_member_that_is_behind_gives_the_whole_ttl(command: Command):
    """Its clock is a minute behind what the leader has told, and the key lives for ten seconds."""
    world = World()
    world.run(Set("/a", "1", False, 0, False))
    world.run(TellTime(NOW))
    event = world.run(command, now=NOW - 60 * SECOND)
    assert isinstance(event, Event)
    assert event.node is not None
    assert event.node.expiration == NOW + 10 * SECOND
    assert b'"ttl":10' in event.body()


def test_command_of_a_member_that_is_behind_keeps_no_ttl_where_there_is_none():
    """Never is never."""
    world = World()
    world.run(Sync(NOW, 1))
    event = world.run(Set("/a", "1", False, 0, False), now=NOW - SECOND)
    assert isinstance(event, Event)
    assert event.node is not None
    assert event.node.expiration == 0


def test_expiration_ends_with_what_64_bits_hold():
    """However late the command is."""
    world = World()
    world.run(TellTime(NOW))
    event = world.run(Set("/a", "1", False, (1 << 63) - 1, False), now=NOW - SECOND)
    assert isinstance(event, Event)
    assert event.node is not None
    assert event.node.expiration == (1 << 63) - 1


def test_time_never_goes_back_and_is_part_of_the_state():
    """An older leader's word changes nothing; observers hear of it all the same."""
    world = World()
    world.run(TellTime(NOW))
    world.run(TellTime(NOW - SECOND))
    world.run(AskTime(0xB, NOW, known=True))
    assert world.applier.time == NOW
    told = [it for it in world.notes.told if it[0] in ("time", "question")]
    assert told == [
        ("time", NOW, TERM),
        ("time", NOW - SECOND, TERM),
        ("question", 0xB, NOW, True),
    ]
    other = World()
    other.applier.restore(META, world.applier.capture())
    assert other.applier.time == NOW
