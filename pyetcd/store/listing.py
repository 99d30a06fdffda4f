"""Listing: a directory that was read, and its JSON in pieces.

Capturing takes the lists of children at one moment and copies nothing else, since nodes are
immutable. Rendering two hundred thousand nodes takes a third of a second: it is a generator, so
that the event loop can do other things between the pieces.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from pyetcd.store.event import GET
from pyetcd.store.node import KeyNode

# Some 0.1 ms of work; a multiple of what one write to a socket takes anyway.
PIECE_BYTES = 65536
# As many nodes as are sorted without a pause: two milliseconds of work.
_SORT_RUN = 4096


@dataclass(slots=True, eq=False)
class Listing:
    """The answer to a get of a directory.

    Invariants:
      1. `contents` has the children of `directory`, and of all that are shown in a recursive
         listing; hidden children are still in it.
    """

    # The index of the store when it was read.
    etcd_index: int
    directory: KeyNode
    contents: dict[str, list[KeyNode]]
    sort: bool
    # The clock by which a ttl is computed, in nanoseconds since the epoch.
    now: int

    @property
    def size(self) -> int:
        """Return how many nodes were captured; small ones may be rendered at once."""
        return sum(map(len, self.contents.values()))

    def body(self) -> bytes:
        """Return the whole JSON document with its newline."""
        return b"".join(self.chunks())

    def chunks(self, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """Yield the document in pieces of about that size; an empty one is only a pause."""
        texts: list[str] = []
        size = 0
        for text in self._texts():
            if not text:
                yield b""
            texts.append(text)
            size += len(text)
            if size >= piece_bytes:
                yield "".join(texts).encode()
                texts.clear()
                size = 0
        yield "".join(texts).encode()

    def _texts(self) -> Iterator[str]:
        """Yield the document node by node. Not recursive: paths may have thousands of parts."""
        now = self.now
        yield f'{{"action":"{GET}","node":{self.directory.opening_text(now)}'
        stack = [_Level(self.directory)]
        while stack:
            level = stack[-1]
            if level.children is None:
                children = self._visible(level.directory.path)
                if self.sort:
                    runs: list[list[KeyNode]] = []
                    while run := sorted(islice(children, _SORT_RUN), key=_byte_order):
                        runs.append(run)
                        if len(run) == _SORT_RUN:
                            yield ""
                    children = merge(*runs, key=_byte_order) if len(runs) != 1 else iter(runs[0])
                level.children = children
            for node in level.children:
                separator, level.separator = level.separator, ","
                if node.value is None:
                    yield separator + node.opening_text(now)
                    stack.append(_Level(node))
                    break
                yield separator + node.text(now)
            else:
                stack.pop()
                end = "]" if level.separator == "," else ""
                yield end + level.directory.closing_text()
        yield "}\n"

    def _visible(self, path: str) -> Iterator[KeyNode]:
        """Yield the children of a directory but for the hidden ones."""
        name_start = len(path) + 1 if path != "/" else 1
        for node in self.contents.get(path, ()):
            if not node.path.startswith("_", name_start):
                yield node


@dataclass(slots=True)
class _Level:
    """A directory in the middle of being rendered."""

    directory: KeyNode
    children: Iterator[KeyNode] | None = None
    # Comes before the next child; a directory without children has no `nodes` at all.
    separator: str = ',"nodes":['


def _byte_order(node: KeyNode) -> bytes:
    # Go compares bytes. The order of characters is the same, but for bytes that are no UTF-8.
    return node.path.encode("utf-8", "surrogateescape")
