"""Golden scripts of the core: what every command does to a small cluster."""

from pathlib import Path

import pytest

from tests.golden import check_script, parse_script, run_script

_SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.stem)
def test_script_prints_what_it_says(path: Path, rewrite: bool) -> None:
    """Each script's commands have the output that stands below them."""
    check_script(path, rewrite=rewrite)


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.stem)
def test_script_on_files_prints_the_same(path: Path, tmp_path: Path) -> None:
    """The log and the snapshots on disk bring back what those in memory do."""
    script = path.read_text()
    assert run_script(script, tmp_path) == run_script(script)


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.stem)
def test_script_run_twice_prints_the_same(path: Path) -> None:
    """The core is deterministic: the same inputs, the same output."""
    assert run_script(path.read_text()) == run_script(path.read_text())


def test_parse_script_with_two_blocks_splits_commands_from_output() -> None:
    """Blocks are separated by empty lines, output follows three dashes."""
    first, second = parse_script("# why\ncluster voters=1\n---\n\nstatus\n---\n1 follower\n")
    assert first.commands == ["# why", "cluster voters=1"]
    assert first.output == [""]
    assert second.output == ["1 follower"]


def test_check_script_with_other_output_fails_and_rewrites_on_demand(tmp_path: Path) -> None:
    """A script that prints something else is an error, until it is rewritten."""
    path = tmp_path / "script.txt"
    path.write_text("cluster voters=1\nstatus\n---\nnonsense\n")
    with pytest.raises(AssertionError, match="make golden"):
        check_script(path, rewrite=False)
    check_script(path, rewrite=True)
    check_script(path, rewrite=False)
    assert "1 follower term=1" in path.read_text()
