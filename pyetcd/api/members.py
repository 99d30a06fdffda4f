"""`/v2/members`: who belongs to the cluster, and changing that.

A change is answered when it has been applied on this member. What is wrong with a request by
itself is answered here; whether a change is possible is decided when it is applied, the same on
every member, and only its refusal is put into etcd's words here.
"""

import logging
import re
from functools import partial
from typing import Final, Protocol

from pyetcd.api.json_body import JSON_HEAD, BadBody, answer_message, read_field, to_texts
from pyetcd.cluster import (
    MAX_ID,
    Cluster,
    IdExists,
    IdNotFound,
    IdRemoved,
    LastMember,
    Member,
    PeerUrlExists,
)
from pyetcd.httpd import Request, error
from pyetcd.server.apply import Done, Result
from pyetcd.urls import UrlError, Urls, parse_urls

log = logging.getLogger(__name__)

# What etcd's errors call the body.
_GO_TYPE: Final = r'struct { PeerURLs []string "json:\"peerURLs\"" }'
PREFIX: Final = b"/v2/members"

_HEX: Final = re.compile(rb"0*([0-9A-Fa-f]{1,16})")


class MemberServer(Protocol):
    """What the handlers need of a server."""

    @property
    def cluster_id(self) -> int:
        """Shown in every answer."""

    @property
    def cluster(self) -> Cluster:
        """The members, as of the last applied entry."""

    @property
    def leader(self) -> int:
        """The member that leads; 0 when none is known."""

    def add_member(self, peer_urls: Urls, done: Done) -> Member:
        """Let a member in; `done` gets None or why not, never None during the call."""

    def remove_member(self, member: int, done: Done) -> None:
        """Throw a member out; `done` gets None or why not."""

    def update_member(self, member: int, peer_urls: Urls, done: Done) -> None:
        """Give a member other peer URLs; `done` gets None or why not."""


class Members:
    """The handlers of `/v2/members`, one for each method."""

    def __init__(self, server: MemberServer) -> None:
        self._server = server
        self._cluster_head = b"X-Etcd-Cluster-Id: %x\r\n" % server.cluster_id
        self._json_head = JSON_HEAD + self._cluster_head

    def get(self, request: Request) -> None:
        """Answer GET: all members, or the leader; one by its id cannot be had."""
        cluster = self._server.cluster
        match _rest_of(request):
            case b"":
                request.respond(200, self._json_head, cluster.members_json())
            case b"leader":
                # A member that joins may know its leader before it knows who that is.
                leader = cluster.members.get(self._server.leader)
                if leader is None:
                    self._answer_message(request, 503, "During election")
                else:
                    request.respond(200, self._json_head, leader.client_json() + b"\n")
            case _:
                self._answer_message(request, 404, "Not found")

    def post(self, request: Request) -> None:
        """Answer POST: add a member."""
        peer_urls = self._read_peer_urls(request)
        if peer_urls is None:
            return

        def done(result: Result) -> None:
            if result is None:
                request.respond(201, self._json_head, member.client_json() + b"\n")
            elif isinstance(result, IdExists | PeerUrlExists):
                self._answer_message(request, 409, str(result))
            else:
                self._fail(request, "adding member", result)

        member = self._server.add_member(peer_urls, done)

    def put(self, request: Request) -> None:
        """Answer PUT: change a member's peer URLs."""
        member = self._read_id(request)
        if member is None:
            return
        peer_urls = self._read_peer_urls(request)
        if peer_urls is not None:
            self._server.update_member(member, peer_urls, partial(self._updated, request, member))

    def delete(self, request: Request) -> None:
        """Answer DELETE: remove a member for ever."""
        member = self._read_id(request)
        if member is not None:
            self._server.remove_member(member, partial(self._removed, request, member))

    # ------------------------------------------------------------------------ results of changes

    def _updated(self, request: Request, member: int, result: Result) -> None:
        if result is None:
            request.respond(204, self._cluster_head)
        elif isinstance(result, PeerUrlExists):
            self._answer_message(request, 409, str(result))
        elif isinstance(result, IdNotFound):
            self._answer_message(request, 404, f"No such member: {member:x}")
        else:
            # Also of a member that was removed: etcd has no answer of its own for that.
            self._fail(request, f"updating member {member:x}", result)

    def _removed(self, request: Request, member: int, result: Result) -> None:
        if result is None:
            request.respond(204, self._cluster_head)
        elif isinstance(result, IdRemoved):
            self._answer_message(request, 410, f"Member permanently removed: {member:x}")
        elif isinstance(result, IdNotFound):
            self._answer_message(request, 404, f"No such member: {member:x}")
        elif isinstance(result, LastMember):
            self._answer_message(request, 409, str(result))
        else:
            self._fail(request, f"removing member {member:x}", result)

    def _fail(self, request: Request, what: str, result: Result) -> None:
        """Answer for what etcd has no words for, the timeout among them: only the log has them."""
        log.error("error %s (%s)", what, result)
        self._answer_message(request, 500, "Internal Server Error")

    # --------------------------------------------------------------------------- what is asked

    def _read_id(self, request: Request) -> int | None:
        """Return the id in the path; None when there is none, which is answered."""
        text = _rest_of(request)
        if not text:
            error(request, 405, b"Method Not Allowed", self._cluster_head)
            return None
        match = _HEX.fullmatch(text)
        member = int(match[1], 16) if match is not None else 0
        if member == 0:
            # Ids begin at 1, so that 0 may mean none everywhere else.
            shown = text.decode("utf-8", "surrogateescape") if match is None else "0"
            self._answer_message(request, 404, f"No such member: {shown}")
            return None
        assert member <= MAX_ID, f"{text!r} is {member}"
        return member

    def _read_peer_urls(self, request: Request) -> Urls | None:
        """Return the URLs in the body; None when they are no good, which is answered."""
        content_type = request.header(b"content-type") or b""
        if content_type != b"application/json":
            shown = content_type.decode("utf-8", "surrogateescape")
            message = f"Bad Content-Type {shown}, accept application/json"
            self._answer_message(request, 415, message)
            return None
        try:
            return parse_urls(to_texts(read_field(request.body, "peerURLs", go_type=_GO_TYPE)))
        except (BadBody, UrlError) as refused:
            self._answer_message(request, 400, str(refused))
            return None

    def _answer_message(self, request: Request, status: int, message: str) -> None:
        answer_message(request, status, message, self._cluster_head)


def _rest_of(request: Request) -> bytes:
    """Return the path behind `/v2/members` and one slash."""
    return request.path.removeprefix(PREFIX).removeprefix(b"/")
