"""The plan of a change that a POST or PUT of an application requests (protocol 1.8). Pure.

`plan` applies the request to the application as it is, and returns it as it will be or raises the error of the first
failing step; `decide` returns the actions outside the database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from components.common import variables
from components.common.errors import IngotError
from components.common.frameworks import UNKNOWN, InvalidFrameworkError, find_framework, resolve
from components.common.states import AppState, PackageState
from components.controller.config import Capacity
from components.controller.errors import ApiError, Code, bad_request, invalid_app

_NAME = re.compile(r"[\w-]{1,255}", re.ASCII)
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_SCHEME = re.compile(r"https?://")
_PORT = re.compile(r":\d+$")
# The characters of a request line: no space, no control character.
_PATH = re.compile(r"/[!-~]{0,1023}")
DEFAULT_HEALTH_SECONDS = 60
MOST_INSTANCES = 1000
# MB. With less memory than this no program starts that answers a request.
LEAST_MEMORY, MOST_MEMORY = 16, 1 << 20
# Bytes.
MOST_ENV, MOST_META, LONGEST_COMMAND = 256 << 10, 64 << 10, 8192


@dataclass(frozen=True, slots=True)
class AppSpec:
    """An application as its row has it, or will have it."""

    name: str
    state: str = AppState.STOPPED
    package_state: str = PackageState.PENDING
    has_package: bool = False
    framework: str = ""
    runtime: str = ""
    uris: tuple[str, ...] = ()
    instances: int = 0
    memory: int = 256
    env: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    lock_version: int = 0
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """The owner's limits, and the usage of the owner's other applications: MB and instances of started ones, and counts.

    `disk` is the MB that an instance of this application reserves.
    """

    capacity: Capacity
    used_memory: int = 0
    used_instances: int = 0
    used_disk: int = 0
    disk: int = 2048
    routes: int = 0
    apps: int = 0
    registered: bool = False
    admin: bool = False
    domain: str = "ingot.localhost"
    platform: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()
    reserved_length: int = 0
    allow_external: bool = False
    allow_debug: bool = False


@dataclass(frozen=True, slots=True)
class Actions:
    """The actions outside the database, in this order."""

    stop: bool = False
    stage: bool = False
    start: bool = False
    grow: tuple[int, ...] = ()
    shrink: tuple[int, ...] = ()
    reroute: bool = False

    @property
    def any(self) -> bool:
        """Return whether there is an action."""
        return self != Actions()


def plan(current: AppSpec, body: Mapping[str, Any], rules: ChangeRules, *, create: bool = False) -> AppSpec:
    """Return the application as it will be; unknown members are ignored, because clients send back all that they got.

    Raises:
        ApiError: the first of protocol 1.8's steps that fails.
    """
    target = replace(current, lock_version=_next_version(current, body))
    target = replace(target, state=_state(current, body), instances=_instances(current, body))
    target = replace(target, memory=_memory(current, body))
    _check_capacity(current, target, rules, create=create)
    target = replace(target, uris=_uris(current, body, rules), env=_env(current, body))
    target = _with_staging(target, body, create=create)
    target = replace(target, details=_details(current, target, body, rules))
    if create and not _NAME.fullmatch(target.name):
        raise invalid_app("name: want 1 to 255 letters, digits, `_` and `-`")
    target = replace(target, services=_services(body))
    if _starts(current, target) and not target.has_package:
        raise invalid_app("nothing has been uploaded that could be started")
    return target


def decide(current: AppSpec, target: AppSpec) -> Actions:
    """Return the actions that follow from a change (protocol 1.8, steps 12 to 14)."""
    if target.state != AppState.STARTED:
        return Actions(stop=current.state == AppState.STARTED)
    stage = target.has_package and target.package_state != PackageState.STAGED
    if stage or current.state != AppState.STARTED:
        # New code for a running application: the old instances stop first, because they hold the memory.
        return Actions(stage=stage, start=True)
    return Actions(
        grow=tuple(range(current.instances, target.instances)),
        shrink=tuple(range(target.instances, current.instances)),
        reroute=target.uris != current.uris,
    )


def normalise_uri(text: object, rules: ChangeRules) -> str:
    """Return a route in its stored form: lower case, no scheme, no port.

    Raises:
        ApiError: URI_INVALID, URI_ALREADY_TAKEN for a reserved host, URI_NOT_ALLOWED for one outside the platform's domain.
    """
    # Some letters beyond ASCII have lower cases within ASCII.
    if not isinstance(text, str) or not text.isascii():
        raise ApiError(Code.URI_INVALID, text)
    host = _PORT.sub("", _SCHEME.sub("", text.strip().lower()).rstrip("/"))
    if len(host) > 253 or not _HOST.fullmatch(host) or any(len(label) > 63 for label in host.split(".")):
        raise ApiError(Code.URI_INVALID, text)
    if host.startswith("*.") and not rules.admin:
        raise ApiError(Code.URI_INVALID, text)
    suffix = f".{rules.domain}"
    if host in rules.platform:
        raise ApiError(Code.URI_ALREADY_TAKEN, host)
    if rules.admin:
        return host
    if host in rules.reserved:
        raise ApiError(Code.URI_ALREADY_TAKEN, host)
    if not host.endswith(suffix):
        if not rules.allow_external:
            raise ApiError(Code.URI_NOT_ALLOWED)
    elif len(host) - len(suffix) <= rules.reserved_length:
        raise ApiError(Code.URI_ALREADY_TAKEN, host)
    return host


def _next_version(current: AppSpec, body: Mapping[str, Any]) -> int:
    meta = body.get("meta")
    given = meta.get("version") if isinstance(meta, Mapping) else None
    if given is not None and _number(given, "meta.version") != current.lock_version:
        raise ApiError(Code.LOCKING_ERROR, given)
    return current.lock_version + 1


def _state(current: AppSpec, body: Mapping[str, Any]) -> str:
    given = str(body.get("state", "")).upper()
    return given if given in (AppState.STARTED, AppState.STOPPED) else current.state


def _instances(current: AppSpec, body: Mapping[str, Any]) -> int:
    if body.get("instances") is None:
        return current.instances
    number = _number(body["instances"], "instances")
    if not 0 <= number <= MOST_INSTANCES:
        raise invalid_app(f"instances: want 0 to {MOST_INSTANCES}")
    return number


def _memory(current: AppSpec, body: Mapping[str, Any]) -> int:
    resources = body.get("resources")
    if not isinstance(resources, Mapping) or resources.get("memory") is None:
        return current.memory
    memory = _number(resources["memory"], "resources.memory")
    # An application with less from before may go on with it, because clients send back all that they got.
    if memory != current.memory and not LEAST_MEMORY <= memory <= MOST_MEMORY:
        raise invalid_app(f"resources.memory: want {LEAST_MEMORY} to {MOST_MEMORY} MB")
    return memory


def _starts(current: AppSpec, target: AppSpec) -> bool:
    return target.state == AppState.STARTED and current.state != AppState.STARTED


def growth(current: AppSpec, target: AppSpec) -> tuple[int, int]:
    """Return the additional memory (MB) and instances that an application takes once it is started as `target`."""
    running = current.instances if current.state == AppState.STARTED else 0
    return target.memory * target.instances - current.memory * running, target.instances - running


def check_room(current: AppSpec, rules: ChangeRules, target: AppSpec | None = None) -> None:
    """Check that the owner may have an application started as `target` is, or as it is.

    Raises:
        ApiError: ACCOUNT_NOT_ENOUGH_MEMORY, ACCOUNT_TOO_MANY_INSTANCES, ACCOUNT_NOT_ENOUGH_DISK; never where it takes no more than it has.
    """
    target, capacity = target or current, rules.capacity
    memory, instances = growth(current, target)
    if memory > 0 and rules.used_memory + target.memory * target.instances > capacity.memory:
        raise ApiError(Code.ACCOUNT_NOT_ENOUGH_MEMORY, f"{capacity.memory}M")
    if instances <= 0:
        return
    if (wanted := rules.used_instances + target.instances) > capacity.instances:
        raise ApiError(Code.ACCOUNT_TOO_MANY_INSTANCES, wanted, capacity.instances)
    if (wanted := rules.used_disk + target.instances * rules.disk) > capacity.disk:
        raise ApiError(Code.ACCOUNT_NOT_ENOUGH_DISK, wanted, capacity.disk)


def _check_capacity(current: AppSpec, target: AppSpec, rules: ChangeRules, *, create: bool) -> None:
    if create and rules.apps >= rules.capacity.apps:
        raise ApiError(Code.ACCOUNT_APPS_TOO_MANY, rules.apps, rules.capacity.apps)
    if target.state == AppState.STARTED:
        check_room(current, rules, target)


def _uris(current: AppSpec, body: Mapping[str, Any], rules: ChangeRules) -> tuple[str, ...]:
    given = body.get("uris")
    if given is None:
        return current.uris
    if not isinstance(given, list):
        raise invalid_app("uris: want a list")
    if len(given) > max(rules.capacity.app_uris, len(current.uris)):
        raise ApiError(Code.ACCOUNT_APP_TOO_MANY_URIS, len(given), rules.capacity.app_uris)
    known = set(current.uris)
    # Hosts that the application has already are not checked again, because rules may have changed; the platform's hosts are.
    uris = tuple(sorted({_uri(u, known, rules) for u in given if u not in (None, "")}))
    if len(uris) > len(current.uris) and rules.routes + len(uris) > rules.capacity.routes:
        raise ApiError(Code.ACCOUNT_TOO_MANY_URIS, rules.routes + len(uris), rules.capacity.routes)
    return uris


def _uri(given: object, known: set[str], rules: ChangeRules) -> str:
    if isinstance(given, str) and given in known and given not in rules.platform:
        return given
    return normalise_uri(given, rules)


def _env(current: AppSpec, body: Mapping[str, Any]) -> tuple[str, ...]:
    given = body.get("env")
    if given is None:
        return current.env
    if not isinstance(given, list) or not all(isinstance(v, str) for v in given):
        raise invalid_app("env: want a list of NAME=value")
    kept = []
    for item in dict.fromkeys(given):
        name, equals, _ = item.partition("=")
        if not equals:
            raise invalid_app(f"env: {name[:200]!r} wants NAME=value")
        if not variables.is_users(name):
            continue
        if not variables.fits(item):
            raise invalid_app(f"env: {name[:200]}: want a text of less than 128 KB, without NUL")
        kept.append(item)
    # The environment travels in a message to a DEA, which holds 1 MB.
    if sum(len(item.encode()) for item in kept) > MOST_ENV:
        raise invalid_app(f"env: more than {MOST_ENV >> 10} KB")
    return tuple(kept)


def check_names(body: Mapping[str, Any], current: AppSpec) -> None:
    """Refuse new variables that no instance would get; `plan` leaves them out, as clients of 2011 expect.

    Raises:
        ApiError: APP_INVALID, naming the first; also for `PORT` where there are `uris`, because the platform then assigns the port.
    """
    env, has_port = body.get("env"), bool(body.get("uris", current.uris))
    for item in (i for i in env if i not in current.env) if isinstance(env, list) else ():
        name = item.partition("=")[0] if isinstance(item, str) else "A"
        if not variables.is_users(name) or (name == "PORT" and has_port):
            raise invalid_app(f"env: {name[:200]!r} is no name that an instance can be given")


def _services(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the aliases of all services to be bound; none unbinds all, as clients of 2011 expect."""
    given = body.get("services")
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(alias, str) for alias in given):
        raise invalid_app("services: want a list of names")
    return tuple(sorted(set(given)))


