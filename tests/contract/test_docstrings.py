"""Docstrings use one form: functions return values, and a first line has a noun for its subject."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("components", "orchestrator")
_VERB = re.compile(r"Gives?\b")
_SUBJECT = re.compile(r"(What|Who|Whom|Whose|Whoever|Whatever|Nobody|Somebody)\b")


def docstrings(text: str) -> Iterator[tuple[int, str, bool]]:
    """The line, the text, and whether it describes a module or a class."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and (found := ast.get_docstring(node)):
            yield node.body[0].lineno, found, isinstance(node, (ast.Module, ast.ClassDef))


def problems(text: str) -> list[str]:
    found = []
    for line, docstring, names_a_thing in docstrings(text):
        if _VERB.match(docstring):
            found.append(f"{line}: begins with Give; want Return, or the verb of what is done")
        if names_a_thing and (word := _SUBJECT.match(docstring)):
            found.append(f"{line}: begins with {word[0]}; want a noun")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_use_one_form(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for problem in problems(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        '"""What goes on."""',
        '"""Whoever asks."""',
        'class Thing:\n    """Nobody\'s thing."""',
        'def name():\n    """Give the name."""',
        'async def _name():\n    """Gives the name."""',
    ],
)
def test_other_forms_are_found(text: str) -> None:
    assert len(problems(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '"""The given names."""',
        'def name():\n    """What a name is."""',
        'class Thing:\n    """Whole numbers."""',
    ],
)
def test_the_form_is_accepted(text: str) -> None:
    assert problems(text) == []
