"""Entries per second of `raft.Node` and of PySyncObj, side by side on this machine.

Three processes on loopback; the leader keeps `WINDOW` proposals of 64 bytes under way, as a busy
server would, and counts what it applies. Each pair of columns promises the same: nothing survives
a power cut, or everything that was acknowledged does. PySyncObj never flushes its journal while it
runs; for the durable column it is made to, once for all entries that arrived together, before it
acknowledges or commits them. In the other, it has no journal at all, and `raft.Node` writes its
files all the same. `scripts.bench` prints the table; the command line here is that of the servers.
"""

import argparse
import asyncio
import importlib.util
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median_low
from typing import IO, Any

import uvloop

import raft
from raft.files import DiskFiles
from raft.transport import Transport
from tests.cluster.processes import free_port

WINDOW = 1_000
WARM_UP_SECONDS = 1.0
SECONDS = 5.0
PAYLOAD = b"v" * 64
ELECTION_SECONDS = 20.0
# Snapshots would measure something else: no run is long enough to need one.
NEVER = 10**9
DURABLE = "durable"
# What else the machine does should not hit one of the two alone.
ROUNDS = 3
MISSING = """\
PySyncObj, which raft.Node is measured against, is not installed. Type

    .venv/bin/python -m pip install -e '.[bench]'

or measure the members alone: .venv/bin/python -m scripts.bench --only server"""


class UnflushedFiles(DiskFiles):
    """Leaves it to the kernel when, and whether, anything reaches the disk."""

    def write_durably(self, descriptor: int, data: bytes, offset: int) -> None:
        self.write(descriptor, data, offset)

    def open_ring(self) -> None:
        return None

    def flush(self, descriptor: int) -> None:
        pass

    def flush_directory(self, path: Path) -> None:
        pass


class Machine:
    """Counts what is applied, and proposes as much again while it is told to."""

    node: raft.Node
    count = 0
    is_proposing = False

    def apply(self, entries: list[raft.Entry]) -> None:
        count = sum(entry.kind == raft.NORMAL for entry in entries)
        self.count += count
        if self.is_proposing and count:
            asyncio.get_running_loop().call_soon(self.propose, count)

    def propose(self, count: int) -> None:
        for _ in range(count):
            self.node.propose(PAYLOAD)

    def apply_config(self, entry: raft.Entry, change: raft.ConfigChange) -> bool:
        return True

    def configured(self, configuration: raft.Configuration) -> None:
        pass

    def capture(self) -> Iterator[bytes]:
        return iter(())

    def restore(self, meta: raft.SnapshotMeta, chunks: Iterable[bytes]) -> None:
        pass

    def reject(self, rejected: raft.Rejected) -> None:
        sys.exit(f"rejected: {rejected.reason}")


def die(error: BaseException) -> None:
    """End the process: the measurement is void."""
    os.write(2, f"{error!r}\n".encode())
    os._exit(1)


async def serve_node(server_id: int, directory: Path, ports: list[int], durable: bool) -> None:
    """One server of ours. Says when it leads, and how many entries a second it applied."""
    files = DiskFiles() if durable else UnflushedFiles()
    disk = raft.DiskStorage.create(raft.StorageConfig(directory), b"", files)
    recovered = raft.found_cluster(disk, range(1, len(ports) + 1))
    events, machine, rng = raft.PeerEvents(), Machine(), random.Random()
    transport = Transport(server_id, 1, events=events, files=disk, random=rng)
    for peer_id, port in enumerate(ports, start=1):
        if peer_id != server_id:
            transport.add_peer(peer_id, [f"http://127.0.0.1:{port}"])
    leads = asyncio.Event()

    def on_leadership(leadership: raft.Leadership) -> None:
        if leadership.role == "leader":
            leads.set()

    core = raft.CoreConfig(server_id, election_ticks=20, heartbeat_ticks=2)
    parts = (core, recovered, disk, transport, machine)
    node = raft.Node(*parts, tick_seconds=0.05, rng=rng, die=die, on_leadership=on_leadership)
    events.node = machine.node = node
    node.start()
    await transport.start([("127.0.0.1", ports[server_id - 1])])
    await leads.wait()
    await asyncio.sleep(WARM_UP_SECONDS)
    machine.is_proposing = True
    machine.propose(WINDOW)
    await asyncio.sleep(WARM_UP_SECONDS)
    before, started = machine.count, time.perf_counter()
    await asyncio.sleep(SECONDS)
    print(round((machine.count - before) / (time.perf_counter() - started)), flush=True)
    await asyncio.Event().wait()


