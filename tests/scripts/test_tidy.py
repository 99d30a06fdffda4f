"""tidy: every rule finds what it is for in a small project, and nothing in a clean one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts import tidy

CLEAN = {
    "Makefile": "check: tools\n\t./check\nrun start: tools\n\t./run\n",
    "README.md": (
        "# Toy\n\nRead [the flags](docs/configuration.md#all-flags), `make check` and"
        " `raft/core.py`; make up your mind.\n\n```\nmake run\n```\n"
    ),
    "docs/configuration.md": "# Flags\n\n## All flags!\n\n`-name`, `-data-dir`\n",
    "raft/__init__.py": "from raft.core import Core\n",
    "raft/core.py": "class Core:\n    pass\n",
    "pyetcd/main.py": "from pyetcd.config.flags import FLAGS\nfrom pyetcd import errors\n",
    "pyetcd/errors.py": (
        "class EtcdError(Exception):\n    code: int = 0\n\n"
        "class KeyNotFound(EtcdError):\n    code = 100\n\n"
        "class NotFile(EtcdError):\n    code = 102\n"
    ),
    "pyetcd/config/flags.py": 'FLAGS = (Flag("name", 1), Flag("data-dir", 2))\n',
    "tests/test_errors.py": "assert KeyNotFound\nassert code == 102\n",
}


def project(root: Path, changes: Mapping[str, str]) -> Path:
    """Write a clean project with some of its files changed."""
    for name, text in (CLEAN | changes).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def found(rule: tidy.Rule, root: Path) -> list[tuple[str, int, str]]:
    """A rule's problems with paths as the project names them."""
    return [(str(path.relative_to(root)), line, text) for path, line, text in rule(root)]


@pytest.mark.parametrize("rule", tidy.RULES, ids=lambda rule: rule.__name__)
def test_rule_on_a_clean_project_finds_nothing(rule: tidy.Rule, tmp_path: Path):
    """No rule complains about what is right."""
    assert found(rule, project(tmp_path, {})) == []


def test_long_files_finds_the_file_with_one_line_too_many(tmp_path: Path):
    """500 lines are a file, 501 are too many, in tests as elsewhere."""
    root = project(tmp_path, {"raft/a.py": "x = 1\n" * 500, "tests/b.py": "x = 1\n" * 501})
    assert found(tidy.long_files, root) == [("tests/b.py", 500, "501 lines, at most 500")]


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_long_functions_finds_the_function_with_one_line_too_many(tmp_path: Path, keyword: str):
    """70 lines are a function; the line of `def` counts, methods count."""
    fits = f"{keyword} fits():\n" + "    x = 1\n" * 69
    long = f"class A:\n    {keyword} long(self):\n" + "        x = 1\n" * 70
    root = project(tmp_path, {"raft/core.py": fits + long})
    assert found(tidy.long_functions, root) == [
        ("raft/core.py", 72, "long has 71 lines, at most 70")
    ]


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "base", "manager", "node_manager"])
def test_banned_names_finds_drawers(tmp_path: Path, name: str):
    """A file named after nothing is found in every package."""
    root = project(tmp_path, {f"pyetcd/store/{name}.py": ""})
    ((path, _, _),) = found(tidy.banned_names, root)
    assert path == f"pyetcd/store/{name}.py"


@pytest.mark.parametrize("word", ["X" * 3, "TO" + "DO", "FIX" + "ME", "HA" + "CK"])
def test_leftovers_finds_notes_to_oneself(tmp_path: Path, word: str):
    """Notes are found in code and in documents, as whole words."""
    root = project(
        tmp_path,
        {"tests/test_a.py": f"x = 1  # {word}: later\n", "docs/a.md": f"\n{word}\n{word}S\n"},
    )
    assert found(tidy.leftovers, root) == [
        ("tests/test_a.py", 1, f"leftover {word}"),
        ("docs/a.md", 2, f"leftover {word}"),
    ]


def test_leftovers_finds_prints_in_packages_only(tmp_path: Path):
    """Scripts and command lines may print; what is imported by others may not."""
    root = project(
        tmp_path,
        {
            "raft/core.py": "\nprint(1)\n",
            "scripts/a.py": "print(1)\n",
            "pyetcd/main.py": "print(1)\nbreakpoint()\n",
        },
    )
    assert found(tidy.leftovers, root) == [
        ("pyetcd/main.py", 2, "leftover breakpoint()"),
        ("raft/core.py", 2, "leftover print()"),
    ]


