"""`/v2/keys`: reading and writing keys.

Everything that is wrong with a request by itself is answered here, before anything is proposed.
A write is answered when it has been applied on this member; a read at once, or, with quorum=true,
when the leader has confirmed that it leads. These handlers are the product's speed: no task and
no future per request, and the usual PUT takes a short way through the form.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from pyetcd.api.guard import Guard
from pyetcd.api.parameters import NONE, Parameters, read
from pyetcd.api.watch import Watches
from pyetcd.auth import Auth
from pyetcd.command import (
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Overtaken,
    Set,
    Update,
    plain_set,
    ttl_expiration,
)
from pyetcd.errors import EtcdError, Unauthorized
from pyetcd.httpd import Handler, Request, Stream
from pyetcd.httpd.request import FORM_BYTES, FORM_TYPE, unquote_field
from pyetcd.server.apply import Done, Result
from pyetcd.server.pending import ReadDone
from pyetcd.stats import KeyRequests
from pyetcd.store import Event, Listing, Store

PREFIX: Final = "/v2/keys"
_PREFIX_BYTES: Final = len(PREFIX)
# To look for a number in bytes takes a tenth of the time that a string of one byte takes: for that
# Python raises, and catches, an error first.
_PERCENT: Final = 0x25
_AMPERSAND: Final = 0x26
_PLUS: Final = 0x2B
_SLASH: Final = 0x2F
_SEMICOLON: Final = 0x3B
# A listing of up to so many nodes is rendered at once: a millisecond of work.
_SMALL_LISTING: Final = 1_000
# While a client has this much of a listing yet to take, no more of it is rendered.
_LISTING_BUFFER_BYTES: Final = 1 << 20
_LISTING_PAUSE_SECONDS: Final = 0.005


class KeyServer(Protocol):
    """What the handlers need of a server."""

    @property
    def store(self) -> Store:
        """The keys."""

    @property
    def cluster_id(self) -> int:
        """Shown in every answer."""

    @property
    def raft_index(self) -> int:
        """The last applied entry."""

    @property
    def term(self) -> int:
        """Raft's term."""

    def now(self) -> int:
        """Nanoseconds since the epoch."""

    def propose(self, command: Command, done: Done, last_sweep: int = 0) -> None:
        """Have a command applied, then call `done` with its result; see Overtaken."""

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when the store is up to date."""

    def knows_time(self) -> bool:
        """Whether `now` is good enough for a TTL."""

    def learn_time(self, done: ReadDone, last_sweep: int = 0) -> int:
        """Call `done` when it is; return the `last_sweep` of whoever waits for that."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call back from the event loop."""


