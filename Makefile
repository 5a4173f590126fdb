# `make demo` and `make test` do all their own set-up (see deploy/dev/setup.sh).
.PHONY: demo test test-all lint docs setup constraints clean
.DEFAULT_GOAL := help

RUN := .venv/bin/
TEST_EXTRAS := cpu,loop,postgres,s3,train,export,cluster,docs,dev
PYTEST := $(RUN)python -m pytest -n 2 --dist worksteal

help:
	@echo "make demo [VIDEO=file-or-folder]   a camera, an agent, a broker and a store here; report in demo-out/"
	@echo "make test                          style, types, import rules and tests (make test-all: the slow ones too)"
	@echo "make lint                          style, types and import rules only"
	@echo "make docs                          this documentation as a site, in site/"

demo:
	@deploy/dev/setup.sh cpu,loop,train,export
	@$(RUN)walt-loop demo --out demo-out $(if $(VIDEO),--video "$(VIDEO)")

setup:
	@deploy/dev/setup.sh $(TEST_EXTRAS)

lint: setup
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)lint-imports
	$(RUN)mypy

# Every warning is an error (mkdocs.yml).
docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --quiet

test: lint docs
	$(PYTEST) -m "not slow"

test-all: lint docs
	$(PYTEST)

# Resolves all extras together and writes what came out.
constraints: setup
	$(RUN)python deploy/dev/constraints.py

clean:
	rm -rf .venv demo-out site
