# Two commands do everything: `make bench` and `make test`. Both make .venv first.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

# Some machines set this. Then each process that a test starts would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: bench test quick exhaustive cluster check format docs zoo clean

bench: .venv/.installed  ## compare freeze strategies on this machine; ARGS="timm:resnet50 -s full"
	$(BIN)/freezekit bench $(ARGS)

test: .venv/.installed-dev  ## the tests, the slow ones too
	$(BIN)/python -m pytest --slow $(PARALLEL) $(ARGS)

quick: .venv/.installed-dev  ## the tests without the slow ones
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

exhaustive: .venv/.installed-dev  ## all cases of all tests, which takes longer
	$(BIN)/python -m pytest --slow --exhaustive $(PARALLEL) $(ARGS)

cluster: .venv/.installed-dev  ## the tests on Ray, and on Slurm where there is one: some minutes
	$(BIN)/python -m pytest --slow --cluster tests/engines $(ARGS)

check: .venv/.installed-dev  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror freezekit/lean/native/source/*
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed-dev  ## correct the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i freezekit/lean/native/source/*

# From scratch each time: Sphinx does not repeat the warnings of a page that it has read before.
docs: .venv/.installed-dev build/docs/.installed  ## the documentation in build/site; warnings are errors
	build/docs/bin/python -m sphinx --quiet --fresh-env --fail-on-warning -c docs -d build/doctrees . build/site

zoo: .venv/.installed build/peers/.installed  ## stage, check and try every model; ARGS="--fresh"
	$(BIN)/python -m benchmarks.zoo $(ARGS)

clean:  ## remove the virtual environment and caches
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("freezekit needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

# Without --no-compile, pip compiles each file of torch, transformers and Ray, which takes a minute;
# Python compiles what is imported.
.venv/.installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e .
	touch $@

.venv/.installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[dev]'
	touch $@ .venv/.installed

# Tools that the package does not need have an environment of their own, on top of .venv: one torch
# for all. Each is the dependency group of its name.
build/%/.installed: .venv/.installed pyproject.toml
	$(BIN)/python -m venv build/$*
	$(BIN)/python -c 'import site, sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > "$$(build/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/above.pth"
	build/$*/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	build/$*/bin/python -m pip install --quiet --group $*
	touch $@
