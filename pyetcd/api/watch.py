"""Watches: answers that wait for events.

The header of a watch leaves soon, so that clients know it is there (Go's clients time out on
headers); the events follow, each as one chunk. An event that comes before the header of a poll is
sent together with it: one write instead of two, and one read for the client. A thousand watchers
may wait for one event: its chunk is framed once and shared by all of them. What streams are told is
sent to some of them in each turn of the loop, so that nobody else waits for a thousand writes; and
a stream whose turn comes late gets all that has happened until then in one write.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from pyetcd.errors import EtcdError
from pyetcd.httpd import LAST_CHUNK, Request, Stream, chunk
from pyetcd.store import Event, Store, Watcher

# The head of a poll waits for an event so long, and once more as long at most.
HEAD_SECONDS: Final = 0.01
# So many streams are written to in one turn of the loop, about half a millisecond; but of many
# streams an eighth, so that the last of them need not wait for too many turns.
STREAMS_PER_TURN: Final = 64
TURNS: Final = 8
# What may wait for a stream's turn, before it is written at once.
WAITING_BYTES: Final = 64 << 10


class Watches:
    """Begins watches on a store."""

    def __init__(
        self,
        store: Store,
        format_head: Callable[[int], bytes],
        refuse: Callable[[Request, EtcdError], None],
        call_later: Callable[[float, Callable[[], object]], None],
    ) -> None:
        """`format_head` makes the header lines of an answer at an etcd_index."""
        self._store = store
        self._format_head = format_head
        self._refuse = refuse
        self.turns = Turns(call_later)
        self.heads = Heads(call_later)
        # The chunk of the event that was sent last, and an answer's end with it: the next watcher
        # is likely to get one of them, too.
        self._framed_event: Event | None = None
        self._framed = b""
        self._framed_end = b""

    def begin(
        self, request: Request, path: str, *, recursive: bool, stream: bool, since_index: int
    ) -> None:
        """Answer with the first event from since_index on (0: from now on), or with all."""
        watch: _Watch = _Stream(self) if stream else _Poll(self)
        try:
            watcher = self._store.watch(
                path,
                watch.tell,
                recursive=recursive,
                stream=stream,
                since_index=since_index,
                on_lost=watch.end,
            )
        except EtcdError as error:
            self._refuse(request, error)
            return
        head = self._format_head(watcher.start_index)
        event = watcher.history_event
        if event is not None and not stream:
            request.respond_in_chunks(200, head, self.frame_end(event))
            return
        watch.begin(request, head, watcher)
        if event is not None:
            # Nothing follows it, though this is a stream: etcd has never registered the watcher.
            watch.tell(event)

    def frame(self, event: Event) -> bytes:
        """Return the chunk of an event."""
        if event is not self._framed_event:
            self._frame(event)
        return self._framed

    def frame_end(self, event: Event) -> bytes:
        """Return the chunk of an event and the one that ends an answer."""
        if event is not self._framed_event:
            self._frame(event)
        return self._framed_end

    def _frame(self, event: Event) -> None:
        self._framed_event = event
        self._framed = chunk(event.body())
        self._framed_end = self._framed + LAST_CHUNK


class _Watch:
    """One watch that was begun.

    Invariants:
      1. `_watcher`, which knows the watch, is None once the watch is over: of those who come and go
         nothing is left for the garbage collector, which seldom runs.
    """

    __slots__ = ("_watcher", "_watches")

    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._watcher: Watcher | None = None

    def begin(self, request: Request, head: bytes, watcher: Watcher) -> None:
        """Answer this request, with these header lines, when there is something to tell."""
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        """Send an event."""
        raise NotImplementedError

    def leave(self) -> None:
        """The client has gone, or the server ends the answer."""
        if self._watcher is not None:
            self._watcher.remove()
            self._watcher = None

    def end(self) -> None:
        """Events were lost: end the answer without them, as etcd does."""
        raise NotImplementedError


class _Poll(_Watch):
    """A watch that its first event ends.

    Invariants:
      1. `_request` is None once it is answered, or its client has gone.
      2. `_stream` is None until the head is sent.
    """

    __slots__ = ("_head", "_request", "_stream")

    def __init__(self, watches: Watches) -> None:
        super().__init__(watches)
        self._head = b""
        self._request: Request | None = None
        self._stream: Stream | None = None

    def begin(self, request: Request, head: bytes, watcher: Watcher) -> None:
        """See _Watch."""
        self._watcher = watcher
        self._head = head
        self._request = request
        request.on_disconnect = self.leave
        self._watches.heads.add(self)

    def send_head(self) -> None:
        """Let the client know that the watch is there, unless it knows, or is no more."""
        request = self._request
        if request is not None and self._stream is None:
            self._stream = request.start_stream(200, self._head, self.leave)

    def tell(self, event: Event) -> None:
        """Send the event and the answer's end."""
        request, stream = self._request, self._stream
        assert request is not None, "a poll was told of a second event"
        self._request = None
        self._watcher = None
        framed = self._watches.frame_end(event)
        if stream is None:
            request.respond_in_chunks(200, self._head, framed)
        else:
            stream.finish_with(framed)

    def leave(self) -> None:
        """See _Watch."""
        self._request = None
        super().leave()

    def end(self) -> None:
        """See _Watch."""
        self.send_head()
        self._request = None
        self._watcher = None
        if self._stream is not None:
            self._stream.finish()


