# `make run` does the whole thing once: made-up mammograms -> dataset -> search -> report.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install run test test-slow lint docs bench clean

install: $(READY)

# torch first and by its exact version: that is the build without CUDA where the index offers one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev]'
	touch $@

run: install
	$(BIN)/python -m diagram_ray.tune

# One thread in each of two processes: with more, the threads of one wait for processors that the other has.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# Real clusters, of which one part after the other is killed, browsers, thousands of malformed files.
test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# docs/settings.md and docs/study.schema.json, from the settings in the code.
docs: install
	$(BIN)/python -m diagram_ray.study.reference.settings_page docs

bench: install
	@for name in $(sort $(basename $(notdir $(wildcard benchmarks/*.py)))); do \
		echo "== benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name || exit; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
