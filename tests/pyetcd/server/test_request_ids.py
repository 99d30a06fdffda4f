"""Request ids are unique over restarts, and say whose they are."""

from pyetcd.server.request_ids import RequestIds


def test_ids_have_member_time_and_count() -> None:
    """The layout is etcd's."""
    ids = RequestIds(0x1234, now_milliseconds=0x456)
    assert [f"{ids.next():x}" for _ in range(3)] == [
        "1234000000045601",
        "1234000000045602",
        "1234000000045603",
    ]


def test_ids_of_a_long_member_id_use_its_low_bytes() -> None:
    """Two bytes of the member's id, so that the whole is 64 bits long."""
    ids = RequestIds(0xBF9071F4639C75CC, now_milliseconds=1)
    assert ids.next() == 0x75CC000000000101


def test_ids_after_a_restart_are_other_ones() -> None:
    """A millisecond later is enough, as long as fewer than 256 requests came in it."""
    before = RequestIds(1, now_milliseconds=1000)
    used = {before.next() for _ in range(255)}
    after = RequestIds(1, now_milliseconds=1001)
    assert used.isdisjoint(after.next() for _ in range(255))


def test_ids_run_over_without_touching_the_member() -> None:
    """The 40 bits of time wrap around in 2039."""
    ids = RequestIds(1, now_milliseconds=2**40 - 1)
    got = [ids.next() for _ in range(256)]
    assert got[-1] == 1 << 48
    assert len(set(got)) == 256
