"""A counter on three servers, which outlives any one of them. To start the first:

    python examples/counter.py 1 DIRECTORY 7001 7002 7003

Type numbers: each is added on all servers, and all print the sum.
"""

import asyncio
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import raft
from raft.transport import Transport


class Counter:
    """The state machine: the sum of what was committed."""

    total = 0

    def apply(self, entries: list[raft.Entry]) -> None:
        self.total += sum(int(entry.data) for entry in entries if entry.kind == raft.NORMAL)
        print(self.total, flush=True)

    def apply_config(self, entry: raft.Entry, change: raft.ConfigChange) -> bool:
        return True  # we have no objection

    def configured(self, configuration: raft.Configuration) -> None:
        print("servers:", configuration, flush=True)

    def capture(self) -> Iterator[bytes]:
        return iter([b"%d" % self.total])

    def restore(self, meta: raft.SnapshotMeta, chunks: Iterable[bytes]) -> None:
        self.total = int(b"".join(chunks))

    def reject(self, rejected: raft.Rejected) -> None:
        print("not added:", rejected.reason, flush=True)


def die(error: BaseException) -> None:
    """End at once: who cannot trust its disk or its state must not go on."""
    os.write(2, f"{error!r}\n".encode())
    os._exit(1)


async def serve(server_id: int, directory: Path, ports: list[int]) -> None:
    config, counter, rng = raft.StorageConfig(directory), Counter(), random.Random()
    if not raft.DiskStorage.exists(config):
        disk = raft.DiskStorage.create(config, metadata=b"")
        recovered = raft.found_cluster(disk, voters=range(1, len(ports) + 1))
    else:
        disk, recovered = raft.DiskStorage.open(config)
    if recovered.snapshot:
        counter.restore(recovered.snapshot, disk.read_snapshot(recovered.snapshot))
    events = raft.PeerEvents()
    transport = Transport(server_id, 1, events=events, files=disk, random=rng)
    for peer_id, port in enumerate(ports, start=1):
        if peer_id != server_id:
            transport.add_peer(peer_id, [f"http://127.0.0.1:{port}"])
    core = raft.CoreConfig(server_id, election_ticks=10, heartbeat_ticks=1)
    parts = (core, recovered, disk, transport, counter)
    node = raft.Node(*parts, tick_seconds=0.05, rng=rng, die=die, on_leadership=print)
    events.node = node
    node.start()
    await transport.start([("127.0.0.1", ports[server_id - 1])])
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            node.propose(b"%d" % int(line))
        except (ValueError, raft.ProposalDropped) as error:
            print("not added:", error, flush=True)
    await transport.stop()
    await node.stop()


asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), [int(port) for port in sys.argv[3:]]))
