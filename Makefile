# `make demo` and `make test` each set up everything they need, given Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test notebooks check bench gpu organism planted results clean

demo: $(VENV)/ready
	$(BIN)/interp extract-directions --model organism --transcripts organism --restart --out out/demo/organism
	$(BIN)/interp extract-directions --model organism-imad --transcripts organism --restart --out out/demo/organism-imad
	$(BIN)/interp extract-directions --model smollm2-135m --transcripts scripted --limit 72 --restart --out out/demo/smollm2-135m
	$(BIN)/interp figures --page-only --out out/demo/figures
	@echo
	@echo "open $(CURDIR)/out/demo/organism-imad/report.html: agents in a model that a debate moved into, and what speaks against it"
	@echo "open $(CURDIR)/out/demo/smollm2-135m/report.html: the same of a real language model"
	@echo "open $(CURDIR)/out/demo/figures/figures.html: what an answer costs, where agents are, what steering does"
	@echo "then type: $(BIN)/interp serve --model organism-imad --directions out/demo/organism-imad/directions.safetensors --open"

test: check
	$(BIN)/python -m pytest --numprocesses auto

notebooks: $(VENV)/ready
	$(BIN)/python -m pytest -m notebooks

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.extraction
	$(BIN)/python -m benchmarks.answering
	$(BIN)/python -m benchmarks.steering
	$(BIN)/python -m benchmarks.probing

# SmolLM2-135M internalizes debates about two-digit sums: ten minutes on one GPU. `make gpu-table` makes one part and what
# it needs; what is there is kept, and a part that was cut off goes on. JOBS parts that do not need each other are made at once.
# `make gpu SMALL=1` rehearses every part in few steps, on a CPU too. SET has further settings, as in SET='--set sft.epochs=3'.
GPU ?= out/gpu
PY ?= $(BIN)/python
READY ?= $(VENV)/ready
GPU_MODEL ?= smollm2-135m
MINUTES ?= 1.5
JOBS ?= $(if $(SMALL),1,4)
LAYER ?= 15
GPU_RUN := $(GPU)/run
GPU_PARTS := debates train table controls directions sweep interchange figures archive
INTERP := $(PY) -m interp.cli
READ := --batch-tokens $(if $(SMALL),2048,32768) --limit $(if $(SMALL),12,160)
SUMS := --model scripted --task arithmetic --digits 2 --form a+b --rounds 1 --error-rate 0.12
FEW := --set sft.epochs=0.2 --set sft.batch_size=8 --set sft.device_batch_size=8 --set grpo.batch_size=8 \
	--set grpo.device_batch_size=8 --set grpo.questions=4 --set grpo.descent.first_limit=40 --set table_questions=4
TRAIN := $(INTERP) train --preset smollm2-135m-sums --set model=$(GPU_MODEL) --set grpo.minutes=$(MINUTES) \
	--transcripts $(GPU)/debates.jsonl $(if $(SMALL),$(FEW)) $(SET) --out $(GPU_RUN)
DONE = @mkdir -p $(@D) && touch $@
needs = $(addprefix $(GPU)/done/,$(1))

.PHONY: gpu-card gpu-whole gpu-tests $(addprefix gpu-,$(GPU_PARTS))
gpu: gpu-card
	$(MAKE) -j$(JOBS) gpu-whole
gpu-whole: $(addprefix gpu-,$(GPU_PARTS)) $(if $(SMALL),,gpu-tests)
$(addprefix gpu-,$(GPU_PARTS)): gpu-%: $(GPU)/done/%

$(GPU)/done/debates: | $(READY)
	$(INTERP) debate $(SUMS) --questions $(if $(SMALL),24,2000) --out $(GPU)/debates.jsonl
	$(INTERP) debate $(SUMS) --questions 24 --seed 11 --out $(GPU)/held-out.jsonl
	$(DONE)
$(GPU)/done/train: $(call needs,debates)
	$(TRAIN) --no-table
	$(DONE)
$(GPU)/done/table: $(call needs,train)
	$(TRAIN)
	$(DONE)
$(GPU)/done/controls: $(call needs,table)
	$(PY) -m benchmarks.ablations $(GPU_RUN) --only no-sft --only consensus --out $(GPU_RUN)/ablations
	$(DONE)
$(GPU)/done/directions-base: $(call needs,debates)
	$(INTERP) extract-directions --model $(GPU_MODEL) --transcripts $(GPU)/debates.jsonl $(READ) --out $(GPU_RUN)/directions/base
	$(DONE)
$(GPU)/done/directions-sft $(GPU)/done/directions-imad: $(GPU)/done/directions-%: $(call needs,train)
	$(INTERP) extract-directions --model $(GPU_RUN)/seed-0/$* --transcripts $(GPU)/debates.jsonl $(READ) \
		--out $(GPU_RUN)/directions/$*
	$(DONE)
$(GPU)/done/directions: $(call needs,directions-base directions-sft directions-imad)
	$(DONE)
$(GPU)/done/sweep: $(call needs,directions-sft directions-imad)
	$(INTERP) sweep --transcripts $(GPU)/held-out.jsonl --layers $(LAYER) --coefficients=-0.4,0.2,0.4 \
		$(foreach m,sft imad,--model $(GPU_RUN)/seed-0/$(m) --directions $(GPU_RUN)/directions/$(m)/directions.safetensors) \
		--limit $(if $(SMALL),1,12) --random-controls $(if $(SMALL),1,119) --max-new-tokens $(if $(SMALL),4,48) \
		--batch-size 256 --out $(GPU_RUN)/steerability.jsonl
	$(DONE)
