"""Proves that a node keeps its loop awake for what is under way, and lets it sleep otherwise."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from raft.vigil import SECONDS
from tests.raft.node_world import PATIENCE_SECONDS, World
from tests.raft.test_node import connect, in_loop


@in_loop
async def test_loop_stays_awake_while_an_entry_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Giving way in each turn; for a moment, and no longer than there is something to wait for."""
    # Entries take no time, unless the test says so.
    now, yields = [1_000.0], [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(os, "sched_yield", lambda: yields.__setitem__(0, yields[0] + 1))
    leader, other = [World(tmp_path, server_id=it, voters=(1, 2)) for it in (1, 2)]
    connect(leader, other)
    for world in (leader, other):
        await world.start()
    leader.node.campaign()
    await leader.until(lambda: leader.node.leadership.role == "leader")
    await leader.applies(b"a")
    await other.until(lambda: other.machine.applied == [b"a"])

    async def turns_awake() -> int:
        before = yields[0]
        for _ in range(10):
            await asyncio.sleep(0)
        return yields[0] - before

    async def falls_asleep() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await turns_awake():
                pass

    await falls_asleep()
    deliver, leader.deliver = leader.deliver, None
    leader.node.propose(b"b")
    await leader.until(lambda: leader.node.core.log.last_index > leader.node.core.log.commit_index)
    await turns_awake()
    assert await turns_awake() >= 10
    now[0] += 2 * SECONDS
    await falls_asleep()
    leader.deliver = deliver
    leader.node.report_unreachable(2)
    await leader.until(lambda: leader.machine.applied == [b"a", b"b"])
    await other.until(lambda: other.machine.applied == [b"a", b"b"])
    await falls_asleep()
    for world in (leader, other):
        await world.stop()
