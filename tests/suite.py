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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
BIN = ROOT / "build" / "venv" / "bin"
SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Part:
    """One part: a name, the command, whether `make check` runs it too, and the lab that is its own."""

    name: str
    command: tuple[str, ...]
    quick: bool = False
    lab: str = ""


def pytest(*arguments: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", *arguments)


def scenarios() -> list[Part]:
    """Give one part for every molecule scenario, the longest first so that two side by side end together."""
    found = sorted(p.parent.name for p in (ROOT / "molecule").glob("*/molecule.yml"))
    weight = {"site": 0, "dea": 1, "router": 2, "controller": 3, "stager": 4, "release": 5}
    return [
        Part(
            f"molecule-{name}",
            (str(BIN / "molecule"), "test", "--destroy=never", "-s", name),
            lab=f"mol-{name}".replace("_", "-"),
        )
        for name in sorted(found, key=lambda n: (weight.get(n, 9), n))
    ]


LINT = [
    Part("ruff", (str(BIN / "ruff"), "check", "."), quick=True),
    Part("format", (str(BIN / "ruff"), "format", "--check", "."), quick=True),
    Part("types", (str(BIN / "mypy"), "components", "orchestrator", "tests"), quick=True),
    Part("ansible-lint", (str(BIN / "ansible-lint"), "--offline", "-q"), quick=True),
]
QUICK = [
    *LINT,
    Part("unit", pytest("tests/unit", "-q"), quick=True),
    Part("contract", pytest("tests/contract", "-q"), quick=True),
]
INTEGRATION = [Part("integration", pytest("tests/integration", "-q", "--durations=10"))]
LAB = Part("lab", pytest("tests/lab", "--durations=15"))


def run(part: Part, *, live: bool = False) -> tuple[Part, int, float]:
    """Run one part; give its exit code and seconds."""
    started = time.monotonic()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    if live:
        code = subprocess.run(part.command, cwd=ROOT, env=environment, check=False).returncode
    else:
        with (LOGS / f"{part.name}.log").open("w") as log:
            code = subprocess.run(
                part.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
    if part.lab:
        end_lab(part.lab, keep_evidence=bool(code))
    return part, code, time.monotonic() - started


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
    everything = [*QUICK, *INTEGRATION, *scenarios(), LAB]
    if wanted == ["test"]:
        alone, together, last = [*QUICK, *INTEGRATION], scenarios(), LAB
    elif wanted == ["check"]:
        alone, together, last = QUICK, [], None
    else:
        aliases = {"lint": [p for p in LINT if p.name != "types"]}
        alone = [p for name in wanted for p in aliases.get(name, [p for p in everything if p.name == name])]
        together, last = [], None
        if not alone:
            print(f"no such part; there are {', '.join(p.name for p in everything)}", file=sys.stderr)
            return 2
    times: list[tuple[float, str]] = []
    for part in alone:
        _, code, seconds = run(part)
        report(part, code, seconds)
        times.append((seconds, part.name))
        if code:
            return 1
    failed = False
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, part) for part in together]):
            part, code, seconds = done.result()
            report(part, code, seconds)
            times.append((seconds, part.name))
            failed = failed or bool(code)
    if failed:
        return 1
    times.sort(reverse=True)
    print("slowest parts: " + ", ".join(f"{name} {seconds:.0f} s" for seconds, name in times[:8]), flush=True)
    return run(last, live=True)[1] if last else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["check"]))