class _Stream(_Watch):
    """A watch that goes on.

    Invariants:
      1. `is_due` says that it is in the queue of `Turns`, as it is while anything waits.
      2. What waits is no more than WAITING_BYTES.
    """

    __slots__ = ("_stream", "_waiting", "_waiting_bytes", "is_due")

    # Set by `begin`, before anything can happen.
    _stream: Stream

    def __init__(self, watches: Watches) -> None:
        super().__init__(watches)
        self.is_due = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def begin(self, request: Request, head: bytes, watcher: Watcher) -> None:
        """See _Watch."""
        self._watcher = watcher
        self._stream = request.start_stream(200, head, self.leave)

    def tell(self, event: Event) -> None:
        """Send an event when the stream's turn comes."""
        framed = self._watches.frame(event)
        self._waiting.append(framed)
        self._waiting_bytes += len(framed)
        if not self.is_due:
            self.is_due = True
            self._watches.turns.add(self)
        if self._waiting_bytes > WAITING_BYTES:
            self.send()

    def send(self) -> None:
        """Send what waits."""
        waiting = self._waiting
        if waiting:
            self._waiting = []
            self._waiting_bytes = 0
            if self._stream.is_open:
                self._stream.write_chunk(self._watches.turns.joined(waiting))

    def leave(self) -> None:
        """See _Watch."""
        super().leave()
        self.send()

    def end(self) -> None:
        """See _Watch; what came before the loss is sent."""
        self.send()
        self._watcher = None
        self._stream.finish()


class Heads:
    """The polls whose heads have not been sent, as long as these may wait.

    Invariants:
      1. While there are any, `_send` is called within HEAD_SECONDS.
    """

    __slots__ = ("_call_later", "_is_armed", "_old", "_young")

    def __init__(self, call_later: Callable[[float, Callable[[], object]], None]) -> None:
        self._call_later = call_later
        self._is_armed = False
        # Those that have waited since the last `_send`, and those that have come after it.
        self._old: list[_Poll] = []
        self._young: list[_Poll] = []

    def add(self, poll: _Poll) -> None:
        """Have the head of a poll sent when it has waited long enough."""
        self._young.append(poll)
        if not self._is_armed:
            self._is_armed = True
            self._call_later(HEAD_SECONDS, self._send)

    def _send(self) -> None:
        due, self._old, self._young = self._old, self._young, []
        for poll in due:
            poll.send_head()
        self._is_armed = bool(self._old)
        if self._is_armed:
            self._call_later(HEAD_SECONDS, self._send)


class Turns:
    """The streams that have something to send, in the order in which they shall.

    Invariants:
      1. While a stream is due, `_send` is called in some later turn of the loop.
    """

    __slots__ = ("_call_later", "_due", "_joined", "_parts")

    def __init__(self, call_later: Callable[[float, Callable[[], object]], None]) -> None:
        self._call_later = call_later
        self._due: deque[_Stream] = deque()
        # What was joined last: streams of the same directory have the same chunks waiting.
        self._parts: list[bytes] = []
        self._joined = b""

    def add(self, stream: _Stream) -> None:
        """Have a stream send what waits when its turn comes."""
        if not self._due:
            self._call_later(0.0, self._send)
        self._due.append(stream)

    def joined(self, chunks: list[bytes]) -> bytes:
        """Return these chunks as one piece, which streams share. The list stays as it is."""
        if len(chunks) == 1:
            return chunks[0]
        if chunks != self._parts:
            self._parts = chunks
            self._joined = b"".join(chunks)
        return self._joined

    def _send(self) -> None:
        due = self._due
        for _ in range(min(len(due), max(STREAMS_PER_TURN, len(due) // TURNS))):
            stream = due.popleft()
            stream.is_due = False
            stream.send()
        if due:
            self._call_later(0.0, self._send)
        else:
            # Not kept for nobody.
            self._parts, self._joined = [], b""
