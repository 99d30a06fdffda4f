"""cluster-health: asks every member on its client URLs whether it is well."""

import asyncio
from collections.abc import Sequence
from typing import Final

import click

from pyetcd.client import Client, ClientError, Member, Unavailable
from pyetcd.ctl.grammar import GoCommand, arguments, switch
from pyetcd.ctl.session import Exit, Failed, Session, Settings, pass_settings, server_error

CHECK_SECONDS: Final = 10


@click.command("cluster-health", cls=GoCommand, short_help="check the health of the etcd cluster")
@switch("--forever", text="forever check the health every 10 second until CTRL+C")
@arguments("")
@pass_settings
def cluster_health(settings: Settings, args: tuple[str, ...], forever: bool) -> None:
    """Print the health of every member; exit code 5 if none is well."""

    async def action(client: Client) -> None:
        try:
            members = await client.members.list()
        except ClientError as error:
            click.echo("cluster may be unhealthy: failed to list members")
            raise server_error(error) from error
        while True:
            healthy = await check(client, members)
            click.echo("cluster is healthy" if healthy else "cluster is unhealthy")
            if not forever:
                if not healthy:
                    raise Failed(Exit.NOT_HEALTHY)
                return
            click.echo(f"\nnext check after {CHECK_SECONDS} second...\n")
            await asyncio.sleep(CHECK_SECONDS)

    try:
        Session(settings).run(action, sync=False, limited=False)
    except KeyboardInterrupt:
        if not forever:
            raise


COMMANDS: Final = (cluster_health,)


async def check(client: Client, members: Sequence[Member]) -> bool:
    """Ask all members in turn; return whether one of them is well."""
    healthy = False
    for member in members:
        if not member.client_urls:
            click.echo(f"member {member.id} is unreachable: no available published client urls")
            continue
        answer = await ask(client, member)
        if answer is None:
            urls = " ".join(member.client_urls)
            click.echo(f"member {member.id} is unreachable: [{urls}] are all unreachable")
            continue
        well, url = answer
        word = "healthy" if well else "unhealthy"
        click.echo(f"member {member.id} is {word}: got {word} result from {url}")
        healthy = healthy or well
    return healthy


async def ask(client: Client, member: Member) -> tuple[bool, str] | None:
    """Return what a member says and on which URL; None if it says nothing on any."""
    for url in member.client_urls:
        try:
            return await client.healthy(url), url
        except ClientError as error:
            reason = error.attempts[0].reason if isinstance(error, Unavailable) else error
            click.echo(f"failed to check the health of member {member.id} on {url}: {reason}")
    return None
