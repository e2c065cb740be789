# `make bench` and `make test` are all a fresh machine needs: Python 3.11+ with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e
EXPORT_VENV := .venv-export

.PHONY: bench test phones lint export-env clean

bench: $(STAMP)  ## the main job: the quick set on this machine, a speedup table at the end
	$(BIN)/bench run --models quick

test: $(TEST_STAMP)  ## everything that CI checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.phone.setup --vm
	$(BIN)/pytest -m '' -n 2 --dist loadfile

phones: $(TEST_STAMP)  ## only the long runs on the emulated phone: every framework, every fault
	$(BIN)/python -m tests.phone.setup
	$(BIN)/pytest -m slow

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[peers,reports]'
	touch $@

$(TEST_STAMP): $(STAMP)  ## the tests also look at the extras
	$(INSTALL) '.[test,all]'
	$(BIN)/bench frameworks install tflite tflite-runtime ncnn
	touch $@

export-env: constraints.txt  ## only to regenerate the pinned graphs: PyTorch and the model libraries
	$(PYTHON) -m venv $(EXPORT_VENV)
	$(EXPORT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[export,test]'
	$(EXPORT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps timm==1.0.31

clean:
	rm -rf $(VENV) $(EXPORT_VENV) build *.egg-info
