# make run   makes the environment, then everything from pictures to a registered model.
# Every target prints the plain commands it runs; copy them to run a part by hand.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
PRESET ?=
SOURCE ?=
LAUNCH ?=
UNTIL  ?=

# No tool of ours calls home.
export DO_NOT_TRACK := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export GRADIO_ANALYTICS_ENABLED := False
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Makes Prefect's records in .prefect, so that the first run need not; never those of shared servers.
RECORDS = env -u PREFECT_API_DATABASE_CONNECTION_URL -u PREFECT_SERVER_DATABASE_CONNECTION_URL \
  python -m tasks.orchestration.temporary_server
# `python` and `dvc` are those of the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run test bench chat deploy undeploy ui servers stop sync clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(STAMP) ## make .venv with the pinned packages (once; again when they change)

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "miras needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "Python's venv module is missing. Debian, Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt torch
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	$(RECORDS)
	@touch $(STAMP)

run: $(STAMP) ## everything, from pictures to a registered model (PRESET=name, SOURCE=folder, LAUNCH=profile, UNTIL=stage)
	python -m flows.train_miras $(if $(PRESET),--preset $(PRESET)) $(if $(SOURCE),--source "$(SOURCE)") \
	  $(if $(LAUNCH),--launch $(LAUNCH)) $(if $(UNTIL),--until-stage $(UNTIL))

test: $(STAMP) ## lint, types, import rules, unit, contract and flow tests
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python -m pytest tests/contracts tests/unit tests/flows -m "not slow and not gpu"

bench: $(STAMP) ## time training, data, evaluation, talking and orchestration against plain ways (QUICK=1: some minutes)
	python -m benchmarks.train $(if $(QUICK),--quick)
	python -m benchmarks.generate $(if $(QUICK),--quick)
	python -m benchmarks.evaluate $(if $(QUICK),--quick)
	python -m benchmarks.talk $(if $(QUICK),--quick)
	python -m benchmarks.orchestrate $(if $(QUICK),--quick)

chat: $(STAMP) ## talk to the trained model in the browser (or MODEL=models:/NAME@ALIAS, MODEL=folder)
	$(if $(MODEL),,test exported/miras.json -nt models/stage2/network.json || miras export --out exported)
	miras chat --model $(or $(MODEL),exported)

deploy: $(STAMP) ## Prefect server, worker and the deployments: `prefect deployment run train-miras`
	python -m tasks.servers.services deploy

undeploy: $(STAMP) ## stop what `make deploy` started
	python -m tasks.servers.services undeploy

ui: $(STAMP) ## MLflow's and Prefect's pages
	python -m tasks.servers.services ui

servers: $(STAMP) ## PostgreSQL, MLflow and Prefect for a group (docs/shared-services.md)
	python -m tasks.servers.shared start

stop: $(STAMP) ## stop what make ui and make deploy started (make servers: python -m tasks.servers.shared stop)
	python -m tasks.servers.services stop

sync: $(STAMP) ## send to MLflow what was recorded while it was away
	python -m tasks.tracking.sync

clean: stop ## remove work/ (state of interrupted stages, logs); paid answers, shared servers, records not yet sent stay
	test ! -d work || find work -mindepth 1 -maxdepth 1 ! -name tracking ! -name servers ! -name generate \
	  ! -name applied_preset.json -exec rm -rf {} +
	test ! -d work/generate || find work/generate -mindepth 1 -maxdepth 1 ! -name store -exec rm -rf {} +
