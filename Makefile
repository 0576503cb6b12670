# Two commands matter: `make demo` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo demo-network soak faults fuzz audit test test-torch check format clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedstill needs Python 3.11 or later: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY) ## Run twelve enterprises on real load profiles; the report lies in runs/demo
	$(BIN)/fedstill demo --out runs/demo

demo-network: $(READY) ## Run a coordinator and three participants as processes, over HTTPS
	$(BIN)/python examples/demo_network.py

soak: $(READY) ## Run 100,000 schedules of faults on a simulated clock; takes hours
	$(BIN)/python tests/service/simulation.py --schedules 100000

faults: $(READY) ## Run 200 rounds of real processes in which everything goes wrong; takes minutes
	$(BIN)/python tests/network/test_faults.py --rounds 200 --faults 80

fuzz: $(READY) ## Give 1,000,000 changed inputs to all that reads bytes from elsewhere; takes minutes
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris==3.0.0 || true
	$(BIN)/python tests/fuzz/run.py --frames 1000000

audit: $(READY) ## Look for versions in constraints.txt that are known to be vulnerable; asks osv.dev
	$(BIN)/python -c 'import pip_audit' 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt pip-audit==2.10.1
	$(BIN)/python .ci/audit.py constraints.txt

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest -n auto

test-torch: $(READY) ## Run the tests of what needs torch; installs torch (CPU) and opacus if they are missing
	$(BIN)/python -c 'import torch, safetensors, opacus' 2>/dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 safetensors opacus
	$(BIN)/python -m pytest tests/learners/test_torch_learners.py tests/privacy/test_opacus.py

check: $(READY) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what was set up and made
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
