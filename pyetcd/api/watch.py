"""Watches: answers that wait for events.

The header of a watch leaves at once, so that clients know it is there (Go's clients time out on
headers); the events follow, each as one chunk. A thousand watchers may wait for one event: its
chunk is framed once and shared by all of them.
"""

from collections.abc import Callable

from pyetcd.errors import EtcdError
from pyetcd.httpd import Request, Stream, chunk
from pyetcd.store import Event, Store


class Watches:
    """Begins watches on a store."""

    def __init__(
        self,
        store: Store,
        format_head: Callable[[int], bytes],
        refuse: Callable[[Request, EtcdError], None],
    ) -> None:
        """`format_head` makes the header lines of an answer at an etcd_index."""
        self._store = store
        self._format_head = format_head
        self._refuse = refuse
        # The chunk of the event that was sent last: the next watcher is likely to get it, too.
        self._framed_event: Event | None = None
        self._framed = b""

    def begin(
        self, request: Request, path: str, *, recursive: bool, stream: bool, since_index: int
    ) -> None:
        """Answer with the first event from since_index on (0: from now on), or with all."""
        watch = _Watch(self, stream)
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
        watch.stream = request.start_stream(200, head, watcher.remove)
        if watcher.history_event is not None:
            # Nothing follows it, not even in a stream: etcd has never registered the watcher.
            watch.tell(watcher.history_event)

    def frame(self, event: Event) -> bytes:
        """Return the chunk of an event."""
        if event is not self._framed_event:
            self._framed_event = event
            self._framed = chunk(event.body())
        return self._framed


class _Watch:
    """One watch that was begun."""

    __slots__ = ("_is_stream", "_watches", "stream")

    def __init__(self, watches: Watches, is_stream: bool) -> None:
        self._watches = watches
        self._is_stream = is_stream
        # Set before anything can happen.
        self.stream: Stream

    def tell(self, event: Event) -> None:
        """Send an event; the only one, unless this is a stream."""
        self.stream.write_chunk(self._watches.frame(event))
        if not self._is_stream:
            self.stream.finish()

    def end(self) -> None:
        """Events were lost: end the answer without one, as etcd does."""
        self.stream.finish()
