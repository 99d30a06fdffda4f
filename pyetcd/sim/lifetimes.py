"""How long keys with a TTL live: never shorter than that, by a clock that none of the members sees.

A key's life begins when its client asked for it, and is measured in the world's own time. The one
excuse for an end that comes early is that all members that knew the time were down meanwhile, so
that their wall clocks had to do.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pyetcd.sim.requests import Request
from pyetcd.store import Event
from raft.sim import MILLISECOND, SECOND, Unsafe, World

# What the leader's clock may gain on the longest TTL of the clients, while it comes to its wall
# clock, is some milliseconds.
SLACK_US: Final = 10 * MILLISECOND


class _Life(NamedTuple):
    until: int
    settings: int


class Lifetimes:
    """The end that was promised to each key, by the index at which it was."""

    def __init__(self, world: World, settings: Callable[[], int]) -> None:
        """`settings` is how often wall clocks had to do."""
        self._world = world
        self._settings = settings
        self._lives: dict[int, _Life] = {}
        # Keys whose refreshes were applied before they were answered, and when they ended.
        self._ends: dict[int, int] = {}

    def asked(self, request: Request) -> None:
        """A request is made."""
        request.asked_at = self._world.clock.now
        request.settings = self._settings()

    def began(self, request: Request, etcd_index: int) -> None:
        """It has happened, or is answered, at this index."""
        ttl = request.fields.get("ttl")
        if ttl is None or etcd_index in self._lives:
            return
        life = _Life(request.asked_at + int(ttl) * SECOND, request.settings)
        self._lives[etcd_index] = life
        end = self._ends.pop(etcd_index, None)
        if end is not None:
            self._judge(request.key, life, end)

    def check(self, event: Event) -> None:
        """A key expires. Raises Unsafe if it does so early."""
        assert event.prev_node is not None, "nothing expires"
        index, now = event.prev_node.modified_index, self._world.clock.now
        life = self._lives.get(index)
        if life is None:
            self._ends[index] = now
        else:
            self._judge(event.key, life, now)

    def _judge(self, key: str, life: _Life, end: int) -> None:
        if life.settings != self._settings():
            return
        self._world.count("ends of keys in time")
        if end < life.until - SLACK_US:
            raise Unsafe(f"{key} expires {(life.until - end) / SECOND:.3f} s early")
