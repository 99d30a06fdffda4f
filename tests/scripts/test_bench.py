"""The benchmark's frame: what it measures, and what it says when something is missing."""

import pytest

from scripts import bench, raft_bench


def test_missing_library_is_named_with_what_to_type() -> None:
    """Nobody has to look for the reason."""
    with pytest.raises(SystemExit) as caught:
        raft_bench.require_other(lambda name: None)
    assert "PySyncObj" in str(caught.value)
    assert "pip install -e '.[bench]'" in str(caught.value)
    assert "--only server" in str(caught.value)


def test_installed_library_is_no_reason_to_end() -> None:
    """Whatever `find_spec` returns for it."""
    raft_bench.require_other(lambda name: name)


def test_raft_table_shows_both_at_equal_durability() -> None:
    """One line for each promise, with the ratio of the medians of what was measured in turn."""
    rates = {
        ("node", "durable"): [12_000, 1, 99_999],
        ("pysyncobj", "durable"): [1_000, 999, 5_000],
        ("node", "not durable"): [30_000, 30_001, 29_999],
        ("pysyncobj", "not durable"): [4_000] * 3,
    }
    asked: list[str] = []

    def measure(kind: str, promise: str) -> int:
        asked.append(kind)
        return rates[kind, promise].pop()

    lines = list(raft_bench.table(measure))
    assert [line.split() for line in lines] == [
        ["entries/s", "raft.Node", "PySyncObj", "ratio"],
        ["durable", "12,000", "1,000", "12.0"],
        ["not", "durable", "30,000", "4,000", "7.5"],
    ]
    assert asked == ["node", "pysyncobj"] * 6


@pytest.mark.parametrize(
    ("arguments", "done"),
    [
        ([], ["require", "server", "raft"]),
        (["--only", "server"], ["server"]),
        (["--only", "raft"], ["require", "raft"]),
    ],
)
def test_only_leaves_the_other_one_out(
    arguments: list[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is found out before anything takes time."""
    calls: list[str] = []
    monkeypatch.setattr(bench, "measure_server", lambda: calls.append("server"))
    monkeypatch.setattr(bench, "measure_raft", lambda: calls.append("raft"))
    monkeypatch.setattr(raft_bench, "require_other", lambda: calls.append("require"))
    bench.main(arguments)
    assert calls == done
