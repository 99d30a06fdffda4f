"""Backups: made of a running cluster or of a data directory, and turned into new members.

    save      streams `GET /v2/admin/snapshot` of a running member to a file
    backup    makes a data directory of another, whether or not a member runs with it
    restore   makes the data directories of a new cluster of a file

The file is a snapshot's as `raft.snapshots` describes it, with a checksum over all of it. Whatever
is made gets new ids, so that it can't be mistaken for what it was made of. A data directory is
built in a corner of its own and moved to its place when it is complete: what a crash leaves is no
member.

Knows no flags and prints nothing; progress is told by a callback.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final

import aiohttp
import msgpack

from pyetcd.bootstrap import BadIdentity, Identity
from pyetcd.cluster import BadMembers, Cluster, Member, cluster_id, member_id
from pyetcd.config.flags import flag
from pyetcd.server.apply import SNAPSHOT_FORMAT, Applier
from pyetcd.store import Store
from pyetcd.urls import Urls, UrlsMap
from raft import (
    CONFIG,
    Configuration,
    CorruptRecord,
    DiskStorage,
    HardState,
    Inspection,
    RaftError,
    Recovered,
    Rejected,
    SnapshotMeta,
    StorageConfig,
    Write,
    decode_change,
    inspect,
    read_newest_snapshot,
    read_snapshot,
)

# A log that is being written may look damaged: it is read again, so often and after such a wait.
LOOKS: Final = 20
LOOK_SECONDS: Final = 0.05
DEFAULT_TOKEN: Final = flag("initial-cluster-token").default
# What is not complete is below a directory of this name, or in a file that ends so.
UNFINISHED: Final = ".unfinished"

# Told how many bytes are done.
Progress = Callable[[int], None]


class BackupError(Exception):
    """What cannot be done: one line, what is wrong and what to do instead."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a backup has in it."""

    raft_index: int
    members: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """One member of the cluster that is to be made."""

    name: str
    data_dir: Path
    wal_dir: Path | None = None


