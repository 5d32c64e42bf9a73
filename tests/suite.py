"""The suite: its parts in order, quick ones first, each timed; `make test` runs all, `make check` the quick ones.

    python tests/suite.py test|check|<part>...

Output of a part goes to `build/logs/<part>.log`, and to the terminal where it fails. The last part of `test` writes to the
terminal directly, so that the run ends with pytest's closing line.
"""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
BIN = ROOT / "build" / "venv" / "bin"
SIDE_BY_SIDE = 2
# Operations on a whole platform share one, each on what the one before left (molecule/shared/README.md).
VERBS = ("scale_out", "scale_in", "roll", "rollback")
VERBS_LAB = "mol-verbs"


@dataclass(frozen=True)
class Part:
    """One part: a name, the command, whether `make check` runs it too, the lab that is its own, its scenario, more environment."""

    name: str
    command: tuple[str, ...]
    quick: bool = False
    lab: str = ""
    scenario: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    keeps_lab: bool = False


def pytest(*arguments: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", *arguments)


def scenarios() -> list[list[Part]]:
    """Give one lane for every molecule scenario and one for all verbs, the longest first so that two side by side end together."""
    found = {p.parent.name for p in (ROOT / "molecule").glob("*/molecule.yml")}
    verbs = [name for name in VERBS if name in found]
    shared = (("INGOT_VERBS_LAB", VERBS_LAB),)
    chain = [
        replace(molecule(name), lab=VERBS_LAB, environment=shared, keeps_lab=name != verbs[-1])
        for name in verbs
    ]
    weight = {"nfs": 0, "services": 1, "dea": 2, "router": 3, "controller": 4, "stager": 5, "release": 6}
    alone = sorted(found - set(VERBS), key=lambda n: (weight.get(n, 9), n))
    return [*([chain] if chain else []), *([molecule(name)] for name in alone)]


def molecule(scenario: str) -> Part:
    """Give a scenario as a part on a lab of its own."""
    command = (str(BIN / "molecule"), "test", "--destroy=never", "-s", scenario)
    return Part(f"molecule-{scenario}", command, lab=f"mol-{scenario}".replace("_", "-"), scenario=scenario)


LINT = [
    Part("ruff", (str(BIN / "ruff"), "check", "."), quick=True),
    Part("format", (str(BIN / "ruff"), "format", "--check", "."), quick=True),
    Part("types", (str(BIN / "mypy"), "components", "orchestrator", "tests"), quick=True),
    Part("ansible-lint", (str(BIN / "ansible-lint"), "--offline", "-q"), quick=True),
]
CONTRACT = sorted((ROOT / "tests" / "contract").glob("test_*.py"))
CLIENT = [p for p in CONTRACT if p.name.startswith("test_client_")]
# All at once: contract tests wait for HTTP most of their time, so two cores are enough.
QUICK = [
    LINT,
    [Part("unit", pytest("tests/unit", "-q", "--durations=5"), quick=True)],
    [Part("contract-client", pytest("-q", "--durations=5", *map(str, CLIENT)), quick=True)],
    [
        Part(
            "contract",
            pytest("-q", "--durations=5", *(str(p) for p in CONTRACT if p not in CLIENT)),
            quick=True,
        )
    ],
]
# These wait more than they compute, so they share the machine with the scenarios.
INTEGRATION = Part("integration", pytest("tests/integration", "-q", "-m", "not drill", "--durations=20"))
MACHINES = Part(
    "machines",
    pytest("-q", "--durations=5", *sorted(str(p) for p in (ROOT / "tests" / "lab").glob("test_lab_*.py"))),
)
PLATFORM = Part(
    "platform",
    pytest(
        "--durations=15",
        *(
            f"tests/lab/test_platform{n}.py"
            for n in ("", "_frameworks", "_app_update", "_router", "_engine", "_removed")
        ),
    ),
)


def run(part: Part, *, live: bool = False) -> tuple[Part, int, float]:
    """Run one part; give its exit code and seconds."""
    started = time.monotonic()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    environment |= dict(part.environment)
    if part.scenario:
        # Machines went with the lab the last time, and molecule does not know: it would not make them again.
        reset = (str(BIN / "molecule"), "reset", "-s", part.scenario)
        subprocess.run(reset, cwd=ROOT, env=environment, check=True, capture_output=True)
    if live:
        code = subprocess.run(part.command, cwd=ROOT, env=environment, check=False).returncode
    else:
        with (LOGS / f"{part.name}.log").open("w") as log:
            code = subprocess.run(
                part.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
    if part.lab and (code or not part.keeps_lab):
        end_lab(part.lab, keep_evidence=bool(code))
    return part, code, time.monotonic() - started


def run_lane(lane: list[Part], done: Callable[[Part, int, float], None]) -> None:
    """Run parts one after the other, each only if the one before passed; `done` hears of each at once."""
    for part in lane:
        result = run(part)
        done(*result)
        if result[1]:
            break


def end_lab(name: str, *, keep_evidence: bool) -> None:
    """Remove the lab of a part; where the part failed, keep its machines' journals under `build/evidence` first."""
    command = str(BIN / "ingot-lab")
    if keep_evidence:
        target = ROOT / "build" / "evidence" / name
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run([command, "evidence", name, str(target)], cwd=ROOT, check=False, capture_output=True)
    subprocess.run([command, "down", name], cwd=ROOT, check=False, capture_output=True)


def report(part: Part, code: int, seconds: float) -> None:
    """Say how a part ended; show the end of its output when it failed."""
    print(f"{'ok  ' if code == 0 else 'FAIL'} {part.name:24} {seconds:7.1f} s", flush=True)
    if code:
        lines = (LOGS / f"{part.name}.log").read_text(errors="replace").splitlines()
        print("\n".join(lines[-120:]), flush=True)


def main(wanted: list[str]) -> int:
    """Run what was asked; 0 when everything passed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    lanes = scenarios()
    # By its name, a verb is run on a lab of its own; `verbs` is all of them on one.
    alone_too = [molecule(part.name.removeprefix("molecule-")) for lane in lanes for part in lane]
    everything = [*(part for lane in QUICK for part in lane), INTEGRATION, MACHINES, *alone_too, PLATFORM]
    stages: list[list[list[Part]]]
    if wanted == ["test"]:
        stages, last = [QUICK, [[INTEGRATION], *lanes, [MACHINES]]], PLATFORM
    elif wanted == ["check"]:
        stages, last = [QUICK], None
    else:
        aliases = {
            "lint": [p for p in LINT if p.name != "types"],
            "verbs": [part for lane in lanes for part in lane if part.lab == VERBS_LAB],
        }
        asked = [p for name in wanted for p in aliases.get(name, [p for p in everything if p.name == name])]
        stages, last = [[asked]], None
        if not asked:
            print(f"no such part; there are {', '.join(p.name for p in everything)}", file=sys.stderr)
            return 2
    times: list[tuple[float, str]] = []
    failed: list[str] = []

    def done(part: Part, code: int, seconds: float) -> None:
        report(part, code, seconds)
        times.append((seconds, part.name))
        if code:
            failed.append(part.name)

    for stage in stages:
        with concurrent.futures.ThreadPoolExecutor(len(QUICK) if stage is QUICK else SIDE_BY_SIDE) as pool:
            for lane in [pool.submit(run_lane, lane, done) for lane in stage]:
                lane.result()
        if failed:
            return 1
    times.sort(reverse=True)
    print("slowest parts: " + ", ".join(f"{name} {seconds:.0f} s" for seconds, name in times[:8]), flush=True)
    return run(last, live=True)[1] if last else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["check"]))
