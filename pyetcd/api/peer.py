"""The peer port's pages for operators and joining members: `/members` and `/version`.

Everything else is 404 in etcd's words, `/health` included. What members say to each other is the
transport's, whose routes are there before these.
"""

from typing import Final, Protocol

from aiohttp import web

from pyetcd.api.info import version_document
from pyetcd.cluster import Cluster

_ERROR_HEADERS: Final = {
    "Content-Type": "text/plain; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
}


class PeerServer(Protocol):
    """What the pages need of a server."""

    @property
    def cluster_id(self) -> int:
        """Shown with the members."""

    @property
    def cluster(self) -> Cluster:
        """The members, as of the last applied entry."""


def add_routes(app: web.Application, server: PeerServer) -> None:
    """Add the pages to the peer port's application; the last routes that it gets."""
    pages = _Pages(server)
    # For any method: a 405 must be etcd's, and name GET without HEAD.
    app.router.add_route("*", "/members", pages.members)
    app.router.add_route("*", "/version", pages.version)
    app.router.add_route("*", "/{path:.*}", pages.nothing)


class _Pages:
    def __init__(self, server: PeerServer) -> None:
        self._server = server

    async def members(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            return _method_not_allowed()
        headers = {
            "Content-Type": "application/json",
            "X-Etcd-Cluster-Id": f"{self._server.cluster_id:x}",
        }
        return web.Response(body=self._server.cluster.peer_members_json(), headers=headers)

    async def version(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            return _method_not_allowed()
        headers = {"Content-Type": "application/json"}
        return web.Response(body=version_document(self._server.cluster), headers=headers)

    async def nothing(self, _: web.Request) -> web.Response:
        return web.Response(status=404, body=b"404 page not found\n", headers=_ERROR_HEADERS)


def _method_not_allowed() -> web.Response:
    headers = {"Allow": "GET", **_ERROR_HEADERS}
    return web.Response(status=405, body=b"Method Not Allowed\n", headers=headers)
