"""Proves that requests on keys lead to the right commands, and results to etcd's answers."""

import json
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.command import (
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    CreateUser,
    Delete,
    DeleteRole,
    EnableAuth,
    Overtaken,
    Set,
    Update,
    ttl_expiration,
)
from pyetcd.errors import RaftInternal
from pyetcd.httpd.request import FORM_BYTES
from tests.pyetcd.api.direct import FORM, LAST_SWEEP, NOW, Client

SECOND = 1_000_000_000
OTHER_FORM = FORM + "; charset=utf-8"


# ------------------------------------------------------------------------------------ commands


@pytest.mark.parametrize(
    ("form", "command"),
    [
        ("", Set("/k", "", False, 0, False)),
        ("value=v", Set("/k", "v", False, 0, False)),
        ("dir=true&value=v", Set("/k", "v", True, 0, False)),
        ("value=v&ttl=5", Set("/k", "v", False, NOW + 5 * SECOND, False)),
        ("value=v&ttl=0", Set("/k", "v", False, NOW, False)),
        ("value=v&ttl=", Set("/k", "v", False, 0, False)),
        ("ttl=5&refresh=true", Set("/k", "", False, NOW + 5 * SECOND, True)),
        ("value=v&refresh=false", Set("/k", "v", False, 0, False)),
        ("value=v&prevExist=false", Create("/k", "v", False, 0)),
        ("value=v&prevExist=false&ttl=5", Create("/k", "v", False, NOW + 5 * SECOND)),
        ("prevExist=false&dir=true", Create("/k", "", True, 0)),
        ("value=v&prevExist=false&prevValue=x&prevIndex=3", Create("/k", "v", False, 0)),
        ("value=v&prevExist=true", Update("/k", "v", 0, False)),
        ("prevExist=true&ttl=5&refresh=true", Update("/k", "", NOW + 5 * SECOND, True)),
        ("prevExist=true&dir=true&ttl=5", Update("/k", "", NOW + 5 * SECOND, False)),
        ("value=v&prevValue=x", CompareAndSwap("/k", "v", "x", 0, 0, False)),
        ("value=v&prevIndex=3", CompareAndSwap("/k", "v", "", 3, 0, False)),
        ("value=v&prevIndex=0", Set("/k", "v", False, 0, False)),
        ("prevExist=true&value=v&prevIndex=0", Update("/k", "v", 0, False)),
        (
            "value=v&prevValue=x&prevIndex=3&ttl=5&prevExist=true",
            CompareAndSwap("/k", "v", "x", 3, NOW + 5 * SECOND, False),
        ),
        (
            "prevValue=x&ttl=5&refresh=true",
            CompareAndSwap("/k", "", "x", 0, NOW + 5 * SECOND, True),
        ),
    ],
)
@pytest.mark.parametrize("place", ["body", "query"])
def test_put_makes_the_command_of_its_form(form: str, command: Command, place: str):
    """Wherever the form stands."""
    client = Client()
    if place == "body":
        assert client.command("PUT", "/k", form.encode()) == command
    else:
        assert client.command("PUT", f"/k?{form}") == command


@pytest.mark.parametrize(
    ("form", "command"),
    [
        ("", CreateInOrder("/k", "", False, 0)),
        ("value=v", CreateInOrder("/k", "v", False, 0)),
        ("dir=true&ttl=5", CreateInOrder("/k", "", True, NOW + 5 * SECOND)),
    ],
)
def test_post_creates_in_order(form: str, command: Command):
    """Nothing is compared."""
    assert Client().command("POST", "/k", form.encode()) == command


@pytest.mark.parametrize(
    ("query", "command"),
    [
        ("", Delete("/k", False, False)),
        ("?dir=true", Delete("/k", True, False)),
        ("?recursive=true", Delete("/k", False, True)),
        ("?prevValue=x", CompareAndDelete("/k", "x", 0)),
        ("?prevIndex=3", CompareAndDelete("/k", "", 3)),
        ("?prevIndex=0&dir=true", Delete("/k", True, False)),
        ("?prevIndex=3&prevValue=x&recursive=true", CompareAndDelete("/k", "x", 3)),
        ("?prevExist=true", Delete("/k", False, False)),
    ],
)
def test_delete_makes_the_command_of_its_query(query: str, command: Command):
    """Its body is not read, as in Go."""
    assert Client().command("DELETE", f"/k{query}", b"recursive=true") == command


