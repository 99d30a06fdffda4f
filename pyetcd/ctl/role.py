"""role add, get, list, remove, grant and revoke."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import click

from pyetcd.client import Client, ClientError
from pyetcd.client.wire import clean_key
from pyetcd.ctl.grammar import GoGroup, arguments, string, switch
from pyetcd.ctl.session import Session, Settings, pass_settings, plain_error, refuse
from pyetcd.errors import EtcdError


@dataclass(frozen=True, slots=True)
class Permission:
    """What the flags of grant and revoke say."""

    path: str
    read: bool
    write: bool
    readwrite: bool

    def check(self) -> None:
        """Refuse what says too little or too much."""
        if not self.path:
            raise refuse("No path specified; please use `-path`")
        if clean_key(self.path) != self.path:
            raise refuse(f"Not canonical path; please use `-path={clean_key(self.path)}`")
        if [self.read, self.write, self.readwrite].count(True) != 1:
            raise refuse("Please specify exactly one of -read, -write or -readwrite")


@click.group("role", cls=GoGroup, short_help="role add, grant and revoke subcommands")
def role() -> None:
    """Show and change what users may do."""


@role.command("add", short_help="add a new role for the etcd cluster")
@arguments("<role>")
@pass_settings
def add(settings: Settings, args: tuple[str, ...]) -> None:
    """Create a role without permissions."""
    name = only(args)

    async def action(client: Client) -> None:
        try:
            await client.auth.role(name)
        except (ClientError, EtcdError):
            pass  # there is none, or the next request says what is wrong
        else:
            raise refuse(f"Role {name} already exists")
        await client.auth.add_role(name)
        click.echo(f"Role {name} created")

    Session(settings).run(action, failing=plain_error)


@role.command("get", short_help="get details for a role")
@arguments("<role>")
@pass_settings
def get(settings: Settings, args: tuple[str, ...]) -> None:
    """Print a role's permissions."""
    name = only(args)

    async def action(client: Client) -> None:
        found = await client.auth.role(name)
        click.echo(f"Role: {found.name}")
        for title, patterns in (("KV Read:", found.read), ("KV Write:", found.write)):
            click.echo(title)
            for pattern in patterns:
                click.echo(f"\t{pattern}")

    Session(settings).run(action, failing=plain_error)


@role.command("list", short_help="list all roles")
@arguments("")
@pass_settings
def list_(settings: Settings, args: tuple[str, ...]) -> None:
    """Print all roles."""
    if args:
        raise refuse("No arguments accepted")

    async def action(client: Client) -> None:
        for name in await client.auth.roles():
            click.echo(name)

    Session(settings).run(action, failing=plain_error)


@role.command("remove", short_help="remove a role from the etcd cluster")
@arguments("<role>")
@pass_settings
def remove(settings: Settings, args: tuple[str, ...]) -> None:
    """Delete a role."""
    name = only(args)

    async def action(client: Client) -> None:
        await client.auth.remove_role(name)
        click.echo(f"Role {name} removed")

    Session(settings).run(action, failing=plain_error)


def permission_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Declare the flags that grant and revoke share."""
    for flag in (
        switch("--readwrite", text="read-write access"),
        switch("--write", text="write-only access"),
        switch("--read", text="read-only access"),
        string("--path", text="path that the role may access"),
    ):
        command = flag(command)
    return command


@role.command("grant", short_help="grant path matches to an etcd role")
@permission_flags
@arguments("<role>")
@pass_settings
def grant(
    settings: Settings,
    args: tuple[str, ...],
    path: str,
    read: bool,
    write: bool,
    readwrite: bool,
) -> None:
    """Let a role access a path, or all keys that begin with PATH if it ends in an asterisk."""
    change_role(settings, args, Permission(path, read, write, readwrite), granted=True)


@role.command("revoke", short_help="revoke path matches for an etcd role")
@permission_flags
@arguments("<role>")
@pass_settings
def revoke(
    settings: Settings,
    args: tuple[str, ...],
    path: str,
    read: bool,
    write: bool,
    readwrite: bool,
) -> None:
    """Take the access to a path from a role."""
    change_role(settings, args, Permission(path, read, write, readwrite), granted=False)


COMMANDS: Final = (role,)


def change_role(
    settings: Settings, args: tuple[str, ...], permission: Permission, *, granted: bool
) -> None:
    """Grant or revoke one path."""
    permission.check()
    name = only(args)

    async def action(client: Client) -> None:
        before = await client.auth.role(name)
        change = client.auth.grant_role if granted else client.auth.revoke_role
        path = [permission.path]
        after = await change(
            name,
            read=path if permission.read or permission.readwrite else [],
            write=path if permission.write or permission.readwrite else [],
        )
        if after == before:
            click.echo(f"Role unchanged; already {'granted' if granted else 'revoked'}")
        click.echo(f"Role {name} updated")

    Session(settings).run(action, failing=plain_error)


def only(args: tuple[str, ...]) -> str:
    """Return the one argument."""
    if len(args) != 1:
        raise refuse("Please provide a role name")
    return args[0]
