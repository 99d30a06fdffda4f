"""The codec: everything comes back as it was, and nothing else is ever let in."""

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft import codec
from raft.codec import (
    FRAME_VERSION,
    Batch,
    DecodeError,
    decode_batch,
    decode_envelopes,
    decode_meta,
    encode_batch,
    encode_envelopes,
    encode_meta,
)
from raft.entry import CONFIG, NOOP, NORMAL, Configuration, Entry, HardState, SnapshotMeta
from raft.messages import (
    Append,
    AppendReject,
    AppendResponse,
    CommitTo,
    Envelope,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteResponse,
    Propose,
    ProposeReject,
    ReadIndex,
    ReadIndexResponse,
    TimeoutNow,
    Vote,
    VoteResponse,
)

META = SnapshotMeta(9, 2, Configuration((1, 2**64 - 1), (1, 5), (7,), (5,)))
# One of each class, in the order of their tags.
MESSAGES: list[Message] = [
    PreVote(5, 2),
    PreVoteResponse(True, 5, 2),
    Vote(0, 0, transfer=True),
    VoteResponse(False, 0, 0),
    TimeoutNow(),
    Append(4, 2, 9, [Entry(5, 2, NORMAL, b"\0\xff"), Entry(6, 3, NOOP, b"")]),
    AppendResponse(0),
    AppendReject(7, 5, 1),
    InstallSnapshot(META),
    Heartbeat(3, 0),
    HeartbeatResponse(2**64 - 1),
    Propose([(NORMAL, b"x"), (CONFIG, b"")]),
    ProposeReject("no leader", [(NORMAL, b"x")]),
    ReadIndex(1),
    ReadIndexResponse(1, 2),
    CommitTo(3),
]
SETTINGS = settings(deadline=None, max_examples=60)


def frame(*rows: object) -> bytes:
    packed: bytes = msgpack.packb(rows)
    return bytes([FRAME_VERSION]) + packed


# ------------------------------------------------------------------------------------- envelopes


def test_every_message_comes_back_in_one_frame() -> None:
    """All classes, in order, each equal to what was sent."""
    sent = [Envelope(1, 2**63, 3, message) for message in MESSAGES]
    assert decode_envelopes(encode_envelopes(sent)) == sent


def test_tags_are_the_protocols() -> None:
    """A tag that moves is a new version of the frame: old servers would misread it."""
    for tag, message in enumerate(MESSAGES, start=1):
        data = encode_envelopes([Envelope(1, 2, 3, message)])
        assert data[0] == FRAME_VERSION == 1
        assert msgpack.unpackb(data[1:])[0][:4] == [tag, 1, 2, 3]


def test_decoded_entries_are_entries() -> None:
    """Not mere tuples that happen to be equal."""
    envelope = decode_envelopes(encode_envelopes([Envelope(1, 2, 3, MESSAGES[5])]))[0]
    assert isinstance(envelope.message, Append)
    assert [type(entry) for entry in envelope.message.entries] == [Entry, Entry]


def test_empty_frame_holds_nothing() -> None:
    """A frame may be a mere sign of life."""
    assert decode_envelopes(encode_envelopes([])) == []


