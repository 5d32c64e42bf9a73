"""The suite says where its processor time goes: each test has its own, and that of the processes it started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = """
import subprocess, sys, time
import pytest

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

BURN = "import time\\nwhile time.process_time() < 0.5: pass\\nprint(flush=True)\\n"

@pytest.fixture
def daemon():
    process = subprocess.Popen([sys.executable, "-c", BURN + "input()"], stdin=-1, stdout=-1)
    process.stdout.readline()
    yield process
    process.communicate(b"go")

def test_with_one_that_runs_on(daemon):
    assert daemon.poll() is None

def test_with_one_that_has_ended():
    subprocess.run([sys.executable, "-c", BURN], check=True)

def test_itself():
    burn(0.5)

def test_nothing():
    pass
"""


def test_each_test_is_charged_with_all_it_started(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    target = tmp_path / "made" / "time.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.processor_time", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "INGOT_PROCESSOR_TIME": str(target)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(target.read_text())
    tests = {name.partition("::test_")[2]: seconds for name, seconds in found["tests"].items()}
    for name in ("with_one_that_runs_on", "with_one_that_has_ended", "itself"):
        assert tests[name] >= 0.45, tests
    assert tests["nothing"] < 0.2, tests
    assert found["fixtures"]["daemon (function)"] >= 0.45
    assert found["files"]["test_sample.py"] >= 1.4
    assert found["total"] >= 1.4
    lines = done.stdout.splitlines()
    assert any(line.endswith("s test_sample.py::test_itself") for line in lines), done.stdout
    assert any(line.endswith("s of processor time in all") for line in lines), done.stdout


def test_nobody_who_does_not_ask_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text("def test_nothing(): pass\n")
    environment = {name: value for name, value in os.environ.items() if name != "INGOT_PROCESSOR_TIME"}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.processor_time", str(tmp_path)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "processor time" not in done.stdout
