"""The streamed backup: a snapshot's file, as fast as the client takes it, and no faster."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pyetcd.api.admin import AHEAD_BYTES, LOOK_SECONDS, MAX_BACKUPS, Admin
from pyetcd.cluster import Cluster
from pyetcd.errors import RaftInternal
from pyetcd.httpd import Route, Router
from pyetcd.server.apply import Applier
from pyetcd.server.pending import ReadDone
from pyetcd.store import Store
from raft import Configuration, SnapshotMeta, read_snapshot
from tests.http import Wire, request
from tests.pyetcd.server.nobody import Nobody


class FakeLog:
    def term(self, index: int) -> int:
        return 7


@dataclass
class FakeCore:
    applied_index: int = 12
    restoring: bool = False
    configuration: Configuration = field(default_factory=lambda: Configuration(voters=(1,)))
    log: FakeLog = field(default_factory=FakeLog)


@dataclass
class FakeNode:
    core: FakeCore = field(default_factory=FakeCore)


class World:
    """A member with ten keys of 200 kB, whose timers and quorum are the test's."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.applier = Applier(Store(), Cluster(0xC1), Nobody())
        self.applier.raft_index = 12
        for number in range(10):
            self.applier.store.set(f"/{number}", "x" * 200_000, 1)
        self.readers: list[ReadDone] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.router = Router([Route(b"/", {None: Admin(self).snapshot})])

    def read_index(self, done: ReadDone) -> None:
        self.readers.append(done)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        self.timers.append((seconds, callback))

    def begin(self) -> Wire:
        """Ask for a backup; the quorum has confirmed the leader, nothing more has happened."""
        wire = Wire(self.router).send(request("GET", "/v2/admin/snapshot"))
        self.readers.pop()(None)
        return wire

    def turn(self) -> float:
        """Run the oldest timer; for how long it was set."""
        seconds, callback = self.timers.pop(0)
        callback()
        return seconds

    def run(self) -> None:
        """Run timers until there are none."""
        while self.timers:
            self.turn()


@pytest.fixture
def world() -> World:
    return World()


def test_backup_is_a_snapshot_file_of_the_state(world: World, tmp_path: Path) -> None:
    """Its chunks restore a store; the head says what it is."""
    wire = world.begin()
    world.run()
    (response,) = wire.responses("GET")
    assert (response.status, response.framing) == (200, "chunked")
    assert response.header("Content-Type") == "application/octet-stream"
    assert response.header("X-Raft-Index") == "12"
    assert response.header("X-Etcd-Index") == "10"
    (tmp_path / "file").write_bytes(response.body)
    meta, chunks = read_snapshot(tmp_path / "file")
    assert meta == SnapshotMeta(12, 7, Configuration(voters=(1,)))
    restored = Applier(Store(), Cluster(1), Nobody())
    restored.restore(meta, chunks)
    assert restored.store.get("/9", 0).node == world.applier.store.get("/9", 0).node


def test_backup_is_of_one_moment(world: World, tmp_path: Path) -> None:
    """What is written while it is streamed is not in it."""
    wire = world.begin()
    world.turn()
    world.turn()
    world.applier.store.set("/later", "1", 1)
    world.run()
    (tmp_path / "file").write_bytes(wire.responses("GET")[0].body)
    meta, chunks = read_snapshot(tmp_path / "file")
    restored = Applier(Store(), Cluster(1), Nobody())
    restored.restore(meta, chunks)
    assert restored.store.index == 10


def test_slow_client_holds_a_bounded_amount(world: World) -> None:
    """The rest is encoded only when the client has taken something."""
    wire = world.begin()
    wire.transport.blocked = True
    for _ in range(100):
        world.turn()
    ahead = len(wire.transport.buffer)
    assert AHEAD_BYTES < ahead < 3 * AHEAD_BYTES
    assert world.turn() == LOOK_SECONDS
    wire.transport.blocked = False
    wire.transport.take(ahead)
    world.run()
    assert wire.responses("GET")[0].status == 200


def test_client_that_leaves_frees_its_place(world: World) -> None:
    """Before it begins, or in the midst; another one is served then."""
    for turns in (0, 3):
        for _ in range(MAX_BACKUPS + 1):
            wire = world.begin()
            for _ in range(turns):
                world.turn()
            wire.transport.abort()
            wire.settle()
            world.run()
    wire = world.begin()
    world.run()
    assert wire.responses("GET")[0].status == 200


def test_backup_that_a_stop_cuts_short_does_not_end_like_a_whole_one(world: World) -> None:
    """The connection breaks, which every client takes for an error."""
    wire = world.begin()
    for _ in range(3):
        world.turn()
    wire.protocol.shut()
    assert wire.transport.aborted
    wire.settle()
    world.run()
    (response,) = wire.responses("GET")
    assert response.framing == "chunked, not ended"
    for _ in range(MAX_BACKUPS):
        wire = world.begin()
    world.run()
    assert wire.responses("GET")[0].status == 200


def test_only_a_few_backups_run_at_a_time(world: World) -> None:
    """Each keeps a state of the past in memory."""
    wires = [world.begin() for _ in range(MAX_BACKUPS + 1)]
    for _ in wires:
        world.turn()
    assert wires[-1].responses("GET")[0].status == 503
    world.run()
    assert [wire.responses("GET")[0].status for wire in wires[:-1]] == [200] * MAX_BACKUPS


def test_member_in_the_midst_of_a_restore_gives_none(world: World) -> None:
    """Log and state are of different moments then."""
    world.node.core.restoring = True
    wire = world.begin()
    world.run()
    assert wire.responses("GET")[0].status == 503
    world.node.core = FakeCore(applied_index=13)
    wire = world.begin()
    world.run()
    assert wire.responses("GET")[0].status == 503


def test_without_a_quorum_there_is_no_backup(world: World) -> None:
    """It could lack what others have acknowledged."""
    wire = Wire(world.router).send(request("GET", "/v2/admin/snapshot"))
    world.readers.pop()(RaftInternal("etcdserver: request timed out"))
    (response,) = wire.responses("GET")
    assert (response.status, b"timed out" in response.body) == (503, True)
