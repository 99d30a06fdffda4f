"""`/v2/auth`: users, roles, and whether they count.

What is wrong with a request by itself is answered here; whether a change is possible is decided
when it is applied, the same on every member. Passwords leave this file as hashes only, and appear
in no log and no error.

Creating a user is 201 with a password alone, and 200 with roles, as in etcd 2.3.8.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from pyetcd.api.guard import Guard
from pyetcd.api.json_body import (
    JSON_HEAD,
    BadBody,
    answer_message,
    fields_of,
    read_value,
    to_text,
    to_texts,
)
from pyetcd.auth import AuthError, User, Written
from pyetcd.command import (
    AuthCommand,
    Command,
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Names,
    Overtaken,
    Permissions,
    UpdateRole,
    UpdateUser,
)
from pyetcd.errors import go_json
from pyetcd.httpd import FormError, Handler, Request, method_not_allowed
from pyetcd.logs import NOTICE
from pyetcd.server.apply import Done, Result

log = logging.getLogger(__name__)

USERS: Final = b"/v2/auth/users"
ROLES: Final = b"/v2/auth/roles"

_ALLOW: Final = (b"GET", b"PUT", b"DELETE")
_ALLOW_ON_LISTS: Final = (b"GET",)

_NOTICES: Final[Mapping[type[AuthCommand], str]] = {
    CreateUser: "auth: wrote user %r",
    UpdateUser: "auth: updated user %r",
    DeleteUser: "auth: deleted user %r",
    CreateRole: "auth: created new role %r",
    UpdateRole: "auth: updated role %r",
    DeleteRole: "auth: deleted role %r",
    EnableAuth: "auth: enabled auth",
    DisableAuth: "auth: disabled auth",
}


class AuthServer(Protocol):
    """What the handlers need of a server."""

    @property
    def cluster_id(self) -> int:
        """Shown in most answers."""

    def propose(self, command: Command, done: Done, last_sweep: int = 0) -> None:
        """Have a command applied, then call `done` with its result; see Overtaken."""


class Accounts:
    """The handlers, one for each page; they answer all methods."""

    def __init__(self, server: AuthServer, guard: Guard) -> None:
        self._server = server
        self._guard = guard
        self._auth = guard.auth
        self._cluster_head = b"X-Etcd-Cluster-Id: %x\r\n" % server.cluster_id
        self._head = JSON_HEAD + self._cluster_head

    def enable(self, request: Request) -> None:
        """Answer `/v2/auth/enable`: anybody may look, and root may change it."""
        if not _is_allowed(request, _ALLOW):
            return
        if request.method == b"GET":
            self._answer(request, 200, {"enabled": self._auth.enabled})
        elif self._guard.admits_root(request, self.enable):
            command: AuthCommand = DisableAuth()
            if request.method == b"PUT":
                command = EnableAuth()
            self._propose(request, command, again=self.enable)

    def users(self, request: Request) -> None:
        """Answer `/v2/auth/users` and what is below."""
        name = _name_in(request, USERS)
        if name is None or not self._admits(request, name, self.users):
            return
        if not name:
            self._list_users(request)
        elif request.method == b"GET":
            self._show_user(request, name)
        elif request.method == b"PUT":
            self._put_user(request, name)
        else:
            self._propose(request, DeleteUser(name), again=self.users)

    def roles(self, request: Request) -> None:
        """Answer `/v2/auth/roles` and what is below."""
        name = _name_in(request, ROLES)
        if name is None or not self._admits(request, name, self.roles):
            return
        if not name:
            self._list_roles(request)
        elif request.method == b"GET":
            self._show_role(request, name)
        elif request.method == b"PUT":
            self._put_role(request, name)
        else:
            self._propose(request, DeleteRole(name), again=self.roles)

    def _admits(self, request: Request, name: str, again: Handler) -> bool:
        allowed = _ALLOW if name else _ALLOW_ON_LISTS
        return _is_allowed(request, allowed) and self._guard.admits_root(request, again)

    # ----------------------------------------------------------------------------------- users

    def _list_users(self, request: Request) -> None:
        users = [self._user_document(user) for user in self._auth.listed_users()]
        if self._has_form(request):
            self._answer(request, 200, {"users": users or None})

    def _show_user(self, request: Request, name: str) -> None:
        try:
            user = self._auth.user(name)
            if not self._has_form(request):
                return
            for role in user.roles or ():
                self._auth.role(role)
        except AuthError as error:
            self._refuse(request, error)
            return
        self._answer(request, 200, self._user_document(user))

    def _user_document(self, user: User) -> dict[str, object]:
        """Return a user with whole roles, those that there are."""
        roles = [role.document() for role in self._auth.roles_of(user)]
        return {"user": user.name, "roles": roles} if roles else {"user": user.name}

    def _put_user(self, request: Request, name: str) -> None:
        try:
            wanted = _read_user(request.body)
        except BadBody:
            self._answer_message(request, 400, "Invalid JSON in request body.")
            return
        if wanted.name != name:
            message = "User JSON name does not match the name in the URL"
            self._answer_message(request, 400, message)
        elif wanted.roles and (wanted.grant or wanted.revoke):
            message = "User JSON contains both roles and grant/revoke"
            self._answer_message(request, 400, message)
        elif wanted.password:
            revision = self._auth.revision_in_force
            done = partial(self._propose_user, request, wanted, revision)
            self._guard.passwords.hash(wanted.password.encode(), done)
        else:
            self._propose_user(request, wanted, self._auth.revision_in_force, "")

    def _propose_user(
        self, request: Request, wanted: "_UserBody", revision: int, password_hash: str
    ) -> None:
        if revision != self._auth.revision_in_force:
            # While bcrypt ran, the sender may have lost the right to do this.
            self.users(request)
            return
        command: AuthCommand
        if wanted.grant or wanted.revoke:
            command = UpdateUser(wanted.name, password_hash, wanted.grant, wanted.revoke)
        else:
            command = CreateUser(
                wanted.name, password_hash, wanted.roles, may_exist=not wanted.roles
            )
        created_status = 200 if wanted.roles else 201
        self._propose(request, command, again=self.users, created_status=created_status)

    # ----------------------------------------------------------------------------------- roles

    def _list_roles(self, request: Request) -> None:
        roles = [role.document() for role in self._auth.listed_roles()]
        if self._has_form(request):
            self._answer(request, 200, {"roles": roles})

    def _show_role(self, request: Request, name: str) -> None:
        try:
            self._answer(request, 200, self._auth.role(name).document())
        except AuthError as error:
            self._refuse(request, error)

    def _put_role(self, request: Request, name: str) -> None:
        try:
            wanted = _read_role(request.body)
        except BadBody:
            self._answer_message(request, 400, "Invalid JSON in request body.")
            return
        grants = any(wanted.grant or ()) or any(wanted.revoke or ())
        if wanted.name != name:
            message = "Role JSON name does not match the name in the URL"
            self._answer_message(request, 400, message)
        elif not grants:
            self._propose(request, wanted, again=self.roles)
        elif any(wanted.permissions):
            message = "Role JSON contains both permissions and grant/revoke"
            self._answer_message(request, 400, message)
        else:
            grant, revoke = wanted.grant or (None, None), wanted.revoke or (None, None)
            command = UpdateRole(
                name, grant[0] or (), grant[1] or (), revoke[0] or (), revoke[1] or ()
            )
            self._propose(request, command, again=self.roles)

    # --------------------------------------------------------------------------------- answers

    def _propose(
        self, request: Request, command: AuthCommand, *, again: Handler, created_status: int = 201
    ) -> None:
        def done(result: Result) -> None:
            if isinstance(result, Overtaken):
                request.last_sweep = result.last_sweep
                again(request)
            elif isinstance(result, AuthError):
                self._refuse(request, result)
            elif isinstance(result, Written):
                log.log(NOTICE, _NOTICES[type(command)], *command[:1])
                status = created_status if result.created else 200
                self._answer(request, status, result.subject.document())
            elif result is None:
                log.log(NOTICE, _NOTICES[type(command)], *command[:1])
                request.respond(200, self._head)
            else:
                log.error("got unexpected response error (%s)", result)
                self._answer_message(request, 500, "Internal Server Error")

        self._server.propose(command, done, request.last_sweep)

    def _has_form(self, request: Request) -> bool:
        """Tell whether the form can be read, though nobody needs it; answer if not, as etcd."""
        try:
            request.form()
        except FormError:
            self._answer_message(request, 500, "Internal Server Error")
            return False
        return True

    def _answer(self, request: Request, status: int, document: dict[str, object]) -> None:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        request.respond(status, self._head, go_json(text).encode() + b"\n")

    def _answer_message(self, request: Request, status: int, message: str) -> None:
        answer_message(request, status, message, self._cluster_head)

    def _refuse(self, request: Request, error: AuthError) -> None:
        self._answer_message(request, error.status, str(error))


@dataclass(slots=True)
class _UserBody:
    """What a client asks for."""

    name: str
    password: str = field(repr=False)
    roles: Names
    grant: tuple[str, ...]
    revoke: tuple[str, ...]


def _read_user(body: bytes) -> _UserBody:
    """Raises BadBody."""
    fields = fields_of(
        read_value(body, whole=False), "user", "password", "roles", "grant", "revoke"
    )
    name, password, roles, grant, revoke = fields
    return _UserBody(
        to_text(name),
        to_text(password),
        None if roles is None else tuple(to_texts(roles)),
        tuple(to_texts(grant)),
        tuple(to_texts(revoke)),
    )


def _read_role(body: bytes) -> CreateRole:
    """Raises BadBody."""
    fields = fields_of(read_value(body, whole=False), "role", "permissions", "grant", "revoke")
    name, permissions, grant, revoke = fields
    return CreateRole(
        to_text(name),
        _to_permissions(permissions),
        None if grant is None else _to_permissions(grant),
        None if revoke is None else _to_permissions(revoke),
    )


def _to_permissions(value: object) -> Permissions:
    """Raises BadBody."""
    (keys,) = fields_of(value, "kv")
    read, write = fields_of(keys, "read", "write")
    return (
        None if read is None else tuple(to_texts(read)),
        None if write is None else tuple(to_texts(write)),
    )


def _name_in(request: Request, prefix: bytes) -> str | None:
    """Return the name below a path, "" for the list; None when there is more, which is answered."""
    name = request.path[len(prefix) :].strip(b"/")
    if b"/" in name:
        answer_message(request, 400, "Invalid path")
        return None
    return name.decode("utf-8", "surrogateescape")


def _is_allowed(request: Request, methods: tuple[bytes, ...]) -> bool:
    """Tell whether the page takes the method; answer if not."""
    if request.method in methods:
        return True
    method_not_allowed(request, b",".join(methods))
    return False
