"""Text files of all editors are read alike by the client and by the stager."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.client.detect import _WEB
from components.client.text import decode
from components.stager import reading
from components.stager.procfile import web_command

MARK = "\ufeff"


@pytest.mark.parametrize(
    "raw",
    [
        "web: a \u00e4".encode(),
        f"{MARK}web: a \u00e4".encode(),
        f"{MARK}web: a \u00e4".encode("utf-16-le"),
        f"{MARK}web: a \u00e4".encode("utf-16-be"),
    ],
)
def test_the_mark_is_no_part_of_a_text(raw: bytes) -> None:
    assert decode(raw) == reading.decode(raw) == "web: a \u00e4"


def test_what_is_in_no_such_encoding_is_an_error_or_replaced() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode(b"caf\xe9")
    assert decode(b"caf\xe9", "replace") == reading.decode(b"caf\xe9") == "caf\ufffd"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("web: node s.js\r\n", "node s.js"),
        ("web : node s.js", "node s.js"),
        ("worker: x\nweb:\tnode s.js  \n", "node s.js"),
        ("web:\nnode s.js\n", None),
        ("web:   \r\nnode s.js\n", None),
        ("website: x\n", None),
    ],
)
def test_client_and_stager_judge_a_procfile_alike(tmp_path: Path, text: str, command: str | None) -> None:
    (tmp_path / "Procfile").write_text(text, newline="")
    assert web_command(tmp_path) == command
    assert bool(_WEB.search(text)) is (command is not None)
