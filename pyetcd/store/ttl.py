"""ExpirationQueue: which keys expire, and which of them first.

A heap with lazy deletion beside a dictionary that holds the truth. Ties are broken by path, so
every member expires the same keys in the same order whatever the heap looks like inside. The
heap is rebuilt when more than half of it is stale: a key refreshed a million times costs the
space of one.
"""

from heapq import heapify, heappop, heappush

# Below this many entries a rebuild is not worth its calls.
_SMALLEST_REBUILD = 64


class ExpirationQueue:
    """The expirations of all keys that have one.

    Invariants:
      1. Every pair of path and expiration in `_expirations` is in `_heap`.
      2. `len(_heap) <= 2 * len(_expirations) + _SMALLEST_REBUILD`.
    """

    __slots__ = ("_expirations", "_heap")

    def __init__(self) -> None:
        """Start with no key that expires."""
        self._expirations: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        """Return the number of keys that expire."""
        return len(self._expirations)

    def put(self, path: str, expiration: int) -> None:
        """Let the key expire then, and not when it would have before; 0 means never."""
        if expiration == 0:
            self._expirations.pop(path, None)
        else:
            self._expirations[path] = expiration
            heappush(self._heap, (expiration, path))
        if len(self._heap) > 2 * len(self._expirations) + _SMALLEST_REBUILD:
            self._heap = [(moment, path) for path, moment in self._expirations.items()]
            heapify(self._heap)

    def first(self) -> tuple[int, str] | None:
        """Return the earliest expiration and its key, or None when no key expires."""
        heap, expirations = self._heap, self._expirations
        while heap and expirations.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0] if heap else None

    def check(self) -> None:
        """Assert the invariants above."""
        missing = {(moment, path) for path, moment in self._expirations.items()} - set(self._heap)
        assert not missing, f"no heap entry for {sorted(missing)}"
        entries, keys = len(self._heap), len(self._expirations)
        assert entries <= 2 * keys + _SMALLEST_REBUILD, f"{entries} entries for {keys} keys"
