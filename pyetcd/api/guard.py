"""Who a request is from, and whether it may do what it asks.

A credential costs one run of bcrypt, off the loop, and is remembered from then on: as a keyed
digest, never as a password. It is worth something only while the hash that it was checked against
is the user's hash, and permissions are those of the current revision; so whatever changes on any
member takes effect here with the entry that brings it. Wrong passwords are not remembered.

As in etcd 2.3.8: a user that does not exist is refused without bcrypt; an Authorization that is
no Basic credential is refused, and not taken for a guest; for guests `recursive` makes no
difference; and a request is checked when it begins, so that a watch outlives a revocation.
"""

import base64
import logging
import re
import secrets
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Final

from pyetcd.api.json_body import answer_message
from pyetcd.api.passwords import Bcrypt, Passwords
from pyetcd.auth import Access, Auth, User
from pyetcd.httpd import Handler, Request

log = logging.getLogger(__name__)

# A few megabytes; the oldest is forgotten first, and costs its client another 50 ms.
MAX_SESSIONS: Final = 10_000

_READING: Final = frozenset((b"GET", b"HEAD"))
_SCHEME: Final = b"basic "
_BASE64: Final = re.compile(rb"(?:[0-9A-Za-z+/]{4})*(?:[0-9A-Za-z+/]{2}==|[0-9A-Za-z+/]{3}=)?")


class Guard:
    """Admits requests, or answers them.

    Invariants:
      1. A session is of a credential that bcrypt has accepted.
      2. While a check runs, somebody waits for it.
    """

    def __init__(
        self,
        auth: Auth,
        *,
        passwords: Passwords | None = None,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        self.auth = auth
        self.passwords: Passwords = passwords or Bcrypt()
        self._max_sessions = max_sessions
        self._mac = blake2b(key=secrets.token_bytes(32), digest_size=32)
        # By the digest of an Authorization header, in the order of their making.
        self._sessions: dict[bytes, _Session] = {}
        # By such a digest and the hash that the password is compared to.
        self._checks: dict[tuple[bytes, str], _Check] = {}
        self._guests = _Session("", "")

    def admits(
        self,
        request: Request,
        key: bytes,
        *,
        recursive: bool,
        again: Handler,
        refuse: Handler,
    ) -> bool:
        """Tell whether the request may have the key, which ends as the client wrote it.

        If not, it was handed to `refuse`; or it will be handed to `again` once its password has
        been checked. Auth is enabled.
        """
        header = request.header(b"authorization")
        if header:
            access = self._access(request, header, again, refuse)
            if access is None:
                return False
        else:
            access = self._guest_access()
            recursive = False
        if access.allows(key, write=request.method not in _READING, recursive=recursive):
            return True
        log.debug("auth: no access to key %r", key)
        refuse(request)
        return False

    def admits_root(self, request: Request, again: Handler) -> bool:
        """Tell whether the request is from somebody with the role root, if that is needed.

        If not, it was answered; or it will be handed to `again` once its password has been
        checked.
        """
        if not self.auth.enabled:
            return True
        header = request.header(b"authorization")
        if not header:
            refuse_access(request)
            return False
        access = self._access(request, header, again, refuse_access)
        if access is None:
            return False
        if not access.is_root:
            refuse_access(request)
        return access.is_root

    def root_only(self, handler: Handler) -> Handler:
        """Return a handler that passes on what comes from root."""

        def handle(request: Request) -> None:
            if self.admits_root(request, handle):
                handler(request)

        return handle

    # -------------------------------------------------------------------------------- sessions

    def _access(
        self, request: Request, header: bytes, again: Handler, refuse: Handler
    ) -> Access | None:
        """Return what the sender may do; None if the request is refused, or is to come again."""
        mac = self._mac.copy()
        mac.update(header)
        digest = mac.digest()
        session = self._sessions.get(digest)
        if session is not None:
            if session.revision == self.auth.revision:
                return session.access
            user = self.auth.users.get(session.name)
            if user is not None and user.password_hash == session.password_hash:
                session.renew(self.auth, user)
                return session.access
            del self._sessions[digest]
        self._verify(request, header, digest, again, refuse)
        return None

    def _guest_access(self) -> Access:
        guests = self._guests
        if guests.revision != self.auth.revision:
            guests.renew(self.auth, None)
        return guests.access

    def _verify(
        self, request: Request, header: bytes, digest: bytes, again: Handler, refuse: Handler
    ) -> None:
        credential = read_credential(header)
        user = None if credential is None else self.auth.users.get(credential[0])
        if credential is None or user is None:
            log.debug("auth: no such user, or malformed credentials")
            refuse(request)
            return
        key = (digest, user.password_hash)
        check = self._checks.get(key)
        if check is None:
            check = self._checks[key] = _Check()
            done = partial(self._checked, key, user)
            check.cancel = self.passwords.check(credential[1], user.password_hash, done)
        check.waiting[request] = (again, refuse)
        request.on_disconnect = partial(self._leave, key, request)

    def _leave(self, key: tuple[bytes, str], request: Request) -> None:
        """A client has gone: do not work for it, so that nobody can pile up work."""
        check = self._checks[key]
        del check.waiting[request]
        if not check.waiting:
            del self._checks[key]
            check.cancel()

    def _checked(self, key: tuple[bytes, str], user: User, is_right: bool) -> None:
        check = self._checks.pop(key, None)
        if check is None:
            return  # everybody has gone while bcrypt ran
        if is_right:
            if len(self._sessions) >= self._max_sessions:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[key[0]] = _Session(user.name, user.password_hash)
        else:
            log.warning("auth: incorrect password for user %r", user.name)
        for request, (again, refuse) in check.waiting.items():
            request.on_disconnect = None
            (again if is_right else refuse)(request)


class _Session:
    """A credential that was verified; or that of guests, who need none."""

    __slots__ = ("access", "name", "password_hash", "revision")

    def __init__(self, name: str, password_hash: str) -> None:
        self.name = name
        self.password_hash = password_hash
        # No revision of auth that is enabled: the first use looks up what is permitted.
        self.revision = 0
        self.access: Access

    def renew(self, auth: Auth, user: User | None) -> None:
        self.access = auth.guest_access() if user is None else auth.access_of(user)
        self.revision = auth.revision


class _Check:
    """A run of bcrypt, and the requests that wait for it."""

    __slots__ = ("cancel", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Request, tuple[Handler, Handler]] = {}
        # Set before anything can happen.
        self.cancel: Callable[[], object]


def read_credential(header: bytes) -> tuple[str, bytes] | None:
    """Return user and password of a Basic credential, None if it is none."""
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    # Go's decoder passes over line ends, and is stricter with padding than Python's.
    encoded = header[len(_SCHEME) :].translate(None, b"\r\n")
    if _BASE64.fullmatch(encoded) is None:
        return None
    name, colon, password = base64.b64decode(encoded).partition(b":")
    return (name.decode("utf-8", "surrogateescape"), password) if colon else None


def refuse_access(request: Request) -> None:
    """Answer who lacks the role root."""
    answer_message(request, 401, "Insufficient credentials")
