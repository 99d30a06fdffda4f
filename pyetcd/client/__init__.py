"""An asyncio client of etcd's v2 API: `Client`, `Watcher`, `Lock` and `Election`.

`Client` is where to begin reading. Relies on aiohttp; shares nothing with the server but its
errors.
"""

from pyetcd.client.client import DEFAULT_ENDPOINTS, Client
from pyetcd.client.election import Election
from pyetcd.client.failure import (
    Attempt,
    BadSetting,
    ClientError,
    NoEndpoints,
    NotEtcd,
    Refused,
    Unavailable,
)
from pyetcd.client.lock import Lock, LockLost
from pyetcd.client.srv import discover
from pyetcd.client.tls import tls_context
from pyetcd.client.watch import Watcher
from pyetcd.client.wire import Event, Member, Node, Role, User

__all__ = [
    "Client",
    "Watcher",
    "Lock",
    "Election",
    "Event",
    "Node",
    "Member",
    "User",
    "Role",
    "ClientError",
    "Unavailable",
    "Attempt",
    "Refused",
    "NotEtcd",
    "NoEndpoints",
    "BadSetting",
    "LockLost",
    "DEFAULT_ENDPOINTS",
    "discover",
    "tls_context",
]
