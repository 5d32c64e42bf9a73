"""Which interpreters a DEA finds, and what it says of them."""

from __future__ import annotations

from pathlib import Path

from components.dea.config import RuntimeConfig, default_runtimes
from components.dea.runtimes import Runtimes, discover


def speaking(path: Path, text: str, status: int = 0) -> str:
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


async def test_what_is_there_is_offered_with_its_version(tmp_path: Path) -> None:
    said = {
        "python3": "Python 3.11.2",
        "node": "v18.20.4",
        "ruby": "ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]",
        "java": "openjdk 17.0.15 2025-04-15",
        "php": "PHP 8.2.28 (cli) (built: Mar 13 2025 18:21:38) (NTS)",
    }
    known = default_runtimes()
    configured = {
        name: RuntimeConfig(
            speaking(tmp_path / name, text),
            known[name].version,
            known[name].version_flag,
            known[name].aliases,
        )
        for name, text in said.items()
    }
    found = await discover(configured)
    assert found.versions == {
        "python3": "3.11.2",
        "node": "18.20.4",
        "ruby": "3.1.2",
        "java": "17.0.15",
        "php": "8.2.28",
    }
    assert {"ruby", "ruby18", "python26", "node04"} <= set(found.names)
    assert found.offers("ruby19")
    assert not found.offers("erlangR14B02")


async def test_what_is_missing_failing_or_of_another_version_is_left_out(tmp_path: Path) -> None:
    found = await discover(
        {
            "gone": RuntimeConfig(str(tmp_path / "gone")),
            "broken": RuntimeConfig(speaking(tmp_path / "broken", "1.0", 1)),
            "old": RuntimeConfig(speaking(tmp_path / "old", "ruby 1.8.7"), r"ruby 3\."),
            "odd": RuntimeConfig(speaking(tmp_path / "odd", "no number")),
        }
    )
    assert found.names == ["odd"]
    assert found.versions == {"odd": ""}


def test_runtimes_go_by_their_aliases() -> None:
    python = RuntimeConfig("/usr/bin/python3", aliases=["python2"])
    found = Runtimes({"python3": python})
    assert found.names == ["python2", "python3"]
    assert found.find("python2") is python
    assert found.offers(None)
    assert found.offers("")
    assert not found.offers("ruby18")
