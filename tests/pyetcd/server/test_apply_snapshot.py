"""Proves that a snapshot brings back the whole state, or nothing of it."""

from collections.abc import Iterable

import msgpack
import pytest

from pyetcd.cluster import Cluster, Member
from pyetcd.command import CompareAndSwap, CreateUser, Publish, Set, SetVersion
from raft import CorruptRecord
from tests.pyetcd.server.applied import FIRST, META, NOW, OTHER, World


def busy_world() -> World:
    """A world with keys, members and a version."""
    world = World()
    world.change(OTHER)
    world.change(Member(0xE, "", ("http://e:1",)))
    world.change(None, 0xE)
    # What a user types may be no Unicode.
    world.run(Publish(FIRST.id, "fi\udcffrst", ("http://a:2379",)))
    world.run(SetVersion("2.3.0"))
    world.run(CreateUser("joe\udcff", "hash", None, False))
    for number in range(20):
        world.run(Set(f"/d{number % 3}/{number}", "v\udcff", False, NOW + number, False))
    world.run(CompareAndSwap("/d0/0", "x", "no", 0, 0, False))
    return world


def restored(chunks: Iterable[bytes], into: World | None = None) -> World:
    """A world that was restored from a snapshot."""
    world = into or World()
    world.applier.restore(META, chunks)
    return world


def test_snapshot_brings_everything_back():
    """Keys, history, statistics, members, removed ids and the version."""
    before = busy_world()
    chunks = list(before.applier.capture())
    after = restored(chunks)
    assert after.state() == before.state()
    assert after.applier.cluster == before.applier.cluster
    assert after.applier.auth.users == before.applier.auth.users
    assert after.store.index == before.store.index
    assert after.applier.raft_index == META.index
    assert after.notes.told == [("replaced",)]
    after.store.check()
    after.applier.cluster.check()


def test_snapshot_has_the_moment_of_its_capture():
    """What is applied while it is written is not in it."""
    before, same = busy_world(), busy_world()
    chunks = before.applier.capture()
    first = next(chunks)
    before.run(Set("/later", "1", False, 0, False))
    before.change(None, OTHER.id)
    assert b"".join([first, *chunks]) == same.state()


def test_members_with_equal_logs_make_equal_snapshots():
    """Hashes of snapshots can tell whether members have diverged."""
    assert busy_world().state() == busy_world().state()


def test_snapshot_size_is_known_once_it_was_drawn_or_read():
    """The policy compares it with what the log has grown by."""
    before = busy_world()
    drawing = before.applier.capture()
    next(drawing)
    assert before.applier.snapshot_bytes == 0
    rest = list(drawing)
    assert before.applier.snapshot_bytes == sum(map(len, rest)) > 0
    after = restored(busy_world().applier.capture())
    assert after.applier.snapshot_bytes == before.applier.snapshot_bytes


def test_restored_store_keeps_its_watchers():
    """They are told what they missed."""
    world = World()
    seen: list[str] = []
    world.store.watch(
        "/", lambda event: seen.append(event.key), recursive=True, stream=True, since_index=0
    )
    restored(busy_world().applier.capture(), world)
    assert seen == [f"/d{number % 3}/{number}" for number in range(20)]


def snapshot(*chunks: bytes) -> list[bytes]:
    """A snapshot whose head is fine."""
    return [next(busy_world().applier.capture()), *chunks]


@pytest.mark.parametrize(
    ("chunks", "complaint"),
    [
        ([], "no members or users in it"),
        ([b"\xc1"], "no members or users in it"),
        ([msgpack.packb([])], "no members or users in it"),
        ([msgpack.packb("pyetcd/2")], "the layout is not pyetcd/2"),
        ([msgpack.packb(["pyetcd/1", []])], "the layout is not pyetcd/2"),
        ([msgpack.packb(["pyetcd/2"])], "no members or users in it"),
        ([msgpack.packb(["pyetcd/2", [1, 2], []])], "no members or users in it"),
        ([msgpack.packb(["pyetcd/2", Cluster(1).encode(), [1]])], "no members or users in it"),
        (snapshot(), "it ends too early"),
        (snapshot(b"\xc1"), "not msgpack"),
        (list(busy_world().applier.capture())[:-1], "it ends too early"),
    ],
)
def test_bad_snapshot_is_refused_whole(chunks: list[bytes], complaint: str):
    """Nothing of it is taken; the error names the snapshot."""
    world = World()
    world.run(Set("/a", "1", False, 0, False))
    before = world.state()
    with pytest.raises(CorruptRecord, match=complaint) as caught:
        world.applier.restore(META, chunks)
    assert "snapshot 50@4" in str(caught.value)
    assert (world.state(), world.applier.raft_index) == (before, 2)
    assert ("replaced",) not in world.notes.told
