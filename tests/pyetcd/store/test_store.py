"""Proves each rule of the commands: what they change, answer and refuse."""

import json

import pytest

from pyetcd.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    KeyExists,
    KeyNotFound,
    NotDirectory,
    NotFile,
    RootReadOnly,
)
from pyetcd.store import Event, Listing, Store

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def refused(kind, do) -> tuple[str, int]:
    """Return cause and index of the refusal that must come."""
    with pytest.raises(kind) as caught:
        do()
    return caught.value.cause, caught.value.index


def read(store: Store, path: str, now: int = NOW) -> dict:
    """Return the node as a client sees it."""
    return json.loads(store.get(path, now).body())["node"]


@pytest.fixture
def store() -> Store:
    """Return a store with a file at index 1 and a directory with a file at index 2."""
    store = Store()
    store.set("/f", "one", NOW)
    store.set("/d/k", "two", NOW)
    return store


def test_get_of_file_answers_value_and_indexes(store):
    """The event carries the index of the store beside those of the node."""
    event = store.get("/f", NOW)
    assert isinstance(event, Event)
    assert event.etcd_index == 2
    assert not event.is_created
    expected = (
        b'{"action":"get","node":{"key":"/f","value":"one","modifiedIndex":1,"createdIndex":1}}\n'
    )
    assert event.body() == expected


def test_get_of_missing_path_names_its_first_missing_part(store):
    """The cause is not the whole key; a file on the way is another error."""
    assert refused(KeyNotFound, lambda: store.get("/x", NOW)) == ("/x", 2)
    assert refused(KeyNotFound, lambda: store.get("/d/x/y/z", NOW)) == ("/d/x", 2)
    assert refused(NotDirectory, lambda: store.get("/f/x/y", NOW)) == ("/f", 2)


def test_set_of_existing_key_moves_created_index(store):
    """A set is a new key in the place of the old one."""
    event = store.set("/f", "new", NOW)
    assert not event.is_created
    assert event.body() == (
        b'{"action":"set","node":{"key":"/f","value":"new","modifiedIndex":3,"createdIndex":3},'
        b'"prevNode":{"key":"/f","value":"one","modifiedIndex":1,"createdIndex":1}}\n'
    )


def test_set_of_new_key_makes_its_directories(store):
    """They take the key's index and are no events of their own."""
    event = store.set("/a/b/c", "x", NOW)
    assert event.is_created
    assert store.index == 3
    node = {"key": "/a/b", "dir": True, "modifiedIndex": 3, "createdIndex": 3}
    assert read(store, "/a")["nodes"] == [node]
    store.check()


def test_set_on_directory_root_or_below_file_is_refused(store):
    """Nothing changes, not even the index."""
    assert refused(NotFile, lambda: store.set("/d", "", NOW)) == ("/d", 2)
    assert refused(NotFile, lambda: store.set("/d", "", NOW, directory=True)) == ("/d", 2)
    assert refused(RootReadOnly, lambda: store.set("/", "", NOW)) == ("/", 2)
    assert refused(NotDirectory, lambda: store.set("/f/x/y", "", NOW)) == ("/f", 2)
    assert store.index == 2
    store.check()


def test_set_of_directory_on_file_replaces_it(store):
    """The file becomes an empty directory that can be filled."""
    event = store.set("/f", "", NOW, directory=True)
    assert json.loads(event.body()) == {
        "action": "set",
        "node": {"key": "/f", "dir": True, "modifiedIndex": 3, "createdIndex": 3},
        "prevNode": {"key": "/f", "value": "one", "modifiedIndex": 1, "createdIndex": 1},
    }
    store.set("/f/k", "", NOW)
    store.check()


def test_set_with_refresh_keeps_the_value(store):
    """The action is set and createdIndex moves, but the value stays."""
    event = store.set("/f", "", NOW, expiration=NOW + SECOND, refresh=True)
    assert event.action == "set"
    assert event.node.value == "one"
    assert event.node.created_index == 3
    cause = refused(KeyNotFound, lambda: store.set("/d/x/y", "", NOW, refresh=True))
    assert cause == ("/d/x", 3)


