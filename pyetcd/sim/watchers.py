"""Clients that watch: what they are told is ordered, complete, and nothing comes twice.

Which events concern a watch is said here once more, apart from the store. Two things of etcd are
left open: whether the watcher of a key below a removed directory is told depends on whether the
key was there, and the watcher of a removed key itself is told once or twice.
"""

import json
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Final, NamedTuple

from pyetcd.sim.chronicle import Chronicle
from pyetcd.sim.clients import DIRECTORIES, FILES, Find
from pyetcd.sim.ledger import REGISTERS, Ledger
from pyetcd.sim.member import Member
from pyetcd.sim.wire import Answer, Call, form_request
from pyetcd.store import Event
from raft.sim import MILLISECOND, SECOND, Unsafe, World

# As many events as a member remembers.
_HISTORY: Final = 1000
_PATHS: Final = (REGISTERS, "/t/", FILES, DIRECTORIES)
# However slow a connection is, everything has arrived by then.
_ON_THE_WAY_US: Final = 5 * MILLISECOND
_TREES: Final = ("/", "/q", "/h", "/d", "/t")


class Wanted(NamedTuple):
    """What a client watches."""

    path: str
    recursive: bool
    stream: bool
    # 0 for events from now on.
    wait_index: int

    def target(self) -> str:
        """Return the request's target."""
        fields = "?wait=true"
        if self.recursive:
            fields += "&recursive=true"
        if self.stream:
            fields += "&stream=true"
        if self.wait_index:
            fields += f"&waitIndex={self.wait_index}"
        return f"/v2/keys{self.path}{fields}"

    def copies(self, event: Event | None, chronicle: Chronicle) -> tuple[int, int]:
        """Return how often, at least and at most, a live watch is told of the event."""
        if event is None or event.refresh:
            return 0, 0
        key, path = event.key, self.path
        if key == path:
            return 1, 2 if event.node is None and self.stream else 1
        if event.removes_directory and path.startswith(key + "/"):
            was_there = chronicle.version(path, event.etcd_index - 1) is not None
            return int(was_there), 1
        below = key if path == "/" else key[len(path) :]
        is_below = key.startswith(path) and below.startswith("/") and "/_" not in below
        return (1, 1) if self.recursive and is_below else (0, 0)

    def is_in_history(self, event: Event | None) -> bool:
        """Say whether a look into history finds the event, by etcd's other rules for that."""
        if event is None or event.refresh:
            return False
        key, path = event.key, self.path
        below = path if path == "/" else path + "/"
        if key == path or (self.recursive and key.startswith(below)):
            return True
        return event.removes_directory and path.startswith(key)


class Watch:
    """One watch on one member: what it was told so far."""

    def __init__(self, wanted: Wanted, member: Member, chronicle: Chronicle) -> None:
        self.wanted = wanted
        self.member = member
        # The index of the store when the watch began; -1 before the head of the answer has come.
        self.start_index = -1
        self.last: Event | None = None
        self._chronicle = chronicle
        self._copies = 0
        # The first index that may come next.
        self._next_index = 0

    def begin(self, start_index: int) -> None:
        """The head of the answer has come."""
        self.start_index = start_index
        self._next_index = max(start_index + 1, self.wanted.wait_index)

    def tell(self, body: bytes) -> None:
        """Judge the next event. Raises Unsafe."""
        event = self._find(body)
        if event.etcd_index <= self.start_index:
            self._judge_from_history(event)
        elif event is self.last:
            self._copies += 1
            if self._copies > self.wanted.copies(event, self._chronicle)[1]:
                raise Unsafe(f"{self.wanted} is told again of {event.key} at {event.etcd_index}")
            return
        else:
            if event.etcd_index < self._next_index:
                raise Unsafe(f"{self.wanted} is told late of {event.key} at {event.etcd_index}")
            if self.wanted.copies(event, self._chronicle)[1] == 0:
                raise Unsafe(f"{self.wanted} is told of {event.key}, which it does not watch")
            self.require_told(event.etcd_index - 1)
        self.last, self._copies = event, 1
        self._next_index = event.etcd_index + 1

    def require_told(self, last_index: int) -> None:
        """Check that nothing was left out up to this index. Raises Unsafe."""
        if self.start_index < 0 or self._is_done:
            return
        if self.last is None:
            self._require_nothing_in_history()
        for event in self._chronicle.events[self._next_index : last_index + 1]:
            if self.wanted.copies(event, self._chronicle)[0] > 0:
                assert event is not None, "no event concerns nobody"
                raise Unsafe(f"{self.wanted} was not told of {event.key} at {event.etcd_index}")

    @property
    def _is_done(self) -> bool:
        """Whether nothing follows its last event: so it is with streams that began in history."""
        if self.last is None:
            return False
        return not self.wanted.stream or self.last.etcd_index <= self.start_index

    def _judge_from_history(self, event: Event) -> None:
        if self.last is not None or not self.wanted.wait_index:
            raise Unsafe(f"{self.wanted} is told of {event.etcd_index}, which was before it began")
        if event is not next(self._found_in_history(), None):
            raise Unsafe(f"{self.wanted} is told of {event.etcd_index} first")

    def _require_nothing_in_history(self) -> None:
        """Check that the watch has not left out what had happened before it. Raises Unsafe."""
        missed = next(self._found_in_history(), None) if self.wanted.wait_index else None
        if missed is not None:
            raise Unsafe(f"{self.wanted} was not told of {missed.etcd_index}, which was there")

    def _found_in_history(self) -> Iterator[Event]:
        for event in self._chronicle.events[self.wanted.wait_index : self.start_index + 1]:
            if event is not None and self.wanted.is_in_history(event):
                yield event

    def _find(self, body: bytes) -> Event:
        """Return the event of the chronicle that this is."""
        index: int = json.loads(body)["node"]["modifiedIndex"]
        event = self._chronicle.events[index] if index <= self._chronicle.last_index else None
        if event is None or event.body() != body:
            raise Unsafe(f"{self.wanted} is told {body!r}, but {event} happened")
        return event


