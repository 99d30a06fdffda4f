"""The page about configuration is what the table of flags says."""

from pathlib import Path

from click.testing import CliRunner

from pyetcd.config.flags import FLAGS
from scripts.config_docs import PAGE, main, page_text


def test_page_in_the_repository_is_up_to_date() -> None:
    """A changed flag comes with its page."""
    assert PAGE.read_text() == page_text()


def test_page_has_every_flag() -> None:
    """The old ones, too."""
    text = page_text()
    for row in FLAGS.values():
        assert f"\n### -{row.name}\n" in text
        assert f"`{row.environment}`" in text


def test_check_fails_for_a_page_that_is_missing_or_outdated(tmp_path: Path) -> None:
    """And passes once it is written; the directory need not exist."""
    page = tmp_path / "docs" / "page.md"
    run = CliRunner()
    outdated = run.invoke(main, ["--check", "--page", str(page)])
    assert outdated.exit_code == 1
    assert "is outdated: run python scripts/config_docs.py" in outdated.output
    assert run.invoke(main, ["--page", str(page)]).exit_code == 0
    assert run.invoke(main, ["--check", "--page", str(page)]).exit_code == 0
    page.write_text(page.read_text() + "\n")
    assert run.invoke(main, ["--check", "--page", str(page)]).exit_code == 1