E63 = (5, 3, 1, b"x")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "version none"),
        (b"\x02\x90", "version 02"),
        (b"\x01", "not msgpack"),
        (b"\x01\x90\x90", "not msgpack"),
        (b"\x01\xc1", "not msgpack"),
        (b"\x01" + b"\x91" * 2000, "not msgpack"),
        (b"\x01\x81\x90\x01", "not msgpack"),
        (b"\x01\x80", "a frame is not an array"),
        (frame(3), "an envelope is not an array"),
        (frame((5, 1, 2)), "an envelope is not an array of four"),
        (frame((17, 1, 2, 3)), "unknown message type 17"),
        (frame(("x" * 99, 1, 2, 3)), "unknown message type 'xxx"),
        (frame((True, 1, 2, 3, 0, 0)), "unknown message type True"),
        (frame((5, 1, 2, 3, 4)), "TimeoutNow has 1 fields, not 0"),
        (frame((7, 1, 2, 3)), "AppendResponse has 0 fields, not 1"),
        (frame((5, 0, 2, 3)), "not a positive number: 0"),
        (frame((5, 1, 0, 3)), "not a positive number: 0"),
        (frame((5, 1, 2, 0)), "not a positive number: 0"),
        (frame((5, 1.0, 2, 3)), "not a positive number: 1.0"),
        (frame((7, 1, 2, 3, -1)), "not a natural number: -1"),
        (frame((7, 1, 2, 3, None)), "not a natural number: None"),
        (frame((4, 1, 2, 3, 1, 0, 0)), "not a flag: 1"),
        (frame((2, 1, 2, 3, False, 5, 0)), "no entry is named 5@0"),
        (frame((4, 1, 2, 3, False, 0, 2)), "no entry is named 0@2"),
        (frame((1, 1, 2, 3, 5, 0)), "no entry is named 5@0"),
        (frame((3, 1, 2, 3, 0, 5, False)), "no entry is named 0@5"),
        (frame((6, 1, 2, 3, 4, 0, 0, ())), "no entry is named 4@0"),
        (frame((6, 1, 2, 3, 4, 3, 0, None)), "entries are not an array"),
        (frame((6, 1, 2, 3, 4, 3, 0, (7,))), "an entry is not an array of four"),
        (frame((6, 1, 2, 3, 4, 3, 0, (E63, 7))), "an entry is not an array of four"),
        (frame((6, 1, 2, 3, 4, 3, 0, (E63[:3],))), "an entry is not an array of four"),
        (frame((6, 1, 2, 3, 4, 3, 0, (E63, (6, 3, 1)))), "an entry is not an array of four"),
        (frame((6, 1, 2, 3, 3, 3, 0, (E63,))), "entry 5 cannot follow 3"),
        (frame((6, 1, 2, 3, 4, 4, 0, (E63,))), "term 3 cannot follow 4"),
        (frame((6, 1, 2, 2, 4, 1, 0, (E63,))), "leader of term 2 has no entry of term 3"),
        (frame((6, 1, 2, 2, 4, 3, 0, ())), "leader of term 2 has no entry of term 3"),
        (frame((6, 1, 2, 3, 0, 0, 0, ((1, 3, 3, b""),))), "of the unknown kind 3"),
        (frame((6, 1, 2, 3, 0, 0, 0, ((1, 0, 1, b""),))), "not a positive number: 0"),
        (frame((6, 1, 2, 3, 0, 0, 0, ((1, 1, 1, "x"),))), "entry 1 holds what its kind"),
        (frame((6, 1, 2, 3, 0, 0, 0, ((1, 1, 0, b"x"),))), "entry 1 holds what its kind"),
        (frame((8, 1, 2, 3, 4, 5, 1)), "hint 5 is beyond 4"),
        (frame((8, 1, 2, 3, 4, 0, 1)), "no entry is named 0@1"),
        (frame((9, 1, 2, 3, (9, 2))), "name is not an array of three"),
        (frame((9, 1, 2, 3, (0, 2, ((), (), (), ())))), "not a positive number: 0"),
        (frame((9, 1, 2, 3, (9, 2, ((), (), ())))), "configuration is not an array of four"),
        (frame((9, 1, 2, 3, (9, 2, ((2, 1), (), (), ())))), "servers are not sorted"),
        (frame((9, 1, 2, 3, (9, 2, ((1, 1), (), (), ())))), "servers are not sorted"),
        (frame((9, 1, 2, 3, (9, 2, (tuple(range(1, 1026)), (), (), ())))), "or too many"),
        (frame((12, 1, 2, 3, ())), "proposals are not an array of one or more"),
        (frame((12, 1, 2, 3, (1,))), "a proposal is not an array of two"),
        (frame((12, 1, 2, 3, ((0, b""),))), "a proposal of kind 0"),
        (frame((12, 1, 2, 3, ((1, "x"),))), "a proposal of kind 1"),
        (frame((13, 1, 2, 3, "", ((1, b""),))), "not a reason: ''"),
        (frame((14, 1, 2, 3, 0)), "not a positive number: 0"),
    ],
)
def test_bad_frame_is_refused_with_its_reason(data: bytes, problem: str) -> None:
    """Another server's nonsense is told, and never becomes an assertion of ours."""
    with pytest.raises(DecodeError, match=problem):
        decode_envelopes(data)


