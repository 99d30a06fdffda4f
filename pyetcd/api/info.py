"""What a member tells about itself: version, health, statistics, and where the others are.

Also the log level, which can be set while the member runs, and `/debug/vars`.
"""

import json
import logging
import resource
import sys
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pyetcd.api.json_body import JSON_HEAD, BadBody, answer_message, read_field, to_text
from pyetcd.cluster import Cluster
from pyetcd.errors import EtcdError, go_json
from pyetcd.httpd import TEXT_PLAIN, Request, error
from pyetcd.logs import NOTICE, PACKAGES, LevelsError, parse_package_levels
from pyetcd.server.pending import ReadDone
from pyetcd.server.surroundings import Peers, RaftNode
from pyetcd.stats import Counts, Standing, Traffic, leader_document, self_document
from pyetcd.store import Store
from pyetcd.urls import without_credentials
from pyetcd.version import ETCD_VERSION, UNDECIDED_CLUSTER_VERSION

log = logging.getLogger(__name__)

# A member that cannot confirm a quorum in this time is not healthy: etcd looks as long, too.
HEALTH_SECONDS: Final = 0.75

_HEALTHY: Final = b'{"health": "true"}'
_UNHEALTHY: Final = b'{"health": "false"}'
_NO_SPACE: Final = b'{"health": "false", "reason": "no space left on the disk"}'


class InfoServer(Protocol):
    """What the handlers need of a server."""

    @property
    def name(self) -> str:
        """The member's name."""

    @property
    def member_id(self) -> int:
        """The member's id."""

    @property
    def started_at(self) -> int:
        """Nanoseconds since the epoch."""

    @property
    def cluster(self) -> Cluster:
        """The members, as of the last applied entry."""

    @property
    def leader(self) -> int:
        """The member that leads; 0 when none is known."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""

    @property
    def leader_since(self) -> float:
        """Since when, in the event loop's clock, the leader leads; 0 if there never was one."""

    @property
    def store(self) -> Store:
        """The keys."""

    @property
    def node(self) -> RaftNode:
        """The log."""

    @property
    def transport(self) -> Peers:
        """The way to the other members."""

    def now(self) -> int:
        """Nanoseconds since the epoch."""

    def read_index(self, done: ReadDone) -> None:
        """Call `done` when a quorum has confirmed the leader."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call back from the event loop."""


