"""A member whose state is not the others' ends, and comes back right from its log."""

import sys
from pathlib import Path

import pytest

from pyetcd.server.comparison import BLOCK_ENTRIES
from tests.cluster.load import Load
from tests.cluster.processes import COMMAND, OTHER_SERVER, Cluster, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(OTHER_SERVER, reason="spoils the memory of pyetcd"),
]


def test_member_with_a_wrong_value_ends_and_the_others_go_on(tmp_path: Path) -> None:
    """The value shows when it is replaced; a start reads the log, which is right."""
    cluster = Cluster(tmp_path)
    wrong = cluster.members[0]
    wrong.command = [sys.executable, "-m", "tests.cluster.wrong_memory", "/spoiled"]
    wrong.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with cluster:
        others = cluster.members[1:]
        assert others[0].put("spoiled", "1").status == 201
        assert others[0].put("spoiled", "2").status == 200
        with Load(others) as load:
            wait_for(lambda: len(load) > 2 * BLOCK_ENTRIES, 60, "two blocks of entries")
            assert wrong.wait_exit() == 1
        assert "is not that of the majority" in wrong.log
        assert "see docs/recovery.md" in wrong.log
        wrong.command = COMMAND
        cluster.start()
        cluster.wait_agreed()
        assert wrong.value("spoiled") == "2"
        assert load.lost(wrong) == []
        for member in others:
            assert "majority" not in member.log
