"""Breaks one rule of the product at run time: takes a function's text, changes it, puts it back.

The text to be replaced must occur exactly once: a mutant that no longer fits the code fails, and
does not silently break nothing.
"""

import importlib
import inspect
import linecache
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Final

RAFT: Final = "raft.sim"
# Other kinds of worlds, by their flags.
CONTESTED: Final = "raft.sim --contested"
FLIPPED: Final = "raft.sim --flipped"
PYETCD: Final = "pyetcd.sim"


@dataclass(frozen=True, slots=True)
class Edit:
    """A change in one function."""

    # `package.module:function`, or `package.module:Class.method`.
    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken rule, and what is to notice it."""

    # As in the list of mutants, with a letter where there are several.
    name: str
    rule: str
    edits: tuple[Edit, ...]
    # The simulation, of raft alone or of whole clusters; or a test.
    killer: str = RAFT


def mutant(name: str, rule: str, *edits: tuple[str, str, str], killer: str = RAFT) -> Mutant:
    """Return a mutant of (target, old, new)s."""
    return Mutant(name, rule, tuple(Edit(*edit) for edit in edits), killer)


class Misfit(Exception):
    """A mutant does not fit the code any more."""


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Have the rule broken for a while."""
    with ExitStack() as stack:
        for edit in mutant.edits:
            stack.enter_context(_edited(edit))
        yield


@contextmanager
def _edited(edit: Edit) -> Iterator[None]:
    module_name, _, path = edit.target.partition(":")
    module = importlib.import_module(module_name)
    *owners, name = path.split(".")
    owner: object = module
    for part in owners:
        owner = getattr(owner, part)
    found = inspect.getattr_static(owner, name)
    function = _function_of(found)
    text = textwrap.dedent(inspect.getsource(function))
    count = text.count(edit.old)
    if count != 1:
        raise Misfit(f"{edit.target}: {edit.old!r} occurs {count} times")
    changed = _compile(module, name, text.replace(edit.old, edit.new), edit.target)
    if isinstance(owner, ModuleType):
        places = [
            (loaded, attribute)
            for loaded in list(sys.modules.values())
            if isinstance(loaded, ModuleType) and loaded.__name__.startswith(("raft", "pyetcd"))
            for attribute, value in list(vars(loaded).items())
            if value is found
        ]
    else:
        places = [(owner, name)]
    for place, attribute in places:
        setattr(place, attribute, changed)
    try:
        yield
    finally:
        for place, attribute in places:
            setattr(place, attribute, found)


def _function_of(found: object) -> FunctionType:
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, classmethod | staticmethod):
        found = found.__func__
    assert isinstance(found, FunctionType), f"{found} is no function"
    return found


def _compile(module: ModuleType, name: str, text: str, target: str) -> object:
    filename = f"<{target}>"
    # So that tracebacks show the changed text, and the text can be changed once more.
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names: dict[str, object] = {}
    scope = dict(vars(module))
    exec(compile(text, filename, "exec"), scope, names)
    function = _function_of(names[name])
    # Looked up in the module itself, so that mutants of two functions there see each other.
    rebound = FunctionType(
        function.__code__,
        vars(module),
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    found = names[name]
    if isinstance(found, property):
        return property(rebound)
    if isinstance(found, classmethod):
        return classmethod(rebound)
    if isinstance(found, staticmethod):
        return staticmethod(rebound)
    return rebound
