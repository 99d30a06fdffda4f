"""Timekeeping: which time it is in the cluster, and the removal of keys whose time has come.

The leader tells the time through the log (`TellTime`): when a member asks (`AskTime`), and now and
then while keys expire. See `clock.py` for what members make of it. Whoever takes a TTL must have
asked not long ago. Members ask when there is a new leader, so that there is seldom a need to wait.

A member that leads and was told no time since it started tells none, and removes nothing, until
one that knows says what it is, or a majority have said what their wall clocks show: then it is the
lower median of these, and never earlier than what the log has seen. A question carries that, so
nobody needs to be asked.
"""

import asyncio
import logging
from functools import partial
from typing import Final

from pyetcd.command import AskTime, Overtaken, Sync, TellTime, encode
from pyetcd.errors import EtcdError, RaftInternal
from pyetcd.server.apply import Applier, Result
from pyetcd.server.clock import SECOND, ClusterClock
from pyetcd.server.pending import Pending, ReadDone
from pyetcd.server.surroundings import RaftNode
from raft import Leadership, RaftError

log = logging.getLogger(__name__)

# Keys that come in with a short ttl are noticed so late at most.
SYNC_SECONDS: Final = 0.25
# One Sync removes at most so many keys: some milliseconds, on every member at once.
SYNC_LIMIT: Final = 1_000
# While keys expire, the leader tells the time this often: whoever follows it has drifted by some
# hundredths of a second at most.
TELL_SECONDS: Final = 30.0
# The age at which a measurement is made anew by the way, and at which a TTL waits for that.
STALE_SECONDS: Final = 10.0
TOO_OLD_SECONDS: Final = 30.0
SLEW_SECONDS: Final = 1.0
# A question that a leader has read is answered at once, or never: it may have been deposed.
ANSWER_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 0.25


