# make demo       train every model on real text and compare them, a few minutes
# make test       the whole test suite
# make lint       style, types and spelling
# make lab        the notebooks in JupyterLab
# make notebooks  write the .ipynb files of changed sources, and run the course; some: ARGS="07 08"
# make long       the longer experiment of a notebook, which records its results: NOTEBOOK=10
# make docs       the site, in build/site; runs the notebooks that have changed, needs npm
# make site-test  look at the site and at JupyterLab in a browser; needs Chromium
# make pictures   draw the pictures of docs/ anew
# make bench      our speed against PyTorch's and transformers'
# make classical  our speed in counting, tokenizing and scoring against KenLM's, tiktoken's, ...
# make gpu        time the kernels on this machine's GPU, and write docs/kernels-results.md
# make matrix     docs/gradcheck-matrix.md anew: which checker catches which wrong backward
# make clean      remove the environment, caches and builds; runs/ stays
#
# All of them make the environment .venv first, and again when pyproject.toml or constraints.txt
# change. Another Python (3.11 or newer): make clean, then make demo PYTHON=python3.13
# More arguments for the command behind it: make demo ARGS=--short
# More arguments for pip: make test PIPFLAGS='...', for one an index with PyTorch's CPU builds, which
# on Linux are much smaller than the ones with CUDA

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
KERNELS = tests/kernels/triton tests/kernels/cuda tests/kernels/emulator
PIPFLAGS ?=
INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check $(PIPFLAGS) -c constraints.txt

NOTEBOOK ?=
NPM ?= npm
TOOLS = $(VENV)/bin/python notebooks/tools
SPHINX = $(VENV)/bin/sphinx-build -W --keep-going -q -b html -d build/doctrees

.PHONY: help demo test lint lab notebooks executed long docs site-test pictures bench classical gpu matrix clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.core
	$(VENV)/bin/minillm demo $(ARGS)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest $(if $(ARGS),$(ARGS),-n auto --dist loadfile $(KERNELS:%=--ignore=%))
	$(if $(ARGS),,$(VENV)/bin/python -m pytest -n auto --dist loadfile $(KERNELS))

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy minillm
	$(VENV)/bin/codespell README.md docs notebooks minillm kernels

lab: $(VENV)/.notebooks
	$(VENV)/bin/jupyter lab --notebook-dir=. notebooks/01_counting.ipynb $(ARGS)

notebooks: $(VENV)/.docs
	$(TOOLS)/percent.py
	$(TOOLS)/execute.py $(ARGS)

long: $(VENV)/.docs
	@test -n "$(NOTEBOOK)" || { echo "which one? make long NOTEBOOK=10" >&2; exit 2; }
	$(TOOLS)/execute.py --long $(NOTEBOOK)

executed: $(VENV)/.docs
	$(TOOLS)/percent.py --check
	$(TOOLS)/execute.py --stale

docs: executed build/mathjax/.made
	$(VENV)/bin/python docs/tools/notebooks.py build/notebooks docs/notebooks
	$(SPHINX) docs build/site
	$(VENV)/bin/python docs/tools/check_site.py build/site
	@echo "open build/site/index.html"

site-test: docs
	$(VENV)/bin/python -m pytest tests/site $(ARGS)

build/mathjax/.made: docs/package.json docs/tools/mathjax.py | $(VENV)/.docs
	@command -v $(NPM) >/dev/null || { \
	  echo "make docs needs npm, for MathJax, which draws the formulas" >&2; exit 2; }
	mkdir -p build/npm && cp docs/package.json build/npm/
	cd build/npm && $(NPM) install --no-package-lock --no-audit --no-fund --silent
	$(VENV)/bin/python docs/tools/mathjax.py build/npm/node_modules build/mathjax
	@touch $@

pictures: $(VENV)/.core
	$(VENV)/bin/python -m minillm.viz.gradcheck docs/pictures

bench: $(VENV)/.test
	$(VENV)/bin/minillm bench cpu $(ARGS)

classical: $(VENV)/.test
	$(VENV)/bin/minillm bench classical $(ARGS)

gpu: $(VENV)/.gpu
	mkdir -p runs
	$(VENV)/bin/python -m minillm_kernels bench --json runs/gpu.json $(ARGS)
	$(VENV)/bin/python -m minillm_kernels table runs/gpu.json --out docs/kernels-results.md

matrix: $(VENV)/.test
	$(VENV)/bin/python -m minillm.bench.gradcheck_matrix --out docs/gradcheck-matrix.md $(ARGS)

clean:
	rm -rf $(VENV) build dist docs/api docs/notebooks docs/course/generated .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find minillm kernels tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp says that an install went through; it is older than the two files once they change.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/.made
	$(INSTALL) --quiet -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.made
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.core

$(VENV)/.gpu: pyproject.toml constraints.txt | $(VENV)/.made
	$(INSTALL) -e '.[gpu]'
	@touch $@ $(VENV)/.core

$(VENV)/.notebooks: pyproject.toml constraints.txt | $(VENV)/.made
	$(INSTALL) --quiet -e '.[notebooks]'
	@touch $@ $(VENV)/.core

# the notebooks on kernels need Triton and torch, which the tests bring
$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.made
	$(INSTALL) --quiet -e '.[test,docs]'
	@touch $@ $(VENV)/.core $(VENV)/.test

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(INSTALL) --quiet -e '.[dev]'
	@touch $@ $(VENV)/.core

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "minillm needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "If you have a newer one, name it: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
