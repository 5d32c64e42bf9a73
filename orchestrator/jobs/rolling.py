"""Common parts of `roll` and `rollback`: the known releases, and the steps, each a part of the playbooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import RefusedError
from orchestrator.inventory import release_record
from orchestrator.jobs.kinds import PLATFORM, Facts, JobContext, JobPlan, Step
from orchestrator.plays.runner import Play
from orchestrator.release_folder import MANIFEST, PLAYS
from orchestrator.rules.roll_order import DEFAULT_SHARE, batches, foundation, standing
from orchestrator.services import Services

_PART = "roll_machines.yml"


def known_releases(folder: Path) -> list[str]:
    """Return the names of the releases on this machine; one that is being built is not among them."""
    try:
        return sorted(p.name for p in folder.iterdir() if p.name[0] != "." and (p / MANIFEST).is_file())
    except OSError:
        return []


def check_known(services: Services, release: str) -> None:
    """Check that a release exists.

    Raises:
        RefusedError: 404; the text names those that are known.
    """
    known = known_releases(Path(services.config.releases))
    if release not in known:
        raise RefusedError(
            f"release: there is no {release}; known: {', '.join(known) or 'none'}. "
            f"`make release VERSION={release}` builds it",
            404,
        )


def plan(services: Services, release: str, *, share: float = DEFAULT_SHARE, back: bool = False) -> JobPlan:
    """Return the facts of a roll to a release, and the lock on the whole platform.

    Raises:
        RefusedError: no machine of the inventory runs a release.
    """
    groups = {name: host.groups for name, host in services.inventory.hosts().items()}
    order = batches(groups, share)
    if not order:
        raise RefusedError("the inventory has no machine that runs a release", 409)
    facts: Facts = {
        "release": release,
        "before": release_record.recorded_release(services.inventory.folder),
        "back": back,
        "foundation": list(foundation(groups)),
        "batches": [{"name": batch.name, "machines": list(batch.machines)} for batch in order],
        "done": [],
    }
    return JobPlan(facts, frozenset({PLATFORM}))


def steps(facts: Facts) -> Sequence[Step]:
    """Return the steps: preflight, stage, foundation, canary, the other batches, settle."""
    everybody = tuple(name for batch in facts["batches"] for name in batch["machines"])
    found = [
        Step("preflight", _part("preflight", "roll_preflight.yml"), everybody),
        Step("stage", _part("stage", "roll_stage.yml"), everybody),
        Step("foundation", _foundation, tuple(facts["foundation"])),
    ]
    for batch in facts["batches"]:
        machines = tuple(batch["machines"])
        found.append(Step(batch["name"], _machines(machines), machines))
    return [*found, Step("settle", _part("settle", "roll_settle.yml"), everybody)]


def remedy(job: JobContext, failed: Step) -> str:
    """Return in words where a failed roll has left the platform, how to go on, and how to go back."""
    facts = job.facts
    machines = [name for batch in facts["batches"] for name in batch["machines"]]
    on = f"To go on, repair the named faults and resume this job: `ingot jobs resume {job.job_id}`."
    if failed.name in ("preflight", "stage"):
        return f"Nothing that runs was touched. {on}"
    reached = standing(machines, facts["done"], facts["release"])
    if facts["back"]:
        return f"{reached[0].upper()}{reached[1:]}. {on}"
    return (
        f"{reached[0].upper()}{reached[1:]}. {on} To go back to {facts['before']}: `ingot platform rollback`."
    )


def _foundation(job: JobContext) -> None:
    # From here on, machines may differ: a rollback goes to the release before.
    if not job.facts["back"]:
        release_record.record_rolling(job.services.inventory.folder, job.facts["release"])
    if hosts := job.facts["foundation"]:
        _run(job, "foundation", "roll_foundation.yml", hosts, {})


def _machines(machines: Sequence[str]) -> Callable[[JobContext], None]:
    def run(job: JobContext) -> None:
        # The batch is the whole of the play's hosts.
        _run(job, f"machines-{machines[0]}", _PART, machines, {"roll_share": 1})
        done = job.facts["done"]
        done += [name for name in machines if name not in done]

    return run


def _part(name: str, playbook: str) -> Callable[[JobContext], None]:
    def run(job: JobContext) -> None:
        _run(job, name, playbook, (), {})

    return run


def _run(job: JobContext, name: str, playbook: str, limit: Sequence[str], variables: dict[str, Any]) -> None:
    """Run a part of the playbooks of the release that is rolled to: they fit its roles best."""
    facts, services = job.facts, job.services
    release = facts["release"]
    # The first releases carried no plays: the running release's plays return to them.
    carried = (Path(services.config.releases) / release / PLAYS / "playbooks" / _PART).is_file()
    given = {"roll_to": release, "roll_back": facts["back"], **variables}
    play = Play(f"{job.job_id}-{name}", playbook, tuple(limit), given, release if carried else None)
    services.plays.run(play, job.say).check()