def _with_staging(target: AppSpec, body: Mapping[str, Any], *, create: bool) -> AppSpec:
    given = body.get("staging")
    if given is None:
        if create:
            raise invalid_app("staging: want a framework")
        return target
    if not isinstance(given, Mapping):
        raise invalid_app("staging: want an object")
    framework = given.get("framework") or given.get("model")
    runtime = given.get("runtime") or given.get("stack")
    if not isinstance(framework, str):
        raise ApiError(Code.APP_INVALID_FRAMEWORK, framework)
    try:
        kind, chosen = resolve(framework, str(runtime) if runtime else None)
    except InvalidFrameworkError as error:
        raise _framework_error(framework, runtime) from error
    changed = replace(
        target,
        framework=kind.name if kind else UNKNOWN,
        runtime=chosen.name if chosen else "",
    )
    if "command" in given:
        changed = replace(changed, details=_with_command(changed.details, given["command"]))
    if (changed.framework, changed.runtime, changed.details.get("command")) != (
        target.framework,
        target.runtime,
        target.details.get("command"),
    ):
        changed = replace(changed, package_state=PackageState.PENDING)
    return changed


def _with_command(details: Mapping[str, Any], command: object) -> dict[str, Any]:
    """Return the details with another start command; None or an empty one means the framework's own."""
    kept = {key: value for key, value in details.items() if key != "command"}
    return kept if command in (None, "") else {**kept, "command": command}


