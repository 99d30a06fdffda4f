"""Proves that watches begin at once, and tell what etcd tells, to as many as wait."""

import gc
import json
from collections.abc import Callable

import pytest

from pyetcd.api.watch import HEAD_SECONDS
from pyetcd.store import Store, Watcher
from tests.http import Response, Wire
from tests.pyetcd.api.direct import NOW, Client


def head(wire: Wire) -> Response:
    """What the client of a watch has so far."""
    (response,) = wire.responses("GET")
    return response


def seen(wire: Wire) -> list[tuple[str, str, int]]:
    """The events that the client has: action, key, index."""
    events = [json.loads(chunk) for chunk in head(wire).chunks]
    return [
        (event["action"], event["node"]["key"], event["node"]["modifiedIndex"]) for event in events
    ]


def send_heads(client: Client) -> None:
    """Let the time pass for which the headers of polls wait."""
    for _ in range(2):
        client.run_timers()


def is_ended(wire: Wire) -> bool:
    """Whether the answer is complete."""
    return head(wire).framing == "chunked"


@pytest.mark.parametrize("stream", ["false", "true"])
def test_watch_sends_its_header_soon(stream: str):
    """Clients in Go give up on headers that do not come; of the time when it began."""
    client = Client()
    client.put("/k")
    wire = client.begin("GET", f"/k?wait=true&stream={stream}")
    client.put("/other")
    if stream == "false":
        assert (client.run_timers(), wire.sent) == ([HEAD_SECONDS], b"")
        client.run_timers()
    response = head(wire)
    assert (response.status, response.framing) == (200, "chunked, not ended")
    assert response.header("Content-Type") == "application/json"
    assert response.header("X-Etcd-Cluster-Id") == "c1"
    assert response.header("X-Etcd-Index") == "1"
    assert response.header("X-Raft-Index") == "1"
    assert response.header("X-Raft-Term") == "3"
    assert response.chunks == []


def test_watch_is_answered_by_the_next_event():
    """One event as one chunk; then the connection is free for the next request."""
    client = Client()
    client.put("/k", "old")
    wire = client.begin("GET", "/k?wait=true")
    send_heads(client)
    put = client.put("/k", "new")
    assert head(wire).chunks == [put.body]
    assert is_ended(wire)
    assert client.store.watcher_count == 0
    assert not wire.transport.closing
    client.put("/k", "newer")
    assert len(head(wire).chunks) == 1
    assert len(wire.transport.writes) == 2


def test_event_that_comes_before_the_header_is_sent_together_with_it():
    """One write; and the header is that of the time when the watch began."""
    client = Client()
    client.put("/k", "old")
    wire = client.begin("GET", "/k?wait=true")
    put = client.put("/k", "new")
    assert head(wire).chunks == [put.body]
    assert head(wire).header("X-Etcd-Index") == "1"
    assert is_ended(wire)
    assert len(wire.transport.writes) == 1
    send_heads(client)
    assert client.server.timers == []
    assert len(wire.transport.writes) == 1


def test_header_waits_as_long_for_whoever_comes_later():
    """At least once between two looks at those that wait."""
    client = Client()
    first = client.begin("GET", "/k?wait=true")
    client.run_timers()
    second = client.begin("GET", "/k?wait=true")
    assert client.run_timers() == [HEAD_SECONDS]
    assert (len(first.transport.writes), len(second.transport.writes)) == (1, 0)
    assert client.run_timers() == [HEAD_SECONDS]
    assert (len(first.transport.writes), len(second.transport.writes)) == (1, 1)
    assert client.server.timers == []


def test_watch_sees_its_own_key_only():
    """Unless it is recursive."""
    client = Client()
    plain = client.begin("GET", "/d?wait=true")
    recursive = client.begin("GET", "/d?wait=true&recursive=true")
    send_heads(client)
    client.put("/other")
    client.put("/d/k")
    assert (seen(plain), seen(recursive)) == ([], [("set", "/d/k", 2)])


def test_stream_goes_on():
    """Until the client goes."""
    client = Client()
    wire = client.begin("GET", "/k?wait=true&stream=true")
    for _ in range(3):
        client.put("/k")
    client.ask("DELETE", "/k")
    client.run_timers()
    # A stream on the very key that goes is told twice.
    assert seen(wire) == [("set", "/k", index) for index in (1, 2, 3)] + [("delete", "/k", 4)] * 2
    assert not is_ended(wire)
    assert client.store.watcher_count == 1


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("stream", ["false", "true"])
def test_watch_that_is_left_is_forgotten(stream: str, turns: int):
    """Nothing waits for nobody, whether or not the header was sent."""
    client = Client()
    wire = client.begin("GET", f"/k?wait=true&stream={stream}")
    for _ in range(turns):
        client.run_timers()
    written = wire.sent
    assert client.store.watcher_count == 1
    wire.disconnect()
    assert client.store.watcher_count == 0
    client.put("/k")
    send_heads(client)
    assert wire.sent == written
    assert client.server.timers == []


