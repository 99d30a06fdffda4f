"""Proves that a member's parts start together, stop together, and leave nothing when they fail."""

import asyncio
import functools
import json
import shutil
import socket
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import ParamSpec

import pytest

from pyetcd import bootstrap
from pyetcd.bootstrap import OnDisk
from pyetcd.config import Config, parse
from pyetcd.httpd import ListenError
from pyetcd.member import Member
from pyetcd.store import Event
from raft import DiskStorage, StorageConfig
from tests.cluster.processes import free_port
from tests.virtual_time import no_loose_errors

P = ParamSpec("P")
PATIENCE_SECONDS = 20


def in_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test in a real loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner() as runner, no_loose_errors(runner.get_loop()):
            runner.run(test(*args, **kwargs))

    return run


class World:
    """The members of one cluster, in this process."""

    def __init__(self, directory: Path, size: int = 1, *flags: str) -> None:
        self.flags = flags
        self.directory = directory
        self.peer_ports = [free_port() for _ in range(size)]
        self.client_ports = [free_port() for _ in range(size)]
        self.deaths: list[BaseException] = []
        self.removed: list[int] = []

    def config(self, number: int = 0, *flags: str) -> Config:
        """The flags of one of them."""
        peers = [f"http://127.0.0.1:{port}" for port in self.peer_ports]
        client = f"http://127.0.0.1:{self.client_ports[number]}"
        argv = [
            *("-name", f"m{number}", "-data-dir", str(self.data_dir(number))),
            *("-listen-client-urls", client, "-advertise-client-urls", client),
            *("-listen-peer-urls", peers[number], "-initial-advertise-peer-urls", peers[number]),
            *("-initial-cluster", ",".join(f"m{i}={url}" for i, url in enumerate(peers))),
            *("-heartbeat-interval", "20", "-election-timeout", "200"),
            *self.flags,
            *flags,
        ]
        return parse(argv, {})

    def data_dir(self, number: int = 0) -> Path:
        """Where it stores what it knows."""
        return self.directory / f"m{number}"

    async def start(self, number: int = 0, *flags: str) -> Member:
        """Start one of them."""
        return await Member.start(
            self.config(number, *flags),
            die=self.deaths.append,
            on_removed=lambda: self.removed.append(number),
        )

    async def ask(
        self, method: str, path: str, body: str = "", number: int = 0
    ) -> tuple[int, bytes]:
        """Send one request; return the answer's status and body."""
        port = self.client_ports[number]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
        head.append("Content-Type: application/x-www-form-urlencoded")
        head.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*head, "", body]).encode())
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        answer, _, rest = data.partition(b"\r\n\r\n")
        return int(answer.split()[1]), rest

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what must happen soon."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                looked = asyncio.Event()
                loop.call_later(0.005, looked.set)
                await looked.wait()


