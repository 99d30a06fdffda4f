"""The cluster's clock as one member has it: what TTLs go by, whatever is done to wall clocks.

Cluster time is the leader's. Every member keeps two bounds for it, as offsets against its own
monotonic clock, which nobody sets: it is `low` at least, since the leader has told so much and time
has passed since; it is `high` at most, since the leader told it after it had been asked. A key gets
its end by `high` of the member that was asked, and a member that is elected goes on from `low`: so
cluster time never overtakes what a key's end was computed from, and no key expires early.

Wall clocks matter where nobody knows the time, that is after all were down, and for the leader,
whose clock goes slightly slower or faster until it shows what its wall clock does.

Nothing here waits, writes or reads a clock that it was not given. All times are nanoseconds.
"""

from collections.abc import Callable
from typing import Final

SECOND: Final = 1_000_000_000
# The leader's clock goes at most this part slower or faster (1 in 2048, about 500 ppm) in order to
# come to its wall clock: a TTL of an hour is 2 s short or long then, and more is not tried.
SLEW: Final = 2048
# How far apart two monotonic clocks may go, with such a leader: twice that.
DRIFT: Final = 1024
# A leader that stood still makes up for so much of it only.
_LONGEST_SLEW: Final = 2 * SECOND


class ClusterClock:
    """Bounds for cluster time.

    Invariants:
      1. `_low <= _high`, both offsets against the monotonic clock; equal while this member leads.
      2. Once the time is known it stays known.
    """

    def __init__(self, wall: Callable[[], int], monotonic: Callable[[], int]) -> None:
        """`wall` counts from the epoch and may be set; `monotonic` goes on by itself."""
        self._wall = wall
        self._monotonic = monotonic
        self._low = self._high = wall() - monotonic()
        # Whether a leader has told the time to this process, or it has led.
        self.known = False
        # How often wall clocks had to do.
        self.settings = 0
        # When a leader's time was heard last, and when this leader's was measured; -1 for never.
        self._heard_at = -1
        self._measured_at = -1
        self._slewed_at = 0
        # Whether the leader of the term that was begun last has told the time.
        self.heard_this_term = True

    def now(self) -> int:
        """Return the latest that cluster time may be. It may go back a little."""
        return self._monotonic() + self._high

    def earliest(self) -> int:
        """Return the earliest that cluster time may be; the leader's is exactly this."""
        return self._monotonic() + self._low

    def wall(self) -> int:
        """Return what the wall clock shows."""
        return self._wall()

    def monotonic(self) -> int:
        """Return the time on the clock that nobody sets."""
        return self._monotonic()

    def measured_seconds_ago(self) -> float:
        """Return how old the upper bound is; infinite without one."""
        if self._measured_at < 0:
            return float("inf")
        return (self._monotonic() - self._measured_at) / SECOND

    # -------------------------------------------------------------------------- as a follower

    def begin_term(self) -> None:
        """Another member leads, and its clock is another.

        It may be behind that of the last leader, and so must we be. It tells the time before it
        puts an end to any key: until that is heard, what was heard of its predecessor will do. It
        may be ahead, too, if it went by wall clocks since all it could ask were down: what was
        measured before does not count any more.
        """
        self.heard_this_term = False
        self._measured_at = -1

    def hear(self, told: int) -> None:
        """The leader has told this time, a moment or long ago: it is that late at least."""
        moment = self._monotonic()
        low = told - moment
        if self._heard_at >= 0 and self.heard_this_term:
            # What was heard before is better, as long as clocks have not drifted apart.
            low = max(low, self._low - (moment - self._heard_at) // DRIFT)
        self._low = low
        self._high = max(self._high, low)
        self._heard_at = moment
        self.heard_this_term = True

    def measure(self, told: int, asked_at: int) -> None:
        """What was told just now was told after we had asked: it is no later than that."""
        moment = self._monotonic()
        high = told - asked_at
        if self.known and self._measured_at >= 0:
            high = min(high, self._high + (moment - self._measured_at) // DRIFT)
        self._high = max(high, self._low)
        self._measured_at = moment
        self.known = True

    # --------------------------------------------------------------------------- as the leader

    def lead(self) -> None:
        """From here on this clock is the cluster's; the time must be known."""
        assert self.known, "a leader that does not know the time"
        self._high = self._low
        self.heard_this_term = True
        self._slewed_at = self._heard_at = self._measured_at = self._monotonic()

    def set(self, time: int, *, by_walls: bool) -> None:
        """It is so late at least, as somebody says who knows, or as most wall clocks say."""
        low = time - self._monotonic()
        self._low = low if self._heard_at < 0 else max(low, self._low)
        self._high = max(self._high, self._low)
        self.known = True
        self.settings += by_walls

    def tell(self) -> int:
        """Return the time that the leader tells."""
        moment = self._monotonic()
        self._heard_at = self._measured_at = moment
        return moment + self._low

    def slew(self) -> None:
        """Come a little closer to the leader's wall clock; to be called every second."""
        moment = self._monotonic()
        most = min(moment - self._slewed_at, _LONGEST_SLEW) // SLEW
        error = self._wall() - moment - self._low
        self._low += max(-most, min(error, most))
        self._high = self._low
        self._slewed_at = moment
