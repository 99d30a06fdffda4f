"""import: copies the keys of an etcd 0.4 snapshot into a cluster.

The file is the store as JSON, or that inside the envelope in which etcd 0.4 saved it: a line with
a checksum, then a JSON document whose `state` is the store in base64. A file from elsewhere is
checked, never believed.
"""

import asyncio
import base64
import binascii
import json
import math
import posixpath
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from pyetcd.client import Client, ClientError
from pyetcd.ctl.grammar import GoCommand, arguments, number, string, strings
from pyetcd.ctl.session import Exit, Failed, Session, Settings, describe, pass_settings
from pyetcd.errors import EtcdError

CLIENTS: Final = 10
# A key that would expire while it is copied is given time to be found.
MIN_TTL_SECONDS: Final = 300
# What the store writes for a key that does not expire.
PERMANENT: Final = "0001-01-01T00:00:00Z"


class BadSnapshot(Exception):
    """The file is no snapshot, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One key to be set."""

    key: str
    value: str
    # Seconds left, 0 for no TTL; below 0 if it has expired in the meantime.
    ttl: int


@click.command("import", cls=GoCommand, short_help="import a snapshot to a cluster")
@string("--snap", text="Path to the valid etcd 0.4.x snapshot.")
@strings("--hidden", text="Hidden key spaces to import from snapshot")
@number("-c", "--clients", default=CLIENTS, text="Number of concurrent clients to import the data")
@arguments("")
@pass_settings
def import_(
    settings: Settings, args: tuple[str, ...], snap: str, hidden: tuple[str, ...], clients: int
) -> None:
    """Set all keys of an etcd 0.4 snapshot; hidden ones only if they are named."""
    if not snap:
        click.echo("no snapshot file provided (use --snap)")
        raise Failed(Exit.BAD_ARGUMENTS)
    try:
        data = Path(snap).read_bytes()
    except OSError:
        click.echo(f"cannot read snapshot file {snap}")
        raise Failed(Exit.BAD_ARGUMENTS) from None
    try:
        copies = list(read_snapshot(data, hidden, datetime.now(UTC)))
    except BadSnapshot as error:
        raise Failed(Exit.SERVER_ERROR, f"Error:  {error}\n") from error
    click.echo(f"starting to import snapshot {snap} with {clients} clients")

    async def action(client: Client) -> None:
        source = iter(copies)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(clients, 1)):
                    group.create_task(copy_keys(client, source))
        except ExceptionGroup as failures:
            # One is enough to tell, and enough to end.
            raise failures.exceptions[0] from None

    Session(settings).run(action, limited=False)
    click.echo(f"finished importing {len(copies)} keys")


COMMANDS: Final = (import_,)


async def copy_keys(client: Client, source: Iterator[Copy]) -> None:
    """Set keys until none is left; several of these share one source."""
    for copy in source:
        click.echo(f"copying key: {copy.key}", err=True)
        ttl = copy.ttl
        if ttl and ttl < MIN_TTL_SECONDS:
            click.echo(f"extending key {copy.key}'s ttl to {MIN_TTL_SECONDS} seconds", err=True)
            ttl = MIN_TTL_SECONDS
        try:
            await client.set(copy.key, copy.value, ttl_seconds=ttl or None)
        except (ClientError, EtcdError) as error:
            text = f"failed to copy key: {describe(error)}\n"
            raise Failed(Exit.BAD_ARGUMENTS, text) from error


def read_snapshot(data: bytes, hidden: tuple[str, ...], now: datetime) -> Iterator[Copy]:
    """Yield the keys of a snapshot, and of the hidden directories that are named."""
    root = store_of(data).get("Root")
    yield from keys_of(root, "/", now)
    for name in hidden:
        node, path = root, posixpath.normpath("/" + name.strip("/"))
        for part in path.strip("/").split("/"):
            node = (node.get("Children") or {}).get(part) if isinstance(node, dict) else None
        if node is None:
            raise BadSnapshot(f"100: Key not found ({path}) [0]")
        yield from keys_of(node, path, now)


def store_of(data: bytes) -> dict[str, Any]:
    """Return the store in a file of either form."""
    line, _, rest = data.partition(b"\n")
    if len(line) == 8 and rest.startswith(b"{"):
        if f"{zlib.crc32(rest):08x}".encode() != line.lower():
            raise BadSnapshot("the checksum of the snapshot does not match")
        try:
            data = base64.b64decode(parse_object(rest).get("state") or b"", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadSnapshot("the snapshot holds no store") from None
    return parse_object(data)


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        value = json.loads(data)
    except ValueError:
        raise BadSnapshot("the file is no snapshot of etcd 0.4") from None
    if not isinstance(value, dict):
        raise BadSnapshot("the file is no snapshot of etcd 0.4")
    return value


def keys_of(node: Any, path: str, now: datetime) -> Iterator[Copy]:
    """Yield the keys below a node that are not hidden, in order."""
    if not isinstance(node, dict):
        raise BadSnapshot(f"the snapshot has no node at {path}")
    children, value = node.get("Children"), node.get("Value")
    if children is None and path != "/":
        if not isinstance(value, str):
            raise BadSnapshot(f"the value of {path} is no text")
        yield Copy(path, value, ttl_of(node, path, now))
        return
    if not isinstance(children or {}, dict):
        raise BadSnapshot(f"the children of {path} are no object")
    click.echo(f"entering dir: {path}", err=True)
    for name, child in sorted((children or {}).items()):
        if not name.startswith("_"):
            yield from keys_of(child, posixpath.join(path, name), now)


def ttl_of(node: dict[str, Any], path: str, now: datetime) -> int:
    """Return the seconds that a key has left; 0 if it does not expire."""
    text = node.get("ExpireTime", PERMANENT)
    if text == PERMANENT:
        return 0
    try:
        left = (datetime.fromisoformat(text) - now).total_seconds()
    except (TypeError, ValueError):
        raise BadSnapshot(f"{path} expires at {text}, which is no time") from None
    return math.ceil(left) or -1
