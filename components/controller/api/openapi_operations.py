"""What the routes take and give, for their description: one row for each view (docs/platform.md, protocol 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.controller.accounts.quotas import NAMES
from components.controller.logs.merge import MOST_LINES
from components.controller.requests.query import LARGEST_PAGE

# Who may ask: anybody; a token; an administrator's token; or a password of its own.
OPEN, USER, ADMIN, GATEWAY, BULK, STAGING, STATUS = (
    "open",
    "user",
    "admin",
    "gateway",
    "bulk",
    "staging",
    "status",
)
JSON, TEXT, BYTES, ZIP, CSV = (
    "application/json",
    "text/plain",
    "application/octet-stream",
    "application/zip",
    "text/csv",
)
_TYPES = {"int": "integer", "num": "number", "bool": "boolean", "list": "array", "obj": "object"}


@dataclass(frozen=True, slots=True)
class Row:
    """One view: who may ask, what a success is (status to schema name or media type), the error codes, query and body."""

    auth: str
    gives: Mapping[int, str]
    errors: tuple[int, ...] = ()
    query: str = ""
    body: str = ""
    form: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """An object's members as `name:type`; a type is text, int, num, bool, list, obj, or a schema's name; `?`: may be null."""

    members: str
    more: Mapping[str, Any] = field(default_factory=dict)


def members(text: str) -> dict[str, Any]:
    """Read `name:type` pairs as JSON schemas."""
    return {name: _schema(kind) for name, _, kind in (word.partition(":") for word in text.split())}


def _schema(kind: str) -> dict[str, Any]:
    kind, optional = kind.removesuffix("?"), kind.endswith("?")
    if kind.startswith("[") and kind.endswith("]"):
        return {"type": "array", "items": _schema(kind[1:-1])}
    if kind in SCHEMAS:
        return {"$ref": f"#/components/schemas/{kind}"}
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
        "name:text build:int support:text version:text description:text allow_debug:bool user:text limits:Limits"
        " usage:obj frameworks:obj"
    ),
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
    "Service": Schema("service_id:text data:obj credentials:obj"),
    "Binding": Schema("binding_token:text label:text"),
    "Object": Schema(""),
}

_PAGES = f"limit:1-{LARGEST_PAGE} after:cursor"
_READS = f"tail:0-{MOST_LINES} cursor:cursor wait:seconds"
_APP = "name:text staging:obj uris:[text] instances:int resources:obj state:text env:[text] services:[text] meta:obj"
_CREATE = (100, 200, 300, 307, 308, 309, 503, 504, 600, 601, 602, 700, 701, 702)
_UPDATE = (100, 102, 200, 300, 301, 302, 307, 308, 309, 310, 503, 600, 602, 700, 701, 702, 800, 801)

ROWS: dict[str, Row] = {
    "info.root": Row(OPEN, {200: TEXT}),
    "info.info": Row(OPEN, {200: "Info"}, (201, 202)),
    "info.runtimes": Row(OPEN, {200: "Object"}),
    "info.offered_services": Row(USER, {200: "Object"}, (200,)),
    "users.listing": Row(ADMIN, {200: "[obj]"}, (200,)),
    "users.create": Row(OPEN, {204: ""}, (100, 200), body="email:text password:text"),
    "users.token": Row(OPEN, {200: "Token"}, (100, 200), body="password:text"),
    "users.show": Row(USER, {200: "Email"}, (200, 201)),
    "users.change": Row(USER, {204: ""}, (100, 200, 201), body="email:text password:text"),
    "users.remove": Row(ADMIN, {204: ""}, (200, 201, 503)),
    "apps.create": Row(USER, {302: "Created"}, _CREATE, body=_APP),
    "apps.listing": Row(USER, {200: "[App]"}, (200,)),
    "apps.show": Row(USER, {200: "App"}, (200, 301)),
    "apps.update": Row(USER, {200: TEXT}, _UPDATE, body=_APP),
    "apps.delete": Row(USER, {200: TEXT}, (200, 301)),
    "apps.upload": Row(USER, {200: TEXT}, (100, 200, 301, 400, 401, 402), form=True),
    "apps.download": Row(USER, {200: ZIP}, (200, 301, 303)),
    "apps.resources": Row(USER, {200: "[obj]"}, (100, 200)),
    "apps.roll": Row(USER, {204: ""}, (100, 102, 200, 301, 302, 305, 310, 800, 801), body="meta:obj"),
    "apps.roll_state": Row(USER, {200: "UpdateState"}, (200, 301)),
    "files.instances": Row(USER, {200: "Instances"}, (200, 301)),
    "files.stats": Row(USER, {200: "Object"}, (200, 301)),
    "files.crashes": Row(USER, {200: "Crashes"}, (200, 301)),
    "files.files": Row(USER, {200: TEXT, 206: TEXT}, (200, 301, 304, 305, 306)),
    "staging.droplet": Row(OPEN, {200: BYTES}, (301,)),
    "staging.package": Row(STAGING, {200: ZIP}, (301,)),
    "staging.deliver": Row(STAGING, {200: TEXT}, (100,), form=True),
    "services.listing": Row(USER, {200: "[obj]"}, (200,)),
    "services.create": Row(
        USER, {200: TEXT}, (100, 200, 500, 503, 504), body="name:text vendor:text version:text tier:text"
    ),
    "services.show": Row(USER, {200: "Object"}, (200, 500)),
    "services.delete": Row(USER, {200: TEXT}, (200, 500, 503)),
    "services.tokens": Row(USER, {}, (505,)),
    "services_v1.register": Row(GATEWAY, {200: "Object"}, (100, 200), body="label:text url:text"),
    "services_v1.show": Row(GATEWAY, {200: "Object"}, (200, 500)),
    "services_v1.withdraw": Row(GATEWAY, {200: "Object"}, (200, 500)),
    "services_v1.handles": Row(GATEWAY, {200: "Object"}, (200, 500)),
    "services_v1.update_handle": Row(
        GATEWAY,
        {200: "Object"},
        (100, 200, 500, 501),
        body="service_id:text configuration:obj credentials:obj",
    ),
    "services_v1.provision": Row(
        USER, {200: "Service"}, (100, 200, 500, 503, 504), body="label:text name:text plan:text"
    ),
    "services_v1.unprovision": Row(USER, {200: "Object"}, (200, 500, 503)),
    "services_v1.bind": Row(
        USER,
        {200: "Service"},
        (100, 200, 301, 500, 503),
        body="service_id:text app_id:int binding_options:obj",
    ),
    "services_v1.bind_external": Row(
        USER, {200: "Service"}, (100, 200, 301, 502, 503), body="binding_token:text app_id:int"
    ),
    "services_v1.unbind": Row(USER, {200: "Object"}, (200, 501, 503)),
    "services_v1.make_token": Row(
        USER, {200: "Binding"}, (100, 200, 500), body="service_id:text binding_options:obj"
    ),
    "services_v1.show_token": Row(USER, {200: "Binding"}, (200, 502)),
    "services_v1.forget_token": Row(USER, {200: "Object"}, (200, 502, 503)),
    "services_v1.lifecycle": Row(USER, {}, (200, 505)),
    "brokered_services.offered_by_the_broker": Row(GATEWAY, {200: "Object"}, (200,)),
    "bulk.all_apps": Row(BULK, {200: "Bulk"}, (100,), query="batch_size:1-1000 bulk_token:text"),
    "bulk.all_users": Row(BULK, {200: "Bulk"}, (100,), query="batch_size:1-1000 bulk_token:text"),
    "bulk.counts": Row(BULK, {200: "Counts"}, query="model:text"),
    "v2.take_lease": Row(BULK, {200: "Lease", 409: "Lease"}, (100,), body="holder:text ttl:num"),
    "v2.give_back_lease": Row(BULK, {200: "Object", 409: "Lease"}, (100,), body="holder:text"),
    "v2.me": Row(USER, {200: "Me"}, (200,)),
    "v2.pool": Row(USER, {200: "Machines"}, (200,)),
    "v2.staging_log": Row(USER, {200: TEXT}, (200, 301, 303)),
    "v2_accounts.listing": Row(ADMIN, {200: "Users"}, (100, 200), query=_PAGES),
    "v2_accounts.show_quota": Row(USER, {200: "Limits"}, (200, 201)),
    "v2_accounts.change_quota": Row(
        ADMIN, {200: "Limits"}, (100, 200, 201), body=" ".join(f"{name}:int?" for name in NAMES)
    ),
    "v2_accounts.revoke": Row(USER, {204: ""}, (200, 201)),
    "v2_apps.update": Row(USER, {200: "Update"}, (200, 301)),
    "v2_apps.change_and_roll": Row(USER, {202: "Update"}, (*_UPDATE, 305), body=_APP),
    "v2_apps.listing": Row(USER, {200: "Revisions"}, (200, 301)),
    "v2_apps.roll_back": Row(
        USER, {200: "Update", 202: "Update"}, (100, 200, 300, 301, 302, 303), body="revision:int"
    ),
    "v2_records.applications": Row(
        USER, {200: "Apps"}, (100, 200, 201), query=f"{_PAGES} owner:text all:flag"
    ),
    "v2_records.happened": Row(
        USER, {200: "Events"}, (100, 200), query=f"{_PAGES} app:text user:text since:seconds"
    ),
    "v2_records.used": Row(
        USER,
        {200: f"Usage {CSV}"},
        (100, 200),
        query="from:day to:day user:text app:text format:json|csv",
    ),
    "v2_records.described": Row(OPEN, {200: "Object"}),
    "v2_logs.app_logs": Row(USER, {200: "Lines"}, (100, 200, 301), query=f"{_READS} instance:index"),
    "v2_logs.platform": Row(
        ADMIN,
        {200: "PlatformLines"},
        (100, 111, 200),
        query="component:text host:text since:seconds level:debug|info|warning|error|critical contains:text limit:1-2000",
    ),
    "v2_tasks.listing": Row(USER, {200: "Tasks"}, (200, 301)),
    "v2_tasks.run": Row(
        USER, {202: "Task"}, (100, 200, 300, 301, 600), body="command:text memory:int timeout:int"
    ),
    "v2_tasks.show": Row(USER, {200: "Task"}, (200, 301, 303)),
    "v2_tasks.stop": Row(USER, {200: "Task"}, (200, 301, 303)),
    "v2_tasks.logs": Row(USER, {200: "TaskLines"}, (100, 200, 301, 303), query=_READS),
    "status.healthz": Row(OPEN, {200: TEXT}),
    "status.readyz": Row(OPEN, {200: "Ready", 503: "Ready"}),
    "status.varz": Row(STATUS, {200: "Object"}),
    "status.metrics": Row(STATUS, {200: TEXT}),
}
