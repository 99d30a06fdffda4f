"""Members have etcd's ids, and the membership changes by etcd's rules."""

import json

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.cluster import (
    BadMembers,
    Cluster,
    ClusterTooNew,
    IdExists,
    IdNotFound,
    IdRemoved,
    Member,
    MembershipError,
    PeerUrlExists,
    cluster_id,
    member_id,
    members_from_peer_json,
    ready_to_add_member,
    ready_to_remove_member,
)
from pyetcd.urls import parse_urls_map

GUIDE = parse_urls_map(
    "infra0=http://127.0.0.1:2380,infra1=http://127.0.0.1:3380,infra2=http://127.0.0.1:4380"
)


def member(number: int, name: str = "", client_url: str = "") -> Member:
    """A member with one peer URL that nobody else has."""
    return Member(number, name, (f"http://peer:{number}",), (client_url,) if client_url else ())


def cluster(*members: Member) -> Cluster:
    """A cluster of these members."""
    return Cluster(0xC, {one.id: one for one in members})


def test_ids_of_the_guide_are_those_of_etcd() -> None:
    """Three members on one machine, as etcd's documentation starts them."""
    guide = Cluster.initial(GUIDE, "etcd-cluster-1")
    assert {one.name: f"{one.id:x}" for one in guide.in_order()} == {
        "infra0": "bf9071f4639c75cc",
        "infra1": "df13fa9bb8a2ccdb",
        "infra2": "a53e1491ca0be23a",
    }
    assert f"{guide.id:x}" == "8a0d90c0afa94997"


def test_ids_of_a_bare_start_are_those_of_etcd() -> None:
    """A member with two peer URLs."""
    urls_map = parse_urls_map("default=http://localhost:2380,default=http://localhost:7001")
    bare = Cluster.initial(urls_map, "etcd-cluster")
    assert [f"{one.id:x}" for one in bare.in_order()] == ["ce2a822cea30bfca"]
    assert f"{bare.id:x}" == "7e27652122e8b2ae"


def test_member_id_depends_on_urls_token_and_time_but_not_on_order() -> None:
    """A member that is added again is another one."""
    urls = ["http://a:1", "http://b:1"]
    ids = {
        member_id(urls, "t"),
        member_id(urls[:1], "t"),
        member_id(urls, "u"),
        member_id(urls, "t", added_at_seconds=1),
        member_id(urls, "t", added_at_seconds=2),
    }
    assert len(ids) == 5
    assert member_id(reversed(urls), "t") == member_id(urls, "t")
    assert cluster_id([2, 1]) == cluster_id([1, 2])


def test_initial_cluster_with_equal_ids_is_refused() -> None:
    """Two names, the same URLs."""
    with pytest.raises(IdExists):
        Cluster.initial(parse_urls_map("a=http://a:1,b=http://a:1"), "t")


def test_members_json_is_that_of_the_client_api() -> None:
    """Ids are text, empty fields are there, members come in order of ids."""
    body = cluster(member(0xB), member(0xA, "a<b", "http://c:1")).members_json()
    assert body == (
        b'{"members":[{"id":"a","name":"a\\u003cb","peerURLs":["http://peer:10"],'
        b'"clientURLs":["http://c:1"]},'
        b'{"id":"b","name":"","peerURLs":["http://peer:11"],"clientURLs":[]}]}\n'
    )


def test_peer_members_json_is_that_of_the_peer_api() -> None:
    """Ids are numbers, empty fields are absent, the order of fields is another one."""
    body = cluster(member(0xB), member(0xA, "a", "http://c:1")).peer_members_json()
    assert body == (
        b'[{"id":10,"peerURLs":["http://peer:10"],"name":"a","clientURLs":["http://c:1"]},'
        b'{"id":11,"peerURLs":["http://peer:11"]}]\n'
    )


