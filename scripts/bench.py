"""Operations per second of three local members, and entries per second of `raft.Node` alone.

The members have a fixed workload; latencies and fsyncs per write are shown as well. Compare its
numbers only with its own, from the same machine: the members and the clients here share its
processors. Each connection has one request outstanding. `PYETCD_COMMAND` names another server of
the same API. `raft.Node` is measured beside PySyncObj, see `scripts.raft_bench`.
"""

import argparse
import asyncio
import random
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import httptools
import uvloop

from scripts import raft_bench
from tests.cluster.processes import Cluster, Member

KEYS = 1_000
VALUE = "v" * 256
SEED = 1
# Histograms of the write-ahead log in /metrics: as etcd 2 names them, and as etcd 3 does.
FSYNCS = re.compile(r"^etcd_(?:disk_)?wal_fsync_durations?_seconds_count (\S+)", re.M)


class Workload(NamedTuple):
    """So many requests over so many connections to the leader or to a follower."""

    name: str
    method: str
    connections: int
    requests: int
    through_follower: bool = False


WORKLOADS = (
    Workload("put-1", "PUT", 1, 1_000),
    Workload("put-64", "PUT", 64, 20_000),
    Workload("put-64-follower", "PUT", 64, 20_000, through_follower=True),
    Workload("get-64", "GET", 64, 40_000),
)


class Client(asyncio.Protocol):
    """One connection: sends the next request when the answer to the last is complete."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._latencies = latencies
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("closed by the member"))

    def on_message_complete(self) -> None:
        """Count the answer, which must be a success, and go on."""
        status = self._parser.get_status_code()
        if status not in (200, 201):
            self.ended.set_exception(RuntimeError(f"answered with status {status}"))
            self._transport.close()
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def requests(workload: Workload, host: str) -> Iterator[bytes]:
    """The requests of a workload, the same in every run."""
    chance = random.Random(SEED)
    body = f"value={VALUE}" if workload.method == "PUT" else ""
    form = "Content-Type: application/x-www-form-urlencoded\r\n" if body else ""
    for _ in range(workload.requests):
        path = f"/v2/keys/bench/{chance.randrange(KEYS)}"
        head = f"{workload.method} {path} HTTP/1.1\r\nHost: {host}\r\n{form}"
        yield f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def run(workload: Workload, member: Member) -> tuple[float, list[float]]:
    """The seconds that a workload took, and the latency of every request."""
    host, _, port = member.client_url.removeprefix("http://").partition(":")
    loop, latencies = asyncio.get_running_loop(), list[float]()
    source = requests(workload, host)
    started = time.perf_counter()
    clients = [
        await loop.create_connection(lambda: Client(source, latencies), host, int(port))
        for _ in range(workload.connections)
    ]
    await asyncio.gather(*(client.ended for _, client in clients))
    return time.perf_counter() - started, latencies


def fsyncs(member: Member) -> float | None:
    """How often a member has flushed its log, if it says so."""
    found = FSYNCS.search(member.request("GET", "/metrics").body.decode())
    return float(found[1]) if found else None


def report(workload: Workload, cluster: Cluster) -> str:
    """Run one workload; its line of the table."""
    leader = cluster.leader()
    member = cluster.followers()[0] if workload.through_follower else leader
    before = fsyncs(leader)
    seconds, latencies = uvloop.run(run(workload, member))
    after = fsyncs(leader)
    assert len(latencies) == workload.requests, f"{len(latencies)} of {workload.requests} answered"
    if cluster.leader() is not leader:
        return f"{workload.name:16} the leader changed: no result"
    latencies.sort()
    flushed = "-"
    if before is not None and after is not None and workload.method == "PUT":
        flushed = f"{(after - before) / workload.requests:.3f}"
    p50, p99 = (1_000 * latencies[int(len(latencies) * part)] for part in (0.50, 0.99))
    rate = workload.requests / seconds
    return f"{workload.name:16} {rate:9,.0f} {p50:9.2f} {p99:9.2f} {flushed:>13}"


def measure_server() -> None:
    """Run all workloads on one fresh cluster and print the table."""
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory)) as cluster:
        leader = cluster.leader()
        for key in range(KEYS):
            leader.put(f"bench/{key}", VALUE)
        print(f"{'':16} {'op/s':>9} {'p50 ms':>9} {'p99 ms':>9} {'fsyncs/write':>13}")
        for workload in WORKLOADS:
            print(report(workload, cluster), flush=True)


def measure_raft() -> None:
    """Print the table of raft.Node and PySyncObj."""
    for line in raft_bench.table():
        print(line, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for: both, one after the other, unless it is only one."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    parser.add_argument("--only", choices=("server", "raft"), help="leave the other one out")
    only = parser.parse_args(arguments).only
    if only != "server":
        # Before the minute that the members take.
        raft_bench.require_other()
    if only != "raft":
        measure_server()
    if only is None:
        print()
    if only != "server":
        measure_raft()


if __name__ == "__main__":
    main()
