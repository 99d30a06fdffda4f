"""An identity survives the disk, and tells flags that belong to another member or cluster."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.bootstrap import BadIdentity, BootstrapError, Identity
from pyetcd.bootstrap.identity import contradictions
from pyetcd.cluster import Cluster
from pyetcd.config import parse
from pyetcd.urls import parse_urls_map

GUIDE = "infra0=http://127.0.0.1:2380,infra1=http://127.0.0.1:3380,infra2=http://127.0.0.1:4380"
TOKEN = "etcd-cluster-1"


def identity() -> Identity:
    """infra1 of the guide."""
    cluster = Cluster.initial(parse_urls_map(GUIDE), TOKEN)
    member = cluster.by_name("infra1")
    assert member is not None
    return Identity(
        member.id, cluster.id, member.name, TOKEN, joined=False, members=tuple(cluster.in_order())
    )


def warnings_of(line: str, stored: Identity | None = None) -> list[str]:
    """Return the warnings about a command line."""
    return contradictions(stored or identity(), parse(line.split(), {}))


def error_of(line: str) -> str:
    """Return the line that a command line is refused with."""
    with pytest.raises(BootstrapError) as caught:
        warnings_of(f"-data-dir d {line}")
    return str(caught.value)


def test_decode_gives_back_what_was_encoded() -> None:
    """Also with what a terminal may have put into the token."""
    for token in (TOKEN, "", "\udcff", "\n"):
        stored = identity()._replace(token=token)
        assert Identity.decode(stored.encode()) == stored


def test_identity_knows_its_member_and_cluster() -> None:
    """What a restart without a snapshot begins with."""
    stored = identity()
    assert stored.member.peer_urls == ("http://127.0.0.1:3380",)
    assert stored.cluster() == Cluster.initial(parse_urls_map(GUIDE), TOKEN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        identity().encode()[:-1],
        identity().encode() + b"\x00",
        msgpack.packb([2, 1, 1, "a", "", False, [[1, "a", ["http://a:1"], []]]]),
        msgpack.packb([1, 1, 1, "a", "", False, []]),
        msgpack.packb([1, 1, 1, "b", "", False, [[1, "a", ["http://a:1"], []]]]),
        msgpack.packb([1, 1, 1, "a", "", False, [[1, "a", [], []]]]),
        msgpack.packb({}),
    ],
)
def test_decode_of_nonsense_is_an_error(data: bytes) -> None:
    """The disk is not trusted."""
    with pytest.raises(BadIdentity):
        Identity.decode(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_decode_of_any_bytes_raises_only_its_error(data: bytes) -> None:
    """Whatever the bytes are."""
    with pytest.raises(BadIdentity):
        Identity.decode(data)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-name infra1",
        f"-name infra1 -initial-cluster {GUIDE} -initial-cluster-token {TOKEN}",
        f"-initial-cluster {GUIDE}",
        "-initial-cluster-state existing",
    ],
)
def test_flags_of_the_first_start_or_none_are_fine(line: str) -> None:
    """A unit file stays as it is; a data directory alone is enough, too."""
    assert warnings_of(line) == []


def test_another_name_is_another_member() -> None:
    """The data of one member under the name of another would vote twice."""
    assert error_of("-name infra0") == (
        "-name infra0: the data directory d belongs to member infra1 (df13fa9bb8a2ccdb);"
        " write -name infra1 or another -data-dir"
    )


def test_name_that_is_not_given_is_not_compared() -> None:
    """The default says nothing."""
    assert warnings_of("-data-dir d") == []


def test_another_token_is_another_cluster() -> None:
    """The ids were made with the token."""
    assert error_of("-initial-cluster-token other") == (
        "-initial-cluster-token other: the data directory d belongs to cluster 8a0d90c0afa94997,"
        " made with the token etcd-cluster-1; write -initial-cluster-token etcd-cluster-1 or"
        " another -data-dir"
    )


def test_token_of_a_member_that_joined_is_not_compared() -> None:
    """It made no id with it."""
    stored = identity()._replace(token="", joined=True)
    assert warnings_of("-initial-cluster-token other", stored) == []


def test_initial_cluster_of_strangers_is_another_cluster() -> None:
    """No URL in common."""
    assert error_of("-name infra1 -initial-cluster infra1=http://127.0.0.1:9380") == (
        "-initial-cluster infra1=http://127.0.0.1:9380: the data directory d belongs to cluster"
        " 8a0d90c0afa94997 of other members; leave out -initial-cluster to go on with that"
        " cluster, or write another -data-dir"
    )


@pytest.mark.parametrize(
    "line",
    [
        f"-initial-cluster {GUIDE},infra3=http://127.0.0.1:5380",
        "-initial-cluster infra1=http://127.0.0.1:3380",
        "-initial-cluster a=http://new:1,infra1=http://new:2,infra2=http://127.0.0.1:4380",
        "-initial-cluster infra1=http://127.0.0.1:9380 -initial-cluster-state existing",
    ],
)
def test_initial_cluster_after_changes_only_warns(line: str) -> None:
    """Members come, go and move; flags are written anew for all of them."""
    assert warnings_of(line) == ["-initial-cluster is ignored: the log says who is a member"]
