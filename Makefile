# Needs Python 3.11+, git, make and a C compiler; installs the rest.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
MANAGE := $(PY) manage.py

.PHONY: run test check serve format bench bench-serving install constraints chromium promtool screenshots

run: $(VENV)/.run  ## everything from nothing: environment, database, first model, server
	$(MANAGE) migrate --verbosity 0
	$(MANAGE) seed_demo
	$(MANAGE) serve

serve: $(VENV)/.run  ## only the server
	$(MANAGE) serve

test: $(VENV)/.dev chromium promtool  ## everything the tests need, then the tests
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m pytest -n 2 --dist loadgroup

check: $(VENV)/.dev  ## format, lint, types, import contracts, Django's checks, schema
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	$(MANAGE) check --fail-level WARNING
	$(MANAGE) makemigrations --check --dry-run
	$(MANAGE) spectacular --validate --fail-on-warn --file /dev/null

format: $(VENV)/.dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/.dev chromium  ## every benchmark; a table and a plot of the ratios to the goals
	$(PY) -m benchmarks.run

bench-serving: $(VENV)/.dev  ## this server against others; installs each into var/benchmarks/
	command -v wrk >/dev/null || apt-get install -y -qq wrk
	$(PY) -m benchmarks.serving.compare

# SCREENSHOT_PASSWORD is asked for where it is not set; ADDRESS and USER_NAME may be given.
screenshots: $(VENV)/.dev chromium  ## pictures of every page, from a running server
	$(PY) -m benchmarks.screenshots $(or $(ADDRESS),http://127.0.0.1:8000) --user $(or $(USER_NAME),admin) --out var/screenshots

install: $(VENV)/.run

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[dev]
	touch $@

constraints: $(VENV)/.dev
	(sed -n '/^#/p' constraints.txt; $(PY) -m pip freeze --exclude-editable | sed 's/+cpu$$//') > $(VENV)/constraints
	mv $(VENV)/constraints constraints.txt

# Only the browser tests need it; where it cannot be installed they say so and skip.
chromium:
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || { \
		SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq chromium; } >/dev/null || \
		echo "Chromium could not be installed: the browser tests will be skipped."

# Only the tool, out of Debian's package: installing that would start a daemon.
promtool:
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; command -v promtool >/dev/null || ! command -v apt-get >/dev/null || { \
		cd $(VENV) && { [ "$$(id -u)" != 0 ] || apt-get update -qq; } && \
		apt-get download -qq prometheus && dpkg -x prometheus_*.deb promtool && \
		mv promtool/usr/bin/promtool bin/ && rm -r promtool prometheus_*.deb; } >/dev/null 2>&1 || \
		echo "promtool could not be fetched: the test that needs it will be skipped."