def test_set_with_expiration_before_2000_is_permanent(store):
    """That is a ttl which overflowed; update takes it as it is."""
    event = store.set("/f", "", NOW, expiration=946_684_799 * SECOND)
    assert event.node.expiration == 0
    assert store.create("/new", "", NOW, expiration=-5).node.expiration == 0
    assert store.update("/f", "", NOW, expiration=-5).node.expiration == -5


def test_create_of_existing_key_or_below_file_is_refused(store):
    """Files and directories alike."""
    assert refused(KeyExists, lambda: store.create("/f", "", NOW)) == ("/f", 2)
    assert refused(KeyExists, lambda: store.create("/d", "", NOW, directory=True)) == ("/d", 2)
    assert refused(NotDirectory, lambda: store.create("/f/x", "", NOW)) == ("/f", 2)
    assert refused(RootReadOnly, lambda: store.create("/", "", NOW)) == ("/", 2)
    event = store.create("/new", "", NOW, directory=True)
    assert event.is_created
    assert event.node.value is None
    store.create("/brief", "", NOW, expiration=NOW + SECOND)
    assert store.next_expiration() == NOW + SECOND


def test_create_in_order_names_keys_by_the_index(store):
    """Twenty digits, the index of the whole store; the root works too."""
    assert store.create_in_order("/q", "a", NOW).key == f"/q/{3:020d}"
    store.set("/f", "", NOW)
    assert store.create_in_order("/q", "b", NOW).key == f"/q/{5:020d}"
    assert store.create_in_order("/", "c", NOW).key == f"/{6:020d}"
    assert refused(NotDirectory, lambda: store.create_in_order("/f", "", NOW)) == ("/f", 6)


def test_update_keeps_created_index_and_drops_the_ttl(store):
    """An update without a ttl makes the key permanent."""
    store.update("/f", "x", NOW, expiration=NOW + SECOND)
    event = store.update("/f", "y", NOW)
    assert event.action == "update"
    assert (event.node.created_index, event.node.modified_index) == (1, 4)
    assert event.node.expiration == 0
    assert store.next_expiration() is None
    assert store.update("/f", "", NOW, expiration=5, refresh=True).node.value == "y"


def test_update_of_directory_changes_its_expiration_only(store):
    """The event shows a new modifiedIndex, a get the old one."""
    event = store.update("/d", "", NOW, expiration=NOW + 100 * SECOND)
    assert json.loads(event.body())["node"] == {
        "key": "/d",
        "dir": True,
        "expiration": "2023-11-14T22:15:00Z",
        "ttl": 100,
        "modifiedIndex": 3,
        "createdIndex": 2,
    }
    assert read(store, "/d")["modifiedIndex"] == 2
    assert read(store, "/d")["ttl"] == 100
    store.check()


def test_update_of_missing_root_or_directory_with_value_is_refused(store):
    """With etcd's causes."""
    assert refused(KeyNotFound, lambda: store.update("/x/y", "", NOW)) == ("/x", 2)
    assert refused(RootReadOnly, lambda: store.update("/", "", NOW)) == ("/", 2)
    assert refused(NotFile, lambda: store.update("/d", "x", NOW)) == ("/d", 2)


@pytest.mark.parametrize(
    ("condition", "cause"),
    [
        ({"prev_value": "bad"}, "[bad != one]"),
        ({"prev_index": 9}, "[9 != 1]"),
        ({"prev_value": "bad", "prev_index": 1}, "[bad != one]"),
        ({"prev_value": "one", "prev_index": 9}, "[9 != 1]"),
        ({"prev_value": "bad", "prev_index": 9}, "[bad != one] [9 != 1]"),
    ],
)
def test_comparison_that_fails_names_what_differs(store, condition, cause):
    """Both conditions count; values come first in the cause; no index is taken."""
    swap = refused(CompareFailed, lambda: store.compare_and_swap("/f", "x", NOW, **condition))
    delete = refused(CompareFailed, lambda: store.compare_and_delete("/f", NOW, **condition))
    assert swap == delete == (cause, 2)
    assert store.index == 2
    assert read(store, "/f")["value"] == "one"


