"""Proves that the statistics count as etcd 2.3.8 does, mistakes included."""

import json

import pytest

from pyetcd.errors import EtcdError
from pyetcd.store import Store

NOW = 1_700_000_000_000_000_000

NAMES = (
    "getsSuccess getsFail setsSuccess setsFail deleteSuccess deleteFail updateSuccess updateFail "
    "createSuccess createFail compareAndSwapSuccess compareAndSwapFail compareAndDeleteSuccess "
    "compareAndDeleteFail expireCount watchers"
)


def counted(do) -> dict[str, int]:
    """Return which counters a command moves, and by how much."""
    store = Store()
    store.set("/f", "x", NOW, expiration=NOW + 1)
    store.set("/d/k", "x", NOW)
    before = json.loads(store.stats_body())
    try:
        do(store)
    except EtcdError:
        pass
    after = json.loads(store.stats_body())
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_stats_body_has_etcds_sixteen_keys_in_order():
    """The document is what /v2/stats/store answers, without a newline."""
    body = Store().stats_body()
    assert list(json.loads(body)) == NAMES.split()
    assert body.startswith(b'{"getsSuccess":0,"getsFail":0,')
    assert body.endswith(b'"watchers":0}')


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (lambda s: s.get("/f", NOW), {"getsSuccess": 1}),
        (lambda s: s.get("/none", NOW), {"getsFail": 1}),
        (lambda s: s.set("/f", "", NOW), {"setsSuccess": 1}),
        (lambda s: s.set("/f/x", "", NOW), {"setsFail": 1}),
        (lambda s: s.set("/", "", NOW), {"setsFail": 1}),
        (lambda s: s.set("/d", "", NOW), {"setsFail": 1}),
        (lambda s: s.set("/none", "", NOW, refresh=True), {"setsFail": 1}),
        (lambda s: s.create("/new", "", NOW), {"createSuccess": 1}),
        (lambda s: s.create("/f", "", NOW), {"createFail": 1}),
        (lambda s: s.create("/", "", NOW), {"createFail": 1}),
        (lambda s: s.create("/f/x", "", NOW), {"createFail": 1, "setsFail": 1}),
        (lambda s: s.create_in_order("/", "", NOW), {"createSuccess": 1}),
        (lambda s: s.update("/f", "", NOW), {"updateSuccess": 1}),
        (lambda s: s.update("/none", "", NOW), {"updateFail": 1}),
        (lambda s: s.update("/", "", NOW), {"updateSuccess": 1}),
        (lambda s: s.update("/d", "x", NOW), {"updateSuccess": 1}),
        (lambda s: s.compare_and_swap("/f", "", NOW), {"compareAndSwapSuccess": 1}),
        (lambda s: s.compare_and_swap("/none", "", NOW), {"compareAndSwapFail": 1}),
        (lambda s: s.compare_and_swap("/d", "", NOW), {"compareAndSwapFail": 1}),
        (lambda s: s.compare_and_swap("/", "", NOW), {"compareAndSwapSuccess": 1}),
        (lambda s: s.compare_and_swap("/f", "", NOW, prev_index=9), {"compareAndSwapFail": 1}),
        (lambda s: s.delete("/f", NOW), {"deleteSuccess": 1}),
        (lambda s: s.delete("/none", NOW), {"deleteFail": 1}),
        (lambda s: s.delete("/d", NOW), {"deleteFail": 1}),
        (lambda s: s.delete("/d", NOW, directory=True), {"deleteFail": 1}),
        (lambda s: s.delete("/", NOW), {"deleteSuccess": 1}),
        (lambda s: s.compare_and_delete("/f", NOW), {"compareAndDeleteSuccess": 1}),
        (lambda s: s.compare_and_delete("/none", NOW), {"compareAndDeleteFail": 1}),
        (lambda s: s.compare_and_delete("/d", NOW), {"compareAndDeleteSuccess": 1}),
        (lambda s: s.compare_and_delete("/", NOW), {"compareAndDeleteSuccess": 1}),
        (
            lambda s: s.compare_and_delete("/f", NOW, prev_value="y"),
            {"compareAndDeleteSuccess": 1},
        ),
        (lambda s: s.expire(NOW + 1, 10), {"expireCount": 1}),
        (lambda s: s.watch("/f", print), {"watchers": 1}),
        (lambda s: s.advance_index(), {}),
    ],
)
def test_stats_count_each_outcome_as_etcd_does(do, expected):
    """One command, the counters that it moves."""
    assert counted(do) == expected


def test_stats_of_writes_survive_a_snapshot_and_reads_do_not():
    """Reads are counted where they were served, so a snapshot must not have them."""
    store = Store()
    store.set("/k", "", NOW)
    store.get("/k", NOW)
    restored = Store.restore(store.capture().encode())
    assert restored.stats.sets_success == 1
    assert restored.stats.gets_success == 0
    store.install(restored)
    assert store.stats.gets_success == 1
