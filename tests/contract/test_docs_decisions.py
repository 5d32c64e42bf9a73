"""Every decision has one form: a title that is the choice, a date, a status, and the same headings in the same order."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from tests.contract.pages import DOCS, headings, table

FOLDER = DOCS / "decisions"
DECISIONS = sorted(FOLDER.glob("*.md"))
PARTS = ("Context", "Decision", "Alternatives", "Consequences")
NEEDED = ("Context", "Decision", "Consequences")
_NAME = re.compile(r"\d{4}-[a-z0-9-]+\.md")
_TITLE = re.compile(r"(\d+)\. (.+)")
_DATE = re.compile(r"Date: (\d{4}-\d\d-\d\d)\.")
_STATUS = re.compile(r"Status: (accepted|superseded)\b.*\.")
_REPLACED = re.compile(r"superseded by \[(\d+)\]\(([^)]+)\)")
_REPLACES = re.compile(r"supersedes \[(\d+)\]\(([^)]+)\)")
FEWEST_WORDS = 5
GOOD = "# 1. A choice in so many words\n\nDate: 2026-01-01.\nStatus: accepted.\n\n## Context\n\n## Decision\n\n## Consequences\n"


def number_of(path: Path) -> int:
    return int(path.name[:4])


def title_of(text: str) -> str:
    match = _TITLE.fullmatch(headings(text)[0][1])
    return match[2] if match else ""


def problems(number: int, text: str) -> list[str]:
    """What is wrong with a page's form, as it stands alone."""
    found = []
    lines, heads = text.splitlines(), headings(text)
    title = _TITLE.fullmatch(heads[0][1]) if heads else None
    if title is None or int(title[1]) != number or not lines[0].startswith("# "):
        found.append(f"want the first line to be `# {number}. TITLE`")
    elif title[2].endswith(".") or len(title[2].split()) < FEWEST_WORDS:
        found.append("want the title to be the choice, in words")
    date, status = lines[2:4]
    if not _DATE.fullmatch(date):
        found.append("want the third line to be `Date: YYYY-MM-DD.`")
    if not (state := _STATUS.fullmatch(status)):
        found.append("want the fourth line to be `Status: accepted.` or `Status: superseded by [N](FILE).`")
    elif state[1] == "superseded" and not _REPLACED.search(status):
        found.append("want the page that supersedes it")
    parts = [title for level, title in heads if level == 2]
    if parts != [part for part in PARTS if part in parts] or not set(NEEDED) <= set(parts):
        found.append(
            f"want the headings {', '.join(PARTS)} in this order, Alternatives where there are some: {parts}"
        )
    if [level for level, _title in heads].count(1) != 1:
        found.append("want one title")
    return found


def test_numbers_are_given_once_and_without_a_gap() -> None:
    assert [number_of(path) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert [path.name for path in DECISIONS if not _NAME.fullmatch(path.name)] == []


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_form(path: Path) -> None:
    assert problems(number_of(path), path.read_text()) == []


def test_dates_are_days_and_go_with_the_numbers() -> None:
    lines = [path.read_text().splitlines()[2] for path in DECISIONS]
    dates = [dt.date.fromisoformat(match[1]) for line in lines if (match := _DATE.fullmatch(line))]
    assert len(dates) == len(DECISIONS)
    assert dates == sorted(dates)


def test_the_older_page_and_the_newer_one_name_each_other() -> None:
    older, newer = set(), set()
    for path in DECISIONS:
        line = path.read_text().splitlines()[3]
        older |= {(number_of(path), int(number), name) for number, name in _REPLACED.findall(line)}
        newer |= {(int(number), number_of(path), name) for number, name in _REPLACES.findall(line)}
    names = {number_of(path): path.name for path in DECISIONS}
    assert {(old, new) for old, new, _name in older} == {(old, new) for old, new, _name in newer}
    assert all(names[new] == name for _old, new, name in older)
    assert all(names[old] == name for old, _new, name in newer)


def test_the_index_has_their_titles() -> None:
    rows = table((DOCS / "README.md").read_text(), "Decisions")
    wanted = [
        [str(number_of(path)), f"[{title_of(path.read_text())}](decisions/{path.name})"] for path in DECISIONS
    ]
    assert rows == wanted


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("# 1.", "# 2.", "first line"),
        ("A choice in so many words", "The core", "the choice"),
        ("words\n", "words.\n", "the choice"),
        ("2026-01-01", "in spring", "third line"),
        ("accepted", "superseded", "supersedes it"),
        ("accepted", "agreed", "fourth line"),
        ("## Context\n", "## Was\n", "headings"),
        ("## Decision\n\n## Consequences", "## Consequences\n\n## Decision", "headings"),
        ("## Consequences", "## Consequences\n\n# Another", "one title"),
    ],
)
def test_another_form_is_seen(was: str, becomes: str, says: str) -> None:
    assert problems(1, GOOD) == []
    assert was in GOOD
    (found,) = problems(1, GOOD.replace(was, becomes))
    assert says in found
