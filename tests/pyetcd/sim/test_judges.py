"""The judges of the simulation: each broken promise is told from a kept one, one at a time."""

import json

import pytest

from pyetcd.sim.chronicle import Chronicle, Version
from pyetcd.sim.requests import Request
from pyetcd.sim.rights import Rights, hash_of
from pyetcd.sim.watchers import Wanted, Watch
from pyetcd.sim.wire import Answer
from pyetcd.store import Event, Store
from raft.sim import Unsafe

NOW = 1_453_748_462_000_000_000


class Member:
    """As much of a member as a watch knows."""


def learned(*stores: Store) -> Chronicle:
    """A chronicle that has learned from these."""
    chronicle = Chronicle(lambda event: None)
    for store in stores:
        chronicle.learn(store, None)
    return chronicle


def filled() -> Store:
    """Three keys and a directory that was removed."""
    store = Store()
    store.set("/a", "1", NOW)
    store.set("/d/x", "2", NOW)
    store.set("/a", "3", NOW)
    store.delete("/d", NOW, recursive=True)
    store.set("/b", "4", NOW, expiration=NOW + 1)
    return store


def answer(status: int, index: int, document: object) -> Answer:
    """What a client reads."""
    return Answer(status, {"x-etcd-index": str(index)}, json.dumps(document).encode())


# ------------------------------------------------------------------------------------ chronicle


def test_chronicle_knows_what_every_key_was_at_every_index() -> None:
    """Versions begin with the index that made them, and end with their removal."""
    chronicle = learned(filled())
    assert [chronicle.version("/a", index) for index in (0, 1, 2, 3)] == [
        None,
        Version("1", 1, 1, 0),
        Version("1", 1, 1, 0),
        Version("3", 3, 3, 0),
    ]
    assert set(chronicle.below("/d", 3)) == {"/d/x"}
    assert chronicle.below("/d", 4) == {}
    assert chronicle.version("/b", 5) == Version("4", 5, 5, NOW + 1)


def test_event_that_does_not_follow_from_the_one_before_is_unsafe() -> None:
    """A member whose past is another one is found out by its next event."""
    chronicle = learned(filled())
    lagging = Store()
    for key in ("/a", "/x", "/y", "/z", "/b"):
        lagging.set(key, "0", NOW)
    lagging.set("/a", "9", NOW)
    with pytest.raises(Unsafe, match="the key was"):
        chronicle.learn(lagging, None)


@pytest.mark.parametrize(
    ("prev_value", "problem"),
    [("9", "the key was"), (None, "it hides that the key was")],
)
def test_event_with_another_prev_node_is_unsafe(prev_value: str | None, problem: str) -> None:
    """What was there before is told in every event, and must have been there."""
    store = filled()
    chronicle = learned(store)
    event = store.set("/a", "5", NOW)
    assert event.prev_node is not None
    if prev_value is None:
        event.prev_node = None
    else:
        event.prev_node.value = prev_value
    with pytest.raises(Unsafe, match=problem):
        chronicle.learn(store, None)


def test_key_that_expires_early_is_unsafe() -> None:
    """An expiry by a clock that has not come to the key's time is one too early."""
    store = filled()
    chronicle = learned(store)
    store.expire(NOW + 1, 1)[0].now = NOW
    with pytest.raises(Unsafe, match="was to expire"):
        chronicle.learn(store, None)


# ------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("request_", "document", "index"),
    [
        (Request("GET", "/a"), {"errorCode": 100, "cause": "/a", "index": 3}, 3),
        (Request("PUT", "/c"), {"errorCode": 100, "cause": "/c", "index": 3}, 3),
        (
            Request("PUT", "/a", {"prevValue": "3", "value": "9"}),
            {"errorCode": 101, "cause": "[3 != 3]", "index": 3},
            3,
        ),
        (
            Request("PUT", "/a", {"prevValue": "1", "value": "9"}),
            {"errorCode": 101, "cause": "[1 != 2]", "index": 3},
            3,
        ),
        (
            Request("PUT", "/a", {"prevExist": "false", "value": "9"}),
            {"errorCode": 105, "cause": "/a", "index": 0},
            0,
        ),
        (Request("GET", "/x"), {"errorCode": 100, "cause": "/x", "index": 3}, 2),
    ],
)
def test_error_that_is_not_true_is_unsafe(
    request_: Request, document: dict[str, object], index: int
) -> None:
    """An error says something of the state at its index."""
    with pytest.raises(Unsafe, match="is answered"):
        request_.check_error(answer(404, index, document), learned(filled()))


def test_error_that_is_true_gives_its_code() -> None:
    """The same errors, where they are right."""
    chronicle = learned(filled())
    missing = {"errorCode": 100, "cause": "/b", "index": 3}
    assert Request("GET", "/b").check_error(answer(404, 3, missing), chronicle) == 100
    failed = {"errorCode": 101, "cause": "[1 != 3]", "index": 3}
    swap = Request("PUT", "/a", {"prevValue": "1", "value": "9"})
    assert swap.check_error(answer(412, 3, failed), chronicle) == 101