class Keys:
    """The handlers of `/v2/keys`, one for each method."""

    def __init__(self, server: KeyServer, guard: Guard | None = None) -> None:
        """Without a guard everybody may do everything."""
        self._server = server
        self._store = server.store
        self._guard = guard or Guard(Auth())
        self._auth = self._guard.auth
        cluster = b"X-Etcd-Cluster-Id: %x\r\n" % server.cluster_id
        self._error_head = b"Content-Type: application/json\r\n" + cluster
        # The head of an answer, and for which indexes and term it is.
        self._last_head = b""
        self._last_head_is_of = (0, 0, 0)
        self.requests = KeyRequests()
        self._watches = Watches(self._store, self._format_head, self._refuse, server.call_later)

    def get(self, request: Request) -> None:
        """Answer GET and HEAD: a key, a directory, or a watch."""
        path = key_path(request)
        if not request.query:
            if self._auth.enabled and not self._admits(request, self.get):
                return
            self.requests.gets += 1
            self._read(request, path, recursive=False, sort=False)
            return
        try:
            wanted = read(request)
        except EtcdError as error:
            self._refuse(request, error)
            return
        if self._auth.enabled and not self._admits(request, self.get, wanted):
            return
        if wanted.quorum and request.method == b"GET":
            # With wait=true as well, etcd answers at once, too.
            self.requests.quorum_gets += 1
            revision = self._auth.revision_in_force
            done = partial(self._read_confirmed, request, path, wanted, revision)
            self._server.read_index(done)
        elif wanted.wait:
            self.requests.watches += 1
            self._watches.begin(
                request,
                path,
                recursive=wanted.recursive,
                stream=wanted.stream,
                since_index=wanted.wait_index,
            )
        else:
            self.requests.gets += 1
            self._read(request, path, recursive=wanted.recursive, sort=wanted.sort)

    def put(self, request: Request) -> None:
        """Answer PUT: set, create, update or compare-and-swap."""
        path = key_path(request)
        value = _plain_value(request)
        if value is not None:
            if self._auth.enabled and not self._admits(request, self.put):
                return
            self.requests.puts += 1
            command = plain_set(path, value)
            self._server.propose(command, partial(self._answer, request), request.last_sweep)
            return
        try:
            wanted = read(request)
        except EtcdError as error:
            self._refuse(request, error)
            return
        if self._auth.enabled and not self._admits(request, self.put, wanted):
            return
        if wanted.ttl_seconds is not None and not self._has_time(request, self.put):
            return
        self.requests.puts += 1
        done = self._answerer(request, wanted)
        self._server.propose(self._put_command(path, wanted), done, request.last_sweep)

    def post(self, request: Request) -> None:
        """Answer POST: create a key named by its index."""
        try:
            wanted = read(request)
        except EtcdError as error:
            self._refuse(request, error)
            return
        if self._auth.enabled and not self._admits(request, self.post, wanted):
            return
        if wanted.ttl_seconds is not None and not self._has_time(request, self.post):
            return
        self.requests.posts += 1
        command = CreateInOrder(
            key_path(request), wanted.value, wanted.directory, self._expiration(wanted)
        )
        self._server.propose(command, self._answerer(request, wanted), request.last_sweep)

    def delete(self, request: Request) -> None:
        """Answer DELETE: delete or compare-and-delete."""
        try:
            wanted = read(request)
        except EtcdError as error:
            self._refuse(request, error)
            return
        if self._auth.enabled and not self._admits(request, self.delete, wanted):
            return
        self.requests.deletes += 1
        path = key_path(request)
        command: Command
        if wanted.prev_index or wanted.prev_value:
            command = CompareAndDelete(path, wanted.prev_value, wanted.prev_index)
        else:
            command = Delete(path, wanted.directory, wanted.recursive)
        self._server.propose(command, partial(self._answer, request), request.last_sweep)

    # --------------------------------------------------------------------------------- writing

    def _put_command(self, path: str, wanted: Parameters) -> Command:
        expiration = self._expiration(wanted)
        compares = bool(wanted.prev_index or wanted.prev_value)
        if wanted.prev_exist is False:
            # What is compared beside it does not matter to etcd.
            return Create(path, wanted.value, wanted.directory, expiration)
        if compares:
            return CompareAndSwap(
                path,
                wanted.value,
                wanted.prev_value,
                wanted.prev_index,
                expiration,
                wanted.refresh,
            )
        if wanted.prev_exist:
            return Update(path, wanted.value, expiration, wanted.refresh)
        return Set(path, wanted.value, wanted.directory, expiration, wanted.refresh)

    def _has_time(self, request: Request, again: Handler) -> bool:
        """Tell whether a TTL can be taken; if not, the request will come `again`."""
        if self._server.knows_time():
            return True
        done = partial(self._time_learnt, request, again)
        request.last_sweep = self._server.learn_time(done, request.last_sweep)
        return False

    def _time_learnt(self, request: Request, again: Handler, error: EtcdError | None) -> None:
        if error is not None:
            self._refuse(request, error)
        else:
            again(request)

    def _expiration(self, wanted: Parameters) -> int:
        if wanted.ttl_seconds is None:
            return 0
        return ttl_expiration(wanted.ttl_seconds, self._server.now())

    def _answerer(self, request: Request, wanted: Parameters) -> Done:
        return partial(self._answer_briefly if wanted.no_value else self._answer, request)

    def _answer_briefly(self, request: Request, result: Result) -> None:
        """Answer a write whose client knows what it wrote (noValueOnSuccess)."""
        if isinstance(result, Event):
            status = 201 if result.is_created else 200
            body = f'{{"action":"{result.action}"}}\n'.encode()
            request.respond(status, self._format_head(result.etcd_index), body)
        else:
            self._answer(request, result)

    def _answer(self, request: Request, result: Result) -> None:
        if isinstance(result, Event):
            status = 201 if result.is_created else 200
            request.respond(status, self._format_head(result.etcd_index), result.body())
        elif isinstance(result, EtcdError):
            self._refuse(request, result)
        elif isinstance(result, Overtaken):
            # Nothing was written. What is permitted, and what time it is, is asked once more.
            request.last_sweep = result.last_sweep
            again = {b"PUT": self.put, b"POST": self.post, b"DELETE": self.delete}
            again[request.method](request)
        else:
            raise AssertionError(f"{request.method!r} {request.target!r} led to {result!r}")

    # --------------------------------------------------------------------------------- reading

    def _read_confirmed(
        self,
        request: Request,
        path: str,
        wanted: Parameters,
        auth_revision: int,
        error: EtcdError | None,
    ) -> None:
        if error is not None:
            self._refuse(request, error)
        elif auth_revision != self._auth.revision_in_force:
            self._read_if_admitted(request, path, wanted)
        else:
            self._read(request, path, recursive=wanted.recursive, sort=wanted.sort)

    def _read_if_admitted(self, request: Request, path: str, wanted: Parameters) -> None:
        """Ask once more whether it may be read. The store need not be confirmed again for that."""
        again = partial(self._read_if_admitted, path=path, wanted=wanted)
        if not self._auth.enabled or self._admits(request, again, wanted):
            self._read(request, path, recursive=wanted.recursive, sort=wanted.sort)

    def _read(self, request: Request, path: str, *, recursive: bool, sort: bool) -> None:
        server = self._server
        try:
            found = self._store.get(path, server.now(), recursive=recursive, sort=sort)
        except EtcdError as error:
            self._refuse(request, error)
            return
        head = self._format_head(found.etcd_index)
        if isinstance(found, Event) or found.size <= _SMALL_LISTING:
            request.respond(200, head, found.body())
        else:
            self._write_listing(request.start_stream(200, head), found)

    def _write_listing(self, stream: Stream, listing: Listing) -> None:
        self._continue_listing(stream, listing.chunks())

    def _continue_listing(self, stream: Stream, pieces: Iterator[bytes]) -> None:
        """Write one piece, and the others in later turns of the loop."""
        if not stream.is_open:
            return
        pause = 0.0
        if stream.buffered < _LISTING_BUFFER_BYTES:
            piece = next(pieces, None)
            if piece is None:
                stream.finish()
                return
            stream.write(piece)
        else:
            pause = _LISTING_PAUSE_SECONDS
        self._server.call_later(pause, partial(self._continue_listing, stream, pieces))

    # ------------------------------------------------------------------------------ permission

    def _admits(self, request: Request, again: Handler, wanted: Parameters = NONE) -> bool:
        """Tell whether the request is permitted; if not, it is answered, or will come `again`."""
        return self._guard.admits(
            request,
            request.path[len(PREFIX) :],
            recursive=wanted.recursive,
            again=again,
            refuse=self._refuse_access,
        )

    def _refuse_access(self, request: Request) -> None:
        self._refuse(request, Unauthorized("Insufficient credentials"))

    # --------------------------------------------------------------------------------- answers

    def _format_head(self, etcd_index: int) -> bytes:
        server = self._server
        raft_index, term = server.raft_index, server.term
        of = (etcd_index, raft_index, term)
        # Between two writes all answers have the same head.
        if of != self._last_head_is_of:
            self._last_head = b"%bX-Etcd-Index: %d\r\nX-Raft-Index: %d\r\nX-Raft-Term: %d\r\n" % (
                self._error_head,
                etcd_index,
                raft_index,
                term,
            )
            self._last_head_is_of = of
        return self._last_head

    def _refuse(self, request: Request, error: EtcdError) -> None:
        self.requests.count_refused(request.method, error.status)
        head = b"%bX-Etcd-Index: %d\r\n" % (self._error_head, error.index)
        request.respond(error.status, head, error.body())


def key_path(request: Request) -> str:
    """Return the key of a request as the store names it; the router has cleaned the path."""
    path = request.path[_PREFIX_BYTES:]
    if not path or path[-1] == _SLASH:
        path = path.rstrip(b"/") or b"/"
    return _text(path)


def _text(data: bytes) -> str:
    """Return what was UTF-8 most likely."""
    try:
        # Without the other rule for errors, which is seldom needed, it takes half the time.
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


def _plain_value(request: Request) -> str | None:
    """Return the value of a PUT that has nothing but a value; None for any other."""
    body = request.body
    if request.query or not body.startswith(b"value=") or _AMPERSAND in body or _SEMICOLON in body:
        return None
    if len(body) > FORM_BYTES or request.header(b"content-type") != FORM_TYPE:
        return None
    if _PERCENT in body or _PLUS in body:
        if _PERCENT in body:
            return None  # escapes may be wrong; the form's own rules say how
        return _text(unquote_field(body[6:]))
    return _text(body[6:])
