# `make` lists the targets. Each one sets itself up: it makes .venv, installs what it needs and runs.
#
# Variables:  ARGS    passed on, as in  make train ARGS="--epochs 1"  or  make test ARGS="-k conv"
#             PYTHON  the Python that .venv is made with; by default the first of python3, python3.14 ...
#                     that is new enough
#             TORCH   what `make parity` and `make bench` install

MODEL ?= lenet_bn
PYTHON ?=
TORCH ?= torch==2.13.0
ARGS ?=

PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:  # two pips must not write to one .venv; `make -j2` works, one target after the other
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What users run ----------------------------------------------------------------------------------------

.PHONY: train
train: .venv/.minigrad ## train the batch-normalised LeNet (MODEL=..., ARGS="--epochs 1 --seed 3")
	@$(PY) -m minigrad.train $(MODEL) $(ARGS)

.PHONY: test
test: .venv/.extra-test ## run the tests (ARGS="-k conv")
	@$(PY) -m pytest $(ARGS)

.PHONY: experiments
experiments: .venv/.minigrad ## what batch norm does, measured again (about an hour; ARGS="--quick" for a look)
	@$(PY) -m minigrad.experiments all $(ARGS)

# What developers run -----------------------------------------------------------------------------------

.PHONY: check
check: lint types architecture test ## everything that a change has to pass

.PHONY: lint
lint: .venv/.extra-lint ## ruff: rules and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

.PHONY: format
format: .venv/.extra-lint ## let ruff mend what it can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

.PHONY: types
types: .venv/.extra-lint ## mypy
	@$(PY) -m mypy

.PHONY: architecture
architecture: .venv/.extra-test ## imports point one way, files are short
	@$(PY) -m pytest -q tests/test_architecture.py

.PHONY: parity
parity: .venv/.torch ## compare with PyTorch (TORCH=... chooses the release)
	@$(PY) -m pytest -m parity $(ARGS)

.PHONY: bench
bench: .venv/.torch ## minigrad and PyTorch side by side; writes docs/benchmarks/cpu.md (15 to 20 minutes)
	@$(PY) -m benchmarks.cpu $(ARGS)

# Both use a Python that has CuPy (and PyTorch) already, and install nothing.
GPU_PYTHON ?= python3

.PHONY: test-gpu
test-gpu: ## compare with the CPU on a GPU; writes docs/benchmarks/gpu.md (GPU_PYTHON=..., within 8 minutes)
	@"$(GPU_PYTHON)" -m benchmarks.gpu_check $(ARGS)

.PHONY: bench-gpu
bench-gpu: ## minigrad and PyTorch on a GPU; writes docs/benchmarks/gpu.md (GPU_PYTHON=..., within 8 minutes)
	@"$(GPU_PYTHON)" -m benchmarks.gpu $(ARGS)

.PHONY: coverage
coverage: .venv/.extra-test ## the lines that no test reaches
	@$(PY) -m coverage run -m pytest -q $(ARGS)
	@$(PY) -m coverage report

.PHONY: docs
docs: .venv/.extra-docs ## build the documentation into docs/_build/html; a warning is an error
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

.PHONY: test-notebooks
test-notebooks: .venv/.extra-test .venv/.extra-notebooks ## run the notebooks on small data
	@$(PY) -m pytest tests/test_notebooks.py $(ARGS)

.PHONY: notebooks
notebooks: .venv/.extra-notebooks ## run the notebooks in full and keep their outputs (takes minutes)
	@for source in notebooks/*.py; do \
		$(PY) -m jupytext --quiet --to ipynb --execute "$$source" || exit 1; echo "$$source: done"; \
	done

.PHONY: clean
clean: ## remove .venv and everything that was built; runs/ stays
	rm -rf .venv build docs/_build docs/notebooks .coverage htmlcov *.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment ---------------------------------------------------------------------------------------
# A stamp file says that a step is done. It is written last, so what was interrupted is done again, and it
# is older than pyproject.toml when the requirements have changed.

.venv/.made:
	@if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; \
	else set -- python3 python3.14 python3.13 python3.12 python3.11 python; fi; \
	for candidate in "$$@"; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making .venv with $$candidate ($$("$$candidate" -V))"; \
			rm -rf .venv; "$$candidate" -m venv .venv && touch $@; exit; \
		fi; \
	done; \
	version=$$("$$1" -V 2>/dev/null) || version="not there"; \
	echo "minigrad needs Python 3.11 or newer, and $$1 is $$version;" \
		"install one, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1

.venv/.minigrad: .venv/.made pyproject.toml
	@echo "installing minigrad into .venv (once; may take a minute or two)"
	@$(PIP) --editable . && touch $@

.venv/.extra-%: .venv/.made pyproject.toml
	@echo "installing minigrad[$*] into .venv (once; may take a minute or two)"
	@$(PIP) --editable ".[$*]" && touch $@

.venv/.torch: .venv/.extra-test
	@echo "installing $(TORCH) into .venv"
	@$(PIP) "$(TORCH)" && $(PY) -c "import torch" && touch $@