@pytest.mark.parametrize("ttl", [0, 1, 10**10, 2**64 - 1])
def test_ttl_is_counted_from_the_servers_clock(ttl: int):
    """As far as etcd counts."""
    command = Client().command("PUT", "/k", b"ttl=%d" % ttl)
    assert command == Set("/k", "", False, ttl_expiration(ttl, NOW), False)


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_ttl_waits_until_the_member_knows_the_time(method: str):
    """Then it counts from there; without a TTL nobody waits, and an error is told."""
    client = Client()
    client.server.knows = False
    assert client.ask("PUT", "/a", b"value=1").status == 201
    wires = [client.begin(method, "/t", b"value=1&ttl=5") for _ in range(2)]
    assert client.server.commands[1:] == []
    client.server.knows = True
    client.server.time += 3600 * 10**9
    first, second = client.server.learners
    first(None)
    assert b'"ttl":5' in wires[0].response(method).body
    assert client.server.last_sweep == LAST_SWEEP, "it has no more time than at first"
    second(RaftInternal("etcdserver: request timed out"))
    assert wires[1].response(method).status == 500


@given(
    st.one_of(
        st.binary(max_size=20),
        st.text("+%&;=aF0\xff", max_size=8).map(lambda text: text.encode("latin-1")),
    ),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_short_way_leads_where_the_long_one_does(value: bytes, is_quoted: bool):
    """Most PUTs take a short way through the form; another content type avoids it."""
    body = b"value=" + (quote_from_bytes(value).encode() if is_quoted else value)
    outcomes = []
    for header in (FORM, OTHER_FORM):
        client = Client()
        answer = client.ask("PUT", "/k", body, headers=(header,))
        outcomes.append((answer.status, answer.body, client.server.commands))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "header",
    ["X: y", "Content-Type: text/plain", "Content-Type: application/json"],
)
def test_body_that_is_no_form_is_not_read(header: str):
    """PUT without a value stores an empty one."""
    assert Client().command("PUT", "/k", b"value=x", header) == Set("/k", "", False, 0, False)


def test_form_that_is_too_large_is_refused():
    """On both ways."""
    body = b"value=" + b"x" * (FORM_BYTES - 6)
    assert len(Client().command("PUT", "/k", body).value) == FORM_BYTES - 6
    answer = Client().ask("PUT", "/k", body + b"x")
    assert (answer.status, json.loads(answer.body)["errorCode"]) == (400, 210)
    assert json.loads(answer.body)["cause"] == "http: POST too large"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_faulty_request_is_refused_before_anything_is_proposed(method: str):
    """With index 0, in the body and in the header."""
    client = Client()
    client.put("/k")
    client.server.commands.clear()
    answer = client.ask(method, "/k?recursive=x")
    assert (answer.status, answer.header("X-Etcd-Index")) == (400, "0")
    assert answer.body == (
        b'{"errorCode":209,"message":"Invalid field",'
        b'"cause":"invalid value for \\"recursive\\"","index":0}\n'
    )
    assert client.server.commands == []