def test_compare_and_swap_that_matches_keeps_created_index(store):
    """The ttl is set anew or dropped; a refresh keeps the value."""
    event = store.compare_and_swap("/f", "x", NOW, prev_value="one", prev_index=1)
    assert event.action == "compareAndSwap"
    assert (event.node.value, event.node.created_index, event.node.modified_index) == ("x", 1, 3)
    event = store.compare_and_swap(
        "/f", "", NOW, prev_value="x", expiration=NOW + SECOND, refresh=True
    )
    assert event.node.value == "x"
    assert store.next_expiration() == NOW + SECOND


def test_compare_and_swap_on_root_directory_or_nothing_is_refused(store):
    """A directory cannot be compared."""
    assert refused(RootReadOnly, lambda: store.compare_and_swap("/", "", NOW)) == ("/", 2)
    assert refused(NotFile, lambda: store.compare_and_swap("/d", "", NOW)) == ("/d", 2)
    assert refused(KeyNotFound, lambda: store.compare_and_swap("/x", "", NOW)) == ("/x", 2)
    assert refused(NotDirectory, lambda: store.compare_and_swap("/f/x", "", NOW)) == ("/f", 2)


def test_comparison_is_by_bytes(store):
    """Two bytes that both show as U+FFFD are not equal."""
    store.set("/f", b"\xff".decode("utf-8", "surrogateescape"), NOW)
    other = b"\xfe".decode("utf-8", "surrogateescape")
    with pytest.raises(CompareFailed) as caught:
        store.compare_and_swap("/f", "", NOW, prev_value=other)
    assert rb'"cause":"[\ufffd != \ufffd]"' in caught.value.body()


def test_compare_and_delete_on_root_directory_or_nothing_is_refused(store):
    """The root is a directory whose cause is empty."""
    assert refused(NotFile, lambda: store.compare_and_delete("/", NOW)) == ("", 2)
    assert refused(NotFile, lambda: store.compare_and_delete("/d", NOW)) == ("/d", 2)
    assert refused(KeyNotFound, lambda: store.compare_and_delete("/x", NOW)) == ("/x", 2)


def test_compare_and_delete_that_matches_removes_the_key(store):
    """The node in the event has no value."""
    event = store.compare_and_delete("/f", NOW, prev_index=1)
    assert event.body() == (
        b'{"action":"compareAndDelete","node":{"key":"/f","modifiedIndex":3,"createdIndex":1},'
        b'"prevNode":{"key":"/f","value":"one","modifiedIndex":1,"createdIndex":1}}\n'
    )
    assert refused(KeyNotFound, lambda: store.get("/f", NOW)) == ("/f", 3)


def test_delete_needs_the_flags_that_fit(store):
    """A file needs none, an empty directory one, a full one recursive."""
    store.set("/e", "", NOW, directory=True)
    assert refused(NotFile, lambda: store.delete("/e", NOW)) == ("/e", 3)
    assert refused(NotFile, lambda: store.delete("/d", NOW)) == ("/d", 3)
    full = refused(DirectoryNotEmpty, lambda: store.delete("/d", NOW, directory=True))
    assert full == ("/d", 3)
    assert refused(KeyNotFound, lambda: store.delete("/x", NOW)) == ("/x", 3)
    assert refused(RootReadOnly, lambda: store.delete("/", NOW, recursive=True)) == ("/", 3)
    assert store.delete("/e", NOW, directory=True).etcd_index == 4
    assert store.delete("/f", NOW, directory=True).etcd_index == 5
    assert store.delete("/d", NOW, recursive=True).etcd_index == 6
    assert store.get("/", NOW, recursive=True).size == 0
    store.check()


def test_delete_of_directory_answers_dir_without_children(store):
    """The event tells that a directory went, not what was in it."""
    event = store.delete("/d", NOW, recursive=True)
    node = {"key": "/d", "dir": True, "modifiedIndex": 3, "createdIndex": 2}
    prev_node = {**node, "modifiedIndex": 2}
    expected = {"action": "delete", "node": node, "prevNode": prev_node}
    assert json.loads(event.body()) == expected


def test_delete_of_directory_with_hidden_children_is_refused(store):
    """It lists as empty but is not."""
    store.set("/h/_x", "", NOW)
    assert "nodes" not in read(store, "/h")
    full = refused(DirectoryNotEmpty, lambda: store.delete("/h", NOW, directory=True))
    assert full == ("/h", 3)


