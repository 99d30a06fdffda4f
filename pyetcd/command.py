"""Commands: what the server puts into the log, and their bytes.

One class per command. Each is complete: times are absolute, ids are made, nothing is left for the
apply path to decide by a clock or at random, so that every member comes to the same state.

A command travels as one msgpack array: [kind, request id, now, auth revision, field, ...]. The
request id tells the member that proposed it whose command it was (0: nobody waits); `now` is
cluster time as that member has it, in nanoseconds since the epoch. Strings may hold escaped bytes
(surrogateescape). Expirations are nanoseconds since the epoch, 0 for none.

`ttl_expiration` makes an expiration of a client's ttl as etcd 2.3.8 does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias, get_args

import msgpack
from mypy_extensions import mypyc_attr

from pyetcd.cluster import BadMembers, Member
from pyetcd.urls import Urls

NANOSECONDS: Final = 1_000_000_000
_INT64_MAX: Final = (1 << 63) - 1
_UINT64: Final = 1 << 64

# Names in the order in which JSON gave them; None where it said null, which etcd tells from [].
Names: TypeAlias = tuple[str, ...] | None
# What may be read, and what may be written.
Permissions: TypeAlias = tuple[Names, Names]


class BadCommand(ValueError):
    """An entry of the log that is no command; its checksum was right, so somebody wrote it so."""


class Overtaken:
    """What a command was made from has changed before its turn: what is permitted, or the clock.

    Nothing was done, nor will be. Whoever proposed the command must make it anew.
    """

    __slots__ = ("last_sweep",)

    def __init__(self, last_sweep: int = 0) -> None:
        """`last_sweep` is when who waits for the command gives up; 0 where nobody does."""
        self.last_sweep = last_sweep


class Set(NamedTuple):
    """Create or replace a key."""

    path: str
    value: str
    directory: bool
    expiration: int
    refresh: bool


class Create(NamedTuple):
    """Create a key that must not exist."""

    path: str
    value: str
    directory: bool
    expiration: int


class CreateInOrder(NamedTuple):
    """Create a key below a directory, named by its index."""

    path: str
    value: str
    directory: bool
    expiration: int


class Update(NamedTuple):
    """Change a key that must exist."""

    path: str
    value: str
    expiration: int
    refresh: bool


class CompareAndSwap(NamedTuple):
    """Change a key if its value and index are these; "" and 0 ask for nothing."""

    path: str
    value: str
    prev_value: str
    prev_index: int
    expiration: int
    refresh: bool


class Delete(NamedTuple):
    """Remove a key or a directory."""

    path: str
    directory: bool
    recursive: bool


class CompareAndDelete(NamedTuple):
    """Remove a key if its value and index are these; "" and 0 ask for nothing."""

    path: str
    prev_value: str
    prev_index: int


class Sync(NamedTuple):
    """Remove the keys whose time has come, by cluster time, the earliest first."""

    cutoff: int
    # At most so many in one command, so that a burst does not hold everything up.
    limit: int


class Publish(NamedTuple):
    """A member tells its name and where its clients can reach it."""

    member_id: int
    name: str
    client_urls: Urls


class UpdateMember(NamedTuple):
    """A member gets other peer URLs."""

    member_id: int
    peer_urls: Urls


class SetVersion(NamedTuple):
    """The leader sets the version of the API that the whole cluster speaks."""

    version: str


class ReportDigest(NamedTuple):
    """A member tells to which digest it came by the entries up to one; see `comparison.py`."""

    member_id: int
    raft_index: int
    digest: int


class AskTime(NamedTuple):
    """A member asks the leader for the time; see `server/timekeeper.py`."""

    member_id: int
    # The time that it has: the cluster's if it knows that, else what its wall clock shows.
    time: int
    known: bool


class TellTime(NamedTuple):
    """The leader tells the time, nanoseconds since the epoch."""

    time: int


class CreateUser(NamedTuple):
    """Create a user; one who is there gets the password, if that is what is asked for."""

    name: str
    # "" for none, which only an existing user may have.
    password_hash: str
    roles: Names
    may_exist: bool


class UpdateUser(NamedTuple):
    """Change the password or the roles of a user."""

    name: str
    # "" keeps the password.
    password_hash: str
    grant: tuple[str, ...]
    revoke: tuple[str, ...]


class DeleteUser(NamedTuple):
    """Remove a user."""

    name: str


class CreateRole(NamedTuple):
    """Create a role."""

    name: str
    permissions: Permissions
    # They grant nothing, but etcd keeps them.
    grant: Permissions | None
    revoke: Permissions | None


class UpdateRole(NamedTuple):
    """Change what a role permits."""

    name: str
    grant_read: tuple[str, ...]
    grant_write: tuple[str, ...]
    revoke_read: tuple[str, ...]
    revoke_write: tuple[str, ...]


class DeleteRole(NamedTuple):
    """Remove a role."""

    name: str


class EnableAuth(NamedTuple):
    """From here on requests need permission."""


class DisableAuth(NamedTuple):
    """From here on nobody needs permission."""


KeyCommand: TypeAlias = (
    Set | Create | CreateInOrder | Update | CompareAndSwap | Delete | CompareAndDelete
)
AuthCommand: TypeAlias = (
    CreateUser
    | UpdateUser
    | DeleteUser
    | CreateRole
    | UpdateRole
    | DeleteRole
    | EnableAuth
    | DisableAuth
)
Command: TypeAlias = (
    Set
    | Create
    | CreateInOrder
    | Update
    | CompareAndSwap
    | Delete
    | CompareAndDelete
    | Sync
    | Publish
    | UpdateMember
    | SetVersion
    | ReportDigest
    | AskTime
    | TellTime
    | AuthCommand
)

# The number of a command is part of the log's format: rows are only ever added.
_KINDS: Final[dict[int, type[Command]]] = {
    1: Set,
    2: Create,
    3: CreateInOrder,
    4: Update,
    5: CompareAndSwap,
    6: Delete,
    7: CompareAndDelete,
    8: Sync,
    9: Publish,
    10: UpdateMember,
    11: SetVersion,
    12: CreateUser,
    13: UpdateUser,
    14: DeleteUser,
    15: CreateRole,
    16: UpdateRole,
    17: DeleteRole,
    18: EnableAuth,
    19: DisableAuth,
    20: ReportDigest,
    21: AskTime,
    22: TellTime,
}
_NUMBERS: Final[dict[type[Command], int]] = {kind: number for number, kind in _KINDS.items()}
# How long the array is that holds one: the number, what `Request` has besides, and the fields.
_LENGTHS: Final[dict[type[Command], int]] = {
    kind: 4 + len(kind._fields) for kind in _KINDS.values()
}
# Commands of clients, who need permission for them; the others are the members' own.
NEED_PERMISSION: Final[frozenset[type[Command]]] = frozenset(
    (*get_args(KeyCommand), *get_args(AuthCommand))
)
# Makes a NamedTuple of a tuple at half the cost of calling its class.
_new: Final[Callable[[Any, tuple[Any, ...]], Any]] = tuple.__new__
# Most strings are UTF-8, and quicker to pack if they need be nothing else.
_pack: Final = msgpack.Packer().pack
_pack_escaped: Final = msgpack.Packer(unicode_errors="surrogateescape").pack
# URLs come back as tuples, as they were.
_unpack: Final = msgpack.unpackb
_unpack_uint64: Final = Struct(">Q").unpack_from
# How msgpack begins an integer of 64 bits. A request id has its member's in front, so it is one.
_UINT64_TAG: Final = 0xCF


@mypyc_attr(acyclic=True)
@dataclass(slots=True, init=False)
class Request:
    """A command with what the apply path needs to know of its proposal. It is never changed."""

    # Who waits for the result; 0 for nobody.
    request_id: int
    # Cluster time as the proposer has it, nanoseconds since the epoch.
    now: int
    command: Command
    # The state of auth in which it was permitted; 0 when auth was disabled.
    auth_revision: int

    # By hand, as what `dataclass` writes is never compiled.
    def __init__(self, request_id: int, now: int, command: Command, auth_revision: int = 0) -> None:
        self.request_id = request_id
        self.now = now
        self.command = command
        self.auth_revision = auth_revision


def plain_set(path: str, value: str) -> Set:
    """Return the command of most writes: a value for a key, with no further conditions."""
    command: Set = _new(Set, (path, value, False, 0, False))
    return command


def encode(request_id: int, now: int, command: Command, auth_revision: int = 0) -> bytes:
    """Return the entry's data."""
    # Unpacked into one, the command would make a list on the way.
    head: tuple[object, ...] = (_NUMBERS[type(command)], request_id, now, auth_revision)
    packed: bytes
    try:
        packed = _pack(head + command)
    except UnicodeEncodeError:
        packed = _pack_escaped(head + command)
    return packed


