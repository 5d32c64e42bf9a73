"""A lab's secrets: made once, private, kept, and completed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from components.common.bus.subjects import COMPONENTS
from orchestrator.inventory import platform_secrets

ROOT = Path(__file__).resolve().parents[3]


def test_every_secret_of_the_platform_is_made() -> None:
    made = platform_secrets.generate_secrets()
    options = yaml.safe_load((ROOT / "playbooks" / "inputs" / "platform.yml").read_text())["options"]
    assert set(made) == {name for name, option in options.items() if option.get("no_log")}
    assert set(made["ingot_bus_passwords"]) == {*COMPONENTS, "operator", "peer", "cluster"}


def test_secrets_differ_and_need_no_quotes() -> None:
    made = platform_secrets.generate_secrets()
    maps = [*made.pop("ingot_bus_passwords").values(), *made.pop("ingot_service_tokens").values()]
    values = [*maps, *made.pop("ingot_token_keys"), *made.values()]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", value) for value in values)


def test_what_is_known_is_kept_and_what_is_missing_made() -> None:
    known = {"ingot_bus_passwords": {"dea": "old"}, "ingot_admin_password": "mine", "ingot_other": 1}
    made = platform_secrets.generate_secrets(known)
    assert made["ingot_admin_password"] == "mine"
    assert made["ingot_other"] == 1
    assert made["ingot_bus_passwords"]["dea"] == "old"
    assert "router" in made["ingot_bus_passwords"]


def test_the_file_is_private_and_written_once(tmp_path: Path) -> None:
    first = platform_secrets.lab_secrets(tmp_path / "inventory")
    path = tmp_path / "inventory" / platform_secrets.SECRETS
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.stat()
    assert platform_secrets.lab_secrets(tmp_path / "inventory") == first
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert [p.name for p in path.parent.iterdir()] == [platform_secrets.SECRETS]
