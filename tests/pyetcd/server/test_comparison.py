"""Proves that a member whose state differs from the majority's ends, and that no other does."""

import logging

import pytest

from pyetcd.cluster import Cluster, Member
from pyetcd.command import Command, Delete, ReportDigest, Request, Set, decode, encode
from pyetcd.errors import KeyExists, KeyNotFound
from pyetcd.server.apply import Applier
from pyetcd.server.comparison import BLOCK_ENTRIES, BLOCKS_KEPT, Comparison, Diverged
from pyetcd.store import Store
from raft import CONFIG, NOOP, NORMAL, ConfigChange, Configuration, Entry, Rejected, SnapshotMeta
from tests.pyetcd.server.applied import NOW, OTHER
from tests.pyetcd.server.applied import World as Applied
from tests.pyetcd.server.fakes import EPOCH, OTHERS, OWN, World, turn
from tests.pyetcd.server.nobody import Nobody
from tests.virtual_time import virtual

A, B, C = MEMBERS = (0xA, 0xB, 0xC)
META = SnapshotMeta(BLOCK_ENTRIES // 2, 1, Configuration(voters=(A,)))


class Half:
    """An applier that takes a block of entries, and the digests that it reports."""

    def __init__(self) -> None:
        self.applier = Applier(Store(), Cluster(0xC), Nobody())
        self.reports: list[tuple[int, int]] = []
        self.applier.comparison.report = lambda *report: self.reports.append(report)

    def fill(self, last_index: int = BLOCK_ENTRIES, value: str = "v") -> int:
        """Apply writes up to that entry; return the last digest that was reported, or -1."""
        for index in range(self.applier.raft_index + 1, last_index + 1):
            command = Set(f"/k{index % 7}", value, False, 0, False)
            self.applier.apply([Entry(index, 1, NORMAL, encode(0, NOW, command))])
        return self.reports[-1][1] if self.reports else -1


# ------------------------------------------------------------------------------------- digests


def test_same_entries_give_the_same_digest_however_they_are_batched() -> None:
    """What differs between members must not show."""
    one, other = Half(), Half()
    entries = [Entry(1, 1, NOOP, b"")] + [
        Entry(index, 1, NORMAL, encode(0, NOW, Set("/k", str(index), False, 0, False)))
        for index in range(2, BLOCK_ENTRIES + 1)
    ]
    one.applier.apply(entries)
    for entry in entries:
        other.applier.apply([entry])
    assert one.reports == other.reports
    assert [index for index, _ in one.reports] == [BLOCK_ENTRIES]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (Set("/k3", "v", False, 0, False), Set("/k3", "w", False, 0, False)),
        (Set("/k3", "v", False, 0, False), Set("/else", "v", False, 0, False)),
        (Set("/k3", "v", False, 0, False), Delete("/none", False, False)),
    ],
    ids=["value", "node", "index"],
)
def test_state_that_differs_shows_in_the_digest(right: Command, wrong: Command) -> None:
    """Also if the entries are the same: what they replace and lead to is digested too."""
    digests = set()
    for command in (right, wrong):
        half = Half()
        half.fill(BLOCK_ENTRIES // 2)
        # A member that did something else, and does not know it.
        half.applier._execute(Request(0, NOW, command))
        digests.add(half.fill())
    assert len(digests) == 2


def test_refusal_shows_in_the_digest() -> None:
    """What one member does, and another one refuses, or for another reason."""
    digests: list[int] = []
    for result in (None, KeyNotFound("/k", 5), KeyExists("/k", 5)):
        comparison = Comparison()
        comparison.report = lambda _, digest: digests.append(digest)
        comparison.add(BLOCK_ENTRIES, b"", 5, result)
    assert len(set(digests)) == 3


def test_every_kind_of_entry_counts() -> None:
    """Those of raft, of the membership, and those that nobody understands."""
    digests = set()
    for kind, data in [(NOOP, b""), (NORMAL, b"\xc1"), (NORMAL, b"\xc2"), (CONFIG, b"1")]:
        half = Half()
        half.fill(BLOCK_ENTRIES - 1)
        entry = Entry(BLOCK_ENTRIES, 1, kind, data)
        if kind == CONFIG:
            assert not half.applier.apply_config(entry, ConfigChange((), b"no change"))
        else:
            half.applier.apply([entry])
        digests.add(half.reports[-1])
    assert len(digests) == 4


def test_long_values_count_at_both_ends() -> None:
    """Their middle is the business of the checksums on disk and on the wire."""
    values = ["a" * 9_000, "b" + "a" * 8_999, "a" * 8_999 + "b", "a" * 9_001]
    assert len({Half().fill(value=value) for value in values}) == len(values)


def test_restored_member_reports_from_the_next_block_on() -> None:
    """What had led to the snapshot it can't know."""
    one, other = Half(), Half()
    one.fill(META.index)
    other.applier.restore(META, list(one.applier.capture()))
    for half in (one, other):
        half.fill(2 * BLOCK_ENTRIES)
    assert [index for index, _ in one.reports] == [BLOCK_ENTRIES, 2 * BLOCK_ENTRIES]
    assert other.reports == one.reports[1:]


def test_member_that_is_alone_digests_nothing() -> None:
    """Once it has been joined, it reports from the next block on, as whoever joins does."""
    alone = Half()
    members = alone.applier.cluster.members
    members[A] = Member(A, "a", ("http://127.0.0.1:1",))
    alone.fill(BLOCK_ENTRIES + 1)
    members[B] = Member(B, "b", ("http://127.0.0.1:2",))
    alone.fill(2 * BLOCK_ENTRIES)
    assert alone.reports == []
    other = Half()
    for half in (alone, other):
        half.fill(3 * BLOCK_ENTRIES)
    assert alone.reports == other.reports[2:]
    members.pop(B)
    alone.fill(4 * BLOCK_ENTRIES)
    members[B] = Member(B, "b", ("http://127.0.0.1:2",))
    for half in (alone, other):
        half.fill(5 * BLOCK_ENTRIES)
    assert alone.reports == [other.reports[2], other.reports[4]]


def test_snapshot_at_the_end_of_a_block_misses_nothing() -> None:
    """The next block begins right there."""
    one, other = Half(), Half()
    one.fill(BLOCK_ENTRIES)
    meta = SnapshotMeta(BLOCK_ENTRIES, 1, META.configuration)
    other.applier.restore(meta, list(one.applier.capture()))
    for half in (one, other):
        half.fill(2 * BLOCK_ENTRIES)
    assert other.reports == one.reports[1:]


# ------------------------------------------------------------------------------------ judgement


def judge(own: int, *reports: tuple[int, int]) -> None:
    """Have a member that came to `own` hear these reports of others about one block."""
    comparison = Comparison()
    comparison._own[BLOCK_ENTRIES] = own
    for reporter, digest in reports:
        comparison.take(reporter, BLOCK_ENTRIES, digest, MEMBERS)


def test_member_that_differs_from_the_majority_ends() -> None:
    """With a message that says what to do."""
    with pytest.raises(Diverged, match="remove the member and add it anew"):
        judge(1, (A, 1), (B, 2), (C, 2))


@pytest.mark.parametrize(
    "reports",
    [
        [(A, 2), (B, 2), (C, 1)],  # somebody else does
        [(A, 2), (C, 2)],  # nobody does
        [(C, 1)],  # one that differs is no majority
        [(C, 1), (C, 1)],  # nor is one that says it twice
        [(0xD, 1), (0xE, 1)],  # nor are strangers
    ],
)
def test_member_that_agrees_or_cannot_know_goes_on(reports: list[tuple[int, int]]) -> None:
    """A minority never ends the majority."""
    judge(2, *reports)


def test_disagreement_without_a_majority_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can say who is wrong."""
    with caplog.at_level(logging.ERROR):
        judge(1, (A, 1), (B, 2), (C, 3))
    assert "no majority agrees: a has 00000001, b has 00000002, c has 00000003" in caplog.text


def test_report_of_a_block_that_is_not_known_is_no_matter() -> None:
    """Of one from before a restore, or that was long ago."""
    comparison = Comparison()
    comparison.take(A, 5, 1, MEMBERS)
    for block in range(1, 2 * BLOCKS_KEPT):
        comparison.add(block * BLOCK_ENTRIES, b"", 0, None)
        comparison.take(A, block * BLOCK_ENTRIES, 1, MEMBERS)
    assert len(comparison._own) == len(comparison._reports) == BLOCKS_KEPT


def test_reports_in_the_log_end_the_one_that_differs() -> None:
    """Through the applier, as committed entries."""
    world = Applied()
    world.change(OTHER)
    reports: list[tuple[int, int]] = []
    world.applier.comparison.report = lambda *report: reports.append(report)
    while not reports:
        world.run(Set("/k", "v", False, 0, False))
    ((index, digest),) = reports
    assert index == BLOCK_ENTRIES, "the block with which a cluster begins was not compared"
    world.run(ReportDigest(0xA, index, digest))
    world.run(ReportDigest(0xB, index, digest))
    world.run(ReportDigest(0xA, index, 7))
    with pytest.raises(Diverged):
        world.run(ReportDigest(0xB, index, 7))


# ------------------------------------------------------------------------------------- reports


@virtual
@pytest.mark.pure("a pretended core stands in the place of raft's")
async def test_member_reports_each_block_and_an_idle_one_nothing() -> None:
    """One entry in a thousand of each member; nobody waits for it."""
    world = World()
    world.server.applier.comparison.report(BLOCK_ENTRIES, 7)
    assert world.commands() == []
    await turn()
    (_, data), *more = world.node.proposed
    assert more == []
    request = decode(data)
    assert request.command == ReportDigest(OWN, BLOCK_ENTRIES, 7)
    assert (request.request_id, request.now >= EPOCH) == (0, True)


@virtual
@pytest.mark.pure("a pretended core stands in the place of raft's")
async def test_report_that_is_dropped_is_forgotten() -> None:
    """The next one does as well; a proposal that comes back has nobody to be told."""
    world = World()
    world.node.drops = "no leader"
    world.server.applier.comparison.report(BLOCK_ENTRIES, 7)
    await turn()
    assert world.node.proposed == []
    report = encode(0, EPOCH, ReportDigest(OWN, BLOCK_ENTRIES, 7))
    world.server.on_rejected(Rejected(NORMAL, report, "no leader"))
    assert world.node.proposed == []


@virtual
@pytest.mark.pure("a pretended core stands in the place of raft's")
async def test_member_alone_has_nobody_to_tell() -> None:
    """A report would be read by nobody but itself."""
    world = World()
    for other in OTHERS:
        del world.server.cluster.members[other]
    world.server.applier.comparison.report(BLOCK_ENTRIES, 7)
    await turn()
    assert world.node.proposed == []