@pytest.mark.parametrize("index", [1, 2, 4])
def test_read_of_another_moment_is_unsafe(index: int) -> None:
    """What is shown must have been there at the index of the answer."""
    node = {"key": "/a", "value": "3", "createdIndex": 3, "modifiedIndex": 3}
    read, chronicle = Request("GET", "/a"), learned(filled())
    read.check_read(answer(200, 3, {"node": node}), chronicle)
    shown = {**node, "value": "1"} if index == 4 else node
    with pytest.raises(Unsafe, match="shows"):
        read.check_read(answer(200, index, {"node": shown}), chronicle)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (Request("PUT", "/b", {"value": "3"}), "the key was to be"),
        (Request("PUT", "/a", {"value": "3", "prevExist": "true"}), "it was to be update"),
        (Request("PUT", "/a", {"value": "4"}), "the value is"),
        (Request("PUT", "/a", {"value": "3", "ttl": "1"}), "it expires at 0"),
        (Request("PUT", "/a", {"refresh": "true"}), "taken for a refresh"),
    ],
)
def test_event_that_was_not_asked_for_is_unsafe(request_: Request, problem: str) -> None:
    """An event must be one that the request can have led to."""
    event = learned(filled()).events[3]
    assert event is not None
    Request("PUT", "/a", {"value": "3"}).check_event(event)
    with pytest.raises(Unsafe, match=problem):
        request_.check_event(event)


# --------------------------------------------------------------------------------------- watches


def watching(wanted: Wanted, start_index: int) -> tuple[Watch, list[Event | None]]:
    """A watch that has begun, and all that happens."""
    chronicle = learned(filled())
    watch = Watch(wanted, Member(), chronicle)
    watch.begin(start_index)
    return watch, chronicle.events


def tell(watch: Watch, event: Event | None) -> None:
    """Let it be told of an event."""
    assert event is not None
    watch.tell(event.body())


def test_watch_that_is_told_of_everything_is_content() -> None:
    """A stream from the beginning on."""
    watch, events = watching(Wanted("/", True, True, 0), 0)
    for event in events[1:]:
        tell(watch, event)
    watch.require_told(5)


@pytest.mark.parametrize(
    ("told", "problem"),
    [([3], "was not told"), ([1, 1], "told again"), ([1, 2, 3, 2], "is told late")],
)
def test_watch_with_a_gap_a_copy_or_a_step_back_is_unsafe(told: list[int], problem: str) -> None:
    """Ordered, complete, no duplicates."""
    watch, events = watching(Wanted("/", True, True, 0), 0)
    *before, last = told
    for index in before:
        tell(watch, events[index])
    with pytest.raises(Unsafe, match=problem):
        tell(watch, events[last])


def test_watch_that_was_cut_off_misses_nothing_until_then() -> None:
    """What a member had applied before its end had to be told."""
    watch, events = watching(Wanted("/a", False, True, 0), 0)
    tell(watch, events[1])
    watch.require_told(2)
    with pytest.raises(Unsafe, match="was not told"):
        watch.require_told(3)


def test_watch_begins_with_the_first_event_in_history() -> None:
    """From a waitIndex on, the first that concerns it is the answer, and nothing else."""
    watch, events = watching(Wanted("/a", False, False, 2), 5)
    tell(watch, events[3])
    watch, events = watching(Wanted("/a", False, False, 1), 5)
    with pytest.raises(Unsafe, match="first"):
        tell(watch, events[3])
    watch, events = watching(Wanted("/a", False, False, 2), 5)
    with pytest.raises(Unsafe, match="which was there"):
        watch.require_told(5)


def test_watch_of_something_else_is_told_of_nothing() -> None:
    """An event that does not concern it is one too many."""
    watch, events = watching(Wanted("/c", False, True, 0), 0)
    with pytest.raises(Unsafe, match="does not watch"):
        tell(watch, events[1])
    watch.require_told(5)


def test_bytes_that_are_no_event_are_unsafe() -> None:
    """Everybody is told the same bytes."""
    watch, events = watching(Wanted("/a", False, True, 0), 0)
    assert events[1] is not None
    with pytest.raises(Unsafe, match="happened"):
        watch.tell(events[1].body().replace(b'"1"', b'"2"'))


# ---------------------------------------------------------------------------------------- rights


def test_rights_are_read_as_etcd_reads_them() -> None:
    """By password, role and pattern; a recursive read needs a star, unless a guest asks."""
    rights = Rights(
        enabled=True,
        users={"u": (hash_of("p"), ("r",)), "root": (hash_of("p"), ())},
        roles={"r": (("/a", "/b/*"), ("/b/*",)), "guest": (("/a",), ())},
    )
    asked = [
        (("u", "p"), "/a", False, False),
        (("u", "p"), "/a", False, True),
        (("u", "p"), "/b/c", True, True),
        (("u", "wrong"), "/a", False, False),
        (("nobody", "p"), "/a", False, False),
        (("root", "p"), "/z", True, True),
        (None, "/a", False, True),
        (None, "/a", True, False),
    ]
    allowed = [
        rights.allows(who, key, write=write, recursive=recursive)
        for who, key, write, recursive in asked
    ]
    assert allowed == [True, False, True, False, False, True, True, False]
    assert Rights().allows(None, "/z", write=True, recursive=True)
