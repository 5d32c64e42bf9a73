"""What one release says to another: messages of the bus, the API, configurations and inputs, as data that later releases keep.

    python -m tests.contract.baseline_record COMMIT

writes the data of this checkout, which is to be that commit's, into `tests/contract/baseline/` and its name into `baseline.txt`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from components.common.bus.subjects import CONTRACT
from components.controller.api.app import create_app
from components.controller.api.openapi import describe
from components.controller.config import ControllerConfig
from components.dea.config import DeaConfig
from components.health_manager.config import HealthManagerConfig
from components.router.config import RouterConfig
from components.services.base.config import GatewayConfig
from components.services.redis.config import RedisNodeConfig
from components.stager.config import StagerConfig
from orchestrator.config import OrchestratorConfig
from orchestrator.inventory.platform_secrets import generate_secrets
from tests.contract.pages import ROOT
from tests.contract.shapes import Shape, of_schema, of_type
from tests.contract.vmc_client import controller_in

COMMIT = Path(__file__).with_name("baseline.txt")
FOLDER = Path(__file__).with_name("baseline")
EXAMPLE = ROOT / "inventories" / "private_dc"
_SCHEMAS = "#/components/schemas/"
CONFIGURATIONS: dict[str, type] = {
    "controller": ControllerConfig,
    "dea": DeaConfig,
    "health_manager": HealthManagerConfig,
    "orchestrator": OrchestratorConfig,
    "router": RouterConfig,
    "service_redis_gateway": GatewayConfig,
    "service_redis_node": RedisNodeConfig,
    "stager": StagerConfig,
}


def messages() -> dict[str, dict[str, Shape]]:
    """Return the shapes of what each subject carries and of its replies, by subject."""
    return {
        subject.name: {
            part: of_type(kind)
            for part, kind in (("carries", subject.carries), ("reply", subject.reply))
            if kind is not None
        }
        for subject in CONTRACT
    }


def api() -> dict[str, dict[str, Any]]:
    """Return query parameters, bodies and answers of the controller's API, by method and path."""
    with tempfile.TemporaryDirectory() as folder, controller_in(Path(folder)) as controller:
        document = describe(create_app(controller), "api.ingot.test")
    named = {_SCHEMAS + name: schema for name, schema in document["components"]["schemas"].items()}

    def json_of(content: dict[str, Any]) -> Shape | None:
        media = content.get("content", {}).get("application/json")
        return of_schema(media["schema"], named) if media and "schema" in media else None

    return {
        f"{method.upper()} {path}": {
            "query": sorted(p["name"] for p in operation["parameters"] if p["in"] == "query"),
            "body": json_of(operation.get("requestBody", {})),
            "answers": {
                status: json_of(answer)
                for status, answer in sorted(operation["responses"].items())
                if status < "400"
            },
        }
        for path, operations in sorted(document["paths"].items())
        for method, operation in sorted(operations.items())
        if method in ("get", "put", "post", "delete", "patch")
    }


def configurations() -> dict[str, Shape]:
    """Return the shape of each daemon's configuration, by daemon."""
    return {daemon: of_type(kind) for daemon, kind in CONFIGURATIONS.items()}


def inputs() -> dict[str, dict[str, str]]:
    """Return the type of each input, by role and name; the platform's own stand under `platform`."""
    own = yaml.safe_load((ROOT / "playbooks" / "inputs" / "platform.yml").read_text())["options"]
    found = {"platform": _types(own)}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        found[path.parts[-3]] = _types(
            yaml.safe_load(path.read_text())["argument_specs"].get("main", {}).get("options", {})
        )
    return found


def _masked(value: Any, name: str) -> Any:
    """Return secrets with names in their places: what they are does not count, but which there are."""
    if isinstance(value, dict):
        return {key: _masked(part, f"{name}-{key}") for key, part in value.items()}
    return [_masked(part, f"{name}-{n}") for n, part in enumerate(value)] if isinstance(value, list) else name


def _types(options: dict[str, Any]) -> dict[str, str]:
    return {name: option.get("type", "str") for name, option in options.items()}


PARTS: dict[str, Callable[[], Any]] = {
    "messages": messages,
    "api": api,
    "configurations": configurations,
    "inputs": inputs,
}


def main(commit: str) -> None:
    """Write the data of this checkout."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(EXAMPLE, FOLDER / "inventory")
    secrets = _masked(generate_secrets({"ingot_bus_passwords": {"cluster": ""}}), "baseline")
    (FOLDER / "inventory" / "group_vars" / "all" / "secrets.yml").write_text(yaml.safe_dump(secrets))
    for name, part in PARTS.items():
        # A line for each subject, route, daemon or role, so that a difference can be read.
        lines = [f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in part().items()]
        (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    COMMIT.write_text(f"{commit}\n")


if __name__ == "__main__":
    main(sys.argv[1])
