"""Which members a proxy may ask: the cluster's list, less those that failed a moment ago.

The list is asked for again and again, at the members' peer URLs. If nobody answers, the last one
counts: members that cannot be asked for the list may still serve clients. Their order is drawn anew
with each list, so that proxies do not all ask the same member.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from pyetcd.bootstrap.remote import Network, first_cluster
from pyetcd.logs import NOTICE
from pyetcd.proxy.cluster_file import ClusterFile
from pyetcd.urls import UrlError, Urls, parse_urls

log = logging.getLogger(__name__)

# As in etcd, while there is no member to ask, the list is asked for at least so often.
HASTE_SECONDS: Final = 1.0
# An interval of 0 must not keep everybody busy.
LEAST_REFRESH_SECONDS: Final = 0.1
# Limit for members to answer with the list.
LIST_SECONDS: Final = 5.0

Sleep: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Endpoint:
    """One client URL of a member."""

    url: str
    # In the loop's clock; before that it is not asked.
    retry_at: float = 0.0
    # Whether the last request to it failed, which the log has said.
    failing: bool = False


class Director:
    """The members as the proxy knows them.

    Invariants:
      1. `_endpoints` has every URL once.
    """

    def __init__(
        self,
        peer_urls: Urls,
        network: Network,
        file: ClusterFile,
        *,
        failure_wait_seconds: float,
        refresh_seconds: float,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        self._peer_urls = peer_urls
        self._network = network
        self._file = file
        self._failure_wait_seconds = failure_wait_seconds
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._rng = rng
        self._endpoints: list[Endpoint] = []
        # Whether nobody answered when the list was asked for, which the log has said.
        self._unanswered = False
        # Whether the log has named endpoints.
        self._told = False

    @property
    def known(self) -> int:
        """How many endpoints there are, those that failed a moment ago among them."""
        return len(self._endpoints)

    def available(self) -> list[Endpoint]:
        """Return whom to ask, in the order to ask them."""
        now = self._clock()
        return [endpoint for endpoint in self._endpoints if endpoint.retry_at <= now]

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """Note that a member did not answer: it is left alone for a while."""
        endpoint.retry_at = self._clock() + self._failure_wait_seconds
        if not endpoint.failing:
            endpoint.failing = True
            log.warning("failed to direct request to %s: %s", endpoint.url, reason)
            log.warning("marked endpoint %s unavailable", endpoint.url)

    def succeeded(self, endpoint: Endpoint) -> None:
        """Note that a member answered."""
        if endpoint.failing:
            endpoint.failing = False
            log.info("marked endpoint %s available", endpoint.url)

    async def run(self, sleep: Sleep = asyncio.sleep) -> None:
        """Keep the list as it is in the cluster, until cancelled; `refresh` was called once."""
        while True:
            seconds = max(self._refresh_seconds, LEAST_REFRESH_SECONDS)
            if not self.available():
                seconds = min(seconds, HASTE_SECONDS)
            await sleep(seconds)
            await self.refresh()

    async def refresh(self) -> None:
        """Ask for the list once."""
        cluster = await first_cluster(
            self._peer_urls,
            self._network,
            timeout_seconds=LIST_SECONDS,
            # Said once, not every second.
            failure_level=logging.DEBUG if self._unanswered else logging.WARNING,
        )
        self._unanswered = cluster is None
        if cluster is None:
            return
        client_urls = sorted({url for member in cluster.members for url in member.client_urls})
        peer_urls = tuple(sorted({url for member in cluster.members for url in member.peer_urls}))
        self._remember(peer_urls)
        self.update(client_urls)

    def update(self, client_urls: Sequence[str]) -> None:
        """Take these as the members' client URLs, unless none of them is one."""
        known = {endpoint.url: endpoint for endpoint in self._endpoints}
        endpoints: dict[str, Endpoint] = {}
        for text in client_urls:
            try:
                (url,) = parse_urls([text])
            except UrlError as error:
                log.warning("upstream URL invalid: %s", error)
            else:
                endpoints[url] = known.get(url) or Endpoint(url)
        # A cluster whose members have not yet said where they are is no reason to forget it.
        if endpoints:
            self._endpoints = list(endpoints.values())
            self._rng.shuffle(self._endpoints)
            if not self._told:
                self._told = True
                urls = " ".join(f'"{endpoint.url}"' for endpoint in self._endpoints)
                log.info("endpoints found [%s]", urls)

    def _remember(self, peer_urls: Urls) -> None:
        if peer_urls == self._peer_urls:
            return
        try:
            self._file.write(peer_urls)
        except OSError as error:
            log.warning("error on updating clusterfile %s: %s", self._file.path, error)
        log.log(
            NOTICE,
            "updated peer urls in cluster file from [%s] to [%s]",
            " ".join(self._peer_urls),
            " ".join(peer_urls),
        )
        self._peer_urls = peer_urls
