"""member list, add, remove and update."""

from typing import Final

import click

from pyetcd.client import Client, ClientError
from pyetcd.ctl.grammar import GoGroup, arguments
from pyetcd.ctl.session import Session, Settings, describe, pass_settings, plain_error, refuse
from pyetcd.urls import parse_urls


@click.group("member", cls=GoGroup, short_help="member add, remove and list subcommands")
def member() -> None:
    """Show and change who is in the cluster."""


@member.command("list", short_help="enumerate existing cluster members")
@arguments("")
@pass_settings
def list_(settings: Settings, args: tuple[str, ...]) -> None:
    """Print all members, and which of them leads."""
    if args:
        raise refuse("No arguments accepted")

    async def action(client: Client) -> None:
        members = await client.members.list()
        try:
            leader = await client.members.leader()
        except ClientError as error:
            raise refuse(f"Failed to get leader:  {describe(error)}") from error
        for each in members:
            peer_urls = ",".join(each.peer_urls)
            if not each.name:
                click.echo(f"{each.id}[unstarted]: peerURLs={peer_urls}")
                continue
            leads = "true" if each.id == leader.id else "false"
            client_urls = ",".join(each.client_urls)
            click.echo(
                f"{each.id}: name={each.name} peerURLs={peer_urls} "
                f"clientURLs={client_urls} isLeader={leads}"
            )

    Session(settings).run(action, failing=plain_error)


@member.command("add", short_help="add a new member to the etcd cluster")
@arguments("<name> <peerURL>")
@pass_settings
def add(settings: Settings, args: tuple[str, ...]) -> None:
    """Let a member join: add NAME PEER_URL. Prints what to start it with."""
    if len(args) != 2:
        raise refuse("Provide a name and a single member peerURL")
    name, url = args

    async def action(client: Client) -> None:
        added = await client.members.add(parse_urls([url]))
        click.echo(f"Added member named {name} with ID {added.id} to cluster")
        cluster = ",".join(
            f"{name if each.id == added.id else each.name}={peer_url}"
            for each in await client.members.list()
            for peer_url in each.peer_urls
        )
        click.echo(f'\nETCD_NAME="{name}"')
        click.echo(f'ETCD_INITIAL_CLUSTER="{cluster}"')
        click.echo('ETCD_INITIAL_CLUSTER_STATE="existing"')

    Session(settings).run(action, failing=plain_error)


@member.command("remove", short_help="remove an existing member from the etcd cluster")
@arguments("<memberID>")
@pass_settings
def remove(settings: Settings, args: tuple[str, ...]) -> None:
    """Take a member out of the cluster for good: remove ID."""
    if len(args) != 1:
        raise refuse("Provide a single member ID")
    member_id = args[0]

    async def action(client: Client) -> None:
        try:
            members = await client.members.list()
        except ClientError as error:
            raise refuse(
                f"Error while verifying ID against known members: {describe(error)}"
            ) from error
        for each in members:
            if each.name == member_id:
                click.echo(
                    f"Found a member named {each.name}; if this is correct, please use its ID, "
                    f"eg:\n\tpyetcdctl member remove {each.id}\n",
                    err=True,
                )
        if member_id not in [each.id for each in members]:
            raise refuse(f"Couldn't find a member in the cluster with an ID of {member_id}.")
        try:
            await client.members.remove(member_id)
        except ClientError as error:
            raise refuse(
                f"Received an error trying to remove member {member_id}: {describe(error)}"
            ) from error
        click.echo(f"Removed member {member_id} from cluster")

    Session(settings).run(action, failing=plain_error)


@member.command("update", short_help="update an existing member in the etcd cluster")
@arguments("<memberID> <peerURLs>")
@pass_settings
def update(settings: Settings, args: tuple[str, ...]) -> None:
    """Change where the others reach a member: update ID PEER_URLS."""
    if len(args) != 2:
        raise refuse(
            "Provide an ID and a list of comma separated peerURL "
            "(0xabcd http://example.com,http://example1.com)"
        )
    member_id, urls = args

    async def action(client: Client) -> None:
        await client.members.update(member_id, parse_urls(urls.split(",")))
        click.echo(f"Updated member with ID {member_id} in cluster")

    Session(settings).run(action, failing=plain_error)


COMMANDS: Final = (member,)
