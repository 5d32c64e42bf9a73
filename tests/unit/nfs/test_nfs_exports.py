"""What is exported, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible.plugins.filter.mathstuff import FilterModule

ROLE = Path(__file__).resolve().parents[3] / "roles" / "nfs_server"
TEMPLATES = ROLE / "templates" / "etc" / "exports.d"


def exports(**inputs: Any) -> dict[tuple[str, str], list[str]]:
    """Return the options of each export by its directory and client."""
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    environment.filters |= FilterModule().filters()
    known = {"ansible_managed": "managed"}
    inputs = {"nfs_server_path": SHARE} | inputs
    known |= yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()) | inputs
    said = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    placed = environment.from_string(said["__nfs_server_placed"]).render(known)
    known["__nfs_server_placed"] = yaml.safe_load(placed)
    names = [Path(file).name for file in said["__nfs_server_exports"]]
    assert {f"{name}.j2" for name in names} == {path.name for path in TEMPLATES.iterdir()}
    lines = [
        line
        for name in names
        for line in environment.from_string((TEMPLATES / f"{name}.j2").read_text()).render(known).splitlines()
    ]
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            place, client, options = line.rstrip(")").replace("(", " ").split(" ")
            assert (place, client) not in found
            found[place, client] = options.split(",")
    return found


SHARE, DROPLETS = "/srv/ingot/share", "/srv/ingot/share/droplets"


def test_who_writes_has_all_and_who_reads_has_droplets() -> None:
    found = exports(
        nfs_server_writers=["10.0.0.2", "10.0.0.1"], nfs_server_readers=["10.0.1.0/24", "10.0.0.1"]
    )
    assert list(found) == [(SHARE, "10.0.0.1"), (SHARE, "10.0.0.2"), (DROPLETS, "10.0.1.0/24")]
    writes, reads = found[SHARE, "10.0.0.1"], found[DROPLETS, "10.0.1.0/24"]
    assert writes == ["rw", "sync", "no_subtree_check", "root_squash", "sec=sys", "fsid=801"]
    assert reads == ["ro", "subtree_check", "all_squash", "sync", "root_squash", "sec=sys", "fsid=802"]


def test_readers_alone_are_exported_to_as_well() -> None:
    assert list(exports(nfs_server_writers=[], nfs_server_readers=["10.0.1.1"])) == [(DROPLETS, "10.0.1.1")]


def test_what_must_be_mounted_is_the_share() -> None:
    found = exports(
        nfs_server_writers=["10.0.0.1"], nfs_server_readers=["10.0.1.1"], nfs_server_mountpoint_only=True
    )
    assert len(found) == 2
    assert all(f"mountpoint={SHARE}" in options for options in found.values())
