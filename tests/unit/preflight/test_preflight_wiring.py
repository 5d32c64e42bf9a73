"""The wiring that an inventory had beside it before 0.1.0: recognised as links and as copies, working or not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def wiring() -> ModuleType:
    path = ROOT / "playbooks" / "filter_plugins" / "ingot_wiring.py"
    spec = importlib.util.spec_from_file_location("ingot_wiring", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    """`group_vars` of an inventory with an operator's own files alone."""
    folder = tmp_path / "mine" / "group_vars"
    (folder / "all").mkdir(parents=True)
    (folder / "all" / "platform.yml").write_text("ingot_domain: x.test\n")
    (folder / "controller.yml").write_text("# Ours.\ncontroller_workers: 4\n")
    return folder


def old_file(name: str, role: str) -> str:
    return f'---\n# The platform\'s inputs as {name} want them.\n{role}_release: "{{{{ ingot_release }}}}"\n'


def test_an_inventory_without_it_is_passed_over(wiring: ModuleType, variables: Path, tmp_path: Path) -> None:
    nothing: dict[str, list[str]] = {"problems": [], "warnings": []}
    assert wiring.ingot_old_wiring(str(variables.parent)) == nothing
    assert wiring.ingot_old_wiring(str(tmp_path)) == nothing


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("nats.yml", "../../lab/group_vars/nats.yml"),
        ("all/release.yml", "../../../lab/group_vars/all/release.yml"),
        ("orchestrator/platform.yml", "/srv/elsewhere/lab/group_vars/orchestrator/platform.yml"),
        # Whatever it leads to, and whatever its own name is.
        ("router.yml", "/nowhere/wiring.yml"),
        ("dea/wiring.yml", "../../../lab/group_vars/dea.yml"),
    ],
)
def test_a_dangling_link_is_a_problem_with_its_remedy(
    wiring: ModuleType, variables: Path, place: str, target: str
) -> None:
    path = variables / place
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)
    assert wiring.ingot_old_wiring(str(variables.parent)) == {
        "problems": [
            f"group_vars/{place}: is a dangling link to {target}; remove it: the wiring is in the release since 0.1.0"
        ],
        "warnings": [],
    }


def test_a_dangling_link_of_the_operators_own_is_none_of_it(wiring: ModuleType, variables: Path) -> None:
    (variables / "all" / "secrets.yml").symlink_to("/mnt/secrets.yml")
    assert wiring.ingot_old_wiring(str(variables.parent))["problems"] == []


def test_a_working_link_and_copies_are_warned_of(wiring: ModuleType, variables: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "lab" / "group_vars"
    checkout.mkdir(parents=True)
    (checkout / "ccdb.yml").write_text('ccdb_password: "{{ ingot_ccdb_password }}"\n')
    (variables / "ccdb.yml").symlink_to("../../lab/group_vars/ccdb.yml")
    (variables / "nats.yml").write_text(old_file("the nats role", "nats").replace("want", "wants"))
    (variables / "services.yml").write_text(old_file("the roles of the data services", "service_redis"))
    # Edited, so that its first lines are gone.
    (variables / "dea").mkdir()
    (variables / "dea" / "ours.yml").write_text('dea_cache_mb: 1\ndea_bus_urls: "{{ __bus_urls }}"\n')
    found = wiring.ingot_old_wiring(str(variables.parent))
    assert found["problems"] == []
    assert [said.partition(":")[0] for said in found["warnings"]] == [
        f"group_vars/{name}.yml" for name in ("ccdb", "dea/ours", "nats", "services")
    ]
    assert all("remove it, but for what you added" in said for said in found["warnings"])


def test_the_inventories_of_the_checkout_have_none(wiring: ModuleType) -> None:
    for folder in (ROOT / "inventories").iterdir():
        assert wiring.ingot_old_wiring(str(folder)) == {"problems": [], "warnings": []}
        assert not [path for path in folder.rglob("*") if path.is_symlink()]
