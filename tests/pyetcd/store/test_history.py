"""Proves what watchers find in the past: the last 1,000 indexes, by etcd's rules."""

import pytest

from pyetcd.errors import EventIndexCleared
from pyetcd.store import Store

NOW = 1_700_000_000_000_000_000


def filled(count: int) -> Store:
    """Return a store in which /x was set so often."""
    store = Store()
    for turn in range(count):
        store.set("/x", str(turn), NOW)
    return store


def past(store: Store, path: str, since: int, *, recursive: bool = False) -> int | None:
    """Return the index of the event that history has for such a watch."""
    watcher = store.watch(path, print, recursive=recursive, since_index=since)
    watcher.remove()
    event = watcher.history_event
    return None if event is None else event.etcd_index


def test_history_gives_the_first_event_from_the_index_on():
    """waitIndex itself counts, and the first match wins."""
    store = filled(3)
    store.set("/y", "", NOW)
    assert [past(store, "/x", since) for since in (1, 2, 3, 4)] == [1, 2, 3, None]
    assert past(store, "/y", 1) == 4


def test_history_with_future_index_gives_nothing():
    """A wait for an index to come never returns an old event."""
    store = filled(3)
    assert past(store, "/x", 4) is None
    assert past(store, "/x", 400) is None


def test_history_of_1000_events_clears_the_older_ones():
    """The event 1,000 indexes ago is there, the one before is error 401."""
    store = filled(1001)
    assert past(store, "/x", 2) == 2
    with pytest.raises(EventIndexCleared) as caught:
        past(store, "/x", 1)
    assert caught.value.cause == "the requested history has been cleared [2/1]"
    assert caught.value.index == 1001


def test_history_counts_indexes_that_nobody_sees():
    """Refreshes and changes of the cluster take a place but are not found."""
    store = filled(1)
    store.set("/x", "", NOW, expiration=NOW + 1, refresh=True)
    assert store.advance_index() == 3
    assert past(store, "/x", 2) is None
    for _ in range(1000):
        store.advance_index()
    with pytest.raises(EventIndexCleared, match=r"\[4/3\]"):
        past(store, "/x", 3)


def test_history_recursive_sees_below_and_hidden_keys():
    """Unlike a live watch, history shows hidden keys; a sibling is no child."""
    store = Store()
    store.set("/foobar/k", "", NOW)
    store.set("/foo/_h", "", NOW)
    assert past(store, "/foo", 1, recursive=True) == 2
    assert past(store, "/foo", 1) is None
    assert past(store, "/", 1, recursive=True) == 1


def test_history_recursive_sees_the_key_itself_after_other_events():
    """No event of the watched key is lost behind others."""
    store = Store()
    store.set("/other", "", NOW)
    store.set("/foo", "", NOW)
    assert past(store, "/foo", 1, recursive=True) == 2


def test_history_removal_of_directory_answers_all_that_begin_like_it():
    """etcd compares strings: deleting /foo answers /foo/bar and /foobar."""
    store = Store()
    store.set("/foo/bar", "", NOW)
    store.delete("/foo", NOW, recursive=True)
    assert past(store, "/foo/bar", 2) == 2
    assert past(store, "/foobar", 2) == 2
    assert past(store, "/fo", 2) is None


def test_history_removal_of_file_answers_itself_only():
    """The removal of a key with a value says nothing about keys below."""
    store = Store()
    store.set("/foo", "", NOW)
    store.delete("/foo", NOW)
    assert past(store, "/foo/bar", 1) is None
    assert past(store, "/foo", 2) == 2
