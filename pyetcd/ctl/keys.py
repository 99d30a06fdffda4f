"""get, set, mk, update, rm and ls, and the same for directories."""

import sys
from collections.abc import Awaitable, Callable
from typing import Final

import click

from pyetcd.client import Client, Event, Node
from pyetcd.ctl.grammar import GoCommand, arguments, number, string, switch
from pyetcd.ctl.output import show_event
from pyetcd.ctl.session import Exit, Failed, Session, Settings, bad_arguments, pass_settings

TTL_TEXT: Final = "key time-to-live in seconds"


@click.command("get", cls=GoCommand, short_help="retrieve the value of a key")
@switch("--sort", text="returns result in sorted order")
@switch("--quorum", text="require quorum for get request")
@arguments("<key>")
@pass_settings
def get(settings: Settings, args: tuple[str, ...], sort: bool, quorum: bool) -> None:
    """Print the value of a key."""
    key = first(args)

    async def action(client: Client) -> None:
        event = await client.get(key, in_order=sort, quorum=quorum)
        if event.node.is_dir:
            raise Failed(Exit.BAD_ARGUMENTS, f"{event.node.key}: is a directory\n")
        show_event(event, settings.output)

    Session(settings).run(action)


@click.command("ls", cls=GoCommand, short_help="retrieve a directory")
@switch("--sort", text="returns result in sorted order")
@switch("--recursive", text="returns all key names recursively for the given path")
@switch("-p", "slash", text="append slash (/) to directories")
@switch("--quorum", text="require quorum for get request")
@arguments("[key]")
@pass_settings
def ls(
    settings: Settings,
    args: tuple[str, ...],
    sort: bool,
    recursive: bool,
    slash: bool,
    quorum: bool,
) -> None:
    """Print the keys in a directory."""
    key = args[0] if args else "/"

    async def action(client: Client) -> None:
        event = await client.get(key, recursive=recursive, in_order=sort, quorum=quorum)
        if settings.output == "json":
            show_event(event, settings.output)
            return
        if not event.node.is_dir:
            click.echo(event.node.key)
        for name in names_below(event.node, "/" if slash else ""):
            click.echo(name)

    Session(settings).run(action)


@click.command("set", cls=GoCommand, short_help="set the value of a key")
@number("--ttl", text=TTL_TEXT)
@string("--swap-with-value", text="previous value")
@number("--swap-with-index", text="previous index")
@arguments("<key> <value>")
@pass_settings
def set_(
    settings: Settings,
    args: tuple[str, ...],
    ttl: int,
    swap_with_value: str,
    swap_with_index: int,
) -> None:
    """Give a key a value, or what stdin holds.

    A value that begins with a dash needs two before the key: set -- KEY VALUE.
    """
    key, value = key_and_value(args)
    run_write(
        settings,
        lambda client: client.set(
            key,
            value,
            ttl_seconds=positive(ttl),
            prev_value=swap_with_value or None,
            prev_index=swap_with_index or None,
        ),
    )


@click.command("mk", cls=GoCommand, short_help="make a new key with a given value")
@switch("--in-order", text="create in-order key under directory <key>")
@number("--ttl", text=TTL_TEXT)
@arguments("<key> <value>")
@pass_settings
def mk(settings: Settings, args: tuple[str, ...], in_order: bool, ttl: int) -> None:
    """Create a key that must not exist yet."""
    key, value = key_and_value(args)
    seconds = positive(ttl)

    def write(client: Client) -> Awaitable[Event]:
        if in_order:
            return client.create_in_order(key, value, ttl_seconds=seconds)
        return client.set(key, value, ttl_seconds=seconds, prev_exist=False)

    run_write(settings, write)


@click.command("update", cls=GoCommand, short_help="update an existing key with a given value")
@number("--ttl", text=TTL_TEXT)
@arguments("<key> <value>")
@pass_settings
def update(settings: Settings, args: tuple[str, ...], ttl: int) -> None:
    """Give a key another value; it must exist."""
    key, value = key_and_value(args)
    run_write(
        settings,
        lambda client: client.set(key, value, ttl_seconds=positive(ttl), prev_exist=True),
    )


