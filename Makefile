# Two commands: `make demo` and `make test`. Each makes the environment first if it is missing, and compiles the ops of mmcv if
# it needs them: detection does, classification and faces do not.
# MMSSKD_VENV names another place for it than .venv.

export MMSSKD_VENV ?= .venv
PY := $(MMSSKD_VENV)/bin/python
TASK ?= classification

.PHONY: demo test lint docs env ops help

help:
	@echo 'make demo   train teacher, plain student and stage-by-stage student on handwritten digits (4 minutes);'
	@echo '            TASK=detection: a Faster R-CNN on photos, TASK=face: IJB-A-shaped faces,'
	@echo '            TASK=all: all three'
	@echo 'make test   run the test suite'
	@echo 'make lint   ruff: format and lint; mypy: types'
	@echo 'make docs   build the documentation into site/, links checked'
	@echo 'make env    only make the environment in $(MMSSKD_VENV)'
	@echo 'make ops    the same, with the ops of mmcv that detection needs'

env:
	@tools/setup_env.sh "$(MMSSKD_VENV)"

ops:
	@tools/setup_env.sh "$(MMSSKD_VENV)" ops

demo: $(if $(filter detection all,$(TASK)),ops,env)
	@$(PY) tools/demo.py $(TASK)

test: ops
	@$(PY) -m pytest

lint: env
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy mmsskd

docs: env
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet && echo 'site/index.html'
