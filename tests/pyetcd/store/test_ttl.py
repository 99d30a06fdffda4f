"""Proves that the queue knows the first expiration, and stays small."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.store.ttl import ExpirationQueue


def test_empty_queue_has_no_first():
    """Nothing expires in a new queue."""
    queue = ExpirationQueue()
    assert queue.first() is None
    assert len(queue) == 0


def test_queue_with_ties_orders_them_by_path():
    """Equal times must expire in the same order on every member."""
    queue = ExpirationQueue()
    for path in ("/c", "/a", "/b"):
        queue.put(path, 5)
    order = []
    while (first := queue.first()) is not None:
        order.append(first[1])
        queue.put(first[1], 0)
    assert order == ["/a", "/b", "/c"]


def test_queue_forgets_the_earlier_time_of_a_refreshed_key():
    """The old entry in the heap is stale and never seen."""
    queue = ExpirationQueue()
    queue.put("/a", 1)
    queue.put("/a", 9)
    queue.put("/b", 5)
    assert queue.first() == (5, "/b")


def test_queue_of_one_key_refreshed_a_million_times_stays_small():
    """Lazy deletion is bounded."""
    queue = ExpirationQueue()
    for moment in range(1, 20_000):
        queue.put("/a", moment)
    assert len(queue._heap) <= 66
    assert queue.first() == (19_999, "/a")
    queue.check()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=150))
def test_queue_agrees_with_a_dictionary(changes):
    """After any changes the first entry is the smallest of what is left."""
    queue, expected = ExpirationQueue(), {}
    for path, moment in changes:
        queue.put(path, moment)
        expected[path] = moment
        if moment == 0:
            del expected[path]
        assert queue.first() == min(((when, key) for key, when in expected.items()), default=None)
        assert len(queue) == len(expected)
        queue.check()
