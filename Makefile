# The project's commands. Needs Linux, make and Python 3.11 or newer; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: test-verifiers fuzz mutations help setup demo test test-all faults faults-network kills fuzz-http soak bench bench-quick bench-keep bench-governed bench-memory bench-policy check format generate tools skipped bench-flood bench-growth bench-flame bench-telemetry bench-backends bench-network bench-ledger bench-finops

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input install --quiet --root-user-action=ignore
# Wheels only, but for two modules of a page each that are published as source (libp2p's); setuptools, by hash, builds them.
WHEELS := --only-binary :all: --no-binary varint,python-baseconv
TOOLS := $(CURDIR)/.tools/bin
OPA_VERSION := v1.19.1
REGAL_VERSION := v0.39.0
KILLS := 1000
SEED := 20260109
SKIPPED := $(VENV)/skipped.txt
export PATH := $(TOOLS):$(PATH)
export PYTHONDONTWRITEBYTECODE :=
export QCOS_SKIPPED := $(CURDIR)/$(SKIPPED)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The first Python that is new enough, works, and can make virtual environments.
$(PY):
	@set -eu; chosen=; new=; \
	for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  new=$$python; \
	  "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && { chosen=$$python; break; }; \
	done; \
	if [ -z "$$new" ]; then \
	  echo "make: no Python 3.11 or newer found (looked for python3, python3.11 to python3.14)." >&2; \
	  echo "      Debian, Ubuntu: apt install python3 python3-venv" >&2; exit 1; \
	fi; \
	if [ -z "$$chosen" ]; then \
	  version=$$("$$new" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "make: $$new ($$version) lacks venv or ensurepip. Debian, Ubuntu: apt install python$$version-venv" >&2; exit 1; \
	fi; \
	echo "[setup] virtual environment in $(VENV) ($$("$$chosen" --version))"; \
	"$$chosen" -m venv $(VENV)

$(VENV)/runtime.stamp: requirements.lock pyproject.toml | $(PY)
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	@echo "[setup] installing the plane's packages, by hash (a minute the first time)"
	@awk '/^setuptools==/ {on=1} on {print} on && !/\\$$/ {exit}' requirements.lock >$(VENV)/setuptools.lock
	@$(PIP) --require-hashes --no-deps --only-binary :all: -r $(VENV)/setuptools.lock
	@$(PIP) --require-hashes --no-deps --no-build-isolation $(WHEELS) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/runtime.stamp
	@echo "[setup] installing what tests and checks need, by hash"
	@$(PIP) --require-hashes --no-deps --only-binary :all: -r requirements-dev.lock
	@touch $@

setup: $(VENV)/dev.stamp ## .venv with qcos and all that runs here
	@echo "[setup] done: $(VENV)/bin/qcos --help"

demo: $(VENV)/runtime.stamp ## a plane of its own, one job, its evidence verified offline
	@$(PY) -m control_plane.demo

test: $(VENV)/dev.stamp ## what a bare machine can run; the last lines say what was skipped
	@rm -f $(SKIPPED); code=0; $(PY) -m pytest -q -n auto -m "not faults and not tenants" || code=$$?; cat $(SKIPPED) 2>/dev/null; exit $$code

test-all: $(VENV)/dev.stamp ## all tests, every tool required: what would be skipped fails
	@QCOS_TEST_ALL=1 $(PY) -m pytest -q -n auto

# Sigstore's verifier and the Node that it wants, by their lock, into the folder that names them; without npm they are skipped.
test-verifiers: $(VENV)/dev.stamp ## evidence of a fresh plane given to verifiers that aren't ours, and changed copies of it
	@if command -v npm >/dev/null; then cd tests/verifiers && npm ci --no-audit --no-fund --loglevel=error; \
	else echo "no npm: @sigstore/verify is skipped"; fi
	@$(PY) -m tests.verifiers

.PHONY: identity-tools
IDENTITY := slapd ldap-utils simplesamlphp php-cli php-xml rsyslog rsyslog-gnutls
# Nothing of it is started: RUNLEVEL=1 is what Debian's packages ask before they do.
identity-tools: ## what tests of sign-in and SIEM want beside this: identity providers and a receiver (Debian, as root), npm's packages
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  dpkg -s $(IDENTITY) >/dev/null 2>&1 || { timeout 300 apt-get -qq update && \
	    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install --no-install-recommends $(IDENTITY) >/dev/null; }; \
	else echo "not Debian, or not root: install $(IDENTITY) yourself"; fi
	@if command -v npm >/dev/null; then cd tests/identity/oidc && timeout 300 npm ci --no-audit --no-fund --loglevel=error; \
	else echo "no npm: the OpenID Provider of the tests is skipped"; fi

