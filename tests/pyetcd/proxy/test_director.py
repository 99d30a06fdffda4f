"""Which members are asked, with a network made of answers and a clock that the test moves."""

import asyncio
import logging
from pathlib import Path
from random import Random

import pytest

from pyetcd.cluster import Cluster, Member
from pyetcd.proxy.cluster_file import ClusterFile
from pyetcd.proxy.director import Director
from tests.pyetcd.bootstrap.network import FakeNetwork

pytestmark = pytest.mark.asyncio

PEER_A, PEER_B = "http://a:1", "http://b:1"
A, B, C = (f"http://{host}:2" for host in "abc")
BOTH = Cluster(9, {1: Member(1, "a", (PEER_A,), (A,)), 2: Member(2, "b", (PEER_B,), (B, C))})


class Stage:
    """A director, its network, its file and its time."""

    def __init__(self, directory: Path, *peer_urls: str, refresh_seconds: float = 30) -> None:
        self.now = 100.0
        self.network = FakeNetwork()
        self.file = ClusterFile(directory)
        self.director = Director(
            peer_urls,
            self.network.network(),
            self.file,
            failure_wait_seconds=5,
            refresh_seconds=refresh_seconds,
            clock=lambda: self.now,
            rng=Random(1),
        )

    def urls(self) -> list[str]:
        """Whom the director would ask."""
        return sorted(endpoint.url for endpoint in self.director.available())


async def test_director_finds_endpoints_at_any_peer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names them once, and the file has all peers."""
    caplog.set_level(logging.INFO)
    stage = Stage(tmp_path, PEER_A)
    stage.network.serve(BOTH, PEER_A)
    await stage.director.refresh()
    assert stage.urls() == [A, B, C]
    assert stage.file.read() == (PEER_A, PEER_B)
    await stage.director.refresh()
    found = [line for line in caplog.messages if line.startswith("endpoints found")]
    assert len(found) == 1
    assert sorted(found[0].removeprefix("endpoints found [").removesuffix("]").split()) == [
        f'"{url}"' for url in (A, B, C)
    ]
    assert (
        f"updated peer urls in cluster file from [{PEER_A}] to [{PEER_A} {PEER_B}]"
        in caplog.messages
    )


async def test_director_keeps_the_last_list_when_nobody_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Members may serve clients although their peer URLs cannot be reached; one line says so."""
    stage = Stage(tmp_path, PEER_A)
    await stage.director.refresh()
    await stage.director.refresh()
    assert stage.urls() == []
    line = f"could not get cluster response from {PEER_A}: connection refused"
    assert caplog.messages == [line]
    stage.network.serve(BOTH, PEER_A)
    await stage.director.refresh()
    stage.network.answers.clear()
    await stage.director.refresh()
    assert stage.urls() == [A, B, C]
    assert caplog.messages.count(line) == 2


async def test_failed_endpoint_is_left_alone_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A refresh does not forget the failure, and the log tells of changes only."""
    stage = Stage(tmp_path, PEER_A)
    stage.network.serve(BOTH, PEER_A)
    await stage.director.refresh()
    caplog.clear()
    caplog.set_level(logging.INFO)
    (endpoint,) = (endpoint for endpoint in stage.director.available() if endpoint.url == A)
    stage.director.failed(endpoint, "refused")
    assert stage.urls() == [B, C]
    await stage.director.refresh()
    assert stage.urls() == [B, C]
    stage.now += 5
    assert stage.urls() == [A, B, C]
    stage.director.failed(endpoint, "refused")
    stage.director.succeeded(endpoint)
    stage.director.succeeded(endpoint)
    assert caplog.messages == [
        f"failed to direct request to {A}: refused",
        f"marked endpoint {A} unavailable",
        f"marked endpoint {A} available",
    ]


async def test_url_that_is_none_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a member advertises is checked; members without URLs leave the list as it was."""
    stage = Stage(tmp_path, PEER_A)
    stage.network.serve(Cluster(9, {1: Member(1, "a", (PEER_A,), (A, "nonsense"))}), PEER_A)
    await stage.director.refresh()
    assert stage.urls() == [A]
    assert any(line.startswith("upstream URL invalid: ") for line in caplog.messages)
    stage.network.serve(Cluster(9, {1: Member(1, "a", (PEER_A,))}), PEER_A)
    await stage.director.refresh()
    assert stage.urls() == [A]


async def test_file_that_cannot_be_written_only_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must not stop a proxy."""
    (tmp_path / "proxy").write_text("in the way")
    stage = Stage(tmp_path, PEER_A)
    stage.network.serve(BOTH, PEER_A)
    await stage.director.refresh()
    assert stage.urls() == [A, B, C]
    assert any(line.startswith("error on updating clusterfile") for line in caplog.messages)


async def test_run_refreshes_and_hurries_without_endpoints(
    tmp_path: Path,
) -> None:
    """Half a minute between two looks, but a second while there is nobody to ask."""
    stage = Stage(tmp_path, PEER_A)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            stage.network.serve(BOTH, PEER_A)
        if len(slept) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await stage.director.run(sleep)
    assert slept == [1, 1, 30, 30]