def test_unused_modules_finds_what_only_tests_import(tmp_path: Path):
    """An import in a test, or of the module by itself, makes a module no part of the program."""
    root = project(
        tmp_path,
        {"raft/lonely.py": "import raft.lonely\n", "tests/test_lonely.py": "import raft.lonely\n"},
    )
    assert found(tidy.unused_modules, root) == [("raft/lonely.py", 1, "nobody imports raft.lonely")]


@pytest.mark.parametrize(
    "text", ["from raft import lonely", "import raft.lonely", "from raft.lonely import x"]
)
def test_unused_modules_knows_all_forms_of_import(tmp_path: Path, text: str):
    """A module is used whichever way it is imported."""
    root = project(tmp_path, {"raft/lonely.py": "x = 1\n", "scripts/a.py": text + "\n"})
    assert found(tidy.unused_modules, root) == []


def test_dead_links_finds_missing_files_headings_and_paths(tmp_path: Path):
    """A link needs its file and its heading; a quoted path of the project needs its file."""
    text = (
        "[a](no.md)\n[b](configuration.md#none)\n`raft/no.py` and `python scripts/no.py`\n"
        "[c](https://example.org/no.md) [d](../README.md) `raft/core.py`\n"
    )
    root = project(tmp_path, {"docs/a.md": text})
    assert found(tidy.dead_links, root) == [
        ("docs/a.md", 1, "link to no.md, which does not exist"),
        ("docs/a.md", 2, "link to configuration.md#none, which does not exist"),
        ("docs/a.md", 3, "raft/no.py does not exist"),
        ("docs/a.md", 3, "scripts/no.py does not exist"),
    ]


def test_undocumented_flags_finds_the_flag_that_is_only_part_of_another(tmp_path: Path):
    """`-data-dir` documents neither `-data` nor `-dir`."""
    table = 'FLAGS = (Flag("data", 1),\n    Flag("dir", 2), Flag("data-dir", 3))\n'
    root = project(tmp_path, {"pyetcd/config/flags.py": table})
    assert found(tidy.undocumented_flags, root) == [
        ("pyetcd/config/flags.py", 1, "-data is not in docs/configuration.md"),
        ("pyetcd/config/flags.py", 2, "-dir is not in docs/configuration.md"),
    ]


def test_undocumented_flags_without_the_document_finds_all(tmp_path: Path):
    """The document may be missing; its flags are still due."""
    root = project(tmp_path, {})
    (root / "docs/configuration.md").unlink()
    assert len(found(tidy.undocumented_flags, root)) == 2


def test_untested_errors_finds_the_code_in_no_test(tmp_path: Path):
    """A code counts as tested by its number or its class, as a whole word."""
    root = project(tmp_path, {"tests/test_errors.py": "KeyNotFound\n1020\nNotFileAtAll\n"})
    assert found(tidy.untested_errors, root) == [
        ("pyetcd/errors.py", 7, "error 102 (NotFile) is in no test")
    ]


def test_unknown_targets_finds_make_in_backticks_and_in_code(tmp_path: Path):
    """Prose may `make` nothing that the Makefile cannot."""
    text = "`make start MEMBER=a` or `make peace`\n```\n$ make PYTHON=x war\n```\nmake nonsense\n"
    root = project(tmp_path, {"docs/a.md": text})
    assert found(tidy.unknown_targets, root) == [
        ("docs/a.md", 1, "there is no target for make peace"),
        ("docs/a.md", 3, "there is no target for make war"),
    ]


def test_unknown_tests_finds_the_proof_that_does_not_exist(tmp_path: Path):
    """Documents name tests in backticks; a renamed test is noticed."""
    root = project(
        tmp_path,
        {"docs/a.md": "`test_a`\n`test_b` test_c\n", "tests/test_x.py": "def test_a(): pass\n"},
    )
    assert found(tidy.unknown_tests, root) == [("docs/a.md", 2, "there is no test_b")]


def test_main_on_this_project_names_files_from_its_top(capsys: pytest.CaptureFixture[str]):
    """Exit code and output agree: problems are lines `path:line: text`."""
    code = tidy.main()
    lines = capsys.readouterr().out.splitlines()
    assert code == (1 if lines else 0)
    assert all(not line.startswith("/") and line.count(":") >= 2 for line in lines)