def _framework_error(framework: str, runtime: object) -> IngotError:
    try:
        find_framework(framework)
    except InvalidFrameworkError:
        return ApiError(Code.APP_INVALID_FRAMEWORK, framework)
    return ApiError(Code.APP_INVALID_RUNTIME, runtime, framework)


def _details(
    current: AppSpec, target: AppSpec, body: Mapping[str, Any], rules: ChangeRules
) -> dict[str, Any]:
    details = dict(target.details)
    meta, staging = body.get("meta"), body.get("staging")
    given = {
        **(meta if isinstance(meta, Mapping) else {}),
        **{k: body[k] for k in ("debug", "console") if k in body},
    }
    passed_over = {"version", "created"}
    if isinstance(staging, Mapping) and "command" in staging:
        # Clients send back `meta` as they got it, with the command that the new one replaces.
        passed_over.add("command")
    for key, value in given.items():
        if key in passed_over:
            continue
        if value is None or (key == "debug" and value is False):
            details.pop(key, None)
        else:
            details[key] = _health(value) if key == "health" else value
    _check_details(details)
    debug = details.get("debug")
    if debug and _starts(current, target) and not rules.allow_debug:
        raise ApiError(Code.APP_DEBUG_DISALLOWED, debug)
    return details


def _check_details(details: Mapping[str, Any]) -> None:
    debug, console, command = (details.get(key) for key in ("debug", "console", "command"))
    if debug is not None and not isinstance(debug, str):
        raise invalid_app("debug: want the name of a mode")
    if command is not None and not (isinstance(command, str) and len(command.encode()) <= LONGEST_COMMAND):
        raise invalid_app(f"command: want a string of at most {LONGEST_COMMAND} bytes")
    if console is not None and not isinstance(console, bool):
        raise invalid_app("console: want true or false")
    if len(json.dumps(details)) > MOST_META:
        raise invalid_app(f"meta: more than {MOST_META >> 10} KB")


def _health(given: object) -> dict[str, Any]:
    """Return `meta.health`: the check by which a DEA knows that an instance is up (docs/platform.md)."""
    if not isinstance(given, Mapping):
        raise invalid_app("meta.health: want an object")
    path, timeout = given.get("path"), given.get("timeout", DEFAULT_HEALTH_SECONDS)
    if path is not None and not (isinstance(path, str) and _PATH.fullmatch(path)):
        raise invalid_app("meta.health.path: want a path that begins with /")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 1 <= timeout <= 600:
        raise invalid_app("meta.health.timeout: want 1 to 600 seconds")
    return {"path": path, "timeout": timeout}


def _number(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        raise bad_request(f"{name}: want a number")
    try:
        return int(value)
    except (ValueError, OverflowError) as error:
        raise bad_request(f"{name}: want a number") from error
