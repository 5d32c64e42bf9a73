"""`make up`: the whole platform on machines of this host, with an application that answers through it.

Phases: packages and virtual environment (timed by `setup.sh`), images, machines, release, converge, application. Where machines cannot be
made, the development harness runs the same components as plain processes. Ends with a table, and the same as JSON in
`build/up.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from components.common.errors import IngotError
from components.common.filesystem.files import write_atomically
from components.common.version import VERSION
from orchestrator.control import ansible_playbook
from orchestrator.control.phases import Phases, end_step, say, step
from orchestrator.inventory import platform_secrets, release_record
from orchestrator.lab.client import LabClient
from orchestrator.lab.layout import DEFAULT, Layout
from orchestrator.lab.up import Raised, bring_up

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
DOMAIN = "ingot.localhost"
HELLO = "hello"
# The Python that each image's distribution ships, as the release builder names it.
TARGETS = {"bookworm": "311", "trixie": "313"}
_ANSWER_SECONDS = 60.0


class UpError(IngotError):
    """`make up` did not get to the end; the text names the failed part and the place to look at."""


def main() -> None:
    """Raise the platform; exit 1 with the reason where that fails."""
    facts = read_setup(BUILD / "setup.env")
    phases = Phases(started=time.time() - float(facts["PACKAGES_SECONDS"]) - float(facts["VENV_SECONDS"]))
    phases.add("packages", float(facts["PACKAGES_SECONDS"]))
    phases.add("environment", float(facts["VENV_SECONDS"]))
    port = int(os.environ.get("PORT") or 8080)
    try:
        if facts["WAY"] == "processes":
            say(
                f"machines cannot be made here: {facts['WHY']}; the components run as plain processes instead"
            )
            report = up_processes(phases, port, facts["WHY"])
        else:
            report = up_machines(
                phases,
                name=os.environ.get("LAB") or "ingot",
                image=os.environ.get("IMAGE") or "bookworm",
                port=port,
                subnet=facts.get("SUBNET") or None,
            )
    except IngotError as error:
        end_step()
        sys.stderr.write(f"make up failed: {error}\n")
        raise SystemExit(1) from error
    show(report)


def read_setup(path: Path) -> dict[str, str]:
    """Return the facts that `setup.sh` left: `WAY`, `WHY`, `SUBNET`, `PACKAGES_SECONDS`, `VENV_SECONDS`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def up_machines(phases: Phases, name: str, image: str, port: int, subnet: str | None) -> dict[str, Any]:
    """Raise lab, release, platform and application; return the report.

    Raises:
        IngotError: the reason of a failure.
    """
    layout = Layout(DEFAULT.machines, image)
    with LabClient() as client, ThreadPoolExecutor(1) as pool:
        release = pool.submit(build_release, TARGETS[image])
        say("machines: image, network, boot (the release is built meanwhile)")
        lab = bring_up(
            client, ROOT, name, layout, subnet=subnet, port=port, report=lambda line: step(f"  {line}")
        )
        end_step()
        for phase, seconds in lab.phases:
            phases.add(phase, seconds)
        with phases.phase("release", "wheels for the machines' Python, with no index on them"):
            release.result()
    folder = lab.folder.path
    (folder / "up").touch()
    release_version, plays = settled_release(lab.folder.inventory)
    secrets = platform_secrets.lab_secrets(lab.folder.inventory)
    write_atomically(folder / "admin_password", str(secrets["ingot_admin_password"]) + "\n")
    with phases.phase("converge", "playbooks/site.yml"):
        recap = ansible_playbook.run("site.yml", lab.folder.inventory, folder / "site.log", plays=plays)
    with phases.phase("application", f"push of tests/apps/{HELLO}"):
        answer = push_hello(port, str(secrets["ingot_admin_password"]), folder / "home")
    health = folder / "health.json"
    report_to = {"health_report": str(health)}
    ansible_playbook.run("health.yml", lab.folder.inventory, folder / "health.log", report_to, plays=plays)
    return phases.write(
        BUILD / "up.json",
        way="machines",
        lab=name,
        image=image,
        version=release_version,
        urls=urls(port),
        changed_tasks=sum(r.changed for r in recap.values()),
        machines=describe(lab, json.loads(health.read_text(encoding="utf-8"))),
        application=answer,
    )


def settled_release(folder: Path) -> tuple[str, Path]:
    """Return the release to install and the folder of its plays: this checkout's, unless a roll brought another one.

    A release that an older checkout merely installed does not stay: its plays are not the checkout's any more.
    """
    recorded = release_record.recorded_release(folder)
    plays = BUILD / "releases" / str(recorded) / "plays"
    if recorded not in {None, VERSION} and release_record.was_rolled(folder) and plays.is_dir():
        say(
            f"  release {recorded} was rolled here and stays; `ingot platform roll {VERSION}`: this checkout's"
        )
        return str(recorded), plays
    release_record.record_release(folder, VERSION)
    return VERSION, ROOT


