# Everything here sets itself up: on a fresh machine, `make demo` and `make test` need only
# Python 3.11 to 3.13 and make.

PYTHON ?= python3
VENV ?= .venv
# PyTorch comes first and by itself, from the CPU builds: the general index would bring gigabytes of
# CUDA along. Where that index cannot be reached, pip takes a wheel from its --find-links folder.
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu
TORCH = torch==2.13.0

BIN = $(VENV)/bin
READY = $(VENV)/ready
WORKERS ?= 2

.PHONY: demo test lint faults e2e secrets bench-env reference docs-images clean

demo: $(READY)  ## tune a small DQN with two workers on an embedded PostgreSQL
	$(BIN)/trialfleet run studies/demo.toml --workers $(WORKERS)

test: lint  ## lint, then every test but the slow ones, on a real PostgreSQL
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not docker"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

faults: $(READY)  ## what `make test` leaves out for its time: slow tests, most of them of faults
	$(BIN)/python -m pytest -m "slow and not docker"

e2e: $(READY)  ## the containers, for real: needs a Docker engine with Compose v2 and Buildx
	$(BIN)/python -m pytest -m docker tests/e2e

# For deployments other than docker-compose.yml, which makes its own; docs/deploy.md says when.
SECRETS ?= secrets
DATABASE_HOST ?= postgres
DATABASE_PORT ?= 5432
DATABASE_QUERY ?=
secrets:  ## passwords and database URLs in $(SECRETS); what is there already stays
	$(PYTHON) deploy/image/make_secrets.py "$(SECRETS)" --host "$(DATABASE_HOST)" \
	  --port "$(DATABASE_PORT)" --query "$(DATABASE_QUERY)"

bench-env: $(READY)  ## what the benchmarks compare with
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'

reference: $(READY)  ## the tables of docs/reference.md, from the code
	$(BIN)/python -m docs.reference

docs-images: $(READY)  ## the pictures in docs/images, of the demo: needs Chromium, and a machine that does nothing else
	$(BIN)/python -m benchmarks.images

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}; set PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import importlib.metadata as m, sys; sys.exit(m.version("torch").split("+")[0] != "$(TORCH)".split("==")[1])' 2>/dev/null \
	  || $(BIN)/pip install --quiet --no-deps --retries 1 --timeout 15 --extra-index-url $(TORCH_INDEX_URL) $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[worker,embedded,report,tensorboard,dashboard,metrics,play,onnx,dev]'
	$(BIN)/python -m worker.trainers.dqn.compiled
	touch $(READY)

clean:
	rm -rf $(VENV) .trialfleet models build *.egg-info .mypy_cache .ruff_cache .pytest_cache
