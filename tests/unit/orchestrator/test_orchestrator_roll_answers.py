"""What daemons say of themselves, as the roll's playbook judges it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).resolve().parents[3] / "playbooks" / "filter_plugins" / "ingot_roll.py"


@pytest.fixture(scope="module")
def answers() -> Any:
    spec = importlib.util.spec_from_file_location("ingot_roll", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()["ingot_answers"]


@pytest.mark.parametrize(
    ("result", "status", "reasons", "release"),
    [
        ({"status": 200, "json": {"ready": True, "reasons": [], "release": "2"}}, 200, [], "2"),
        ({"status": 503, "json": {"reasons": ["draining"], "release": "2"}}, 503, ["draining"], "2"),
        ({"status": 200, "json": {"ready": True, "reasons": []}}, 200, [], ""),
        ({"status": -1, "msg": "Connection refused"}, -1, ["Connection refused"], ""),
        ({"msg": ""}, -1, ["no answer"], ""),
        ({"status": 502, "content": "<html>"}, 502, ["no answer"], ""),
    ],
)
def test_an_answer(
    answers: Any, result: dict[str, Any], status: int, reasons: list[str], release: str
) -> None:
    (found,) = answers([{**result, "p": 9022}], "p")
    assert found == {"port": 9022, "status": status, "reasons": reasons, "release": release}
