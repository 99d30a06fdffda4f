"""Auth: users, roles and what they permit, as every member knows them after the same entries.

Commands are checked and carried out by `Auth.execute`, in the words of etcd 2.3.8. Nothing here
reads a clock or hashes a password: hashes come in commands, and only the API verifies them.

etcd 2 keeps all this in hidden keys of its store, which shows in three ways that are kept: each
change takes an index (`on_key`), four more are taken before the first one, and users and roles
whose names begin with "_" are in no listing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, assert_never

from pyetcd.command import (
    AuthCommand,
    CreateRole,
    CreateUser,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Names,
    Permissions,
    UpdateRole,
    UpdateUser,
)

# The user who may enable auth, and the role that may do everything.
ROOT: Final = "root"
# The role of those who give no credentials.
GUEST: Final = "guest"

_EVERYTHING: Final[Permissions] = (("/*",), ("/*",))
# The directories of users and roles, the one above them, and the key that says "enabled".
_KEYS_AT_FIRST: Final = 4


class AuthError(Exception):
    """A change or question that is refused; status and text are etcd's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"auth: {text}")
        self.status = status


class BadAuth(ValueError):
    """Bytes that do not describe users and roles."""


@dataclass(frozen=True, slots=True)
class User:
    """A user with a password."""

    name: str
    # As bcrypt writes it, with its salt and cost.
    password_hash: str = field(repr=False)
    # Of roles that need not exist; None and () look different to clients.
    roles: Names

    def document(self) -> dict[str, object]:
        """Return what a client is shown who has changed the user."""
        return {"user": self.name, "roles": self.roles}


@dataclass(frozen=True, slots=True)
class Role:
    """A set of permissions: keys, or beginnings of keys with a `*` behind them."""

    name: str
    permissions: Permissions
    # What a client sent along when it made the role, and which granted nothing: etcd keeps it.
    grant: Permissions | None = None
    revoke: Permissions | None = None

    def document(self) -> dict[str, object]:
        """Return what clients are shown."""
        fields: dict[str, object] = {
            "role": self.name,
            "permissions": _permissions_document(self.permissions),
        }
        if self.grant is not None:
            fields["grant"] = _permissions_document(self.grant)
        if self.revoke is not None:
            fields["revoke"] = _permissions_document(self.revoke)
        return fields


class Written(NamedTuple):
    """What a change has led to, and whether it is new."""

    subject: User | Role
    created: bool


class _Rules(NamedTuple):
    keys: frozenset[bytes]
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """The permissions of somebody, made for fast answers."""

    is_root: bool
    read: _Rules
    write: _Rules

    def allows(self, key: bytes, *, write: bool, recursive: bool) -> bool:
        """Tell whether this key may be read or written.

        A key ends as the client has written it, with or without a slash: "/*" allows "/", but not
        the empty key. All below a key is allowed by a `*` only.
        """
        if self.is_root:
            return True
        keys, prefixes = self.write if write else self.read
        return key.startswith(prefixes) or (not recursive and key in keys)


