"""One run: a phase with troubles, then one without, in which the cluster must come to rest.

`simulate` never raises: whatever happens becomes an `Outcome`.
"""

import gc
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from raft.sim.application import Application, Probe
from raft.sim.clock import SECOND
from raft.sim.cluster import Cluster
from raft.sim.errors import EXIT_CRASH, EXIT_STUCK, EXIT_UNSAFE, Stuck, Unsafe
from raft.sim.nemesis import Nemesis
from raft.sim.options import Options
from raft.sim.process import Process
from raft.sim.workload import Workload
from raft.sim.world import Say, World

_LOOK_US = SECOND // 2
_PROBE_US = 3 * SECOND
# Objects, without those that are gone; a run makes some hundred thousand.
_MADE_BEFORE_COLLECTION = 50_000


class Verdict(Enum):
    """How a run ended; the value is the exit code."""

    PASSED = 0
    # Code under test has raised what nobody expected.
    CRASH = EXIT_CRASH
    # A promise was broken.
    UNSAFE = EXIT_UNSAFE
    # It did not come to rest, or did not answer.
    STUCK = EXIT_STUCK


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    options: Options
    verdict: Verdict
    # Why it failed; "" if it did not.
    problem: str
    # Equal for two runs in which the same happened.
    trace_hash: str
    simulated_seconds: float
    counts: Counter[str]
    steps: int

    @property
    def exit_code(self) -> int:
        """What the process returns."""
        return int(self.verdict.value)


