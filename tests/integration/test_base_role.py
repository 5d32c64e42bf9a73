"""Check mode of the role `base` on a machine that an earlier release set up."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.integration import local_play
from tests.integration.router_rig import ROOT

BASE = ROOT / "roles" / "base"


@pytest.mark.skipif(os.geteuid() != 0, reason="files are made as root's")
def test_what_is_to_lie_in_a_folder_that_is_not_there_yet_ends_no_check(tmp_path: Path) -> None:
    addition = tmp_path / "nftables.service.d" / "ingot.conf"
    (tmp_path / "templates").symlink_to(BASE / "templates")
    given = yaml.safe_load((BASE / "tasks" / "firewall.yml").read_text())
    tasks = [task for task in given if "__base_firewall_addition" in str(task)]
    for task in tasks:
        task.pop("notify", None)
    inputs = {
        "__base_firewall_addition": str(addition),
        "__base_firewall_file": "/etc/nftables.d/ingot.nft",
        "base_firewall_enabled": True,
    }
    written = textwrap.indent(yaml.safe_dump(tasks), "    ")
    done = local_play.run(tmp_path, written, inputs, "--check")
    assert done.returncode == 0, done.stdout
    assert not addition.parent.exists()
    done = local_play.run(tmp_path, written, inputs)
    assert done.returncode == 0, done.stdout
    assert "ExecStopPost=/usr/sbin/nft --file /etc/nftables.d/ingot.nft" in addition.read_text()
