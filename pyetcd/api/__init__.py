"""The client API: which handler answers which request.

The table says what etcd 2.3.8's says; paths that are not in it are 404. Handlers are plain
functions that take a request and answer it, at once or later; each module has those of one part.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from pyetcd.api.admin import Admin
from pyetcd.api.auth import ROLES, USERS, Accounts
from pyetcd.api.cors import allow_options
from pyetcd.api.guard import Guard
from pyetcd.api.info import Info
from pyetcd.api.keys import Keys
from pyetcd.api.late import LateHandler
from pyetcd.api.members import Members
from pyetcd.api.passwords import Passwords
from pyetcd.httpd import Handler, Route, not_found
from pyetcd.server.server import Server
from pyetcd.stats import Traffic

__all__ = ["routes"]

_KEYS_ALLOW: Final = b"HEAD,GET,PUT,POST,DELETE"
_MEMBERS_ALLOW: Final = b"GET,POST,DELETE,PUT"


def routes(
    server: Server, traffic: Traffic | None = None, *, passwords: Passwords | None = None
) -> list[Route]:
    """Return the table of the client port; to be called in the event loop.

    Without `traffic`, statistics of messages between members stay at zero; without `passwords`
    they are bcrypt's.
    """
    guard = Guard(server.auth, passwords=passwords)
    keys = Keys(server, guard)
    accounts = Accounts(server, guard)
    info = Info(server, traffic or Traffic(), loop_time=asyncio.get_running_loop().time)
    members = Members(server)
    admin = Admin(server)

    def load_metrics() -> Handler:
        from pyetcd.api.metrics import Metrics

        return Metrics(server, keys.requests).get

    on_keys: dict[bytes | None, Handler] = {
        b"GET": keys.get,
        b"HEAD": keys.get,
        b"PUT": keys.put,
        b"POST": keys.post,
        b"DELETE": keys.delete,
    }
    on_members: dict[bytes | None, Handler] = {
        b"GET": members.get,
        b"POST": guard.root_only(members.post),
        b"DELETE": guard.root_only(members.delete),
        b"PUT": guard.root_only(members.put),
    }
    return [
        # Routers look at prefixes in this order, and keys are asked for most.
        _route(b"/v2/keys/", on_keys, _KEYS_ALLOW),
        _route(b"/v2/keys", on_keys, _KEYS_ALLOW),
        _route(b"/v2/members/", on_members, _MEMBERS_ALLOW),
        _route(b"/v2/members", on_members, _MEMBERS_ALLOW),
        _route(b"/v2/auth/enable", {None: accounts.enable}, b""),
        _route(USERS, {None: accounts.users}, b""),
        _route(USERS + b"/", {None: accounts.users}, b""),
        _route(ROLES, {None: accounts.roles}, b""),
        _route(ROLES + b"/", {None: accounts.roles}, b""),
        _route(b"/v2/admin/snapshot", {b"GET": guard.root_only(admin.snapshot)}, b"GET"),
        _route(b"/v2/machines", {b"GET": info.machines, b"HEAD": info.machines}, b"GET,HEAD"),
        _route(b"/v2/stats/self", {b"GET": info.self_stats}, b"GET"),
        _route(b"/v2/stats/leader", {b"GET": info.leader_stats}, b"GET"),
        _route(b"/v2/stats/store", {b"GET": info.store_stats}, b"GET"),
        _route(b"/version", {b"GET": info.version}, b"GET"),
        _route(b"/health", {b"GET": info.health}, b"GET"),
        _route(b"/members", {b"GET": info.members}, b"GET"),
        _route(b"/config/local/log", {b"PUT": info.set_log_level}, b"PUT"),
        _route(b"/debug/vars", {b"GET": info.variables}, b"GET"),
        _route(b"/metrics", {None: LateHandler(load_metrics)}, b""),
        _route(b"/", {None: not_found}, b""),
    ]


def _route(pattern: bytes, handlers: Mapping[bytes | None, Handler], allow: bytes) -> Route:
    # A row for it costs nothing, as a question before every request would.
    return Route(pattern, {**handlers, b"OPTIONS": allow_options}, allow)
