"""Markdown pages as data: their links, anchors, tables, headings and the words of their code spans."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_CODE = re.compile(r"(`+)(.+?)\1")


def pages() -> list[Path]:
    """Return every Markdown page of the repository, without what was built."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if (parts := path.relative_to(ROOT).parts)[0] != "build" and not any(p.startswith(".") for p in parts)
    )


def prose(text: str) -> list[str]:
    """Return the lines outside of fenced blocks."""
    return [line for line, fenced in _lines(text) if not fenced]


def headings(text: str) -> list[tuple[int, str]]:
    """Return level and text of each heading, in order."""
    return [(len(m[1]), m[2]) for line in prose(text) if (m := _HEADING.match(line))]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives a page: one for each heading, numbered where they repeat."""
    made: set[str] = set()
    counts: dict[str, int] = {}
    for _level, title in headings(text):
        slug = slug_of(title)
        number = counts.get(slug, 0)
        counts[slug] = number + 1
        made.add(f"{slug}-{number}" if number else slug)
    return made


def slug_of(title: str) -> str:
    """Return GitHub's anchor of a heading: lower case, without punctuation, hyphens for spaces."""
    plain = _LINK.sub(r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(text: str) -> list[str]:
    """Return the targets of all links outside of code."""
    return [m[2] for line in prose(text) for m in _LINK.finditer(_CODE.sub("code", line))]


def code_words(text: str) -> list[str]:
    """Return the words of all code: of spans in a line, and of fenced blocks."""
    found: list[str] = []
    for line, fenced in _lines(text):
        spans = [line] if fenced else [m[2] for m in _CODE.finditer(line)]
        found += [word for span in spans for word in span.split()]
    return found


def code_of(cell: str) -> tuple[str, ...]:
    """Return the code spans of a text."""
    return tuple(m[2] for m in _CODE.finditer(cell))


def table(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head.

    Raises:
        ValueError: the page has no such heading, or no table follows it.
    """
    lines = prose(text)
    begin = next((i for i, line in enumerate(lines) if (m := _HEADING.match(line)) and m[2] == heading), None)
    if begin is None:
        raise ValueError(f"no heading {heading!r}")
    rows: list[list[str]] = []
    for line in lines[begin + 1 :]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows or _HEADING.match(line):
            break
    if len(rows) < 3:
        raise ValueError(f"no table below {heading!r}")
    return rows[2:]


def _lines(text: str) -> list[tuple[str, bool]]:
    """Return each line, and whether it is in a fenced block; the fences themselves are left out."""
    found, fence = [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        else:
            found.append((line, bool(fence)))
    return found
