"""The peer port's pages for operators and joining members: `/members` and `/version`.

Everything else is 404 in etcd's words, `/health` included. What members say to each other is the
transport's, which asks here for all else.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pyetcd.api.info import version_document
from pyetcd.cluster import Cluster
from raft.transport import Reply

_JSON: Final = "application/json"
_ERROR_HEADERS: Final = {"X-Content-Type-Options": "nosniff"}


class PeerServer(Protocol):
    """What the pages need of a server."""

    @property
    def cluster_id(self) -> int:
        """Shown with the members."""

    @property
    def cluster(self) -> Cluster:
        """The members, as of the last applied entry."""


def page_of(server: PeerServer) -> Callable[[str, str], Reply]:
    """Return what answers method and path."""
    return partial(_answer, server)


def _answer(server: PeerServer, method: str, path: str) -> Reply:
    if path not in ("/members", "/version"):
        return Reply(404, b"404 page not found\n", headers=_ERROR_HEADERS)
    if method != "GET":
        # HEAD as well.
        headers = {"Allow": "GET", **_ERROR_HEADERS}
        return Reply(405, b"Method Not Allowed\n", headers=headers)
    if path == "/version":
        return Reply(200, version_document(server.cluster), _JSON)
    headers = {"X-Etcd-Cluster-Id": f"{server.cluster_id:x}"}
    return Reply(200, server.cluster.peer_members_json(), _JSON, headers)
