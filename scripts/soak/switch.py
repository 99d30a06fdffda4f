"""The network between the namespaces: a switch that loses, delays and spoils what it is told to.

`python -m scripts.soak.switch NUMBER:DESCRIPTOR...` carries packets between tun devices, one for
each node; a node's number is the last byte of its address. Each line on its standard input is a
table of rules as JSON, one for each direction of a link; it is in force when it has been answered
by a line. A switch of our own does not depend on what the kernel was built with (many lack netem),
and knows a link by both of its ends.
"""

import heapq
import json
import os
import random
import select
import struct
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Final

from scripts.soak.names import PEER_PORT

PACKET_BYTES: Final = 65_536

# Packets that wait for their time; more than that is a queue that overflows, as real ones do.
MAX_WAITING: Final = 20_000
# A slow link keeps so much in its buffer.
MAX_QUEUE_SECONDS: Final = 2.0
_TCP: Final = 6
_SYN, _RST, _ACK = 2, 4, 16


@dataclass(frozen=True, slots=True)
class Link:
    """What happens to packets from one node to another; by default nothing."""

    # The share of packets that is lost; 1.0 is a cut.
    loss: float = 0.0
    # In milliseconds; each packet takes `delay` plus or minus `jitter`, so that some overtake.
    delay: float = 0.0
    jitter: float = 0.0
    # The share of packets that arrives twice, and that waits for ten milliseconds more.
    duplicate: float = 0.0
    reorder: float = 0.0
    # Bytes per second; 0 for as many as there are.
    rate: int = 0
    # The share of TCP packets for which both ends get their connection reset.
    reset: float = 0.0
    # Whether all this is for the peer port only, in both directions of a connection.
    peer_port_only: bool = False


Table = dict[tuple[int, int], Link]
CLEAR: Final = Link()


def encode_table(table: Table) -> str:
    """Return the line that puts a table in force."""
    return json.dumps([[*ends, asdict(link)] for ends, link in sorted(table.items())])


def decode_table(line: str) -> Table:
    """Return the table of a line."""
    return {(source, target): Link(**fields) for source, target, fields in json.loads(line)}


class Switch:
    """Decides what becomes of each packet; reads no clock and no device.

    Invariants:
      1. A packet leaves no sooner than it has come, and at most twice.
    """

    def __init__(self, rng: random.Random) -> None:
        self.table: Table = {}
        self.lost = 0
        self._random = rng
        # When the last byte that is on its way over a slow link will have arrived.
        self._busy_until: defaultdict[tuple[int, int], float] = defaultdict(float)

    def take(self, packet: bytes, now: float) -> list[tuple[float, int, bytes]]:
        """Return what is to be delivered for a packet: when, to which node, and what."""
        if packet[0] >> 4 != 4:
            return []  # the kernel asks for IPv6 routers
        ends = source, target = packet[15], packet[19]
        link = self.table.get(ends, CLEAR)
        if link is CLEAR or (link.peer_port_only and not _is_peer_traffic(packet)):
            return [(now, target, packet)]
        draw = self._random.random
        if link.reset and draw() < link.reset and (ends_reset := _resets(packet)):
            return [(now, source, ends_reset[0]), (now, target, ends_reset[1])]
        if draw() < link.loss:
            self.lost += 1
            return []
        at = now
        if link.rate:
            begin = max(now, self._busy_until[ends])
            if begin - now > MAX_QUEUE_SECONDS:
                self.lost += 1
                return []
            at = self._busy_until[ends] = begin + len(packet) / link.rate
        if link.delay:
            at += max(0.0, link.delay + self._random.uniform(-link.jitter, link.jitter)) / 1000
        if draw() < link.reorder:
            at += 0.01
        deliveries = [(at, target, packet)]
        if draw() < link.duplicate:
            deliveries.append((at, target, packet))
        return deliveries


def _is_peer_traffic(packet: bytes) -> bool:
    header = (packet[0] & 15) * 4
    return packet[9] == _TCP and PEER_PORT in struct.unpack_from(">HH", packet, header)


def _resets(packet: bytes) -> tuple[bytes, bytes] | None:
    """Return the resets for the sender and for the receiver of a TCP packet of a connection."""
    header = (packet[0] & 15) * 4
    if packet[9] != _TCP:
        return None
    source_port, target_port, sequence, acknowledged = struct.unpack_from(">HHII", packet, header)
    flags = packet[header + 13]
    if flags & (_RST | _SYN) or not flags & _ACK:
        return None
    source, target = packet[12:16], packet[16:20]
    return (
        _reset(target, source, target_port, source_port, acknowledged),
        _reset(source, target, source_port, target_port, sequence),
    )


def _reset(
    source: bytes, target: bytes, source_port: int, target_port: int, sequence: int
) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", source_port, target_port, sequence, 0, 5 << 4, _RST, 0, 0, 0)
    pseudo = source + target + struct.pack(">BBH", 0, _TCP, len(tcp))
    tcp = tcp[:16] + struct.pack(">H", _checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, _TCP, 0) + source + target
    return ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:] + tcp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main(devices: dict[int, int]) -> None:
    """Carry packets until standard input ends."""
    switch = Switch(random.Random(1))
    nodes = {descriptor: number for number, descriptor in devices.items()}
    poll = select.poll()
    for descriptor in (sys.stdin.fileno(), *nodes):
        poll.register(descriptor, select.POLLIN)
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, target, packet = heapq.heappop(waiting)
            _deliver(devices, target, packet)
        timeout = (waiting[0][0] - now) * 1000 if waiting else None
        for descriptor, _ in poll.poll(timeout):
            if descriptor not in nodes:
                line = sys.stdin.readline()
                if not line:
                    return
                switch.table = decode_table(line)
                print(switch.lost, flush=True)
                continue
            try:
                packet = os.read(descriptor, PACKET_BYTES)
            except BlockingIOError:
                continue
            now = time.monotonic()
            for at, target, delivered in switch.take(packet, now):
                if at <= now:
                    _deliver(devices, target, delivered)
                elif len(waiting) < MAX_WAITING:
                    count += 1
                    heapq.heappush(waiting, (at, count, target, delivered))


def _deliver(devices: dict[int, int], target: int, packet: bytes) -> None:
    if target in devices:
        try:
            os.write(devices[target], packet)
        except BlockingIOError:
            pass  # its queue is full: lost, like anywhere


if __name__ == "__main__":
    main({int(number): int(fd) for number, fd in (it.split(":") for it in sys.argv[1:])})
