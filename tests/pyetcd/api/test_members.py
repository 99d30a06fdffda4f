"""Proves that `/v2/members` answers as etcd 2.3.8 does, and asks the server for the right thing."""

import json

import pytest

from pyetcd.api.members import Members
from pyetcd.cluster import (
    IdExists,
    IdNotFound,
    IdRemoved,
    NotEnoughStartedMembers,
    PeerUrlExists,
)
from pyetcd.errors import RaftInternal
from pyetcd.httpd import Route, Router
from tests.http import Wire, request
from tests.pyetcd.api.fake_server import FIRST, SECOND, THIRD, FakeServer

JSON = "Content-Type: application/json"
URLS = b'{"peerURLs":["http://127.0.0.1:7003"]}'
TIMEOUT = RaftInternal("etcdserver: request timed out")


class Client:
    """Sends requests on members to the handlers."""

    def __init__(self, **changes):
        self.server = FakeServer(**changes)
        members = Members(self.server)
        handlers = {
            b"GET": members.get,
            b"POST": members.post,
            b"PUT": members.put,
            b"DELETE": members.delete,
        }
        self.router = Router([Route(b"/v2/members/", handlers), Route(b"/v2/members", handlers)])

    def begin(self, method, path, body=b"", headers=(JSON,)):
        """Send a request that may not be answered yet."""
        self.wire = Wire(self.router).send(request(method, path, body, headers))
        self.method = method
        return self

    def answer(self, result):
        """Let the change that is under way end like this; return the response."""
        self.server.waiting.pop()(result)
        return self.response

    @property
    def response(self):
        """The answer, with the header that all have."""
        (response,) = self.wire.responses(self.method)
        assert response.header("X-Etcd-Cluster-Id") == "c1"
        return response

    def ask(self, *arguments, **keywords):
        """Send a request that is answered at once; return the response."""
        return self.begin(*arguments, **keywords).response


def message(response):
    """What the body says; it must be a JSON document without newline."""
    assert response.header("Content-Type") == "application/json"
    assert not response.body.endswith(b"\n")
    document = json.loads(response.body)
    assert list(document) == ["message"]
    return response.status, document["message"]


# --------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("path", ["/v2/members", "/v2/members/"])
def test_get_members_lists_them_in_order_of_id(path):
    """All members with etcd's fields; the body ends with a newline."""
    response = Client().ask("GET", path)
    assert (response.status, response.header("Content-Type")) == (200, "application/json")
    assert response.body.endswith(b"]}\n")
    documents = json.loads(response.body)["members"]
    assert [document["id"] for document in documents] == ["a", "b"]
    assert list(documents[0]) == ["id", "name", "peerURLs", "clientURLs"]


def test_get_leader_is_the_leader_as_a_member():
    """One object, with a newline."""
    response = Client(leader=SECOND.id).ask("GET", "/v2/members/leader")
    assert (response.status, response.body) == (200, SECOND.client_json() + b"\n")


@pytest.mark.parametrize("leader", [0, 0xF00])
def test_get_leader_without_known_leader_is_503(leader):
    """None is elected, or the one that is has an entry that has not arrived here."""
    response = Client(leader=leader).ask("GET", "/v2/members/leader")
    assert message(response) == (503, "During election")


@pytest.mark.parametrize("path", ["/v2/members/a", "/v2/members/leader/", "/v2/members/nobody"])
def test_get_one_member_is_404(path):
    """etcd 2 cannot show one member."""
    assert message(Client().ask("GET", path)) == (404, "Not found")


# ---------------------------------------------------------------------------------------- adding


def test_post_adds_member_and_answers_201_when_applied():
    """Nothing is answered before; then the new member is, without a name."""
    client = Client().begin("POST", "/v2/members", URLS)
    assert client.wire.sent == b""
    assert client.server.changes == [("add", THIRD.id, THIRD.peer_urls)]
    response = client.answer(None)
    assert (response.status, response.header("Content-Type")) == (201, "application/json")
    assert response.body == THIRD.client_json() + b"\n"
    assert b'"name":""' in response.body
    assert b'"clientURLs":[]' in response.body