def lose_events(client: Client) -> None:
    """Install a snapshot that is further on than history goes back."""
    newer = Store()
    for _ in range(1_100):
        newer.set("/k", "v", NOW)
    client.store.install(newer)


@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.parametrize("query", ["", "&stream=true", "&stream=true&waitIndex=1"])
@pytest.mark.parametrize(
    "end",
    [
        lambda client, wire: client.put("/k"),
        lambda client, wire: wire.disconnect(),
        lambda client, wire: wire.protocol.shut(),
        lambda client, wire: lose_events(client),
    ],
    ids=["event", "left", "shut", "lost"],
)
def test_watch_that_is_over_leaves_nothing(
    end: Callable[[Client, Wire], None], query: str, turns: int
):
    """Not even for the garbage collector, which looks at what is old so seldom that watches that
    come and go would grow the member by some megabytes."""
    client = Client()
    client.put("/k")
    gc.collect()
    gc.disable()
    try:
        wire = client.begin("GET", f"/k?wait=true{query}")
        for _ in range(turns):
            client.run_timers()
        end(client, wire)
        if not wire.lost:
            wire.disconnect()
        send_heads(client)
        assert client.store.watcher_count == 0
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Watcher)]
    finally:
        gc.enable()


def test_watch_of_the_past_is_answered_from_history():
    """At once, with the first event from there on."""
    client = Client()
    for _ in range(3):
        client.put("/k")
    wire = client.begin("GET", "/k?wait=true&waitIndex=2")
    assert seen(wire) == [("set", "/k", 2)]
    assert is_ended(wire)
    assert head(wire).header("X-Etcd-Index") == "3"
    assert client.store.watcher_count == 0
    assert len(wire.transport.writes) == 1


def test_stream_of_the_past_gets_one_event_and_then_nothing():
    """etcd has never registered it."""
    client = Client()
    for _ in range(3):
        client.put("/k")
    wire = client.begin("GET", "/k?wait=true&stream=true&waitIndex=2")
    client.put("/k")
    client.run_timers()
    assert seen(wire) == [("set", "/k", 2)]
    assert not is_ended(wire)
    assert client.store.watcher_count == 0
    wire.disconnect()


def test_watch_of_the_future_waits():
    """Earlier events are not for it."""
    client = Client()
    wire = client.begin("GET", "/k?wait=true&waitIndex=3")
    send_heads(client)
    client.put("/k")
    client.put("/k")
    assert seen(wire) == []
    client.put("/k")
    assert seen(wire) == [("set", "/k", 3)]


def test_watch_of_what_is_forgotten_is_refused():
    """History has a thousand events."""
    client = Client()
    for _ in range(1_100):
        client.store.set("/k", "v", NOW)
    answer = client.ask("GET", "/k?wait=true&waitIndex=5")
    assert answer.status == 400
    assert json.loads(answer.body)["errorCode"] == 401
    assert answer.header("X-Etcd-Index") == "1100"
    assert client.store.watcher_count == 0


@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.parametrize("stream", ["false", "true"])
def test_watch_that_lost_events_ends(stream: str, turns: int):
    """A snapshot is further on than history goes back: it ends without an event."""
    client = Client()
    wire = client.begin("GET", f"/k?wait=true&stream={stream}")
    for _ in range(turns):
        client.run_timers()
    lose_events(client)
    assert seen(wire) == []
    assert is_ended(wire)
    assert client.store.watcher_count == 0


def test_watchers_of_one_event_share_its_bytes():
    """A thousand of them cost one rendering and one frame."""
    client = Client()
    wires = [client.begin("GET", "/k?wait=true&stream=true") for _ in range(3)]
    for puts in (1, 2):
        for _ in range(puts):
            client.put("/k")
        client.run_timers()
        frames = [wire.transport.writes[-1] for wire in wires]
        assert frames[0] is frames[1] is frames[2]
    assert seen(wires[0]) == seen(wires[2]) == [("set", "/k", index) for index in (1, 2, 3)]


def test_streams_are_written_to_in_turns():
    """Nobody else waits for all of them; those whose turn comes late get more in one write."""
    client = Client()
    wires = [client.begin("GET", "/?wait=true&stream=true&recursive=true") for _ in range(200)]
    client.put("/a")
    assert client.run_timers() == [0.0]
    assert [len(wire.transport.writes) for wire in wires] == [2] * 64 + [1] * 136
    client.put("/b")
    while client.server.timers:
        assert client.run_timers() == [0.0]
    assert [len(wire.transport.writes) for wire in wires] == [3] * 64 + [2] * 136
    assert {tuple(seen(wire)) for wire in wires} == {(("set", "/a", 1), ("set", "/b", 2))}


