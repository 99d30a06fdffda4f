"""watch and exec-watch: what happens to keys, printed or handed to a program."""

import asyncio
import os
from typing import Final

import click

from pyetcd.client import Client, Event, Watcher
from pyetcd.ctl.grammar import GoCommand, arguments, number, switch
from pyetcd.ctl.keys import first
from pyetcd.ctl.output import show_event
from pyetcd.ctl.session import Action, Exit, Failed, Session, Settings, bad_arguments, pass_settings


@click.command("watch", cls=GoCommand, short_help="watch a key for changes")
@switch("--forever", text="forever watch a key until CTRL+C")
@number("--after-index", text="watch after the given index")
@switch("--recursive", text="returns all values for key and child keys")
@arguments("<key>")
@pass_settings
def watch(
    settings: Settings,
    args: tuple[str, ...],
    forever: bool,
    after_index: int,
    recursive: bool,
) -> None:
    """Print the next change of a key, or all of them."""
    key = first(args)

    async def action(client: Client) -> None:
        async for event in Watcher(client, key, recursive=recursive, after_index=after_index):
            if event.node.is_dir:
                continue
            if recursive:
                click.echo(f"[{event.action}] {event.node.key}")
            show_event(event, settings.output)
            if not forever:
                return

    run_until_interrupt(settings, action)


@click.command(
    "exec-watch", cls=GoCommand, short_help="watch a key for changes and exec an executable"
)
@number("--after-index", text="watch after the given index")
@switch("--recursive", text="watch all values for key and child keys")
@arguments("<key> <command> [args...]")
@pass_settings
def exec_watch(
    settings: Settings, args: tuple[str, ...], after_index: int, recursive: bool
) -> None:
    """Run a program for every change of a key: exec-watch KEY -- PROGRAM ARGUMENTS.

    The program finds the change in ETCD_WATCH_ACTION, ETCD_WATCH_KEY, ETCD_WATCH_VALUE and
    ETCD_WATCH_MODIFIED_INDEX.
    """
    if len(args) < 2:
        raise bad_arguments("key and command to exec required")
    key, *program = args

    async def action(client: Client) -> None:
        # Programs run side by side; who is not waited for becomes a zombie.
        running: set[asyncio.Task[int]] = set()
        try:
            async for event in Watcher(client, key, recursive=recursive, after_index=after_index):
                if event.node.is_dir:
                    click.echo(f"Ignored dir {event.node.key} change", err=True)
                    continue
                task = asyncio.create_task((await start(program, event)).wait())
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            await asyncio.gather(*running)

    run_until_interrupt(settings, action)


COMMANDS: Final = (watch, exec_watch)


async def start(program: list[str], event: Event) -> asyncio.subprocess.Process:
    """Start a program with an event in its environment."""
    environment = {
        **os.environ,
        "ETCD_WATCH_ACTION": event.action,
        "ETCD_WATCH_MODIFIED_INDEX": str(event.node.modified_index),
        "ETCD_WATCH_KEY": event.node.key,
        "ETCD_WATCH_VALUE": event.node.value,
    }
    try:
        return await asyncio.create_subprocess_exec(
            *program, env=environment, stdin=asyncio.subprocess.DEVNULL
        )
    except (OSError, ValueError) as error:
        raise Failed(Exit.BAD_ARGUMENTS, f"{error}\n") from error


def run_until_interrupt(settings: Settings, action: Action) -> None:
    """Run without a limit; Ctrl-C is the way to end it, and no failure."""
    try:
        Session(settings).run(action, limited=False)
    except KeyboardInterrupt:
        return
