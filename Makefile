# haemo: every step of the pipeline as a target. 'make help' lists them.
#
#   make index DATA=path/to/slices RUN=runs/first
#   make features                  stage one, once
#   make svm ARGS="--kernel rbf"   stage two, as often as you like

PYTHON ?= python3
VENV   ?= .venv
RUN    ?= runs/first
DATA   ?=
STUDY  ?=
OUT    ?=
ARGS   ?=
EXTRAS := dicom,pacs,demo,serve,track,export,cluster,dev,docs

BIN       := $(VENV)/bin
HAEMO     := $(BIN)/haemo
INSTALLED := $(VENV)/.installed

# Exit code 3 means done, but some inputs could not be used: the next step goes on with the others.
GO_ON = || [ $$? -eq 3 ]

.DEFAULT_GOAL := help
.PHONY: help setup test test-portable lint format build docs lock sbom links clean demo doctor index features pool types \
	svm softmax mlp train blend cnn finetune lenet tinyvgg run segment compare predict explain leakage learning-curve \
	report evaluate pack export serve verify phantom builtin-model fuzz fuzz-parsers torture audit screenshots \
	bench-features bench-heads bench-training bench-explain bench-phantom bench-coverage bench-claims bench-segment \
	bench-volumes bench-onnx bench-page bench-scale bench-gpu bench-decoding bench-pixels bench-recipes bench-trunk

help: ## List every target
	@printf 'usage: make TARGET [DATA=folder] [RUN=runs/first] [ARGS="options of haemo TARGET"]\n\n'
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' \
		| awk -F '\t' '{printf "  %-16s %s\n", $$1, $$2}'

# ---- set-up ------------------------------------------------------------------------------------------

setup: $(INSTALLED) ## Make the environment in .venv and install haemo in it

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "haemo needs Python 3.11 or newer; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || \
		{ echo "python3 -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing haemo and what it needs into $(VENV) (PyTorch is large: 8 GB of disk, some minutes, once)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@

# ---- the pipeline ------------------------------------------------------------------------------------

demo: $(INSTALLED) ## All of it on a phantom cohort, in minutes
	$(HAEMO) demo $(ARGS)

doctor: $(INSTALLED) ## Check this machine: PASS, WARN or FAIL, and the remedy
	$(HAEMO) doctor $(ARGS)

index: $(INSTALLED) ## DATA -> RUN/manifest.csv
	@[ -n "$(DATA)" ] || { echo "name the folder with the slices: make index DATA=folder RUN=$(RUN)" >&2; exit 2; }
	$(HAEMO) index "$(DATA)" --run "$(RUN)" $(ARGS)

features: $(INSTALLED) $(RUN)/manifest.csv ## Stage one: RUN/features.h5
	$(HAEMO) features --run "$(RUN)" $(ARGS)
	@touch $(RUN)/features.h5

svm softmax mlp train: $(INSTALLED) $(RUN)/features.h5
	$(HAEMO) $@ --run "$(RUN)" $(ARGS)

cnn finetune lenet tinyvgg: $(INSTALLED) $(RUN)/manifest.csv
	$(HAEMO) $@ --run "$(RUN)" $(ARGS)

pool types: $(INSTALLED) $(RUN)/features.h5
	$(HAEMO) $@ --run "$(RUN)" $(ARGS)

blend compare leakage learning-curve report verify: $(INSTALLED)
	$(HAEMO) $@ --run "$(RUN)" $(ARGS)

evaluate: $(INSTALLED) ## Judge the models of RUN on slices of elsewhere: DATA=folder OUT=judged
	@[ -n "$(DATA)" ] || { echo "name labelled slices: make evaluate DATA=folder OUT=judged RUN=$(RUN)" >&2; exit 2; }
	$(HAEMO) evaluate --run "$(RUN)" "$(DATA)" --out "$(or $(OUT),judged)" $(ARGS)

pack: $(INSTALLED) ## One file of a model, to hand over: OUT=svm.haemo ARGS="--head svm"
	@[ -n "$(OUT)" ] || { echo "name the file: make pack OUT=svm.haemo RUN=$(RUN)" >&2; exit 2; }
	$(HAEMO) pack --run "$(RUN)" "$(OUT)" $(ARGS)

