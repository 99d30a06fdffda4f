"""auth enable and disable."""

from typing import Final

import click

from pyetcd.client import Client
from pyetcd.ctl.grammar import GoGroup, arguments
from pyetcd.ctl.session import Session, Settings, pass_settings, plain_error, refuse


@click.group("auth", cls=GoGroup, short_help="overall auth controls")
def auth() -> None:
    """Turn users and roles on or off."""


@auth.command("enable", short_help="enable auth access controls")
@arguments("")
@pass_settings
def enable(settings: Settings, args: tuple[str, ...]) -> None:
    """Demand permissions from here on."""
    if args:
        raise refuse("No arguments accepted")

    async def action(client: Client) -> None:
        await client.auth.enable()
        click.echo("Authentication Enabled")

    Session(settings).run(action, failing=plain_error)


@auth.command("disable", short_help="disable auth access controls")
@arguments("")
@pass_settings
def disable(settings: Settings, args: tuple[str, ...]) -> None:
    """Let everybody do everything."""
    if args:
        raise refuse("No arguments accepted")

    async def action(client: Client) -> None:
        await client.auth.disable()
        click.echo("Authentication Disabled")

    Session(settings).run(action, failing=plain_error)


COMMANDS: Final = (auth,)