def names_in(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def is_free(port: int) -> bool:
    """Whether a port can be bound at once."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@pytest.mark.slow
@in_loop
async def test_member_serves_and_goes_on_after_a_restart(tmp_path: Path):
    """Its ports are free at once, and the first read sees the last write."""
    world = World(tmp_path)
    member = await world.start()
    assert (await world.ask("PUT", "/v2/keys/k", "value=v"))[0] == 201
    await member.stop()
    assert is_free(world.client_ports[0])
    assert is_free(world.peer_ports[0])
    member = await world.start()
    status, body = await world.ask("GET", "/v2/keys/k")
    assert (status, json.loads(body)["node"]["value"]) == (200, "v")
    await member.stop()
    assert world.deaths == []


@pytest.mark.slow
@in_loop
async def test_member_that_is_alone_does_not_serve_before_it_knows_what_it_acknowledged(
    tmp_path: Path,
):
    """What is committed is known to the disk later than what is written: a crash may be between."""
    world = World(tmp_path)
    member = await world.start()
    assert (await world.ask("PUT", "/v2/keys/k", "value=v"))[0] == 201
    shutil.copytree(world.data_dir(), tmp_path / "crashed")
    await member.stop()
    shutil.rmtree(world.data_dir())
    (tmp_path / "crashed").rename(world.data_dir())
    member = await world.start()
    # Before the loop turns once more: there is no request that could come sooner.
    found = member.server.store.get("/k", now=0)
    assert isinstance(found, Event)
    await member.stop()
    assert world.deaths == []


@in_loop
async def test_member_publishes_itself_and_sets_the_version(tmp_path: Path):
    """On both ports it says who it is."""
    world = World(tmp_path)
    member = await world.start()
    cluster = member.server.cluster
    await world.until(lambda: cluster.version is not None and cluster.in_order()[0].name == "m0")
    await world.until(lambda: bool(cluster.in_order()[0].client_urls))
    _, body = await world.ask("GET", "/v2/members")
    (listed,) = json.loads(body)["members"]
    assert listed["clientURLs"] == [f"http://127.0.0.1:{world.client_ports[0]}"]
    await member.stop()


@pytest.mark.slow
@in_loop
async def test_snapshots_are_written_and_restored(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A member that restarts begins with the newest."""
    caplog.set_level("INFO")
    world = World(tmp_path, 1, "-snapshot-count", "10")
    member = await world.start()
    for number in range(30):
        assert (await world.ask("PUT", f"/v2/keys/{number}", "value=v"))[0] == 201
    snapshots = world.data_dir() / "member" / "snap"
    await world.until(lambda: any(snapshots.glob("*.snap")))
    await member.stop()
    member = await world.start()
    assert "recovered store from snapshot at index" in caplog.text
    _, body = await world.ask("GET", "/v2/keys/")
    assert len(json.loads(body)["node"]["nodes"]) == 30
    await member.stop()


@pytest.mark.parametrize("port", ["client", "peer"])
@in_loop
async def test_port_in_use_is_found_before_anything_is_written(tmp_path: Path, port: str):
    """The user corrects a flag and starts again."""
    world = World(tmp_path)
    taken = (world.client_ports if port == "client" else world.peer_ports)[0]
    with closing(socket.create_server(("127.0.0.1", taken))):
        with pytest.raises(ListenError, match=f"listen tcp 127.0.0.1:{taken}"):
            await world.start()
        assert names_in(tmp_path) == []
    assert is_free(world.client_ports[0])
    assert is_free(world.peer_ports[0])


@in_loop
async def test_start_that_fails_late_leaves_nothing_running(tmp_path: Path):
    """Two names of one peer port: each is free, but not for both."""
    world = World(tmp_path)
    port = world.peer_ports[0]
    twice = f"http://127.0.0.1:{port},http://localhost:{port}"
    with pytest.raises(OSError, match="address already in use"):
        await world.start(0, "-listen-peer-urls", twice)
    assert is_free(world.client_ports[0])
    assert is_free(port)
    member = await world.start()
    assert (await world.ask("PUT", "/v2/keys/k", "value=v"))[0] == 201
    await member.stop()
    assert world.deaths == []


@in_loop
async def test_directory_in_use_is_refused(tmp_path: Path):
    """By the name of the directory; the member that has it goes on."""
    world = World(tmp_path)
    member = await world.start()
    other = World(tmp_path)
    other.peer_ports = world.peer_ports
    with pytest.raises(Exception, match=r"m0 is in use by another process"):
        await other.start(0, "-listen-peer-urls", f"http://127.0.0.1:{free_port()}")
    assert (await world.ask("PUT", "/v2/keys/k", "value=v"))[0] == 201
    await member.stop()


@in_loop
async def test_crash_before_the_first_entries_is_made_up_for(tmp_path: Path):
    """The log is there and says whose it is, but not who the members are."""
    world = World(tmp_path)
    config = world.config()
    plan = await bootstrap.plan(config, OnDisk())
    storage = StorageConfig(directory=config.data_dir)
    DiskStorage.create(storage, plan.identity.encode()).close()
    member = await world.start()
    assert (await world.ask("PUT", "/v2/keys/k", "value=v"))[0] == 201
    assert list(member.server.cluster.members) == [plan.identity.member_id]
    await member.stop()


@pytest.mark.slow
@in_loop
async def test_members_agree_and_hand_over_when_one_stops(tmp_path: Path):
    """Whatever one of three has acknowledged the others have, and one of them leads at once."""
    world = World(tmp_path, 3)
    members = await asyncio.gather(*(world.start(number) for number in range(3)))
    await world.until(lambda: all(member.server.leader for member in members))
    for number in range(3):
        assert (await world.ask("PUT", f"/v2/keys/{number}", "value=v", number))[0] == 201
    indexes = {member.server.leader for member in members}
    assert len(indexes) == 1
    leading = next(number for number in range(3) if members[number].server.is_leader)
    await members[leading].stop()
    others = [number for number in range(3) if number != leading]
    await world.until(lambda: any(members[number].server.is_leader for number in others))
    for number in others:
        status, body = await world.ask("GET", "/v2/keys/?quorum=true", "", number)
        assert (status, len(json.loads(body)["node"]["nodes"])) == (200, 3)
    for number in others:
        await members[number].stop()
    assert world.deaths == []


@pytest.mark.slow
@in_loop
async def test_member_that_is_removed_says_so(tmp_path: Path):
    """Its process ends by that; the others go on."""
    world = World(tmp_path, 3)
    members = await asyncio.gather(*(world.start(number) for number in range(3)))
    await world.until(lambda: all(member.server.leader for member in members))
    leaving = members[0].server.member_id
    status, _ = await world.ask("DELETE", f"/v2/members/{leaving:x}", "", 1)
    assert status == 204
    await world.until(lambda: world.removed == [0])
    await members[0].stop()
    assert (await world.ask("PUT", "/v2/keys/k", "value=v", 1))[0] == 201
    for member in members[1:]:
        await member.stop()
    assert world.deaths == []
