"""Proves that a snapshot is exact, the same on every member, and refuses bad bytes."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.store import CorruptSnapshot, Restorer, Store

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def filled() -> Store:
    """Return a store with something of everything."""
    store = Store()
    store.set("/f", "x", NOW)
    store.update("/f", "<é>", NOW)
    store.set("/raw", b"\xff\xfe".decode("utf-8", "surrogateescape"), NOW)
    store.set("/d/_h", "", NOW, expiration=NOW + SECOND)
    store.set("/d/sub", "", NOW, directory=True, expiration=NOW + 9 * SECOND)
    store.set("/d/_h", "", NOW, expiration=NOW + 2 * SECOND, refresh=True)
    store.set("/file-to-dir", "x", NOW)
    store.set("/file-to-dir", "", NOW, directory=True)
    store.advance_index()
    store.set("/gone", "x", NOW)
    store.delete("/gone", NOW)
    return store


def encoded(store: Store) -> bytes:
    """Return the whole snapshot."""
    return b"".join(store.capture().encode())


def records(store: Store) -> list:
    """Return the records of a snapshot."""
    unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
    unpacker.feed(encoded(store))
    return list(unpacker)


def packed(changed: list) -> bytes:
    """Return the bytes of these records."""
    return b"".join(msgpack.packb(record, unicode_errors="surrogateescape") for record in changed)


def test_restored_store_is_equal_and_goes_on_equally():
    """State, history, expirations and index are the same, and so is what follows."""
    store = filled()
    restored = Store.restore([encoded(store)])
    restored.check()
    assert encoded(restored) == encoded(store)
    assert restored.index == store.index == 11
    for each in (store, restored):
        each.set("/f", "y", NOW)
        assert [event.key for event in each.expire(NOW + 2 * SECOND, 9)] == ["/d/_h"]
    assert encoded(restored) == encoded(store)
    assert restored.next_expiration() == NOW + 9 * SECOND
    bodies = [
        each.watch("/f", print, since_index=2).history_event.body() for each in (store, restored)
    ]
    assert bodies[0] == bodies[1]


def test_restored_history_starts_where_the_original_does():
    """After more than 1,000 events the oldest one is the same on every member."""
    store = Store()
    for turn in range(1100):
        store.set("/k", str(turn), NOW)
    restored = Store.restore(store.capture().encode())
    assert restored._hub.history.first_index == store._hub.history.first_index == 101
    assert encoded(restored) == encoded(store)


def test_capture_is_the_moment_of_the_capture():
    """What happens while it is encoded does not show."""
    store = filled()
    before = encoded(store)
    chunks = store.capture().encode()
    beginning = next(chunks)
    store.set("/f", "later", NOW)
    store.delete("/d", NOW, recursive=True)
    assert beginning + b"".join(chunks) == before


def test_encode_of_many_or_large_values_cuts_chunks():
    """No chunk is more than a little work or one node."""
    store = Store()
    for number in range(3000):
        store.set(f"/{number}", "x" * 300, NOW)
    chunks = list(store.capture().encode())
    assert max(map(len, chunks)) < 200_000
    assert len(Store.restore(chunks).get("/", NOW).contents["/"]) == 3000


def test_restore_takes_chunks_cut_anywhere():
    """Files and streams cut bytes where they like."""
    store = filled()
    data = encoded(store)
    restored = Store.restore(data[at : at + 7] for at in range(0, len(data), 7))
    assert encoded(restored) == data


def test_restore_of_empty_store_is_empty():
    """Nothing was written yet."""
    restored = Store.restore(Store().capture().encode())
    restored.check()
    assert restored.index == 0
    assert restored.set("/k", "", NOW).etcd_index == 1


def test_restorer_can_be_fed_in_slices():
    """The server restores a large snapshot between other work."""
    restorer = Restorer()
    for chunk in filled().capture().encode():
        restorer.feed(chunk)
    restorer.finish()
    assert encoded(Store.from_restorer(restorer)) == encoded(filled())


def test_install_replaces_everything_of_the_old_state():
    """Keys, expirations, history and index are those of the snapshot."""
    store = Store()
    store.set("/old", "", NOW, expiration=NOW + 1)
    store.install(Store.restore([encoded(filled())]))
    store.check()
    assert encoded(store) == encoded(filled())
    assert store.next_expiration() == NOW + 2 * SECOND


def test_install_of_older_state_is_our_bug():
    """Raft never installs what lies behind; the index must not go back."""
    with pytest.raises(AssertionError, match="back to 0"):
        filled().install(Store())


def test_restore_of_every_prefix_is_refused():
    """A snapshot that ends too early is never taken for a whole one."""
    data = encoded(filled())
    for length in range(len(data)):
        with pytest.raises(CorruptSnapshot):
            Store.restore([data[:length]])


@settings(deadline=None, max_examples=70)
@given(st.data())
def test_restore_of_changed_bytes_gives_a_store_or_is_refused(data):
    """Whatever the bytes, no other error comes out, and the store can be used."""
    original = bytearray(encoded(filled()))
    for _ in range(data.draw(st.integers(1, 3))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        restored = Store.restore([bytes(original)])
    except CorruptSnapshot:
        return
    restored.check()
    restored.get("/", NOW, recursive=True).body()
    for event in restored.capture().events:
        assert event is None or event.body()


NODE = ["/k", "x", 1, 1, 0]


def changed_header(at: int, value: object) -> bytes:
    """Return a snapshot of an empty store with another header."""
    header = ["store", 1, 0, [0] * 13]
    header[at] = value
    return packed([header, ["events", []], ["end", 0]])


def with_nodes(*columns: object, count: int = 1) -> bytes:
    """Return a snapshot with these columns of nodes, one index having been used."""
    header = ["store", 1, 1, [0] * 13]
    return packed([header, ["nodes", *columns], ["events", [None]], ["end", count]])


def with_event(*fields: object) -> bytes:
    """Return a snapshot with this event."""
    return packed([["store", 1, 1, [0] * 13], ["events", [list(fields)]], ["end", 0]])


@pytest.mark.parametrize(
    "data",
    [
        changed_header(0, "shop"),
        changed_header(1, 2),
        changed_header(2, -1),
        changed_header(2, 7),
        changed_header(3, [0] * 12),
        changed_header(3, ["0"] * 13),
        packed([["end", 0]]),
        packed([["events", []]]),
        packed([["nodes", [], [], [], [], []]]),
        packed([["store", 1, 0, [0] * 13], ["store", 1, 0, [0] * 13]]),
        packed([["store", 1, 0, [0] * 13], ["end", 1]]),
        packed([["store", 1, 0, [0] * 13], ["end", 0], ["end", 0]]),
        packed([["store", 1, 1, [0] * 13], ["events", [5]], ["end", 0]]),
        b"\xc1",
        with_nodes(["/k"], ["x"], [1], [0]),
        with_nodes("/k", ["x"], [1], [0], [0]),
        with_nodes(["/k"], ["x"], [1], [0], [0, 0]),
        with_nodes([7], ["x"], [1], [0], [0]),
        with_nodes(["/k"], [7], [1], [0], [0]),
        with_nodes(["/k"], ["x"], ["1"], [0], [0]),
        with_nodes(["/k"], ["x"], [0], [0], [0]),
        with_nodes(["/k"], ["x"], [1], [-1], [0]),
        with_nodes(["/k"], ["x"], [1], [1], [0]),
        with_nodes(["/k"], ["x"], [1], [0], [2**63]),
        with_nodes(["/k", "/k"], ["x", "y"], [1, 1], [0, 0], [0, 0]),
        with_nodes(["/"], [None], [1], [0], [0]),
        with_nodes(["k"], ["x"], [1], [0], [0]),
        with_nodes(["/k", "k"], ["x", "y"], [1, 1], [0, 0], [0, 0], count=2),
        with_nodes(["/d/"], ["x"], [1], [0], [0]),
        with_nodes(["/d/k"], ["x"], [1], [0], [0]),
        with_event("set", False, NOW, NODE),
        with_event("get", False, NOW, NODE, None),
        with_event("set", False, 2**63, NODE, None),
        with_event("set", False, NOW, None, NODE),
        with_event("delete", False, NOW, None, None),
        with_event("set", False, NOW, NODE, ["/other", "x", 1, 1, 0]),
        with_event("set", False, NOW, NODE, ["/k", None, 1, 1, 0]),
        with_event("set", False, NOW, ["/k", "x", 1, 1], None),
        with_event("set", False, NOW, ["/k", "x", 1, 1, 2**63], None),
    ],
)
def test_restore_of_each_kind_of_nonsense_is_refused(data):
    """Well-formed msgpack that is no store."""
    with pytest.raises(CorruptSnapshot):
        Store.restore([data])


def test_snapshot_records_are_as_documented():
    """The format in the module's docstring is what is written."""
    header, nodes, events, end = records(filled())
    assert header[:3] == ["store", 1, 11]
    assert len(header[3]) == 13
    assert nodes[0] == "nodes"
    assert [row[:2] for row in zip(*nodes[1:], strict=True)][:2] == [
        ("/f", "<é>"),
        ("/raw", "\udcff\udcfe"),
    ]
    assert events[0] == "events"
    assert len(events[1]) == 11
    assert events[1][8] is None
    assert end == ["end", 6]
