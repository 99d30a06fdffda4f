"""Errors: their texts, and the facts that callers act on."""

import pytest

from raft.errors import (
    Compacted,
    CorruptRecord,
    NotLeader,
    PeerRejected,
    ProposalDropped,
    RaftError,
    Stopped,
)


def test_proposal_dropped_carries_its_reason() -> None:
    """The reason is for a person and is the text."""
    error = ProposalDropped("no leader")
    assert error.reason == "no leader"
    assert str(error) == "no leader"


def test_not_leader_names_the_leader_in_hex() -> None:
    """The caller may turn to `leader`."""
    error = NotLeader(0xCE2A822CEA30BFCA)
    assert error.leader == 0xCE2A822CEA30BFCA
    assert str(error) == "not the leader; the leader is ce2a822cea30bfca"


def test_not_leader_without_a_leader_says_so() -> None:
    """Id 0 means nobody and is not printed as an id."""
    assert NotLeader(0).leader == 0
    assert str(NotLeader(0)) == "no leader"


def test_compacted_says_where_the_log_begins() -> None:
    """Whoever asked too far back learns what can be had."""
    error = Compacted(3, 8)
    assert (error.raft_index, error.first_index) == (3, 8)
    assert str(error) == "entry 3 is compacted; the log begins at 8"


def test_corrupt_record_names_file_and_offset() -> None:
    """An operator can look at the very byte."""
    error = CorruptRecord("0.wal", 128, "bad crc")
    assert (error.path, error.offset, error.problem) == ("0.wal", 128, "bad crc")
    assert str(error) == "0.wal: bad crc at offset 128"


@pytest.mark.parametrize(
    "error",
    [
        ProposalDropped("full"),
        NotLeader(1),
        Compacted(1, 2),
        CorruptRecord("f", 0, "p"),
        PeerRejected("other cluster"),
        Stopped(),
    ],
)
def test_every_error_is_a_raft_error(error: Exception) -> None:
    """One except clause catches all that raft raises on purpose, and no assertion."""
    assert isinstance(error, RaftError)
    assert not isinstance(error, AssertionError)
