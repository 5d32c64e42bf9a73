"""Numbers in foreign texts: read, or not, and never an exception."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.digits import MOST, whole_number

JUDGES = {"isdigit", "isdecimal", "isnumeric"}
# Names that the kernel or the platform itself wrote, and texts of which no number is made.
OWN = {
    "components/common/digits.py",
    "components/common/procfs.py",
    "components/common/units/properties.py",
    "components/controller/api/openapi.py",
    "components/dea/ports/readiness.py",
    "components/router/routes.py",
    "components/stager/frameworks/python.py",
    "orchestrator/lab/host/processes.py",
    "orchestrator/plays/run_folder.py",
}
NONE = ["", " 1", "1 ", "-1", "+1", "1.0", "1_000", "²", "1²", "٣", "0x1", "9" * 19, "1" * 5000]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_number_is_none(text: str) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("65535", 65535), (str(MOST), MOST)])
def test_what_is_one_is_read(text: str, number: int) -> None:
    assert whole_number(text) == number


def test_a_bound_is_within() -> None:
    assert (whole_number("10", 10), whole_number("11", 10)) == (10, None)


@given(st.text())
def test_any_text_is_a_number_of_the_bounds_or_none(text: str) -> None:
    number = whole_number(text)
    assert number is None or 0 <= number <= MOST


def test_foreign_texts_are_judged_nowhere_else() -> None:
    found = {
        str(path)
        for room in ("components", "orchestrator")
        for path in Path(room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in JUDGES
    }
    assert found == OWN
