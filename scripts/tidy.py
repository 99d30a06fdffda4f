"""Rules of the house that no other tool checks; `make check` runs it.

A rule is a function from the project's directory to problems; `RULES` lists them. Files are read
as text and syntax trees, never imported, so that a rule can be tried on a small made-up project.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("raft", "pyetcd")
CODE = (*PACKAGES, "tests", "scripts", "examples")
FILE_LINES = 500
FUNCTION_LINES = 70
# Drawers: whatever is put there has a better name.
BANNED_STEMS = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
LEFTOVER = re.compile(r"\b(X{3}|TOD[O]|FIXM[E]|HAC[K])\b")
# What is there once it was made.
GENERATED = {"pyetcd/_compiled"}
# Modules that a user starts or imports, and the checks that tests run after every step of raft.
ROOTS = {"pyetcd.main", "pyetcd.embed", "pyetcd.testing", "pyetcd.ctl", "raft.invariants"}
COMMAND_LINES = {"main", "__main__", "command_line"}
FLAG_TABLE = Path("pyetcd/config/flags.py")
FLAG_DOCS = Path("docs/configuration.md")
ERROR_TABLE = Path("pyetcd/errors.py")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
BACKTICKS = re.compile(r"`([^`\n]+)`")
PROJECT_PATH = re.compile(r"(?:raft|pyetcd|tests|scripts|examples|docs)/[\w./-]+")
MAKE_TARGET = re.compile(r"^\$?\s*make(?:\s+\w+=\S+)*\s+([a-z][a-z-]*)")


class Problem(NamedTuple):
    """One thing to mend, printed as `path:line: text`."""

    path: Path
    line: int
    text: str


Rule = Callable[[Path], Iterator[Problem]]


def long_files(root: Path) -> Iterator[Problem]:
    """A file that outgrows the limit is two files."""
    for path in python_files(root, CODE):
        count = len(path.read_text().splitlines())
        if count > FILE_LINES:
            yield Problem(path, FILE_LINES, f"{count} lines, at most {FILE_LINES}")


def long_functions(root: Path) -> Iterator[Problem]:
    """A function is read on one screen."""
    for path in python_files(root, CODE):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > FUNCTION_LINES:
                    text = f"{node.name} has {count} lines, at most {FUNCTION_LINES}"
                    yield Problem(path, node.lineno, text)


def banned_names(root: Path) -> Iterator[Problem]:
    """A file is named after the thing in it."""
    for path in python_files(root, CODE):
        if path.stem in BANNED_STEMS or path.stem.endswith("_manager"):
            yield Problem(path, 1, f"{path.name} says nothing: name the thing that lives here")


def leftovers(root: Path) -> Iterator[Problem]:
    """Notes to oneself are done or are issues; in the packages, only command lines print."""
    for path in [*python_files(root, CODE), *documents(root)]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if found := LEFTOVER.search(line):
                yield Problem(path, number, f"leftover {found[0]}")
    for path in python_files(root, PACKAGES):
        banned = {"breakpoint"} if path.stem in COMMAND_LINES else {"breakpoint", "print"}
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in banned:
                    yield Problem(path, node.lineno, f"leftover {node.func.id}()")


def unused_modules(root: Path) -> Iterator[Problem]:
    """A module that only its tests import is not part of the program."""
    imported: set[str] = set()
    for path in python_files(root, (*PACKAGES, "scripts")):
        imported |= imports(path) - {module_name(root, path)}
    for path in python_files(root, PACKAGES):
        name = module_name(root, path)
        if path.stem not in ("__init__", "__main__") and name not in imported | ROOTS:
            yield Problem(path, 1, f"nobody imports {name}")


def dead_links(root: Path) -> Iterator[Problem]:
    """What a document points to exists: links, and paths of the project in backticks."""
    for path in documents(root):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for target in LINK.findall(line):
                if "://" in target or target.startswith("mailto:"):
                    continue
                if not link_exists(path, target):
                    yield Problem(path, number, f"link to {target}, which does not exist")
            for quoted in BACKTICKS.findall(line):
                for target in quoted.split():
                    if target in GENERATED or not PROJECT_PATH.fullmatch(target):
                        continue
                    if not (root / target).exists():
                        yield Problem(path, number, f"{target} does not exist")


def undocumented_flags(root: Path) -> Iterator[Problem]:
    """Every row of the table of flags is in its document."""
    table = root / FLAG_TABLE
    if not table.exists():
        return
    document = root / FLAG_DOCS
    text = document.read_text() if document.exists() else ""
    for node in ast.walk(parse(table)):
        match node:
            case ast.Call(func=ast.Name(id="Flag"), args=[ast.Constant(value=str(name)), *_]):
                if not re.search(rf"(?<![\w-])-{re.escape(name)}(?![\w-])", text):
                    yield Problem(table, node.lineno, f"-{name} is not in {FLAG_DOCS}")
            case _:
                pass


def untested_errors(root: Path) -> Iterator[Problem]:
    """Every error code is named in a test, by number or by class."""
    table = root / ERROR_TABLE
    if not table.exists():
        return
    tests = root / "tests"
    texts = [path.read_text() for path in tests.rglob("*") if is_text(path)]
    words = set(re.findall(r"\w+", "\n".join(texts)))
    for node in parse(table).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=int(code))):
                    if not {str(code), node.name} & words:
                        text = f"error {code} ({node.name}) is in no test"
                        yield Problem(table, node.lineno, text)
                case _:
                    pass


def unknown_targets(root: Path) -> Iterator[Problem]:
    """Documents tell the reader to make only what the Makefile can make."""
    makefile = root / "Makefile"
    rules = re.findall(r"^([a-z][a-z \-]*):(?!=)", makefile.read_text(), re.M)
    targets = set(" ".join(rules).split())
    for path in documents(root):
        fenced = False
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            for command in [line.strip()] if fenced else BACKTICKS.findall(line):
                found = MAKE_TARGET.match(command)
                if found and found[1] not in targets:
                    yield Problem(path, number, f"there is no target for make {found[1]}")


def unknown_tests(root: Path) -> Iterator[Problem]:
    """A document that names a test as proof names one that exists."""
    tests = {
        node.name
        for path in python_files(root, ("tests",))
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for path in documents(root):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            for name in BACKTICKS.findall(line):
                if re.fullmatch(r"test_\w+", name) and name not in tests:
                    yield Problem(path, number, f"there is no {name}")


RULES: tuple[Rule, ...] = (
    long_files,
    long_functions,
    banned_names,
    leftovers,
    unused_modules,
    dead_links,
    undocumented_flags,
    untested_errors,
    unknown_targets,
    unknown_tests,
)


def python_files(root: Path, folders: tuple[str, ...]) -> list[Path]:
    """The Python files below some of the project's folders, in order."""
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def documents(root: Path) -> list[Path]:
    """The Markdown files of the project, in order."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def is_text(path: Path) -> bool:
    """Whether a file below tests/ can mention something: code, scripts, recordings."""
    return path.is_file() and path.suffix in ("", ".py", ".txt", ".json", ".golden")


def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(), filename=str(path))


def module_name(root: Path, path: Path) -> str:
    """`pyetcd/store/node.py` is pyetcd.store.node; a package is its `__init__.py`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """All names that a file imports; `from a import b` is both a and a.b."""
    names = set()
    for node in ast.walk(parse(path)):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
            case _:
                pass
    return names


def link_exists(document: Path, target: str) -> bool:
    """Whether a relative link leads to a file and, after `#`, to one of its headings."""
    name, _, anchor = target.partition("#")
    path = document.parent / name if name else document
    if not path.exists():
        return False
    return not anchor or path.suffix != ".md" or anchor in anchors(path.read_text())


def anchors(text: str) -> set[str]:
    """The headings of a document as links name them."""
    headings = re.findall(r"^#+ +(.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in headings}


def main() -> int:
    """Print all problems; 1 if there are any."""
    root = Path(__file__).parent.parent
    problems = [problem for rule in RULES for problem in rule(root)]
    for path, line, text in problems:
        print(f"{path.relative_to(root)}:{line}: {text}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