.PHONY: focus-tools
FOCUS := .tools/focus
focus-tools: ## what judges FOCUS files, in a place of its own: it wants Python 3.12 or newer
	@set -eu; chosen=; \
	for python in python3.12 python3.13 python3.14 python3 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do \
	  "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && { chosen=$$python; break; }; \
	done; \
	[ -n "$$chosen" ] || { echo "no Python 3.12 or newer: focus-validator is left out, and its tests are skipped"; exit 1; }; \
	[ -f $(FOCUS)/stamp ] && cmp -s tests/focus/requirements.lock $(FOCUS)/stamp && exit 0; \
	"$$chosen" -m venv --clear $(FOCUS); \
	$(FOCUS)/bin/python -m pip --disable-pip-version-check --no-input install --quiet --root-user-action=ignore \
	  --require-hashes --no-deps -r tests/focus/requirements.lock; \
	cp tests/focus/requirements.lock $(FOCUS)/stamp

.PHONY: focus-check
focus-check: $(VENV)/dev.stamp ## FILE=file.csv judged by FOCUS's own validator; wants make focus-tools
	@$(PY) -m tests.focus.judge "$(FILE)"

faults: $(VENV)/dev.stamp ## kill each part of a running plane, at each crash point and at random; then verify ledger and budgets
	@$(PY) -m pytest -q -n 2 -m faults

faults-network: $(VENV)/dev.stamp ## the part of it that plays docs/network-faults.md: nodes, clocks, links and peers that misbehave
	@$(PY) -m pytest -q -n 2 -m faults tests/faults/test_network.py tests/faults/test_partition.py

kills: $(VENV)/dev.stamp ## KILLS=1000 random kills under load, as docs/faults.md reports them; SEED=… for others
	@$(PY) -m tests.faults.kills --kills $(KILLS) --seed $(SEED)

fuzz-http: $(VENV)/dev.stamp ## the OpenAPI document against a plane, by schemathesis, two minutes a role
	@QCOS_FUZZ_S=$${QCOS_FUZZ_S:-120} $(PY) -m pytest -q -n 2 --dist load tests/e2e/test_document.py

MUTATIONS ?= 10000
mutations: $(VENV)/dev.stamp ## MUTATIONS=10000 single changes of sealed bundles and of a log in PostgreSQL; each must be found
	@$(PY) -m tests.ledger.mutations --count $(MUTATIONS)

MINUTES ?= 10
fuzz: $(VENV)/dev.stamp ## mutations of valid files through every reader, for MINUTES (10)
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); while [ $$(date +%s) -lt $$end ]; do \
	  QCOS_FUZZ_EXAMPLES=1000 $(PY) -m pytest -q -n auto --dist load --timeout 3600 tests/fuzz || exit 1; done

.PHONY: verifier test-agreement
verifier: ## build clients/verifier/verify.html again: the second verifier, one file that works offline; wants Node and npm
	@cd clients/verifier && npm ci --silent --no-audit --no-fund && npm run --silent check && npm run --silent build

CASES ?= 5000
test-agreement: $(VENV)/dev.stamp ## both verifiers over CASES=5000 changed bundles and trust files; SEED=… for others; wants Node
	@$(PY) -m tests.verifier.agreement --cases $(CASES) --seed $(SEED)

.PHONY: test-tenants
test-tenants: $(VENV)/dev.stamp ## each cell of `qcos access matrix` over HTTP, and what a stranger who knows every id finds
	@$(PY) -m pytest -q -n 2 tests/tenants

.PHONY: test-guides
test-guides: $(VENV)/dev.stamp ## the guides' walks typed as they stand, each on a plane of its own: policies, and each identity provider
	@$(PY) -m tests.guides

soak: $(VENV)/dev.stamp ## a thousand jobs from ten users under a budget for half of them
	@$(PY) -m tests.soak

bench: $(VENV)/runtime.stamp ## every measured claim, a quarter of an hour; the machine must do nothing else
	@$(PY) -m bench

