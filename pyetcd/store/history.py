"""EventHistory: the last events, for watchers that ask from an earlier index on.

Every index of the store has its place here, also those that users do not see (refreshes, changes
of the cluster): so the place of an index is arithmetic, and the oldest index that can still be
asked for is the same on every member.
"""

from collections.abc import Iterator
from typing import Final

from pyetcd.errors import EventIndexCleared
from pyetcd.store.event import Event

# etcd's number; clients rely on it when they decide how often to list again.
CAPACITY: Final = 1000


class EventHistory:
    """A ring of the last events.

    Invariants:
      1. Indexes `first_index` to `last_index` are here, at most CAPACITY of them.
      2. Both are 0 while there is none.
    """

    __slots__ = ("_ring", "first_index", "last_index")

    def __init__(self) -> None:
        """Start empty, as a new store does."""
        self._ring: list[Event | None] = [None] * CAPACITY
        self.first_index = 0
        self.last_index = 0

    def append(self, event: Event | None) -> None:
        """Add what took the next index; None for a change that no user can see."""
        index = self.last_index + 1
        self._ring[index % CAPACITY] = event
        self.last_index = index
        if index - CAPACITY >= self.first_index:
            self.first_index = index - CAPACITY + 1
        elif self.first_index == 0:
            self.first_index = 1

    def events(self, since: int) -> Iterator[Event | None]:
        """Yield what is here from that index on, oldest first; `since` must not be cleared."""
        assert since >= self.first_index, f"{since} lies before {self.first_index}"
        for index in range(since, self.last_index + 1):
            yield self._ring[index % CAPACITY]

    def scan(self, path: str, since: int, *, recursive: bool) -> Event | None:
        """Return the first event from `since` on that a watch of this path would see, if any.

        Raises EventIndexCleared. Differs from a live watch as etcd does: hidden keys are seen by
        recursive watches, and the removal of /foo answers a watch of /foobar.
        """
        if since < self.first_index:
            cause = f"the requested history has been cleared [{self.first_index}/{since}]"
            raise EventIndexCleared(cause, self.last_index)
        below = path if path == "/" else path + "/"
        for event in self.events(since):
            if event is None or event.refresh:
                continue
            if (
                event.key == path
                or (recursive and event.key.startswith(below))
                or (event.removes_directory and path.startswith(event.key))
            ):
                return event
        return None

    @classmethod
    def restore(cls, first_index: int, events: list[Event | None]) -> "EventHistory":
        """Return a history of these events, the first of which took `first_index`."""
        history = cls()
        if events:
            history.first_index = first_index
            history.last_index = first_index - 1
            for event in events:
                history.append(event)
        return history
