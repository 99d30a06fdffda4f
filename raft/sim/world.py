"""What all parts of one simulation share: time, chance, facts and the trace.

Chance comes in streams, each with a name and seeded by it: what one part draws does not change
what another will. The trace is one line for everything that happens; its hash tells two runs
apart. Nothing in it may depend on the machine that runs the simulation.
"""

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable

from raft.codec import decode_envelopes
from raft.sim.checkers import Facts
from raft.sim.clock import SECOND, Clock
from raft.sim.options import Options

Say = Callable[[str], None]


class World:
    """The surroundings of the servers."""

    def __init__(self, options: Options, say: Say | None = None) -> None:
        """`say` is given each line of the trace."""
        self.options = options
        self.clock = Clock()
        self.facts = Facts()
        # All troubles are over.
        self.is_healed = False
        # How often what has happened.
        self.counts: Counter[str] = Counter()
        self._hash = hashlib.blake2b(digest_size=8)
        self._say = say
        self.logger = logging.Logger("raft.sim", logging.CRITICAL if say is None else logging.INFO)
        if say is not None:
            self.logger.addHandler(_Lines(self.show))

    def stream(self, name: str) -> random.Random:
        """Return a stream of chance of this seed."""
        return random.Random(f"{name} {self.options.seed}")

    def trace(self, line: str) -> None:
        """Note that something happens now."""
        self._hash.update(b"%d %b\n" % (self.clock.now, line.encode()))
        if self._say is not None:
            self.show(line)

    def trace_frame(self, sender: int, recipient: int, frame: bytes) -> None:
        """Note that a message arrives."""
        self._hash.update(b"%d %d %d %b\n" % (self.clock.now, sender, recipient, frame))
        if self._say is not None:
            for envelope in decode_envelopes(frame):
                self.show(f"{sender:x} -> {recipient:x} {envelope.term} {envelope.message}")

    def show(self, line: str) -> None:
        """Show a line that is no part of the trace."""
        if self._say is not None:
            self._say(f"{self.clock.now / SECOND:10.6f} {line}")

    def count(self, what: str) -> None:
        """Count something."""
        self.counts[what] += 1

    @property
    def trace_hash(self) -> str:
        """What tells this run from any other."""
        return self._hash.hexdigest()


class _Lines(logging.Handler):
    """Shows raft's own log; it is no part of the trace, whose hash must not depend on showing."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._line = say

    def emit(self, record: logging.LogRecord) -> None:
        self._line(record.getMessage())