class Auth:
    """Users, roles and whether they count, at one point of the log.

    Invariants:
      1. `revision` grows with every change, so that equal revisions mean equal states.
      2. `revision_in_force` is `revision` while auth is enabled, and 0 otherwise.
      3. There is no role root in `roles`: it is built in, and cannot be changed.
    """

    def __init__(self, on_key: Callable[[], object] = int) -> None:
        """`on_key` is called for each key that etcd would write."""
        self.enabled = False
        self.users: dict[str, User] = {}
        self.roles: dict[str, Role] = {}
        self.revision = 0
        self.revision_in_force = 0
        # Whether etcd would have made its directories.
        self._is_prepared = False
        self._on_key = on_key

    # ------------------------------------------------------------------------------ questions

    def user(self, name: str) -> User:
        """Return a user, root with the role root in any case. Raises AuthError."""
        user = self.users.get(name)
        if user is None:
            raise AuthError(404, f"User {name} does not exist.")
        return _with_root_role(user)

    def role(self, name: str) -> Role:
        """Return a role. Raises AuthError."""
        if name == ROOT:
            return Role(ROOT, _EVERYTHING)
        role = self.roles.get(name)
        if role is None:
            raise AuthError(404, f"Role {name} does not exist.")
        return role

    def listed_users(self) -> list[User]:
        """Return the users in order of their names, without hidden ones."""
        return [self.user(name) for name in _listed(self.users)]

    def listed_roles(self) -> list[Role]:
        """Return the roles in order of their names, without hidden ones."""
        return [self.role(name) for name in _listed((*self.roles, ROOT))]

    def roles_of(self, user: User) -> list[Role]:
        """Return the roles of a user, without those that do not exist."""
        names = _with_root_role(user).roles or ()
        return [self.role(name) for name in names if name in self.roles or name == ROOT]

    def access_of(self, user: User) -> Access:
        """Return what a user may do."""
        return _compile(self.roles_of(user))

    def guest_access(self) -> Access:
        """Return what anybody may do."""
        guest = self.roles.get(GUEST)
        return _compile([] if guest is None else [guest])

    # -------------------------------------------------------------------------------- changes

    def execute(self, command: AuthCommand) -> Written | None:
        """Carry out a command. Raises AuthError."""
        try:
            return self._run(command)
        finally:
            self.revision_in_force = self.revision if self.enabled else 0

    def _run(self, command: AuthCommand) -> Written | None:
        match command:
            case CreateUser(name, password_hash, roles, may_exist):
                if may_exist and name in self.users:
                    return self._update_user(UpdateUser(name, password_hash, (), ()))
                return self._create_user(name, password_hash, roles)
            case UpdateUser():
                return self._update_user(command)
            case DeleteUser(name):
                self._delete_user(name)
            case CreateRole():
                return self._create_role(command)
            case UpdateRole():
                return self._update_role(command)
            case DeleteRole(name):
                self._delete_role(name)
            case EnableAuth():
                self._enable()
            case DisableAuth():
                self._disable()
            case unreachable:
                assert_never(unreachable)
        return None

    def _create_user(self, name: str, password_hash: str, roles: Names) -> Written:
        if not password_hash:
            raise AuthError(400, f"Cannot create user {name} with an empty password")
        self._prepare()
        if name in self.users:
            raise AuthError(409, f"User {name} already exists.")
        user = _with_root_role(User(name, password_hash, roles))
        self.users[name] = user
        self._write_key()
        return Written(user, created=True)

    def _update_user(self, command: UpdateUser) -> Written:
        name = command.name
        old = self.user(name)
        roles = set(old.roles or ())
        for role in command.grant:
            if role in roles:
                raise AuthError(409, f"Granting duplicate role {role} for user {name}")
            roles.add(role)
        for role in command.revoke:
            if role not in roles:
                raise AuthError(409, f"Revoking ungranted role {role} for user {name}")
            roles.remove(role)
        new = User(name, command.password_hash or old.password_hash, tuple(sorted(roles)))
        if new == old:
            what = "Use grant/revoke/password to update the user."
            raise AuthError(400, f"User not updated. {what}")
        self.users[name] = new
        self._write_key()
        return Written(new, created=False)

    def _delete_user(self, name: str) -> None:
        if self.enabled and name == ROOT:
            raise AuthError(403, "Cannot delete root user while auth is enabled.")
        self._prepare()
        if name not in self.users:
            raise AuthError(404, f"User {name} does not exist")
        del self.users[name]
        self._write_key()

    def _create_role(self, command: CreateRole) -> Written:
        role = Role(*command)
        _refuse_root(role.name)
        self._prepare()
        if role.name in self.roles:
            raise AuthError(409, f"Role {role.name} already exists.")
        self.roles[role.name] = role
        self._write_key()
        return Written(role, created=True)

    def _update_role(self, command: UpdateRole) -> Written:
        name, grant_read, grant_write, revoke_read, revoke_write = command
        _refuse_root(name)
        old = self.role(name)
        read = _granted("read", old.permissions[0], grant_read) - set(revoke_read)
        write = _granted("write", old.permissions[1], grant_write) - set(revoke_write)
        new = Role(name, (tuple(sorted(read)), tuple(sorted(write))))
        if new == old:
            raise AuthError(400, "Role not updated. Use grant/revoke to update the role.")
        self.roles[name] = new
        self._write_key()
        return Written(new, created=False)

    def _delete_role(self, name: str) -> None:
        _refuse_root(name)
        self._prepare()
        if name not in self.roles:
            raise AuthError(404, f"Role {name} doesn't exist.")
        del self.roles[name]
        self._write_key()

    def _enable(self) -> None:
        if self.enabled:
            raise AuthError(409, "already enabled")
        if ROOT not in self.users:
            raise AuthError(409, "No root user available, please create one")
        if GUEST not in self.roles:
            # Nobody is locked out before root says so.
            self.roles[GUEST] = Role(GUEST, _EVERYTHING)
            self._write_key()
        self.enabled = True
        self._write_key()

    def _disable(self) -> None:
        if not self.enabled:
            raise AuthError(409, "already disabled")
        self.enabled = False
        self._write_key()

    def _prepare(self) -> None:
        """Take the indexes of the keys that etcd makes before the first change, even a void one."""
        if not self._is_prepared:
            self._is_prepared = True
            for _ in range(_KEYS_AT_FIRST):
                self._write_key()

    def _write_key(self) -> None:
        self.revision += 1
        self._on_key()

    # ------------------------------------------------------------------------------ snapshots

    def encode(self) -> list[object]:
        """Return the state as values that msgpack takes; equal states give equal values."""
        users = [
            [user.name, user.password_hash, user.roles] for _, user in sorted(self.users.items())
        ]
        roles = [
            [role.name, role.permissions, role.grant, role.revoke]
            for _, role in sorted(self.roles.items())
        ]
        return [self.revision, self.enabled, self._is_prepared, users, roles]

    @staticmethod
    def decode(value: object) -> "Auth":
        """Return the state that `encode` was called on. Raises BadAuth."""
        match value:
            case [int() as revision, bool() as enabled, bool() as prepared, [*users], [*roles]]:
                auth = Auth()
                auth.revision = revision
                auth.enabled = enabled
                auth.revision_in_force = revision if enabled else 0
                auth._is_prepared = prepared
                auth.users = {user.name: user for user in map(_decode_user, users)}
                auth.roles = {role.name: role for role in map(_decode_role, roles)}
                return auth
            case _:
                raise BadAuth(f"not a state of auth: {type(value).__name__}")

    def install(self, other: "Auth") -> None:
        """Become another state; whoever holds this object sees it at once."""
        self.enabled = other.enabled
        self.users = other.users
        self.roles = other.roles
        self.revision = other.revision
        self.revision_in_force = other.revision_in_force
        self._is_prepared = other._is_prepared

    def check(self) -> None:
        """Assert the invariants above that one state can break."""
        in_force = self.revision if self.enabled else 0
        assert self.revision_in_force == in_force, f"{self.revision_in_force} is not {in_force}"
        assert ROOT not in self.roles, "role root was changed"
        assert not self.enabled or ROOT in self.users, "enabled without root"


