"""Compiled modules run only if they are of these very sources, and then do the same."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from pyetcd import compiled


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A made-up installation: sources, and the manifest of what was compiled of them."""
    for source in compiled.SOURCES:
        path = tmp_path / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {source}\n")
    directory = tmp_path / compiled.DIRECTORY
    directory.mkdir()
    compiled.write_manifest(tmp_path, directory, compiled.digest_of_sources(tmp_path))
    return tmp_path


def run(script: str, **environ: str) -> str:
    """Run a script in an interpreter of its own, in this checkout, and return its output."""
    environment = {**os.environ, **environ}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=compiled.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_source_is_there_once():
    """A file that was renamed would never be compiled again, without a word."""
    assert len(set(compiled.SOURCES)) == len(compiled.SOURCES)
    assert [source for source in compiled.SOURCES if not (compiled.ROOT / source).is_file()] == []


@pytest.mark.parametrize("content", [b"# raft/log.py", b"# raft/log.py\n\n", b"# raft/log_py\n"])
def test_sources_that_differ_are_run_themselves(installed: Path, content: bytes):
    """By a byte more, less or other: what is edited is what runs."""
    (installed / "raft/log.py").write_bytes(content)
    assert compiled.use(installed, {}).startswith("the sources, as they were changed since")


def test_sources_changed_while_they_were_compiled_are_not_taken_for_those(installed: Path):
    """Compiling takes a minute, in which people edit: what was compiled is the old source."""
    made_of = compiled.digest_of_sources(installed)
    (installed / "raft/log.py").write_text("# edited\n")
    with pytest.raises(ValueError, match="changed while they were being compiled; compile again"):
        compiled.write_manifest(installed, installed / compiled.DIRECTORY, made_of)
    assert compiled.use(installed, {}).startswith("the sources, as they were changed since")


def test_bytes_that_move_to_the_next_file_are_a_difference(installed: Path):
    """The digest is of each file, not of all of them in a row."""
    first, second = (installed / source for source in compiled.SOURCES[:2])
    first.write_bytes(first.read_bytes() + second.read_bytes()[:1])
    second.write_bytes(second.read_bytes()[1:])
    assert compiled.use(installed, {}).startswith("the sources, as they were changed since")


def test_nothing_compiled_is_no_error(installed: Path):
    """As where there was no compiler."""
    (installed / compiled.DIRECTORY / compiled.MANIFEST).unlink()
    assert compiled.use(installed, {}) == "the sources, as nothing is compiled; see `make compile`"


@pytest.mark.parametrize("content", ["", "[]", "{}", '"sources"', "{'sources': 1}"])
def test_unreadable_manifest_is_no_error(installed: Path, content: str):
    """It says so, and goes on."""
    (installed / compiled.DIRECTORY / compiled.MANIFEST).write_text(content)
    told = compiled.use(installed, {})
    assert told.startswith("the sources, as ")
    assert "manifest.json can't be read" in told


def test_missing_source_is_no_error(installed: Path):
    """Nobody can tell then what was compiled."""
    (installed / "raft/log.py").unlink()
    assert compiled.use(installed, {}) == "the sources, as nothing is compiled; see `make compile`"


def test_other_interpreter_runs_the_sources(installed: Path):
    """Modules of one version of Python crash another, or do not load."""
    path = installed / compiled.DIRECTORY / compiled.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "interpreter": ".cpython-27.so"}))
    assert compiled.use(installed, {}) == "the sources, as what is compiled is for .cpython-27.so"


def test_sources_are_run_when_asked_for(installed: Path):
    """For whoever debugs them."""
    told = compiled.use(installed, {compiled.PURE: ""})
    assert told == "the sources, as PYETCD_PURE_PYTHON is set"


def test_modules_that_were_imported_before_are_a_mistake_of_ours(installed: Path):
    """Half of them compiled and half not would fail in strange ways."""
    import raft.log

    assert raft.log.Log
    with pytest.raises(AssertionError, match=r"raft\.log"):
        compiled.use(installed, {})


def test_checkout_gets_bytecode_even_where_python_writes_none(tmp_path: Path):
    """Else each start of a member would compile what it imports."""
    for package in ("raft", "pyetcd"):
        skipped = shutil.ignore_patterns("__pycache__", "_compiled*")
        shutil.copytree(compiled.ROOT / package, tmp_path / package, ignore=skipped)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(compiled.ROOT / name, tmp_path)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "compile"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", compiled.PURE: "1"},
        capture_output=True,
        timeout=50,
        check=True,
    )
    sources = {
        path for package in ("raft", "pyetcd") for path in (tmp_path / package).rglob("*.py")
    }
    assert {path for path in sources if not Path(cache_from_source(str(path))).exists()} == set()
    assert tmp_path / "raft/core.py" in sources


@pytest.mark.slow
def test_compiled_modules_take_the_place_of_the_sources():
    """All that are listed, and nothing else; or none."""
    script = (
        "import importlib, sys\n"
        "from pyetcd import compiled\n"
        "told = compiled.use()\n"
        "import pyetcd.main, raft.driver\n"
        "sources = {compiled.module_name(source) for source in compiled.SOURCES}\n"
        "for name in sorted(sources): importlib.import_module(name)\n"
        "native = {name for name, module in sys.modules.items()\n"
        "          if name.partition('.')[0] in ('raft', 'pyetcd')\n"
        "          and str(module.__file__).endswith(compiled.interpreter())}\n"
        "assert native == (sources if told == compiled.COMPILED else set()), native ^ sources\n"
        "print(told)\n"
    )
    assert run(script).startswith((compiled.COMPILED, "the sources"))
    assert run(script, **{compiled.PURE: "1"}) == "the sources, as PYETCD_PURE_PYTHON is set\n"
