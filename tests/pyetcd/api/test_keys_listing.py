"""Proves that a large directory is sent in pieces, as fast as its client takes them."""

import json
import time

import pytest

from tests.pyetcd.api.direct import NOW, Client

NODES = 3_000
VALUE = b"x" * 1_000


def client_with_many_keys() -> Client:
    """A listing of some three megabytes."""
    client = Client()
    for number in range(NODES):
        client.store.set(f"/d/{number}", VALUE.decode(), NOW)
    return client


def test_large_listing_is_sent_in_pieces():
    """One in each turn of the loop, so that others get theirs."""
    client = client_with_many_keys()
    wire = client.begin("GET", "/d")
    turns = 0
    while client.server.timers:
        assert client.run_timers() == [0.0]
        turns += 1
    answer = wire.response()
    assert (answer.framing, answer.header("X-Etcd-Index")) == ("chunked", str(NODES))
    assert turns >= len(answer.chunks) > 20
    assert max(map(len, answer.chunks)) < 70_000
    whole = client.store.get("/d", NOW)
    assert answer.body == whole.body()


def test_large_listing_waits_for_a_client_that_does_not_read():
    """No more than a megabyte is rendered ahead."""
    client = client_with_many_keys()
    wire = client.begin("GET", "/d")
    wire.transport.blocked = True
    for _ in range(100):
        client.run_timers()
    buffered = wire.transport.get_write_buffer_size()
    assert 1 << 20 <= buffered < (1 << 20) + 70_000
    (pause,) = client.run_timers()
    assert pause > 0
    wire.transport.blocked = False
    wire.transport.take(buffered)
    while client.server.timers:
        client.run_timers()
    assert len(json.loads(wire.response().body)["node"]["nodes"]) == NODES


def test_large_listing_ends_with_its_client():
    """Nothing goes on for nobody."""
    client = client_with_many_keys()
    wire = client.begin("GET", "/d")
    client.run_timers()
    wire.disconnect()
    client.run_timers()
    assert client.server.timers == []


def test_large_listing_is_of_one_moment():
    """What is written meanwhile is not in it."""
    client = client_with_many_keys()
    wire = client.begin("GET", "/d")
    client.store.delete("/d/2999", NOW)
    while client.server.timers:
        client.run_timers()
    assert len(json.loads(wire.response().body)["node"]["nodes"]) == NODES


@pytest.mark.slow
@pytest.mark.parametrize("query", ["", "?sorted=true", "?recursive=true&sorted=true"])
def test_listing_of_100000_children_never_holds_the_loop_for_50_milliseconds(query: str):
    """Neither when it is read nor in any turn of the loop in which it is rendered."""
    client = Client()
    for number in range(100_000):
        client.store.set(f"/d/{number * 7919 % 100_000:06d}", "v", NOW)
    # The processor's time: on a busy machine others take their share of the clock's.
    began = time.process_time()
    wire = client.begin("GET", f"/d{query}")
    longest = time.process_time() - began
    while client.server.timers:
        began = time.process_time()
        client.run_timers()
        longest = max(longest, time.process_time() - began)
    assert wire.response().body.count(b'"value"') == 100_000
    assert longest < 0.05