bench-quick: $(VENV)/runtime.stamp ## the same in two minutes, for its shape only
	@$(PY) -m bench --quick

bench-keep: $(VENV)/dev.stamp ## the same, kept as the figures that docs/performance.md shows
	@$(PY) -m bench --keep

bench-governed: $(VENV)/runtime.stamp ## what governing a job costs, beside bare Aer
	@$(PY) -m bench governed

bench-memory: $(VENV)/runtime.stamp ## what each process holds, idle and under load
	@$(PY) -m bench memory

.PHONY: bench-auth
bench-auth: $(VENV)/runtime.stamp ## what recognising somebody and deciding adds to a request; many tenants; ten busy ones beside a flood
	@$(PY) -m bench auth auth_fairness

.PHONY: bench-auth_fairness
bench-auth_fairness: $(VENV)/runtime.stamp ## the half of it with the flood
	@$(PY) -m bench auth_fairness

bench-policy: $(VENV)/runtime.stamp ## what a policy decision costs, in OPA and in its caller
	@$(PY) -m bench policy

bench-telemetry: $(VENV)/runtime.stamp ## what a traced call costs: off, on, recorded
	@$(PY) -m bench telemetry

bench-backends: $(VENV)/runtime.stamp ## what each driver costs beside its engine; pools, Dask, routing, cancelling
	@$(PY) -m bench backends

bench-network: $(VENV)/runtime.stamp ## what planning over the network costs, and how it grows
	@$(PY) -m bench network

bench-finops: $(VENV)/runtime.stamp ## what a hold, a capture and a whole admission cost, with many budgets and a million past charges
	@$(PY) -m bench finops

bench-ledger: $(VENV)/runtime.stamp ## how fast the log seals, proves and verifies, beside plain INSERT, chaining and Tessera; 4 GB of disk
	@$(PY) -m bench ledger

bench-flood: $(VENV)/runtime.stamp ## what one person's flood of denials costs another tenant's jobs
	@$(PY) -m bench flood

bench-growth: $(VENV)/runtime.stamp ## what a log of a million entries costs beside one of a thousand; wants 9 GB of disk
	@$(PY) -m bench growth

bench-flame: $(VENV)/runtime.stamp ## flame graphs of API, worker and sealer under load, where py-spy is
	@$(PY) -m bench flame

check: $(VENV)/dev.stamp ## format, lint, types, policies, imports, generated files
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@if command -v opa >/dev/null; then \
	  opa fmt --fail --list policies && opa test --ignore schemas policies && $(PY) -m tests.policies.coverage && \
	  opa check --strict --schema policies/schemas --ignore schemas policies; \
	else echo "skipped: opa fmt, check, test (no opa; make tools gets it)"; fi
	@if command -v regal >/dev/null; then regal lint policies; \
	else echo "skipped: regal lint (no regal; make tools gets it)"; fi
	@$(PY) -m pytest -q -p no:randomly tests/test_imports.py $(wildcard tests/test_generated.py)

format: $(VENV)/dev.stamp ## write the format that check wants
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix --quiet . ; if command -v opa >/dev/null; then opa fmt -w policies; fi

generate: $(VENV)/dev.stamp ## write what is made from code: tables of docs/, OpenAPI, schemas
	@$(PY) -m tests.docs.tables

# Each is built as the requirement of a module made for that moment: `go install NAME@VERSION` asks for lists of
# versions that not every proxy gives. Checksums are verified either way.
define built
	@if [ -x $(TOOLS)/$(1) ]; then echo "[tools] $(1) is in .tools/bin"; \
	elif ! command -v go >/dev/null; then echo "[tools] skipped: $(1) (no Go here)"; \
	else echo "[tools] building $(1) $(3) (minutes the first time)"; \
	  folder=$$(mktemp -d) && cd $$folder && go mod init tools 2>/dev/null && go mod edit -require=$(2)@$(3) && \
	  go build -mod=mod -o $(TOOLS)/$(1) $(2); code=$$?; rm -rf $$folder; exit $$code; fi
endef

tools: ## opa and regal into .tools/bin, where Go is
	@mkdir -p $(TOOLS)
	$(call built,opa,github.com/open-policy-agent/opa,$(OPA_VERSION))
	$(call built,regal,github.com/open-policy-agent/regal,$(REGAL_VERSION))