class Timekeeper:
    """One member's part in the cluster's time.

    Invariants:
      1. Only a leader tells the time or proposes to remove keys, one step at a time, and only once
         it knows the time.
      2. Whoever waits for the time is called back exactly once.
    """

    def __init__(
        self,
        clock: ClusterClock,
        applier: Applier,
        pending: Pending,
        *,
        member_id: int,
    ) -> None:
        self._clock = clock
        self._applier = applier
        self._store = applier.store
        self._pending = pending
        self._member_id = member_id
        self._loop = asyncio.get_running_loop()
        self._sync_timer: asyncio.TimerHandle | None = None
        self._slew_timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._syncing = False
        self._is_telling = False
        self._told_at = 0
        # Our question: its number, when it was asked, and whether the leader has read it.
        self._question = 0
        self._asked_at = -1
        self._is_read = False
        # Who waits for the time, and until which sweep of `pending`.
        self._waiting: list[tuple[int, ReadDone]] = []
        # What the wall clocks of members showed, in this term, if nobody has known the time.
        self._walls: dict[int, int] = {}
        # The term whose leader's clock is followed, and the one in which ours is the cluster's.
        self._term = 0
        self._office_term = 0
        self._stopping = False

    def attach(self, node: RaftNode) -> None:
        """Give it the log."""
        self._node = node

    def stop(self) -> None:
        """Do nothing more."""
        self._stopping = True
        for timer in (self._sync_timer, self._slew_timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        self._answer_all(RaftInternal("etcdserver: server stopped"))

    @property
    def _is_elected(self) -> bool:
        node = self._node
        return node.leadership.role == "leader" and node.core.leader == self._member_id

    @property
    def _leads(self) -> bool:
        """Whether our clock is the cluster's: not before all that others have told is heard."""
        return self._office_term == self._node.core.term and self._is_elected

    @property
    def _hears_leader(self) -> bool:
        """Whether the leader of this term has told the time."""
        clock = self._clock
        return clock.known and clock.heard_this_term and self._term == self._node.core.term

    # -------------------------------------------------------------------------- for those who ask

    def knows_time(self) -> bool:
        """Whether a TTL may be turned into a time; else wait for `learn`."""
        clock = self._clock
        if not clock.known:
            return False
        if self._leads:
            return True
        if self._term != self._node.core.term:
            # Nobody can tell how the clock of the next leader will differ from this one's.
            return False
        age = clock.measured_seconds_ago()
        if age > STALE_SECONDS:
            self._ask()
        return age <= TOO_OLD_SECONDS

    def learn(self, done: ReadDone, last_sweep: int) -> None:
        """Call `done` when the time is known, or with what has gone wrong by `last_sweep`."""
        self._waiting.append((last_sweep, done))
        if not self._is_elected:
            self._ask()
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _ask(self) -> None:
        """Ask the leader, unless it is being asked."""
        if self._stopping:
            return
        clock = self._clock
        moment = clock.monotonic()
        if self._asked_at >= 0:
            if not self._is_read or moment - self._asked_at < ANSWER_SECONDS * SECOND:
                return
        self._question += 1
        self._asked_at = moment
        self._is_read = False
        time = clock.earliest() if clock.known else clock.wall()
        command = AskTime(self._member_id, time, clock.known)
        self._pending.propose(command, partial(self._read, self._question), 0)

    def _read(self, question: int, result: Result) -> None:
        """Our question was applied here: the next time that is told is the answer."""
        if question != self._question:
            return
        if isinstance(result, EtcdError):
            self._asked_at = -1
            self._answer_all(result)
            self._loop.call_later(ANSWER_SECONDS, self._ask_again, question)
        elif isinstance(result, Overtaken):
            # Whoever leads now is asked anew.
            self._asked_at = -1
        else:
            self._is_read = True

    def _ask_again(self, question: int) -> None:
        """The question may have been lost, and this leader may not know the time without us."""
        if question == self._question and not self._is_elected and not self._hears_leader:
            self._ask()

    def _sweep(self) -> None:
        self._sweep_timer = None
        now = self._pending.sweeps
        late = [done for last_sweep, done in self._waiting if last_sweep <= now]
        self._waiting = [it for it in self._waiting if it[0] > now]
        for done in late:
            done(RaftInternal("etcdserver: request timed out"))
        if self._waiting and not self._stopping:
            if not self._is_elected:
                self._ask()
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _answer_all(self, error: EtcdError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(error)

    # -------------------------------------------------------------------------- what the log tells

    def on_leadership(self, leadership: Leadership) -> None:
        """There is a leader: ask it for the time. Its words come before it may remove anything."""
        if leadership.role == "leader":
            self._syncing = False
            self.arm_sync()
        elif leadership.leader:
            # Not the answer of the one before, nor a question that had to wait for this one.
            self._asked_at = -1
            self._ask()

    def on_term_began(self, term: int) -> None:
        """All that was committed before this term is applied; if we lead, we have the clock."""
        if not self._is_elected or term != self._node.core.term:
            self._follow(term)
            return
        self._office_term = term
        self._walls.clear()
        if self._clock.known:
            self._take_office()
        else:
            self._take_wall(self._member_id, self._clock.wall())

    def on_time_asked(self, member_id: int, time: int, known: bool) -> None:
        """A member asks, and says what it knows."""
        if not self._leads:
            return
        if not self._clock.known:
            if known:
                self._clock.set(max(time, self._applier.time), by_walls=False)
                self._take_office()
            else:
                self._take_wall(member_id, time)
        if self._clock.known:
            self._tell_soon()

    def _follow(self, term: int) -> None:
        """Go by the clock of this term's leader."""
        if term > self._term:
            self._term = term
            self._clock.begin_term()

    def on_time_told(self, time: int, term: int) -> None:
        """The leader of this term has told the time."""
        if self._leads:
            return
        # The term's first entry may have been in a snapshot.
        self._follow(term)
        self._clock.hear(time)
        if self._asked_at >= 0 and self._is_read:
            self._clock.measure(time, self._asked_at)
            self._asked_at = -1
            self._answer_all(None)

    # --------------------------------------------------------------------------- as the leader

    def _take_wall(self, member_id: int, time: int) -> None:
        """Nobody has known the time so far: a majority's wall clocks decide."""
        self._walls[member_id] = time
        voters = self._node.core.configuration.voters
        walls = sorted(wall for member, wall in self._walls.items() if member in voters)
        if 2 * len(walls) > len(voters):
            median = walls[(len(walls) - 1) // 2]
            self._clock.set(max(median, self._applier.time), by_walls=True)
            self._take_office()

    def _take_office(self) -> None:
        self._clock.lead()
        self._asked_at = -1
        if len(self._node.core.configuration.voters) > 1:
            # Before any key gets its end by this clock: a successor goes on from there.
            self._tell()
        if self._slew_timer is None and not self._stopping:
            self._slew_timer = self._loop.call_later(SLEW_SECONDS, self._slew)
        self._answer_all(None)
        self.arm_sync()

    def _slew(self) -> None:
        self._slew_timer = None
        if self._leads and not self._stopping:
            self._clock.slew()
            self._slew_timer = self._loop.call_later(SLEW_SECONDS, self._slew)
            self.arm_sync()

    def _tell_soon(self) -> None:
        """Tell the time, once to all who have asked, and not in the midst of applying."""
        if not self._is_telling:
            self._is_telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._is_telling = False
        if not self._leads or self._stopping:
            return
        time = self._clock.tell()
        self._told_at = self._clock.monotonic()
        try:
            # Never held back and proposed later: it would be taken for the time of then.
            self._node.propose(encode(0, time, TellTime(time)))
        except RaftError as error:
            log.debug("the time is not told: %s", error)

    def arm_sync(self) -> None:
        """Have the expired keys removed as soon as there are some; only the leader does."""
        # Asked after each batch that is applied, mostly in a store where no key expires.
        expiration = self._store.next_expiration()
        if expiration is None or self._sync_timer is not None or self._syncing or self._stopping:
            return
        if not self._leads or not self._clock.known:
            return
        if self._clock.monotonic() - self._told_at >= TELL_SECONDS * SECOND:
            if len(self._node.core.configuration.voters) > 1:
                self._tell_soon()
        # A key that expires sooner than the next one known may come in any time: look often
        # enough to be on time, and not more.
        delay = min(max((expiration - self._clock.earliest()) / SECOND, 0.0), SYNC_SECONDS)
        self._sync_timer = self._loop.call_later(delay, self._sync)

    def _sync(self) -> None:
        self._sync_timer = None
        expiration = self._store.next_expiration()
        now = self._clock.earliest()
        if expiration is None or not self._leads or self._stopping:
            return
        if expiration > now:
            self.arm_sync()
            return
        self._syncing = True
        self._pending.propose(Sync(now, SYNC_LIMIT), self._synced, 0)

    def _synced(self, result: Result) -> None:
        if isinstance(result, EtcdError):
            # Not at once: a full disk refuses at once, too.
            self._loop.call_later(SYNC_SECONDS, self._sync_again)
        else:
            self._sync_again()

    def _sync_again(self) -> None:
        self._syncing = False
        self.arm_sync()
