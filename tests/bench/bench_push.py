"""A small application from `ingot push` to its first 200, cold and warm, on a whole platform of processes on loopback.

    python -m tests.bench.bench_push [--platforms N] [--pushes N] [--quick] [--out FILE]

The clock starts when the client does and stops when the router answers 200 for the application. Cold is the first push of a
platform that has just been raised: no application was staged, placed or routed on it. Warm are the later pushes, each of a new
application whose file differs, so that each is staged. The peer of the same run is the application by hand: the command of its instance,
with its environment and folder, on another port, until its first 200; the time of a push beyond that is the platform's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg

from orchestrator.dev.harness import Platform
from orchestrator.dev.settings import Settings
from tests.bench import machine
from tests.integration.servers import postgres
from tests.support.ports import free_port

APP = machine.ROOT / "tests" / "apps" / "hello"
GOAL_WARM, GOAL_COLD = 5.0, 15.0
DEADLINE = 120.0
LOOK = 0.02
PHASE = re.compile(r"(\w[\w ]*?) ([\d.]+) s[,)]")


class BenchError(Exception):
    """A part of the platform did not come up."""


class Person:
    """A user of the client, logged in."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform, self.folder = platform, folder
        self.environment = {**os.environ, "INGOT_HOME": str(folder / "home"), "NO_COLOR": "1"}
        self.program = str(Path(sys.executable).parent / "ingot")
        self._call("target", platform.api_url)
        self._call("login", platform.settings.admin_email, INGOT_PASSWORD=platform.admin_password)

    def push(self, name: str, serial: int) -> tuple[float, dict[str, float]]:
        """Push the application under a name; return the seconds to its first 200, and those of each phase."""
        folder = self.folder / name
        shutil.copytree(APP, folder)
        with (folder / "wsgi.py").open("a") as source:
            source.write(f"\n# Number {serial}.\n")
        began = time.perf_counter()
        said = self._call("push", name, "--path", str(folder))
        pushed = time.perf_counter() - began
        deadline = time.monotonic() + DEADLINE
        while not self._answers(name):
            if time.monotonic() > deadline:
                raise BenchError(f"{name} does not answer")
            time.sleep(LOOK)
        total = time.perf_counter() - began
        phases = {label.strip(): float(value) for label, value in PHASE.findall(said.rpartition("took")[2])}
        known = sum(phases.values())
        phases["the client itself"] = round(max(pushed - known, 0.0), 2)
        phases["to the first 200"] = round(total - pushed, 2)
        return total, phases

    def process_of(self, name: str) -> int:
        """Return the process of an application's instance."""
        for dea in self.platform.settings.dea_names:
            for path in (self.platform.settings.state / dea / "units").glob("ingot-app-*.json"):
                record = json.loads(path.read_text())
                if not record["ended"]:
                    facts = json.loads(_environment(record["pid"]).get("VCAP_APPLICATION", "{}"))
                    if facts.get("name") == name:
                        return int(record["pid"])
        raise BenchError(f"no instance of {name}")

    def _answers(self, name: str) -> bool:
        try:
            return self.platform.get(name).status_code == 200
        except httpx.HTTPError:
            return False

    def _call(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"ingot {arguments[0]}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def by_hand(pid: int) -> float:
    """Start a process's command once more, on another port; return the seconds to its first 200."""
    environment = _environment(pid)
    old, port = environment["VCAP_APP_PORT"], str(free_port())
    words = [w.decode() for w in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]
    changed = {
        k: v if k == "VCAP_APPLICATION" else re.sub(rf"\b{old}\b", port, v) for k, v in environment.items()
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [re.sub(rf"\b{old}\b", port, w) for w in words],
        env=changed,
        cwd=Path(f"/proc/{pid}/cwd").readlink(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _is_200(f"http://127.0.0.1:{port}/"):
            if process.poll() is not None or time.perf_counter() - began > DEADLINE:
                raise BenchError(f"by hand it does not come up: {words}")
            time.sleep(LOOK)
        return time.perf_counter() - began
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(item.split("=", 1) for item in raw.split("\0") if "=" in item)


def _is_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def measure(platforms: int, pushes: int) -> dict[str, Any]:
    """Run the benchmark."""
    facts = machine.facts()
    cold: list[float] = []
    warm: list[float] = []
    hand: list[float] = []
    phases: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with ExitStack() as stack:
        address = stack.enter_context(postgres(durable=True))
        for round_ in range(platforms):
            with psycopg.connect(f"postgresql://ingot@{address}/postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE bench{round_}")
            with tempfile.TemporaryDirectory(prefix="ingot-bench-") as folder:
                settings = Settings(
                    Path(folder) / "dev",
                    port=0,
                    database_url=f"postgresql+psycopg://ingot@{address}/bench{round_}",
                    overrides={"stager": {"pip_extra_args": ["--no-index"]}},
                )
                with Platform(settings) as platform:
                    person = Person(platform, Path(folder))
                    for number in range(1 + pushes):
                        name = f"push{number}"
                        seconds, parts = person.push(name, number)
                        (warm if number else cold).append(seconds)
                        phases["warm" if number else "cold"].append(parts)
                        hand.append(by_hand(person.process_of(name)))
    peer = statistics.median(hand)
    reached = max(cold) <= GOAL_COLD and statistics.median(warm) <= GOAL_WARM
    return {
        "benchmark": "push",
        "warm_seconds": round(statistics.median(warm), 2),
        "cold_seconds": round(max(cold), 2),
        "goal_seconds": {"warm": GOAL_WARM, "cold": GOAL_COLD},
        "reached": reached,
        "warm_all": [round(s, 2) for s in warm],
        "cold_all": [round(s, 2) for s in cold],
        "by_hand_seconds": round(peer, 2),
        "ratio_warm_to_by_hand": round(statistics.median(warm) / peer, 1),
        "phases": {kind: _medians(of) for kind, of in phases.items()},
        "platforms": platforms,
        "pushes": pushes,
        "machine": facts,
    }


def _medians(of: list[dict[str, float]]) -> dict[str, float]:
    return {k: round(statistics.median(p.get(k, 0.0) for p in of), 2) for k in of[0]}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--platforms", type=int, default=2, help="so many are raised: each gives one cold push"
    )
    parser.add_argument("--pushes", type=int, default=5, help="warm ones on each")
    parser.add_argument("--quick", action="store_true", help="one cold, one warm")
    parser.add_argument("--out", type=Path, default=machine.output("push"))
    given = parser.parse_args(argv)
    if given.quick:
        given.platforms, given.pushes = 1, 1
    return machine.report(measure(given.platforms, given.pushes), given.out)


if __name__ == "__main__":
    main()
