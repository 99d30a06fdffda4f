"""How a member finds out who it is: it restarts, starts a cluster, or joins one.

`plan` is called before anything is written. `decide.py` looks at flags and data directory;
`static.py` and `existing.py` ask what only the network can tell. The storage is not known here: the
caller says what is on the disk and stores `Plan.identity` as metadata of a new log.
"""

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from pyetcd.bootstrap.decide import Decision, Existing, New, OnDisk, Restart, decide
from pyetcd.bootstrap.existing import joining_identity
from pyetcd.bootstrap.identity import BadIdentity, BootstrapError, Identity
from pyetcd.bootstrap.remote import REAL_NETWORK, Network
from pyetcd.bootstrap.static import new_identity
from pyetcd.config import Config

__all__ = [
    "plan",
    "Plan",
    "Start",
    "OnDisk",
    "Identity",
    "BootstrapError",
    "BadIdentity",
    "Network",
    "REAL_NETWORK",
    "decide",
    "Decision",
    "Restart",
    "New",
    "Existing",
]


class Start(Enum):
    """The three ways to start."""

    # The log tells the rest.
    RESTART = "restart"
    # `identity.members` are the first members of the log.
    NEW = "new"
    # The log comes from the members that run; until then `identity.members` says where they are.
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Plan:
    """Who this member is, and how it begins."""

    start: Start
    identity: Identity
    # About flags that are ignored; to be logged.
    warnings: tuple[str, ...] = ()


async def plan(config: Config, on_disk: OnDisk, network: Network = REAL_NETWORK) -> Plan:
    """Find out how to start.

    Raises BootstrapError; nothing was written then.
    """
    match decide(config, on_disk):
        case Restart(identity, warnings):
            return Plan(Start.RESTART, identity, warnings)
        case New() as new:
            return Plan(Start.NEW, await new_identity(config, new, network))
        case Existing() as existing:
            return Plan(Start.JOIN, await joining_identity(config, existing, network))
        case unreachable:
            assert_never(unreachable)
