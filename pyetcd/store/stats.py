"""StoreStats: the sixteen counters of /v2/stats/store.

They count what etcd 2.3.8 counts, mistakes included: some refusals are successes here (see
`store.py`, which knows which). Reads are counted by the member that served them, so only the
counters of writes are the same on every member, and only those go into a snapshot.
"""

import json
from dataclasses import astuple, dataclass


@dataclass(slots=True)
class StoreStats:
    """Counters, in the order in which etcd prints them."""

    gets_success: int = 0
    gets_fail: int = 0
    sets_success: int = 0
    sets_fail: int = 0
    delete_success: int = 0
    delete_fail: int = 0
    update_success: int = 0
    update_fail: int = 0
    create_success: int = 0
    create_fail: int = 0
    compare_and_swap_success: int = 0
    compare_and_swap_fail: int = 0
    compare_and_delete_success: int = 0
    compare_and_delete_fail: int = 0
    expire_count: int = 0

    def as_dict(self, *, watchers: int) -> dict[str, int]:
        """Return the counters under etcd's names."""
        return dict(zip(_NAMES, (*astuple(self), watchers), strict=True))

    def body(self, *, watchers: int) -> bytes:
        """Return the JSON document, which has no newline."""
        return json.dumps(self.as_dict(watchers=watchers), separators=(",", ":")).encode()

    def writes(self) -> tuple[int, ...]:
        """Return the counters that are the same on every member."""
        counters: tuple[int, ...] = astuple(self)
        return counters[_READS:]

    @classmethod
    def from_writes(cls, counters: tuple[int, ...]) -> "StoreStats":
        """Return the counters of a snapshot; reads begin at 0 again."""
        return cls(*(0,) * _READS, *counters)


# The counters of reads come first.
_READS = 2
# How many counters `writes` returns.
WRITE_COUNTERS = 13

_NAMES = (
    "getsSuccess",
    "getsFail",
    "setsSuccess",
    "setsFail",
    "deleteSuccess",
    "deleteFail",
    "updateSuccess",
    "updateFail",
    "createSuccess",
    "createFail",
    "compareAndSwapSuccess",
    "compareAndSwapFail",
    "compareAndDeleteSuccess",
    "compareAndDeleteFail",
    "expireCount",
    "watchers",
)
