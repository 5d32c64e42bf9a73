"""Offerings: their requests, visibility and JSON, and that of instances (protocol 1.5, 1.13, 1.14, 2.4). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from components.common.digits import whole_number
from components.common.errors import IngotError
from components.controller.apps.messages import type_of
from components.controller.db.models import Service, ServiceConfig

# An alias is a segment of a path.
_ALIAS = re.compile(r"[^/\x00-\x1f\x7f]{1,255}")
_NUMBERS = re.compile(r"(\d+)")

T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
# The name is before the last dash, the version after it.
Label = Annotated[str, msgspec.Meta(pattern=r"^\S+-\S+$", max_length=255)]
# The longest wait of a controller for a gateway, in seconds.
LONGEST_TIMEOUT = 86_400
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/]+\S*$", max_length=1024)]


class SchemaError(IngotError):
    """A request about services violates protocol 1.13 or 1.14; always 400, in the shape of each protocol."""


class Acls(msgspec.Struct, frozen=True):
    """The users that see an offering: these, and those whose email matches a wildcard."""

    users: list[str] = []
    wildcards: list[str] = []


class OfferingRequest(msgspec.Struct, frozen=True):
    """A gateway's registration, and its heartbeat. Absent members stay, but absent `acls` and `timeout` are reset."""

    label: Label
    url: Url
    description: str | None = None
    info_url: Url | None = None
    tags: list[str] | None = None
    plans: list[str] | None = None
    plan_options: Any = None
    binding_options: Any = None
    acls: Acls | None = None
    active: bool | None = None
    timeout: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_TIMEOUT)] | None = None


class LegacyProvisionRequest(msgspec.Struct, frozen=True):
    """`POST /services`."""

    name: Text
    vendor: Text
    version: Text
    tier: Text
    options: dict[str, Any] | None = None

    @property
    def plan_option(self) -> str | None:
        """Return the only supported option; None where it is absent or no text."""
        value = (self.options or {}).get("plan_option")
        return value if isinstance(value, str) else None


class ProvisionRequest(msgspec.Struct, frozen=True):
    """`POST /services/v1/configurations`."""

    label: Label
    name: Text
    plan: Text
    plan_option: Text | None = None


class BindRequest(msgspec.Struct, frozen=True):
    """`POST /services/v1/bindings`."""

    service_id: str
    app_id: int
    binding_options: dict[str, Any] = {}


class ExternalBindRequest(msgspec.Struct, frozen=True):
    """`POST /services/v1/bindings/external`."""

    binding_token: str
    app_id: int


class TokenRequest(msgspec.Struct, frozen=True):
    """`POST /services/v1/binding_tokens`."""

    service_id: str
    binding_options: dict[str, Any] = {}


class HandleRequest(msgspec.Struct, frozen=True):
    """`POST /services/v1/offerings/LABEL/handles/ID`."""

    service_id: str
    configuration: dict[str, Any]
    credentials: dict[str, Any]


def decode(body: Mapping[str, Any], kind: type[T]) -> T:
    """Return a request of that type; unknown members are ignored.

    Raises:
        SchemaError: a member is missing or of the wrong kind.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise SchemaError(str(error)) from error


def check_alias(name: str) -> None:
    """Refuse a name that could not be part of a path.

    Raises:
        SchemaError: with the reason.
    """
    if not _ALIAS.fullmatch(name):
        raise SchemaError("a service's name has 1 to 255 characters, and no / among them")


def check_plan(service: Service, plan: str) -> None:
    """Refuse a plan that the offering does not list; where it lists none, its gateway decides.

    Raises:
        SchemaError: naming the listed ones.
    """
    if service.plans and plan not in service.plans:
        raise SchemaError(f"{service.label} has no plan {plan!r}; it has {', '.join(sorted(service.plans))}")


def split_label(label: str) -> tuple[str, str]:
    """Return the name and the version of a label."""
    name, _, version = label.rpartition("-")
    return name, version


def visible(service: Service, email: str) -> bool:
    """Return whether a user may see an offering; without acls every user may."""
    acls = service.acls
    if acls is None:
        return True
    return email in acls.get("users", ()) or any(_matches(w, email) for w in acls.get("wildcards", ()))


def offered(service: Service, email: str, now: float, silent_seconds: float) -> bool:
    """Return whether a user can have an instance of an offering: it is visible, and its gateway lives."""
    return service.active and now - service.last_seen <= silent_seconds and visible(service, email)


def pick(offers: Iterable[Service], vendor: str, version: str) -> Service | None:
    """Return the offering that an old client means: the one with that label, else the vendor's newest (protocol 1.13)."""
    of_vendor = [s for s in offers if s.name == vendor]
    exact = [s for s in of_vendor if s.version == version]
    return max(exact or of_vendor, key=lambda s: _version_key(s.version), default=None)


def catalogue(offers: Iterable[Service]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `/info/services`: type, vendor, version (protocol 1.5)."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for service in offers:
        versions = found.setdefault(type_of(service.name), {}).setdefault(service.name, {})
        versions[service.version] = {
            "id": service.id,
            "vendor": service.name,
            "version": service.version,
            "type": type_of(service.name),
            "description": service.description or "-",
            "tiers": _tiers(service),
        }
    return found


def offering_to_json(service: Service) -> dict[str, Any]:
    """Return an offering's JSON for its gateway."""
    return {
        "label": service.label,
        "url": service.url,
        "description": service.description,
        "info_url": service.info_url,
        "tags": service.tags,
        "plans": service.plans,
        "plan_options": service.plan_options,
        "binding_options": service.binding_options,
        "acls": service.acls,
        "active": service.active,
        "timeout": service.timeout,
    }


def legacy_to_json(config: ServiceConfig) -> dict[str, Any]:
    """Return an instance's JSON for `vmc` (protocol 1.13)."""
    service = config.service
    return {
        "name": config.alias,
        "type": type_of(service.name),
        "vendor": service.name,
        "version": service.version,
        "tier": config.plan,
        "properties": {},
        "meta": {
            "created": config.created_at,
            "updated": config.updated_at,
            "tags": list(service.tags),
            "version": 1,
        },
    }


def _tiers(service: Service) -> dict[str, Any]:
    options = service.plan_options if isinstance(service.plan_options, Mapping) else {}
    return {
        plan: {"options": _plan_option(options[plan]) if plan in options else {}, "order": order}
        for order, plan in enumerate(sorted(set(service.plans)), 1)
    }


def _plan_option(values: object) -> dict[str, Any]:
    return {
        "plan_option": {
            "type": "value",
            "description": "Which plan would you like to use",
            "values": values,
        }
    }


def _matches(wildcard: str, email: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, wildcard.split("*"))), email) is not None


def _version_key(version: str) -> list[tuple[int, str]]:
    """Return the key for the natural order of versions: 7.10 after 7.9."""
    parts = ((whole_number(part), part) for part in _NUMBERS.split(version) if part)
    return [(-1, part) if number is None else (number, "") for number, part in parts]
