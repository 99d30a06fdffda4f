"""How cost grows: throughput, latency and memory against one thing at a time.

Writes a table and a plot (SVG) for each into docs/benchmarks/. What should be flat or linear and
is not, is a bug. Members and clients share the machine's processors: compare the numbers of one
run with each other only. `make bench` runs it; `--only NAME` one sweep, `--full` the sizes that
take minutes.
"""

import argparse
import asyncio
import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import matplotlib as mpl
import uvloop

from scripts.bench import Client
from tests.cluster.processes import Cluster, Member, wait_for

mpl.use("svg")
from matplotlib import pyplot

DOCS: Final = Path(__file__).parent.parent / "docs" / "benchmarks"
SECONDS: Final = 1.5
# Enough for the members to be busy all the time, few enough to leave them the processors.
CONNECTIONS: Final = 32
DESCRIPTORS: Final = 30_000


class Row(NamedTuple):
    """What was measured at one size."""

    size: int
    figures: dict[str, float]


class Sweep(NamedTuple):
    """One thing that grows."""

    name: str
    # Of the horizontal axis.
    title: str
    sizes: tuple[int, ...]
    # Only with --full.
    more_sizes: tuple[int, ...]
    measure: Callable[[Path, Sequence[int]], Iterator[Row]]


# ------------------------------------------------------------------------------------ requests


def request(method: str, path: str, body: str = "") -> bytes:
    """Return one request as bytes."""
    form = "Content-Type: application/x-www-form-urlencoded\r\n" if body else ""
    head = f"{method} /v2/keys/{path} HTTP/1.1\r\nHost: bench\r\n{form}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def for_a_while(requests: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """Yield requests until the time is up."""
    until = time.perf_counter() + seconds
    return itertools.takewhile(lambda _: time.perf_counter() < until, requests)


def puts(size: int, keys: int = 1_000) -> Iterator[bytes]:
    """Writes of values of this size, round and round the keys, for ever."""
    body = "value=" + "v" * size
    return (request("PUT", f"bench/{number % keys}", body) for number in itertools.count())


def gets(keys: int = 1_000) -> Iterator[bytes]:
    """Reads, round and round the keys, for ever."""
    return (request("GET", f"bench/{number % keys}") for number in itertools.count())


async def drive(member: Member, source: Iterator[bytes], connections: int) -> list[float]:
    """Send all requests over so many connections; return the latencies in seconds, sorted."""
    host, _, port = member.client_url.removeprefix("http://").partition(":")
    loop, latencies = asyncio.get_running_loop(), list[float]()
    clients = [
        await loop.create_connection(lambda: Client(source, latencies), host, int(port))
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.ended for _, client in clients))
    return sorted(latencies)


def rate_of(
    member: Member, requests: Iterator[bytes], connections: int = CONNECTIONS
) -> tuple[float, float, float]:
    """Return operations per second, median and 99th percentile of the latencies in ms."""
    started = time.perf_counter()
    latencies = uvloop.run(drive(member, for_a_while(requests, SECONDS), connections))
    seconds = time.perf_counter() - started
    p50, p99 = (1_000 * latencies[int(len(latencies) * part)] for part in (0.50, 0.99))
    return len(latencies) / seconds, p50, p99


def resident_mb(member: Member) -> float:
    """Return the memory of a member's process."""
    assert member.process is not None, f"{member.name} was never started"
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1_024


# -------------------------------------------------------------------------------------- sweeps


