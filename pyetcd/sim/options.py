"""What one seed draws: a world of `raft.sim`, and what its members are asked for."""

import random
from dataclasses import dataclass, replace
from typing import Final

from raft.sim import MILLISECOND, Options, draw, read, show

# Fewer bytes than any request of the clients has would refuse all of them.
_LEAST_UNCOMMITTED_BYTES: Final = 20_000


@dataclass(slots=True)
class Load:
    """What is special to a world of etcd. Rates are mean seconds between two of a kind; 0 never."""

    # Clients that watch all the time, beside `Options.clients` who read and write.
    watchers: int = 4
    # Applied entries between two snapshots.
    snapshot_count: int = 50
    # Somebody enables auth, and then changes passwords, roles and who has them.
    auth_seconds: float = 0.0
    # The members' clocks are up to so much apart, and jump.
    skew_seconds: float = 0.0
    jump_seconds: float = 0.0
    # A member may be added only when enough others have started, and the like.
    strict_reconfig_check: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """All that a seed says; its text is read again by `parse`."""

    options: Options
    load: Load

    def __str__(self) -> str:
        """Return all that differs from the defaults."""
        return f"{self.options} {show(self.load)}".rstrip()


def parse(text: str) -> World:
    """Return what `str` shows of a world. Raises ValueError."""
    words = text.split()
    options, load = read(Options, words), read(Load, words)
    if words:
        raise ValueError(f"no options: {words}")
    if "seed" not in options:
        raise ValueError(f"no seed in {text!r}")
    return World(Options(**options), Load(**load))


def draw_world(seed: int) -> World:
    """Return the world of this seed."""
    rng = random.Random(f"etcd {seed}")
    choice = rng.choice
    options = draw(seed)
    options = replace(
        options,
        # As every member has it.
        pre_vote=True,
        check_quorum=True,
        max_uncommitted_bytes=max(options.max_uncommitted_bytes, _LEAST_UNCOMMITTED_BYTES),
        # The server decides on its snapshots.
        snapshot_entries=0,
        clients=choice((2, 4, 8)),
        keys=choice((1, 2, 4)),
        think_us=choice((20, 50, 100, 300)) * MILLISECOND,
    )
    load = Load(
        watchers=choice((2, 4, 8)),
        snapshot_count=choice((5, 20, 100, 1000)),
        auth_seconds=choice((0.0, 0.0, 0.2, 1.0)),
        skew_seconds=choice((0.0, 0.0, 0.5, 5.0)),
        jump_seconds=choice((0.0, 0.0, 3.0)),
        # A member whose disk is refused has to be removed, whoever has started.
        strict_reconfig_check=not options.flip_seconds and rng.random() < 0.5,
    )
    return World(options, load)
