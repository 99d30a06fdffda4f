"""Commands come back from their bytes as they were, and ttl becomes a time as in etcd 2.3.8."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyetcd.cluster import Member
from pyetcd.command import (
    BadCommand,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    CreateRole,
    CreateUser,
    Delete,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    MemberChange,
    Publish,
    ReportDigest,
    Request,
    Set,
    SetVersion,
    Sync,
    Update,
    UpdateMember,
    UpdateRole,
    UpdateUser,
    decode,
    decode_member_change,
    encode,
    encode_member_change,
    peek_request_id,
    request_id_of,
    ttl_expiration,
)

NOW = 1_700_000_000_000_000_000
ONE_OF_EACH: list[Command] = [
    Set("/a", "x", False, 0, False),
    Create("/a", "", True, NOW),
    CreateInOrder("/queue", "job", False, 0),
    Update("/a", "y", NOW, True),
    CompareAndSwap("/a", "new", "old", 7, 0, False),
    Delete("/a", True, True),
    CompareAndDelete("/a", "old", 0),
    Sync(NOW, 1000),
    Publish(2**64 - 1, "infra0", ("http://127.0.0.1:2379",)),
    UpdateMember(1, ("http://127.0.0.1:2380", "http://127.0.0.1:7001")),
    SetVersion("2.3.0"),
    ReportDigest(2**64 - 1, 1000, 2**32 - 1),
    CreateUser("joe", "$2a$10$hash", None, True),
    UpdateUser("joe", "", ("reader",), ("writer", "\udcff")),
    DeleteUser("joe"),
    CreateRole("reader", (("/*", "/a"), None), (None, ()), None),
    UpdateRole("reader", ("/b",), (), (), ("/c*",)),
    DeleteRole("reader"),
    EnableAuth(),
    DisableAuth(),
]


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=lambda command: type(command).__name__)
def test_command_encoded_and_decoded_is_the_same(command: Command) -> None:
    """Every kind of command keeps its class, fields, id, clock and permission."""
    decoded = decode(encode(2**64 - 1, NOW, command, 7))
    assert decoded == Request(2**64 - 1, NOW, command, 7)
    assert type(decoded.command) is type(command)


@given(st.binary(), st.binary())
def test_command_with_any_bytes_as_key_and_value_keeps_them(key: bytes, value: bytes) -> None:
    """Keys and values are bytes of users; what is no UTF-8 survives."""
    command = Set(
        "/" + key.decode("utf-8", "surrogateescape"),
        value.decode("utf-8", "surrogateescape"),
        False,
        0,
        False,
    )
    assert decode(encode(1, 2, command)).command == command


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(5),
        msgpack.packb(b"\x01 is no array, but begins with a number"),
        msgpack.packb([1, 1]),
        msgpack.packb([]),
        msgpack.packb([99, 1, 2, 0]),
        msgpack.packb([1, 1, 2, 0, "/too/short"]),
        msgpack.packb([6, 1, 2, 0, "/too/long", True, True, True]),
    ],
)
def test_decode_of_what_is_no_command_raises_bad_command(data: bytes) -> None:
    """A foreign entry is a typed error, which the apply path can skip."""
    with pytest.raises(BadCommand):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgpack.packb([1]), msgpack.packb([1, "x"])])
def test_request_id_of_what_has_none_raises_bad_command(data: bytes) -> None:
    """The same for the short way to the id."""
    with pytest.raises(BadCommand):
        request_id_of(data)


def test_request_id_of_command_and_member_change_is_theirs() -> None:
    """Both kinds of proposals carry the id at the same place."""
    assert request_id_of(encode(77, NOW, SetVersion("2.3.0"))) == 77
    assert request_id_of(encode_member_change(MemberChange(78, None, 5))) == 78


@pytest.mark.parametrize(
    "change",
    [
        MemberChange(1, Member(5, "", ("http://127.0.0.1:2380",)), 0),
        MemberChange(2, None, 2**64 - 1),
    ],
    ids=["add", "remove"],
)
def test_member_change_encoded_and_decoded_is_the_same(change: MemberChange) -> None:
    """The context of a configuration entry says whom it concerns."""
    assert decode_member_change(encode_member_change(change)) == change


@pytest.mark.parametrize(
    "context",
    [
        b"",
        b"\xc1",
        msgpack.packb([100, 1]),
        msgpack.packb([100, 1, [1, "", []]]),
        msgpack.packb([101, 1, "x"]),
        msgpack.packb([102, 1, 2]),
    ],
)
def test_decode_of_what_is_no_member_change_raises_bad_command(context: bytes) -> None:
    """A foreign configuration entry is a typed error, and becomes void."""
    with pytest.raises(BadCommand):
        decode_member_change(context)


@pytest.mark.parametrize(
    ("ttl_seconds", "expiration"),
    [
        (0, NOW),
        (5, NOW + 5_000_000_000),
        # Overflow to a date before 2000, which the store takes for "never".
        (10_000_000_000, NOW + (10**19 - 2**64)),
        (2**63 // 10**9, NOW + 2**63 // 10**9 * 10**9 - 2**64),
        (2**64 - 1, NOW - 1_000_000_000),
    ],
)
def test_ttl_expiration_of_any_ttl_is_what_go_computes(ttl_seconds: int, expiration: int) -> None:
    """Product and sum wrap around in 64 bits with a sign."""
    assert ttl_expiration(ttl_seconds, NOW) == expiration


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**63 - 1))
def test_ttl_expiration_always_fits_64_bits_with_a_sign(ttl_seconds: int, now: int) -> None:
    """Whatever is asked for, the command can be encoded and compared."""
    assert -(2**63) <= ttl_expiration(ttl_seconds, now) < 2**63


@given(st.integers(1 << 32, (1 << 64) - 1), st.binary())
def test_peek_finds_the_id_that_decode_finds(request_id: int, other: bytes):
    """Of what nobody has encoded it may tell anything, but does not fail."""
    data = encode(request_id, 1, Set("/k", "v", False, 0, False))
    assert peek_request_id(data) == decode(data).request_id == request_id
    assert 0 <= peek_request_id(other) < 1 << 64


@pytest.mark.parametrize("data", [b"", b"\x99\x01\xcf", b"\x99\x01" + bytes(20)])
def test_peek_of_what_does_not_tell_is_nobody(data: bytes):
    """Cut short, or with an id of another length."""
    assert peek_request_id(data) == 0
