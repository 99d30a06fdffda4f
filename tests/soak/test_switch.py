"""Proves that the switch does to packets what its table says, and nothing to others."""

import random
import struct

import pytest

from scripts.soak.switch import CLEAR, MAX_QUEUE_SECONDS, Link, Switch, decode_table, encode_table

SYN, ACK = 2, 16


def packet(
    source: int = 11, target: int = 12, *, port: int = 2380, flags: int = ACK, size: int = 60
) -> bytes:
    """A TCP packet from one node to another."""
    ip = struct.pack(">BBHHHBBH", 0x45, 0, size, 0, 0, 64, 6, 0)
    ends = bytes((198, 51, 100, source, 198, 51, 100, target))
    tcp = struct.pack(">HHIIBBHHH", 40_000, port, 111, 222, 5 << 4, flags, 0, 0, 0)
    return (ip + ends + tcp).ljust(size, b"x")


def make(link: Link, source: int = 11, target: int = 12) -> Switch:
    """A switch with one rule."""
    switch = Switch(random.Random(1))
    switch.table = decode_table(encode_table({(source, target): link}))
    return switch


def test_packet_without_a_rule_arrives_at_once() -> None:
    """The other direction of a cut link is open."""
    switch = make(Link(loss=1.0))
    back = packet(12, 11)
    assert switch.take(back, 5.0) == [(5.0, 11, back)]
    assert switch.take(packet(), 5.0) == []
    assert switch.lost == 1


def test_table_survives_its_encoding() -> None:
    """As the harness sends it to the switch."""
    table = {(1, 11): Link(loss=0.5, peer_port_only=True), (12, 11): CLEAR}
    assert decode_table(encode_table(table)) == table


def test_other_protocols_are_not_carried() -> None:
    """Kernels ask for routers of IPv6."""
    assert make(CLEAR).take(b"\x60" + bytes(60), 0.0) == []


def test_loss_is_a_share() -> None:
    """A third, within what chance allows."""
    switch = make(Link(loss=0.33))
    arrived = sum(len(switch.take(packet(), 0.0)) for _ in range(1_000))
    assert 600 < arrived < 740


def test_delay_varies_and_packets_overtake() -> None:
    """200 ms plus or minus 100."""
    switch = make(Link(delay=200, jitter=100))
    times = [switch.take(packet(), 1.0)[0][0] for _ in range(100)]
    assert all(1.1 <= at <= 1.3 for at in times)
    assert times != sorted(times)


def test_duplicates_and_reordering() -> None:
    """Each for its share of the packets."""
    switch = make(Link(duplicate=0.5, reorder=0.5))
    deliveries = [switch.take(packet(), 0.0) for _ in range(200)]
    assert {len(it) for it in deliveries} == {1, 2}
    assert {it[0][0] for it in deliveries} == {0.0, 0.01}


def test_slow_link_queues_and_then_drops() -> None:
    """600 bytes per second: the second packet waits for the first."""
    switch = make(Link(rate=600))
    assert [switch.take(packet(), 0.0)[0][0] for _ in range(2)] == [0.1, 0.2]
    for _ in range(int(MAX_QUEUE_SECONDS * 10)):
        switch.take(packet(), 0.0)
    assert switch.take(packet(), 0.0) == []


def test_black_hole_is_of_one_port() -> None:
    """Clients get through."""
    switch = make(Link(loss=1.0, peer_port_only=True))
    assert switch.take(packet(port=2380), 0.0) == []
    assert len(switch.take(packet(port=2379), 0.0)) == 1


@pytest.mark.parametrize(("flags", "count"), [(ACK, 2), (SYN, 1), (SYN | ACK, 1)])
def test_reset_is_told_to_both_ends(flags: int, count: int) -> None:
    """With the numbers that each expects; a connection that begins is left alone."""
    deliveries = make(Link(reset=1.0)).take(packet(flags=flags), 0.0)
    assert len(deliveries) == count
    if count == 2:
        (_, to_source, for_source), (_, to_target, for_target) = deliveries
        assert (to_source, to_target) == (11, 12)
        assert struct.unpack_from(">HHI", for_source, 20) == (2380, 40_000, 222)
        assert struct.unpack_from(">HHI", for_target, 20) == (40_000, 2380, 111)
        assert (for_source[12:20], for_source[33]) == (packet(12, 11)[12:20], 4)
