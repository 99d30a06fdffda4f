"""Proves who is told of which event, how often, and that nobody is told too much."""

from pyetcd.store import Event, Store

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


class Listener:
    """A client that notes what it is told."""

    def __init__(self, store: Store, path: str, **options) -> None:
        """Start to watch."""
        self.events: list[Event] = []
        self.lost = 0
        self.watcher = store.watch(path, self.events.append, on_lost=self.lose, **options)

    def lose(self) -> None:
        """Take note that events were lost."""
        self.lost += 1

    @property
    def seen(self) -> list[tuple[str, int]]:
        """Return actions and indexes."""
        return [(event.action, event.etcd_index) for event in self.events]


def test_watcher_is_told_once_and_then_removed():
    """A wait gives one event and costs nothing afterwards."""
    store = Store()
    listener = Listener(store, "/k")
    assert store.watcher_count == 1
    store.set("/k", "1", NOW)
    store.set("/k", "2", NOW)
    assert listener.seen == [("set", 1)]
    assert store.watcher_count == 0
    store.check()


def test_stream_is_told_of_every_event_in_order():
    """A stream goes on until it is removed, which may be done twice."""
    store = Store()
    listener = Listener(store, "/d", recursive=True, stream=True)
    store.set("/d/a", "1", NOW)
    store.create_in_order("/d/q", "2", NOW)
    store.set("/x", "3", NOW)
    store.compare_and_swap("/d/a", "4", NOW, prev_value="1")
    store.delete("/d", NOW, recursive=True)
    listener.watcher.remove()
    listener.watcher.remove()
    store.set("/d/a", "5", NOW)
    actions = [("set", 1), ("create", 2), ("compareAndSwap", 4), ("delete", 5), ("delete", 5)]
    assert listener.seen == actions
    assert store.watcher_count == 0
    store.check()


def test_watcher_of_directory_without_recursive_does_not_see_children():
    """Only the directory's own removal is seen."""
    store = Store()
    store.set("/d/a", "", NOW)
    listener = Listener(store, "/d")
    store.set("/d/a", "", NOW)
    assert listener.seen == []
    store.delete("/d", NOW, recursive=True)
    assert listener.seen == [("delete", 3)]


def test_watcher_of_a_sibling_with_the_same_beginning_sees_nothing():
    """/foobar is not below /foo."""
    store = Store()
    listener = Listener(store, "/foo", recursive=True)
    store.set("/foobar", "", NOW)
    store.set("/foobar2/k", "", NOW)
    assert listener.seen == []


def test_watcher_from_history_is_never_registered():
    """A stream whose first event was in history gets that one and then nothing."""
    store = Store()
    store.set("/k", "1", NOW)
    listener = Listener(store, "/k", stream=True, since_index=1)
    assert listener.watcher.history_event is not None
    assert listener.watcher.history_event.etcd_index == 1
    assert listener.watcher.start_index == 1
    store.set("/k", "2", NOW)
    listener.watcher.remove()
    assert listener.seen == []
    assert store.watcher_count == 0


def test_watcher_with_future_index_lets_earlier_events_pass():
    """Neither late by one nor early by one."""
    store = Store()
    listener = Listener(store, "/k", since_index=3)
    store.set("/k", "1", NOW)
    store.set("/k", "2", NOW)
    assert listener.seen == []
    store.set("/k", "3", NOW)
    assert listener.seen == [("set", 3)]


def test_watcher_inside_a_removed_directory_is_told():
    """Every node that goes tells its watchers; a path that never was there does not."""
    store = Store()
    store.set("/d/a/k", "", NOW)
    inside = [
        Listener(store, "/d/a/k"),
        Listener(store, "/d/a"),
        Listener(store, "/d/a", recursive=True),
    ]
    absent = Listener(store, "/d/none")
    event = store.delete("/d", NOW, recursive=True)
    assert all(listener.events == [event] for listener in inside)
    assert absent.events == []


def test_stream_on_removed_key_is_told_twice_and_above_once():
    """etcd tells the watchers of the removed key first, then all along its path."""
    store = Store()
    store.set("/d/k", "x", NOW)
    key = Listener(store, "/d/k", stream=True)
    recursive = Listener(store, "/d/k", stream=True, recursive=True)
    above = Listener(store, "/d", stream=True, recursive=True)
    store.compare_and_delete("/d/k", NOW, prev_value="x")
    assert key.seen == [("compareAndDelete", 2)] * 2
    assert recursive.seen == [("compareAndDelete", 2)] * 2
    assert above.seen == [("compareAndDelete", 2)]


