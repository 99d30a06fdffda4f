"""Watches: answers that wait for events.

The header of a watch leaves at once, so that clients know it is there (Go's clients time out on
headers); the events follow, each as one chunk. A thousand watchers may wait for one event: its
chunk is framed once and shared by all of them.
"""

from collections.abc import Callable

from pyetcd.errors import EtcdError
from pyetcd.httpd import LAST_CHUNK, Request, Stream, chunk
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
        # The chunk of the event that was sent last, and an answer's end with it: the next watcher
        # is likely to get one of them, too.
        self._framed_event: Event | None = None
        self._framed = b""
        self._framed_end = b""

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
        event = watcher.history_event
        if event is not None and not stream:
            request.respond_in_chunks(200, head, self.frame_end(event))
            return
        watch.stream = request.start_stream(200, head, watcher.remove)
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
    """One watch that was begun."""

    __slots__ = ("_is_stream", "_watches", "stream")

    def __init__(self, watches: Watches, is_stream: bool) -> None:
        self._watches = watches
        self._is_stream = is_stream
        # Set before anything can happen.
        self.stream: Stream

    def tell(self, event: Event) -> None:
        """Send an event; the only one, unless this is a stream."""
        if self._is_stream:
            self.stream.write_chunk(self._watches.frame(event))
        else:
            self.stream.finish_with(self._watches.frame_end(event))

    def end(self) -> None:
        """Events were lost: end the answer without one, as etcd does."""
        self.stream.finish()