class Simulation:
    """A cluster with its application and its troubles."""

    def __init__(
        self,
        options: Options,
        say: Say | None = None,
        application: Callable[[World], Application] = Workload,
    ) -> None:
        """`say` is given each line of the trace; `application` makes what the world is about."""
        self.world = World(options, say)
        self.application = application(self.world)
        self.cluster = Cluster(
            self.world, self.application.make_machine, self.application.first_entries
        )

    def run(self) -> None:
        """Run both phases. Raises Unsafe, Stuck, and whatever the code under test raises."""
        world, cluster = self.world, self.cluster
        cluster.start_all()
        self.application.start(cluster)
        nemesis = Nemesis(world, cluster, self.application)
        world.clock.run_until(world.options.fault_us)
        nemesis.stop()
        world.trace("all troubles end")
        cluster.heal()
        self.application.heal()
        # The load goes on for a while, so that rest must be found under it.
        world.clock.run_until(world.clock.now + 3 * SECOND)
        self.application.stop()
        if not self._come_to_rest():
            world.count("quorums lost")
            return
        self._hand_over()
        if self._come_to_rest():
            self._stay()
            self.application.verify(self._leader())

    def _come_to_rest(self) -> bool:
        """Let time pass until all servers agree and answer; False when too many are damaged."""
        world = self.world
        clock = world.clock
        deadline = clock.now + world.options.heal_us
        probes: dict[int, tuple[Probe, int]] = {}
        while True:
            clock.run_until(clock.now + _LOOK_US)
            self.cluster.start_all()
            if found := self.cluster.find_damaged():
                self.application.remove(*found)
            if not self.cluster.has_quorum_left(world.facts.configuration):
                return False
            problem = self._unrest() or self._unanswered(probes)
            if not problem:
                return True
            if clock.now > deadline:
                raise Stuck(problem)

    def _hand_over(self) -> None:
        """Let another voter lead, if there is one: it must come to lead (thesis 3.10)."""
        leader = self._leader()
        others = [it for it in leader.core.configuration.voters if it != leader.server_id]
        if others:
            transferee, term = others[-1], leader.core.term
            assert self.cluster.find(transferee) is not None, f"{transferee:x} does not run"
            self.cluster.transfer(leader, transferee)
            self.world.clock.run_until(self.world.clock.now + self.world.options.election_us)
            # It may have left since, if somebody had asked for that before.
            later = [who for led, who in self.world.facts.leaders.items() if led > term]
            # Until it leads, there is no leader for whose sake a server that has left is ignored.
            is_undisturbed = self.world.options.pre_vote or not self._has_outsiders()
            if transferee not in later and is_undisturbed and self._is_protected():
                raise Stuck(f"{transferee:x} was not handed the leadership")

    def _is_protected(self) -> bool:
        """Whether no server that has left can depose the leader."""
        return self.world.options.check_quorum or not self._has_outsiders()

    def _has_outsiders(self) -> bool:
        """Whether a server runs that is no voter."""
        leader = self.cluster.leader()
        insiders = leader.core.configuration.voters if leader is not None else ()
        return any(it.server_id not in insiders for it in self.cluster.running())

    def _stay(self) -> None:
        """Let time pass: without trouble nobody else may be elected."""
        options = self.world.options
        leader = self._leader()
        if not self._is_protected():
            return
        term = leader.core.term
        self.world.clock.run_until(self.world.clock.now + 3 * options.election_us)
        if leader.core.term != term or leader.core.role != "leader":
            raise Stuck(f"{leader.server_id:x} did not stay the leader of term {term}")

    def _leader(self) -> Process:
        leader = self.cluster.leader()
        assert leader is not None, "nobody leads, and yet all agreed"
        return leader

    def _unrest(self) -> str:
        """Say what is not as it must be in the end; "" if all is well."""
        leader = self.cluster.leader()
        if leader is None:
            return "nobody leads"
        core = leader.core
        if core.configuration.voters_outgoing:
            return f"the configuration stays joint: {core.configuration}"
        for server_id in core.configuration.servers:
            process = self.cluster.find(server_id)
            if process is None:
                return f"{server_id:x} does not run"
            other = process.core
            if other.applied_index != core.log.last_index:
                return f"{server_id:x} has applied {other.applied_index} of {core.log.last_index}"
            if other.leader != core.leader:
                return f"{server_id:x} follows {other.leader:x}, not {core.leader:x}"
            snapshot_entries = self.world.options.snapshot_entries
            since_snapshot = other.applied_index - other.snapshot_index
            if snapshot_entries and since_snapshot >= snapshot_entries:
                return f"{server_id:x} saves no snapshot, after {since_snapshot} entries"
            if process.machine.fingerprint() != leader.machine.fingerprint():
                raise Unsafe(f"the states of {server_id:x} and {leader.server_id:x} differ")
        return self.application.unrest(leader)

    def _unanswered(self, probes: dict[int, tuple[Probe, int]]) -> str:
        """Ask everybody, again when there was no answer; say who has not answered yet."""
        leader = self._leader()
        silent = ""
        for server_id in leader.core.configuration.servers:
            process = self.cluster.find(server_id)
            assert process is not None, f"{server_id:x} does not run"
            probe, asked = probes.get(server_id, (None, 0))
            if probe is not None and probe.is_answered and _is_of(probe, process):
                continue
            silent = f"{server_id:x} does not answer"
            if probe is None or self.world.clock.now - asked > _PROBE_US:
                probes[server_id] = (self.application.probe(process), self.world.clock.now)
        return silent


def simulate(
    options: Options,
    say: Say | None = None,
    application: Callable[[World], Application] = Workload,
) -> Outcome:
    """Run one world and say what became of it."""
    simulation = Simulation(options, say, application)
    verdict, problem = Verdict.PASSED, ""
    try:
        with _rare_collections():
            simulation.run()
    except Unsafe as error:
        verdict, problem = Verdict.UNSAFE, str(error)
    except Stuck as error:
        verdict, problem = Verdict.STUCK, str(error)
    except Exception:
        verdict, problem = Verdict.CRASH, traceback.format_exc()
    world = simulation.world
    return Outcome(
        options,
        verdict,
        problem,
        world.trace_hash,
        world.clock.now / SECOND,
        world.counts,
        world.facts.steps,
    )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage less often: nearly all that a run makes, it keeps to its end."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_MADE_BEFORE_COLLECTION, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def _is_of(probe: Probe, process: Process) -> bool:
    return probe.process is process
