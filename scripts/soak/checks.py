"""What clients were told, judged: each function returns the problems it finds, one line each.

Moments are those of the one clock that all clients share, in nanoseconds. What was never answered
may have happened or not, at any time after it was asked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from raft.sim.linearizability import NEVER, Operation, Undecided, is_linearizable

# A key that expires may be gone sooner than a client's clock says by what clocks are read apart.
CLOCK_NS: Final = 20_000_000
# Or by what wall clocks are ahead of cluster time, which loses a little with each election, if they
# had to do because a majority was started anew.
WALLS_NS: Final = 500_000_000
SECOND_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Job:
    """One job that was put into a queue, in the order of its index."""

    value: str
    asked: int
    answered: int = NEVER
    # The key that the queue gave it; "" when nobody answered.
    key: str = ""


@dataclass(slots=True)
class Hold:
    """A lock, from when its holder knew to have it until it began to give it back."""

    owner: str
    asked: int
    acquired: int
    ended: int


@dataclass(slots=True)
class Lease:
    """A key that lives for `ttl_ns` after the last time it was refreshed."""

    key: str
    ttl_ns: int
    # When the last refresh was asked that is known to have been done.
    refreshed: int
    # When somebody knew that it is gone.
    gone: int = NEVER
    # When the first one was asked of which nobody knows what became of it.
    in_doubt: int = NEVER

    def answered(self, asked: int) -> None:
        """A refresh that was asked then has been done; the last one, as far as is known."""
        self.refreshed = min(asked, self.in_doubt)

    def not_answered(self, asked: int) -> None:
        """One may be done any time later, also after those that are asked later.

        Then the life that it asked for is the one that counts.
        """
        self.in_doubt = min(self.in_doubt, asked)


@dataclass(slots=True)
class Segment:
    """What one watcher saw without interruption: (index, key, value), value None for a removal.

    It saw everything in (after, last].
    """

    after: int
    events: list[tuple[int, str, str | None]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.events[-1][0] if self.events else self.after


def registers(histories: Mapping[str, list[Operation]]) -> list[str]:
    """Every register could have answered so, one operation after the other."""
    problems = []
    for key, history in histories.items():
        try:
            if not is_linearizable(history):
                problems.append(f"{key}: {len(history)} operations in no order explain the answers")
        except Undecided as error:
            problems.append(f"{key}: not decided, {error}")
    return problems


def lost_writes(acknowledged: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Every acknowledged write is there, each having had a key of its own."""
    return [
        f"{key}: {value} was acknowledged, found {found.get(key)}"
        for key, value in acknowledged.items()
        if found.get(key) != value
    ]


def counter(acknowledged: int, unknown: int, final: int) -> list[str]:
    """Every acknowledged increment counts once, every unknown one at most once."""
    if acknowledged <= final <= acknowledged + unknown:
        return []
    return [f"counter: {final} after {acknowledged} increments and {unknown} unknown ones"]


def queue(jobs: list[Job], found: list[tuple[str, str]]) -> list[str]:
    """Every job is in the queue once, where it was said to be, and in the order of its coming."""
    problems = []
    keys: dict[str, list[str]] = {}
    for key, value in found:
        keys.setdefault(value, []).append(key)
    for job in jobs:
        at = keys.get(job.value, [])
        if len(at) > 1:
            problems.append(f"job {job.value} is in the queue {len(at)} times")
        if job.key and at != [job.key]:
            problems.append(f"job {job.value} was given {job.key}, found at {at}")
    answered = sorted((job for job in jobs if job.key), key=lambda job: job.asked)
    by_answer = sorted(answered, key=lambda job: job.answered)
    highest, next_job = "", 0
    for job in answered:
        while next_job < len(by_answer) and by_answer[next_job].answered < job.asked:
            highest = max(highest, by_answer[next_job].key)
            next_job += 1
        if job.key < highest:
            problems.append(f"job {job.value} got {job.key} after {highest} was given out")
    return problems


def locks(holds: Iterable[Hold]) -> list[str]:
    """No lock was given to somebody while another one held it for certain."""
    problems = []
    ordered = sorted(holds, key=lambda hold: hold.acquired)
    for holder in ordered:
        for other in ordered:
            if other.owner != holder.owner:
                if holder.acquired < other.asked and other.acquired < holder.ended:
                    problems.append(f"{other.owner} got the lock that {holder.owner} held")
    return problems


def leases(taken: Iterable[Lease], tolerance_ns: int = CLOCK_NS) -> list[str]:
    """No key was gone before its time, but for the tolerance."""
    problems = []
    for lease in taken:
        early = lease.refreshed + lease.ttl_ns - lease.gone
        if early > tolerance_ns:
            problems.append(f"{lease.key} was gone {early / SECOND_NS:.2f} s early")
    return problems


def watches(segments: Iterable[Segment], writes: Mapping[int, tuple[str, str]]) -> list[str]:
    """Watchers saw all that they watched, in order, once, and the same as everybody.

    `writes` are those that were acknowledged, below what is watched, by their index.
    """
    problems = []
    known: dict[int, tuple[str, str | None]] = dict(writes)
    indexes = sorted(writes)
    for segment in segments:
        before = segment.after
        seen = set()
        for index, key, value in segment.events:
            if index <= before:
                problems.append(f"an event of index {index} after {before}")
            before = index
            seen.add(index)
            if known.setdefault(index, (key, value)) != (key, value):
                problems.append(f"event {index} is {key}={value}, elsewhere {known[index]}")
        missing = [it for it in indexes if segment.after < it <= segment.last and it not in seen]
        if missing:
            problems.append(f"a watch from {segment.after} to {segment.last} missed {missing[:5]}")
    return problems
