"""The mutants of keys and of their expiry."""

from typing import Final

from tests.mutants.patch import PYETCD, mutant

STORE_CLASS: Final = "pyetcd.store.store:Store."
CLOCK: Final = "pyetcd.server.clock:ClusterClock."
TIMEKEEPER: Final = "pyetcd.server.timekeeper:Timekeeper."
APPLIER: Final = "pyetcd.server.apply:Applier."
RESTORER: Final = "pyetcd.store.snapshot:Restorer."

STORE: Final = (
    mutant(
        "M51",
        "every member removes expired keys by its own clock",
        (
            APPLIER + "_run",
            "store.expire(cutoff, limit)",
            "store.expire(self._observer.now(), limit)",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M52",
        "keys that come from a snapshot never expire",
        (RESTORER + "_take_nodes", "tree.expirations.put(path, expiration)", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M52b",
        "keys expire early",
        (TIMEKEEPER + "_sync", "Sync(now, SYNC_LIMIT)", "Sync(now + 10**9, SYNC_LIMIT)"),
        killer=PYETCD,
    ),
    mutant(
        "M52c",
        "a new leader does not remove what expires",
        (TIMEKEEPER + "on_leadership", "self._syncing = False\n", "self._syncing = True\n"),
        killer=PYETCD,
    ),
    mutant(
        "M52d",
        "keys are removed before their time, the earliest first",
        (STORE_CLASS + "expire", "first is None or first[0] > cutoff", "first is None"),
        killer=PYETCD,
    ),
    mutant(
        "M52e",
        "a key keeps its old time when it is set anew",
        ("pyetcd.store.tree:Tree.replace", "new.expiration != old.expiration", "False"),
        killer=PYETCD,
    ),
    mutant(
        "M52f",
        "a key gets its time by the wall clock of the member that was asked",
        (CLOCK + "now", "self._monotonic() + self._high", "self._wall()"),
        killer=PYETCD,
    ),
    mutant(
        "M52g",
        "the leader removes what has expired by its wall clock",
        (CLOCK + "earliest", "self._monotonic() + self._low", "self._wall()"),
        killer=PYETCD,
    ),
    mutant(
        "M52h",
        "a member that is told the time takes it for the present",
        (CLOCK + "measure", "high = told - asked_at", "high = told - moment"),
        killer=PYETCD,
    ),
    mutant(
        "M52i",
        "a leader that was told no time goes by its own wall clock at once",
        (TIMEKEEPER + "_take_wall", "2 * len(walls) > len(voters)", "walls"),
        killer="tests/pyetcd/server/test_timekeeper.py",
    ),
    mutant(
        "M52j",
        "a command keeps the time of a member that is behind",
        (APPLIER + "_execute", "if now < self.time:", "if False:"),
        killer="tests/pyetcd/server/test_apply.py",
    ),
    mutant(
        "M52k",
        "a leader that is elected again goes on from its own clock, not its successor's",
        (CLOCK + "hear", "and self.heard_this_term", ""),
        killer="tests/pyetcd/server/test_timekeeper.py",
    ),
    mutant(
        "M52l",
        "what was measured of a leader's clock counts for the next one's",
        (CLOCK + "begin_term", "self._measured_at = -1", "pass"),
        (TIMEKEEPER + "knows_time", "self._term != self._node.core.term", "False"),
        killer="tests/pyetcd/server/test_timekeeper.py",
    ),
    mutant(
        "M52m",
        "the end of a key that the last leader's clock gave is proposed to the next",
        ("pyetcd.server.pending:_is_overtaken", "waiter.made_in != term", "False"),
        killer="tests/pyetcd/server/test_overtaken.py",
    ),
    mutant(
        "M52n",
        "a member that is elected goes by its clock before it has heard what others have told",
        (TIMEKEEPER + "_leads", "self._office_term == self._node.core.term and ", ""),
        killer="tests/pyetcd/server/test_timekeeper.py",
    ),
    mutant(
        "M52o",
        "a member that knows the time does not ask a new leader again, which may not",
        (TIMEKEEPER + "_ask_again", "not self._hears_leader", "not self._clock.known"),
        killer="tests/pyetcd/server/test_timekeeper.py",
    ),
    mutant(
        "M53",
        "a refresh tells the watchers",
        (STORE_CLASS + "_commit", "if event.refresh:", "if False:"),
        killer=PYETCD,
    ),
    mutant(
        "M53b",
        "a refresh clears the value",
        (STORE_CLASS + "set", "value = prev_node.value", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M53c",
        "a snapshot forgets which events were refreshes",
        (
            "pyetcd.store.snapshot:_event_of",
            "node, prev_node, now, refresh)",
            "node, prev_node, now, False)",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M57",
        "history begins anew after a snapshot",
        (STORE_CLASS + "from_restorer", "restorer.history", "type(restorer.history)()"),
        killer=PYETCD,
    ),
    mutant(
        "M57b",
        "history skips the changes that users do not see",
        (STORE_CLASS + "advance_index", "self._hub.history.append(None)", "pass"),
        killer=PYETCD,
    ),
    mutant(
        "M58",
        "the index is not compared when the value is given too",
        (
            STORE_CLASS + "_compared",
            "prev_index not in (0, node.modified_index)",
            "not prev_value and prev_index not in (0, node.modified_index)",
        ),
        killer=PYETCD,
    ),
    mutant(
        "M58b",
        "a comparison that fails takes an index",
        (
            STORE_CLASS + "_compared",
            'raise CompareFailed(" ".join(failures), self.index)',
            'raise CompareFailed(" ".join(failures), self.advance_index())',
        ),
        killer="tests/pyetcd/store/test_store.py",
    ),
    mutant(
        "M58c",
        "the cause of a failed comparison names the value only",
        (STORE_CLASS + "_compared", '" ".join(failures)', "failures[0]"),
        killer=PYETCD,
    ),
    mutant(
        "M58d",
        "create overwrites",
        (STORE_CLASS + "create", "if present is not None:", "if False:"),
        killer=PYETCD,
    ),
    mutant(
        "M59",
        "in-order keys are named by a count that starts anew with each member",
        (
            STORE_CLASS + "create_in_order",
            "{self.index + 1:020d}",
            "{self.stats.gets_success:020d}",
        ),
        killer=PYETCD,
    ),
)
