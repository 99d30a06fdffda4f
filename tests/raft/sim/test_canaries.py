"""The checkers' own test: one rule is broken on purpose, and the simulation must notice."""

import re
from pathlib import Path

import pytest

from raft.sim import Verdict, draw, simulate
from tests.mutants.__main__ import DOCUMENT, README
from tests.mutants.patch import Edit, Misfit, Mutant, applied
from tests.mutants.rules import MUTANTS

# Noticed within the first few worlds; `python -m tests.mutants` hunts for all of them.
QUICK = ("M01", "M01b", "M02", "M03", "M03b", "M04b", "M05b", "M06", "M06b", "M09", "M18", "M19")


@pytest.mark.parametrize("name", QUICK)
def test_broken_rule_is_noticed_at_once(name: str) -> None:
    """Some rules cannot be broken for long."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    with applied(mutant):
        verdicts = (simulate(draw(seed)).verdict for seed in range(1, 16))
        assert any(verdict is not Verdict.PASSED for verdict in verdicts)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_the_code(mutant: Mutant) -> None:
    """Every mutant can be applied, and is taken back."""
    with applied(mutant):
        pass


@pytest.mark.parametrize("document", [README, DOCUMENT], ids=str)
def test_documents_show_the_mutants_that_there_are(document: Path) -> None:
    """No more, no less, and none that survived."""
    text = document.read_text()
    shown = [
        row.split(" | ")[:2] for row in text.splitlines() if re.match(r"\| M\d+\w* \|.*\| \d", row)
    ]
    assert shown == [[f"| {mutant.name}", mutant.rule] for mutant in MUTANTS]
    assert f"{len(MUTANTS)} of {len(MUTANTS)} mutants killed" in text


def test_mutant_that_does_not_fit_is_refused() -> None:
    """A text that is not there breaks nothing, and says so."""
    edit = Edit("raft.quorum:has_quorum", "no such text", "")
    with pytest.raises(Misfit, match="occurs 0 times"), applied(Mutant("x", "y", (edit,))):
        pass
