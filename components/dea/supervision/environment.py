"""The environment of an instance (protocol 4.5), with further variables for today's frameworks; pure.

It is handed over as a map, never through a shell: a value of the user's arrives byte for byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.common import variables
from components.common.bus.messages import DeaStart
from components.dea.instances.instance import Instance

_MB = 1024 * 1024
_SERVICE_MEMBERS = ("name", "label", "plan", "tags", "plan_option", "credentials")
_OLD_SERVICE_MEMBERS = ("name", "type", "vendor", "version")
# The variables that tell frameworks that this is no developer's machine, and keep their logs and files where the
# platform finds them.
_PRODUCTION = {
    "APP_ENV": "production",
    "NODE_ENV": "production",
    "RACK_ENV": "production",
    "RAILS_ENV": "production",
    "RAILS_LOG_TO_STDOUT": "enabled",
    "RAILS_SERVE_STATIC_FILES": "enabled",
}
# The vendors of a relational database, by their names in URLs.
_DATABASES = {"mysql": "mysql2", "postgresql": "postgres"}
_OLD_NAMES = "All VMC_* environment variables are deprecated, please use VCAP_* versions."


def environment(
    message: DeaStart,
    instance: Instance,
    directory: Path,
    *,
    address: str,
    dea: str,
    path: str,
    temporary: str,
    runtime: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment.

    Args:
        message: the controller's message.
        instance: its record, with its port.
        directory: its folder.
        address: the DEA's address.
        dea: the DEA's id.
        path: the search path of programs.
        temporary: its folder for temporary files.
        runtime: the variables that its runtime adds.
    """
    application = _json(application_facts(message, instance, address))
    port = "" if instance.port is None else str(instance.port)
    old_services = _json([_old_service(s) for s in message.services])
    found = {
        "HOME": str(directory),
        "PATH": path,
        "LANG": "C.UTF-8",
        "TMPDIR": temporary,
        "VCAP_APPLICATION": application,
        "VCAP_SERVICES": _json(services_by_label(message.services)),
        "VCAP_APP_HOST": address,
        "VCAP_APP_PORT": port,
        "VCAP_DEBUG_IP": "",
        "VCAP_DEBUG_PORT": "",
        "VCAP_CONSOLE_IP": "",
        "VCAP_CONSOLE_PORT": "",
        "VMC_SERVICES": old_services,
        "VMC_APP_INSTANCE": application,
        "VMC_APP_NAME": instance.name,
        "VMC_APP_ID": instance.id,
        "VMC_APP_VERSION": instance.version,
        "VMC_APP_HOST": address,
        "VMC_APP_PORT": port,
        "VMC_WARNING_WARNING": _OLD_NAMES,
        "INGOT_DEA": dea,
        **_PRODUCTION,
        **_todays(instance, address),
        **_urls(message.services),
        **_vendors(message.services),
        **runtime,
    }
    found |= {name: value for name, value in _pairs(message.env) if not (name == "PORT" and port)}
    return {name: variables.UNDELIVERABLE.sub("", value) for name, value in found.items()}


def application_facts(message: DeaStart, instance: Instance, address: str) -> dict[str, Any]:
    """Return `VCAP_APPLICATION`."""
    return {
        "instance_id": instance.id,
        "instance_index": instance.index,
        "name": instance.name,
        "uris": list(instance.uris),
        "users": list(message.users),
        "version": instance.version,
        "start": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(instance.started)),
        "runtime": instance.runtime,
        "state_timestamp": instance.state_timestamp,
        "port": instance.port,
        "limits": {
            "fds": instance.limits.fds,
            "mem": instance.limits.mem * _MB,
            "disk": instance.limits.disk * _MB,
        },
        "host": address,
    }


def services_by_label(services: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return `VCAP_SERVICES`: the bound services by label; members that are null are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for service in services:
        shown = {m: service[m] for m in _SERVICE_MEMBERS if service.get(m) is not None}
        found.setdefault(str(service.get("label", "")), []).append(shown)
    return found


def _old_service(service: Mapping[str, Any]) -> dict[str, Any]:
    shown = {m: service[m] for m in _OLD_SERVICE_MEMBERS if service.get(m) is not None}
    # Old clients know the plan of a start message as the tier.
    tier = service.get("tier") or service.get("plan")
    return {**shown, **({"tier": tier} if tier else {}), "options": service.get("credentials") or {}}


def _todays(instance: Instance, address: str) -> dict[str, str]:
    """Return the variables that platforms since 2011 agree on; the first three as in the instance's own `/etc/passwd`."""
    found = {
        "USER": "app",
        "LOGNAME": "app",
        "SHELL": "/bin/bash",
        "MEMORY_LIMIT": f"{instance.limits.mem}m",
        "INSTANCE_INDEX": str(instance.index),
        "INSTANCE_GUID": instance.id,
        "CF_INSTANCE_INDEX": str(instance.index),
        "CF_INSTANCE_GUID": instance.id,
        "CF_INSTANCE_IP": address,
    }
    if instance.port is not None:
        port = str(instance.port)
        found |= {"PORT": port, "CF_INSTANCE_PORT": port, "CF_INSTANCE_ADDR": f"{address}:{port}"}
    return found


def _urls(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return `DATABASE_URL` and `REDIS_URL`, each where one service can be meant: the only one, or the one marked by its name.

    Protocol 7.4 has the rule of the mark: the alias ends in `production` or `prod`.
    """
    found = {}
    services = list(services)
    for variable, vendors in (("DATABASE_URL", _DATABASES), ("REDIS_URL", {"redis": "redis"})):
        meant = [s for s in services if s.get("vendor") in vendors]
        if len(meant) > 1:
            meant = [s for s in meant if str(s.get("name", "")).endswith(("production", "prod"))]
        if len(meant) == 1:
            url = _url(vendors[str(meant[0]["vendor"])], meant[0].get("credentials") or {})
            if url:
                found[variable] = url
    return found


def _url(scheme: str, credentials: Mapping[str, Any]) -> str:
    given = credentials.get("uri") or credentials.get("url")
    if isinstance(given, str) and given:
        return given
    host, port = credentials.get("hostname") or credentials.get("host"), credentials.get("port")
    if not host or not port:
        return ""
    user = quote(str(credentials.get("username") or credentials.get("user") or ""), safe="")
    password = quote(str(credentials.get("password") or ""), safe="")
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    name = "" if scheme == "redis" else quote(str(credentials.get("name") or ""), safe="")
    return f"{scheme}://{who}{host}:{port}/{name}".removesuffix("/" if scheme == "redis" else "")


def _vendors(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return `VMC_<VENDOR>`: `host:port` of each service that has both."""
    found = {}
    for service in services:
        credentials = service.get("credentials") or {}
        name = f"VMC_{service.get('vendor') or ''}".upper()
        host = credentials.get("hostname") or credentials.get("host")
        if host and credentials.get("port") and variables.NAME.fullmatch(name) and service.get("vendor"):
            found[name] = f"{host}:{credentials['port']}"
    return found


def _pairs(env: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in env:
        name, separator, value = line.partition("=")
        if separator and variables.is_users(name):
            yield name, value


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
