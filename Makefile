# make demo: the whole chain on two CPU cores. make test: the tests. Both install their packages first; see `make help`.

PYTHON ?= python3
# Looked up here: below, the virtual environment comes first on PATH.
SYSTEM_PYTHON := $(shell command -v $(PYTHON))
CORES ?= 2
CONFIG ?= config/demo.yaml
REPORT := results/report/report.html
REPORT_RULES := write_report result_tables training_cost most_improved list_warnings

# Snakemake ends in a traceback if one is missing.
$(foreach file,$(CONFIG),$(if $(wildcard $(file)),,$(error CONFIG: no such file: $(file))))

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/created.stamp
PACKAGES := $(VENV)/packages.stamp
OPS := $(VENV)/mmcv-ops.stamp
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip
# Names the jobs of this clone, so that `demo` finds those that a killed run left behind.
RUN_MARK := 'FREEMASK_RUN=$(subst ','\'',$(CURDIR))'
SNAKEMAKE := env $(RUN_MARK) $(BIN)/snakemake --configfile $(CONFIG)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
export MPLBACKEND := Agg
# One thread per process: Snakemake spreads the cores over jobs, and sums do not depend on a thread count.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export NUMEXPR_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
# Weights come from files with a checksum, never from a hub at run time.
export HF_HUB_OFFLINE := 1
unexport PYTHONPATH PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## show this help
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	echo "Variables: PYTHON ($(PYTHON)), CORES ($(CORES)), CONFIG ($(CONFIG)), PYTEST_ARGS"

.PHONY: demo
demo: $(PACKAGES) ## the whole chain on a miniature data set, from raw data to the report: 2 cores, no GPU
	@$(wait_for_jobs)
	$(SNAKEMAKE) --cores $(CORES) --rerun-incomplete
	$(write_snakemake_report)

# Only rules that read what is finished: a report never starts a training.
.PHONY: report
report: $(PACKAGES) ## write the report page of finished results (CONFIG=config/config.yaml for the paper's run)
	@$(SNAKEMAKE) --cores 1 --allowed-rules $(REPORT_RULES) -- $(REPORT)
	$(write_snakemake_report)
	echo "report: $(CURDIR)/$(REPORT)"

.PHONY: status
status: ## how far a run is, also during it (ARGS="--folder FOLDER", "--run NAME" or "--page status.html")
	@[ -e $(PACKAGES) ] || { echo "status: no run yet; make demo, e.g., installs the packages first" >&2; exit 1; }
	$(BIN)/python -m freemask.reporting.status $(ARGS)

TRAINED := results/miniworld/generator_training/miniature/pipeline

.PHONY: generator
generator: $(PACKAGES) ## train the miniature generator from scratch, as the shipped one was (90 minutes on one core)
	@$(SNAKEMAKE) --cores $(CORES) --rerun-incomplete $(TRAINED)/model_index.json
	echo "generator: $(CURDIR)/$(TRAINED); sample pictures beside it; to ship it, copy it to resources/miniature-generator"

.PHONY: test
test: $(OPS) ## all tests but the long ones on Slurm; compiles mmcv's ops once per user (18 minutes on 2 cores)
	@$(BIN)/pytest -m "not slurm_long" --numprocesses $(CORES) --dist loadfile $(PYTEST_ARGS)

.PHONY: test-slurm
test-slurm: $(PACKAGES) ## faults on a real Slurm, 15 minutes (root; Debian: slurm-wlm munge slurmdbd mariadb-server)
	@$(BIN)/pytest tests/slurm --numprocesses 6 --dist loadfile $(PYTEST_ARGS)

.PHONY: lint
lint: $(PACKAGES) ## ruff, import-linter, snakefmt, snakemake --lint
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile rules
	$(SNAKEMAKE) --lint

.PHONY: format
format: $(PACKAGES) ## let ruff and snakefmt rewrite the code
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

.PHONY: clean
clean: ## delete the demo's data and results
	rm -rf data/miniworld results/miniworld results/report logs/miniworld logs/report logs/plan.json

.PHONY: distclean
distclean: clean ## delete the virtual environment and all caches of this clone as well
	rm -rf $(VENV) .snakemake .pytest_cache .ruff_cache build freemask.egg-info

# After a SIGKILL, Snakemake's jobs continue and its lock stays. Wait for the jobs (or for another `make demo` in this
# folder), then remove the lock. Linux only; on other systems the user removes it (snakemake --unlock).
define wait_for_jobs
if [ -d /proc/self ]; then
    running() { grep -lzxF $(RUN_MARK) /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | paste -sd' ' || true; }
    if [ -n "$$(running)" ]; then echo "demo: waiting for jobs of an earlier run in this folder (process $$(running))"; fi
    while [ -n "$$(running)" ]; do sleep 2; done
    if [ -n "$$(find .snakemake/locks -type f 2>/dev/null)" ]; then
        echo "demo: an earlier run was killed; removing its lock"
        $(SNAKEMAKE) --cores 1 --unlock
    fi
fi
endef

# Snakemake's own report. It says nothing unless it fails: the lines before it are the run's results.
define write_snakemake_report
$(SNAKEMAKE) --cores 1 --report $(dir $(REPORT))snakemake.html > logs/snakemake_report.log 2>&1 ||
    { cat logs/snakemake_report.log >&2; exit 1; }
endef

$(CREATED):
	@if ! '$(SYSTEM_PYTHON)' -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	    echo "error: $(PYTHON) is not Python 3.11 or newer with the venv module." >&2
	    echo "       On Debian or Ubuntu: apt-get install python3-venv. Another Python: make PYTHON=python3.11 ..." >&2
	    exit 1
	fi
	echo "virtual environment: $(VENV) ($$($(SYSTEM_PYTHON) --version))"
	$(SYSTEM_PYTHON) -m venv --clear $(VENV)
	touch $@

# torch is installed first, so that later packages keep its version. The OpenMMLab packages are installed last and without
# their own requirements (see pyproject.toml). This mmcv is pure Python; pip's cache, which may hold a compiled one, is off.
$(PACKAGES): pyproject.toml constraints.txt requirements-openmmlab.txt requirements-mask2former.txt | $(CREATED)
	@started=$$SECONDS
	echo "packages: installing into $(VENV), about 2 minutes and 2 GB (more where pip finds torch with CUDA only)"
	pinned="--quiet --constraint constraints.txt --build-constraint constraints.txt"
	$(PIP) install --quiet --constraint constraints.txt pip
	$(PIP) install $$pinned torch
	$(PIP) install $$pinned --editable '.[workflow,mask2former,dev]'
	env -u MMCV_WITH_OPS $(PIP) install $$pinned --no-deps --no-cache-dir --requirement requirements-openmmlab.txt
	$(PIP) install $$pinned --no-deps --requirement requirements-mask2former.txt
	$(BIN)/python -c 'import cv2, cyclopts, diffusers, mmcv, mmengine, mmseg, snakemake, torch, transformers, freemask'
	touch $@
	echo "packages: installed in $$((SECONDS - started)) s"

$(OPS): $(PACKAGES) envs/mmcv_ops.sh
	@envs/mmcv_ops.sh $(BIN)/python
	touch $@
