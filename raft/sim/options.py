"""What one seed draws: the size of the cluster, its settings, and which troubles it has.

Not every run has every trouble: some bugs show only where others are absent (swarm testing).
"""

import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from raft.sim.clock import MILLISECOND, SECOND

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(slots=True)
class Options:
    """One world. Rates of troubles are mean seconds between two of a kind; 0 is never."""

    seed: int
    # Voters at the beginning.
    servers: int = 3
    # Servers that may be added.
    spares: int = 3
    # Simulated seconds with troubles; and at most so many without, until all must agree.
    fault_seconds: int = 30
    heal_seconds: int = 60
    # Raft's settings.
    tick_us: int = 100 * MILLISECOND
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    max_append_bytes: int = 1 << 20
    max_inflight_messages: int = 256
    max_apply_bytes: int = 1 << 20
    max_uncommitted_bytes: int = 64 << 20
    # Entries between two snapshots (0 leaves it to the state machine), and those kept behind one.
    snapshot_entries: int = 100
    catch_up_entries: int = 50
    segment_bytes: int = 16 * 1024
    # Each server's ticks are up to so much longer or shorter.
    drift: float = 0.0
    # How long a turn of a process's loop takes: all that arrives meanwhile is done at its end.
    loop_us: int = 0
    # The load.
    clients: int = 5
    keys: int = 5
    think_us: int = 100 * MILLISECOND
    # The network.
    delay_us: int = 2 * MILLISECOND
    jitter_us: int = 1 * MILLISECOND
    loss: float = 0.0
    repetition: float = 0.0
    # A message overtakes others by being held back this long.
    reorder: float = 0.0
    partition_seconds: float = 0.0
    one_way_seconds: float = 0.0
    clog_seconds: float = 0.0
    # The disks.
    write_us: int = 1 * MILLISECOND
    # A write that takes no time is waited for, as a node waits for a quick disk.
    waits: bool = False
    slow_seconds: float = 0.0
    slow_us: int = 200 * MILLISECOND
    # The server whose disk is always slow; 0 for none.
    laggard: int = 0
    eio_seconds: float = 0.0
    full_seconds: float = 0.0
    flip_seconds: float = 0.0
    # The processes.
    kill_seconds: float = 0.0
    power_seconds: float = 0.0
    blackout_seconds: float = 0.0  # all servers at once
    pause_seconds: float = 0.0
    # The operators.
    change_seconds: float = 0.0
    transfer_seconds: float = 0.0

    @property
    def fault_us(self) -> int:
        """The length of the first phase."""
        return self.fault_seconds * SECOND

    @property
    def election_us(self) -> int:
        """The longest election timeout."""
        return 2 * self.election_ticks * self.tick_us

    @property
    def heal_us(self) -> int:
        """The most that the second phase may take."""
        return self.heal_seconds * SECOND

    def __str__(self) -> str:
        """Return all that differs from the defaults."""
        return show(self)


def show(options: "DataclassInstance") -> str:
    """Return those fields that differ from their defaults, as `name=value` words."""
    changed = [
        f"{field.name}={getattr(options, field.name)}"
        for field in fields(options)
        if getattr(options, field.name) != field.default
    ]
    return " ".join(changed)


def read(kind: "type[DataclassInstance]", words: list[str]) -> dict[str, Any]:
    """Take the fields of this class out of the words that `show` has made. Raises ValueError."""
    values: dict[str, Any] = {}
    defaults = {it.name: it.default for it in fields(kind)}
    for word in list(words):
        name, _, value = word.partition("=")
        if name in defaults:
            words.remove(word)
            if isinstance(defaults[name], bool):
                values[name] = value == "True"
            else:
                values[name] = float(value) if isinstance(defaults[name], float) else int(value)
    return values


def parse(text: str) -> Options:
    """Return what `str` shows of options. Raises ValueError."""
    words = text.split()
    values = read(Options, words)
    if words:
        raise ValueError(f"no options: {words}")
    if "seed" not in values:
        raise ValueError(f"no seed in {text!r}")
    return Options(**values)


def draw_steady(seed: int) -> Options:
    """Return three voters without troubles, and five clients that pause for 0.1 s at a time."""
    return Options(seed, servers=3, clients=5, think_us=100 * MILLISECOND)


def draw_contested(seed: int) -> Options:
    """Return a world in which hardly any leader stays, and logs part from one another."""
    choice = random.Random(f"contested {seed}").choice
    return Options(
        seed,
        servers=choice((3, 4, 5)),
        fault_seconds=20,
        election_ticks=choice((4, 10)),
        pre_vote=choice((True, False, False)),
        check_quorum=choice((True, False, False)),
        # Few entries a message: logs agree in a part of what is sent.
        max_append_bytes=200,
        max_inflight_messages=choice((1, 4, 256)),
        snapshot_entries=200,
        clients=8,
        keys=8,
        think_us=choice((20, 100)) * MILLISECOND,
        delay_us=choice((2, 10)) * MILLISECOND,
        jitter_us=choice((1, 40)) * MILLISECOND,
        loss=choice((0.0, 0.1, 0.3)),
        reorder=choice((0.0, 0.05)),
        write_us=choice((0, 1, 30)) * MILLISECOND,
        partition_seconds=choice((0.7, 1.5)),
        one_way_seconds=choice((0.0, 1.0)),
        kill_seconds=choice((0.0, 1.0)),
        pause_seconds=choice((0.0, 1.0)),
        transfer_seconds=choice((0.0, 1.0)),
        change_seconds=choice((0.0, 0.5)),
        waits=choice((True, False)),
    )


