"""Apply: a committed entry changes the store, the members or the users; whoever waits is told.

The state machine of `raft.interfaces`. Every member runs it on the same entries and comes to the
same state: it reads no clock and draws no number, what it needs is in the command. Time is what
leaders have put into the log; a command that was given an earlier one by its member is taken for
one that has just come, so that no wrong clock makes a key expire early. A refusal is a result like
any other (an EtcdError or MembershipError goes to the waiter); anything else that escapes is a bug,
and ends the process.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias, assert_never

import msgpack

from pyetcd.auth import Auth, AuthError, BadAuth, Written
from pyetcd.cluster import BadMembers, Cluster, ClusterTooNew, Member, MembershipError
from pyetcd.command import (
    NEED_PERMISSION,
    AskTime,
    BadCommand,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    CreateRole,
    CreateUser,
    Delete,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    MemberChange,
    Overtaken,
    Publish,
    ReportDigest,
    Request,
    Set,
    SetVersion,
    Sync,
    TellTime,
    Update,
    UpdateMember,
    UpdateRole,
    UpdateUser,
    brought_up,
    decode,
    decode_member_change,
    peek_request_id,
)
from pyetcd.errors import EtcdError
from pyetcd.server.comparison import Comparison
from pyetcd.store import CorruptSnapshot, Event, Restorer, Store
from raft import NORMAL, ConfigChange, Configuration, CorruptRecord, Entry, Rejected, SnapshotMeta

log = logging.getLogger(__name__)

# The first chunk of a snapshot names its layout.
SNAPSHOT_FORMAT = "pyetcd/2"
# What a user typed as a name or URL may be no Unicode; it comes back as it was.
_UNICODE = "surrogateescape"

# A write's event; what became of a user or role; None where there is nothing to say; or why it was
# refused.
Result: TypeAlias = Event | Written | EtcdError | MembershipError | AuthError | Overtaken | None
Done: TypeAlias = Callable[[Result], None]


class Waiter:
    """Somebody who waits for a request's result; see `pyetcd.server.pending`."""

    __slots__ = ("data", "done", "kind", "last_sweep", "made_in", "request", "term")

    def __init__(
        self,
        done: Done,
        last_sweep: int,
        kind: int,
        data: bytes,
        term: int,
        made_in: int,
        request: Request | None = None,
    ) -> None:
        self.done = done
        # The sweep at which it is given up.
        self.last_sweep = last_sweep
        # What was proposed: raft's kind of entry and its data.
        self.kind = kind
        self.data = data
        # The term in which it was proposed, and the one in which it was made.
        self.term = term
        self.made_in = made_in
        # What the data were encoded from; None if that is not at hand.
        self.request = request


class Observer(Protocol):
    """Whom the applier tells of what concerns more than the store."""

    def on_member_added(self, member: Member) -> None:
        """A member was added."""

    def on_member_removed(self, member_id: int) -> None:
        """A member was removed, perhaps this one."""

    def on_member_updated(self, member: Member) -> None:
        """A member has other peer URLs."""

    def on_cluster_replaced(self) -> None:
        """A snapshot has brought another membership."""

    def on_configured(self, configuration: Configuration) -> None:
        """Raft's configuration is this one."""

    def on_term_began(self, term: int) -> None:
        """The first entry of a leader's term was applied."""

    def on_time_asked(self, member_id: int, time: int, known: bool) -> None:
        """A member asks for the time."""

    def on_time_told(self, time: int, term: int) -> None:
        """The leader of this term tells the time."""

    def on_applied(self) -> None:
        """Entries were applied."""

    def on_rejected(self, rejected: Rejected) -> None:
        """A proposal of this member is in no log."""


