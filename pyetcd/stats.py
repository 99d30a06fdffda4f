"""Traffic with other members as it is counted, and the documents that show it.

`/v2/stats/self` and `/v2/stats/leader` have the fields and the order of etcd 2.3.8. Counting is
on the way of every message, so it is a few additions; whatever costs more is done when somebody
asks. Reads no clock: times come in, those of the event loop as float seconds. The counters of
`/v2/stats/store` are the store's own.
"""

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pyetcd.errors import go_json

# A rate is that of so many messages, as in etcd.
RATE_MESSAGES: Final = 200
# Whoever has been silent for longer has no rate.
RATE_SECONDS: Final = 1.0
# What etcd shows as the minimum of no latencies at all.
NO_MINIMUM: Final = float(1 << 63)

_NANOSECONDS: Final = 1_000_000_000


class Traffic:
    """What a member counts of the Appends that it sends and receives."""

    __slots__ = ("latencies", "received", "received_rate", "sent", "sent_rate")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.received_rate = Rate()
        self.sent_rate = Rate()
        # By follower.
        self.latencies: dict[int, Latency] = {}

    def append_received(self, size_bytes: int, now: float) -> None:
        """Count an Append of a leader."""
        self.received += 1
        self.received_rate.add(size_bytes, now)

    def append_sent(self, follower: int, last_index: int, size_bytes: int, now: float) -> None:
        """Count an Append to a follower; `last_index` is that of its last entry, 0 without any."""
        self.sent += 1
        self.sent_rate.add(size_bytes, now)
        latency = self.latencies.get(follower)
        if latency is None:
            latency = self.latencies[follower] = Latency()
        if latency.timed_index == 0:
            latency.timed_index = last_index
            latency.timed_since = now

    def append_acknowledged(self, follower: int, match_index: int, now: float) -> None:
        """A follower's log agrees with ours up to an index."""
        latency = self.latencies.get(follower)
        if latency is not None and 0 < latency.timed_index <= match_index:
            latency.timed_index = 0
            latency.add((now - latency.timed_since) * 1000)

    def leadership_changed(self) -> None:
        """Wait for no acknowledgement any more: it may never come, or belong to another term."""
        for latency in self.latencies.values():
            latency.timed_index = 0


class Rate:
    """Messages and bytes in a second, over the last few messages."""

    __slots__ = ("_bytes", "_marks")

    def __init__(self) -> None:
        self._bytes = 0
        # When each message went, and the bytes of all up to it.
        self._marks: deque[tuple[float, int]] = deque(maxlen=RATE_MESSAGES)

    def add(self, size_bytes: int, now: float) -> None:
        """Count one message."""
        self._bytes += size_bytes
        self._marks.append((now, self._bytes))

    def per_second(self, now: float) -> tuple[float, float]:
        """Return messages and bytes in a second; 0 when the last message is long ago."""
        if len(self._marks) < 2:
            return 0.0, 0.0
        first, first_bytes = self._marks[0]
        last, last_bytes = self._marks[-1]
        if now - last > RATE_SECONDS or last <= first:
            return 0.0, 0.0
        seconds = last - first
        return (len(self._marks) - 1) / seconds, (last_bytes - first_bytes) / seconds


@dataclass(slots=True)
class Latency:
    """Milliseconds from an Append to its acknowledgement, for one follower.

    One Append is timed at once: the next is when that one was acknowledged.
    """

    current: float = 0.0
    average: float = 0.0
    minimum: float = NO_MINIMUM
    maximum: float = 0.0
    # The last entry of the Append that is being timed; 0 when none is.
    timed_index: int = 0
    timed_since: float = 0.0
    _count: int = 0
    # Sum of the squared distances from the average (Welford): stays exact where the difference
    # of two large sums does not.
    _spread: float = 0.0

    def add(self, milliseconds: float) -> None:
        """Take one measurement into account."""
        self._count += 1
        self.current = milliseconds
        self.minimum = min(self.minimum, milliseconds)
        self.maximum = max(self.maximum, milliseconds)
        distance = milliseconds - self.average
        self.average += distance / self._count
        self._spread += distance * (milliseconds - self.average)

    @property
    def standard_deviation(self) -> float:
        """How much the measurements differ."""
        return math.sqrt(self._spread / self._count) if self._count else 0.0


