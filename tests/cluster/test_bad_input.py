"""Proves that nothing that a socket can send hurts a member: its next answer is right."""

import json
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_from_bytes

import pytest

from tests.cluster.processes import Cluster, Member

pytestmark = pytest.mark.slow

SECONDS = 10.0
HEAD = b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
MEBIBYTE = 1 << 20
# Sent before it is clear that it is too much, or after; the rest need not be taken.
OVERSIZE = [
    (b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 2 * MEBIBYTE, 431),
    (b"GET /v2/keys/" + b"k" * 2 * MEBIBYTE, 431),
    (b"X" * 2 * MEBIBYTE, 431),
    (HEAD + FORM + b"Content-Length: 99999999\r\n\r\nvalue=" + b"x" * MEBIBYTE, 413),
    (HEAD + FORM + b"Content-Length: 99999999999999999999999\r\n\r\nvalue=x", 400),
    (HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413),
    (
        HEAD
        + FORM
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + (b"100000\r\n" + b"x" * MEBIBYTE + b"\r\n") * 20,
        413,
    ),
]
AMBIGUOUS = [
    HEAD + b"Content-Length: 7\r\nContent-Length: 8\r\n\r\nvalue=xy",
    HEAD + b"Content-Length: 7\r\nContent-Length: 7\r\n\r\nvalue=x",
    HEAD + b"Content-Length: 7, 7\r\n\r\nvalue=x",
    HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nvalue=x\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Content-Length: +7\r\n\r\nvalue=x",
    HEAD + b"Content-Length: -1\r\n\r\n",
    HEAD + b"Content-Length: 0x7\r\n\r\nvalue=x",
    HEAD + b"Host: y\r\n\r\n",
    HEAD + b"X: a\r\n b\r\n\r\n",
    HEAD + b"X: a\x00b\r\n\r\n",
    HEAD + b"X\x00: a\r\n\r\n",
    HEAD + b": a\r\n\r\n",
    b"GET /v2/keys/k\r\n\r\n",
    b"GET /v2/keys/k HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /v2/keys/k HTTP/1.1\r\n\r\n",
    b"CONNECT /v2/keys/k HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT /v2/keys/k HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    bytes(1000),
    b"\xff" * 1000,
    b"\r\n\r\n\r\n\r\n{}[]",
]


