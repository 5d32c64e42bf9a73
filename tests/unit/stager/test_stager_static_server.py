"""Which files the static server shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.stager.frameworks.static_server import Handler


@pytest.mark.parametrize(
    ("landing", "shown"),
    [
        ("public/a.css", True),
        ("assets/logo.png", True),
        (".env", False),
        ("assets/.secret", False),
        (".ingot/static_server.py", False),
        ("../startup", False),
        ("../elsewhere", False),
    ],
)
def test_a_link_may_lead_to_any_file_of_the_application_but_hidden_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, landing: str, shown: bool
) -> None:
    app = tmp_path / "app"
    (app / "public").mkdir(parents=True)
    monkeypatch.chdir(app)
    handler = Handler.__new__(Handler)
    handler.root = (app / "public").resolve()
    assert handler._may_show((app / landing).resolve()) is shown
