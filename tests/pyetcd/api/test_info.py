"""Proves that a member tells about itself what etcd 2.3.8 tells, in its form."""

import json
import logging

import pytest

from pyetcd import logs
from pyetcd.api.info import HEALTH_SECONDS, Info
from pyetcd.errors import RaftInternal
from pyetcd.httpd import Route, Router
from pyetcd.stats import Traffic
from raft import Status
from raft.progress import ProgressState
from raft.state import FollowerStatus
from raft.transport import PeerStats
from tests.http import Wire, request
from tests.pyetcd.api.fake_server import FIRST, SECOND, FakeServer

TEXT = "text/plain; charset=utf-8"


class Client:
    """Sends one request to one handler."""

    def __init__(self, handler, **changes):
        self.server = FakeServer(**changes)
        self.traffic = Traffic()
        info = Info(self.server, self.traffic, loop_time=lambda: 105.0)
        self.router = Router([Route(b"/", {None: getattr(info, handler)})])

    def begin(self, body=b""):
        """Send the request, which may not be answered yet."""
        self.wire = Wire(self.router).send(request("GET", "/", body))
        return self

    @property
    def response(self):
        """The answer."""
        (response,) = self.wire.responses("GET")
        return response

    def ask(self, body=b""):
        """Send the request and return the answer."""
        return self.begin(body).response

    def document(self):
        """Return the JSON of the answer."""
        response = self.ask()
        assert (response.status, response.header("Content-Type")) == (200, "application/json")
        return json.loads(response.body)


# -------------------------------------------------------------------------- version and members


def test_version_before_the_cluster_has_agreed_is_not_decided():
    """Clients look for this word."""
    response = Client("version").ask()
    assert response.body == b'{"etcdserver":"2.3.8","etcdcluster":"not_decided"}'
    assert response.header("Content-Type") == "application/json"


def test_version_shows_what_the_cluster_has_agreed_on():
    """Both versions, in etcd's order, without a newline."""
    client = Client("version")
    client.server.cluster.set_version("2.3.0")
    assert client.ask().body == b'{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}'


def test_machines_are_all_client_urls_sorted():
    """One line of text."""
    response = Client("machines").ask()
    assert response.body == b"http://127.0.0.1:4001, http://127.0.0.1:4002"
    assert response.header("Content-Type") == TEXT
    assert response.header("X-Etcd-Cluster-Id") is None


def test_members_are_those_of_the_peer_port():
    """Ids are numbers."""
    client = Client("members")
    assert [member["id"] for member in client.document()] == [FIRST.id, SECOND.id]
    assert client.response.header("X-Etcd-Cluster-Id") == "c1"


# --------------------------------------------------------------------------------------- health


def test_health_with_confirmed_quorum_is_true():
    """The blank is etcd's; the answer waits for the quorum."""
    client = Client("health").begin()
    assert client.wire.sent == b""
    client.server.readers.pop()(None)
    assert (client.response.status, client.response.body) == (200, b'{"health": "true"}')
    assert client.response.header("Content-Type") == TEXT


def test_health_without_leader_is_false_at_once():
    """There is nobody to ask."""
    client = Client("health", leader=0)
    response = client.ask()
    assert (response.status, response.body) == (503, b'{"health": "false"}\n')
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert client.server.readers == []


def test_health_with_refused_read_is_false():
    """The server stops, or has given up."""
    client = Client("health").begin()
    client.server.readers.pop()(RaftInternal("etcdserver: server stopped"))
    assert (client.response.status, client.response.body) == (503, b'{"health": "false"}\n')


def test_health_with_a_full_disk_is_false_and_says_so():
    """Writes have no chance here, though reads go on."""
    client = Client("health")
    client.server.node.disk_full = True
    response = client.ask()
    assert response.status == 503
    assert json.loads(response.body) == {"health": "false", "reason": "no space left on the disk"}


def test_health_without_answer_in_time_is_false():
    """Whoever asks does not wait for an election; the late answer is dropped."""
    client = Client("health").begin()
    ((seconds, give_up),) = client.server.timers
    assert seconds == HEALTH_SECONDS
    give_up()
    assert (client.response.status, client.response.body) == (503, b'{"health": "false"}\n')
    client.server.readers.pop()(None)
    assert client.response.status == 503


def test_health_confirmed_before_the_time_is_up_is_answered_once():
    """The timer finds the request answered."""
    client = Client("health").begin()
    client.server.readers.pop()(None)
    ((_, give_up),) = client.server.timers
    give_up()
    assert client.response.status == 200


def test_health_after_client_has_gone_is_dropped():
    """Neither the timer nor the quorum finds anybody."""
    client = Client("health").begin()
    client.wire.disconnect()
    ((_, give_up),) = client.server.timers
    give_up()
    client.server.readers.pop()(None)
    assert client.wire.sent == b""


# ----------------------------------------------------------------------------------- statistics


