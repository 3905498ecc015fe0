# `make demo` and `make test` each set up everything they need; Python 3.11+ and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench gpu clean

demo: $(VENV)/ready
	$(BIN)/interp extract-directions --model smollm2-135m --transcripts scripted --limit 72 --out out/demo

test: check
	$(BIN)/python -m pytest

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.extraction
	$(BIN)/python -m benchmarks.answering

gpu: $(VENV)/ready
	@$(BIN)/python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3 if torch.version.cuda else 4)'; \
	case $$? in \
	0) ;; \
	3) echo "error: make gpu: torch finds no GPU; it takes an NVIDIA GPU and a driver that nvidia-smi can talk to"; exit 2 ;; \
	4) echo "error: make gpu: the torch in $(VENV) is built without CUDA; it takes PyPI's own, and an NVIDIA GPU"; exit 2 ;; \
	*) echo "error: make gpu: torch cannot be imported; remove $(VENV) and try again"; exit 2 ;; \
	esac
	$(BIN)/interp train --preset smollm2-135m --set precision=bf16 --out out/gpu
	$(BIN)/python -m figures.training_dynamics out/gpu --out out/gpu/figures
	$(BIN)/python -m pytest -m gpu

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11; give a newer one, as in make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,train]'
	@touch $@

clean:
	rm -rf $(VENV) out