def peek_request_id(data: bytes) -> int:
    """Return the request id of what was encoded, at one look; 0 if that does not tell.

    Bytes that `encode` has not made may give any number: compare them before you rely on it.
    """
    if len(data) < 11 or data[2] != _UINT64_TAG:
        return 0
    request_id: int = _unpack_uint64(data, 3)[0]
    return request_id


def decode(data: bytes) -> Request:
    """Return what was encoded. Raises BadCommand."""
    try:
        unpacked = _unpack(data, use_list=False, unicode_errors="surrogateescape")
        if type(unpacked) is not tuple:
            raise BadCommand(f"not an array: {unpacked!r:.60}")
        fields: tuple[Any, ...] = unpacked
        kind = _KINDS[fields[0]]
        if len(fields) != _LENGTHS[kind]:
            raise BadCommand(f"{len(fields) - 4} fields for {kind.__name__}")
        command: Command = _new(kind, fields[4:])
        return Request(fields[1], fields[2], command, fields[3])
    except (ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
        raise BadCommand(f"not a command: {data[:60]!r} ({error})") from None


def request_id_of(data: bytes) -> int:
    """Return the request id of a command or of a membership change. Raises BadCommand."""
    try:
        fields: Any = msgpack.unpackb(data, use_list=False, unicode_errors="surrogateescape")
        return int(fields[1])
    except (ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
        raise BadCommand(f"not a command: {data[:60]!r} ({error})") from None


# ----------------------------------------------------------------------------- membership

# What the context of a configuration entry says, in the same array as a command's.
ADD_MEMBER: Final = 100
REMOVE_MEMBER: Final = 101


class MemberChange(NamedTuple):
    """What a configuration entry means to the cluster; exactly one of the two is there."""

    request_id: int
    added: Member | None
    # 0 when a member is added.
    removed_id: int


def encode_member_change(change: MemberChange) -> bytes:
    """Return the context of the configuration entry."""
    if change.added is not None:
        packed: bytes = _pack_escaped((ADD_MEMBER, change.request_id, change.added.encode()))
    else:
        packed = _pack_escaped((REMOVE_MEMBER, change.request_id, change.removed_id))
    return packed


def decode_member_change(context: bytes) -> MemberChange:
    """Return what was encoded. Raises BadCommand."""
    try:
        number, request_id, subject = msgpack.unpackb(context, unicode_errors="surrogateescape")
        if number == ADD_MEMBER:
            return MemberChange(int(request_id), Member.decode(subject), 0)
        if number == REMOVE_MEMBER:
            return MemberChange(int(request_id), None, int(subject))
    except (ValueError, TypeError, msgpack.UnpackException, BadMembers) as error:
        raise BadCommand(f"not a membership change: {context[:60]!r} ({error})") from None
    raise BadCommand(f"not a membership change: kind {number}")


# ------------------------------------------------------------------------------------ ttl


def brought_up(command: Command, late: int) -> Command:
    """Return the command as one that came so many nanoseconds later: a key lives as long."""
    match command:
        case Set() | Create() | CreateInOrder() | Update() | CompareAndSwap():
            if command.expiration:
                expiration = min(command.expiration + late, _INT64_MAX)
                return command._replace(expiration=expiration)
        case _:
            pass
    return command


def is_of_its_time(command: Command) -> bool:
    """Whether it goes by the clock of whoever leads when it is made: no other leader's will do."""
    match command:
        case Set() | Create() | CreateInOrder() | Update() | CompareAndSwap():
            return command.expiration != 0
        case Sync() | AskTime():
            return True
        case _:
            return False


def ttl_expiration(ttl_seconds: int, now: int) -> int:
    """Return when a key expires that was given this ttl (0 to 2**64 - 1) now.

    etcd computes in 64 bits with a sign, and so must we: 10**10 seconds come out as a date long
    past, which most commands take for "never", and 2**64 - 1 as one second ago.
    """
    expiration = (now + ttl_seconds * NANOSECONDS) % _UINT64
    return expiration if expiration <= _INT64_MAX else expiration - _UINT64


__all__ = [
    "AskTime",
    "AuthCommand",
    "BadCommand",
    "Command",
    "CompareAndDelete",
    "CompareAndSwap",
    "Create",
    "CreateInOrder",
    "CreateRole",
    "CreateUser",
    "Delete",
    "DeleteRole",
    "DeleteUser",
    "DisableAuth",
    "EnableAuth",
    "KeyCommand",
    "MemberChange",
    "NEED_PERMISSION",
    "Names",
    "Overtaken",
    "Permissions",
    "Publish",
    "ReportDigest",
    "Request",
    "Set",
    "SetVersion",
    "Sync",
    "TellTime",
    "Update",
    "UpdateMember",
    "UpdateRole",
    "UpdateUser",
    "brought_up",
    "decode",
    "decode_member_change",
    "encode",
    "encode_member_change",
    "peek_request_id",
    "plain_set",
    "request_id_of",
    "ttl_expiration",
]