def test_self_stats_of_leader_tell_since_when_it_leads():
    """The event loop's clock is turned into a date."""
    document = Client("self_stats").document()
    assert (document["name"], document["id"], document["state"]) == ("first", "a", "StateLeader")
    assert document["startTime"] == "2016-01-25T19:01:02Z"
    assert document["leaderInfo"] == {
        "leader": "a",
        "uptime": "5s",
        "startTime": "2016-01-25T19:01:07.5Z",
    }


def test_self_stats_before_first_leader_count_from_the_start():
    """No leader has no name; there is still a time."""
    client = Client("self_stats", leader=0, is_leader=False, leader_since=0.0)
    document = client.document()
    assert document["state"] == "StateFollower"
    assert document["leaderInfo"] == {
        "leader": "",
        "uptime": "10.5s",
        "startTime": "2016-01-25T19:01:02Z",
    }


def test_self_stats_show_the_traffic():
    """What is counted elsewhere arrives here."""
    client = Client("self_stats")
    client.traffic.append_received(10, 104.5)
    client.traffic.append_received(10, 105.0)
    document = client.document()
    assert (document["recvAppendRequestCnt"], document["recvPkgRate"]) == (2, 2)


def test_leader_stats_of_leader_show_every_follower():
    """Counts are the transport's; a peer that is being removed has none."""
    client = Client("leader_stats")
    client.server.transport.peers = {
        SECOND.id: PeerStats(messages_sent=7, messages_dropped=2),
        0xC: None,
    }
    document = client.document()
    assert document["leader"] == "a"
    assert list(document["followers"]) == ["b"]
    assert document["followers"]["b"]["counts"] == {"fail": 2, "success": 7}


def test_leader_stats_of_follower_are_403():
    """Only the leader knows."""
    response = Client("leader_stats", is_leader=False).ask()
    assert (response.status, response.body) == (403, b'{"message":"not current leader"}')
    assert response.header("Content-Type") == "application/json"


def test_store_stats_are_the_stores_counters():
    """Sixteen of them."""
    assert len(Client("store_stats").document()) == 16


# ------------------------------------------------------------------------------------ log level


@pytest.fixture
def levels():
    """The levels of all packages; restored afterwards."""
    loggers = [logging.getLogger(name) for name in logs.PACKAGES]
    before = [logger.level for logger in loggers]
    yield lambda: {logger.level for logger in loggers}
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("body", "level"),
    [
        (b'{"Level":"DEBUG"}', logging.DEBUG),
        (b'{"level":"notice"}', logs.NOTICE),
        (b'{"LEVEL":"E"} and more', logging.ERROR),
    ],
)
def test_log_level_is_set_for_all_packages(levels, body, level):
    """Neither the name's case nor the level's counts, and what follows is not read."""
    response = Client("set_log_level").ask(body)
    assert (response.status, response.header("Content-Type")) == (204, None)
    assert levels() == {level}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Invalid json body"),
        (b"INFO", "Invalid json body"),
        (b'{"Level":4}', "Invalid json body"),
        (b'["INFO"]', "Invalid json body"),
        (b"{}", "Invalid log level "),
        (b"null", "Invalid log level "),
        (b'{"Level":"LOUD"}', "Invalid log level LOUD"),
        (b'{"Level":"INFO,store=DEBUG"}', "Invalid log level INFO,store=DEBUG"),
        (b'{"Level":"x=INFO"}', "Invalid log level x=INFO"),
        (rb'{"Level":"\ud800"}', "Invalid log level \ufffd"),
    ],
)
def test_bad_log_level_is_400_and_changes_nothing(levels, body, text):
    """With etcd's words, and the level as it was written."""
    before = levels()
    response = Client("set_log_level").ask(body)
    assert (response.status, json.loads(response.body)) == (400, {"message": text})
    assert levels() == before


# ------------------------------------------------------------------------------------ variables


def test_variables_are_a_json_object_one_variable_a_line():
    """As Go's expvar prints them."""
    response = Client("variables").ask()
    assert response.header("Content-Type") == "application/json; charset=utf-8"
    assert response.body.startswith(b'{\n"cmdline": [')
    assert response.body.endswith(b"}\n}\n")
    document = json.loads(response.body)
    assert list(document) == ["cmdline", "file_descriptor_limit", "raft.status"]
    assert document["raft.status"] == {
        "id": "a",
        "term": 3,
        "vote": "a",
        "commit": 12,
        "lead": "a",
        "raftState": "StateLeader",
        "progress": {},
    }


def test_variables_show_how_followers_stand():
    """Roles and states have Go's names."""
    client = Client("variables")
    followers = {SECOND.id: FollowerStatus(11, 12, ProgressState.REPLICATE, True)}
    status = Status(FIRST.id, 3, 0, "pre_candidate", 0, 13, 12, 12, 0, followers)
    client.server.node.core.answer = status
    document = json.loads(client.ask().body)["raft.status"]
    assert (document["raftState"], document["vote"]) == ("StatePreCandidate", "0")
    progress = {"match": 11, "next": 12, "state": "ProgressStateReplicate"}
    assert document["progress"] == {"b": progress}
