"""The members API: who is in the cluster, and changes to that.

Relies on `endpoints` to send and `wire` to read.
"""

from collections.abc import Sequence
from typing import Final

from pyetcd.client.endpoints import Endpoints
from pyetcd.client.failure import Refused
from pyetcd.client.wire import Answer, Member, json_object, json_request, list_of, member_from

PATH: Final = "/v2/members"


class Members:
    """The members of the cluster that the endpoints belong to."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Send through these endpoints."""
        self._endpoints = endpoints

    async def list(self) -> tuple[Member, ...]:
        """Return all members, in the order in which the server names them."""
        answer = await self._send("GET", PATH, None, 200)
        return tuple(member_from(item) for item in list_of(json_object(answer.body), "members"))

    async def leader(self) -> Member:
        """Return the member that leads."""
        answer = await self._send("GET", f"{PATH}/leader", None, 200)
        return member_from(json_object(answer.body))

    async def add(self, peer_urls: Sequence[str]) -> Member:
        """Let a member with these URLs join; it is to be started afterwards."""
        answer = await self._send("POST", PATH, {"peerURLs": list(peer_urls)}, 201)
        return member_from(json_object(answer.body))

    async def update(self, member_id: str, peer_urls: Sequence[str]) -> None:
        """Change where a member is reached by the others."""
        await self._send("PUT", f"{PATH}/{member_id}", {"peerURLs": list(peer_urls)}, 204)

    async def remove(self, member_id: str) -> None:
        """Take a member out for good; one that is gone already is no error."""
        await self._send("DELETE", f"{PATH}/{member_id}", None, 204, 410)

    async def _send(self, method: str, path: str, value: object, *expected: int) -> Answer:
        answer = await self._endpoints.send(json_request(method, path, value))
        if answer.status not in expected:
            raise member_refusal(answer)
        return answer


def member_refusal(answer: Answer) -> Refused:
    """Return the error with the server's text where etcd's own client shows it."""
    message = ""
    if answer.status in (404, 409):
        text = json_object(answer.body).get("message")
        message = text if isinstance(text, str) else ""
    return Refused(answer.status, message)
