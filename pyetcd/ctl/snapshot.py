"""backup, snapshot save, snapshot restore, doctor: what is done with files, not with keys.

The work is in `pyetcd.backup` and `pyetcd.doctor`, which know the server's formats; they are
imported only when one of these commands runs, so that the others start as fast as without them.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from pyetcd.client import BadSetting, NoEndpoints, discover, tls_context
from pyetcd.ctl.grammar import GoCommand, GoGroup, arguments, string, switch
from pyetcd.ctl.session import Exit, Failed, Settings, pass_settings, refuse, split_user
from pyetcd.urls import UrlError, UrlsMap, parse_urls_map

DEFAULT_CLUSTER: Final = "default=http://localhost:2380,default=http://localhost:7001"


@click.command("backup", cls=GoCommand, short_help="backup an etcd directory")
@string("--data-dir", text="path to the etcd data dir; a member may run with it")
@string("--wal-dir", text="path to the etcd wal dir, if it is elsewhere")
@string("--backup-dir", text="path to the backup dir, which must be new")
@string("--backup-wal-dir", text="path to the backup wal dir, if it shall be elsewhere")
def backup(data_dir: str, wal_dir: str, backup_dir: str, backup_wal_dir: str) -> None:
    """Make a data dir of another, for a new cluster of one: start it with -force-new-cluster."""
    from pyetcd.backup import BackupError
    from pyetcd.backup import backup as back_up

    if not data_dir or not backup_dir:
        raise refuse("Provide --data-dir and --backup-dir")
    try:
        identity = back_up(
            Path(data_dir),
            Path(backup_dir),
            wal_dir=_path(wal_dir),
            backup_wal_dir=_path(backup_wal_dir),
        )
    except (BackupError, OSError) as error:
        raise _failed(error) from error
    click.echo(f"member {identity.member_id:x} of cluster {identity.cluster_id:x} in {backup_dir}")


@click.group("snapshot", cls=GoGroup, short_help="save and restore a hot backup")
def snapshot() -> None:
    """Save a backup of a running cluster to a file, and make a new cluster of it."""


@snapshot.command("save", short_help="stream a backup of a running cluster to a file")
@arguments("<file>")
@pass_settings
def save(settings: Settings, args: tuple[str, ...]) -> None:
    """Save a backup that has all that was acknowledged until now; root's, when auth is on."""
    if len(args) != 1:
        raise refuse("Provide a file to save to")
    content = asyncio.run(_save(settings, Path(args[0])))
    click.echo(f"saved {args[0]}: {content}")


@snapshot.command("restore", short_help="make the data dirs of a new cluster of a file")
@arguments("<file>")
@string("--name", text="make only this member's; default: all members'")
@string("--data-dir", text="with --name: the data dir (NAME.etcd); else: where to make all of them")
@string("--wal-dir", text="with --name: the wal dir, if it shall be elsewhere")
@click.option("--initial-cluster", default=DEFAULT_CLUSTER, help="the new members: NAME=URL,...")
@click.option("--initial-cluster-token", default="etcd-cluster", help="token of the new cluster")
def restore(
    args: tuple[str, ...],
    name: str,
    data_dir: str,
    wal_dir: str,
    initial_cluster: str,
    initial_cluster_token: str,
) -> None:
    """Make data dirs: keys, ttls, users and indexes stay, members and ids are new."""
    from pyetcd.backup import BackupError, Target, check
    from pyetcd.backup import restore as make

    if len(args) != 1:
        raise refuse("Provide a file to restore from")
    path = Path(args[0])
    urls_map = _urls_map(initial_cluster)
    if name:
        targets = [Target(name, Path(data_dir or f"{name}.etcd"), _path(wal_dir))]
    else:
        targets = [Target(each, Path(data_dir) / f"{each}.etcd") for each in urls_map]
    try:
        with _progress("restoring", check(path).size_bytes * len(targets)) as progress:
            identities = make(
                path,
                targets,
                initial_cluster=urls_map,
                token=initial_cluster_token,
                progress=progress,
            )
    except (BackupError, OSError) as error:
        raise _failed(error) from error
    for target, identity in zip(targets, identities, strict=True):
        click.echo(
            f"member {identity.member_id:x} ({target.name}) of cluster {identity.cluster_id:x}"
            f" in {target.data_dir}"
        )


@click.command("doctor", cls=GoCommand, short_help="say what is wrong with a data dir")
@arguments("<data dir>")
@string("--wal-dir", text="path to the wal dir, if it is elsewhere")
@switch("--repair", text="do what can be done, and keep aside whatever is cut off")
def doctor(args: tuple[str, ...], wal_dir: str, repair: bool) -> None:
    """Read log and snapshots without changing them; exit with 1 if no member would start."""
    from pyetcd import doctor as surgery

    if len(args) != 1:
        raise refuse("Provide a data dir")
    try:
        examine = surgery.repair if repair else surgery.examine
        report = examine(Path(args[0]), _path(wal_dir))
    except (surgery.CannotRepair, OSError) as error:
        raise _failed(error) from error
    click.echo(report)
    if not report.is_healthy:
        raise Failed(Exit.BAD_ARGUMENTS)


COMMANDS: Final = (backup, snapshot, doctor)


async def _save(settings: Settings, path: Path) -> str:
    """Save from the first endpoint that gives all of it; what was saved, in words."""
    from pyetcd import backup

    try:
        domain = settings.domain()
        endpoints = list(await discover(domain)) if domain else settings.endpoint_list()
        tls = tls_context(
            ca_file=settings.file(settings.ca_file, "ETCDCTL_CA_FILE"),
            cert_file=settings.file(settings.cert_file, "ETCDCTL_CERT_FILE"),
            key_file=settings.file(settings.key_file, "ETCDCTL_KEY_FILE"),
        )
    except (BadSetting, NoEndpoints) as error:
        raise refuse(str(error)) from error
    headers: dict[str, str] = {}
    user = settings.username or settings.environment.get("ETCDCTL_USERNAME", "")
    if user:
        name, password = split_user(user, "Password: ")
        credential = base64.b64encode(f"{name}:{password}".encode("utf-8", "surrogateescape"))
        headers["Authorization"] = f"Basic {credential.decode()}"
    failures: list[str] = []
    for endpoint in endpoints:
        url = endpoint if "://" in endpoint else f"http://{endpoint}"
        try:
            with _progress("saving", None) as progress:
                content = await backup.save(url, path, tls=tls, headers=headers, progress=progress)
            return f"{content.size_bytes} bytes, up to raft index {content.raft_index}"
        except backup.BackupError as error:
            failures.append(str(error))
        except OSError as error:
            raise _failed(error) from error
    raise Failed(Exit.SERVER_ERROR, "".join(f"Error:  {line}\n" for line in failures))


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many bytes are done on a terminal; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
    ) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def _urls_map(text: str) -> UrlsMap:
    try:
        return parse_urls_map(text)
    except UrlError as error:
        raise refuse(f"--initial-cluster: {error}") from error


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _failed(error: Exception) -> Failed:
    text = str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror.lower()}"
    return Failed(Exit.SERVER_ERROR, f"Error:  {text}\n")
