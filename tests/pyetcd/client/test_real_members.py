"""The client against real processes: members that die, watches and locks that go on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyetcd.client import Client, Election, Lock, Watcher
from pyetcd.errors import KeyNotFound
from tests.cluster.processes import Cluster, Member
from tests.pyetcd.client.fake_member import InOrder

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

WAIT_SECONDS = 30


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, size=3) as running:
        yield running


def pinned(cluster: Cluster, client: Client) -> Member:
    """The member that the client asks first."""
    url = client.endpoints[client._endpoints._pinned]
    return next(member for member in cluster.members if member.client_url == url)


async def test_client_finds_the_others_and_outlives_the_member_it_began_with(
    cluster: Cluster,
) -> None:
    """One endpoint is enough to know all; whoever dies is passed over, by writes too."""
    async with Client([cluster.members[0].client_url]) as client:
        await client.sync()
        assert len(client.endpoints) == 3
        await client.set("/a", "1")
        pinned(cluster, client).kill()
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await client.get("/a")).node.value == "1"
            cluster.leader()
            event = await client.set("/a", "2", prev_value="1")
        assert event.prev_node is not None
        assert event.prev_node.value == "1"


async def test_watch_sees_every_write_when_its_member_dies(cluster: Cluster) -> None:
    """Also those of the time between two waits."""
    victim, *others = sorted(cluster.members, key=lambda member: member is cluster.leader())
    urls = [member.client_url for member in others]
    async with (
        Client(urls) as writing,
        Client([victim.client_url, *urls], rng=InOrder()) as watching,
    ):
        begin = (await writing.set("/w/begin", "")).etcd_index
        seen: list[str] = []

        async def watch() -> None:
            async for event in Watcher(watching, "/w", recursive=True, after_index=begin):
                seen.append(event.node.key)
                if len(seen) == 100:
                    return

        task = asyncio.create_task(watch())
        for number in range(100):
            if number == 50:
                assert pinned(cluster, watching) is victim
                victim.kill()
            await writing.set(f"/w/{number}", "")
        await asyncio.wait_for(task, WAIT_SECONDS)
        assert seen == [f"/w/{number}" for number in range(100)]


async def test_lock_is_refreshed_and_handed_on(cluster: Cluster) -> None:
    """Held for longer than its TTL, then the next one has it at once."""
    urls = [member.client_url for member in cluster.members]
    async with Client(urls) as client:
        first, second = (Lock(client, "l", ttl_seconds=1) for _ in range(2))
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        # Three TTLs pass; a key of its own tells when.
        await client.set("/clock", "", ttl_seconds=3)
        await wait_gone(client, "/clock")
        assert first.held
        assert not second.held
        await first.release()
        await asyncio.wait_for(waiting, WAIT_SECONDS)
        assert second.token > first.token
        await second.release()


async def test_election_names_its_leader(cluster: Cluster) -> None:
    """Candidates on different members agree."""
    async with (
        Client([cluster.members[0].client_url]) as one,
        Client([cluster.members[1].client_url]) as two,
    ):
        lead = await Election(one, "e").campaign("one")
        campaign = asyncio.create_task(Election(two, "e").campaign("two"))
        assert await Election(two, "e").leader() == "one"
        await lead.release()
        lead = await asyncio.wait_for(campaign, WAIT_SECONDS)
        assert await Election(one, "e").leader() == "two"
        await lead.release()
        assert await Election(one, "e").leader() is None


async def wait_gone(client: Client, key: str) -> None:
    """Return when a key has expired."""
    try:
        event = await client.get(key, quorum=True)
    except KeyNotFound:
        return
    async with asyncio.timeout(WAIT_SECONDS):
        await Watcher(client, key, after_index=event.etcd_index).next()
