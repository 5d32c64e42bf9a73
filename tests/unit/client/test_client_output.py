"""Tables of every width, and texts of others."""

import re
import sys

import pytest

from components.client import output
from components.client.output import clean


@pytest.mark.parametrize(("width", "columns"), [("80", True), ("20", False)])
def test_table_that_does_not_fit_becomes_blocks(monkeypatch, capsys, width, columns):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("NO_COLOR", "1")
    output.table(("NAME", "STATE", "#RUNNING"), [("hello", "STARTED", "1/1"), ("[b]", None, "0/1")], "none")
    written = capsys.readouterr().out
    assert "\x1b[3" not in written
    # Bold is no colour, and stays.
    shown = re.sub(r"\x1b\[\d+m", "", written)
    assert ("NAME   STATE    RUNNING" in shown) is columns
    assert ("name     hello" in shown) is not columns
    assert "[b]" in shown


def test_table_in_a_pipe_is_never_cut(capsys):
    output.table(("A", "B"), [("x" * 300, "y")], "none")
    assert "x" * 300 + "  y" in capsys.readouterr().out
    output.table(("A",), [], "none at all")
    assert "none at all" in capsys.readouterr().out


def test_what_others_wrote_does_not_steer_the_terminal():
    assert clean("a\x1b[31mb\x1b[2J\x1b]0;title\x07c\rd\x00\te") == "abcd\te"
    assert clean("½ … ñ 漢") == "½ … ñ 漢"
