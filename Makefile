# Every target sets itself up in .venv the first time; README.md has the same commands without make.

PYTHON ?= python3
# A torch the tests are known to pass with; TORCH=torch takes the newest. It goes into the same pip
# command as everything else, so that no other package can pull in a different one.
TORCH ?= torch==2.13.0
RUN = .venv/bin/python

.PHONY: demo test bench lint clean

demo: .venv/ready
	$(RUN) -m tessera demo

test: .venv/ready
	$(RUN) -m pytest

bench: .venv/ready
	$(RUN) -m tessera bench --all --write docs/benchmarks.md

lint: .venv/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

clean:
	rm -rf .venv *.egg-info build dist .pytest_cache .ruff_cache .hypothesis

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install "$(TORCH)" -e ".[training,test]"
	touch $@
