# One command sets up and runs (make demo), one tests (make test); the rest is under make help.
# Needs Python 3.11 or newer, make and the Python package index. Plain POSIX sh.
.DEFAULT_GOAL := help
.PHONY: help demo test check lint types imports docs contracts kafka test-kafka bench format lock clean

PYTHON     ?=# the Python to build .venv with; empty: the first of python3.11 … python3 that is new enough
ARGS       ?=# more arguments: make test ARGS="-k intake -x"
UV_VERSION := 0.13.9

BIN     := .venv/bin
SYNCED  := .venv/.synced
REPORTS := .cache/reports
UV      := $(or $(shell command -v uv 2>/dev/null),.cache/uv-$(UV_VERSION)/bin/uv)
COMPILE := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"
# Where the system has a list of certificate authorities uv trusts it: networks may have one of their own.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= true
endif
PYTEST  := $(BIN)/pytest $(ARGS)

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(SYNCED) ## Show the main job on simulated data, from report to work order (minutes)
	@$(BIN)/rapid demo $(ARGS)

test: $(SYNCED) ## Run the tests, but for those that need Apache Kafka
	@$(PYTEST) -m "not kafka" --ignore=tests/docs --junitxml=$(REPORTS)/test.xml
	@echo "Not run here: the tests on Apache Kafka (make test-kafka), lint, types and docs (make check)."

check: lint types imports docs ## Check lint, types, import rules and the docs (each also by itself: make lint, …)

lint: $(SYNCED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(SYNCED)
	$(BIN)/mypy

imports: $(SYNCED)
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

docs: $(SYNCED)
	$(PYTEST) tests/docs --junitxml=$(REPORTS)/docs.xml

contracts: $(SYNCED) ## Write docs/contracts again: JSON Schemas and the AsyncAPI document
	$(BIN)/rapid schema --out docs/contracts

kafka: $(SYNCED) ## Fetch Apache Kafka into .cache (needs Maven; to run it, a JDK 17 or newer)
	@$(BIN)/python -m infra.kafka.local fetch

test-kafka: $(SYNCED) ## Run the tests of delivery, rebalancing and faults on Apache Kafka
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
		$(BIN)/python -m infra.kafka.local fetch && \
		$(PYTEST) -m kafka --junitxml=$(REPORTS)/test-kafka.xml; \
	else \
		echo "**********************************************************************" >&2; \
		echo "** NOTHING WAS TESTED on Apache Kafka: no java or no mvn on PATH.   **" >&2; \
		echo "** Install a JDK 17 or newer and Maven, then make test-kafka again. **" >&2; \
		echo "**********************************************************************" >&2; \
		test "$${CI:-}" != true; \
	fi

bench: $(SYNCED) ## Measure the whole path, report to department topic
	@$(BIN)/rapid bench pipeline $(ARGS)

format: $(SYNCED) ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(UV) ## Take the newest allowed versions into the locks (ARGS="--upgrade-package NAME" for one)
	$(COMPILE) --group dev $(or $(ARGS),--upgrade) -o requirements.lock
	$(COMPILE) --group build --constraints requirements.lock -o requirements-runtime.lock

clean: ## Remove what was built and fetched; .rapid (the database) stays
	rm -rf .venv .cache .pytest_cache .hypothesis dist
	find agents connectors infra schemas tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- set up
# --clear: a .venv whose Python is gone or half made is made again.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Setting up: .venv with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear --without-pip .venv; \
		fi; \
	done; \
	echo "Rapid Response needs Python 3.11 or newer: install it, or name one: make PYTHON=/path/to/python3" >&2; \
	exit 1

.cache/uv-$(UV_VERSION)/bin/uv: | $(BIN)/python
	@echo "Setting up: uv $(UV_VERSION) in .cache"
	@"$$($(BIN)/python -c 'import sys; print(sys._base_executable)')" -m venv --clear $(@D)/..
	@$(@D)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Build constraints: what is built from source is built with the locked tools.
$(SYNCED): requirements.lock pyproject.toml | $(BIN)/python $(UV)
	@echo "Setting up: the locked packages"
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --build-constraints requirements.lock \
		requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
