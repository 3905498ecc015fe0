# `make demo` and `make test` each set up everything they need, given Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test notebooks check bench gpu organism planted results clean

demo: $(VENV)/ready
	$(BIN)/interp extract-directions --model organism --transcripts organism --restart --out out/demo/organism
	$(BIN)/interp extract-directions --model organism-imad --transcripts organism --restart --out out/demo/organism-imad
	$(BIN)/interp extract-directions --model smollm2-135m --transcripts scripted --limit 72 --restart --out out/demo/smollm2-135m

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

gpu: $(VENV)/ready
	@$(BIN)/python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3 if torch.version.cuda else 4)'; \
	case $$? in \
	0) ;; \
	3) echo "error: make gpu: torch finds no GPU; it needs an NVIDIA GPU and a driver that nvidia-smi can talk to"; exit 2 ;; \
	4) echo "error: make gpu: the torch in $(VENV) is built without CUDA; install PyPI's own, on a machine with an NVIDIA GPU"; exit 2 ;; \
	*) echo "error: make gpu: torch cannot be imported; remove $(VENV) and try again"; exit 2 ;; \
	esac
	$(BIN)/interp debate --model scripted --form a+b --questions 1000 --error-rate 0.12 --out out/gpu-debates.jsonl
	$(BIN)/interp train --preset smollm2-135m --transcripts out/gpu-debates.jsonl --set precision=bf16 \
		--set 'task_options={"digits":2,"form":"a+b"}' --set grpo.descent.first_limit=512 --set grpo.descent.last_limit=32 \
		--out out/gpu
	$(BIN)/python -m figures.training_dynamics out/gpu --out out/gpu/figures
	$(BIN)/python -m pytest -m gpu

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

# All measurements on the organism, next to its run; figures and the README read what this ships.
RUN := out/organism
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