@pytest.mark.parametrize("error", [IdExists(0xC), PeerUrlExists(0xC)])
def test_post_of_what_exists_is_409(error):
    """With etcd's words for it."""
    response = Client().begin("POST", "/v2/members", URLS).answer(error)
    assert message(response) == (409, str(error))


@pytest.mark.parametrize("error", [IdRemoved(0xC), NotEnoughStartedMembers(0xC), TIMEOUT])
def test_post_that_fails_otherwise_is_500(error, caplog):
    """Only the log has the reason."""
    response = Client().begin("POST", "/v2/members", URLS).answer(error)
    assert message(response) == (500, "Internal Server Error")
    assert str(error) in caplog.text


def test_post_refused_during_the_call_is_answered():
    """A server may know at once that a change is not possible."""
    client = Client()
    error = NotEnoughStartedMembers(0xC)
    client.server.add_member = lambda _, done: done(error)
    assert message(client.ask("POST", "/v2/members", URLS)) == (500, "Internal Server Error")


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ((), ""),
        (("Content-Type: application/json; charset=utf-8",), "application/json; charset=utf-8"),
        (("Content-Type: Application/JSON",), "Application/JSON"),
        (("Content-Type: a<b>é",), "a<b>é"),
    ],
)
def test_post_with_other_content_type_is_415(headers, shown):
    """The type must be exactly this one, and is repeated in the answer."""
    response = Client().ask("POST", "/v2/members", URLS, headers)
    assert message(response) == (415, f"Bad Content-Type {shown}, accept application/json")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "no valid URLs given"),
        (b"null", "no valid URLs given"),
        (b'{"peerURLs":null}', "no valid URLs given"),
        (b'{"peerURLs":[]}', "no valid URLs given"),
        (b'{"other":["http://a:1"]}', "no valid URLs given"),
        (b'{"peerURLs":["ftp://a:1"]}', "URL scheme must be http or https: ftp://a:1"),
        (b'{"peerURLs":["http://a"]}', 'URL address does not have the form "host:port": http://a'),
        (b'{"peerURLs":["http://a:1/b"]}', "URL must not contain a path: http://a:1/b"),
        (b'{"peerURLs":[null]}', "URL scheme must be http or https: "),
        (
            rb'{"peerURLs":["http://\ud800"]}',
            'URL address does not have the form "host:port": http://\ufffd',
        ),
        (
            b'{"peerURLs":["http://\xff"]}',
            'URL address does not have the form "host:port": http://\ufffd',
        ),
    ],
)
def test_post_with_bad_urls_is_400_with_the_reason(body, text):
    """The rules for URLs are those of the flags."""
    assert message(Client().ask("POST", "/v2/members", body)) == (400, text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "unexpected end of JSON input"),
        (b" \n", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b'{"peerURLs":["http://a', "unexpected end of JSON input"),
        (b"[1]", "cannot unmarshal array"),
        (b'"x"', "cannot unmarshal string"),
        (b"true", "cannot unmarshal bool"),
        (b"1", "cannot unmarshal number"),
        (b'{"peerURLs":"http://a:1"}', "cannot unmarshal string"),
        (b'{"peerURLs":{}}', "cannot unmarshal object"),
        (b'{"peerURLs":[1.5]}', "cannot unmarshal number"),
        (b'{"peerURLs":[["http://a:1"]]}', "cannot unmarshal array"),
        (b"{} x", "invalid character 'x' after top-level value"),
        (b'{"peerURLs":["a"],}', "invalid character"),
        (b'\xef\xbb\xbf{"peerURLs":["http://a:1"]}', "invalid character"),
        (b'{"peerURLs":NaN}', "invalid JSON"),
        (b'{"x":' + b"9" * 5_000 + b"}", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
    ],
)
def test_post_with_malformed_body_is_400(body, text):
    """Whatever is sent, the client is told, and the server goes on."""
    status, told = message(Client().ask("POST", "/v2/members", body))
    assert status == 400
    assert text in told


