"""Every kind of guest, client and bus user tries to exceed its rights on a platform: `make drill-intrusion`.

Writes `build/bench/intrusion.json` and prints the attempts that were not refused. The tables are in `tests/lab/intrusion`.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import pytest

from tests.lab.conftest import ROOT, LabPlatform
from tests.lab.intrusion import bus, guests, runner, stage
from tests.lab.intrusion.attempts import Guest, Outcome

LEAST = 120

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]


def report(outcomes: list[Outcome], seconds: float) -> dict[str, object]:
    """Return the report of a drill."""
    return {
        "tried": len(outcomes),
        "refused": sum(o.refused for o in outcomes),
        "seconds": round(seconds, 1),
        "not_refused": [
            {"who": o.attempt.who, "name": o.attempt.name, "said": o.said} for o in outcomes if not o.refused
        ],
        "undefended": guests.UNDEFENDED,
        "accepted": [asdict(a) for a in bus.ACCEPTED],
        "outcomes": [
            {"who": o.attempt.who, "name": o.attempt.name, "refused": o.refused, "said": o.said}
            for o in outcomes
        ],
    }


def test_nobody_gets_further_than_allowed(platform: LabPlatform) -> None:
    attempts = runner.tables()
    assert len(attempts) >= LEAST
    began = time.monotonic()
    set_up = stage.set_up(platform, [a for a in attempts if isinstance(a, Guest)])
    try:
        outcomes = runner.carry_out(set_up, attempts, print)
    finally:
        set_up.end()
    written = report(outcomes, time.monotonic() - began)
    target = ROOT / "build" / "bench" / "intrusion.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{written['tried']} tried, {written['refused']} refused, in {written['seconds']} s")
    for outcome in (o for o in outcomes if not o.refused):
        print(f"NOT REFUSED  {outcome.attempt.who}: {outcome.attempt.name}: {outcome.said}")
    assert len(outcomes) == len(attempts)
    through = [o for o in outcomes if not o.refused and o.attempt.name not in guests.UNDEFENDED]
    assert not through, f"{len(through)} attempts were not refused"