@pytest.mark.pure("the cap is compiled into the code")
def test_frame_over_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any of it is decoded."""
    monkeypatch.setattr(codec, "MAX_FRAME_BYTES", 100)
    with pytest.raises(DecodeError, match="a frame of 101 bytes"):
        decode_envelopes(b"\x01" + bytes(100))


@SETTINGS
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_decoded(data: bytes) -> None:
    """Nothing but DecodeError comes out, whatever goes in."""
    for attempt in (data, b"\x01" + data):
        try:
            decode_envelopes(attempt)
        except DecodeError:
            pass


@SETTINGS
@given(st.integers(0, 14), st.data())
def test_changed_bytes_are_refused_or_decoded(which: int, data: st.DataObject) -> None:
    """Nothing but DecodeError comes out of a frame that was harmed on its way."""
    good = bytearray(encode_envelopes([Envelope(1, 2, 3, MESSAGES[which])]))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_envelopes(bytes(good))
    except DecodeError:
        pass


# --------------------------------------------------------------------------------------- batches

NUMBERS = st.integers(0, 2**64 - 1)


@st.composite
def runs(draw: Callable[[st.SearchStrategy[int]], int]) -> list[Entry]:
    """Consecutive entries whose terms never go back."""
    first, term = draw(st.integers(1, 2**63)), draw(st.integers(1, 2**62))
    made = []
    for i in range(draw(st.integers(0, 5))):
        term += draw(st.integers(0, 2))
        kind = draw(st.integers(NOOP, CONFIG))
        data = b"" if kind == NOOP else bytes(draw(st.integers(0, 300)))
        made.append(Entry(first + i, term, kind, data))
    return made


@SETTINGS
@given(runs(), st.booleans(), st.integers(1, 2**64 - 1), NUMBERS, NUMBERS)
def test_batch_comes_back(
    some: list[Entry], marked: bool, term: int, vote: int, commit: int
) -> None:
    """With and without a snapshot, an entry, or many."""
    batch = Batch(META if marked else None, some, HardState(term, vote, commit))
    assert decode_batch(encode_batch(batch)) == batch


@SETTINGS
@given(runs(), st.lists(runs(), max_size=3))
def test_entries_that_were_packed_before_give_the_same_bytes(
    some: list[Entry], others: list[list[Entry]]
) -> None:
    """For a leader's second follower and its disk, and for the disk of a follower."""
    hard_state = HardState(2**63, 0, 0)
    for entries in (some, *others, some):
        first = entries[0].index if entries else 1
        message = Append(first - 1, min(first - 1, 1), 0, entries)
        for _ in range(2):
            sent = encode_envelopes([Envelope(1, 2, 2**63, message)])
            head = (6, 1, 2, 2**63, message.prev_index, message.prev_term, 0)
            rows = [(entry.index, entry.term, entry.kind, entry.data) for entry in entries]
            assert sent == frame((*head, rows))
        (received,) = decode_envelopes(sent)
        assert isinstance(received.message, Append)
        for kept in (entries, received.message.entries):
            batch = Batch(None, kept, hard_state)
            assert encode_batch(batch) == msgpack.packb((None, rows, hard_state))


def test_what_is_done_to_entries_after_they_were_packed_counts() -> None:
    """The bytes are those of the list as it is."""
    entries = [Entry(1, 1, NORMAL, b"a")]
    hard_state = HardState(1, 0, 0)
    encode_batch(Batch(None, entries, hard_state))
    entries[0] = Entry(1, 1, NORMAL, b"b")
    assert decode_batch(encode_batch(Batch(None, entries, hard_state))).entries == entries


def test_append_that_somebody_packed_in_another_way_is_kept_as_well() -> None:
    """Its numbers may be longer than they need be; what goes to the disk is then packed here."""
    row = bytes([FRAME_VERSION, 0x91, 0x98, 6, 1, 2, 0xCC, 3, 4, 3, 0, 0x91, 0x94, 5, 3, 1])
    (envelope,) = decode_envelopes(row + msgpack.packb(b"x"))
    assert isinstance(envelope.message, Append)
    assert (envelope.term, envelope.message.entries) == (3, [Entry(*E63)])
    batch = Batch(None, envelope.message.entries, HardState(3, 0, 0))
    assert encode_batch(batch) == msgpack.packb((None, [E63], (3, 0, 0)))


def test_meta_comes_back() -> None:
    """With all four kinds of servers."""
    assert decode_meta(encode_meta(META)) == META


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        (None, "a batch is not an array of three"),
        ((None, ()), "a batch is not an array of three"),
        ((None, None, (1, 0, 0)), "entries are not an array"),
        ((None, (), None), "a hard state is not an array"),
        ((None, (), (1, 0)), "a hard state is not an array of three"),
        ((None, (), (0, 5, 0)), "a vote in no term"),
        ((None, (), (1, -1, 0)), "not a natural number: -1"),
        ((7, (), (1, 0, 0)), "name is not an array"),
        ((None, (E63, (7, 3, 1, b"")), (3, 0, 0)), "after 5 are not consecutive"),
        ((None, (E63, (6.0, 3, 1, b"")), (3, 0, 0)), "an entry at index 5"),
        ((None, ((0, 1, 1, b""), (1, 1, 1, b"")), (3, 0, 0)), "an entry at index 0"),
        ((None, (E63, (6, True, 1, b"")), (3, 0, 0)), "entry 5 has no term"),
        ((None, ((5, 0, 1, b""), (6, 1, 1, b"")), (3, 0, 0)), "entry 5 has no term"),
        ((None, (E63, (6, 2, 1, b"")), (3, 0, 0)), "terms of the entries after 5 go back"),
        ((None, (E63, (6, 4, 1, b""), (7, 3, 1, b"")), (4, 0, 0)), "after 5 go back"),
        ((None, (E63, (6, 3, 7, b"")), (3, 0, 0)), "after 5 are of an unknown kind"),
        ((None, (E63, (6, 3, True, b"")), (3, 0, 0)), "after 5 are of an unknown kind"),
        ((None, (E63, (6, 3, 1, "")), (3, 0, 0)), "after 5 hold no bytes"),
        ((None, (E63, (6, 3, 0, b"x")), (3, 0, 0)), "after 5: a no-op holds bytes"),
    ],
)
def test_bad_batch_is_refused_with_its_reason(batch: object, problem: str) -> None:
    """What a crc let pass still has to make sense."""
    with pytest.raises(DecodeError, match=problem):
        decode_batch(msgpack.packb(batch))
