"""The mutants of watches."""

from typing import Final

from tests.mutants.patch import PYETCD, mutant

HUB: Final = "pyetcd.store.watch:WatcherHub."
TELL: Final = "pyetcd.store.watch:_tell"
HISTORY: Final = "pyetcd.store.history:EventHistory."
STORE_CLASS: Final = "pyetcd.store.store:Store."

WATCHES: Final = (
    mutant(
        "M54",
        "history is searched from the index after waitIndex",
        (HISTORY + "scan", "self.events(since)", "self.events(since + 1)"),
        killer=PYETCD,
    ),
    mutant(
        "M54b",
        "a watch of a future index is told of earlier events",
        (TELL, "watcher.since_index <= index", "watcher.since_index <= max(index, 1 << 40)"),
        killer=PYETCD,
    ),
    mutant(
        "M54c",
        "the event at waitIndex itself is not for the watcher",
        (TELL, "watcher.since_index <= index", "watcher.since_index < index"),
        killer=PYETCD,
    ),
    mutant(
        "M54d",
        "what history has forgotten is waited for",
        (HISTORY + "scan", "since < self.first_index", "False"),
        (HISTORY + "scan", "self.events(since)", "self.events(max(since, self.first_index))"),
        killer="tests/pyetcd/store/test_history.py",
    ),
    mutant(
        "M55",
        "history is not searched",
        (HUB + "watch", "watcher.history_event is None", "True"),
        (HUB + "watch", "watcher.history_event = self.history.scan(", "(lambda *a, **k: None)("),
        killer=PYETCD,
    ),
    mutant(
        "M55b",
        "watchers are not told what a snapshot has brought",
        (HUB + "install", "self._catch_up(watcher, max(missed_from, watcher.since_index))", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M55c",
        "a watcher that is removed by its event costs the next one its own",
        (TELL, "for watcher in list(group):", "for watcher in list(group)[:1]:"),
        killer=PYETCD,
    ),
    mutant(
        "M56",
        "who watches a key below a removed directory is not told",
        (STORE_CLASS + "_remove", "self._hub.notify_removed(path, event)", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M56b",
        "hidden keys are told to those who watch a directory above",
        (
            HUB + "_notify_upward",
            "return  # hidden from all that is further up",
            "pass",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M56c",
        "a watcher of a directory is told of what is beside it",
        (HUB + "_notify_upward", 'path = path[:cut] or "/"', 'path = path[: cut - 1] or "/"'),
        killer=PYETCD,
    ),
    mutant(
        "M62",
        "a watcher stays when its client has gone",
        ("pyetcd.api.watch:_Watch.leave", "self._watcher.remove()", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M62b",
        "a stream keeps all that its client does not read",
        ("pyetcd.httpd.response:Stream._write_slowly", "self._outlet.stream_bytes", "(1 << 60)"),
        killer="tests/pyetcd/httpd/test_stream.py",
    ),
)
