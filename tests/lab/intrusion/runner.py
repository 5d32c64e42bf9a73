"""Carries the tables out on a stage, and judges what came of each attempt."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from string import Template
from typing import Any, TypeVar

from tests.lab.intrusion import bus, clients, guests, steps
from tests.lab.intrusion.attempts import (
    APPLICATION,
    BUILD,
    TASK,
    TENANT,
    Attempt,
    Bus,
    Guest,
    Outcome,
    Reach,
    Step,
    Web,
)
from tests.lab.intrusion.probe import WON
from tests.lab.intrusion.stage import TENANT as TENANTS_EMAIL
from tests.lab.intrusion.stage import Answer, Stage, interface, outside

T = TypeVar("T", bound=Attempt)
_GUEST_SECONDS = 420.0
_ALONE_SECONDS = 200.0
_MARK = "ATTEMPT "
# As a DEA says what a task was ended for.
_ENDED_FOR = ("memory over", "disk over", "a file over", "too many", "files and folders")


def tables() -> list[Attempt]:
    """Return every attempt there is."""
    return [*guests.table(), *clients.table(), *bus.table(), *clients.LAST]


def carry_out(stage: Stage, attempts: Sequence[Attempt], tell: Callable[[str], None]) -> list[Outcome]:
    """Return how all attempts ended; kinds that do not disturb each other go side by side.

    What could make others fail, by a limit that it hits or a machine that it fills, comes last.
    """
    guests_rows, webs = _of(Guest, attempts), _of(Web, attempts)
    # Those that ask so often that a limit takes hold of who asks.
    often = [web for web in webs if web.times > 1]
    alone = [guest for guest in guests_rows if guest.alone]
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(3) as pool:
        for future in (
            pool.submit(_guests, stage, [g for g in guests_rows if not g.alone]),
            pool.submit(_reaches, stage, _of(Reach, attempts)),
            pool.submit(_bus, stage, _of(Bus, attempts)),
        ):
            outcomes += future.result()
    tell(f"guests, ports and bus: {len(outcomes)} tried")
    outcomes += [_web(stage, web) for web in webs if web.times == 1]
    tell(f"requests: {len(outcomes)} tried")
    with ThreadPoolExecutor(len(alone) or 1) as pool:
        outcomes += pool.map(lambda row: _alone(stage, row), alone)
    tell(f"tasks that take what they can: {len(outcomes)} tried")
    for step in _of(Step, attempts):
        outcomes.append(_step(stage, step))
        tell(f"{step.who}: {step.name}")
    outcomes += [_web(stage, web) for web in often]
    return outcomes


def _of(kind: type[T], attempts: Iterable[Attempt]) -> list[T]:
    return [attempt for attempt in attempts if isinstance(attempt, kind)]


def _web(stage: Stage, row: Web) -> Outcome:
    def filled(value: str) -> str:
        return Template(value).safe_substitute(stage.facts)

    body = None if row.body is None else json.loads(filled(json.dumps(row.body)))
    headers = {name: filled(value) for name, value in row.headers.items()}
    token = stage.tokens[TENANTS_EMAIL] if row.who == TENANT else ""
    answer = Answer(0)
    for _ in range(row.times):
        answer = stage.ask(
            row.method, filled(row.path), body, token=token, to=row.to, headers=headers, content=row.content
        )
    said = f"{answer.status} {answer.text[:160]}"
    if row.lacks:
        shown = answer.text + "".join(f"{n}: {v}\n" for n, v in answer.headers.items())
        return Outcome(row, filled(row.lacks).lower() not in shown.lower(), said)
    # A connection that was cut is a refusal; an answer that never comes is a thread held.
    cut = answer.status == 0 and "imeout" not in answer.text
    return Outcome(row, cut or (answer.status in row.refused and row.says in answer.text), said)


def _reaches(stage: Stage, rows: Iterable[Reach]) -> list[Outcome]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda row: _reach(stage, row), rows))


def _reach(stage: Stage, row: Reach) -> Outcome:
    facts = stage.facts
    family = socket.AF_INET6 if row.version == 6 else socket.AF_INET
    address: tuple[Any, ...] = (facts["machines"][row.machine], row.port)
    if row.version == 6:
        scope = interface(facts["gateway"])
        assert scope, (
            "the network's interface is not found, and nothing can be tried by its link-local addresses"
        )
        address = (facts["link_local"][row.machine], row.port, 0, scope)
    with socket.socket(family) as sock:
        sock.settimeout(3)
        try:
            if row.version == 4:
                sock.bind((outside(facts["gateway"]), 0))
            sock.connect(address)
        except OSError as error:
            return Outcome(row, refused=True, said=type(error).__name__)
    return Outcome(row, refused=False, said=f"connected to {address[0]} port {row.port}")


def _bus(stage: Stage, rows: Sequence[Bus]) -> list[Outcome]:
    asked = [(row.who.removeprefix("bus: "), row.lines) for row in rows]
    said = stage.on_bus("rows", json.dumps(asked))
    return [Outcome(row, "-ERR" in text, text.strip()[:160]) for row, text in zip(rows, said, strict=True)]


def _step(stage: Stage, row: Step) -> Outcome:
    got_through = getattr(steps, row.act)(stage)
    return Outcome(row, not got_through, got_through or "nothing came of it")


def _guests(stage: Stage, rows: Sequence[Guest]) -> list[Outcome]:
    """All three at once: the build has been, the other two run now."""
    with ThreadPoolExecutor(2) as pool:
        task = pool.submit(_task, stage, f"python3 probe.py {TASK}", _GUEST_SECONDS)
        application = pool.submit(_application, stage)
        seen = {BUILD: stage.ask("GET", "/build", to="own").text}
        seen |= {APPLICATION: application.result(), TASK: task.result()[1]}
    found = {(r["who"], r["name"]): r for text in seen.values() for r in _results(text)}
    return [_judged(row, found.get((row.who, row.name))) for row in rows]


def _judged(row: Guest, result: dict[str, Any] | None) -> Outcome:
    # What says nothing has shown nothing.
    if result is None:
        return Outcome(row, refused=False, said="no result came back")
    return Outcome(row, refused=not result["won"], said=str(result["said"]))


def _results(text: str) -> list[dict[str, Any]]:
    found = (json.loads(line.partition(_MARK)[2]) for line in text.splitlines() if _MARK in line)
    return [result for result in found if "name" in result]


def _application(stage: Stage) -> str:
    stage.ask("GET", "/begin", to="own")
    end, text = time.monotonic() + _GUEST_SECONDS, ""
    while '"done"' not in text and time.monotonic() < end:
        time.sleep(1)
        text = stage.ask("GET", "/results", to="own").text
    return text


def _task(stage: Stage, command: str, seconds: float) -> tuple[dict[str, Any], str]:
    """Run a one-off task; gives how it ended, and what it wrote."""
    token = stage.tokens[TENANTS_EMAIL]
    made = stage.ask("POST", "/v2/apps/own/tasks", {"command": command, "memory": 64}, token=token)
    if made.status != 202:
        return {"state": "refused", "detail": made.text}, ""
    path, end = f"/v2/apps/own/tasks/{made.json()['id']}", time.monotonic() + seconds
    text, cursor, state = "", "", "pending"
    while time.monotonic() < end:
        # Before the lines: once it has ended, what is read then is all.
        shown = stage.ask("GET", path, token=token)
        state = shown.json()["state"] if shown.status == 200 else state
        where = f"cursor={cursor}&wait=2" if cursor else "tail=1000"
        lines = stage.ask("GET", f"{path}/logs?{where}", token=token)
        if lines.status == 200:
            cursor = lines.json().get("cursor") or cursor
            text += "".join(line["text"] + "\n" for line in lines.json()["lines"])
        if state in ("succeeded", "failed"):
            return shown.json(), text
        time.sleep(0.5)
    stage.ask("DELETE", path, token=token)
    return {"state": "endless", "detail": f"not ended within {seconds:.0f} s"}, text


def _alone(stage: Stage, row: Guest) -> Outcome:
    ended, text = _task(stage, f"python3 probe.py {TASK} {row.name!r}", _ALONE_SECONDS)
    said, status = str(ended.get("detail") or ended["state"]), ended.get("exit_status")
    own = [result for result in _results(text) if result["name"] == row.name]
    if own:
        return _judged(row, own[0])
    # Its own word may be lost in what it wrote: then its status has it, or the reason that it was ended for.
    tried = status in (0, WON) or any(word in said for word in _ENDED_FOR)
    refused = tried and status != WON and ended["state"] != "endless"
    return Outcome(row, refused, said if tried else f"no result came back: {said}")
