"""A watch that goes on: one event after the other, without a gap, from whichever member answers.

Relies on the long poll of `Client.wait`. A stream (`stream=true`) is not used: one whose first
event comes from history is silent for ever after it.
"""

from typing import Self

from pyetcd.client.client import Client
from pyetcd.client.wire import Event


class Watcher:
    """The events of a key; with `recursive` also of all keys below it.

        async for event in Watcher(client, "/jobs", recursive=True):
            ...

    Invariants:
      1. No event is left out, and none comes twice, whatever member the client has to ask.
    """

    def __init__(
        self, client: Client, key: str, *, recursive: bool = False, after_index: int = 0
    ) -> None:
        """Watch what happens after an index of the store; 0 means from the first wait on."""
        self._client = client
        self._key = key
        self._recursive = recursive
        self._wait_index = after_index + 1 if after_index else 0

    def __aiter__(self) -> Self:
        """Return the watcher."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event; there is no end."""
        return await self.next()

    async def next(self) -> Event:
        """Return the next event.

        Raises EventIndexCleared when more than a thousand events have passed since the last look:
        read the key again and watch after the index of that answer.
        """
        while True:
            event = await self._client.wait(
                self._key,
                wait_index=self._wait_index,
                recursive=self._recursive,
                on_header=self._note_index,
            )
            if event is not None:
                self._wait_index = event.node.modified_index + 1
                return event

    def _note_index(self, etcd_index: int) -> None:
        """Remember from where to go on if this wait ends without an event.

        The header of a wait from history carries the index of the present, with the event still
        to come: that one must not be skipped. The first wait is the only one without an index.
        """
        if not self._wait_index and etcd_index:
            self._wait_index = etcd_index + 1
