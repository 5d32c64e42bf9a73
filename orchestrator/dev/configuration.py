"""The configuration files of all components, from one function. Pure but for `write`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.common.bus.platform_hosts import platform_hosts
from components.common.bus.subjects import COMPONENTS, permissions
from components.common.filesystem.files import write_atomically
from orchestrator.dev.settings import SLICE, Settings

LOOPBACK = "127.0.0.1"
_REPLY_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a platform: settings, secrets, ports, and the (short) folder of sockets."""

    settings: Settings
    secrets: Mapping[str, str]
    ports: Mapping[str, int]
    run: Path

    def component(self, name: str) -> str:
        """Return a process's component: `dea` for `dea-0`."""
        return "dea" if name in self.settings.dea_names else name.replace("-", "_")


def dea_address(index: int) -> str:
    """Return a DEA's address: each has one of its own on loopback, so that they differ."""
    return f"127.0.0.{11 + index}"


def configurations(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return process name → configuration, in each daemon's form; `nats` is nats-server's own."""
    state, ports = plan.settings.state, plan.ports
    controller = f"http://{LOOPBACK}:{ports['controller']}"
    found: dict[str, dict[str, Any]] = {
        "nats": _nats(plan),
        "controller": {
            **_daemon(plan, "controller"),
            "host": LOOPBACK,
            "port": ports["controller"],
            "workers": 2,
            "database_url": plan.settings.database_url or f"sqlite:///{state / 'controller' / 'ccdb.sqlite'}",
            "share_path": str(state / "share"),
            "temp_path": str(state / "controller"),
            "domain": plan.settings.domain,
            "external_port": ports["front"],
            "token_keys": [plan.secrets["token_key"]],
            "bulk_password": plan.secrets["bulk"],
            "staging_password": plan.secrets["staging"],
            "admin_email": plan.settings.admin_email,
            "admin_password": plan.secrets["admin"],
            "drain_seconds": 0.0,
        },
        "stager": {
            **_daemon(plan, "stager"),
            "work_dir": str(state / "stager"),
            "sandbox": "process",
            "max_tasks": 2,
            "stop_seconds": 5,
        },
        "health-manager": {
            **_daemon(plan, "health-manager"),
            "controllers": [controller],
            "bulk_password": plan.secrets["bulk"],
        },
        "router": {
            **_daemon(plan, "router"),
            "run_path": str(plan.run),
            "platform_hosts": sorted(platform_hosts(plan.settings.domain)),
        },
    }
    for index, name in enumerate(plan.settings.dea_names):
        found[name] = {
            **_daemon(plan, name, dea_address(index)),
            "index": index,
            "zone": f"zone-{index % 2}",
            "base_dir": str(state / name),
            "run_dir": str(state / name / "run"),
            "share_path": str(state / "share"),
            "sandbox": "process",
            "max_memory": plan.settings.dea_memory,
            "ports": {"first": ports[f"{name}.first"], "last": ports[f"{name}.first"] + SLICE - 1},
            "files": {"host": dea_address(index), "port": ports[f"{name}.files"]},
        }
    for name, configuration in found.items():
        configuration.update(plan.settings.overrides.get(plan.component(name), {}))
    return found


def write(plan: Plan) -> dict[str, Path]:
    """Write all of them; return process name → file. They hold secrets, so only their owner can read them."""
    folder = plan.settings.state / "config"
    folder.mkdir(exist_ok=True)
    paths = {}
    for name, configuration in configurations(plan).items():
        paths[name] = folder / ("nats.conf" if name == "nats" else f"{name}.yml")
        # JSON is valid in nats-server's format.
        text = json.dumps(configuration, indent=2) if name == "nats" else yaml.safe_dump(configuration)
        write_atomically(paths[name], text)
    return paths


def _daemon(plan: Plan, name: str, address: str = LOOPBACK) -> dict[str, Any]:
    user = plan.component(name)
    return {
        "bus": {
            "urls": [f"nats://{LOOPBACK}:{plan.ports['nats']}"],
            "user": user,
            "password": plan.secrets[f"bus_{user}"],
        },
        "status": {"host": address, "port": plan.ports[name], "password": plan.secrets["status"]},
        "address": address,
    }


def _nats(plan: Plan) -> dict[str, Any]:
    """Return nats-server's configuration: every component has its own user and the contract's permissions."""
    users = []
    for user in COMPONENTS:
        allowed = permissions(user)
        rights: dict[str, Any] = {"publish": allowed.publish, "subscribe": allowed.subscribe}
        if allowed.allow_responses:
            rights["allow_responses"] = {"max": -1, "expires": f"{_REPLY_SECONDS}s"}
        users.append({"user": user, "password": plan.secrets[f"bus_{user}"], "permissions": rights})
    return {"listen": f"{LOOPBACK}:{plan.ports['nats']}", "authorization": {"timeout": 2, "users": users}}
