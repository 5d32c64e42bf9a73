"""Requests and answers of the routes for their description: one row for each view (docs/platform.md, protocol 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.controller.accounts.quotas import NAMES, OLD_NAMES
from components.controller.errors import Code
from components.controller.logs.merge import MOST_LINES
from components.controller.requests.query import LARGEST_PAGE

# Authentication: optional; none; a token; an administrator's token; or a password of the caller's kind.
OPEN, UNASKED, USER, ADMIN, GATEWAY, BULK, STAGING, STATUS = (
    "open",
    "unasked",
    "user",
    "admin",
    "gateway",
    "bulk",
    "staging",
    "status",
)
JSON, TEXT, BLANK, BYTES, ZIP, CSV = (
    "application/json",
    "text/plain",
    "text/html",
    "application/octet-stream",
    "application/zip",
    "text/csv",
)
_TYPES = {"int": "integer", "num": "number", "bool": "boolean", "list": "array", "obj": "object"}


@dataclass(frozen=True, slots=True)
class Row:
    """One view: authentication, answers (status to schema names and media types), error codes, query and body.

    Codes that follow from the route and its caller are not repeated (`openapi.codes_of`).
    """

    auth: str
    gives: Mapping[int, str]
    errors: tuple[Code, ...] = ()
    query: str = ""
    body: str = ""
    form: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """An object's members as `name:type`; a type is text, int, num, bool, list, obj, or a schema's name.

    `type?` may be null, `name?` may be missing. `free`: it may have other members.
    """

    members: str
    free: bool = False

    def described(self) -> dict[str, Any]:
        """Return the JSON schema."""
        found: dict[str, Any] = {"type": "object", "properties": members(self.members)}
        if required := [name for name in named(self.members) if not name.endswith("?")]:
            found["required"] = required
        return found if self.free else {**found, "additionalProperties": False}


def named(text: str) -> list[str]:
    """Return the names of `name:type` pairs."""
    return [word.partition(":")[0] for word in text.split()]


def members(text: str) -> dict[str, Any]:
    """Return the JSON schemas of `name:type` pairs."""
    pairs = (word.partition(":") for word in text.split())
    return {name.removesuffix("?"): _schema(kind) for name, _, kind in pairs}


def _schema(kind: str) -> dict[str, Any]:
    kind, optional = kind.removesuffix("?"), kind.endswith("?")
    if kind.startswith("[") and kind.endswith("]"):
        return {"type": "array", "items": _schema(kind[1:-1])}
    if kind in SCHEMAS:
        return {"$ref": f"#/components/schemas/{kind}"}
    if kind == "any":
        return {}
    name = _TYPES.get(kind, "string")
    return {"type": [name, "null"] if optional else name}


SCHEMAS: dict[str, Schema] = {
    "Error": Schema("code:int description:text"),
    "App": Schema(
        "name:text staging:obj uris:[text] instances:int runningInstances:int? resources:obj state:text"
        " services:[text] version:text env:[text] meta:obj"
    ),
    "OwnedApp": Schema(
        "id:int owner:text name:text staging:obj uris:[text] instances:int runningInstances:int? resources:obj"
        " state:text services:[text] version:text env:[text] meta:obj"
    ),
    "Apps": Schema("apps:[OwnedApp] next:text?"),
    "Created": Schema("result:text redirect:text"),
    "Info": Schema(
        "name:text build:int support:text version:text description:text allow_debug:bool user?:text limits?:OldLimits"
        " usage?:OldUsage frameworks?:obj"
    ),
    "OldLimits": Schema(" ".join(f"{name}:int" for name in OLD_NAMES)),
    "OldUsage": Schema("memory:int apps:int services:int"),
    "Person": Schema("email:text admin:bool apps:[AppState]"),
    "AppState": Schema("name:text state:text"),
    "Limits": Schema(" ".join(f"{name}:int" for name in NAMES)),
    "Token": Schema("token:text"),
    "Email": Schema("email:text"),
    "Me": Schema("email:text admin:bool"),
    "User": Schema("email:text admin:bool created:int apps:int limits:Limits usage:obj"),
    "Users": Schema("users:[User] next:text?"),
    "Task": Schema(
        "id:text command:text memory:int timeout:num state:text exit_status:int? detail:text created:num started:num?"
        " ended:num? by:text"
    ),
    "Tasks": Schema("tasks:[Task]"),
    "Line": Schema("instance:int id:text n:int at:num stream:text text:text"),
    "Missed": Schema("instance:int id:text count:int"),
    "Lines": Schema("lines:[Line] missed:[Missed] cursor:text"),
    "TaskLines": Schema("lines:[Line] missed:[Missed] cursor:text state:text"),
    "Event": Schema(
        "id:int at:num who:text acting_for:text? method:text path:text app:text? status:int from:text? outcome:text"
    ),
    "Events": Schema("events:[Event] next:text?"),
    "UsageDay": Schema(
        "day:text user:text app:text reserved_mb_hours:num used_mb_hours:num cpu_seconds:num requests:int restarts:int"
    ),
    "Usage": Schema("usage:[UsageDay]"),
    "PlatformLine": Schema("at:num component:text id:text host:text level:text event:text text:text"),
    "PlatformLines": Schema("lines:[PlatformLine] silent:[text]"),
    "Update": Schema(
        "state:text since:num from:text? to:text? replaced:int instances:int message:text",
    ),
    "UpdateState": Schema("since:int state:text"),
    "Revision": Schema(
        "number:int droplet:text framework:text runtime:text? command:text? by:text created:int current:bool"
        " available:bool"
    ),
    "Revisions": Schema("revisions:[Revision]"),
    "Instances": Schema("instances:[obj]"),
    "Crashes": Schema("crashes:[obj]"),
    "Machines": Schema("machines:[obj]"),
    "Lease": Schema("holder:text token:int expires_in:num"),
    "Ready": Schema("ready:bool reasons:[text] release:text"),
    "Bulk": Schema("results:obj bulk_token:obj"),
    "Counts": Schema("counts:obj"),
    "Service": Schema("name:text type:text vendor:text version:text tier:text properties:obj meta:obj"),
    "Offering": Schema(
        "label:text url:text description:text? info_url:text? tags:[text] plans:[text] plan_options:any binding_options:any"
        " acls:obj? active:bool timeout:int?"
    ),
    "Brokered": Schema("brokered_services:[obj]"),
    "Handle": Schema("service_id:text configuration:obj credentials:obj"),
    "Handles": Schema("handles:[Handle]"),
    "Provisioned": Schema("service_id:text data:obj credentials:obj"),
    "Binding": Schema("binding_token:text label:text"),
    "Permission": Schema("service_id:text binding_options:obj"),
    "NotBuilt": Schema("error:text"),
    "Misread": Schema("description:text"),
    "MisreadV1": Schema("errors:text"),
    "Nothing": Schema(""),
    "Object": Schema("", free=True),
}

_PAGES = f"limit:1-{LARGEST_PAGE} after:cursor"
_READS = f"tail:0-{MOST_LINES} cursor:cursor wait:seconds"
_CHANGED = "staging:obj uris:[text] instances:int resources:obj env:[text] services:[text] meta:obj debug:text? console:bool?"
_APP = f"name:text state:text {_CHANGED}"
# Errors of an application's description (protocol 1.8, steps 1 to 9), and of services that cannot be bound.
_DESCRIBED = (
    Code.BAD_REQUEST,
    Code.LOCKING_ERROR,
    Code.APP_INVALID,
    Code.APP_INVALID_RUNTIME,
    Code.APP_INVALID_FRAMEWORK,
    Code.APP_DEBUG_DISALLOWED,
    Code.SERVICE_NOT_FOUND,
    Code.TOKEN_NOT_FOUND,
    Code.SERVICE_GATEWAY_ERROR,
    Code.ACCOUNT_NOT_ENOUGH_MEMORY,
    Code.ACCOUNT_APP_TOO_MANY_URIS,
    Code.ACCOUNT_TOO_MANY_INSTANCES,
    Code.ACCOUNT_NOT_ENOUGH_DISK,
    Code.ACCOUNT_TOO_MANY_URIS,
    Code.URI_INVALID,
    Code.URI_ALREADY_TAKEN,
    Code.URI_NOT_ALLOWED,
)
_CREATE = (*_DESCRIBED, Code.ACCOUNT_APPS_TOO_MANY)
_UPDATE = (
    *_DESCRIBED,
    Code.NO_SHARE,
    Code.APP_NOT_FOUND,
    Code.APP_NO_RESOURCES,
    Code.APP_STAGING_ERROR,
    Code.ACCOUNT_TOO_MANY_STAGINGS,
    Code.REGISTERED_ACCOUNTS_FULL,
)
_PROVISION = (Code.SERVICE_NOT_FOUND, Code.SERVICE_GATEWAY_ERROR, Code.ACCOUNT_TOO_MANY_SERVICES)
_BIND = (Code.APP_NOT_FOUND, Code.SERVICE_NOT_FOUND, Code.TOKEN_NOT_FOUND, Code.SERVICE_GATEWAY_ERROR)

ROWS: dict[str, Row] = {
    "info.root": Row(OPEN, {200: TEXT, 302: ""}),
    "info.info": Row(OPEN, {200: "Info"}),
    "info.runtimes": Row(OPEN, {200: "Object"}),
    "info.offered_services": Row(USER, {200: "Object"}),
    "users.listing": Row(ADMIN, {200: "[Person]"}),
    "users.create": Row(OPEN, {204: ""}, (Code.REGISTERED_ACCOUNTS_FULL,), body="email:text password:text"),
    "users.token": Row(OPEN, {200: "Token"}, body="password:text"),
    "users.show": Row(USER, {200: "Email"}),
    "users.change": Row(USER, {204: ""}, body="email:text password:text"),
    # Errors of an application or a service that is removed meanwhile.
    "users.remove": Row(ADMIN, {204: ""}, (Code.NO_SHARE, Code.APP_NOT_FOUND, Code.SERVICE_NOT_FOUND)),
    "apps.create": Row(USER, {302: "Created"}, _CREATE, body=_APP),
    "apps.listing": Row(USER, {200: "[App]"}),
    "apps.show": Row(USER, {200: "App"}),
    "apps.update": Row(USER, {200: BLANK}, _UPDATE, body=_APP),
    "apps.delete": Row(USER, {200: BLANK}),
    "apps.upload": Row(
        USER,
        {200: BLANK},
        (
            Code.NO_SHARE,
            Code.SYSTEM_ERROR,
            Code.RESOURCES_MISSING_RESOURCE,
            Code.RESOURCES_PACKAGING_FAILED,
            Code.ACCOUNT_NOT_ENOUGH_STORAGE,
        ),
        form=True,
    ),
    "apps.download": Row(
        USER,
        {200: ZIP},
        (Code.BUSY, Code.NO_SHARE),
    ),
    "apps.resources": Row(USER, {200: "[obj]"}, (Code.NO_SHARE,)),
    "apps.roll": Row(
        USER,
        {204: ""},
        (
            Code.LOCKING_ERROR,
            Code.NO_SHARE,
            Code.APP_NO_RESOURCES,
            Code.APP_STOPPED,
            Code.APP_STAGING_ERROR,
            Code.ACCOUNT_TOO_MANY_STAGINGS,
        ),
        body="meta:obj",
    ),
    "apps.roll_state": Row(USER, {200: "UpdateState"}),
    "files.instances": Row(USER, {200: "Instances"}),
    "files.stats": Row(USER, {200: "Object"}),
    "files.crashes": Row(USER, {200: "Crashes"}),
    # Blank where there was no staging log.
    "files.files": Row(
        USER,
        {200: TEXT, 206: TEXT, 404: TEXT},
        (Code.BUSY, Code.APP_INSTANCE_NOT_FOUND, Code.APP_STOPPED, Code.APP_FILE_ERROR),
    ),
    "staging.droplet": Row(UNASKED, {200: BYTES}, (Code.NO_SHARE, Code.FORBIDDEN, Code.APP_NOT_FOUND)),
    "staging.package": Row(STAGING, {200: ZIP}, (Code.NO_SHARE, Code.APP_NOT_FOUND)),
    "staging.deliver": Row(
        STAGING,
        {200: BLANK},
        (Code.NO_SHARE, Code.APP_NOT_FOUND, Code.RESOURCES_PACKAGING_FAILED, Code.ACCOUNT_NOT_ENOUGH_STORAGE),
        form=True,
    ),
    "services.listing": Row(USER, {200: "[Service]"}),
    "services.create": Row(
        USER,
        {200: "Nothing", 400: "Misread"},
        _PROVISION,
        body="name:text vendor:text version:text tier:text type:text options:obj",
    ),
    "services.show": Row(USER, {200: "Service"}, (Code.SERVICE_NOT_FOUND,)),
    "services.delete": Row(USER, {200: "Nothing"}, (Code.SERVICE_NOT_FOUND,)),
    "services.tokens": Row(OPEN, {200: "NotBuilt"}),
    "services_v1.register": Row(
        GATEWAY,
        {200: "Nothing", 400: "MisreadV1"},
        body="label:text url:text description:text info_url:text tags:[text] plans:[text] plan_options:any binding_options:any"
        " acls:obj active:bool timeout:int",
    ),
    "services_v1.show": Row(GATEWAY, {200: "Offering"}, (Code.SERVICE_NOT_FOUND,)),
    "services_v1.withdraw": Row(GATEWAY, {200: "Nothing"}, (Code.SERVICE_NOT_FOUND,)),
    "services_v1.handles": Row(GATEWAY, {200: "Handles"}, (Code.SERVICE_NOT_FOUND,)),
    "services_v1.update_handle": Row(
        GATEWAY,
        {200: "Nothing", 400: "MisreadV1"},
        (Code.SERVICE_NOT_FOUND, Code.BINDING_NOT_FOUND),
        body="service_id:text configuration:obj credentials:obj",
    ),
    "services_v1.provision": Row(
        USER,
        {200: "Provisioned", 400: "MisreadV1"},
        _PROVISION,
        body="label:text name:text plan:text plan_option:text",
    ),
    "services_v1.unprovision": Row(USER, {200: "Nothing"}, (Code.SERVICE_NOT_FOUND,)),
    "services_v1.bind": Row(
        USER,
        {200: "Binding", 400: "MisreadV1"},
        _BIND,
        body="service_id:text app_id:int binding_options:obj",
    ),
    "services_v1.bind_external": Row(
        USER,
        {200: "Nothing", 400: "MisreadV1"},
        _BIND,
        body="binding_token:text app_id:int",
    ),
    "services_v1.unbind": Row(USER, {200: "Nothing"}, (Code.BINDING_NOT_FOUND,)),
    "services_v1.make_token": Row(
        USER,
        {200: "Binding", 400: "MisreadV1"},
        (Code.SERVICE_NOT_FOUND,),
        body="service_id:text binding_options:obj",
    ),
    "services_v1.show_token": Row(OPEN, {200: "Permission"}, (Code.TOKEN_NOT_FOUND,)),
    "services_v1.forget_token": Row(USER, {200: "Nothing"}, (Code.TOKEN_NOT_FOUND,)),
    "services_v1.lifecycle": Row(USER, {}, (Code.EXTENSION_NOT_IMPL,)),
    "brokered_services.offered_by_the_broker": Row(GATEWAY, {200: "Brokered"}),
    "bulk.all_apps": Row(BULK, {200: "Bulk"}, (Code.BAD_REQUEST,), query="batch_size:1-1000 bulk_token:text"),
    "bulk.all_users": Row(
        BULK, {200: "Bulk"}, (Code.BAD_REQUEST,), query="batch_size:1-1000 bulk_token:text"
    ),
    "bulk.counts": Row(BULK, {200: "Counts"}, query="model:text"),
    "v2.take_lease": Row(BULK, {200: "Lease", 409: "Lease"}, body="holder:text ttl:num"),
    "v2.give_back_lease": Row(BULK, {200: "Nothing", 409: "Lease"}, body="holder:text"),
    "v2.me": Row(USER, {200: "Me"}),
    "v2.pool": Row(USER, {200: "Machines"}),
    "v2.staging_log": Row(USER, {200: TEXT}, (Code.APP_FILE_NOT_FOUND,)),
    "v2_accounts.listing": Row(ADMIN, {200: "Users"}, query=_PAGES),
    "v2_accounts.show_quota": Row(USER, {200: "Limits"}),
    "v2_accounts.change_quota": Row(ADMIN, {200: "Limits"}, body=" ".join(f"{name}:int?" for name in NAMES)),
    "v2_accounts.revoke": Row(USER, {204: ""}),
    "v2_apps.update": Row(USER, {200: "Update"}),
    "v2_apps.change_and_roll": Row(USER, {202: "Update"}, (*_UPDATE, Code.APP_STOPPED), body=_CHANGED),
    "v2_apps.listing": Row(USER, {200: "Revisions"}),
    "v2_apps.roll_back": Row(
        USER,
        {200: "Update", 202: "Update"},
        (Code.APP_INVALID,),
        body="revision:int",
    ),
    "v2_records.applications": Row(USER, {200: "Apps"}, query=f"{_PAGES} owner:text all:flag"),
    "v2_records.happened": Row(USER, {200: "Events"}, query=f"{_PAGES} app:text user:text since:seconds"),
    "v2_records.used": Row(
        USER,
        {200: f"Usage {CSV}"},
        query="from:day to:day user:text app:text format:json|csv",
    ),
    "v2_records.described": Row(OPEN, {200: "Object"}),
    "v2_logs.app_logs": Row(USER, {200: "Lines"}, query=f"{_READS} instance:index"),
    "v2_logs.platform": Row(
        ADMIN,
        {200: "PlatformLines"},
        (Code.SYSTEM_ERROR,),
        query="component:text host:text since:seconds level:debug|info|warning|error|critical contains:text limit:1-2000",
    ),
    "v2_tasks.listing": Row(USER, {200: "Tasks"}),
    "v2_tasks.run": Row(
        USER,
        {202: "Task"},
        (
            Code.APP_INVALID,
            Code.ACCOUNT_NOT_ENOUGH_MEMORY,
            Code.ACCOUNT_TOO_MANY_INSTANCES,
            Code.ACCOUNT_NOT_ENOUGH_DISK,
            Code.REGISTERED_ACCOUNTS_FULL,
        ),
        body="command:text memory:int timeout:int",
    ),
    "v2_tasks.show": Row(USER, {200: "Task"}, (Code.APP_FILE_NOT_FOUND,)),
    "v2_tasks.stop": Row(USER, {200: "Task"}, (Code.APP_FILE_NOT_FOUND,)),
    "v2_tasks.logs": Row(
        USER,
        {200: "TaskLines"},
        (Code.APP_FILE_NOT_FOUND,),
        query=_READS,
    ),
    "status.healthz": Row(UNASKED, {200: TEXT}),
    "status.readyz": Row(UNASKED, {200: "Ready", 503: "Ready"}),
    "status.varz": Row(STATUS, {200: "Object"}),
    "status.metrics": Row(STATUS, {200: TEXT}),
}