def connections(directory: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """Clients that each have one request outstanding."""
    with Cluster(directory, size=1) as cluster:
        member = cluster.leader()
        rate_of(member, puts(256))
        for size in sizes:
            put, put50, put99 = rate_of(member, puts(256), size)
            get, get50, get99 = rate_of(member, gets(), size)
            yield Row(size, {"PUT/s": put, "GET/s": get, "PUT p50 ms": put50, "PUT p99 ms": put99,
                             "GET p50 ms": get50, "GET p99 ms": get99})  # fmt: skip


def value_bytes(directory: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """Larger values."""
    with Cluster(directory, size=1) as cluster:
        member = cluster.leader()
        for size in sizes:
            put, put50, put99 = rate_of(member, puts(size, 100))
            yield Row(size, {"PUT/s": put, "MB/s": put * size / 1e6, "PUT p50 ms": put50,
                             "PUT p99 ms": put99})  # fmt: skip


def keys(directory: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """More keys in the store."""
    with Cluster(directory, size=1) as cluster:
        member, present = cluster.leader(), 0
        for size in sizes:
            body = "value=" + "v" * 256
            more = (request("PUT", f"bench/{number}", body) for number in range(present, size))
            latencies = uvloop.run(drive(member, more, CONNECTIONS))
            present = size
            put, _, put99 = rate_of(member, puts(256, size))
            get, _, get99 = rate_of(member, gets(size))
            yield Row(size, {"PUT/s": put, "GET/s": get, "PUT p99 ms": put99, "GET p99 ms": get99,
                             "longest ms": 1_000 * latencies[-1],
                             "memory MB": resident_mb(member)})  # fmt: skip


def watchers(directory: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """Streams that watch one directory, while one connection writes below it."""
    with Cluster(directory, size=1) as cluster:
        member = cluster.leader()
        member.put("bench/0", "")
        for size in sizes:
            put, p50, delivered = uvloop.run(_watched(member, size))
            yield Row(size, {"PUT/s": put, "PUT p50 ms": p50, "deliveries/s": delivered,
                             "memory MB": resident_mb(member)})  # fmt: skip


def members(directory: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """Larger clusters, through the leader."""
    for size in sizes:
        place = directory / str(size)
        place.mkdir()
        with Cluster(place, size=size) as cluster:
            leader = cluster.leader()
            put, put50, put99 = rate_of(leader, puts(256))
            quorum = (request("GET", "bench/0?quorum=true") for _ in itertools.count())
            get, _, _ = rate_of(leader, quorum)
            yield Row(size, {"PUT/s": put, "quorum GET/s": get, "PUT p50 ms": put50,
                             "PUT p99 ms": put99})  # fmt: skip


def log_entries(directory: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """A longer log to read at the start, for want of a snapshot."""
    with Cluster(directory, size=1, flags=["-snapshot-count", "100000000"]) as cluster:
        member, present = cluster.leader(), 0
        for size in sizes:
            source = itertools.islice(puts(256), size - present)
            uvloop.run(drive(member, source, CONNECTIONS))
            present = size
            member.kill()
            started = time.perf_counter()
            member.start()
            wait_for(lambda: member.raft_index() > 0, 60, "the member to answer")
            yield Row(size, {"restart s": time.perf_counter() - started,
                             "memory MB": resident_mb(member)})  # fmt: skip


SWEEPS: Final = (
    Sweep("connections", "connections", (1, 4, 16, 64, 256, 1_024), (), connections),
    Sweep("value-bytes", "bytes in a value", (16, 256, 4_096, 65_536, 1_048_576), (), value_bytes),
    Sweep("keys", "keys in the store", (1_000, 10_000, 100_000), (1_000_000,), keys),
    Sweep("watchers", "watchers", (0, 10, 100, 1_000), (10_000,), watchers),
    Sweep("members", "members", (1, 3, 5), (), members),
    Sweep("log-entries", "entries in the log", (1_000, 10_000, 100_000), (), log_entries),
)


class Watching(asyncio.Protocol):
    """A stream of events, counted by the line."""

    def __init__(self) -> None:
        self.events = 0
        self._progress = asyncio.Event()
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait_for(self, events: int) -> None:
        """Wait until so many have come."""
        while self.events < events:
            self._progress.clear()
            await self._progress.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(request("GET", "bench?wait=true&stream=true&recursive=true"))

    def data_received(self, data: bytes) -> None:
        if not self.began.done():
            self.began.set_result(None)
        self.events += data.count(b'"action":')
        self._progress.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)


async def _watched(member: Member, count: int) -> tuple[float, float, float]:
    """Write with so many watchers; return writes per second, median in ms, deliveries per s."""
    host, _, port = member.client_url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    watching = [
        cast(Watching, (await loop.create_connection(Watching, host, int(port)))[1])
        for _ in range(count)
    ]
    for one in watching:
        await one.began
    started = time.perf_counter()
    latencies = await drive(member, for_a_while(puts(256), SECONDS), 1)
    expected = len(latencies) * count
    for one in watching:
        await one.wait_for(len(latencies))
    seconds = time.perf_counter() - started
    for one in watching:
        one.transport.close()
        await one.closed
    return len(latencies) / seconds, 1_000 * latencies[len(latencies) // 2], expected / seconds


# -------------------------------------------------------------------------------------- output


def table(sweep: Sweep, rows: Sequence[Row]) -> str:
    """Return the figures as a table in Markdown."""
    names = list(rows[0].figures)
    lines = [
        f"| {sweep.title} | {' | '.join(names)} |",
        "|---:" * (len(names) + 1) + "|",
    ]
    for row in rows:
        cells = (f"{row.figures[name]:,.{0 if row.figures[name] >= 100 else 2}f}" for name in names)
        lines.append(f"| {row.size:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(sweep: Sweep, rows: Sequence[Row], path: Path) -> None:
    """Draw each figure against the size, in a panel of its own."""
    names = list(rows[0].figures)
    columns = 3
    lines = -(-len(names) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(10, 2.6 * lines), squeeze=False)
    for place, name in itertools.zip_longest(axes.flat, names):
        if name is None:
            place.axis("off")
            continue
        place.plot([row.size for row in rows], [row.figures[name] for row in rows], marker="o")
        place.set_xscale("symlog" if rows[0].size == 0 else "log")
        place.set_ylim(bottom=0)
        place.set_title(name)
        place.set_xlabel(sweep.title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Run the sweeps and write their tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[sweep.name for sweep in SWEEPS])
    parser.add_argument("--full", action="store_true", help="also the sizes that take minutes")
    parser.add_argument("--output", type=Path, default=DOCS)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    arguments.output.mkdir(parents=True, exist_ok=True)
    for sweep in SWEEPS:
        if arguments.only not in (None, sweep.name):
            continue
        sizes = (*sweep.sizes, *sweep.more_sizes) if arguments.full else sweep.sizes
        with tempfile.TemporaryDirectory() as directory:
            rows = list(sweep.measure(Path(directory), sizes))
        text = table(sweep, rows)
        print(f"\n{text}", flush=True)
        (arguments.output / f"{sweep.name}.md").write_text(text)
        plot(sweep, rows, arguments.output / f"{sweep.name}.svg")


if __name__ == "__main__":
    main()