def up_processes(phases: Phases, port: int, why: str) -> dict[str, Any]:
    """Raise the development harness in the background, and the application on it; return the report."""
    state = BUILD / "dev"
    harness = [sys.executable, "-m", "orchestrator.dev"]
    with phases.phase("processes", "the components on loopback"):
        runs = (
            subprocess.run([*harness, "status"], cwd=ROOT, check=False, capture_output=True).returncode == 0
        )
        if (
            not runs
            and subprocess.run(
                [*harness, "up", "--port", str(port), "--detach"], cwd=ROOT, check=False
            ).returncode
        ):
            raise UpError(f"the components did not start; their logs are in {state}")
        (state / "up").touch()
    with phases.phase("application", f"push of tests/apps/{HELLO}"):
        password = (state / "admin_password").read_text(encoding="utf-8").strip()
        answer = push_hello(port, password, state / "home")
    return phases.write(
        BUILD / "up.json",
        way="processes",
        why=why,
        version=VERSION,
        urls=urls(port),
        machines=[],
        application=answer,
    )


def build_release(target: str) -> None:
    """Build the release of this checkout for one Python.

    Raises:
        UpError: with the end of the builder's output.
    """
    command = [
        sys.executable,
        "-m",
        "orchestrator.control.release_builder",
        "--version",
        VERSION,
        "--out",
        str(BUILD / "releases"),
    ]
    command += ["--python", target]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    (BUILD / "release.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise UpError(f"the release could not be built: {(done.stdout + done.stderr)[-2000:]}")


def push_hello(port: int, password: str, home: Path) -> dict[str, Any]:
    """Make sure that `hello` runs, pushing it where it does not; return its answer through nginx.

    Raises:
        UpError: the push failed, or the application does not answer.
    """
    ingot(home, "target", f"http://api.{DOMAIN}:{port}")
    ingot(home, "login", f"admin@{DOMAIN}", INGOT_PASSWORD=password)
    try:
        return ask_hello(port, 0.0)
    except UpError:
        ingot(home, "push", HELLO, "--path", str(ROOT / "tests" / "apps" / HELLO))
    return ask_hello(port, _ANSWER_SECONDS)


def ingot(home: Path, *arguments: str, **environment: str) -> None:
    """Run the client as a person would, with a home of its own.

    Raises:
        UpError: with what it printed.
    """
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ingot"), *arguments],
        env={**os.environ, **environment, "INGOT_HOME": str(home), "NO_COLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise UpError(f"ingot {arguments[0]}: {done.stdout}{done.stderr}")


def ask_hello(port: int, patience: float) -> dict[str, Any]:
    """Request the application through nginx until it answers or `patience` seconds are over.

    Raises:
        UpError: it does not answer with its JSON.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            # Names below localhost are loopback (RFC 6761); the resolver here may not know that.
            got = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": f"{HELLO}.{DOMAIN}"}, timeout=10)
            got.raise_for_status()
            answer: dict[str, Any] = got.json()
        except (httpx.HTTPError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise UpError(f"http://{HELLO}.{DOMAIN}:{port}/ does not answer: {error}") from error
            time.sleep(0.2)
        else:
            return answer


def urls(port: int) -> dict[str, str]:
    """Return the addresses that a person can open."""
    return {"api": f"http://api.{DOMAIN}:{port}/", HELLO: f"http://{HELLO}.{DOMAIN}:{port}/"}


def describe(lab: Raised, health: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the lab's machines with the daemons' own facts: `[{"name", "address", "components": [...]}]`."""
    return [
        {
            "name": machine.name,
            "address": machine.address,
            "state": machine.state,
            "components": [
                {k: row.get(k) for k in ("component", "version", "state")}
                for row in health
                if row["host"] == machine.name
            ],
        }
        for machine in lab.lab.machines
    ]


def show(report: Mapping[str, Any]) -> None:
    """Print the closing tables."""
    console = Console(soft_wrap=True)
    if report["machines"]:
        table = Table("machine", "address", "component", "version", "state")
        for machine in report["machines"]:
            for number, row in enumerate(machine["components"] or [{}]):
                first = (machine["name"], machine["address"]) if not number else ("", "")
                table.add_row(*first, row.get("component"), row.get("version"), row.get("state"))
        console.print(table)
    table = Table("phase", "seconds")
    for phase in report["phases"]:
        table.add_row(phase["name"], f"{phase['seconds']:.1f}")
    table.add_row("total", f"{report['total_seconds']:.1f}")
    console.print(table)
    if "changed_tasks" in report:
        console.print(f"tasks that changed something: {report['changed_tasks']}")
    for name, url in report["urls"].items():
        console.print(f"{name}: {url}")


if __name__ == "__main__":
    main()