def test_members_from_peer_json_reads_what_peers_send() -> None:
    """What one member writes the other reads."""
    members = [member(1, "a", "http://c:1"), member(2**64 - 1)]
    assert members_from_peer_json(cluster(*members).peer_members_json()) == members
    go = b'[{"id":1,"peerURLs":["http://b:1","http://a:1"],"name":"a","clientURLs":null}]'
    assert members_from_peer_json(go) == [Member(1, "a", ("http://a:1", "http://b:1"))]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b'[{"peerURLs":["http://a:1"]}]',
        b'[{"id":"1","peerURLs":["http://a:1"]}]',
        b'[{"id":true,"peerURLs":["http://a:1"]}]',
        b'[{"id":0,"peerURLs":["http://a:1"]}]',
        b'[{"id":18446744073709551616,"peerURLs":["http://a:1"]}]',
        b'[{"id":1}]',
        b'[{"id":1,"peerURLs":"http://a:1"}]',
        b'[{"id":1,"peerURLs":[1]}]',
        b'[{"id":1,"peerURLs":["http://a:1"],"name":1}]',
        b'[{"id":1,"peerURLs":["http://a:1"],"clientURLs":[{}]}]',
    ],
)
def test_members_from_peer_json_of_nonsense_is_an_error(body: bytes) -> None:
    """The port may belong to any program."""
    with pytest.raises(BadMembers):
        members_from_peer_json(body)


def test_cluster_lists_urls_sorted_and_finds_members_by_name() -> None:
    """The lists that other parts show."""
    one = cluster(member(2, "b", "http://c:2"), member(1, "a", "http://c:1"), member(3))
    assert one.peer_urls() == ["http://peer:1", "http://peer:2", "http://peer:3"]
    assert one.client_urls() == ["http://c:1", "http://c:2"]
    assert one.by_name("b") == member(2, "b", "http://c:2")
    assert one.by_name("c") is None


def test_add_lets_a_member_in() -> None:
    """It is a member from then on."""
    one = cluster(member(1))
    one.add(member(2))
    assert one.in_order() == [member(1), member(2)]


def test_remove_is_for_ever() -> None:
    """The id is neither removed twice nor used again."""
    one = cluster(member(1), member(2))
    one.remove(2)
    assert one.in_order() == [member(1)]
    for change in (
        lambda: one.remove(2),
        lambda: one.add(member(2)),
        lambda: one.update(2, ("http://a:1",)),
    ):
        with pytest.raises(IdRemoved, match=r"^etcdserver: ID removed$"):
            change()


def test_update_changes_peer_urls_only() -> None:
    """Name, client URLs and id stay; the URLs it has already are not in the way."""
    one = cluster(member(1, "a", "http://c:1"))
    one.update(1, ("http://new:1", "http://peer:1"))
    assert one.in_order() == [
        Member(1, "a", ("http://new:1", "http://peer:1"), ("http://c:1",)),
    ]


def test_change_that_breaks_a_rule_is_refused_and_changes_nothing() -> None:
    """Every rule, with etcd's message."""
    one = cluster(member(1), member(2))
    before = one.encode()
    with pytest.raises(IdExists, match=r"^etcdserver: ID exists$"):
        one.add(member(1))
    with pytest.raises(PeerUrlExists, match=r"^etcdserver: peerURL exists$"):
        one.add(Member(3, "", ("http://new:1", "http://peer:1")))
    with pytest.raises(IdNotFound, match=r"^etcdserver: ID not found$"):
        one.remove(3)
    with pytest.raises(IdNotFound):
        one.update(3, ("http://new:1",))
    with pytest.raises(PeerUrlExists):
        one.update(1, ("http://peer:2",))
    assert one.encode() == before


def test_publish_sets_name_and_client_urls() -> None:
    """What a member says of itself after its start."""
    one = cluster(member(1))
    assert one.publish(1, "a", ("http://c:1",))
    assert one.members[1] == member(1, "a", "http://c:1")
    assert one.members[1].is_started


def test_publish_of_a_removed_member_is_skipped() -> None:
    """Its last words may be in the log behind its removal."""
    one = cluster(member(1), member(2))
    one.remove(2)
    assert not one.publish(2, "b", ("http://c:2",))
    assert not one.publish(3, "c", ("http://c:3",))
    assert one.in_order() == [member(1)]


