"""The preflight play against the example inventory: refused with its placeholders, accepted once it has secrets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.inventories import copy_of, preflight, with_secrets

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "inventories" / "private_dc"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy as an operator makes it, with a release that it can find."""
    return copy_of(EXAMPLE, tmp_path)


def test_the_example_lies_anywhere_and_holds_nothing_but_files_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    # As `cp -r` does it: what would be a link stays one.
    shutil.copytree(EXAMPLE, folder, symlinks=True)
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", folder, "--list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = json.loads(done.stdout)
    given = set(listed["_meta"]["hostvars"]["ctl1"])
    assert {"ingot_domain", "ingot_release", "ingot_zone", "ansible_host"} <= given
    # Whatever follows from these is the release's to say.
    roles = tuple(
        f"{path.name}_" for path in (ROOT / "roles").iterdir() if path.name not in ("ingot", "base")
    )
    assert [name for name in sorted(given) if name.startswith(roles)] == ["controller_allow_registration"]
    assert "WARNING" not in done.stderr


def test_the_example_is_accepted_once_it_has_secrets(copy: Path) -> None:
    with_secrets(copy)
    code, said = preflight(copy)
    assert code == 0, said


def test_wiring_of_an_earlier_checkout_goes_on_with_a_warning(copy: Path) -> None:
    with_secrets(copy)
    old = "# The platform's inputs as the ccdb role wants them.\nccdb_password: '{{ ingot_ccdb_password }}'\n"
    (copy / "group_vars" / "ccdb.yml").write_text(old)
    code, said = preflight(copy)
    assert code == 0, said
    assert "group_vars/ccdb.yml: holds the wiring of an earlier checkout" in said


def test_its_placeholders_are_refused_and_so_is_everything_else_that_is_wrong(copy: Path) -> None:
    variables = copy / "group_vars"
    (variables / "all" / "secrets.yml").write_text((variables / "secrets.example.yml").read_text())
    (variables / "nats.yml").symlink_to("../../lab/group_vars/nats.yml")
    (variables / "router.yml").write_text("router_wrokers: 4\nrouter_status_port: 80\n")
    platform = variables / "all" / "platform.yml"
    platform.write_text(platform.read_text().replace("ingot_domain:", "# ingot_domain:"))
    pool = copy / "10-fixed.yml"
    pool.write_text(pool.read_text().replace("10.20.1.4", "10.20.1.3"))
    code, said = preflight(copy)
    assert code == 2
    for wanted in (
        "no machine was touched",
        "ingot_ccdb_password: still holds CHANGE_ME",
        "ingot_bus_passwords: still holds CHANGE_ME",
        "did you mean router_workers?",
        "router_status_port, router_port: port 80 is wanted twice, by router and nginx",
        "ingot_domain: is missing",
        "group_vars/nats.yml: is a dangling link to ../../lab/group_vars/nats.yml; remove it: the wiring is in the release since 0.1.0",
        "dea3, dea4 have the same address 10.20.1.3",
    ):
        assert wanted in said
    assert "UNREACHABLE" not in said
