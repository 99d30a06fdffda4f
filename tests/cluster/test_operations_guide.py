"""docs/operations.md does what it says: typed from top to bottom, as it stands."""

import re
import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.guide import Network, Reader, blocks, missing_lines
from tests.cluster.processes import OTHER_SERVER

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text()
TOOLS = ("bash", "curl", "ip", "nsenter", "openssl", "unshare")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(OTHER_SERVER, reason="the guide is pyetcd's")
@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_operations_guide_works_as_it_is_typed(tmp_path: Path) -> None:
    """Every command succeeds, and prints what the guide shows; its figures are there."""
    try:
        network = Network()
    except PermissionError as error:
        pytest.skip(f"may not make a network: {error}")
    figures = "curl -s http://127.0.0.1:2379/metrics http://127.0.0.6:2379/metrics > figures"
    # While members and the proxy of the guide run.
    marked = "curl -s http://127.0.0.6:2379/metrics | grep etcd_proxy_\n"
    assert GUIDE.count(marked) == 1
    try:
        with Reader(network, tmp_path) as reader:
            reader.read(GUIDE.replace(marked, f"{marked}{figures}\n"))
            assert reader.typed == sum(block.language == "sh" for block in blocks(GUIDE))
    finally:
        network.close()
    shown = {
        name
        for family in text_string_to_metric_families((tmp_path / "figures").read_text())
        for name in [family.name, *(sample.name for sample in family.samples)]
    }
    named = set(re.findall(r"\b(?:etcd|process)_[a-z_]+[a-z]\b", GUIDE)) - {"etcd_proxy"}
    # Counted from the first one that is dropped.
    assert named - shown <= {"etcd_proxy_dropped_total"}
    assert len(named) > 10


def test_errors_of_the_guide_are_those_of_the_programs() -> None:
    """The words in the first column of the table of errors are in the source."""
    table = GUIDE.partition("## When something is wrong")[2]
    errors = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(errors) > 10
    files = [*(ROOT / "pyetcd").rglob("*.py"), *(ROOT / "raft").rglob("*.py")]
    source = "\n".join(path.read_text() for path in files)
    # One text over several lines is one text.
    source = re.sub(r'"\n\s*f?"', "", source)
    assert [error for error in errors if error not in source] == []


def test_guide_that_promises_too_much_is_noticed() -> None:
    """The check of what was printed can fail; `…` stands for anything on one line."""
    printed = "one 1 line\ntwo\n"
    assert missing_lines("one … line\ntwo\n", printed) == []
    assert missing_lines("one\n…two\nthree\n", printed) == ["one", "three"]


def test_blocks_say_where_they_are_typed() -> None:
    """In a terminal by its name, with Ctrl-C before or only that; in the reader's own otherwise."""
    guide = "\n".join(
        (
            *("```sh", "# terminal a, after Ctrl-C", "x", "```", ""),
            *("```sh", "# terminal b: press Ctrl-C", "```", ""),
            *("```sh", "y", "```", "```text", "z", "```", ""),
        )
    )
    found = [(it.language, it.terminal, it.ctrl_c, it.text) for it in blocks(guide)]
    assert found == [
        ("sh", "a", True, "x\n"),
        ("sh", "b", True, ""),
        ("sh", "", False, "y\n"),
        ("text", "", False, "z\n"),
    ]
