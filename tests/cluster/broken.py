"""pyetcd that breaks a promise: an entry point for tests only.

python -m tests.cluster.broken PROMISE PLAN FLAG...
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

from pyetcd.command import Command, Set
from pyetcd.main import main
from pyetcd.server.apply import Done
from pyetcd.server.pending import ReadDone
from pyetcd.server.server import Server
from pyetcd.store import Event
from pyetcd.store.node import KeyNode
from scripts.soak.disk import install


def answer_stale_reads() -> None:
    """Have a quorum read ask no quorum."""

    def read_index(self: Server, done: ReadDone) -> None:
        self.call_later(0, lambda: done(None))

    Server.read_index = read_index  # type: ignore[method-assign]


def lose_writes() -> None:
    """Have every tenth write of the soak's writers acknowledged, and nothing done."""
    propose_rightly = Server.propose
    turns = itertools.count(1)

    def propose(self: Server, command: Command, done: Done, last_sweep: int = 0) -> None:
        if isinstance(command, Set) and command.value and "/writes/" in command.path:
            if next(turns) % 10 == 0:
                index = self.store.index + 1
                node = KeyNode(command.path, command.value, index, index, 0)
                event = Event("set", index, command.path, node, None, self.now())
                self.call_later(0, lambda: done(event))
                return
        propose_rightly(self, command, done, last_sweep)

    Server.propose = propose  # type: ignore[method-assign]


BREAK: dict[str, Callable[[], None]] = {
    "stale reads": answer_stale_reads,
    "lost writes": lose_writes,
}

if __name__ == "__main__":
    BREAK[sys.argv[1]]()
    install(Path(sys.argv[2]))
    sys.argv = [sys.argv[0], *sys.argv[3:]]
    main()
