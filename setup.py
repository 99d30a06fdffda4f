"""Compiles what `pyetcd.compiled` lists with mypyc, where there is a C compiler.

In a checkout it writes Python's bytecode, too, as installers do elsewhere: where Python is told to
write none, each start would compile what it imports, which took a quarter of its time.

All else is in pyproject.toml. Without a compiler the sources are installed alone, and run as well,
only slower. `make compile` does it anew in a checkout, for sources that were edited.
"""

import compileall
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGES = ("raft", "pyetcd")


class Compile(Command):
    """Compile into a directory `pyetcd/_compiled`, or leave it as it is and say why."""

    description = "compile the busiest modules with mypyc"
    user_options = [("root=", None, "where the packages are that get the compiled modules")]

    def initialize_options(self):
        self.root = None

    def finalize_options(self):
        self.root = Path(self.root or ROOT)

    def run(self):
        if self.root == ROOT:
            for package in PACKAGES:
                compileall.compile_dir(ROOT / package, quiet=2)
        if os.environ.get("PYETCD_PURE_PYTHON"):
            return
        compiled = _load("pyetcd/compiled.py")
        if compiled.is_current(ROOT, self.root):
            return
        try:
            made_of = compiled.digest_of_sources(ROOT)
            with tempfile.TemporaryDirectory() as scratch:
                modules = self._build(compiled, Path(scratch))
                self._place(compiled, Path(scratch) / "lib", modules, made_of)
        except (Exception, SystemExit) as error:
            # No compiler, no Python headers, no mypyc: nothing that a user must mend.
            sys.stderr.write(f"nothing compiled, pyetcd runs as plain Python: {error}\n")

    def _build(self, compiled, scratch):
        from mypyc.build import mypycify

        options = ["--config-file=", "--ignore-missing-imports", "--no-error-summary"]
        there = os.getcwd()
        os.chdir(ROOT)
        try:
            # A group for each package: the two are translated to machine code side by side.
            groups = [
                ([source for source in compiled.SOURCES if source.startswith(package)], package)
                for package in PACKAGES
            ]
            modules = mypycify(
                [*options, *compiled.SOURCES],
                opt_level="2",
                debug_level="0",
                separate=groups,
                target_dir=str(scratch / "c"),
            )
            command = build_ext(Distribution({"name": "pyetcd", "ext_modules": modules}))
            command.build_lib = str(scratch / "lib")
            command.build_temp = str(scratch / "o")
            command.parallel = len(groups)
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(there)
        return [module.name for module in modules]

    def _place(self, compiled, built, modules, made_of):
        """Put the modules side by side; what is there already may be in use, and is replaced."""
        compiled.write_manifest(ROOT, built, made_of)
        target = self.root / compiled.DIRECTORY
        fresh = target.with_name(target.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        suffix = compiled.interpreter()
        for module in modules:
            shutil.copy(built / (module.replace(".", "/") + suffix), fresh / (module + suffix))
        shutil.copy(built / compiled.MANIFEST, fresh)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)


class BuildPython(build_py):
    """The ordinary step, and what is compiled beside it."""

    def run(self):
        super().run()
        command = self.get_finalized_command("compile")
        command.root = ROOT if self.editable_mode else Path(self.build_lib)
        command.run()


class BinaryDistribution(Distribution):
    """A wheel of ours is for one interpreter and one platform, if it could compile."""

    def has_ext_modules(self):
        return True


def _load(path):
    """Import one file of the package without the package, whose dependencies may be missing."""
    spec = importlib.util.spec_from_file_location("compiled", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup(cmdclass={"compile": Compile, "build_py": BuildPython}, distclass=BinaryDistribution)
