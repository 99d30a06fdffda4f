"""The auth API: users, roles, and whether either matters.

Relies on `endpoints` to send and `wire` to read. Passwords go out in bodies that are never shown.
"""

from collections.abc import Sequence
from typing import Any, Final

from pyetcd.client.endpoints import Endpoints
from pyetcd.client.failure import NotEtcd
from pyetcd.client.wire import (
    Role,
    User,
    json_object,
    json_request,
    list_of,
    refusal,
    role_from,
    text_of,
    user_from,
)

PATH: Final = "/v2/auth"


class Auth:
    """Users and roles of the cluster that the endpoints belong to."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Send through these endpoints."""
        self._endpoints = endpoints

    async def enable(self) -> None:
        """Demand permissions from here on; needs a user root."""
        await self._send("PUT", "enable")

    async def disable(self) -> None:
        """Let everybody do everything."""
        await self._send("DELETE", "enable")

    async def users(self) -> tuple[str, ...]:
        """Return the names of all users."""
        body = await self._send("GET", "users")
        return tuple(_name(user, "user") for user in list_of(json_object(body), "users"))

    async def user(self, name: str) -> User:
        """Return one user with the roles."""
        return user_from(json_object(await self._send("GET", f"users/{name}")))

    async def add_user(self, name: str, password: str) -> None:
        """Create a user without roles."""
        fields = {"user": name, "password": password, "roles": None}
        await self._send("PUT", f"users/{name}", fields, secret=True)

    async def remove_user(self, name: str) -> None:
        """Delete a user."""
        await self._send("DELETE", f"users/{name}")

    async def set_password(self, name: str, password: str) -> None:
        """Change a user's password."""
        await self.add_user(name, password)

    async def grant_user(self, name: str, roles: Sequence[str]) -> User:
        """Grant roles to a user and return what the user has then."""
        fields = {"user": name, "roles": None, "grant": list(roles)}
        return user_from(json_object(await self._send("PUT", f"users/{name}", fields)))

    async def revoke_user(self, name: str, roles: Sequence[str]) -> User:
        """Take roles from a user and return what the user has then."""
        fields = {"user": name, "roles": None, "revoke": list(roles)}
        return user_from(json_object(await self._send("PUT", f"users/{name}", fields)))

    async def roles(self) -> tuple[str, ...]:
        """Return the names of all roles."""
        body = await self._send("GET", "roles")
        return tuple(_name(role, "role") for role in list_of(json_object(body), "roles"))

    async def role(self, name: str) -> Role:
        """Return one role."""
        return role_from(json_object(await self._send("GET", f"roles/{name}")))

    async def add_role(self, name: str) -> None:
        """Create a role without permissions."""
        fields = {"role": name, "permissions": _permissions((), ())}
        await self._send("PUT", f"roles/{name}", fields)

    async def remove_role(self, name: str) -> None:
        """Delete a role."""
        await self._send("DELETE", f"roles/{name}")

    async def grant_role(
        self, name: str, *, read: Sequence[str] = (), write: Sequence[str] = ()
    ) -> Role:
        """Add patterns of keys to a role and return it."""
        return await self._change_role(name, "grant", _permissions(read, write))

    async def revoke_role(
        self, name: str, *, read: Sequence[str] = (), write: Sequence[str] = ()
    ) -> Role:
        """Take patterns of keys from a role and return it."""
        return await self._change_role(name, "revoke", _permissions(read, write))

    async def _change_role(self, name: str, change: str, permissions: object) -> Role:
        fields = {"role": name, "permissions": _permissions((), ()), change: permissions}
        return role_from(json_object(await self._send("PUT", f"roles/{name}", fields)))

    async def _send(
        self, method: str, path: str, value: object = None, *, secret: bool = False
    ) -> bytes:
        request = json_request(method, f"{PATH}/{path}", value, secret=secret)
        answer = await self._endpoints.send(request)
        if answer.status not in (200, 201):
            raise refusal(answer)
        return answer.body


def _permissions(read: Sequence[str], write: Sequence[str]) -> dict[str, Any]:
    """Return permissions as the server takes them: what is not meant is null."""
    return {"kv": {"read": list(read) or None, "write": list(write) or None}}


def _name(item: Any, field: str) -> str:
    """Return the name in a list that has whole objects."""
    if not isinstance(item, dict):
        raise NotEtcd
    return text_of(item, field)