@dataclass(slots=True)
class KeyRequests:
    """Requests on keys, counted for `/metrics`."""

    # By method; those that could be read and were permitted. HEAD is among the GETs, and a
    # watch is not.
    gets: int = 0
    quorum_gets: int = 0
    puts: int = 0
    posts: int = 0
    deletes: int = 0
    watches: int = 0
    # By method and status: those that were answered with an error.
    refused: dict[tuple[str, int], int] = field(default_factory=dict)

    def count_refused(self, method: bytes, status: int) -> None:
        """Count an error."""
        # Methods are those of the routes: nobody can make up as many as he likes.
        key = method.decode(), status
        self.refused[key] = self.refused.get(key, 0) + 1


class Counts(NamedTuple):
    """Messages to one follower: those that could not be sent, and those that were."""

    fail: int = 0
    success: int = 0


class Standing(NamedTuple):
    """Who a member is and who leads it; times are nanoseconds since the epoch."""

    name: str
    member_id: int
    started_at: int
    # 0 when none is known.
    leader: int
    # Since when it leads; `started_at` when there has not been a leader.
    leader_since: int
    now: int


def self_document(standing: Standing, traffic: Traffic, *, loop_now: float) -> bytes:
    """Return the body of `/v2/stats/self`; as in etcd, a rate of 0 is not shown."""
    leads = standing.leader == standing.member_id
    fields: dict[str, object] = {
        "name": standing.name,
        "id": f"{standing.member_id:x}",
        "state": "StateLeader" if leads else "StateFollower",
        "startTime": go_time(standing.started_at),
        "leaderInfo": {
            "leader": f"{standing.leader:x}" if standing.leader else "",
            "uptime": go_duration(standing.now - standing.leader_since),
            "startTime": go_time(standing.leader_since),
        },
    }
    for name, count, rate in (
        ("recv", traffic.received, traffic.received_rate),
        ("send", traffic.sent, traffic.sent_rate),
    ):
        fields[f"{name}AppendRequestCnt"] = count
        messages, size_bytes = rate.per_second(loop_now)
        if messages > 0:
            fields[f"{name}PkgRate"] = _number(messages)
        if size_bytes > 0:
            fields[f"{name}BandwidthRate"] = _number(size_bytes)
    return _encode(fields)


def leader_document(leader: int, followers: Mapping[int, Counts], traffic: Traffic) -> bytes:
    """Return the body of `/v2/stats/leader`."""
    documents: dict[str, object] = {}
    # Go sorts keys as texts.
    for name, follower in sorted((f"{follower:x}", follower) for follower in followers):
        latency = traffic.latencies.get(follower, _NO_LATENCY)
        documents[name] = {
            "latency": {
                "current": _number(latency.current),
                "average": _number(latency.average),
                "standardDeviation": _number(latency.standard_deviation),
                "minimum": _number(latency.minimum),
                "maximum": _number(latency.maximum),
            },
            "counts": {
                "fail": followers[follower].fail,
                "success": followers[follower].success,
            },
        }
    return _encode({"leader": f"{leader:x}", "followers": documents})


def go_time(nanoseconds: int) -> str:
    """Return a time since the epoch as Go's JSON shows it, in UTC."""
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


def go_duration(nanoseconds: int) -> str:
    """Return a duration as Go prints it: "1h2m3.5s", "1.5ms", "0s"."""
    if nanoseconds < 0:
        return f"-{go_duration(-nanoseconds)}"
    for unit, scale in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if 0 < nanoseconds < scale * 1_000:
            return f"{_fixed(nanoseconds, scale)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * _NANOSECONDS)
    text = f"{_fixed(rest, _NANOSECONDS)}s"
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _fixed(value: int, scale: int) -> str:
    """Return value / scale exactly, without zeros at the end."""
    whole, rest = divmod(value, scale)
    digits = len(str(scale)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)


def _number(value: float) -> float | int:
    """Return what JSON shows without a fraction where there is none, as Go does."""
    return int(value) if value.is_integer() else value


def _encode(fields: Mapping[str, object]) -> bytes:
    return go_json(json.dumps(fields, ensure_ascii=False, separators=(",", ":"))).encode()


_NO_LATENCY: Final = Latency()
