"""Proves that the peer port shows operators and joining members what etcd 2.3.8's shows."""

import json

import pytest

from pyetcd.api import peer
from pyetcd.cluster import members_from_peer_json
from tests.pyetcd.api.fake_server import FIRST, SECOND, FakeServer

TEXT = "text/plain; charset=utf-8"


def ask(method, path):
    """Have the page answer; return the reply."""
    return peer.page_of(FakeServer())(method, path)


def test_members_are_a_bare_list_with_numeric_ids():
    """In order of id, and readable for members that join."""
    response = ask("GET", "/members")
    assert (response.status, response.content_type) == (200, "application/json")
    assert response.headers["X-Etcd-Cluster-Id"] == "c1"
    assert members_from_peer_json(response.body) == [FIRST, SECOND]
    assert list(json.loads(response.body)[0]) == ["id", "peerURLs", "name", "clientURLs"]


def test_version_is_that_of_the_client_port():
    """Members ask before they join."""
    response = ask("GET", "/version")
    assert (response.status, response.content_type) == (200, "application/json")
    assert response.body == b'{"etcdserver":"2.3.8","etcdcluster":"not_decided"}'


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("path", ["/members", "/version"])
def test_other_methods_are_405_with_allow(method, path):
    """HEAD as well: etcd allows GET alone."""
    response = ask(method, path)
    assert (response.status, response.body) == (405, b"Method Not Allowed\n")
    assert (response.headers["Allow"], response.content_type) == ("GET", TEXT)
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "path", ["/", "/health", "/members/", "/v2/keys/", "/v2/members", "/raft/nothing"]
)
def test_other_paths_are_404_in_gos_words(method, path):
    """The client API is not served here, nor is health."""
    response = ask(method, path)
    assert (response.status, response.body) == (404, b"404 page not found\n")
    assert response.content_type == TEXT
    assert response.headers["X-Content-Type-Options"] == "nosniff"