# ---------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a/b/", "/a/b"),
        ("/a%2Fb", "/a/b"),
        ("/a%20b+c", "/a b+c"),
        ("/%C3%A9", "/é"),
        ("/é", "/é"),
        ("/%FF/x", "/\udcff/x"),
        ("/%00", "/\0"),
        ("/.a/..b", "/.a/..b"),
        ("/_hidden", "/_hidden"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_key_is_the_path_without_escapes(method: str, target: str, path: str):
    """A slash at its end does not count; bytes that are no UTF-8 stay as they are."""
    assert Client().command(method, target).path == path


@pytest.mark.parametrize("target", ["/a%2fb/", "/a/b", "/a/b/"])
def test_key_is_read_under_all_its_names(target: str):
    """As it was written."""
    client = Client()
    client.put("/a/b")
    assert json.loads(client.ask("GET", target).body)["node"]["key"] == "/a/b"


# -------------------------------------------------------------------------------------- answers


def test_answer_has_etcds_headers_in_its_order():
    """Byte for byte, but for the date."""
    client = Client()
    wire = client.begin("PUT", "/k", b"value=v")
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Date: ")]
    assert lines == [
        b"HTTP/1.1 201 Created",
        b"Content-Type: application/json",
        b"X-Etcd-Cluster-Id: c1",
        b"X-Etcd-Index: 1",
        b"X-Raft-Index: 1",
        b"X-Raft-Term: 3",
        b"Content-Length: %d" % len(body),
    ]
    assert body == (
        b'{"action":"set","node":{"key":"/k","value":"v","modifiedIndex":1,"createdIndex":1}}\n'
    )


def test_refusal_lacks_the_headers_of_raft():
    """And has the index of the store."""
    client = Client()
    client.put("/k")
    answer = client.ask("GET", "/none")
    names = [name for name, _ in answer.headers]
    assert names == ["Content-Type", "X-Etcd-Cluster-Id", "X-Etcd-Index", "Date", "Content-Length"]
    assert (answer.status, answer.header("X-Etcd-Index")) == (404, "1")
    assert json.loads(answer.body) == {
        "errorCode": 100,
        "message": "Key not found",
        "cause": "/none",
        "index": 1,
    }


def test_status_tells_whether_a_key_is_new():
    """201 or 200, whatever the method."""
    client = Client()
    assert client.put("/k").status == 201
    assert client.put("/k").status == 200
    assert client.ask("PUT", "/k?prevExist=true").status == 200
    assert client.ask("PUT", "/k2?prevExist=false").status == 201
    assert client.ask("POST", "/q").status == 201
    assert client.ask("PUT", "/k", b"value=x&prevIndex=2").status == 412
    assert client.ask("DELETE", "/k").status == 200


def test_answer_without_value_tells_only_the_action():
    """For a client that knows what it wrote; refusals stay whole."""
    client = Client()
    answer = client.ask("PUT", "/k", b"value=x&noValueOnSuccess=true")
    assert (answer.status, answer.body) == (201, b'{"action":"set"}\n')
    answer = client.ask("PUT", "/k", b"value=x&prevValue=x&noValueOnSuccess=true")
    assert (answer.status, answer.body) == (200, b'{"action":"compareAndSwap"}\n')
    assert client.ask("POST", "/q?noValueOnSuccess=1").body == b'{"action":"create"}\n'
    answer = client.ask("PUT", "/k", b"value=x&prevValue=y&noValueOnSuccess=true")
    assert json.loads(answer.body)["errorCode"] == 101
    assert b'"value":"x"' in client.ask("DELETE", "/k?noValueOnSuccess=true").body


def test_write_is_answered_when_it_is_applied():
    """The client waits until then, and only once."""
    client = Client()
    client.server.holds = True
    wire = client.begin("PUT", "/k", b"value=v")
    assert wire.sent == b""
    client.server.apply(*client.server.held.pop())
    assert wire.response().status == 201


def test_write_that_timed_out_is_a_raft_error():
    """500, and nobody knows whether it happened."""
    client = Client()
    client.server.holds = True
    wire = client.begin("PUT", "/k", b"value=v")
    _, done = client.server.held.pop()
    done(RaftInternal("etcdserver: request timed out"))
    answer = wire.response()
    assert (answer.status, answer.header("X-Etcd-Index")) == (500, "0")
    assert answer.body == (
        b'{"errorCode":300,"message":"Raft Internal Error",'
        b'"cause":"etcdserver: request timed out","index":0}\n'
    )


def test_write_is_harmless_when_its_client_has_gone():
    """The answer goes nowhere."""
    client = Client()
    client.server.holds = True
    wire = client.begin("PUT", "/k", b"value=v")
    wire.disconnect()
    client.server.apply(*client.server.held.pop())
    assert client.store.index == 1


@pytest.mark.parametrize(("method", "status"), [("PUT", 201), ("POST", 201), ("DELETE", 200)])
def test_write_is_tried_again_when_permissions_have_changed(method: str, status: int):
    """It was not carried out, and is asked for anew."""
    client = Client()
    client.put("/d/k")
    target = {"PUT": "/new", "POST": "/d", "DELETE": "/d/k"}[method]
    client.server.holds = True
    wire = client.begin(method, target)
    command, done = client.server.held.pop()
    done(Overtaken(last_sweep=7))
    assert client.server.last_sweep == 7, "it has no more time than at first"
    ((again, done),) = client.server.held
    assert again == command
    assert wire.sent == b""
    client.server.apply(again, done)
    assert wire.response(method).status == status


def test_write_without_an_event_is_our_bug():
    """The process must end: what the log says and what we asked for differ."""
    client = Client()
    client.server.holds = True
    client.begin("PUT", "/k")
    _, done = client.server.held.pop()
    with pytest.raises(AssertionError, match="led to None"):
        done(None)


# ---------------------------------------------------------------------------------------- reads


def test_get_answers_at_once_from_this_member():
    """The value, by the member's own clock."""
    client = Client()
    client.ask("PUT", "/k", b"value=v&ttl=10")
    client.server.time += 4 * SECOND
    answer = client.ask("GET", "/k")
    assert answer.status == 200
    assert json.loads(answer.body)["node"]["ttl"] == 6
    assert answer.header("X-Etcd-Index") == "1"


@pytest.mark.parametrize("target", ["/d", "/d?recursive=true&sorted=true", "/d?quorum=false", ""])
def test_get_of_a_directory_lists_it(target: str):
    """As far as it was asked to."""
    client = Client()
    for key in ("/d/b", "/d/a", "/d/e/f"):
        client.put(key)
    answer = json.loads(client.ask("GET", target).body)
    keys = [node["key"] for node in answer["node"]["nodes"]]
    if "sorted" in target:
        assert keys == ["/d/a", "/d/b", "/d/e"]
        assert answer["node"]["nodes"][2]["nodes"][0]["key"] == "/d/e/f"
    else:
        assert set(keys) == ({"/d/a", "/d/b", "/d/e"} if target else {"/d"})


def test_head_is_get_without_a_body():
    """Also for what is not there."""
    client = Client()
    client.put("/k")
    head, get = client.ask("HEAD", "/k"), client.ask("GET", "/k")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == get.headers
    assert client.ask("HEAD", "/none").status == 404
    client.begin("HEAD", "/k?quorum=true")
    assert client.server.readers == []


def test_quorum_read_waits_for_the_leader():
    """And sees what was written meanwhile."""
    client = Client()
    client.put("/k", "old")
    wire = client.begin("GET", "/k?quorum=true")
    assert wire.sent == b""
    client.put("/k", "new")
    client.server.readers.pop()(None)
    assert b'"value":"new"' in wire.response().body


def test_quorum_read_that_nobody_confirms_is_a_raft_error():
    """The member is cut off."""
    client = Client()
    wire = client.begin("GET", "/k?quorum=true")
    client.server.readers.pop()(RaftInternal("etcdserver: request timed out"))
    assert (wire.response().status, json.loads(wire.response().body)["errorCode"]) == (500, 300)


def test_quorum_read_with_wait_is_a_plain_read():
    """etcd forgets the wait."""
    client = Client()
    client.put("/k")
    wire = client.begin("GET", "/k?quorum=true&wait=true")
    client.server.readers.pop()(None)
    assert b'"action":"get"' in wire.response().body
    assert client.store.watcher_count == 0


def test_quorum_read_of_another_state_of_auth_is_asked_once_more():
    """It was permitted by rules that are no more; what is read is not confirmed a second time."""
    client = Client()
    client.put("/k")
    auth = client.keys._auth
    wire = client.begin("GET", "/k?quorum=true")
    auth.revision_in_force = 5
    client.server.readers.pop()(None)
    assert (wire.response().status, client.server.readers) == (200, [])
    wire = client.begin("GET", "/k?quorum=true")
    auth.execute(CreateUser("root", "hash", (), may_exist=False))
    auth.execute(EnableAuth())
    auth.execute(DeleteRole("guest"))
    client.server.readers.pop()(None)
    assert (wire.response().status, client.server.readers) == (401, [])


def test_read_that_fails_is_refused():
    """By the store."""
    client = Client()
    wire = client.begin("GET", "/none?quorum=true")
    client.server.readers.pop()(None)
    assert wire.response().status == 404


def test_requests_are_counted():
    """By what they ask for, and what was refused."""
    client = Client()
    for method in ("PUT", "POST", "GET", "DELETE"):
        client.ask(method, "/k")
    client.begin("GET", "/k?quorum=true")
    client.begin("GET", "/k?wait=true")
    counts = client.keys.requests
    assert (counts.puts, counts.posts, counts.gets, counts.deletes) == (1, 1, 1, 1)
    assert (counts.quorum_gets, counts.watches) == (1, 1)
