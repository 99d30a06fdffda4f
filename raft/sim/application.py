"""What a world is about: the state machine that is replicated, its clients and its operators.

`raft.sim.workload` is the application of raft's own worlds, registers that hold numbers. Another
one brings its own state machine, asks it what its users would, and judges the answers.
"""

import random
from typing import Protocol

from raft.entry import Entry
from raft.sim.cluster import Cluster
from raft.sim.process import Machine, Process


class Probe(Protocol):
    """A question to one process, to see whether it answers."""

    @property
    def process(self) -> Process:
        """Whom it was put to."""

    @property
    def is_answered(self) -> bool:
        """Whether the answer has come, and was right."""


class Application(Protocol):
    """What is replicated, and who asks for it. It fails by raising Unsafe or Stuck."""

    def first_entries(self, voters: tuple[int, ...]) -> list[Entry]:
        """The log of a new cluster, the same on all of these servers: it makes them its voters."""

    def make_machine(self, process: Process) -> Machine:
        """Make the state machine of a process that starts."""

    def start(self, cluster: Cluster) -> None:
        """Let the clients begin."""

    def change(self, process: Process, rng: random.Random) -> None:
        """Be an operator who asks this process for some other configuration."""

    def remove(self, process: Process, server_id: int) -> None:
        """Be an operator who asks this process to remove a server whose disk was refused."""

    def heal(self) -> None:
        """End the application's own troubles."""

    def stop(self) -> None:
        """Let the clients finish what they have begun, and no more."""

    def unrest(self, leader: Process) -> str:
        """Say what must still happen before all is as it has to be in the end; "" if nothing."""

    def probe(self, process: Process) -> Probe:
        """Ask this very process something that only a working cluster can answer."""

    def verify(self, leader: Process) -> None:
        """Check all that was answered, now that everybody agrees. Raises Unsafe."""