@pytest.mark.parametrize(
    "body",
    [
        b'{"PEERurls":["http://a:1"]}',
        b'{"peerURLs":["http://b:1"],"peerURLs":["http://a:1"]}',
        b' {"peerURLs":["http://a:1"],"name":"x"} \r\n',
    ],
)
def test_post_reads_names_as_go_does(body):
    """Case does not count, the last of several does, unknown fields are nothing."""
    client = Client().begin("POST", "/v2/members", body)
    assert client.server.changes == [("add", THIRD.id, ("http://a:1",))]


def test_post_below_members_adds_as_well():
    """etcd does not look at the rest of the path."""
    client = Client().begin("POST", "/v2/members/x", URLS)
    assert client.answer(None).status == 201


# -------------------------------------------------------------------------------------- removing


def test_delete_removes_member_and_answers_204():
    """The answer has no body and no type."""
    client = Client().begin("DELETE", "/v2/members/b")
    assert client.server.changes == [("remove", 0xB, ())]
    response = client.answer(None)
    assert (response.status, response.body, response.header("Content-Type")) == (204, b"", None)


def test_delete_of_removed_member_is_410():
    """It is gone for good; the id is shown without leading zeros."""
    response = Client().begin("DELETE", "/v2/members/000B").answer(IdRemoved(0xB))
    assert message(response) == (410, "Member permanently removed: b")


def test_delete_of_unknown_member_is_404():
    """The log has decided."""
    response = Client().begin("DELETE", "/v2/members/12").answer(IdNotFound(0x12))
    assert message(response) == (404, "No such member: 12")


@pytest.mark.parametrize("error", [NotEnoughStartedMembers(0xB), TIMEOUT])
def test_delete_that_fails_otherwise_is_500(error):
    """A timeout among them: the member may or may not be removed later."""
    response = Client().begin("DELETE", "/v2/members/b").answer(error)
    assert message(response) == (500, "Internal Server Error")


BAD_IDS = ["nobody", "11112222333344445", "-1", "0x1", "12/34", "+1", "1_0", "0"]


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
@pytest.mark.parametrize("shown", BAD_IDS)
def test_id_that_cannot_be_is_404_as_written(method, shown):
    """Nothing is proposed: 0, which means none elsewhere, included."""
    client = Client()
    response = client.ask(method, f"/v2/members/{shown}", URLS if method == "PUT" else b"")
    assert message(response) == (404, f"No such member: {shown}")
    assert client.server.changes == []


def test_id_that_is_no_utf8_is_shown_replaced():
    """The answer is a JSON text whatever the path was."""
    response = Client().ask("DELETE", "/v2/members/%FF%3C")
    assert response.body == rb'{"message":"No such member: \ufffd\u003c"}'


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
@pytest.mark.parametrize("path", ["/v2/members", "/v2/members/"])
def test_change_without_id_is_405_without_allow(method, path):
    """etcd's own answer, unlike that to an unknown method."""
    response = Client().ask(method, path)
    assert (response.status, response.body) == (405, b"Method Not Allowed\n")
    assert response.header("Allow") is None
    assert response.header("Content-Type") == "text/plain; charset=utf-8"


# -------------------------------------------------------------------------------------- updating


def test_put_updates_peer_urls_and_answers_204():
    """The URLs are sorted."""
    body = b'{"peerURLs":["http://b:1","http://a:1"]}'
    client = Client().begin("PUT", f"/v2/members/{FIRST.id:x}", body)
    assert client.server.changes == [("update", 0xA, ("http://a:1", "http://b:1"))]
    response = client.answer(None)
    assert (response.status, response.body) == (204, b"")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (PeerUrlExists(0xA), (409, "etcdserver: peerURL exists")),
        (IdNotFound(0xA), (404, "No such member: a")),
        (IdRemoved(0xA), (500, "Internal Server Error")),
        (TIMEOUT, (500, "Internal Server Error")),
    ],
)
def test_put_that_is_refused_says_why(error, answer):
    """A removed member is 500 here, where DELETE is 410."""
    assert message(Client().begin("PUT", "/v2/members/a", URLS).answer(error)) == answer


def test_put_with_bad_body_proposes_nothing():
    """Type and URLs are looked at first."""
    client = Client()
    assert client.ask("PUT", "/v2/members/a", b"{}", ()).status == 415
    assert client.ask("PUT", "/v2/members/a", b"{}").status == 400
    assert client.server.changes == []
