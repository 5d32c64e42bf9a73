"""A platform raised by `make up` on a lab of its own, as a newcomer raises it; evidence is kept when a test fails."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.common.plain_http import NO_TLS
from orchestrator.lab import keys
from tests.lab.kernel_lab import kernel_lab, kernels
from tests.support import ports, waiting

__all__ = ["kernel_lab", "kernels"]

ROOT = Path(__file__).resolve().parent.parent.parent
DOMAIN = "ingot.localhost"
LAB = "e2e"
ROUTERS = ("router1", "router2")
# Machines of continuous integration are shared: a condition gets a deadline that only a defect reaches.
PATIENCE = 120.0

# The balancer repeats no request, so that readiness alone keeps requests from a missing router.
HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 2s
  retries 0
frontend front
  bind 127.0.0.1:{port}
  default_backend routers
backend routers
  balance roundrobin
  option httpchk GET /readyz
  default-server check port {probes} inter 500ms fall 1 rise 1
  http-response set-header X-Served-By %s
{servers}
"""


until = partial(
    waiting.until,
    seconds=PATIENCE,
    pause=0.2,
    despite=(AssertionError, httpx.HTTPError, ValueError, KeyError, subprocess.CalledProcessError),
)


@dataclass
class LabPlatform:
    """The platform as its users see it, and its machines as its operators do."""

    port: int
    seconds: float
    output: str

    @property
    def folder(self) -> Path:
        return ROOT / "build" / "labs" / LAB

    def make(self, goal: str) -> subprocess.CompletedProcess[str]:
        return make(goal, self.port)

    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((ROOT / "build" / "up.json").read_text())
        return loaded

    def ingot(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "INGOT_HOME": str(self.folder / "home"), "NO_COLOR": "1"}
        done = subprocess.run(
            [str(ROOT / "build" / "venv" / "bin" / "ingot"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            pytest.fail(f"ingot {shlex.join(arguments)} gave {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ingot(*arguments, "--json").stdout)

    def get(self, app: str, path: str = "/", timeout: float = 10) -> httpx.Response:
        return httpx.get(
            f"http://127.0.0.1:{self.port}{path}",
            headers={"Host": f"{app}.{DOMAIN}"},
            timeout=timeout,
            verify=NO_TLS,
        )

    def answers(self, app: str, count: int) -> list[dict[str, Any]]:
        found = []
        for _ in range(count):
            response = self.get(app)
            response.raise_for_status()
            found.append(response.json())
        return found

    def on(self, machine: str, *command: str, check: bool = True) -> str:
        """Run a command as root on a machine, over SSH with its host key checked."""
        address = next(m["address"] for m in self.report()["machines"] if m["name"] == machine)
        ssh = self.folder / "ssh"
        options = ["-i", str(ssh / keys.PRIVATE), "-o", f"UserKnownHostsFile={ssh / keys.KNOWN_HOSTS}"]
        options += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20"]
        done = subprocess.run(
            ["ssh", *options, f"root@{address}", shlex.join(command)],
            capture_output=True,
            text=True,
            check=check,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def lab(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(ROOT / "build" / "venv" / "bin" / "ingot-lab"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            pytest.fail(
                f"ingot-lab {shlex.join(arguments)} gave {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def routers(self) -> dict[str, tuple[str, int]]:
        """Return the address of each router."""
        return {m["name"]: (m["address"], 80) for m in self.report()["machines"] if m["name"] in ROUTERS}

    def machine(self, name: str) -> dict[str, Any]:
        """Return the platform's record of a DEA machine."""
        address = next(m["address"] for m in self.report()["machines"] if m["name"] == name)
        return next(m for m in self.json("machines") if m["address"] == address)


@contextlib.contextmanager
def traffic(platform: LabPlatform, app: str) -> Iterator[list[str]]:
    """Send requests to an application while the block runs; yield the list of failures."""
    failures: list[str] = []
    stop = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            asked += 1
            try:
                response = platform.get(app, timeout=20)
                if response.status_code != 200:
                    failures.append(f"{response.status_code} {response.text[:80]}")
            except httpx.HTTPError as error:
                failures.append(repr(error))
            stop.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join()
        assert asked > 0


def live(platform: LabPlatform, app: str, count: int) -> dict[str, str]:
    """Ask until `count` instances have answered; return instance id -> DEA."""
    seen: dict[str, str] = {}

    def all_answered() -> bool:
        seen.clear()
        for answer in platform.answers(app, 10 * count):
            seen[answer["instance_id"]] = answer["dea"]
        return len(seen) == count

    until(all_answered, f"{count} instances of {app} answer")
    return dict(seen)


def make(goal: str, port: int) -> subprocess.CompletedProcess[str]:
    environment = {
        k: v for k, v in os.environ.items() if k not in {"SUBNET", "IMAGE", "MAKEFLAGS", "MAKELEVEL"}
    }
    environment |= {"LAB": LAB, "PORT": str(port), "IMAGE": os.environ.get("INGOT_E2E_IMAGE", "bookworm")}
    return subprocess.run(
        ["make", goal],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def free_port() -> int:
    return ports.free_port()


@pytest.fixture(scope="session")
def platform(free_port: int) -> Iterator[LabPlatform]:
    """Raise a platform once for all tests of the folder; take it down whatever happens."""
    make("down", free_port)
    started = time.monotonic()
    done = make("up", free_port)
    up = LabPlatform(free_port, time.monotonic() - started, done.stdout)
    try:
        if done.returncode:
            evidence("make-up")
            pytest.fail(f"make up gave {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        yield up
    finally:
        make("down", free_port)


@pytest.fixture
def balancer(platform: LabPlatform, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A balancer in front of both routers, which asks their readiness as `docs/router.md` says."""
    port = ports.free_port()
    servers = [f"  server {name} {host}:{p}" for name, (host, p) in platform.routers().items()]
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, probes=9031, servers="\n".join(servers)))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], cwd=tmp_path)
    door = "127.0.0.1", port

    def open_now() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(door, 5):
            return True
        return False

    try:
        until(open_now, "the balancer listens")
        yield door
    finally:
        process.terminate()
        process.wait(20)


def evidence(name: str) -> None:
    """Keep the journals of all machines under `build/evidence`."""
    target = ROOT / "build" / "evidence" / name
    target.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        subprocess.run(
            [str(ROOT / "build" / "venv" / "bin" / "ingot-lab"), "evidence", LAB, str(target)],
            check=False,
            capture_output=True,
            timeout=300,
        )
    for log in (ROOT / "build" / "labs" / LAB).glob("*.log"):
        (target / log.name).write_bytes(log.read_bytes())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and report.failed and "platform" in getattr(item, "fixturenames", ()):
        evidence(item.name.replace("/", "_"))
    return report