class Info:
    """The handlers, one for each page."""

    def __init__(
        self, server: InfoServer, traffic: Traffic, *, loop_time: Callable[[], float]
    ) -> None:
        """`loop_time` is the event loop's clock."""
        self._server = server
        self._traffic = traffic
        self._loop_time = loop_time

    def version(self, request: Request) -> None:
        """Answer `/version`."""
        request.respond(200, JSON_HEAD, version_document(self._server.cluster))

    def machines(self, request: Request) -> None:
        """Answer `/v2/machines`: all client URLs, for clients of etcd 0.4."""
        urls = ", ".join(self._server.cluster.client_urls())
        request.respond(200, TEXT_PLAIN, urls.encode("utf-8", "replace"))

    def members(self, request: Request) -> None:
        """Answer `/members` as the peer port does: some clients ask for it here."""
        server = self._server
        head = JSON_HEAD + b"X-Etcd-Cluster-Id: %x\r\n" % server.cluster.id
        request.respond(200, head, server.cluster.peer_members_json())

    # ---------------------------------------------------------------------------------- health

    def health(self, request: Request) -> None:
        """Answer `/health`: whether a write has a chance, that is, a quorum answers now.

        A member whose disk is full says so: reads go on there.
        """
        server = self._server
        if server.node.disk_full:
            error(request, 503, _NO_SPACE)
            return
        if server.leader == 0:
            error(request, 503, _UNHEALTHY)
            return
        server.call_later(HEALTH_SECONDS, partial(self._give_up, request))
        server.read_index(partial(self._confirmed, request))

    def _confirmed(self, request: Request, refused: EtcdError | None) -> None:
        if request.answered:
            return
        if refused is None:
            request.respond(200, TEXT_PLAIN, _HEALTHY)
        else:
            error(request, 503, _UNHEALTHY)

    def _give_up(self, request: Request) -> None:
        if not request.answered:
            error(request, 503, _UNHEALTHY)

    # ------------------------------------------------------------------------------ statistics

    def self_stats(self, request: Request) -> None:
        """Answer `/v2/stats/self`."""
        server = self._server
        now, loop_now = server.now(), self._loop_time()
        leader_since = server.started_at
        if server.leader_since > 0:
            leader_since = now - round((loop_now - server.leader_since) * 1e9)
        standing = Standing(
            server.name,
            server.member_id,
            server.started_at,
            leader=server.leader,
            leader_since=leader_since,
            now=now,
        )
        request.respond(200, JSON_HEAD, self_document(standing, self._traffic, loop_now=loop_now))

    def leader_stats(self, request: Request) -> None:
        """Answer `/v2/stats/leader`; only the leader can."""
        server = self._server
        if not server.is_leader:
            answer_message(request, 403, "not current leader")
            return
        followers: dict[int, Counts] = {}
        for follower in server.transport.peer_ids:
            sent = server.transport.stats(follower)
            if sent is not None:
                followers[follower] = Counts(sent.messages_dropped, sent.messages_sent)
        document = leader_document(server.member_id, followers, self._traffic)
        request.respond(200, JSON_HEAD, document)

    def store_stats(self, request: Request) -> None:
        """Answer `/v2/stats/store`."""
        request.respond(200, JSON_HEAD, self._server.store.stats_body())

    # --------------------------------------------------------------------------- for operators

    def set_log_level(self, request: Request) -> None:
        """Answer PUT `/config/local/log`: one level for all packages."""
        try:
            level = to_text(read_field(request.body, "Level", whole=False))
        except BadBody:
            answer_message(request, 400, "Invalid json body")
            return
        number = _level_number(level.upper())
        if number is None:
            answer_message(request, 400, f"Invalid log level {level}")
            return
        log.log(NOTICE, 'globalLogLevel set to "%s"', logging.getLevelName(number))
        for name in PACKAGES:
            logging.getLogger(name).setLevel(number)
        request.respond(204)

    def variables(self, request: Request) -> None:
        """Answer `/debug/vars`: etcd's variables but for those of Go's memory."""
        variables = {
            "cmdline": [without_credentials(word) for word in sys.argv],
            "file_descriptor_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "raft.status": self._raft_status(),
        }
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in variables.items())
        body = go_json("{\n" + ",\n".join(lines) + "\n}\n").encode()
        request.respond(200, b"Content-Type: application/json; charset=utf-8\r\n", body)

    def _raft_status(self) -> dict[str, object]:
        status = self._server.node.core.status()
        followers = sorted(status.followers.items())
        return {
            "id": f"{self._server.member_id:x}",
            "term": status.term,
            "vote": f"{status.vote:x}",
            "commit": status.commit_index,
            "lead": f"{status.leader:x}",
            "raftState": f"State{status.role.title().replace('_', '')}",
            "progress": {
                f"{follower:x}": {
                    "match": progress.match_index,
                    "next": progress.next_index,
                    "state": f"ProgressState{progress.state.value.capitalize()}",
                }
                for follower, progress in followers
            },
        }


def version_document(cluster: Cluster) -> bytes:
    """Return the body of `/version`, on either port."""
    agreed = cluster.version or UNDECIDED_CLUSTER_VERSION
    return f'{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{agreed}"}}'.encode()


def _level_number(level: str) -> int | None:
    """Return what Python calls a level of etcd's; None if it is none."""
    if "," in level:
        return None  # that would be several
    try:
        return parse_package_levels(f"*={level}")["*"]
    except LevelsError:
        return None
