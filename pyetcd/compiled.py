"""The compiled modules: some of the sources as machine code, used only while they match.

What requests pass through is compiled with mypyc when the package is installed, if there is a C
compiler, into `pyetcd/_compiled`. The Python sources stay what is read, tested and debugged, and
are all that is needed: a source that differs by a byte from what was compiled, another
interpreter, or no compiled modules at all, and the sources are run. So nobody can edit a file and
run something else.

Only the `pyetcd` command asks for them. It must do so before it imports any of these modules.
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

# Below the directory that has the packages `raft` and `pyetcd`.
ROOT: Final = Path(__file__).resolve().parent.parent
DIRECTORY: Final = "pyetcd/_compiled"
MANIFEST: Final = "manifest.json"
# Set to anything, it keeps to the sources: for debugging, and for comparing.
PURE: Final = "PYETCD_PURE_PYTHON"
# What `use` returns when they are.
COMPILED: Final = "compiled modules"

# What the busiest requests pass through, on all members, and little else: each module costs some
# seconds of compiling.
SOURCES: Final = (
    "raft/errors.py",
    "raft/entry.py",
    "raft/durations.py",
    "raft/gathering.py",
    "raft/vigil.py",
    "raft/messages.py",
    "raft/quorum.py",
    "raft/log.py",
    "raft/progress.py",
    "raft/confchange.py",
    "raft/read_index.py",
    "raft/interfaces.py",
    "raft/state.py",
    "raft/handover.py",
    "raft/follower.py",
    "raft/candidate.py",
    "raft/leader.py",
    "raft/core.py",
    "raft/driver.py",
    "raft/codec.py",
    "raft/segment.py",
    "raft/ring.py",
    "raft/wal.py",
    "raft/loop_storage.py",
    "raft/node.py",
    "raft/transport/stream.py",
    "raft/transport/exchange.py",
    "pyetcd/errors.py",
    "pyetcd/command.py",
    "pyetcd/stats.py",
    "pyetcd/store/event.py",
    "pyetcd/store/ttl.py",
    "pyetcd/store/history.py",
    "pyetcd/store/json_text.py",
    "pyetcd/store/node.py",
    "pyetcd/store/snapshot.py",
    "pyetcd/store/stats.py",
    "pyetcd/store/store.py",
    "pyetcd/store/tree.py",
    "pyetcd/store/watch.py",
    "pyetcd/httpd/head.py",
    "pyetcd/httpd/pipeline.py",
    "pyetcd/httpd/protocol.py",
    "pyetcd/httpd/request.py",
    "pyetcd/httpd/response.py",
    "pyetcd/httpd/router.py",
    "pyetcd/httpd/vigil.py",
    "pyetcd/server/comparison.py",
    "pyetcd/server/apply.py",
    "pyetcd/server/clock.py",
    "pyetcd/server/request_ids.py",
    "pyetcd/server/pending.py",
    "pyetcd/server/timekeeper.py",
    "pyetcd/server/server.py",
    "pyetcd/server/peers.py",
    "pyetcd/api/keys.py",
    "pyetcd/api/parameters.py",
    "pyetcd/api/watch.py",
)


def use(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> str:
    """Import the compiled modules from here on, if they may be; return what will run, and why."""
    if PURE in environ:
        return f"the sources, as {PURE} is set"
    directory = root / DIRECTORY
    try:
        compiled = json.loads((directory / MANIFEST).read_bytes())
        is_same = compiled["sources"] == digest_of_sources(root)
    except FileNotFoundError:
        return "the sources, as nothing is compiled; see `make compile`"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"the sources, as {directory / MANIFEST} can't be read: {error}"
    if not is_same:
        return "the sources, as they were changed since they were compiled; see `make compile`"
    if compiled.get("interpreter") != interpreter():
        return f"the sources, as what is compiled is for {compiled.get('interpreter')}"
    early = sorted(name for name in map(module_name, SOURCES) if name in sys.modules)
    assert not early, f"imported before the compiled modules were asked for: {early}"
    sys.meta_path.insert(0, _Finder(directory))
    return COMPILED


def is_current(root: Path, place: Path) -> bool:
    """Tell whether the modules below `place` are of the sources below `root`, for this Python."""
    try:
        compiled = json.loads((place / DIRECTORY / MANIFEST).read_bytes())
        made_of, made_for = compiled["sources"], compiled["interpreter"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(made_of == digest_of_sources(root) and made_for == interpreter())


def interpreter() -> str:
    """Name the interpreters that can load what this one compiles."""
    return str(EXTENSION_SUFFIXES[0])


def digest_of_sources(root: Path) -> str:
    """Return the SHA-256 of all that is compiled, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    for source in SOURCES:
        content = (root / source).read_bytes()
        digest.update(b"%b %d\n" % (source.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def write_manifest(root: Path, directory: Path, made_of: str) -> None:
    """Say what the compiled modules in this directory were made of.

    `made_of` is the digest of the sources from before they were compiled. Raises ValueError if
    they were changed meanwhile, as nobody can tell then which were compiled; OSError.
    """
    if digest_of_sources(root) != made_of:
        raise ValueError("the sources were changed while they were being compiled; compile again")
    manifest = {"sources": made_of, "interpreter": interpreter()}
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def module_name(source: str) -> str:
    """Return the dotted name of a source file."""
    return source.removesuffix(".py").replace("/", ".")


class _Finder(importlib.machinery.PathFinder):
    """Finds modules in the directory of compiled ones, where they lie without their packages."""

    def __init__(self, directory: Path) -> None:
        suffix = EXTENSION_SUFFIXES[0]
        self._paths = {
            path.name.removesuffix(suffix): str(path) for path in directory.glob(f"*{suffix}")
        }

    def find_spec(  # type: ignore[override]  # one of an instance, not of the class
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        found = self._paths.get(fullname)
        if found is None:
            return None
        loader = ExtensionFileLoader(fullname, found)
        return importlib.util.spec_from_file_location(fullname, found, loader=loader)


__all__ = [
    "COMPILED",
    "PURE",
    "SOURCES",
    "digest_of_sources",
    "interpreter",
    "is_current",
    "use",
    "write_manifest",
]
