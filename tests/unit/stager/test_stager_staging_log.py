"""The log of a staging: its lines and its length are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.stager.staging_log import LONGEST_LINE, MOST_KEPT, MOST_SENT, StagingLog, clean


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("10%\r50%\r100%\r\n", "100%"),
        (
            "Looking in indexes: https://me:secret@index.example/simple",
            "Looking in indexes: https://***@index.example/simple",
        ),
        ("nul\x00bell\x07", "nulbell"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_a_line_is_made_fit_to_be_shown(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text())
def test_a_clean_line_is_one_line_of_bounded_length(raw: str) -> None:
    line = clean(raw)
    assert len(line) <= LONGEST_LINE + 4
    assert "\r" not in line
    line.encode()


def test_a_short_log_is_kept_whole() -> None:
    log = StagingLog()
    assert [log.add(f"line {i}") for i in range(3)] == ["line 0", "line 1", "line 2"]
    assert log.text() == "line 0\nline 1\nline 2"
    assert log.tail() == log.text()


def test_a_long_log_keeps_its_beginning_and_its_end() -> None:
    log = StagingLog()
    sent = [log.add(f"{i} " + "x" * 1000) for i in range(3000)]
    text = log.text()
    assert len(text.encode()) < MOST_KEPT + 100
    assert text.startswith("0 x")
    assert "2999 x" in text
    assert "lines left out" in text
    shown = [line for line in sent if line is not None]
    assert sum(len(line) + 1 for line in shown[:-1]) <= MOST_SENT
    assert "not shown" in shown[-1]
