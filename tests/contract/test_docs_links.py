"""Every link of a page leads somewhere, every page of docs/ stands in its index, and paths that pages name exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.contract.pages import DOCS, ROOT, anchors, code_words, links, pages, slug_of

INDEX = DOCS / "README.md"
# Pages that lead a reader through the code, so that each path in them must be there.
GUIDES = ("architecture.md", "changing-things.md")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")
# A path of the repository: no leading slash, no address, at least one slash. NAME and <name> stand for any.
_PATH = re.compile(r"[A-Za-z0-9_.][\w.<>*-]*(/[\w.<>*-]+)+/?")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def target_of(page: Path, link: str) -> tuple[Path, str]:
    """The file a relative link means, and its anchor."""
    path, _, anchor = unquote(link).partition("#")
    return ((page.parent / path).resolve() if path else page), anchor


def broken(page: Path, text: str) -> list[str]:
    found = []
    for link in links(text):
        if _SCHEME.match(link):
            continue
        target, anchor = target_of(page, link)
        if target != page and not (target.exists() and target.is_relative_to(ROOT)):
            found.append(f"{link}: no such file")
        elif anchor and anchor not in _anchors_of(target, text if target == page else None):
            found.append(f"{link}: no such heading")
    return found


def _anchors_of(target: Path, text: str | None) -> set[str]:
    if target.suffix != ".md":
        return set()
    return anchors(target.read_text() if text is None else text)


def missing(text: str) -> list[str]:
    """The paths of a text that name nothing in the repository."""
    found = []
    for word in code_words(text):
        path = word.strip("\"',;()").removesuffix(":")
        if not _PATH.fullmatch(path) or path.startswith("build/"):
            continue
        pattern = re.sub(r"<[^<>]+>|NAME", "*", path).rstrip("/")
        if not any(ROOT.glob(pattern)):
            found.append(path)
    return found


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def listed_by(index: Path) -> set[Path]:
    """Return the pages that an index links to; a folder's own README below `docs/` lists for it."""
    pages = {target_of(index, link)[0] for link in links(index.read_text()) if not _SCHEME.match(link)}
    below = {p for p in pages if p.name == "README.md" and p.parent.parent == DOCS and p != index}
    return pages.union(*(listed_by(p) for p in below if index == INDEX))


def test_the_index_itself_has_every_page_of_docs_and_of_roles() -> None:
    listed = listed_by(INDEX)
    wanted = {*DOCS.rglob("*.md"), *ROOT.glob("roles/*/README.md"), ROOT / "CONTRIBUTING.md"} - {INDEX}
    assert sorted(map(named, wanted - listed)) == []


@pytest.mark.parametrize("name", GUIDES)
def test_every_path_that_a_guide_names_exists(name: str) -> None:
    text = (DOCS / name).read_text()
    assert missing(text) == []
    assert sum(bool(_PATH.fullmatch(word)) for word in code_words(text)) > 50


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("gone.md", "no such file"),
        ("#no-such-part", "no such heading"),
        ("platform.md#no-such-part", "no such heading"),
        ("../Makefile#up", "no such heading"),
        ("../../elsewhere", "no such file"),
    ],
)
def test_a_broken_link_is_seen(link: str, says: str) -> None:
    (found,) = broken(
        DOCS / "a.md", f"# Part\n\n[a]({link}) and [b](platform.md#paths)\n\n```\n[c](x)\n```\n`[d](y)`"
    )
    assert found == f"{link}: {says}"


def test_a_path_that_is_gone_is_seen() -> None:
    text = "`components/gone.py`, `pytest tests/gone`, `roles/NAME/gone.yml`, `/etc/x`, `components/dea`, `roles/NAME/README.md`"
    assert missing(text) == ["components/gone.py", "tests/gone", "roles/NAME/gone.yml"]


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hard disk quotas", "hard-disk-quotas"),
        ("The router's two sockets", "the-routers-two-sockets"),
        ("`make up` \u2013 and *back*", "make-up--and-back"),
        ("A [link](x.md) in it", "a-link-in-it"),
    ],
)
def test_anchors_are_githubs(title: str, slug: str) -> None:
    assert slug_of(title) == slug


def test_headings_that_repeat_are_numbered_and_code_has_none() -> None:
    assert anchors("# A\n## A\n```\n# B\n```\n") == {"a", "a-1"}
