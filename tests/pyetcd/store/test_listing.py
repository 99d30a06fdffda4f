"""Proves that listings show one moment, in pieces, whatever their size and depth."""

import json

from pyetcd.store import Store

NOW = 1_700_000_000_000_000_000


def keys(listing) -> list[str]:
    """Return the keys of the first level."""
    return [node["key"] for node in json.loads(listing.body())["node"].get("nodes", [])]


def test_listing_rendered_later_shows_the_moment_of_the_get():
    """Changes after the capture are not seen, not even half of them."""
    store = Store()
    for name in "abc":
        store.set(f"/d/{name}", name, NOW)
    listing = store.get("/d", NOW, recursive=True, sort=True)
    pieces = listing.chunks(piece_bytes=1)
    first = next(pieces)
    store.delete("/d", NOW, recursive=True)
    store.set("/d/new", "", NOW)
    document = json.loads(first + b"".join(pieces))
    assert [node["value"] for node in document["node"]["nodes"]] == ["a", "b", "c"]


def test_listing_in_pieces_is_the_same_document():
    """Pieces have about the size that was asked for."""
    store = Store()
    for number in range(100):
        store.set(f"/d/{number:03d}", "x" * 100, NOW)
    listing = store.get("/", NOW, recursive=True)
    pieces = list(listing.chunks(piece_bytes=1000))
    assert b"".join(pieces) == listing.body()
    assert max(map(len, pieces)) < 1300
    assert len(pieces) > 10
    assert listing.size == 101


def test_listing_of_large_directory_sorts_with_pauses():
    """Sorting thousands of keys is interrupted, and the order is right all the same."""
    store = Store()
    names = [f"/d/{number * 7919 % 8999:04d}" for number in range(8999)]
    for name in names:
        store.set(name, "", NOW)
    listing = store.get("/d", NOW, sort=True)
    assert list(listing.chunks()).count(b"") >= 2
    assert keys(listing) == sorted(names)


def test_listing_sorted_compares_bytes():
    """A byte that is no UTF-8 comes where Go puts it."""
    store = Store()
    names = [raw.decode("utf-8", "surrogateescape") for raw in (b"/\xff", "/é".encode(), b"/z")]
    names.append("/\U0001f600")
    for name in names:
        store.set(name, "", NOW)
    assert keys(store.get("/", NOW, sort=True)) == ["/z", "/é", "/\U0001f600", "/\ufffd"]


def test_listing_unsorted_is_in_order_of_creation():
    """The order is the same on every member, also after a snapshot."""
    store = Store()
    for name in "cab":
        store.set(f"/{name}", "", NOW)
    store.set("/c", "again", NOW)
    assert keys(store.get("/", NOW)) == ["/c", "/a", "/b"]
    restored = Store.restore(store.capture().encode())
    assert keys(restored.get("/", NOW)) == ["/c", "/a", "/b"]


def test_listing_of_empty_store_has_no_nodes():
    """Sorted or not, the field is absent."""
    store = Store()
    assert store.get("/", NOW).body() == b'{"action":"get","node":{"dir":true}}\n'
    assert store.get("/", NOW, sort=True).body() == b'{"action":"get","node":{"dir":true}}\n'


def test_listing_of_very_deep_tree_does_not_recurse():
    """A path of thousands of parts is listed and deleted."""
    store = Store()
    path = "/a" * 2000
    store.set(path, "x", NOW)
    body = store.get("/", NOW, recursive=True, sort=True).body()
    assert body.count(b'"nodes":[') == 2000
    store.delete("/a", NOW, recursive=True)
    assert keys(store.get("/", NOW)) == []
