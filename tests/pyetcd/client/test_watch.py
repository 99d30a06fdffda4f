"""A watch goes on, without a gap and without an event twice."""

import pytest

from pyetcd.client import Client, Unavailable, Watcher
from pyetcd.errors import EventIndexCleared
from tests.pyetcd.client.fake_member import FakeMember, InOrder, event

pytestmark = pytest.mark.asyncio


def indexes(member: FakeMember) -> list[str]:
    """The waitIndex of each request."""
    return [asked.target.rpartition("waitIndex=")[2] for asked in member.asked]


async def test_watch_after_an_event_waits_from_the_next_index_on() -> None:
    """Each wait begins where the last event was."""
    async with FakeMember() as member, Client([member.url]) as client:
        member.tell(event(index=7))
        member.tell(event(index=9))
        watcher = Watcher(client, "/a", recursive=True)
        found = [(await watcher.next()).node.modified_index for _ in range(2)]
        assert found == [7, 9]
        assert indexes(member) == ["0", "8"]
        assert "recursive=true" in member.targets[0]


async def test_watch_after_an_index_begins_behind_it() -> None:
    """The index named was seen already."""
    async with FakeMember() as member, Client([member.url]) as client:
        member.tell(event(index=7))
        async for _ in Watcher(client, "/a", after_index=4):
            break
        assert indexes(member) == ["5"]


async def test_watch_that_ends_without_an_event_goes_on() -> None:
    """Servers and proxies end long polls as they like."""
    async with FakeMember() as member, Client([member.url]) as client:
        member.tell(b"")
        member.tell(event(index=7))
        assert (await Watcher(client, "/a").next()).node.modified_index == 7


async def test_watch_that_breaks_goes_on_elsewhere_from_where_it_began() -> None:
    """Whatever happened while nobody watched is after the index of the broken answer's header."""
    async with FakeMember() as one, FakeMember() as two:
        async with Client([one.url, two.url], rng=InOrder()) as client:
            one.fail("break", X_Etcd_Index="41")
            one.fail("close")
            two.tell(event(index=45))
            assert (await Watcher(client, "/a").next()).node.modified_index == 45
        assert indexes(one) == ["0", "42"]
        assert indexes(two) == ["42"]


async def test_watch_from_history_that_breaks_asks_for_the_same_index() -> None:
    """The header's index is the present one: to begin there would skip what is in history."""
    async with FakeMember() as member, Client([member.url]) as client:
        member.fail("break", X_Etcd_Index="41")
        member.tell(event(index=12))
        await Watcher(client, "/a", after_index=9).next()
        assert indexes(member) == ["10", "10"]


async def test_watch_too_far_back_tells_that_events_are_gone() -> None:
    """Only the caller knows what to read again."""
    async with FakeMember() as member, Client([member.url]) as client:
        member.tell({"errorCode": 401, "cause": "x", "index": 3000}, status=400)
        with pytest.raises(EventIndexCleared):
            await Watcher(client, "/a", after_index=1).next()


async def test_watch_without_any_member_ends() -> None:
    """It does not go round in circles."""
    async with Client(["http://127.0.0.1:1"]) as client:
        with pytest.raises(Unavailable):
            await Watcher(client, "/a").next()


async def test_watch_is_not_limited_by_the_timeout() -> None:
    """A wait is silent as long as nothing happens."""
    async with FakeMember() as member, Client([member.url], timeout_seconds=0.01) as client:
        member.fail("break", X_Etcd_Index="4")
        member.tell(event(index=5))
        assert (await Watcher(client, "/a").next()).node.modified_index == 5
