"""Every daemon accepts what the development harness writes for it."""

import json
import stat

import pytest
import yaml

from components.common.bus.subjects import COMPONENTS, permissions
from components.common.config import parse
from components.controller.config import ControllerConfig
from components.dea.config import DeaConfig
from components.health_manager.config import HealthManagerConfig
from components.router.config import RouterConfig
from components.stager.config import StagerConfig
from orchestrator.dev.configuration import Plan, configurations, write
from orchestrator.dev.settings import Settings, choose_ports, load_secrets

KINDS = {
    "controller": ControllerConfig,
    "dea-0": DeaConfig,
    "dea-1": DeaConfig,
    "health-manager": HealthManagerConfig,
    "router": RouterConfig,
    "stager": StagerConfig,
}


@pytest.fixture
def plan(tmp_path):
    settings = Settings(
        tmp_path, port=0, overrides={"dea": {"zone": "z"}, "health_manager": {"bulk_batch": 7}}
    )
    return Plan(settings, load_secrets(tmp_path), choose_ports(settings), tmp_path / "router")


def test_every_daemon_accepts_its_file(plan):
    files = write(plan)
    assert sorted(files) == sorted([*KINDS, "nats"])
    for name, kind in KINDS.items():
        config = parse(yaml.safe_load(files[name].read_text()), kind, name)
        assert config.bus.password == plan.secrets[f"bus_{config.bus.user}"]
        assert stat.S_IMODE(files[name].stat().st_mode) == 0o600


def test_overrides_win_for_every_dea(plan):
    found = configurations(plan)
    assert [found[name]["zone"] for name in ("dea-0", "dea-1")] == ["z", "z"]
    assert found["health-manager"]["bulk_batch"] == 7


def test_no_two_listeners_meet(plan):
    listeners = [port for name, port in plan.ports.items() if not name.endswith(".first")]
    assert len(set(listeners)) == len(listeners)
    found = configurations(plan)
    first, second = (found[name]["ports"] for name in ("dea-0", "dea-1"))
    assert first["last"] < second["first"] or second["last"] < first["first"]


def test_bus_has_the_contracts_permissions(plan):
    users = json.loads(write(plan)["nats"].read_text())["authorization"]["users"]
    assert {user["user"] for user in users} == set(COMPONENTS)
    for user in users:
        may = permissions(user["user"])
        assert user["permissions"]["publish"] == may.publish
        assert ("allow_responses" in user["permissions"]) is may.allow_responses


def test_secrets_stay_and_are_private(tmp_path):
    first = load_secrets(tmp_path)
    assert load_secrets(tmp_path) == first
    assert len(set(first.values())) == len(first)
    assert (tmp_path / "admin_password").read_text().strip() == first["admin"]
    for name in ("secrets.json", "admin_password"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
