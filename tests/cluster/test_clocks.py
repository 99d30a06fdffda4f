"""Keys live their TTL, whatever is done to the clock of the member that was asked or that leads."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import OTHER_SERVER, Cluster, Member, wait_for

# "" where it is not installed.
LIBFAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
TTL_SECONDS = 2
# A key may be gone so much sooner or later than that, on a machine that is busy.
EARLY_SECONDS, LATE_SECONDS = 0.05, 2.0
# How long libfaketime takes to see that a clock is set.
SET_SECONDS = 1.2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(90),
    pytest.mark.skipif(OTHER_SERVER, reason="pyetcd's own clock"),
    pytest.mark.skipif(not LIBFAKETIME, reason="there is no libfaketime"),
]


class Clocks:
    """The wall clocks of a cluster's members."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._directory = directory
        for member in cluster.members:
            self.set(member, "+0")
            member.environment |= {
                "LD_PRELOAD": LIBFAKETIME,
                "FAKETIME_TIMESTAMP_FILE": str(self._path(member)),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    def set(self, member: Member, how: str) -> None:
        """In libfaketime's words."""
        fresh = self._path(member).with_suffix(".new")
        fresh.write_text(how + "\n")
        fresh.rename(self._path(member))

    def _path(self, member: Member) -> Path:
        return self._directory / f"clock-{member.name}"


class Lease:
    """A key with a TTL, and since when its client has it."""

    def __init__(self, member: Member, key: str) -> None:
        self.key = key
        self.asked = time.monotonic()
        answer = member.put(key, "v", ttl=TTL_SECONDS)
        assert answer.status == 201, answer
        assert TTL_SECONDS <= answer.json()["node"]["ttl"] <= TTL_SECONDS + 1

    def check(self, member: Member) -> None:
        """Wait until it is gone, as that member sees it."""
        gone = wait_for(lambda: self._gone(member), 15, f"{self.key} to expire")
        lived = gone - self.asked
        assert TTL_SECONDS - EARLY_SECONDS <= lived <= TTL_SECONDS + LATE_SECONDS, lived

    def _gone(self, member: Member) -> float | None:
        status = member.get(self.key, quorum="true").status
        return time.monotonic() if status == 404 else None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Cluster, Clocks]]:
    cluster = Cluster(tmp_path)
    clocks = Clocks(cluster, tmp_path)
    with cluster:
        yield cluster, clocks


@pytest.mark.parametrize("how", ["-3600", "+3600", "+0 x2.0"])
def test_key_set_through_a_member_with_a_wrong_clock_lives_its_ttl(
    cluster: tuple[Cluster, Clocks], how: str
) -> None:
    """A follower, that runs and is started again."""
    members, clocks = cluster
    member = members.followers()[0]
    clocks.set(member, how)
    time.sleep(SET_SECONDS)
    Lease(member, "running").check(members.leader())
    member.kill()
    member.start()
    member.wait_serving()
    Lease(member, "restarted").check(members.leader())


@pytest.mark.parametrize("how", ["-3600", "+3600", "+0 x2.0"])
def test_key_lives_its_ttl_though_the_leaders_clock_jumps(
    cluster: tuple[Cluster, Clocks], how: str
) -> None:
    """Right after the key was set, at the leader or another member, and for new keys after it."""
    members, clocks = cluster
    leader, follower = members.leader(), members.followers()[0]
    clocks.set(leader, how)
    leases = [Lease(leader, "old-leader"), Lease(follower, "old-follower")]
    for lease in leases:
        lease.check(follower)
    leases = [Lease(leader, "new-leader"), Lease(follower, "new-follower")]
    for lease in leases:
        lease.check(follower)


def test_key_lives_its_ttl_though_a_member_with_a_wrong_clock_takes_over(
    cluster: tuple[Cluster, Clocks],
) -> None:
    """It goes on from the time that it was told; both others have an hour too much."""
    members, clocks = cluster
    leader, (first, second) = members.leader(), members.followers()
    for member in (first, second):
        clocks.set(member, "+3600")
    time.sleep(SET_SECONDS)
    lease = Lease(first, "lease")
    leader.kill()
    lease.check(members.leader())


def test_clock_of_one_member_does_not_count_after_all_were_down(
    cluster: tuple[Cluster, Clocks],
) -> None:
    """Nobody knows the time then, and the clocks of the other two say it."""
    members, clocks = cluster
    asked = time.time()
    assert members.leader().put("long", "v", ttl=600).status == 201
    for member in members.members:
        member.kill()
    clocks.set(members.members[0], "+3600")
    members.start()
    answer = wait_for(
        lambda: it if (it := members.members[1].get("long", quorum="true")).status != 500 else None,
        20,
        "an answer",
    )
    assert answer.status == 200
    left = answer.json()["node"]["ttl"]
    assert left == pytest.approx(600 - (time.time() - asked), abs=3)
    time.sleep(1)
    assert members.members[0].get("long", quorum="true").status == 200
