"""Who may do what, said once more, apart from `pyetcd.auth`: the simulation's own reading."""

from dataclasses import dataclass, field

from pyetcd.auth import Auth

_GUEST = "guest"
_ROOT = "root"


def hash_of(password: str) -> str:
    """Return what simulated members keep of a password."""
    return f"plain {password}"


@dataclass(frozen=True, slots=True)
class Rights:
    """Users, roles and whether they count, at one index."""

    enabled: bool = False
    # Hash and roles by user; patterns to read and to write by role.
    users: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    roles: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)

    @staticmethod
    def of(auth: Auth) -> "Rights":
        """Return the rights of this moment."""
        users = {
            name: (user.password_hash, tuple(user.roles or ())) for name, user in auth.users.items()
        }
        roles = {
            name: (tuple(role.permissions[0] or ()), tuple(role.permissions[1] or ()))
            for name, role in auth.roles.items()
        }
        return Rights(auth.enabled, users, roles)

    def allows(
        self, credential: tuple[str, str] | None, key: str, *, write: bool, recursive: bool
    ) -> bool:
        """Say whether somebody with this name and password may do that."""
        if not self.enabled:
            return True
        if credential is None:
            # For guests etcd does not ask whether it is recursive.
            return self._permits((_GUEST,), key, write=write, recursive=False)
        name, password = credential
        stored, roles = self.users.get(name, ("", ()))
        if stored != hash_of(password):
            return False
        if name == _ROOT or _ROOT in roles:
            return True
        return self._permits(roles, key, write=write, recursive=recursive)

    def _permits(self, roles: tuple[str, ...], key: str, *, write: bool, recursive: bool) -> bool:
        for role in roles:
            for pattern in self.roles.get(role, ((), ()))[write]:
                if pattern.endswith("*"):
                    if key.startswith(pattern[:-1]):
                        return True
                elif pattern == key and not recursive:
                    return True
        return False
