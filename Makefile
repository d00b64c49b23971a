# Every target makes what it needs, from nothing but Python 3.10 or newer.

PYTHON ?= python3
# The torch to install; for a GPU or another CPU build say for example TORCH="torch --index-url https://download.pytorch.org/whl/cu130"
TORCH ?= torch==2.13.0
MODEL ?= openai/clip-vit-base-patch32

BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: demo test lint bench verify-model wheel clean

demo: .venv/demo.done
	$(BIN)/clip-qdrant demo

test: .venv/test.done
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2

lint: .venv/lint.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/test.done
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/storage.py 20000
	$(BIN)/python benchmarks/text_query.py 20000
	$(BIN)/python benchmarks/generate.py

verify-model: .venv/demo.done
	$(BIN)/python benchmarks/verify_model.py $(MODEL)

wheel: .venv/test.done
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# torch goes in first: a plain requirement for it would take a build of several gigabytes.
.venv/demo.done: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

.venv/test.done: .venv/demo.done
	$(BIN)/pip install --quiet --group test
	touch $@

.venv/lint.done: .venv/demo.done
	$(BIN)/pip install --quiet --group lint
	touch $@