def serve_other(server_id: int, directory: Path, ports: list[int], durable: bool) -> None:
    """One server of PySyncObj's; says the same."""
    import pysyncobj  # not needed by the servers of ours

    class Counter(pysyncobj.SyncObj):  # type: ignore[misc]
        count = 0

        @pysyncobj.replicated  # type: ignore[untyped-decorator]
        def add(self, _data: bytes) -> None:
            self.count += 1

    leads = threading.Event()

    def on_state(_before: int, state: int) -> None:
        if state == 2:  # leader
            leads.set()

    addresses = [f"127.0.0.1:{port}" for port in ports]
    others = [it for number, it in enumerate(addresses, start=1) if number != server_id]
    journal = str(directory / "journal") if durable else None
    conf = pysyncobj.SyncObjConf(
        journalFile=journal,
        onStateChanged=on_state,
        connectionRetryTime=0.2,
        logCompactionMinEntries=NEVER,
        logCompactionMinTime=NEVER,
    )
    if durable:
        _flush_before_acknowledging(pysyncobj.SyncObj)
    counter = Counter(addresses[server_id - 1], others, conf)
    if durable:
        counter.addOnTickCallback(counter._SyncObj__raftLog.flush)
    leads.wait()
    time.sleep(WARM_UP_SECONDS)

    def again(_result: object, _error: object) -> None:
        counter.add(PAYLOAD, callback=again)

    for _ in range(WINDOW):
        counter.add(PAYLOAD, callback=again)
    time.sleep(WARM_UP_SECONDS)
    before, started = counter.count, time.perf_counter()
    time.sleep(SECONDS)
    print(round((counter.count - before) / (time.perf_counter() - started)), flush=True)
    threading.Event().wait()


def _flush_before_acknowledging(kind: Any) -> None:
    """A follower's answer leaves when its journal is on disk; the leader flushes in its tick."""
    name = "_SyncObj__sendNextNodeIdx"
    answer = getattr(kind, name)

    def flush_and_answer(self: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("success"):
            self._SyncObj__raftLog.flush()
        answer(self, *args, **kwargs)

    setattr(kind, name, flush_and_answer)


def measure(kind: str, promise: str) -> int:
    """Start three servers, wait for what the leader says, end them."""
    with tempfile.TemporaryDirectory() as root:
        ports = [free_port() for _ in range(3)]
        servers = []
        for server_id in (1, 2, 3):
            directory = Path(root) / str(server_id)
            directory.mkdir()
            words = [kind, str(server_id), str(directory), *map(str, ports)]
            words += ["--durable"] if promise == DURABLE else []
            command = [sys.executable, "-m", "scripts.raft_bench", "--serve", *words]
            servers.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        try:
            return _first_line([server.stdout for server in servers if server.stdout])
        finally:
            for server in servers:
                server.kill()
                server.wait()


def _first_line(outputs: list[IO[bytes]]) -> int:
    """Return the number that one of them prints: the others never lead."""
    lines: list[bytes] = []
    threads = [
        threading.Thread(target=lambda it=it: lines.append(it.readline()), daemon=True)
        for it in outputs
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ELECTION_SECONDS + 2 * WARM_UP_SECONDS + SECONDS
    while not lines and time.monotonic() < deadline:
        time.sleep(0.1)
    if not lines or not lines[0].strip():
        sys.exit("no server has led for long enough")
    return int(lines[0])


def require_other(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """End the program, and say what to type, if there is nothing to compare with."""
    if find("pysyncobj") is None:
        sys.exit(MISSING)


def table(measure: Callable[[str, str], int] = measure) -> Iterator[str]:
    """Measure both, in turn, and yield the table line by line, of medians."""
    yield f"{'entries/s':16} {'raft.Node':>10} {'PySyncObj':>10} {'ratio':>6}"
    for promise in (DURABLE, "not durable"):
        rounds = [(measure("node", promise), measure("pysyncobj", promise)) for _ in range(ROUNDS)]
        ours, theirs = map(median_low, zip(*rounds, strict=True))
        yield f"{promise:16} {ours:10,} {theirs:10,} {ours / max(theirs, 1):6.1f}"


def main() -> None:
    """Be one of the servers."""
    parser = argparse.ArgumentParser(description="one server of what scripts.bench measures")
    parser.add_argument("--serve", choices=("node", "pysyncobj"), required=True)
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("server_id", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("ports", type=int, nargs="+")
    options = parser.parse_args()
    arguments = (options.server_id, options.directory, options.ports, options.durable)
    # Until all have started, each misses the others.
    logging.disable(logging.WARNING)
    if options.serve == "node":
        uvloop.run(serve_node(*arguments))
    else:
        serve_other(*arguments)


if __name__ == "__main__":
    main()
