"""A network of running members, made of answers."""

import asyncio
from dataclasses import dataclass, field

from pyetcd.bootstrap.remote import Answer, Network, Unreachable
from pyetcd.cluster import Cluster


@dataclass
class FakeNetwork:
    """Answers by URL; whatever is not listed cannot be reached."""

    answers: dict[str, Answer] = field(default_factory=dict)
    # URLs that take the request and never answer.
    silent: set[str] = field(default_factory=set)
    # Host names with an address.
    hosts: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def serve(self, cluster: Cluster, *urls: str) -> None:
        """Let members at these peer URLs tell of a cluster."""
        for url in urls:
            body = cluster.peer_members_json()
            self.answers[f"{url}/members"] = Answer(200, f"{cluster.id:x}", body)

    def network(self) -> Network:
        """Return what bootstrapping takes."""
        return Network(self._get, self._resolve)

    async def _get(self, url: str) -> Answer:
        self.asked.append(url)
        if url in self.silent:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(url)
        if url not in self.answers:
            raise Unreachable("connection refused")
        return self.answers[url]

    async def _resolve(self, host: str) -> str | None:
        return self.hosts.get(host)
