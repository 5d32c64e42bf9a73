"""The pages of docs/protocol say what the code says: citations, subjects, error codes and routes are the same in both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from components.common.bus.subjects import CONTRACT, SERVICE_NAMES
from components.controller.api.app import create_app
from components.controller.api.openapi import path_of
from components.controller.errors import Code

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "protocol").glob("*.md"))
CITING = ("components", "docs", "inventories", "molecule", "orchestrator", "playbooks", "roles", "tests")
SUFFIXES = {".py", ".md", ".lua", ".yml", ".j2", ".sh"}
_NUMBER = r"\d+(?:\.\d+)?"
_HEADING = re.compile(rf"^#+ ({_NUMBER}) ", re.MULTILINE)
# `protocol 1.8`, `protocol 1.5, 1.13 and 2.4`, `protocol 5.2 to 5.4`; the first number of a list needs no point.
_CITATION = re.compile(
    rf"\bprotocol ({_NUMBER}(?:(?:,? (?:and|to|or)|,) \d+\.\d+)*)\b(?!\.\d)", re.IGNORECASE
)
# How sections were cited before they had a page.
_OLD_CITATION = re.compile(r"\bsections? \d+\.\d", re.IGNORECASE)
ANY_METHOD = ("GET", "POST", "PUT", "DELETE")


def headings() -> list[str]:
    return [number for page in PAGES for number in _HEADING.findall(page.read_text(encoding="utf-8"))]


def citations(text: str) -> set[str]:
    return {n for found in _CITATION.findall(text) for n in re.findall(_NUMBER, found)}


def files() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every file that may cite the protocol."""
    for folder in CITING:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__) and path.is_file():
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def rows(first: str) -> Iterator[list[str]]:
    """Yield the cells of each row of every table whose first column has this title."""
    for page in PAGES:
        inside = False
        for line in page.read_text(encoding="utf-8").splitlines():
            if not line.startswith("|"):
                inside = False
                continue
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] == first:
                inside = True
            elif inside and not cells[0].startswith("---"):
                yield cells


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def repeated(items: list[Any]) -> set[Any]:
    return {item for item in items if items.count(item) > 1}


def test_a_section_is_there_once() -> None:
    found = headings()
    assert len(found) > 60
    assert not repeated([number for number in found if "." in number])


def test_every_cited_section_is_there() -> None:
    known = set(headings())
    missing = {name: gone for name, text in files() if (gone := citations(text) - known)}
    assert missing == {}


def test_citations_are_found() -> None:
    cited = {number for _, text in files() for number in citations(text)}
    assert {"1.8", "2.4", "4.4", "5.2", "5.4", "6.7", "7.5"} <= cited


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("as protocol 1.8, step 12, says", {"1.8"}),
        ("(protocol 5.2 to 5.4)", {"5.2", "5.4"}),
        ("Protocol 1.5, 1.13, 1.14 and 2.4.", {"1.5", "1.13", "1.14", "2.4"}),
        ("protocol 2, and ours", {"2"}),
        ("the protocol of 2011", set()),
        ("PROXY protocol 10.0.0.1", set()),
    ],
)
def test_a_citation_is_read(text: str, numbers: set[str]) -> None:
    assert citations(text) == numbers


def test_no_section_is_cited_without_its_document() -> None:
    found = {name for name, text in files() if _OLD_CITATION.search(text)}
    assert found == set()


def test_the_subjects_are_those_of_the_contract() -> None:
    shown = [subject for row in rows("subject") for subject in spans(row[0])]
    named = [
        subject.replace("X.", f"{name}.", 1)
        for subject in shown
        for name in (SERVICE_NAMES if subject.startswith("X.") else ("",))
    ]
    assert not repeated(named)
    assert set(named) == {subject.name for subject in CONTRACT}


def test_the_error_codes_are_those_of_the_controller() -> None:
    codes = [
        (int(row[0]), (int(row[1]), row[2]))
        for row in rows("code")
        if row[0].isdigit() and int(row[0]) < 1000
    ]
    assert not repeated(codes)
    assert dict(codes) == {code: (code.status, f"`{code.name}`") for code in Code}


def test_the_routes_are_those_of_the_controller() -> None:
    shown = []
    for row in rows("route"):
        for route in spans(row[0]):
            method, _, path = route.partition(" ")
            shown += [(m, path) for m in (ANY_METHOD if method == "ANY" else (method,))]
    assert not repeated(shown)
    app = create_app(cast("Any", SimpleNamespace(config=SimpleNamespace(max_upload_mb=1))))
    assert set(shown) == {
        (method, path_of(rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
