"""The suite: its parts in order, quick ones first, each timed; `make test` runs all, `make check` the quick ones.

    python -m tests.suite test|check|<part>...

Output of a part goes to `build/logs/<part>.log`, and to the terminal where it fails. At its end, `test` shows pytest's output on the
platform; before its closing line stands the cost of each part, which is in `build/logs/suite.json` too.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.lab import client as lab_client
from orchestrator.lab.errors import LabError
from tests import suite_cost, suite_passed
from tests.suite_cost import Cost, Host

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
BIN = ROOT / "build" / "venv" / "bin"
# Three keep two cores busy: a lane waits for machines to boot and for deadlines a third of its time.
SIDE_BY_SIDE = 3
_SHOWN_AGAIN = 25
# Scenarios that share a lab, by its name, each on what the one before left (molecule/shared/README.md): operations on a whole
# platform, and roles that need a controller.
CHAINS = {
    "mol-verbs": ("scale_out", "scale_in", "roll", "rollback"),
    "mol-controllers": ("controller", "services", "health_manager"),
}


@dataclass(frozen=True)
class Part:
    """One part: a name, the command, whether `make check` runs it too, its own lab, its scenario, more environment.

    `files` names the files that alone decide its result: while these are as they were when it passed, it is not run again.
    """

    name: str
    command: tuple[str, ...]
    quick: bool = False
    lab: str = ""
    scenario: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    keeps_lab: bool = False
    files: tuple[str, ...] = ()


def pytest(*arguments: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", *arguments)


def scenarios() -> list[list[Part]]:
    """Return one lane for every molecule scenario and one for all that share a lab, the longest first so that lanes end together."""
    found = {p.parent.name for p in (ROOT / "molecule").glob("*/molecule.yml")}
    chains = [
        [
            replace(
                molecule(name),
                lab=lab,
                environment=(("INGOT_SHARED_LAB", lab),),
                keeps_lab=name != names[-1],
            )
            for name in names
        ]
        for lab, names in CHAINS.items()
    ]
    weight = {"nfs": 0, "site": 1, "dea": 2, "router": 3, "stager": 4, "release": 5}
    alone = sorted(
        found - {name for names in CHAINS.values() for name in names}, key=lambda n: (weight.get(n, 9), n)
    )
    return [*chains, *([molecule(name)] for name in alone)]


def molecule(scenario: str) -> Part:
    """Return a scenario as a part on a lab of its own."""
    command = (str(BIN / "molecule"), "test", "--destroy=never", "-s", scenario)
    return Part(f"molecule-{scenario}", command, lab=f"mol-{scenario}".replace("_", "-"), scenario=scenario)


LINTED = ("ansible.cfg", "constraints.txt", ".config", "inventories", "molecule", "playbooks", "roles")
LINT = [
    Part("ruff", (str(BIN / "ruff"), "check", "."), quick=True),
    Part("format", (str(BIN / "ruff"), "format", "--check", "."), quick=True),
    Part("ansible-lint", (str(BIN / "ansible-lint"), "--offline", "-q"), quick=True, files=LINTED),
]
TYPES = Part("types", (str(BIN / "mypy"), "components", "orchestrator", "tests"), quick=True)
CONTRACT = sorted((ROOT / "tests" / "contract").glob("test_*.py"))
CLIENT = [p for p in CONTRACT if p.name.startswith("test_client_")]
# All at once: contract tests wait for HTTP most of their time, so two cores are enough.
QUICK = [
    LINT,
    [TYPES],
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
            for n in ("", "_frameworks", "_app_update", "_router", "_orchestrator", "_removed")
        ),
    ),
)


def long_lanes() -> list[list[Part]]:
    """Return the lanes that follow the quick ones.

    The two largest labs, the platform's and the verbs', come one after the other, so that their memory is not needed at once.
    """
    verbs, *others = scenarios()
    return [[PLATFORM, *verbs], [INTEGRATION], *others, [MACHINES]]


def run(part: Part) -> tuple[Part, int, Cost]:
    """Run one part; return its exit code and its cost."""
    started = time.monotonic()
    stamp = ROOT / "build" / "cache" / part.name
    files = suite_passed.digest(ROOT, part.files) if part.files else ""
    if files and suite_passed.passed(stamp, files):
        (LOGS / f"{part.name}.log").write_text("it passed with the same files\n")
        return part, 0, Cost(time.monotonic() - started)
    notes = LOGS / f"{part.name}.labs"
    notes.unlink(missing_ok=True)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    environment[lab_client.SPENT] = str(notes)
    if "pytest" in part.command:
        # The file to which a part's tests write the time of each of them.
        environment["INGOT_PROCESSOR_TIME"] = str(LOGS / f"{part.name}.json")
    environment |= dict(part.environment)
    if part.scenario:
        # Machines went with the lab the last time, and molecule does not know: it would not make them again.
        reset = (str(BIN / "molecule"), "reset", "-s", part.scenario)
        subprocess.run(reset, cwd=ROOT, env=environment, check=True, capture_output=True)
    there = spent_in(part.lab)
    log = LOGS / f"{part.name}.log"
    code, own = suite_cost.run(part.command, folder=ROOT, environment=environment, log=log)
    if files and not code:
        suite_passed.remember(stamp, files)
    # A lab it leaves may have been there before; labs it removed by itself are in the notes.
    machines = spent_in(part.lab) - there + suite_cost.removed_labs(notes)
    if part.lab and (code or not part.keeps_lab):
        end_lab(part.lab, keep_evidence=bool(code))
    return part, code, Cost(time.monotonic() - started, own, machines)


def spent_in(lab: str) -> float:
    """Return the processor seconds that the machines of a lab have used; 0 where there is no such lab."""
    if not lab:
        return 0.0
    with lab_client.LabClient(start=False) as client:
        try:
            return client.lab(lab).processor_seconds
        except LabError:
            return 0.0


def run_lane(lane: list[Part], done: Callable[[Part, int, Cost], None]) -> None:
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


def report(part: Part, code: int, cost: Cost) -> None:
    """Print the result of a part; show the end of its output when it failed."""
    verdict = "ok  " if code == 0 else "FAIL"
    print(f"{verdict} {part.name:24} {cost.wall:7.1f} s {cost.processor:7.1f} s of processors", flush=True)
    if code:
        print("\n".join(log_of(part.name)[-120:]), flush=True)


def log_of(name: str) -> list[str]:
    """Return the lines of a part's output."""
    return (LOGS / f"{name}.log").read_text(errors="replace").splitlines()