def _permissions_document(permissions: Permissions) -> dict[str, object]:
    read, write = permissions
    return {"kv": {"read": read, "write": write}}


def _with_root_role(user: User) -> User:
    """Return the user; root has its role whatever was revoked."""
    roles = user.roles or ()
    if user.name != ROOT or ROOT in roles:
        return user
    return replace(user, roles=(*roles, ROOT))


def _refuse_root(role: str) -> None:
    if role == ROOT:
        raise AuthError(403, f"Cannot modify role {role}: is root role.")


def _granted(kind: str, old: Names, grant: Iterable[str]) -> set[str]:
    """Return the old permissions and the new ones. Raises AuthError for one that is there."""
    permissions = set(old or ())
    for pattern in grant:
        if pattern in permissions:
            raise AuthError(409, f"Granting duplicate {kind} permission {pattern}")
        permissions.add(pattern)
    return permissions


def _listed(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("_"))


def _compile(roles: list[Role]) -> Access:
    read: set[bytes] = set()
    write: set[bytes] = set()
    for role in roles:
        for patterns, found in zip(role.permissions, (read, write), strict=True):
            found.update(pattern.encode("utf-8", "surrogateescape") for pattern in patterns or ())
    is_root = any(role.name == ROOT for role in roles)
    return Access(is_root, _rules(read), _rules(write))


def _rules(patterns: set[bytes]) -> _Rules:
    # An empty pattern matches nothing: etcd has no answer to requests that meet one.
    keys = frozenset(pattern for pattern in patterns if pattern and not pattern.endswith(b"*"))
    prefixes = sorted(pattern[:-1] for pattern in patterns if pattern.endswith(b"*"))
    return _Rules(keys, tuple(prefixes))


def _decode_user(value: object) -> User:
    match value:
        case [str() as name, str() as password_hash, roles]:
            return User(name, password_hash, _decode_names(roles))
        case _:
            raise BadAuth("not a user")  # and not shown, for the sake of the hash


def _decode_role(value: object) -> Role:
    match value:
        case [str() as name, permissions, grant, revoke]:
            return Role(
                name,
                _decode_permissions(permissions),
                None if grant is None else _decode_permissions(grant),
                None if revoke is None else _decode_permissions(revoke),
            )
        case _:
            raise BadAuth(f"not a role: {value!r:.100}")


def _decode_permissions(value: object) -> Permissions:
    match value:
        case [read, write]:
            return _decode_names(read), _decode_names(write)
        case _:
            raise BadAuth(f"not permissions: {value!r:.100}")


def _decode_names(value: object) -> Names:
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise BadAuth(f"not a list of names: {value!r:.100}")