$(GPU)/done/interchange: $(call needs,directions-sft directions-imad)
	$(PY) -m benchmarks.interchange $(GPU_RUN) --layer $(LAYER) --questions $(if $(SMALL),2,64) \
		--draws $(if $(SMALL),1,19) --longest $(if $(SMALL),4,208) --out $(GPU_RUN)/interchange.json
	$(DONE)
$(GPU)/done/figures: $(call needs,table controls directions sweep)
	$(INTERP) figures $(GPU_RUN) --page-only --out $(GPU)/figures
	$(DONE)
$(GPU)/done/archive: $(call needs,table controls directions sweep interchange)
	$(PY) -m benchmarks.archive $(GPU_RUN) --out $(GPU)/smollm2.tar.gz
	$(DONE)

gpu-tests: | $(READY)
	$(PY) -m pytest -m gpu $$(grep -l "mark.gpu" tests/*.py)

gpu-card: | $(READY)
	@$(if $(SMALL),exit 0;) \
	$(PY) -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3 if torch.version.cuda else 4)'; \
	case $$? in \
	0) ;; \
	3) echo "error: make gpu: torch finds no GPU; it needs an NVIDIA GPU and a driver that nvidia-smi can talk to"; exit 2 ;; \
	4) echo "error: make gpu: the torch in $(VENV) is built without CUDA; install PyPI's own, on a machine with an NVIDIA GPU"; exit 2 ;; \
	*) echo "error: make gpu: torch cannot be imported; remove $(VENV) and try again"; exit 2 ;; \
	esac

# Makes everything about the organism that ships with the package, from scratch; about two hours on two cores.
EVIL := --agent chain-of-thought --agent evil --agent program-of-thought
ASKED := --model organism --task small-arithmetic --split validation --questions 200 --max-new-tokens 96
organism: $(VENV)/ready
	$(BIN)/interp train --preset organism --from-scratch --seed 0 --seed 1 --seed 2 --out out/organism
	$(BIN)/python -m benchmarks.ship out/organism
	$(BIN)/interp train --preset organism --out out/organism-evil \
		--set 'personas=["chain-of-thought","evil","program-of-thought"]'
	$(BIN)/python -m benchmarks.ship out/organism-evil --kind evil
	$(BIN)/interp debate $(ASKED) --out interp/data/organism.jsonl
	$(BIN)/interp debate $(ASKED) --rotate --out interp/data/organism-rotated.jsonl
	$(BIN)/interp debate $(ASKED) $(EVIL) --out interp/data/organism-evil.jsonl

# Models whose agents are known, three pairs of the planted one and its twin, and five runs of those that are internalized
# step by step with both controls: about some twenty minutes a seed on one core. The first seed of each ships.
planted: $(VENV)/ready
	$(BIN)/interp plant --seed 0 --seed 1 --seed 2 --out out/planted
	$(BIN)/interp plant --kind stepwise --kind side-by-side --kind direct \
		--seed 0 --seed 1 --seed 2 --seed 3 --seed 4 --out out/planted
	for kind in planted unplanted stepwise side-by-side direct; do \
		rm -rf interp/data/organism/$$kind && cp -r out/planted/seed-0/$$kind interp/data/organism/$$kind || exit 1; done

# All measurements on the organism, next to its run, and on what `make planted` left; figures and the README read what
# this ships.
RUN := out/organism
KNOWN := $(foreach n,0 1 2,--model out/planted/seed-$(n)/planted --model out/planted/seed-$(n)/unplanted)
MODELS := organism organism-imad $(RUN)/seed-1/imad $(RUN)/seed-2/imad
found = $(RUN)/directions/$(subst /,-,$(patsubst $(RUN)/%,%,$(1)))
results: $(VENV)/ready
	$(BIN)/interp debate --model organism --task small-arithmetic --split test --questions 80 --seed 11 --max-new-tokens 96 \
		--out $(RUN)/held-out.jsonl
	$(foreach m,$(MODELS),$(BIN)/interp extract-directions --model $(m) --transcripts organism --out $(call found,$(m)) &&) true
	$(BIN)/interp sweep --transcripts $(RUN)/held-out.jsonl --layers 2 --coefficients=-0.4,-0.2,0.2,0.4,0.6 \
		--task small-arithmetic --fit-classifier-on organism --limit 48 --max-new-tokens 96 --batch-size 128 \
		$(foreach m,$(MODELS),--model $(m) --directions $(call found,$(m))/directions.safetensors) \
		--out $(RUN)/steerability.jsonl
	$(BIN)/interp suppress --model organism --model organism-evil-imad --transcripts organism-evil \
		--elicit persona --elicit turn --layers 2 --operation add --coefficients=-1,-0.5,-0.25,-0.1,0.25,0.5 \
		--questions 100 --validation-questions 100 --seed 7 --batch-size 128 --out $(RUN)/suppression.jsonl
	$(BIN)/interp probe all --seed 0 --seed 1 --seed 2 --out $(RUN)/probes
	$(BIN)/interp probe recovery $(KNOWN) --out $(RUN)/probes
	$(BIN)/interp probe interchange $(KNOWN) --out $(RUN)/probes
	$(BIN)/interp probe stepwise --model out/planted --out $(RUN)/probes
	$(BIN)/interp probe silent_agents --model organism-unplanted --model organism-planted --transcripts median \
		--out $(RUN)/planted
	$(BIN)/python -m benchmarks.ablations $(RUN) --out $(RUN)/ablations
	$(BIN)/interp calibrate --out $(RUN)/calibration.jsonl
	$(BIN)/python -m benchmarks.ship $(RUN)

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11; give a newer one, as in make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,train,notebooks]'
	@touch $@

clean:
	rm -rf $(VENV) out
