"""The doctor: says what is wrong with a data directory, and what to type.

`examine` changes nothing and may be asked while the member runs. `repair` does what can be done
with the files alone, and keeps whatever it cuts off in a directory beside the log. A log that was
cut has forgotten what the member once promised: in a cluster of several, its member is better
removed and added again, and the advice says so.

Knows no flags and prints nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pyetcd.bootstrap import BadIdentity, Identity
from pyetcd.command import BadCommand, decode
from raft import (
    NORMAL,
    CorruptRecord,
    DirectoryInUse,
    Inspection,
    Recovered,
    StorageConfig,
    cut,
    hold,
    inspect,
    set_aside,
)


class Level(Enum):
    """How bad a finding is."""

    # Nothing to do.
    FINE = "ok"
    # The member starts, but somebody should know.
    NOTICE = "note"
    # The member does not start.
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    level: Level
    text: str
    # What to do; "" if nothing.
    advice: str = ""

    def __str__(self) -> str:
        """One line, or two with what to do."""
        advice = f"\n       {self.advice}" if self.advice else ""
        return f"{self.level.value:5}  {self.text}{advice}"


@dataclass(slots=True)
class Report:
    """All findings about one data directory."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        """Whether a member would start."""
        return all(finding.level is not Level.WRONG for finding in self.findings)

    def __str__(self) -> str:
        """The findings, line by line."""
        return "\n".join(map(str, self.findings))


class CannotRepair(Exception):
    """Why nothing was changed: one line."""


def examine(data_dir: Path, wal_dir: Path | None = None) -> Report:
    """Look at a data directory and its log. Raises OSError."""
    storage = StorageConfig(data_dir, wal_dir)
    return Report(list(_findings(storage, inspect(storage))))


def repair(data_dir: Path, wal_dir: Path | None = None) -> Report:
    """Do what can be done; say what was done, and what is found then.

    Raises CannotRepair if nothing was changed that would help, and OSError.
    """
    storage = StorageConfig(data_dir, wal_dir)
    done: list[Finding] = []
    if inspect(storage).segments:
        try:
            with hold(storage):
                done = _repair(storage)
        except DirectoryInUse as error:
            raise CannotRepair(f"{error}; stop the member first") from None
    return Report([*done, *_findings(storage, inspect(storage))])


def _repair(storage: StorageConfig) -> list[Finding]:
    found = inspect(storage)
    done: list[Finding] = []
    for broken in found.broken:
        target = set_aside(storage, broken)
        done.append(Finding(Level.NOTICE, f"put aside: {target}"))
    if found.damage is not None:
        done += _cut(storage, found.damage)
    return done


def _cut(storage: StorageConfig, damage: CorruptRecord) -> list[Finding]:
    aside = _new_directory(storage.wal_path.parent / f"{storage.wal_path.name}.aside")
    try:
        kept = cut(storage, damage, aside)
    except CorruptRecord as error:
        raise CannotRepair(
            f"{error}: nothing of the log would be left; {_replace_member(storage)}"
        ) from None
    names = ", ".join(path.name for path in kept)
    return [
        Finding(
            Level.NOTICE,
            f"the log ends before {damage.path} offset {damage.offset} from now on; the files as"
            f" they were are in {aside}: {names}",
            "this member has forgotten entries and perhaps a vote: if the cluster has other"
            f" members, {_replace_member(storage)}",
        )
    ]


def _findings(storage: StorageConfig, found: Inspection) -> Iterator[Finding]:
    if not found.segments:
        yield _no_log(storage, found)
        return
    if found.in_use:
        yield Finding(Level.NOTICE, f"a member runs with {storage.directory}: it writes meanwhile")
    first, last = found.segments[0], found.segments[-1]
    yield Finding(
        Level.FINE,
        f"log: {len(found.segments)} files, {first.path.name} to {last.path.name}",
    )
    for meta in found.snapshots:
        yield Finding(Level.FINE, f"snapshot: {meta.id}, members {meta.configuration}")
    for broken in found.broken:
        yield Finding(
            Level.NOTICE,
            f"snapshot: {broken}",
            "the next start puts it aside, and so does pyetcdctl doctor --repair",
        )
    for path in found.unfinished:
        yield Finding(Level.NOTICE, f"{path} was left by a crash; the next start removes it")
    yield from _log_findings(storage, found)


def _log_findings(storage: StorageConfig, found: Inspection) -> Iterator[Finding]:
    if found.torn is not None:
        path, start, stop = found.torn
        yield Finding(
            Level.NOTICE,
            f"{path}: a crash cut off the last write, bytes {start} to {stop}; it was never"
            " acknowledged, and the next start removes it",
        )
    if found.damage is not None:
        yield Finding(
            Level.WRONG,
            f"log: {found.damage}",
            f"if the cluster has other members, {_replace_member(storage)}; if not, restore a"
            f" backup, or write pyetcdctl doctor --repair {storage.directory}, which ends the log"
            " there and loses what comes after",
        )
    if found.contradiction is not None:
        yield Finding(
            Level.WRONG,
            f"log and snapshots: {found.contradiction}",
            f"if the cluster has other members, {_replace_member(storage)}; if not, restore a"
            " backup: pyetcdctl snapshot restore FILE",
        )
    if found.recovered is not None:
        yield from _state_findings(found.recovered)


def _state_findings(recovered: Recovered) -> Iterator[Finding]:
    try:
        identity = Identity.decode(recovered.metadata)
    except BadIdentity as error:
        yield Finding(Level.WRONG, f"the log does not say whose it is: {error}", "restore a backup")
        return
    yield Finding(
        Level.FINE,
        f"member {identity.member_id:x} ({identity.name}) of cluster {identity.cluster_id:x}",
    )
    hard_state = recovered.hard_state
    first = recovered.snapshot.index + 1 if recovered.snapshot is not None else 1
    last = first + len(recovered.entries) - 1
    entries = f"entries {first} to {last}" if recovered.entries else "no entries"
    yield Finding(
        Level.FINE,
        f"{entries} after the snapshot, known as committed up to {hard_state.commit}, term"
        f" {hard_state.term}, vote {hard_state.vote:x}",
    )
    for entry in recovered.entries:
        if entry.kind == NORMAL:
            try:
                decode(entry.data)
            except BadCommand as error:
                yield Finding(
                    Level.NOTICE,
                    f"entry {entry.index} is no command, every member skips it: {error}",
                )


def _no_log(storage: StorageConfig, found: Inspection) -> Finding:
    if not storage.directory.is_dir():
        return Finding(Level.WRONG, f"there is no directory {storage.directory}")
    text = f"there is no log in {storage.wal_path}"
    if found.snapshots or found.broken:
        return Finding(
            Level.WRONG,
            f"{text}, but there are snapshots in {storage.snapshot_path}",
            "if the log is elsewhere, name it with --wal-dir; else restore a backup",
        )
    return Finding(
        Level.WRONG, text, "no member has run with it; if its log is elsewhere, use --wal-dir"
    )


def _replace_member(storage: StorageConfig) -> str:
    return (
        "remove this one (pyetcdctl member remove ID), move"
        f" {storage.directory} away, add it again (pyetcdctl member add) and start it with"
        " -initial-cluster-state existing"
    )


def _new_directory(wanted: Path) -> Path:
    number, path = 1, wanted
    while path.exists():
        number += 1
        path = wanted.with_name(f"{wanted.name}.{number}")
    return path