def draw_flipped(seed: int) -> Options:
    """Return a short world in which bits flip on disks, and processes start again soon after."""
    choice = random.Random(f"flipped {seed}").choice
    return Options(
        seed,
        # Of five, two may be refused their disks.
        servers=5,
        fault_seconds=8,
        segment_bytes=choice((4096, 16384)),
        snapshot_entries=choice((50, 200)),
        # Little is written: a flip often hits the last record, whose end a start has to judge.
        clients=choice((1, 3)),
        think_us=choice((100, 300)) * MILLISECOND,
        flip_seconds=choice((0.3, 1.0)),
        kill_seconds=choice((0.5, 1.0)),
        write_us=choice((0, 1)) * MILLISECOND,
        waits=choice((True, False)),
    )


def draw(seed: int) -> Options:
    """Return the world of this seed."""
    rng = random.Random(f"options {seed}")
    choice = rng.choice
    # Some worlds have many troubles, and some have few: some bugs need a quiet time.
    fewer = choice((0.5, 1.0, 1.0, 4.0))

    def rate(likelihood: float, *seconds: float) -> float:
        value = choice(seconds) * fewer
        return value if rng.random() < likelihood else 0.0

    options = Options(
        seed,
        servers=choice((1, 2, 3, 3, 3, 3, 3, 4, 5)),
        fault_seconds=choice((10, 20, 30)),
        election_ticks=choice((4, 10, 10)),
        heartbeat_ticks=choice((1, 1, 2)),
        pre_vote=rng.random() < 0.8,
        check_quorum=rng.random() < 0.85,
        max_append_bytes=choice((200, 4096, 1 << 20)),
        max_inflight_messages=choice((1, 4, 256, 256)),
        max_apply_bytes=choice((4096, 1 << 20)),
        max_uncommitted_bytes=choice((1000, 64 << 20)),
        snapshot_entries=choice((5, 20, 50, 200)),
        catch_up_entries=choice((0, 0, 5, 50)),
        segment_bytes=choice((4096, 16 * 1024, 64 * 1024)),
        drift=choice((0.0, 0.05, 0.3)),
        loop_us=choice((0, 0, 1, 20)) * MILLISECOND,
        clients=choice((1, 3, 5, 8)),
        keys=choice((1, 3, 8)),
        think_us=choice((20, 100, 100, 500)) * MILLISECOND,
        delay_us=choice((1, 2, 10, 40)) * MILLISECOND,
        jitter_us=choice((0, 1, 5, 40)) * MILLISECOND,
        loss=choice((0.0, 0.0, 0.01, 0.1, 0.3)),
        repetition=choice((0.0, 0.0, 0.05, 0.2)),
        reorder=choice((0.0, 0.0, 0.05, 0.2)),
        partition_seconds=rate(0.5, 3, 8),
        one_way_seconds=rate(0.4, 3, 8),
        clog_seconds=rate(0.4, 2, 5),
        write_us=choice((0, 1, 1, 5, 30)) * MILLISECOND,
        slow_seconds=rate(0.3, 3, 8),
        slow_us=choice((100, 300, 1500)) * MILLISECOND,
        laggard=choice((0, 0, 0, 0, 1)),
        eio_seconds=rate(0.25, 8, 15),
        full_seconds=rate(0.2, 8, 15),
        flip_seconds=rate(0.25, 6, 15),
        kill_seconds=rate(0.5, 2, 6),
        power_seconds=rate(0.6, 2, 6),
        blackout_seconds=rate(0.2, 8, 15),
        pause_seconds=rate(0.4, 3, 6),
        change_seconds=rate(0.5, 0.5, 2, 6),
        transfer_seconds=rate(0.4, 1, 4),
    )
    if options.laggard:
        # It lives on snapshots: one follows the other before the first is on its disk.
        options.slow_us = 1500 * MILLISECOND
        options.snapshot_entries, options.catch_up_entries = 5, 0
        options.think_us = 20 * MILLISECOND
    elif choice((True, *[False] * 9)):
        # Answers come late: questions are asked again, and both are answered.
        options.reorder, options.loop_us = 0.2, 20 * MILLISECOND
        options.clients, options.think_us = 8, 10 * MILLISECOND
        options.election_ticks, options.delay_us = 4, 10 * MILLISECOND
    if options.full_seconds:
        # It takes many writes to small files to notice that a disk is full.
        options.segment_bytes = 4096
        options.think_us = min(options.think_us, 20 * MILLISECOND)
    options.waits = choice((True, False))
    return options