@click.command("mkdir", cls=GoCommand, short_help="make a new directory")
@number("--ttl", text=TTL_TEXT)
@arguments("<key>")
@pass_settings
def mkdir(settings: Settings, args: tuple[str, ...], ttl: int) -> None:
    """Create a directory that must not exist yet."""
    write_dir(settings, first(args), ttl, prev_exist=False)


@click.command(
    "setdir",
    cls=GoCommand,
    short_help="create a new directory or update an existing directory TTL",
)
@number("--ttl", text=TTL_TEXT)
@arguments("<key>")
@pass_settings
def setdir(settings: Settings, args: tuple[str, ...], ttl: int) -> None:
    """Create a directory, or give the one that is there another TTL."""
    write_dir(settings, first(args), ttl, prev_exist=None)


@click.command("updatedir", cls=GoCommand, short_help="update an existing directory")
@number("--ttl", text=TTL_TEXT)
@arguments("<key>")
@pass_settings
def updatedir(settings: Settings, args: tuple[str, ...], ttl: int) -> None:
    """Give a directory another TTL; it must exist."""
    write_dir(settings, first(args), ttl, prev_exist=True)


@click.command("rm", cls=GoCommand, short_help="remove a key or a directory")
@switch("--dir", "is_dir", text="removes the key if it is an empty directory or a key-value pair")
@switch("--recursive", text="removes the key and all child keys(if it is a directory)")
@string("--with-value", text="previous value")
@number("--with-index", text="previous index")
@arguments("<key>")
@pass_settings
def rm(
    settings: Settings,
    args: tuple[str, ...],
    is_dir: bool,
    recursive: bool,
    with_value: str,
    with_index: int,
) -> None:
    """Remove a key, or a directory."""
    key = first(args)
    run_write(
        settings,
        lambda client: client.delete(
            key,
            is_dir=is_dir,
            recursive=recursive,
            prev_value=with_value or None,
            prev_index=with_index or None,
        ),
    )


@click.command(
    "rmdir",
    cls=GoCommand,
    short_help="removes the key if it is an empty directory or a key-value pair",
)
@arguments("<key>")
@pass_settings
def rmdir(settings: Settings, args: tuple[str, ...]) -> None:
    """Remove an empty directory, or a key."""
    key = first(args)
    run_write(settings, lambda client: client.delete(key, is_dir=True))


COMMANDS: Final = (mk, mkdir, rm, rmdir, get, ls, set_, setdir, update, updatedir)


def run_write(settings: Settings, write: Callable[[Client], Awaitable[Event]]) -> None:
    """Write and show the key, unless it is a directory."""

    async def action(client: Client) -> None:
        event = await write(client)
        if not event.node.is_dir:
            show_event(event, settings.output)

    Session(settings).run(action)


def write_dir(settings: Settings, key: str, ttl: int, *, prev_exist: bool | None) -> None:
    """Create or change a directory; prints nothing."""

    async def action(client: Client) -> None:
        await client.set_dir(key, ttl_seconds=positive(ttl), prev_exist=prev_exist)

    Session(settings).run(action)


def names_below(node: Node, slash: str) -> list[str]:
    """Return the keys below a directory, each directory before what is in it."""
    names = []
    for child in node.nodes:
        names.append(child.key + (slash if child.is_dir else ""))
        names += names_below(child, slash)
    return names


def first(args: tuple[str, ...]) -> str:
    """Return the key."""
    if not args:
        raise bad_arguments("key required")
    return args[0]


def key_and_value(args: tuple[str, ...]) -> tuple[str, str]:
    """Return the key and the value, which stdin holds if it is not among the arguments."""
    key = first(args)
    if len(args) > 1:
        return key, args[1]
    value = sys.stdin.buffer.read().decode(errors="surrogateescape")
    if not value:
        raise bad_arguments("value required")
    return key, value


def positive(ttl: int) -> int | None:
    """Return a TTL that is meant."""
    return ttl if ttl > 0 else None
