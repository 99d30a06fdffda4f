"""user add, get, list, remove, grant, revoke and passwd."""

from typing import Final

import click

from pyetcd.client import Client, ClientError
from pyetcd.ctl.grammar import GoGroup, arguments, strings
from pyetcd.ctl.session import (
    Session,
    Settings,
    ask_password,
    pass_settings,
    plain_error,
    refuse,
    split_user,
)
from pyetcd.errors import EtcdError


@click.group("user", cls=GoGroup, short_help="user add, grant and revoke subcommands")
def user() -> None:
    """Show and change who may use the cluster."""


@user.command("add", short_help="add a new user for the etcd cluster")
@arguments("<user>")
@pass_settings
def add(settings: Settings, args: tuple[str, ...]) -> None:
    """Create a user: add NAME[:PASSWORD]. Asks for a password that is not given."""
    argument = only(args)

    async def action(client: Client) -> None:
        name = argument.partition(":")[0]
        try:
            await client.auth.user(name)
        except (ClientError, EtcdError):
            pass  # there is none, or the next request says what is wrong
        else:
            raise refuse(f"User {name} already exists")
        name, password = split_user(argument, "New password: ")
        await client.auth.add_user(name, password)
        click.echo(f"User {name} created")

    Session(settings).run(action, failing=plain_error)


@user.command("get", short_help="get details for a user")
@arguments("<user>")
@pass_settings
def get(settings: Settings, args: tuple[str, ...]) -> None:
    """Print a user's roles."""
    name = only(args)

    async def action(client: Client) -> None:
        found = await client.auth.user(name)
        click.echo(f"User: {found.name}")
        # etcdctl prints a blank more for each role, and scripts cut the line by it.
        click.echo(f"Roles: {' ' * len(found.roles)}{' '.join(found.roles)}")

    Session(settings).run(action, failing=plain_error)


@user.command("list", short_help="list all current users")
@arguments("")
@pass_settings
def list_(settings: Settings, args: tuple[str, ...]) -> None:
    """Print all users."""
    if args:
        raise refuse("No arguments accepted")

    async def action(client: Client) -> None:
        for name in await client.auth.users():
            click.echo(name)

    Session(settings).run(action, failing=plain_error)


@user.command("remove", short_help="remove a user for the etcd cluster")
@arguments("<user>")
@pass_settings
def remove(settings: Settings, args: tuple[str, ...]) -> None:
    """Delete a user."""
    name = only(args)

    async def action(client: Client) -> None:
        await client.auth.remove_user(name)
        click.echo(f"User {name} removed")

    Session(settings).run(action, failing=plain_error)


@user.command("grant", short_help="grant roles to an etcd user")
@strings("--roles", text="List of roles to grant or revoke")
@arguments("<user>")
@pass_settings
def grant(settings: Settings, args: tuple[str, ...], roles: tuple[str, ...]) -> None:
    """Grant roles to a user; -roles may be repeated."""
    change_roles(settings, args, roles, granted=True)


@user.command("revoke", short_help="revoke roles for an etcd user")
@strings("--roles", text="List of roles to grant or revoke")
@arguments("<user>")
@pass_settings
def revoke(settings: Settings, args: tuple[str, ...], roles: tuple[str, ...]) -> None:
    """Take roles from a user; -roles may be repeated."""
    change_roles(settings, args, roles, granted=False)


@user.command("passwd", short_help="change password for a user")
@arguments("<user>")
@pass_settings
def passwd(settings: Settings, args: tuple[str, ...]) -> None:
    """Ask for a user's new password and set it."""
    name = only(args)

    async def action(client: Client) -> None:
        await client.auth.user(name)
        await client.auth.set_password(name, ask_password("New password: "))
        click.echo("Password updated")

    Session(settings).run(action, failing=plain_error)


COMMANDS: Final = (user,)


def change_roles(
    settings: Settings, args: tuple[str, ...], roles: tuple[str, ...], *, granted: bool
) -> None:
    """Grant or revoke roles."""
    if not roles:
        raise refuse("No roles specified; please use `-roles`")
    name = only(args)

    async def action(client: Client) -> None:
        await client.auth.user(name)
        if granted:
            await client.auth.grant_user(name, roles)
        else:
            await client.auth.revoke_user(name, roles)
        click.echo(f"User {name} updated")

    Session(settings).run(action, failing=plain_error)


def only(args: tuple[str, ...]) -> str:
    """Return the one argument."""
    if len(args) != 1:
        raise refuse("Please provide a username")
    return args[0]
