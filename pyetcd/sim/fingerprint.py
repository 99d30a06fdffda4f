"""A number for the whole replicated state of a member, for comparing members at equal indexes.

Of history only what is new is looked at, so that a look after every batch stays cheap.
"""

from collections import deque

from pyetcd.server.apply import Applier
from pyetcd.store import Event

# As many as the store keeps.
_HISTORY_EVENTS = 1000


class Fingerprint:
    """Remembers what it has seen of one member's history."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._last_index = 0
        self._history: deque[int] = deque(maxlen=_HISTORY_EVENTS)
        self._sum = 0

    def restored(self) -> None:
        """The state was replaced: look at all of it."""
        self._last_index = 0
        self._history.clear()
        self._sum = 0

    def take(self) -> int:
        """Return what is equal for equal states, and different for most others."""
        store, applier = self._applier.store, self._applier
        for event in store.history(self._last_index + 1):
            if len(self._history) == _HISTORY_EVENTS:
                self._sum -= self._history[0]
            self._history.append(_number_of(event))
            self._sum += self._history[-1]
        self._last_index = store.index
        nodes = tuple(
            (node.path, node.value, node.created_index, node.modified_index, node.expiration)
            for node in store.nodes()
        )
        rest = repr((applier.cluster.encode(), applier.auth.encode(), store.stats.writes()))
        return hash((store.index, nodes, self._sum, store.next_expiration(), rest))


def _number_of(event: Event | None) -> int:
    """Return a number for an event in its place."""
    if event is None:
        return 1
    nodes = repr((event.node, event.prev_node))
    return hash((event.action, event.etcd_index, event.key, nodes, event.now, event.refresh))