def test_set_version_logs_the_line_that_scripts_wait_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once for the first version, another line for each later one."""
    one = cluster(member(1))
    with caplog.at_level("INFO", "pyetcd.cluster"):
        one.set_version("2.2.0")
        one.set_version("2.3.0")
    assert caplog.messages == [
        "set the initial cluster version to 2.2",
        "updated the cluster version from 2.2 to 2.3",
    ]
    assert one.version == "2.3.0"


def test_set_version_beyond_our_own_is_refused() -> None:
    """A newer cluster writes what this build would misread."""
    one = cluster(member(1))
    with pytest.raises(ClusterTooNew, match=r"lower than determined cluster version: 2.4"):
        one.set_version("2.4.0")
    assert one.version is None


def test_decode_gives_back_what_was_encoded() -> None:
    """Through msgpack, as in a snapshot."""
    one = cluster(member(1, "a", "http://c:1"), member(2**64 - 1), member(5))
    one.remove(5)
    one.version = "2.3.0"
    again = Cluster.decode(msgpack.unpackb(msgpack.packb(one.encode())))
    assert again == one
    assert Cluster.decode(cluster().encode()) == cluster()


def test_encode_does_not_depend_on_the_order_of_changes() -> None:
    """Snapshots of members that agree are equal, byte by byte."""
    first, second = cluster(member(1)), cluster(member(1))
    for number in (2, 3, 4, 5):
        first.add(member(number))
    for number in (5, 3, 4, 2):
        second.add(member(number))
    for one, numbers in ((first, (3, 4)), (second, (4, 3))):
        for number in numbers:
            one.remove(number)
    assert first.encode() == second.encode()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1, "", []],
        [1, None, [], []],
        [0, "", [], []],
        [True, "", [], []],
        [1, "", [[1, "", ["http://a:1"], []]], [1]],
        [1, "", [[1, "", ["http://a:1"], []], [1, "", ["http://b:1"], []]], []],
        [1, "", [[1, "", [], []]], []],
        [1, "", [], ["1"]],
    ],
)
def test_decode_of_nonsense_is_an_error(value: object) -> None:
    """A snapshot from the network or the disk is checked."""
    with pytest.raises(BadMembers):
        Cluster.decode(value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("aru"), st.integers(1, 4), st.integers(1, 4))))
def test_any_sequence_of_changes_keeps_the_invariants(changes: list[tuple[str, int, int]]) -> None:
    """A change either is refused or leaves a membership that is right."""
    one = cluster(member(1))
    for kind, number, url in changes:
        urls = (f"http://peer:{url}",)
        before = one.encode()
        try:
            match kind:
                case "a":
                    one.add(Member(number, "", urls))
                case "r":
                    one.remove(number)
                case _:
                    one.update(number, urls)
        except MembershipError:
            assert one.encode() == before
        one.check()


@pytest.mark.parametrize(
    ("started", "waiting", "add", "remove_started", "remove_waiting"),
    [
        # (1 started) may always grow; nothing may be left of it.
        (1, 0, True, False, None),
        # A second one would wait while the first one still does: 2 of 3 must have started.
        (1, 1, False, False, True),
        (2, 0, True, True, None),
        (2, 1, False, False, True),
        (3, 0, True, True, None),
        (3, 1, True, True, True),
        (3, 2, False, False, True),
    ],
)
def test_strict_check_wants_a_quorum_of_started_members(
    started: int,
    waiting: int,
    add: bool,
    remove_started: bool,
    remove_waiting: bool | None,
) -> None:
    """The table is etcd's rule, worked out."""
    members = [member(number, "name") for number in range(1, started + 1)]
    members += [member(number) for number in range(started + 1, started + waiting + 1)]
    assert ready_to_add_member(members) is add
    assert ready_to_remove_member(members, 1) is remove_started
    if remove_waiting is not None:
        assert ready_to_remove_member(members, started + waiting) is remove_waiting


def test_client_json_is_one_object() -> None:
    """The answer to an added member."""
    assert json.loads(member(0xA).client_json()) == {
        "id": "a",
        "name": "",
        "peerURLs": ["http://peer:10"],
        "clientURLs": [],
    }
