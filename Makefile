PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := -c constraints.txt
# One stamp a kind of installation: a second `make` installs nothing.
DEMO_STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
# Tests bring their own parallelism; more threads in each process only get in each other's way.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-long format lint types imports unit bench-throughput bench-ingest bench-pictures bench-training bench-export bench-api bench-memory bench-pipelines bench-fairness bench-quality bench-recipe docs-figures docs-screenshots bundled sample clean

help: ## Show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "datagen needs Python 3.11 or newer; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(DEMO_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e .
	@touch $@

$(TEST_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[test]'
	@touch $@ $(DEMO_STAMP)

demo: $(DEMO_STAMP) ## Install, then make 1,000 digits into ./datagen-demo (again: make demo DEMO_FLAGS=--force)
	$(BIN)/datagen demo --out datagen-demo $(DEMO_FLAGS)

test: $(TEST_STAMP) ## Formatting, lint, types, import contract, tests (under 15 minutes on two cores)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(if $(filter no,$(PAGES)),--no-pages)

test-long: $(TEST_STAMP) ## Chaos, soak and ten thousand generated requests, on real processes (bounded, about two hours)
	$(TEST_ENV) $(BIN)/python -m pytest tests/long tests/integration/test_killed_pipelines.py --every-point --timeout 1800

format: $(TEST_STAMP) ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(TEST_STAMP) ## Lint alone
	$(BIN)/ruff check .

types: $(TEST_STAMP) ## Types alone
	$(BIN)/mypy

imports: $(TEST_STAMP) ## The import contract alone: which room may import which
	$(BIN)/lint-imports

unit: $(TEST_STAMP) ## The unit tests alone
	$(TEST_ENV) $(BIN)/python -m pytest tests/unit -n $(WORKERS)

bench-throughput: $(DEMO_STAMP) ## Images per second: bare loop, service and a plain script, in one run (BENCH_FLAGS=--pictures for colour pictures)
	$(BIN)/python benchmarks/throughput.py $(BENCH_FLAGS)

bench-ingest: $(DEMO_STAMP) ## Images per second that datasets are read at, from files of several kinds
	$(BIN)/python benchmarks/ingest.py

bench-pictures: $(DEMO_STAMP) ## Seconds and memory that one large picture takes while it is scaled down
	$(BIN)/python benchmarks/large_pictures.py

bench-training: $(DEMO_STAMP) ## Training against Pythae's trainer, and the base preset's curve: make bench-training MNIST=DIR
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps pythae==0.1.2
	$(BIN)/python benchmarks/training.py "$(MNIST)"
	$(BIN)/python benchmarks/training.py "$(MNIST)" --curve 600

bench-export: $(TEST_STAMP) ## Images per second and memory of every export format, beside the plain way (half an hour)
	$(BIN)/python -m benchmarks.exports $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.loading

bench-api: $(TEST_STAMP) ## How quick the API answers, and to how many at once (BENCH_FLAGS="--postgresql URL" for that too)
	$(BIN)/python -m benchmarks.api $(BENCH_FLAGS)

bench-memory: $(DEMO_STAMP) ## How much of the API's memory uploads take that unfold to far more than their bytes
	$(BIN)/python -m benchmarks.api_memory

bench-pipelines: $(TEST_STAMP) ## How quickly due pipelines become runs (BENCH_FLAGS="--postgresql URL" for that too)
	$(BIN)/python -m benchmarks.pipelines $(BENCH_FLAGS)

bench-fairness: $(TEST_STAMP) ## How long one owner waits while another has everything at work (five minutes)
	$(BIN)/python -m benchmarks.fairness $(BENCH_FLAGS)

bench-quality: $(DEMO_STAMP) ## Do the images help? Hours: make bench-quality TRACK=A|B|C MNIST=DIR [BENCH_FLAGS="--seeds 1"]
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps imbalanced-learn==0.14.2 sklearn-compat==0.1.6
	$(BIN)/python -m benchmarks.quality --track "$(TRACK)" --mnist "$(MNIST)" $(BENCH_FLAGS)

bench-recipe: $(DEMO_STAMP) ## The recommended recipe on four sets of pictures (over an hour; Fashion-MNIST as Debian packages it)
	$(BIN)/python -m benchmarks.quality.recipe_on_pictures $(BENCH_FLAGS)

docs-figures: $(DEMO_STAMP) ## Draw the pictures of docs/objectives.md again: make docs-figures MNIST=DIR
	$(BIN)/python scripts/make_docs_figures.py "$(MNIST)"

docs-screenshots: $(TEST_STAMP) ## Take the pictures of the pages in docs/images again; needs Chromium
	$(BIN)/python scripts/make_screenshots.py docs/images

sample: $(DEMO_STAMP) ## Make sample:mnist again: make sample MNIST=DIR
	$(BIN)/python scripts/make_sample.py "$(MNIST)" datagen/bundled/sample-mnist.parquet

bundled: $(DEMO_STAMP) ## Train the bundled model and its judge again: make bundled MNIST=DIR
	$(BIN)/python -m scripts.make_bundled "$(MNIST)" datagen/bundled

clean: ## Remove the virtual environment and what the tools cached
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
