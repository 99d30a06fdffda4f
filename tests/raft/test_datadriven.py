"""The cases that etcd's raft publishes, played on our quorums and configuration changes.

They are not copied in: RAFT_TESTDATA names a checkout of github.com/etcd-io/raft.
"""

import os
from pathlib import Path

import pytest

from raft.entry import Configuration
from tests.raft.datadriven import describe, parse_cases, play_change, play_quorum, reduce_expected

_CHECKOUT = os.environ.get("RAFT_TESTDATA", "")
# In their form, but of our own: they keep the player from rotting where there is no checkout.
_QUORUMS = """
# Two halves, and one that has not answered.
committed cfg=(1,2,3) cfgj=(3, 4) idx=(8,_,6,7)
----
     idx
6

vote cfg=(1,2) cfgj=zero votes=(y,_)
----
VotePending

committed
----
∞
"""
_CHANGES = """
simple
v1
----
voters=(1)
1: StateProbe match=0 next=1

simple
v2 r1
----
more than one voter changed without entering joint config

enter-joint autoleave=true
v2 l1 u7
----
voters=(2)&&(1) learners_next=(1) autoleave
1: StateProbe match=0 next=1
2: StateProbe match=0 next=4

leave-joint
----
voters=(2) learners=(1)
1: StateProbe match=0 next=1 learner
2: StateProbe match=0 next=4
"""


def _files(part: str) -> list[object]:
    if not _CHECKOUT:
        skip = pytest.mark.skip(reason="RAFT_TESTDATA names no checkout of etcd-io/raft")
        return [pytest.param(None, marks=skip, id="none")]
    paths = sorted((Path(_CHECKOUT) / part / "testdata").glob("*.txt"))
    assert paths, f"RAFT_TESTDATA={_CHECKOUT} has no {part}/testdata"
    return [pytest.param(path, id=path.stem) for path in paths]


def _play_quorums(text: str) -> int:
    cases = parse_cases(text)
    for case in cases:
        expected = case.expected[-1].removeprefix("<empty majority quorum>")
        assert play_quorum(case) == expected, f"line {case.line}: {case.command} {case.arguments}"
    return len(cases)


def _play_changes(text: str) -> int:
    cases = parse_cases(text)
    configuration = Configuration()
    for case in cases:
        result = play_change(configuration, case)
        if isinstance(result, str):
            lines = [result]
        else:
            configuration = result
            lines = describe(result)
        assert lines == reduce_expected(case.expected), f"line {case.line}: {case.command}"
    return len(cases)


def test_cases_of_our_own_are_played() -> None:
    """The player understands their form."""
    assert _play_quorums(_QUORUMS) == 3
    assert _play_changes(_CHANGES) == 4


@pytest.mark.parametrize("path", _files("quorum"))
def test_published_quorums_decide_alike(path: Path) -> None:
    """What is committed and who is elected, in simple and joint configurations."""
    assert _play_quorums(path.read_text()) > 0


@pytest.mark.parametrize("path", _files("confchange"))
def test_published_configuration_changes_end_alike(path: Path) -> None:
    """Which configuration follows from which, and what is refused."""
    assert _play_changes(path.read_text()) > 0