def test_expire_removes_what_is_due_and_no_more(store):
    """The cutoff counts as due, the limit holds, and each key takes an index."""
    for name, seconds in (("c", 2), ("a", 2), ("b", 1), ("later", 3)):
        store.set(f"/t/{name}", "", NOW, expiration=NOW + seconds * SECOND)
    assert store.next_expiration() == NOW + SECOND
    assert store.expire(NOW + SECOND - 1, 10) == []
    events = store.expire(NOW + 2 * SECOND, 2)
    events += store.expire(NOW + 2 * SECOND, 2)
    assert [(event.key, event.etcd_index) for event in events] == [
        ("/t/b", 7),
        ("/t/a", 8),
        ("/t/c", 9),
    ]
    assert store.next_expiration() == NOW + 3 * SECOND
    store.check()


def test_expire_of_directory_takes_its_keys_along(store):
    """One event; keys inside that were due at the same time are not seen; no dir in the node."""
    moment = NOW + SECOND
    store.set("/t", "", NOW, directory=True, expiration=moment)
    store.set("/t/k", "", NOW, expiration=moment)
    events = store.expire(moment, 10)
    assert [event.key for event in events] == ["/t"]
    document = json.loads(events[0].body())
    assert document["node"] == {"key": "/t", "modifiedIndex": 5, "createdIndex": 3}
    assert document["prevNode"]["dir"] is True
    assert "ttl" not in document["prevNode"]
    assert store.next_expiration() is None
    store.check()


def test_expiration_of_replaced_key_is_forgotten(store):
    """A new set, a deletion or an update decide alone when the key goes."""
    store.set("/f", "", NOW, expiration=NOW + SECOND)
    store.set("/f", "", NOW, expiration=NOW + 5 * SECOND)
    store.set("/g", "", NOW, expiration=NOW + SECOND)
    store.delete("/g", NOW)
    store.set("/g", "", NOW)
    assert store.expire(NOW + 4 * SECOND, 10) == []
    assert store.next_expiration() == NOW + 5 * SECOND


def test_ttl_in_answers_counts_from_the_clock_given(store):
    """An event keeps the proposer's view, a get has the reader's."""
    store.set("/f", "", NOW, expiration=NOW + 10 * SECOND)
    event = store.set("/f", "", NOW + 3 * SECOND, expiration=NOW + 3 * SECOND)
    assert b'"prevNode":{"key":"/f","value":"","expiration":' in event.body()
    assert b'"ttl":7' in event.body()
    assert "ttl" not in read(store, "/f", NOW + 3 * SECOND)
    assert read(store, "/f", NOW + 1)["ttl"] == 3
    assert read(store, "/f", NOW + 9 * SECOND)["ttl"] == -6


def test_advance_index_takes_an_index_without_a_key(store):
    """As a change of the members does."""
    assert store.advance_index() == 3
    assert store.index == 3
    assert store.set("/f", "", NOW).etcd_index == 4
    store.check()


def test_listing_shows_children_but_not_hidden_ones(store):
    """Grandchildren only with recursive; the root has neither key nor indexes."""
    store.set("/_h/k", "", NOW)
    store.set("/d/_h", "", NOW)
    listing = store.get("/", NOW, sort=True)
    assert isinstance(listing, Listing)
    assert listing.etcd_index == 4
    directory = {"key": "/d", "dir": True, "modifiedIndex": 2, "createdIndex": 2}
    file = {"key": "/f", "value": "one", "modifiedIndex": 1, "createdIndex": 1}
    expected = {"action": "get", "node": {"dir": True, "nodes": [directory, file]}}
    assert json.loads(listing.body()) == expected
    inner = {"key": "/d/k", "value": "two", "modifiedIndex": 2, "createdIndex": 2}
    listing = store.get("/", NOW, sort=True, recursive=True)
    assert json.loads(listing.body())["node"]["nodes"] == [{**directory, "nodes": [inner]}, file]
    hidden = {"key": "/_h/k", "value": "", "modifiedIndex": 3, "createdIndex": 3}
    assert read(store, "/_h")["nodes"] == [hidden]