async def save(
    url: str,
    path: Path,
    *,
    tls: SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Content:
    """Stream a backup of the member at a client URL to a new file.

    The file has its name only when it is complete and verified. `timeout_seconds` is for each read.
    Raises BackupError or OSError.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds
    )
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                f"{url.rstrip('/')}/v2/admin/snapshot", headers=headers, ssl=tls or True
            ) as response,
        ):
            if response.status != 200:
                text = (await response.text(errors="replace")).strip()
                raise BackupError(f"{url} answered with status {response.status}: {text:.500}")
            with _private(unfinished).open("wb") as file:
                done = 0
                async for piece in response.content.iter_any():
                    file.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done)
                file.flush()
                await asyncio.get_running_loop().run_in_executor(None, os.fsync, file.fileno())
        content = check(unfinished)
        unfinished.replace(path)
        _flush(path.parent)
        return content
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise BackupError(f"{url}: the backup broke off: {reason}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def check(path: Path) -> Content:
    """Read a backup file to its end. Raises BackupError or OSError."""
    try:
        meta, chunks = read_snapshot(path)
        cluster, _ = _decode_head(next(chunks, b""))
        for _ in chunks:
            pass
    except CorruptRecord as error:
        raise BackupError(f"{error}: this is no backup, or a damaged one") from None
    return Content(meta.index, len(cluster.members), path.stat().st_size)


def backup(
    data_dir: Path,
    backup_dir: Path,
    *,
    wal_dir: Path | None = None,
    backup_wal_dir: Path | None = None,
) -> Identity:
    """Make a data directory with all that is in another, for a cluster of one member.

    A member may run with `data_dir`: the backup has every write that was acknowledged before.
    Raises BackupError or OSError.
    """
    storage = StorageConfig(data_dir, wal_dir)
    found = _look(storage)
    recovered = found.recovered
    assert recovered is not None, "a storage without damage and without state"
    try:
        old = Identity.decode(recovered.metadata)
    except BadIdentity as error:
        raise BackupError(f"{storage.wal_path} does not say whose it is: {error}") from None
    applier = _replay(storage, recovered, old)
    last = recovered.entries[-1] if recovered.entries else recovered.snapshot
    if last is None:
        raise BackupError(f"{data_dir} holds nothing yet: there is nothing to back up")
    peer_urls = old.member.peer_urls
    token = old.token or DEFAULT_TOKEN
    identity = _identities({old.name: peer_urls}, token, secrets.token_hex(8))[old.name]
    target = Target(old.name, backup_dir, backup_wal_dir)
    _make(target, identity, last.index, last.term, applier.capture())
    return identity


def restore(
    path: Path,
    targets: Iterable[Target],
    *,
    initial_cluster: UrlsMap,
    token: str = DEFAULT_TOKEN,
    progress: Progress | None = None,
) -> list[Identity]:
    """Make data directories of a backup file, for these members of a new cluster.

    The ids depend on nothing but the file and the arguments, so that each machine can make its own.
    Raises BackupError or OSError; nothing is left then of what was begun.
    """
    targets = list(targets)
    for target in targets:
        if target.name not in initial_cluster:
            raise BackupError(f"{target.name} is not in the initial cluster")
        _require_new(target)
    content = check(path)
    identities = _identities(initial_cluster, token, _digest(path))
    for number, target in enumerate(targets):
        try:
            meta, chunks = read_snapshot(path)
            if progress is not None:
                chunks = _told(chunks, number * content.size_bytes, progress)
            _make(target, identities[target.name], meta.index, meta.term, chunks)
        except CorruptRecord as error:
            raise BackupError(str(error)) from None
    return [identities[target.name] for target in targets]


# ------------------------------------------------------------------------------ reading directories


def _look(storage: StorageConfig) -> Inspection:
    """Read a storage that somebody may be writing. Raises BackupError or OSError."""
    for left in reversed(range(LOOKS)):
        try:
            found = inspect(storage)
        except FileNotFoundError:
            # Purged between the listing and the reading.
            if left == 0:
                raise
            continue
        if not found.segments:
            raise BackupError(
                f"{storage.directory} is no data directory: {storage.wal_path} has no log"
            )
        if found.recovered is not None:
            return found
        if left == 0 or not found.in_use:
            problem = found.damage or found.contradiction
            raise BackupError(f"{problem}; see pyetcdctl doctor {storage.directory}")
        time.sleep(LOOK_SECONDS)
    raise AssertionError("the last look decides")


def _replay(storage: StorageConfig, recovered: Recovered, identity: Identity) -> Applier:
    """Apply all that a storage has, as the member would. Raises BackupError or OSError."""
    applier = Applier(Store(), Cluster(identity.cluster_id), _Nobody())
    try:
        if recovered.snapshot is not None:
            chunks = read_newest_snapshot(storage, recovered.snapshot)
            applier.restore(recovered.snapshot, chunks)
        for entry in recovered.entries:
            if entry.kind == CONFIG:
                applier.apply_config(entry, decode_change(entry.data))
            else:
                applier.apply([entry])
    except (RaftError, ValueError) as error:
        raise BackupError(f"{error}; see pyetcdctl doctor {storage.directory}") from None
    return applier


class _Nobody:
    """`pyetcd.server.apply.Observer`: nobody needs to know."""

    def on_member_added(self, member: Member) -> None: ...
    def on_member_removed(self, member_id: int) -> None: ...
    def on_member_updated(self, member: Member) -> None: ...
    def on_cluster_replaced(self) -> None: ...
    def on_configured(self, configuration: Configuration) -> None: ...
    def on_term_began(self, term: int) -> None: ...
    def on_time_asked(self, member_id: int, time: int, known: bool) -> None: ...
    def on_time_told(self, time: int, term: int) -> None: ...
    def on_applied(self) -> None: ...
    def on_rejected(self, rejected: Rejected) -> None: ...


# ------------------------------------------------------------------------------ making directories


def _identities(urls_map: UrlsMap, token: str, salt: str) -> dict[str, Identity]:
    """Return who the members of a new cluster are. Raises BackupError."""
    ids: dict[str, int] = {}
    urls_of: dict[str, Urls] = {}
    for name, urls in sorted(urls_map.items()):
        # The salt makes them differ from the ids of the cluster that the backup was made of.
        ids[name], urls_of[name] = member_id(urls, f"{token}/{salt}"), urls
    if len(set(ids.values())) != len(ids):
        raise BackupError("two members have the same peer URLs")
    members = [Member(ids[name], name, urls_of[name]) for name in ids]
    members.sort(key=lambda member: member.id)
    cluster = cluster_id(ids.values())
    return {name: Identity(ids[name], cluster, name, token, False, tuple(members)) for name in ids}


def _make(
    target: Target, identity: Identity, raft_index: int, term: int, chunks: Iterator[bytes]
) -> None:
    """Make the data directory of one member. Raises BackupError, CorruptRecord or OSError."""
    _require_new(target)
    data = _stage(target.data_dir)
    wal = _stage(target.wal_dir) if target.wal_dir is not None else None
    voters = tuple(member.id for member in identity.members)
    meta = SnapshotMeta(raft_index, term, Configuration(voters=voters))
    # The log last: without it there is no member.
    stages = [stage for stage in (data, wal) if stage is not None]
    try:
        disk = DiskStorage.create(StorageConfig(data, wal), identity.encode())
        try:
            writer = disk.begin_snapshot(meta)
            writer.write(_new_head(next(chunks, b""), identity))
            for chunk in chunks:
                writer.write(chunk)
            writer.commit()
            disk.write_blocking(Write(HardState(term, 0, raft_index), [], meta, []))
        finally:
            disk.close()
        for stage in stages:
            _publish(stage)
    finally:
        for stage in stages:
            shutil.rmtree(stage, ignore_errors=True)
            try:
                stage.parent.rmdir()
            except OSError:
                pass  # it has what was made; or it was there before, as a mount


def _require_new(target: Target) -> None:
    """Raise BackupError if one of the directories has something in it."""
    for directory in (target.data_dir, target.wal_dir):
        if directory is not None and directory.exists():
            if not directory.is_dir() or {path.name for path in directory.iterdir()} - {UNFINISHED}:
                raise BackupError(f"{directory} exists and is not empty; name another directory")


def _stage(directory: Path) -> Path:
    """Return where to build what shall be in a directory: inside, since it may be a mount."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    stage = directory / UNFINISHED
    shutil.rmtree(stage, ignore_errors=True)
    return stage


def _publish(stage: Path) -> None:
    """Move what was built to its place, durably."""
    directory = stage.parent
    for path in sorted(stage.iterdir()):
        path.rename(directory / path.name)
    stage.rmdir()
    _flush(directory)
    _flush(directory.parent)


def _new_head(head: bytes, identity: Identity) -> bytes:
    """Return a snapshot's first chunk with other members in it. Raises CorruptRecord."""
    old, rest = _decode_head(head)
    cluster = replace(identity.cluster(), version=old.version)
    packed: bytes = msgpack.packb((SNAPSHOT_FORMAT, cluster.encode(), *rest))
    return packed


def _decode_head(head: bytes) -> tuple[Cluster, list[Any]]:
    """Return the members, and what follows them. Raises CorruptRecord."""
    try:
        layout, cluster, *rest = msgpack.unpackb(head)
        if layout != SNAPSHOT_FORMAT:
            raise CorruptRecord("the backup", 0, f"the layout is not {SNAPSHOT_FORMAT}")
        return Cluster.decode(cluster), rest
    except (ValueError, TypeError, msgpack.UnpackException, BadMembers) as error:
        raise CorruptRecord("the backup", 0, f"no members in it ({error})") from None


def _told(chunks: Iterator[bytes], done: int, progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(done)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _private(path: Path) -> Path:
    """Make a file that nobody else can read: there are keys and hashes in it."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