export: $(INSTALLED) ## The same as ONNX: OUT=svm.onnx ARGS="--head svm"
	@[ -n "$(OUT)" ] || { echo "name the file: make export OUT=svm.onnx RUN=$(RUN)" >&2; exit 2; }
	$(HAEMO) export --run "$(RUN)" "$(OUT)" $(ARGS)

serve: $(INSTALLED) ## The reader's page of RUN, on this machine; ARGS="--head svm"
	$(HAEMO) serve --run "$(RUN)" $(ARGS)

pacs: $(INSTALLED) ## Results for a PACS; ARGS="listen --model builtin --to PACS@host:104"
	$(HAEMO) pacs $(ARGS)

predict explain: $(INSTALLED)
	$(HAEMO) $@ --run "$(RUN)" $(ARGS) $(if $(DATA),"$(DATA)")

run: $(INSTALLED) ## A whole study, as a file says: STUDY=study.toml
	@[ -n "$(STUDY)" ] || { echo "name the study file: make run STUDY=study.toml (docs/study.md)" >&2; exit 2; }
	$(HAEMO) run "$(STUDY)" $(ARGS)

segment: $(INSTALLED) $(RUN)/manifest.csv ## Blood, pixel by pixel: learned from masks, and measured
	$(HAEMO) segment train --run "$(RUN)" $(ARGS)
	$(HAEMO) segment score --run "$(RUN)"

phantom: $(INSTALLED) ## Write a phantom cohort into DATA
	@[ -n "$(DATA)" ] || { echo "name the folder to write: make phantom DATA=folder" >&2; exit 2; }
	$(HAEMO) phantom "$(DATA)" $(ARGS)

$(RUN)/manifest.csv: | $(INSTALLED)
	@[ -n "$(DATA)" ] || { echo "$(RUN) is not indexed yet: make index DATA=folder RUN=$(RUN)" >&2; exit 2; }
	$(HAEMO) index "$(DATA)" --run "$(RUN)" $(GO_ON)

$(RUN)/features.h5: $(RUN)/manifest.csv | $(INSTALLED)
	$(HAEMO) features --run "$(RUN)" $(GO_ON)
	@touch $@

# Targets that share one recipe, for 'make help'.
svm: ## Stage two: support vector machine
softmax: ## Stage two: multinomial logistic regression
mlp: ## Stage two: multi-layer perceptron
pool: ## Labels of studies: one embedding a study, into RUN/studies
types: ## Several types of bleed a slice: a head for each
train: ## Stage two: any classifier; ARGS="--estimator CLASS --name NAME"
blend: ## Several heads of a run as one more model; ARGS="--heads svm,softmax"
cnn: ## End to end: convolutional network from scratch
finetune: ## End to end: fine-tuned AlexNet
lenet: ## End to end: LeNet
tinyvgg: ## End to end: TinyVGG
compare: ## One table of every trained model, with differences
predict: ## Score the files or folder DATA; ARGS="--head svm"
explain: ## Where the evidence lies, and how well that is localised
leakage: ## What leaks across the split, and what it is worth
learning-curve: ## How the score grows with the number of patients
report: ## RUN/report.html, self-contained
verify: ## Read the feature store back and check every byte

# ---- development -------------------------------------------------------------------------------------

# One thread a worker: none waits for the threads of another, and the cores are full all the same. A worker for each
# that the system counts (auto would take two threads of a core for one), at most 4, as each holds PyTorch in memory. All
# tests of a file go to one worker, which so makes what they share once; tests/conftest.py says which files come first.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile \
	--no-loadscope-reorder
# The oldest instructions that PyTorch, oneDNN, MKL, OpenBLAS and numpy have kernels for: sums in another order.
DISPATCHED := from numpy._core._multiarray_umath import __cpu_dispatch__ as kernels, __cpu_features__ as found
PORTABLE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem \
	NPY_DISABLE_CPU_FEATURES="$$($(BIN)/python -c '$(DISPATCHED); print(*(name for name in kernels if found[name]))')"