class Watcher:
    """A client that always watches something; after an event it goes on behind it, anywhere."""

    def __init__(self, world: World, ledger: Ledger, number: int, find: Find) -> None:
        """`find` returns some member that runs."""
        self._world = world
        self._chronicle = ledger.chronicle
        self._number = number
        self._find = find
        self._random = world.stream(f"watcher {number}")
        self._is_over = False
        self._call: Call | None = None
        self._watch: Watch | None = None
        self._wanted = self._draw(self._random)
        self._rest()

    def stop(self) -> None:
        """Watch nothing any more."""
        self._is_over = True
        self._leave(self._call, self._watch)

    def _rest(self) -> None:
        self._world.clock.after(self._random.randrange(200 * MILLISECOND), self._begin)

    def _begin(self) -> None:
        if self._is_over:
            return
        member = self._find()
        if member is None:
            self._rest()
            return
        watch = self._watch = Watch(self._wanted, member, self._chronicle)
        call = self._call = Call(
            self._world,
            self._random.randrange(3 * MILLISECOND),
            on_answer=partial(self._finished, watch),
            on_lost=partial(self._lost, watch),
            on_head=partial(self._begun, watch),
            on_line=partial(self._told, watch),
        )
        member.open(call, form_request("GET", self._wanted.target()))
        if self._wanted.stream:
            after = self._random.randrange(8 * SECOND)
            self._world.clock.after(after, partial(self._leave, call, watch))

    def _leave(self, call: Call | None, watch: Watch | None) -> None:
        """Have enough of a watch; what has happened by now must have been told in a moment."""
        if call is None or watch is None or watch is not self._watch:
            return
        self._watch = None
        if not call.is_over:
            close = partial(self._close, call, watch, watch.member.etcd_index)
            self._world.clock.after(_ON_THE_WAY_US, close)
        self._next(self._draw(self._random))

    def _close(self, call: Call, watch: Watch, etcd_index: int) -> None:
        watch.require_told(etcd_index)
        watch.member.close(call)

    def _begun(self, watch: Watch, answer: Answer) -> None:
        if answer.status == 200:
            watch.begin(answer.etcd_index)

    def _told(self, watch: Watch, body: bytes) -> None:
        watch.tell(body)
        self._world.count("events told")
        self._world.trace(f"watcher {self._number} is told {body!r}")

    def _finished(self, watch: Watch, answer: Answer) -> None:
        if watch is not self._watch:
            return
        wanted = watch.wanted
        if answer.status != 200:
            self._judge_refusal(wanted, answer)
            self._next(self._draw(self._random))
        elif watch.last is not None and not wanted.stream:
            self._next(wanted._replace(wait_index=watch.last.etcd_index + 1))
        else:
            # The member has lost events itself, with a snapshot: nobody knows what it missed.
            missed = watch.member.etcd_index - watch.start_index
            if missed < _HISTORY:
                raise Unsafe(f"{wanted} ends without an event, and only {missed} were missed")
            self._next(self._draw(self._random))

    def _judge_refusal(self, wanted: Wanted, answer: Answer) -> None:
        self._world.count(f"watches refused with {answer.status}")
        if answer.status == 400 and b'"errorCode":401' in answer.body:
            if wanted.wait_index > answer.etcd_index - _HISTORY:
                raise Unsafe(f"{wanted} is told at {answer.etcd_index} that this is forgotten")
        elif answer.status != 401:
            raise Unsafe(f"{wanted} is answered {answer}")

    def _lost(self, watch: Watch) -> None:
        if watch is not self._watch:
            return
        watch.require_told(watch.member.etcd_index)
        self._world.count("watches cut off")
        last = watch.last
        wanted = watch.wanted
        if last is not None and not wanted.stream:
            wanted = wanted._replace(wait_index=last.etcd_index + 1)
        elif wanted.wait_index == 0 and watch.start_index >= 0 and not wanted.stream:
            # Resumed elsewhere from where it began.
            wanted = wanted._replace(wait_index=watch.start_index + 1)
        self._next(wanted)

    def _next(self, wanted: Wanted) -> None:
        self._watch = None
        self._wanted = wanted
        self._rest()

    def _draw(self, rng: Random) -> Wanted:
        name = str(rng.randint(1, self._world.options.keys))
        is_stream = rng.random() < 0.4
        index = 0
        if rng.random() < 0.4:
            index = max(1, self._chronicle.last_index + rng.randrange(-50, 3))
        match rng.randrange(3):
            case 0:
                return Wanted(rng.choice(_PATHS) + name, False, is_stream, index)
            case 1:
                path = f"{DIRECTORIES}{name}/{rng.choice('xy')}"
                return Wanted(path, rng.random() < 0.3, is_stream, index)
            case _:
                paths = (*_TREES, DIRECTORIES + name)
                return Wanted(rng.choice(paths), True, is_stream, index)