class Applier:
    """The replicated state of one member.

    Invariants:
      1. `raft_index` is the index of the last entry that was applied, and never goes back.
      2. A waiter is told once and then forgotten.
      3. `time` never goes back, and no key that was set at it expires before its TTL from then.
    """

    def __init__(self, store: Store, cluster: Cluster, observer: Observer) -> None:
        self.store = store
        self.cluster = cluster
        # Always this object: whoever checks permissions holds it.
        self.auth = Auth(store.advance_index)
        self.raft_index = 0
        # Of the entry that is being applied.
        self._term = 0
        # The latest time that a leader has put into the log; 0 for none.
        self.time = 0
        self.comparison = Comparison()
        # By request id; the server puts them in.
        self.waiters: dict[int, Waiter] = {}
        # How large the newest snapshot is, by the chunks that were drawn; 0 without one.
        self.snapshot_bytes = 0
        self._observer = observer

    # -------------------------------------------------------------------- raft's state machine

    def apply(self, entries: list[Entry]) -> None:
        """See `raft.interfaces.StateMachine`."""
        waiters = self.waiters
        execute = self._execute
        store = self.store
        # Not so changes of the membership: with some of them each cluster begins as one member.
        is_alone = len(self.cluster.members) == 1
        compare = self.comparison.skip if is_alone else self.comparison.add
        for entry in entries:
            self.raft_index = entry.index
            self._term = entry.term
            if entry.kind == NORMAL:
                data = entry.data
                waiter = waiters.get(peek_request_id(data)) if waiters else None
                if waiter is not None and waiter.request is not None and waiter.data == data:
                    # What was encoded here need not be decoded.
                    request = waiter.request
                else:
                    try:
                        request = decode(data)
                    except BadCommand as error:
                        # The same on every member: nobody understands it, nothing happens.
                        log.error("entry %d is skipped: %s", entry.index, error)
                        compare(entry.index, data, store.index, None)
                        continue
                result = execute(request)
                etcd_index = store.index
                waiter = waiters.pop(request.request_id, None)
                if waiter is not None:
                    waiter.done(result)
                # After the answer, as its client waits for that alone.
                compare(entry.index, data, etcd_index, result)
            else:
                compare(entry.index, entry.data, store.index, None)
                self._observer.on_term_began(entry.term)
        self._observer.on_applied()

    def apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        """See `raft.interfaces.StateMachine`: void if the membership does not allow it."""
        self.raft_index = entry.index
        result = self._apply_config(entry, change)
        self.comparison.add(entry.index, entry.data, self.store.index, None)
        return result

    def _apply_config(self, entry: Entry, change: ConfigChange) -> bool:
        try:
            member_change = decode_member_change(change.context)
        except BadCommand as error:
            log.error("configuration entry %d is void: %s", entry.index, error)
            return False
        result: Result = None
        try:
            self._change_members(member_change)
        except MembershipError as refusal:
            log.info("configuration entry %d is void: %s", entry.index, refusal)
            result = refusal
        waiter = self.waiters.pop(member_change.request_id, None)
        if waiter is not None:
            waiter.done(result)
        return result is None

    def configured(self, configuration: Configuration) -> None:
        """See `raft.interfaces.StateMachine`."""
        self._observer.on_configured(configuration)

    def capture(self) -> Iterator[bytes]:
        """See `raft.interfaces.StateMachine`."""
        state = (SNAPSHOT_FORMAT, self.cluster.encode(), self.auth.encode(), self.time)
        head = msgpack.packb(state, unicode_errors=_UNICODE)
        return self._counted(head, self.store.capture().encode())

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """See `raft.interfaces.StateMachine`."""
        iterator = iter(chunks)
        cluster, auth, time = _decode_head(next(iterator, b""), meta)
        restorer = Restorer()
        size = 0
        try:
            for chunk in iterator:
                size += len(chunk)
                restorer.feed(chunk)
            restorer.finish()
        except CorruptSnapshot as error:
            raise CorruptRecord(_name(meta), size, str(error)) from error
        self.cluster = cluster
        self.auth.install(auth)
        self.raft_index = meta.index
        self.time = time
        self.comparison.restored(meta.index)
        self.snapshot_bytes = size
        self.store.install(Store.from_restorer(restorer))
        self._observer.on_cluster_replaced()

    def reject(self, rejected: Rejected) -> None:
        """See `raft.interfaces.StateMachine`."""
        self._observer.on_rejected(rejected)

    # ---------------------------------------------------------------------------------- inside

    def _execute(self, request: Request) -> Result:
        if request.auth_revision != self.auth.revision_in_force:
            # It was permitted by a member that had not heard of a revocation, perhaps: were it
            # carried out, a right that is revoked would be of use for as long as a member lags.
            if type(request.command) in NEED_PERMISSION:
                waiter = self.waiters.get(request.request_id)
                return Overtaken(waiter.last_sweep if waiter is not None else 0)
        command, now = request.command, request.now
        if now < self.time:
            command, now = brought_up(command, self.time - now), self.time
        try:
            return self._run(command, now)
        except (EtcdError, MembershipError, AuthError) as error:
            return error

    def _run(self, command: Command, now: int) -> Event | Written | None:
        store = self.store
        match command:
            case Set(path, value, directory, expiration, refresh):
                return store.set(
                    path, value, now, directory=directory, expiration=expiration, refresh=refresh
                )
            case CompareAndSwap(path, value, prev_value, prev_index, expiration, refresh):
                return store.compare_and_swap(
                    path,
                    value,
                    now,
                    prev_value=prev_value,
                    prev_index=prev_index,
                    expiration=expiration,
                    refresh=refresh,
                )
            case Create(path, value, directory, expiration):
                return store.create(path, value, now, directory=directory, expiration=expiration)
            case CreateInOrder(path, value, directory, expiration):
                return store.create_in_order(
                    path, value, now, directory=directory, expiration=expiration
                )
            case Update(path, value, expiration, refresh):
                return store.update(path, value, now, expiration=expiration, refresh=refresh)
            case Delete(path, directory, recursive):
                return store.delete(path, now, directory=directory, recursive=recursive)
            case CompareAndDelete(path, prev_value, prev_index):
                return store.compare_and_delete(
                    path, now, prev_value=prev_value, prev_index=prev_index
                )
            case Sync(cutoff, limit):
                self.time = max(self.time, cutoff)
                store.expire(cutoff, limit)
                return None
            case Publish() | UpdateMember() | SetVersion():
                self._run_on_cluster(command)
                return None
            case ReportDigest() | AskTime() | TellTime():
                self._run_between_members(command)
                return None
            case (
                CreateUser()
                | UpdateUser()
                | DeleteUser()
                | CreateRole()
                | UpdateRole()
                | DeleteRole()
                | EnableAuth()
                | DisableAuth()
            ):
                return self.auth.execute(command)
            case unreachable:
                assert_never(unreachable)

    def _run_on_cluster(self, command: Publish | UpdateMember | SetVersion) -> None:
        """Change what is known of the members; each takes an index, as etcd's hidden keys do."""
        cluster = self.cluster
        match command:
            case Publish(member_id, name, client_urls):
                if cluster.publish(member_id, name, client_urls):
                    self.store.advance_index()
            case UpdateMember(member_id, peer_urls):
                cluster.update(member_id, peer_urls)
                self.store.advance_index()
                self._observer.on_member_updated(cluster.members[member_id])
            case SetVersion(version):
                try:
                    cluster.set_version(version)
                except ClusterTooNew as error:
                    # To go on would be to misread what newer members write.
                    raise AssertionError(str(error)) from error
                self.store.advance_index()
            case unreachable:
                assert_never(unreachable)

    def _run_between_members(self, command: ReportDigest | AskTime | TellTime) -> None:
        """Take what members tell each other through the log; no user sees it."""
        match command:
            case ReportDigest(member_id, raft_index, digest):
                self.comparison.take(member_id, raft_index, digest, self.cluster.members)
            case AskTime(member_id, time, known):
                self._observer.on_time_asked(member_id, time, known)
            case TellTime(time):
                self.time = max(self.time, time)
                self._observer.on_time_told(time, self._term)
            case unreachable:
                assert_never(unreachable)

    def _change_members(self, change: MemberChange) -> None:
        if change.added is not None:
            self.cluster.add(change.added)
            self.store.advance_index()
            self._observer.on_member_added(change.added)
        else:
            self.cluster.remove(change.removed_id)
            # etcd deletes one key and creates another, for the id that must not come back.
            self.store.advance_index()
            self.store.advance_index()
            self._observer.on_member_removed(change.removed_id)

    def _counted(self, head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield head
        size = 0
        for chunk in chunks:
            size += len(chunk)
            yield chunk
        self.snapshot_bytes = size


def _decode_head(head: bytes, meta: SnapshotMeta) -> tuple[Cluster, Auth, int]:
    """Read the first chunk. Raises CorruptRecord."""
    try:
        value: Any = msgpack.unpackb(head, unicode_errors=_UNICODE)
        if not isinstance(value, list) or value[0] != SNAPSHOT_FORMAT:
            raise CorruptRecord(_name(meta), 0, f"the layout is not {SNAPSHOT_FORMAT}")
        # Without the time, which a snapshot from before clusters had one lacks.
        time = int(value[3]) if len(value) > 3 else 0
        return Cluster.decode(value[1]), Auth.decode(value[2]), time
    except (ValueError, LookupError, msgpack.UnpackException, BadMembers, BadAuth) as error:
        raise CorruptRecord(_name(meta), 0, f"no members or users in it ({error})") from error


def _name(meta: SnapshotMeta) -> str:
    return f"snapshot {meta.id}"
