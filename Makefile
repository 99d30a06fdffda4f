# `make run` and `make test` are all a user needs; each installs what it needs into .venv first.
# PYTHON is the interpreter that makes .venv: any Python from 3.11 on. That of a distribution is taken
# first, if it can make one and compile: it is built with profiles, and a tenth faster than what pyenv
# builds as long as nobody tells it to do so, too.

SUITABLE := import ensurepip, pathlib, sys, sysconfig; \
	sys.exit(sys.version_info < (3, 11) or not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
PYTHON ?= $(shell /usr/bin/python3 -c '$(SUITABLE)' 2>/dev/null && echo /usr/bin/python3 || echo python3)
BIN := .venv/bin
RUNTIME := .venv/runtime.stamp
TOOLS := .venv/tools.stamp
PYTEST := $(BIN)/python -m pytest
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo 1)
SOURCES := raft pyetcd scripts examples tests setup.py

.PHONY: setup compile check lint fix test test-slow test-compiled golden sim sim-pyetcd sim-ci soak faults
.PHONY: mutants bench cluster run start kill docs ci clean

run cluster: $(RUNTIME)
	$(BIN)/python scripts/local_cluster.py

start kill: $(RUNTIME)
	$(BIN)/python scripts/local_cluster.py $@ $(or $(MEMBER),$(error say which: make $@ MEMBER=infra0))

test: $(TOOLS)
	$(PYTEST) -m "not slow" --durations=10

test-slow: $(TOOLS)
	$(PYTEST) -m slow --durations=10

# The same tests of what requests pass through, on the compiled modules. The simulations are left out:
# they look into the sources, and break their rules.
test-compiled: $(TOOLS)
	$(BIN)/python setup.py -q compile
	$(PYTEST) -q --compiled -m "not slow" tests/raft tests/pyetcd \
		--ignore tests/raft/sim --ignore tests/pyetcd/sim

# For sources that were edited: until then they are run as they are. See pyetcd/compiled.py.
compile: $(TOOLS)
	$(BIN)/python setup.py -q compile

# What a commit must pass. Edits nothing, and draws the same examples every time.
check: lint
	$(PYTEST) -q -m "not slow" --hypothesis-profile=ci

# The part of it that runs nothing.
lint: $(TOOLS)
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/tidy.py
	$(BIN)/python scripts/config_docs.py --check

fix: $(TOOLS)
	$(BIN)/ruff check --fix --exit-zero --quiet $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# Writes the golden files anew: read the diff before you commit it.
golden: $(TOOLS)
	$(PYTEST) -q -m "not slow" --rewrite

# Worlds one after another, of raft alone and then of whole clusters; or one that is shown:
# make sim SEED=8812, make sim-pyetcd SEED=8812. See docs/simulation.md.
sim: $(RUNTIME)
	$(BIN)/python -m raft.sim $(if $(SEED),$(SEED),--seeds 200)
	$(if $(SEED),,$(BIN)/python -m pyetcd.sim --seeds 60)

sim-pyetcd: $(RUNTIME)
	$(BIN)/python -m pyetcd.sim $(if $(SEED),$(SEED),--seeds 200)

# For two minutes, beginning with the commit's hash: what fails there can be replayed anywhere.
sim-ci: $(RUNTIME)
	$(BIN)/python -m raft.sim --first $(COMMIT) --seconds 60
	$(BIN)/python -m pyetcd.sim --first $(COMMIT) --seconds 60

# Until something fails, or until it is stopped; each day has its own seeds.
soak: $(RUNTIME)
	$(BIN)/python scripts/sim_soak.py | tee -a soak.log

# Real members and real faults, for so many seconds; needs root. See docs/reliability.md.
faults: $(TOOLS)
	$(BIN)/python -m scripts.soak --seconds $(or $(SECONDS),600)

mutants: $(TOOLS)
	$(BIN)/python -m tests.mutants

# The last one takes some minutes, and writes tables and plots into docs/benchmarks.
bench: compile
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m scripts.bench
	$(BIN)/python -m scripts.scaling

docs: $(RUNTIME)
	$(BIN)/python scripts/config_docs.py

ci:
	$(MAKE) check
	$(MAKE) test
	$(MAKE) test-slow
	$(MAKE) test-compiled
	$(MAKE) sim-ci

# Hooks need a checkout, and give way to hooks that the user has put elsewhere.
setup: $(TOOLS)
	@if git rev-parse --git-dir >/dev/null 2>&1 && ! git config core.hooksPath >/dev/null; \
	then $(BIN)/pre-commit install; else echo "no hooks installed"; fi

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

# The tools are pinned in pyproject.toml, so that is what a stale .venv is older than.
$(RUNTIME): pyproject.toml setup.py
	@echo "installing into .venv, and compiling if there is a compiler: a minute or two, once"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(TOOLS): $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
