# Everything below runs in .venv, which the first target creates. Only Python and make are needed.
#   make demo PYTHON=/opt/python3.12/bin/python3               another Python
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu PyTorch without CUDA (Linux)

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed

# The tests of one file stay in one process, because they share what they prepare.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile

SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python && break; done)
TORCH_INDEX ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint docs train-toy release-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s%s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) ## remove the haze from the photos in examples/, results in results/
	$(RUN) tiled_infer.py --task dehaze --input examples --output results --compare

test: $(INSTALLED) ## run the tests (without the slow ones)
	$(RUN) -m pytest $(PARALLEL)

test-slow: $(INSTALLED) ## run all tests that need no GPU
	$(RUN) -m pytest $(PARALLEL) -m "not gpu"

lint: $(INSTALLED) ## check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

docs: $(DOCS_INSTALLED) ## build the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build

train-toy: $(INSTALLED) ## train a toy model, about two minutes on a CPU
	$(RUN) train.py -opt options/toy.yml

release-check: | $(RUN) ## build wheel and sdist, install and use the wheel in empty environments
	PYTHON=$(RUN) TORCH_INDEX=$(TORCH_INDEX) .ci/release_check.sh

clean: ## delete the environment and caches; runs/ and results/ stay
	rm -rf $(VENV) site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip prefers a CPU build (2.13.0+cpu) from TORCH_INDEX over the plain release of the same version.
$(INSTALLED): pyproject.toml constraints.txt | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[dev,photo]'
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

$(RUN):
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' || { \
		echo "Needs Python 3.11 or newer with its venv module, found: $$($(or $(PYTHON),python3) --version 2>&1)."; \
		echo "Debian and Ubuntu: sudo apt install python3-venv. Another one: make PYTHON=/path/to/python3"; \
		exit 1; } >&2
	$(PYTHON) -m venv --clear $(VENV)