def main(wanted: list[str]) -> int:
    """Run the given parts; return 0 when all passed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    lanes = scenarios()
    # A scenario given by its name runs on a lab of its own; `verbs` and `controllers` are all of a shared one.
    alone_too = [molecule(part.name.removeprefix("molecule-")) for lane in lanes for part in lane]
    everything = [*(part for lane in QUICK for part in lane), INTEGRATION, MACHINES, *alone_too, PLATFORM]
    stages: list[list[list[Part]]]
    if wanted == ["test"]:
        stages = [QUICK, long_lanes()]
    elif wanted == ["check"]:
        stages = [QUICK]
    else:
        aliases = {
            "lint": LINT,
            **{lab.removeprefix("mol-"): lane for lab, lane in zip(CHAINS, lanes, strict=False)},
        }
        asked = [p for name in wanted for p in aliases.get(name, [p for p in everything if p.name == name])]
        stages = [[asked]]
        if not asked:
            print(f"no such part; there are {', '.join(p.name for p in everything)}", file=sys.stderr)
            return 2
    costs: list[tuple[str, Cost]] = []
    failed: list[str] = []
    started, before = time.monotonic(), Host.now()

    def done(part: Part, code: int, cost: Cost) -> None:
        report(part, code, cost)
        costs.append((part.name, cost))
        if code:
            failed.append(part.name)

    for stage in stages:
        with concurrent.futures.ThreadPoolExecutor(len(QUICK) if stage is QUICK else SIDE_BY_SIDE) as pool:
            for lane in [pool.submit(run_lane, lane, done) for lane in stage]:
                lane.result()
        if failed:
            break
    account = (costs, time.monotonic() - started, before, Host.now())
    result = json.dumps(suite_cost.record(" ".join(wanted), *account), indent=1)
    (LOGS / "suite.json").write_text(result + "\n")
    whole = not failed and PLATFORM.name in dict(costs)
    said = log_of(PLATFORM.name) if whole else []
    print("\n".join([*said[:-1], *suite_cost.table(*account), *said[-1:]]), flush=True)
    for name in failed:
        # Again, as the part that ended last stands between its failure and the end of a long run.
        print(f"FAIL {name}", *log_of(name)[-_SHOWN_AGAIN:], sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["check"]))