class Client:
    """One connection."""

    def __init__(self, member: Member) -> None:
        host, _, port = member.client_url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)

    def send(self, data: bytes) -> None:
        """Send all, or as much as the member takes before it closes."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def read(self) -> bytes:
        """All up to the end of the connection, however it ends."""
        received = b""
        try:
            while part := self.socket.recv(65536):
                received += part
        except OSError:
            pass
        return received

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """One member for all of it."""
    directory: Path = tmp_path_factory.mktemp("bad")
    with Cluster(directory, size=1) as cluster:
        (only,) = cluster.members
        yield only


@pytest.fixture(autouse=True)
def good_afterwards(member: Member) -> Iterator[None]:
    """Whatever a test does: the member goes on, and its next answers are right."""
    yield
    mark = f"mark{random.getrandbits(32)}"
    assert member.put("sound", mark).json()["node"]["value"] == mark
    assert member.value("sound") == mark
    assert member.running


def exchange(member: Member, *parts: bytes) -> bytes:
    """Send these parts and read until the member closes."""
    with closing(Client(member)) as client:
        for part in parts:
            client.send(part)
        return client.read()


def status_of(answer: bytes) -> int:
    """The status of the only answer."""
    assert answer.count(b"HTTP/1.") == 1, answer[:300]
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(("data", "status"), OVERSIZE, ids=range(len(OVERSIZE)))
def test_oversize_request_is_refused(member: Member, data: bytes, status: int) -> None:
    """The member neither keeps all of it nor waits for the rest."""
    answer = exchange(member, data)
    # A member that closes while it is sent to may take its answer down with it.
    assert answer == b"" or status_of(answer) == status


@pytest.mark.parametrize("data", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
def test_ambiguous_or_malformed_request_is_refused_and_the_last_one(
    member: Member, data: bytes
) -> None:
    """What follows on the connection is not taken for a request: it might be smuggled."""
    before = member.get("smuggled").status
    smuggled = b"PUT /v2/keys/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    status = status_of(exchange(member, data + smuggled))
    assert status in (400, 405, 431, 501, 505)
    assert member.get("smuggled").status == before == 404


@pytest.mark.parametrize("kept", [1, 10, 40, 100, 103])
def test_truncated_request_changes_nothing(member: Member, kept: int) -> None:
    """The end of the connection does not end a body."""
    whole = HEAD.replace(b"/k ", b"/cut ") + FORM + b"Content-Length: 7\r\n\r\nvalue=x"
    with closing(Client(member)) as client:
        client.send(whole[:kept] if kept < 103 else whole[:-1])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read() == b""
    assert member.get("cut").status == 404


def test_request_byte_by_byte_is_answered(member: Member) -> None:
    """Slow is not wrong."""
    whole = HEAD + FORM + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole += b"3\r\nval\r\n4\r\nue=s\r\n0\r\n\r\n"
    answer = exchange(member, *(bytes([byte]) for byte in whole))
    assert answer.startswith(b"HTTP/1.1 20")
    assert member.value("k") == "s"


def test_noise_never_ends_the_member(member: Member) -> None:
    """Requests with some bytes changed, each on a connection of its own."""
    chance = random.Random(8)
    whole = HEAD + FORM + b"Connection: close\r\nContent-Length: 7\r\n\r\nvalue=x"
    for _ in range(300):
        spoiled = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
        with closing(Client(member)) as client:
            client.send(bytes(spoiled))
            client.socket.shutdown(socket.SHUT_WR)
            answer = client.read()
        assert answer == b"" or answer.startswith(b"HTTP/1."), bytes(spoiled)


@pytest.mark.parametrize(
    "value",
    [
        b"\x00",
        b"a\x00b",
        "ключ 鍵 🔑 \u2028 \ufeff \U0010ffff".encode(),
        bytes(range(1, 128)),
        b"x" * MEBIBYTE,
        "🔑".encode() * (MEBIBYTE // 4),
    ],
    ids=["nul", "nul-inside", "unicode", "ascii", "mebibyte", "mebibyte-of-keys"],
)
def test_any_text_comes_back_as_it_went(member: Member, value: bytes) -> None:
    """As a value of up to a mebibyte, and, if it is not too long, as a key."""
    body = b"value=" + quote_from_bytes(value, safe="").encode()
    head = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    assert exchange(member, HEAD + FORM + head + body).startswith(b"HTTP/1.1 20")
    assert member.value("k") == value.decode()
    if len(value) < 1000 and b"/" not in value:
        path = f"/v2/keys/keys/{quote(value, safe='')}"
        answer = member.request("PUT", path, form={"value": "x"})
        assert answer.json()["node"]["key"] == "/keys/" + value.decode()
        assert member.request("GET", path).json()["node"]["value"] == "x"


def test_bytes_that_are_no_utf_8_are_shown_replaced_and_compared_raw(member: Member) -> None:
    """JSON cannot hold them; etcd's tree can."""
    head = FORM + b"Content-Length: %d\r\nConnection: close\r\n\r\n"
    body = b"value=%FF%FE"
    exchange(member, HEAD + head % len(body) + body)
    assert member.value("k") == "\ufffd\ufffd"
    body = b"value=1&prevValue=%FE%FF"
    assert b" 412 " in exchange(member, HEAD + head % len(body) + body)
    body = b"value=1&prevValue=\xff\xfe"
    assert b" 200 " in exchange(member, HEAD + head % len(body) + body)


def test_key_of_100_levels_is_made_listed_and_removed(member: Member) -> None:
    """Depth is no recursion of ours."""
    path = "/".join(f"level{number}" for number in range(100))
    assert member.put(path, "deep").status == 201
    node = member.get("level0", recursive="true").json()["node"]
    for _ in range(99):
        (node,) = node["nodes"]
    assert (node["key"], node["value"]) == (f"/{path}", "deep")
    assert member.request("DELETE", "/v2/keys/level0?recursive=true").status == 200
    assert member.get("level0").status == 404


def test_request_after_a_refused_operation_is_answered_on_the_same_connection(
    member: Member,
) -> None:
    """An error of the API is no error of the connection."""
    bad = HEAD + FORM + b"Content-Length: 7\r\n\r\nttl=abc"
    good = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    first, _, second = exchange(member, bad + good).partition(b"}\nHTTP")
    assert json.loads(first.partition(b"\r\n\r\n")[2] + b"}")["errorCode"] == 202
    assert b'"etcdserver"' in second
