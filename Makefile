# Two commands do all set-up on a fresh Debian or Ubuntu machine, as root: `make up` and `make test`.
#
#   make up [IMAGE=bookworm|trixie] [PORT=8080] [SUBNET=198.18.0.0/24] [LAB=ingot]
#   make down [LAB=ingot]      make dev      make check      make release VERSION=X

SHELL := /bin/bash
LAB ?= ingot
PORT ?= 8080
SUBNET ?=
IMAGE ?= bookworm
VERSION ?=
export LAB PORT SUBNET IMAGE

PY := build/venv/bin/python
export PATH := $(CURDIR)/build/venv/bin:$(PATH):/usr/sbin:/sbin

.PHONY: help up down dev test check lint types unit release drill-integration drill-roll drill-intrusion drill-nats drill-silence drill-trixie benchmarks

help:
	@sed -n '3,4s/^#   //p' Makefile

up:
	@orchestrator/setup.sh up
	@$(PY) -m orchestrator.control.up

down:
	@if [ -x $(PY) ]; then $(PY) -m orchestrator.control.down; else echo "nothing was set up here"; fi

dev:
	@orchestrator/setup.sh dev
	@build/venv/bin/ingot-lab dev up --port $(PORT)

test:
	@orchestrator/setup.sh test
	@$(PY) -m tests.suite test

check:
	@orchestrator/setup.sh check
	@$(PY) -m tests.suite check

lint types unit:
	@orchestrator/setup.sh check
	@$(PY) -m tests.suite $@

# The end-to-end tests on Debian 13, which `make test` runs on Debian 12.
drill-trixie:
	@orchestrator/setup.sh test
	@INGOT_E2E_IMAGE=trixie $(PY) -m pytest tests/lab/test_platform.py tests/lab/test_platform_orchestrator.py --durations=15

# Integration tests of a minute and more; `make test` has smaller versions of them.
drill-integration:
	@orchestrator/setup.sh test
	@$(PY) -m pytest tests/integration -m drill --durations=5

# A roll of a whole platform by its orchestrator, and back; `make test` rolls with playbooks on fewer machines.
drill-roll:
	@orchestrator/setup.sh test
	@$(PY) -m pytest tests/lab/drill_roll.py --durations=5 -s

# Every kind of guest, client and bus user tries to exceed its rights; prints attempts that were not refused, writes build/bench/intrusion.json.
drill-intrusion:
	@orchestrator/setup.sh test
	@$(PY) -m pytest tests/lab/drill_intrusion.py -s

# Ten minutes without the bus under constant load; `make test` shows the same for less than one. Prints its figures as a line of JSON.
drill-nats:
	@orchestrator/setup.sh test
	@INGOT_NATS_OUTAGE=600 $(PY) -m pytest tests/lab/test_platform_router.py -k bus -s

# Disturbs one part after the other under constant load: ccdb, its clock, the share, the bus, disks. Writes build/bench/silence.json.
drill-silence:
	@orchestrator/setup.sh test
	@$(PY) -m tests.integration.drill_silence

# One benchmark by its name (`make bench-router`: tests/bench/bench_router.py), or all; each writes build/bench/NAME.json.
bench-%:
	@orchestrator/setup.sh test
	@$(PY) -m tests.bench.bench_$(subst -,_,$*)

benchmarks: $(patsubst tests/bench/bench_%.py,benchmark-%,$(wildcard tests/bench/bench_*.py))

benchmark-%:
	@$(MAKE) bench-$(subst _,-,$*)

release:
	@test -n "$(VERSION)" || { echo "name it: make release VERSION=1.2.3" >&2; exit 2; }
	@orchestrator/setup.sh dev
	@$(PY) -m orchestrator.control.release_builder --version "$(VERSION)" --out build/releases
