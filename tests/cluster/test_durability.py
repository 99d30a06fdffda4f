"""Proves that disks come before answers, and that a slow disk holds up nothing but writes."""

import re
import shutil
import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.cluster.processes import OTHER_SERVER, Cluster
from tests.raft.rings import needs_ring

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(OTHER_SERVER, reason="looks into pyetcd's own way of writing"),
]

WRITES = 20
SLOW_DISK_SECONDS = 0.01


# How a write is asked for, and that it was done; of a ring's, that it was taken. (The event loop
# has a ring of its own, which it enters otherwise.)
BY_THREAD = r"RWF_DSYNC\) = \d+|pwritev2 resumed>.*\) = \d+|fdatasync.*= 0"
BY_RING = (
    r"io_uring_enter\(\d+, 1, (?:1, IORING_ENTER_GETEVENTS\|IORING_ENTER_EXT_ARG|0, 0,).*\) = 1"
)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("injected", "durable_write"),
    [
        pytest.param([], BY_RING, marks=needs_ring, id="ring"),
        pytest.param(["-e", "inject=io_uring_setup:error=EPERM"], BY_THREAD, id="thread"),
    ],
)
def test_write_is_on_disk_before_it_is_acknowledged(
    tmp_path: Path, injected: list[str], durable_write: str
) -> None:
    """Between any two answers to writes the system was asked for a durable write, and did it.

    Also in a container that forbids rings. (What a ring writes, and that it has ended when that is
    told, is shown by tests/raft/test_ring.py and test_loop_storage.py.)
    """
    with Cluster(tmp_path, size=1) as cluster:
        member = cluster.members[0]
        member.terminate()
        trace = tmp_path / "trace"
        calls = "trace=io_uring_setup,io_uring_enter,pwritev2,fdatasync,write,writev,sendto,sendmsg"
        member.command = [
            "strace",
            "-D",
            "-f",
            "-s",
            "16",
            "-e",
            calls,
            *injected,
            "-o",
            str(trace),
            *member.command,
        ]
        member.start()
        member.wait_serving()
        for number in range(WRITES):
            member.put(f"key{number}", "value")
        member.terminate()
        events = re.findall(rf"({durable_write})|(HTTP/1\.1 201)", trace.read_text())
    answers = 0
    durable_since_answer = False
    for durable, answered in events:
        if durable:
            durable_since_answer = True
        elif answered:
            assert durable_since_answer, f"answer {answers} came before its write was durable"
            durable_since_answer = False
            answers += 1
    assert answers == WRITES


@pytest.mark.parametrize("way", [pytest.param("ring", marks=needs_ring), "thread"])
def test_slow_disk_holds_up_neither_reads_nor_the_leader(tmp_path: Path, way: str) -> None:
    """With 10 ms a flush, reads are as fast as ever, and the leader goes on leading."""
    cluster = Cluster(tmp_path)
    for member in cluster.members:
        member.command = [
            sys.executable,
            "-m",
            "tests.cluster.slow_disk",
            str(SLOW_DISK_SECONDS),
            way,
        ]
        member.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with cluster:
        leader = cluster.leader()
        term = leader.get("/").headers["X-Raft-Term"]
        leader.put("read", "me")
        times: list[float] = []
        with Load(cluster.members, writers=4) as load:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                started = time.monotonic()
                leader.get("read")
                times.append(time.monotonic() - started)
        assert len(load) > 10
        assert statistics.median(times) < SLOW_DISK_SECONDS / 2
        assert leader.get("/").headers["X-Raft-Term"] == term
