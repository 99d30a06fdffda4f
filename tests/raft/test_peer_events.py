"""Proves that what a transport reports reaches the node, and the log where it is for people."""

import logging

import pytest

from raft import PeerEvents, PeerRejected
from raft.messages import Envelope, Heartbeat


class _Core:
    server_id = 0xA
    leader = 2


class _Node:
    """Notes how it is called."""

    core = _Core()

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def receive(self, envelopes: list[Envelope]) -> None:
        self.calls.append(("receive", envelopes))

    def report_unreachable(self, server_id: int) -> None:
        self.calls.append(("unreachable", server_id))

    def report_reachable(self, server_id: int) -> None:
        self.calls.append(("reachable", server_id))

    def report_leader_lost(self) -> None:
        self.calls.append(("leader lost",))

    def report_snapshot(self, server_id: int, delivered: bool) -> None:
        self.calls.append(("snapshot", server_id, delivered))


@pytest.fixture
def node() -> _Node:
    return _Node()


@pytest.fixture
def events(node: _Node) -> PeerEvents:
    events = PeerEvents()
    events.node = node  # type: ignore[assignment]
    return events


def test_messages_and_losses_are_passed_on(events: PeerEvents, node: _Node) -> None:
    """The node decides what they mean."""
    envelopes = [Envelope(2, 1, 3, Heartbeat(0, 0))]
    events.on_envelopes(envelopes)
    events.on_unreachable(3)
    events.on_reachable(3)
    events.on_snapshot_sent(3, delivered=False)
    assert node.calls == [
        ("receive", envelopes),
        ("unreachable", 3),
        ("reachable", 3),
        ("snapshot", 3, False),
    ]


def test_stream_that_is_lost_matters_only_from_the_leader(events: PeerEvents, node: _Node) -> None:
    """Nobody need be elected when a follower ends."""
    events.on_stream_lost(3)
    assert node.calls == []
    events.on_stream_lost(2)
    assert node.calls == [("leader lost",)]


def test_refusal_by_a_peer_is_logged(events: PeerEvents, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has to look at both servers' settings."""
    with caplog.at_level(logging.ERROR):
        events.on_rejected(0xB, PeerRejected("another cluster"))
    assert caplog.messages == ["a is refused by peer b: another cluster"]
