"""Messages to DEAs and stagers about an application and its bound services (protocol 2.4 and 7.2)."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from components.common.bus.messages import DeaStart, HealthCheck, Limits
from components.common.frameworks import UNKNOWN
from components.controller.config import ControllerConfig
from components.controller.db.models import App, ServiceBinding
from components.controller.storage.store import Store

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_TYPES = {"mysql": "database", "postgresql": "database", "redis": "key-value", "mongodb": "key-value"}
_GENERIC = "generic"


def start_message(app: App, config: ControllerConfig, store: Store) -> DeaStart:
    """Return the start message of index 0 (protocol 2.4)."""
    digest = app.staged_package_hash or ""
    return DeaStart(
        droplet=app.id,
        name=app.name,
        version=app.version,
        uris=app.uris,
        runtime=app.runtime or None,
        framework=app.framework if app.framework != UNKNOWN else None,
        sha1=digest,
        executableFile=str(store.droplet(digest)) if digest else "",
        executableUri=f"http://{config.address}:{config.port}/staged_droplets/{app.id}/{digest}",
        services=[to_start_json(binding) for binding in app.bindings],
        limits=Limits(mem=app.memory, disk=app.disk_quota, fds=app.file_descriptors),
        env=[*app.environment, *_proxy_environment()],
        users=[app.owner.email],
        debug=app.details.get("debug"),
        console=app.details.get("console"),
        health=_health(app.details.get("health")),
    )


def to_start_json(binding: ServiceBinding) -> dict[str, Any]:
    """Return the SERVICE object of a start message (protocol 2.4)."""
    config, service = binding.config, binding.config.service
    return {
        "name": config.alias,
        "type": type_of(service.name),
        "label": service.label,
        "vendor": service.name,
        "version": service.version,
        "tags": list(service.tags),
        "plan": config.plan,
        "plan_option": config.plan_option,
        "credentials": dict(binding.credentials),
    }


def to_staging_json(binding: ServiceBinding) -> dict[str, Any]:
    """Return a bound service instance as staging gets it (protocol 7.2)."""
    config, service = binding.config, binding.config.service
    return {
        "label": service.label,
        "tags": list(service.tags),
        "name": config.alias,
        "credentials": dict(binding.credentials),
        "options": dict(binding.binding_options),
        "plan": config.plan,
        "plan_option": config.plan_option,
    }


def type_of(vendor: str) -> str:
    """Return the type by which clients sort vendors."""
    return _TYPES.get(vendor, _GENERIC)


def _health(kept: Any) -> HealthCheck | None:
    # A value that was stored before this member had a meaning is ignored.
    try:
        return msgspec.convert(kept, HealthCheck) if kept is not None else None
    except msgspec.ValidationError:
        return None


def _proxy_environment() -> list[str]:
    names = [n for name in _PROXIES for n in (name, name.lower())]
    return [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