def test_expiry_tells_watchers_as_a_removal_does():
    """The action is expire, and the parent sees it too."""
    store = Store()
    store.set("/d/k", "x", NOW, expiration=NOW + SECOND)
    listeners = [Listener(store, "/d/k"), Listener(store, "/d", recursive=True)]
    store.expire(NOW + SECOND, 10)
    assert [listener.seen for listener in listeners] == [[("expire", 2)]] * 2


def test_hidden_keys_are_seen_from_within_only():
    """A name with an underscore hides a change from all watchers above it."""
    store = Store()
    root = Listener(store, "/", recursive=True, stream=True)
    directory = Listener(store, "/d", recursive=True, stream=True)
    hidden = Listener(store, "/d/_h", recursive=True, stream=True)
    exact = Listener(store, "/_k")
    store.set("/d/_h/k", "", NOW)
    store.set("/_k", "", NOW)
    store.delete("/d/_h", NOW, recursive=True)
    assert root.seen == []
    assert directory.seen == []
    assert hidden.seen == [("set", 1), ("delete", 3), ("delete", 3)]
    assert exact.seen == [("set", 2)]
    store.delete("/d", NOW, recursive=True)
    assert root.seen == [("delete", 4)]


def test_refresh_tells_nobody():
    """Neither a set, nor an update, nor a swap with refresh wakes a watcher."""
    store = Store()
    store.set("/k", "x", NOW, expiration=NOW + SECOND)
    listeners = [Listener(store, "/k"), Listener(store, "/", recursive=True)]
    store.set("/k", "", NOW, expiration=NOW + 2 * SECOND, refresh=True)
    store.update("/k", "", NOW, expiration=NOW + 3 * SECOND, refresh=True)
    store.compare_and_swap("/k", "", NOW, prev_index=3, expiration=NOW + SECOND, refresh=True)
    assert all(listener.seen == [] for listener in listeners)
    store.set("/k", "y", NOW)
    assert all(listener.seen == [("set", 5)] for listener in listeners)


def test_watcher_removed_by_another_ones_callback_is_not_told():
    """A callback may close other watches; they are deaf at once."""
    store = Store()
    victims = []
    store.watch("/k", lambda event: victims[0].watcher.remove(), stream=True)
    victims.append(Listener(store, "/k", stream=True))
    store.set("/k", "", NOW)
    assert victims[0].seen == []
    assert store.watcher_count == 1


def test_watchers_share_one_body():
    """However many watchers there are, an event is rendered once."""
    store = Store()
    listeners = [Listener(store, "/", recursive=True) for _ in range(3)]
    store.set("/k", "x", NOW)
    bodies = [listener.events[0].body() for listener in listeners]
    assert all(body is bodies[0] for body in bodies)


def test_install_tells_watchers_what_they_missed():
    """A snapshot that jumps ahead loses no event that its history still has."""
    behind, ahead = Store(), Store()
    for store in (behind, ahead):
        store.set("/d/k", "0", NOW)
    once = Listener(behind, "/d/k")
    stream = Listener(behind, "/d", recursive=True, stream=True)
    root = Listener(behind, "/", recursive=True, stream=True)
    future = Listener(behind, "/d/k", since_index=5)
    elsewhere = Listener(behind, "/da", recursive=True)
    ahead.set("/d/k", "1", NOW)
    ahead.set("/d/_h", "1", NOW)
    ahead.set("/d/k", "1", NOW, expiration=NOW + SECOND, refresh=True)
    ahead.advance_index()
    ahead.delete("/d", NOW, recursive=True)
    behind.install(Store.restore(ahead.capture().encode()))
    behind.check()
    assert once.seen == [("set", 2)]
    assert stream.seen == [("set", 2), ("delete", 6)]
    assert root.seen == stream.seen
    assert future.seen == [("delete", 6)]
    assert elsewhere.seen == []
    behind.set("/d/k", "2", NOW)
    assert stream.seen[2:] == [("set", 7)]


def test_install_with_too_long_a_gap_ends_the_watch():
    """What history no longer has is lost; the client is told to look again."""
    behind, ahead = Store(), Store()
    listener = Listener(behind, "/k", stream=True)
    silent = behind.watch("/k", print)
    for _ in range(1001):
        ahead.set("/k", "", NOW)
    behind.install(ahead)
    assert listener.lost == 1
    assert listener.seen == []
    assert silent.hub.count == 0


def test_install_of_a_removed_directory_tells_watchers_inside():
    """The node may have been there: its watcher is told of the removal."""
    behind, ahead = Store(), Store()
    listener = Listener(behind, "/d/k")
    ahead.set("/d/other", "", NOW)
    ahead.delete("/d", NOW, recursive=True)
    behind.install(ahead)
    assert listener.seen == [("delete", 2)]
