# hami-dra.  `make` lists what there is.  Needs Linux and Python 3.11+; `demo`, `test` and `bench` need root for namespaces.
.DEFAULT_GOAL := help
.PHONY: help demo test check versions bench campaign soak test-gpu mutation generate format clean
SHELL := /bin/sh

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## two real nodes, simulated GPUs, the whole story on screen (KEEP=1 keeps the cluster)
	@python=$$(hack/bootstrap --cluster)/python && exec $$python hack/demo $(if $(KEEP),--keep)

test: ## everything that CI runs, with one line of counts at the end
	@python=$$(hack/bootstrap --cluster)/python && exec $$python hack/test

check: ## the fast half: lint, types, layers, unit and property tests
	@python=$$(hack/bootstrap)/python && exec $$python hack/check

versions: ## the e2e suite on every Kubernetes (ON=1.35+gates: on one), and docs/versions.md made of it
	@python=$$(hack/bootstrap --cluster)/python && exec $$python hack/versions $(if $(ON),--on $(ON))

bench: ## measure prepare, publishing, guard and start-up against the budgets
	@python=$$(hack/bootstrap --cluster)/python && for name in prepare publish guard compute overrun; do $$python test/bench/$$name || exit 1; done

campaign: ## ten million operations over every route to device memory (OPERATIONS=...), none of which may pass the limit
	@python=$$(hack/bootstrap)/python && HAMI_CAMPAIGN_OPERATIONS=$(or $(OPERATIONS),10000000) exec $$python -m pytest -q -s --durations=0 test/native/guard/test_campaign.py

soak: ## the fault campaign at length: OPERATIONS (10000) by at most PODS (40) from SEED (1), nodes broken all the while
	@python=$$(hack/bootstrap --cluster)/python && HAMI_SOAK_OPERATIONS=$(or $(OPERATIONS),10000) HAMI_SOAK_PODS=$(or $(PODS),40) HAMI_SOAK_SEED=$(or $(SEED),1) exec $$python -m pytest -q -s test/faults/test_campaign.py

test-gpu: ## try the guard on this machine's NVIDIA GPU (elsewhere: hack/gpu bundle DIRECTORY, copy it, run DIRECTORY/run)
	@python=$$(hack/bootstrap)/python && exec $$python hack/gpu test

mutation: ## change core in thousands of ways and count what no test notices (MODULES="plan layout"; hours for all of it)
	@python=$$(hack/bootstrap)/python && exec $$python hack/mutation $(MODULES)

generate: ## rewrite what is generated: protobuf, the ABI's JSON and constants, JSON Schemas, tables of docs/
	@python=$$(hack/bootstrap)/python && exec $$python hack/generate

format: ## format Python and C
	@bin=$$(hack/bootstrap) && $$bin/ruff format -q . && $$bin/ruff check -q --fix . && git ls-files '*.c' '*.h' | xargs $$bin/clang-format -i

clean: ## remove the cache outside of the tree
	rm -rf "$${HAMI_DRA_CACHE:-$$HOME/.cache/hami-dra}"