test: $(INSTALLED) ## Run the tests
	$(PYTEST) $(ARGS)

test-portable: $(INSTALLED) ## Run the tests of numbers on the oldest instructions there are kernels for
	$(PORTABLE) $(PYTEST) -m numerical $$(grep -l mark.numerical tests/test_*.py) $(ARGS)

lint: $(INSTALLED) links ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck containers/install .ci/run
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(INSTALLED) ## sdist and wheel, into dist/
	rm -rf dist *.egg-info
	$(BIN)/python -m build --no-isolation

# What haemo itself needs, without the tools to work on it.
LOCKED := $(foreach extra,dicom pacs serve track export cluster,--extra $(extra))

lock: $(INSTALLED) ## Versions and hashes of all that haemo needs, into requirements.lock
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile setup.cfg $(LOCKED) --universal --python-version 3.11 \
		--generate-hashes --quiet --output-file requirements.lock $(ARGS)

sbom: $(INSTALLED) ## What the locked environment consists of, as CycloneDX: build/sbom.json
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements.lock --output-reproducible -o build/sbom.json
	@echo "written: build/sbom.json"

docs: $(INSTALLED) links ## The documentation as a site, into build/site/index.html
	$(BIN)/python -m mkdocs build --quiet --strict

# The folders in the places they are imported from, for tools that read files and no setup.cfg.
links:
	@mkdir -p build/typing/haemo
	@cd build/typing/haemo && ln -sfn ../../../haemo/* ../../../features ../../../models ../../../pipeline . \
		&& find -L . -type l -delete  # what is gone

# Each step is skipped where it was done before; the same seeds give the same bytes on one kind of machine. What is
# outlined is chosen on a second cohort, of which the classifier of pixels has seen nothing.
BUILT := build/builtin
# $(call cohort,NAME,OPTIONS of haemo phantom): BUILT/NAME, unless it is there whole, and its run BUILT/NAME-run
cohort = { [ -e $(BUILT)/$(1)/cohort.json ] || $(HAEMO) phantom $(BUILT)/$(1) $(2); } && \
	$(HAEMO) index $(BUILT)/$(1) --run $(BUILT)/$(1)-run
mixed := --population mixed --slices 10..14 --prevalence 0.65 --size 384
segmenter := $(HAEMO) segment train --train-fraction 0.9 --looks 2 --palest 46

builtin-model: $(INSTALLED) ## Train the built-in trunk and segmenter anew on phantoms, an hour of 2 cores
	$(call cohort,heads,--patients 100 --slices 8..10 --prevalence 0.5 --seed 404)
	$(call cohort,heads-mixed,$(mixed) --patients 240 --seed 101)
	$(call cohort,heads-more,$(mixed) --patients 240 --seed 303)
	OMP_NUM_THREADS=1 $(HAEMO) segment trunk --run $(BUILT)/heads-run --run $(BUILT)/heads-mixed-run \
		--run $(BUILT)/heads-more-run --train-fraction 0.9 --steps 3000 \
		--note "trained on synthetic heads only, not validated on patients" --out $(BUILT)/trunk.safetensors
	cp $(BUILT)/trunk.safetensors models/weights/builtin.safetensors
	$(call cohort,pixels,$(mixed) --patients 480 --seed 202)
	$(segmenter) --run $(BUILT)/pixels-run
	$(call cohort,tuning,--population mixed --patients 160 --slices 6..8 --size 256 --seed 1)
	$(segmenter) --run $(BUILT)/tuning-run --from $(BUILT)/pixels-run/segment/model.safetensors
	cp $(BUILT)/tuning-run/segment/model.safetensors pipeline/segmenting/builtin.safetensors

bench-trunk: $(INSTALLED) ## What the last layer of the built-in trunk says of the slices of RUN, untrained
	$(BIN)/python benchmarks/bench_trunk.py --run "$(RUN)" $(ARGS)

bench-segment: $(INSTALLED) ## Slices outlined a second, beside scikit-learn's own trees
	$(BIN)/python benchmarks/bench_segment.py $(ARGS)

bench-pixels: $(INSTALLED) ## Classifiers of pixels, descriptors and hypercolumns beside each other
	$(BIN)/python benchmarks/bench_pixels.py $(ARGS)

bench-features: $(INSTALLED) ## Stage one against a straightforward peer
	$(BIN)/python benchmarks/bench_features.py $(ARGS)

bench-recipes: $(INSTALLED) ## What the recipe best costs of stage one's speed
	$(BIN)/python benchmarks/bench_recipes.py $(ARGS)

bench-heads: $(INSTALLED) ## Stage two against scikit-learn's GridSearchCV
	$(BIN)/python benchmarks/bench_heads.py $(ARGS)

bench-training: $(INSTALLED) ## Fine-tuning against a plain loop
	$(BIN)/python benchmarks/bench_training.py $(ARGS)

bench-decoding: $(INSTALLED) ## Where the time of a slice goes, part by part, and what other decoders take
	$(BIN)/python benchmarks/bench_decoding.py $(ARGS)

bench-gpu: $(INSTALLED) ## All that a CUDA device is for, in under six minutes; ARGS="--device cpu --quick"
	$(BIN)/python benchmarks/bench_gpu.py $(ARGS)

bench-explain: $(INSTALLED) ## Prediction with and without explanation
	$(BIN)/python benchmarks/bench_explain.py $(ARGS)

bench-volumes: $(INSTALLED) ## Stage one from .nii.gz beside DICOM, and memory over 50 volumes
	$(BIN)/python benchmarks/bench_volumes.py $(ARGS)

bench-onnx: $(INSTALLED) ## An exported model beside PyTorch; RUN=run ARGS="--head svm"
	$(BIN)/python benchmarks/bench_onnx.py --run "$(RUN)" $(ARGS)

bench-coverage: $(INSTALLED) ## How often intervals hold the truth, beside percentiles of the bootstrap
	$(BIN)/python benchmarks/coverage.py $(ARGS)

bench-claims: $(INSTALLED) ## How often a sentence claims what is not so, by simulation
	$(BIN)/python benchmarks/claims.py $(ARGS)

bench-phantom: $(INSTALLED) ## Seconds a phantom slice, and transfer to real slices
	$(BIN)/python benchmarks/phantom_transfer.py $(ARGS)

bench-scale: $(INSTALLED) ## How time and memory of each step grow with the slices; ARGS="--sizes 1000,10000"
	$(BIN)/python benchmarks/bench_scale.py $(ARGS)

torture: $(INSTALLED) ## The commands killed, and under every fault of a machine; ARGS="--kills 1000"
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/torture.py $(ARGS)

audit: $(INSTALLED) ## Known holes in the installed packages; needs a network; ARGS="--service osv"
	$(BIN)/python benchmarks/audit.py $(ARGS)

bench-page: $(INSTALLED) ## Milliseconds a slice of the page, with four readers and one who drops studies
	$(BIN)/python benchmarks/bench_page.py $(ARGS)

screenshots: $(INSTALLED) ## Pictures of the page for its documentation; needs Debian's chromium
	$(BIN)/python benchmarks/screenshots.py $(ARGS)

.PHONY: pacs torture-pacs
torture-pacs: $(INSTALLED) ## A PACS listener killed again and again: nothing lost, nothing double; ARGS="--studies 60 --kills 10"
	PYTHONPATH=tests $(BIN)/python tests/torture_pacs.py $(ARGS)

fuzz: $(INSTALLED) ## Damaged files of every format: read, refused, or harm; ARGS="--files 10000"
	PYTHONPATH=tests $(BIN)/python benchmarks/fuzz.py $(ARGS)

fuzz-parsers: $(INSTALLED) ## Parsers in Python, fuzzed by the lines that inputs reach; ARGS="--seconds 60"
	PYTHONPATH=tests $(BIN)/python benchmarks/fuzz_parsers.py $(ARGS)

clean: ## Delete the environment and caches; runs are kept
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