def test_streams_of_different_keys_get_their_own_events():
    """What is joined for one of them is for those only that have just the same waiting."""
    client = Client()
    wires = {key: client.begin("GET", f"{key}?wait=true&stream=true") for key in ("/a", "/b")}
    for key in ("/a", "/b", "/a", "/b"):
        client.put(key)
    client.run_timers()
    assert seen(wires["/a"]) == [("set", "/a", 1), ("set", "/a", 3)]
    assert seen(wires["/b"]) == [("set", "/b", 2), ("set", "/b", 4)]


def test_many_streams_take_no_more_turns_than_some():
    """An eighth of those that are left, where that is more."""
    client = Client()
    wires = [client.begin("GET", "/k?wait=true&stream=true") for _ in range(1_000)]
    client.put("/k")
    client.run_timers()
    assert sum(len(wire.transport.writes) == 2 for wire in wires) == 125
    turns = 1
    while client.server.timers:
        client.run_timers()
        turns += 1
    assert turns == 14
    assert all(len(seen(wire)) == 1 for wire in wires)


def test_stream_that_has_much_waiting_is_written_to_at_once():
    """No turn comes for it in the midst of large writes, and its memory is bounded.

    An event has the value from before, too: 20, 40 and 40 kB.
    """
    client = Client()
    wire = client.begin("GET", "/k?wait=true&stream=true")
    client.put("/k", "v" * 20_000)
    client.put("/k", "v" * 20_000)
    assert len(wire.transport.writes) == 1
    client.put("/k", "v" * 20_000)
    assert len(wire.transport.writes) == 2
    client.put("/k", "small")
    client.run_timers()
    assert [index for _, _, index in seen(wire)] == [1, 2, 3, 4]
    assert client.server.timers == []


def test_stream_that_is_left_while_something_waits_is_forgotten():
    """Nothing is written to a connection that has gone; others get theirs."""
    client = Client()
    left, stays = (client.begin("GET", "/k?wait=true&stream=true") for _ in range(2))
    client.put("/k")
    left.disconnect()
    client.run_timers()
    assert len(left.transport.writes) == 1
    assert len(seen(stays)) == 1
    assert client.store.watcher_count == 1


def test_stream_that_the_server_ends_gets_what_waits():
    """Before its last chunk: whoever sees a regular end has seen all that was before it."""
    client = Client()
    wire = client.begin("GET", "/k?wait=true&stream=true")
    client.put("/k")
    wire.protocol.shut()
    assert seen(wire) == [("set", "/k", 1)]
    assert is_ended(wire)
    assert client.store.watcher_count == 0
    client.run_timers()
    assert is_ended(wire)


def test_stream_that_lost_events_gets_those_from_before():
    """A snapshot came: what was told before it is sent, and then the answer's end."""
    client = Client()
    wire = client.begin("GET", "/k?wait=true&stream=true")
    client.put("/k")
    lose_events(client)
    assert seen(wire) == [("set", "/k", 1)]
    assert is_ended(wire)


def test_watch_behind_another_request_begins_after_it():
    """On one connection requests are carried out in order: it does not see what they wrote."""
    client = Client()
    client.server.holds = True
    wire = client.begin("PUT", "/k", b"value=v")
    held = client.server.held.pop()
    client.server.holds = False
    wire.send(b"GET /v2/keys/k?wait=true HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.sent == b""
    client.server.apply(*held)
    client.put("/k")
    put, watch = wire.responses("PUT", "GET")
    assert put.status == 201
    assert json.loads(watch.body)["node"]["modifiedIndex"] == 2


def test_watch_over_an_old_http_ends_with_its_connection():
    """Without chunks, the connection's end is the answer's."""
    client = Client()
    wire = client.begin("GET", "/k?wait=true", version="1.0")
    client.put("/k")
    assert wire.settle().lost
    response = wire.response()
    assert response.framing == "close"
    assert json.loads(response.body)["node"]["key"] == "/k"


def test_expired_key_wakes_its_watch():
    """As any other change."""
    client = Client()
    client.ask("PUT", "/k", b"value=v&ttl=1")
    wire = client.begin("GET", "/k?wait=true")
    client.store.expire(NOW + 2_000_000_000, 10)
    assert seen(wire) == [("expire", "/k", 2)]


def test_refresh_wakes_nobody():
    """Its index is taken all the same."""
    client = Client()
    client.ask("PUT", "/k", b"value=v&ttl=5")
    wire = client.begin("GET", "/k?wait=true")
    send_heads(client)
    client.ask("PUT", "/k", b"ttl=9&refresh=true")
    assert seen(wire) == []
    client.put("/k")
    assert seen(wire) == [("set", "/k", 3)]
