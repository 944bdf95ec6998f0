# Everything needs only Python 3.11 or newer and make. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = $(shell find mdmd twisted -type f ! -name '*.pyc') pyproject.toml
ARGS ?=
TESTS ?= tests

.PHONY: help venv demo test faults fuzz lint bench lock wheel clean

help:
	@echo 'make demo [ARGS=--once]  a real server, two simulated devices, one push'
	@echo 'make test [TESTS=…]      every test, or those named'
	@echo 'make faults [TIMES=10]    hurt the daemon for longer than the tests do'
	@echo 'make fuzz [FUZZ=… SECONDS=60]  let atheris at the readers of bytes from outside'
	@echo 'make lint                ruff and mypy'
	@echo 'make bench               time what matters; adds to bench/RESULTS.md'
	@echo 'make wheel               build dist/mdmd-*.whl'
	@echo 'make lock                renew requirements.lock'
	@echo 'make clean               remove the virtual environment and what was built'

# The dependencies, exactly those of the lock, by hash.
$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'mdmd needs Python 3.11 or newer; name one: make PYTHON=python3.12 …'; exit 1; }
	@echo 'Building $(VENV) (once; a minute or so) …'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# mdmd itself, as users install it; again after each change of a source.
$(VENV)/.installed: $(VENV)/.locked $(SOURCES)
	@rm -rf build
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --force-reinstall .
	@rm -rf build mdmd.egg-info
	@touch $@

venv: $(VENV)/.installed

demo: venv
	@exec $(BIN)/mdmctl demo $(ARGS)

# From outside the checkout, so that the installed package is what is tested.
test: venv
	@$(BIN)/python -m pytest -p no:cacheprovider -n 4 --dist loadfile $(TESTS) $(ARGS)

TIMES ?= 10
faults: venv
	@MDMD_FAULTS=$(TIMES) $(BIN)/python -m pytest -p no:cacheprovider -s --timeout 3600 tests/faults

# atheris is not in the lock: whoever fuzzes wants the newest, and nobody else needs it.
SECONDS ?= 60
FUZZ ?= plist checkin report command profile cms scep certificate pushcert http config store-url banana perspective id
fuzz: venv
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	@for target in $(FUZZ); do echo "$$target:"; $(BIN)/python -m tests.fuzzing $$target $(SECONDS) || exit 1; done

lint: venv
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Each part by itself too: make bench BENCH=session ARGS=--dry
BENCH ?= session keepalive checkin push push_work enqueue memory start overload daemons
bench: venv
	@for part in $(BENCH); do $(BIN)/python -m bench.$$part $(ARGS) || exit 1; done

wheel: venv
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist .
	@rm -rf build mdmd.egg-info

lock:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet pip-tools
	@PIP_NO_INDEX= .venv-lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header \
		--extra dev --extra import --all-build-deps -o requirements.lock pyproject.toml
	@rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
