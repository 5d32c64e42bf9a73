"""The baseline release and this one understand each other: on the bus, over HTTP, in configurations and in an inventory.

`baseline.txt` names the commit, `baseline/` holds its data (`baseline_record.py`). Machines of both run side by side during a roll,
and after a rollback the older one reads what the newer one left. A failure here is a change that breaks an upgrade or a way back:
give the new member a default, keep the old one, or write a new baseline together with the release that drops the old.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract import baseline_record
from tests.contract.baseline_record import COMMIT, FOLDER
from tests.contract.shapes import Shape, forgotten, of_type, refused
from tests.support.inventories import copy_of, preflight


def baseline(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{part}.json").read_text())
    return found


def test_the_baseline_is_a_commit() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}\n", COMMIT.read_text())


def test_messages_are_understood_both_ways() -> None:
    today = baseline_record.messages()
    problems = []
    for subject, parts in baseline("messages").items():
        for part, old in parts.items():
            new = today.get(subject, {}).get(part)
            if new is None:
                problems.append(f"{subject} {part}: it is gone")
                continue
            where = f"{subject} {part}"
            problems += [f"from the baseline: {p}" for p in refused(old, new, where)]
            problems += [f"to the baseline: {p}" for p in refused(new, old, where)]
            problems += forgotten(old, new, where)
    assert problems == []


def test_clients_of_the_baseline_are_served() -> None:
    today = baseline_record.api()
    problems = []
    for operation, old in baseline("api").items():
        new = today.get(operation)
        if new is None:
            problems.append(f"{operation}: it is gone")
            continue
        problems += [
            f"{operation}: the query {name} is gone" for name in old["query"] if name not in new["query"]
        ]
        if old["body"] is not None:
            body = new["body"] or {}
            problems += refused(old["body"], body, f"{operation} body")
            problems += forgotten(old["body"], body, f"{operation} body")
        for status, answer in old["answers"].items():
            if status not in new["answers"]:
                problems.append(f"{operation} {status}: it is gone")
            elif answer is not None:
                problems += forgotten(answer, new["answers"][status] or {}, f"{operation} {status}")
                problems += refused(new["answers"][status] or {}, answer, f"{operation} {status}")
    assert problems == []


def test_configurations_of_the_baseline_are_accepted() -> None:
    today = baseline_record.configurations()
    problems = []
    for daemon, old in baseline("configurations").items():
        if daemon not in today:
            problems.append(f"{daemon}: it is gone")
            continue
        problems += refused(old, today[daemon], daemon)
        problems += forgotten(old, today[daemon], daemon)
    assert problems == []


def test_inputs_of_the_baseline_are_inputs() -> None:
    today = baseline_record.inputs()
    assert {
        f"{role}: {name}"
        for role, options in baseline("inputs").items()
        for name, kind in options.items()
        if today.get(role, {}).get(name) != kind
    } == set()


def test_the_inventory_of_the_baseline_passes_preflight(tmp_path: Path) -> None:
    code, output = preflight(copy_of(FOLDER / "inventory", tmp_path))
    assert code == 0, output


SPEAKS: Shape = of_type(dict[str, int])


@pytest.mark.parametrize(
    ("speaker", "hearer", "problem"),
    [
        ({"types": ["string"]}, {"types": ["integer"]}, "a: string is sent, integer is read"),
        ({"types": ["integer"]}, {"types": ["number"]}, ""),
        ({"types": ["null", "string"]}, {"types": ["string"]}, "a: null/string is sent, string is read"),
        ({"members": {"b": {}}}, {"members": {"b": {}}, "required": ["b"]}, "a.b: the hearer needs it, the speaker may leave it out"),
        ({"members": {"b": {}}, "required": ["b"]}, {"members": {"b": {}}}, ""),
        ({"members": {"b": {"types": ["string"]}}}, {"members": {"b": {"types": ["array"]}}}, "a.b: string is sent, array is read"),
        ({"items": {"types": ["string"]}}, {"items": {"types": ["object"]}}, "a.items: string is sent, object is read"),
        (SPEAKS, of_type(dict[str, str]), "a.values: integer is sent, string is read"),
    ],
)  # fmt: skip
def test_what_would_not_be_understood_is_named(speaker: Shape, hearer: Shape, problem: str) -> None:
    assert list(refused(speaker, hearer, "a")) == [problem] * bool(problem)


def test_a_member_that_is_gone_is_named() -> None:
    old: Shape = {"members": {"b": {"items": {"members": {"c": {}}}}}}
    assert list(forgotten(old, {"members": {"b": {"items": {}}}}, "a")) == ["a.b.items.c: it is gone"]
