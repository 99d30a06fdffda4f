"""Proves that the client port's table leads where etcd 2.3.8's does."""

import asyncio

import pytest

from pyetcd import api
from pyetcd.httpd import Router
from pyetcd.stats import Traffic
from tests.http import Wire, request
from tests.pyetcd.api.fake_server import FakeServer

PATHS = [
    *("/v2/keys", "/v2/keys/", "/v2/keys/a/b", "/v2/members", "/v2/members/", "/v2/members/a"),
    *("/v2/machines", "/v2/stats/self", "/v2/stats/leader", "/v2/stats/store"),
    *("/version", "/health", "/members", "/config/local/log", "/debug/vars"),
]
GET, KEYS, MEMBERS = "GET", "HEAD,GET,PUT,POST,DELETE", "GET,POST,DELETE,PUT"


def ask(method, path, body=b"", traffic=None):
    """Have the table's handler answer; return the response, or None if that takes longer."""

    async def handle():
        router = Router(api.routes(FakeServer(), traffic))
        return Wire(router).send(request(method, path, body)).responses(method)

    responses = asyncio.run(handle())
    return responses[0] if responses else None


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/keys", 200),
        ("/v2/keys/", 200),
        ("/v2/keys/none", 404),
        ("/v2/members", 200),
        ("/v2/members/", 200),
        ("/v2/members/leader", 200),
        ("/v2/machines", 200),
        ("/v2/stats/self", 200),
        ("/v2/stats/leader", 200),
        ("/v2/stats/store", 200),
        ("/version", 200),
        ("/version?x=y", 200),
        ("/members", 200),
        ("/debug/vars", 200),
    ],
)
def test_get_of_each_page_is_answered(path, status):
    """By a handler of its own: keys answer errors in JSON."""
    response = ask("GET", path)
    assert response.status == status
    assert response.body != b"404 page not found\n"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("PUT", "/v2/keys/a"),
        ("POST", "/v2/keys/a"),
        ("DELETE", "/v2/keys/a"),
        ("DELETE", "/v2/members/b"),
    ],
)
def test_what_needs_the_cluster_is_answered_later(method, path):
    """Nothing is sent before the server has called back."""
    assert ask(method, path) is None


def test_members_take_their_methods():
    """Each is refused by its own handler."""
    assert ask("POST", "/v2/members").status == 415
    assert ask("PUT", "/v2/members/b").status == 415
    assert ask("DELETE", "/v2/members/x").status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/v2/keys/", 200), ("HEAD", "/v2/keys/none", 404), ("HEAD", "/v2/machines", 200)],
)
def test_head_is_answered_where_etcd_does(method, path, status):
    """Head only."""
    response = ask(method, path)
    assert (response.status, response.body) == (status, b"")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/v2/keys/a", KEYS),
        ("get", "/v2/keys", KEYS),
        ("HEAD", "/v2/members", MEMBERS),
        ("PATCH", "/v2/members/a", MEMBERS),
        ("PUT", "/v2/machines", "GET,HEAD"),
        *[("HEAD", path, GET) for path in PATHS if path.startswith("/v2/stats/")],
        *[("POST", path, GET) for path in ("/version", "/health", "/members", "/debug/vars")],
        ("GET", "/config/local/log", "PUT"),
    ],
)
def test_other_method_is_405_with_allow(method, path, allow):
    """Without blanks, and before anything else is looked at."""
    response = ask(method, path)
    assert (response.status, response.header("Allow")) == (405, allow)
    assert response.header("X-Etcd-Cluster-Id") is None


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v2", "/v2/", "/v1/keys/x", "/v2/keysx", "/v2/KEYS/x", "/v2/membersx", "/keys"),
        *("/v2/stats", "/v2/stats/", "/v2/stats/store/", "/v2/machines/", "/version/"),
        *("/health/", "/members/", "/debug/pprof/", "/v3/kv"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_unknown_path_is_404_as_text(method, path):
    """As Go's router says it."""
    response = ask(method, path)
    assert (response.status, response.header("Allow")) == (404, None)
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.body == (b"" if method == "HEAD" else b"404 page not found\n")


@pytest.mark.parametrize("path", [*PATHS, "/", "/no/such"])
def test_options_is_empty_200_on_any_path(path):
    """Whatever is there."""
    response = ask("OPTIONS", path)
    assert (response.status, response.body) == (200, b"")
    assert response.header("Content-Type") is None


def test_unclean_path_is_redirected():
    """It can lead from keys to members."""
    response = ask("GET", "/v2/keys/../members")
    assert (response.status, response.header("Location")) == (301, "/v2/members")


def test_traffic_that_is_given_is_shown():
    """The counters come from whoever sends and receives."""
    traffic = Traffic()
    traffic.append_received(1, 0.0)
    assert b'"recvAppendRequestCnt":1,' in ask("GET", "/v2/stats/self", traffic=traffic).body
