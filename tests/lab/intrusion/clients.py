"""What a client without an account, and a second tenant, try through the front door and past it."""

from __future__ import annotations

import io
import json
import stat
import zipfile

from tests.lab.intrusion.attempts import ANONYMOUS, REFUSED, TENANT, Attempt, Reach, Step, Web
from tests.lab.intrusion.guests import PORTS

_JSON = {"Content-Type": "application/json"}
_BASIC = {"Authorization": "Basic YnVsa19hcGk6Z3Vlc3M="}
_OPERATOR = {"Authorization": "Basic b3BlcmF0b3I6Z3Vlc3M="}
# How the clients' protocol says so, whose status for it is 500.
_UNPACKED = '"code":402,'
_LIMITED = frozenset({429, 403, 503})


def _archive(*entries: tuple[str, bytes, int]) -> bytes:
    """Return a zip archive of (name, content, mode)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def upload(content: bytes, resources: object = ()) -> tuple[bytes, dict[str, str]]:
    """Return an upload as old clients send it."""
    mark = "intrusion-boundary"
    parts = (
        ('name="_method"', b"put"),
        ('name="resources"', json.dumps(resources or []).encode()),
        ('name="application"; filename="a.zip"\r\nContent-Type: application/zip', content),
    )
    body = b"".join(
        f"--{mark}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + part + b"\r\n"
        for head, part in parts
    )
    return body + f"--{mark}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={mark}"}


def _archive_row(name: str, *entries: tuple[str, bytes, int]) -> Web:
    body, headers = upload(_archive(*entries))
    return Web(
        TENANT,
        name,
        "POST",
        "/apps/own/application",
        headers=headers,
        content=body,
        refused=REFUSED | {500},
        says=_UNPACKED,
    )


def _claim(name: str, host: str) -> Web:
    wish = {"name": "thief", "staging": {"framework": "wsgi"}, "uris": [host], "resources": {"memory": 64}}
    return Web(TENANT, f"claim {name}", "POST", "/apps", wish)


# After all else: what the share is full of, nobody else can put there.
LAST: tuple[Attempt, ...] = (Step(TENANT, "fill the share", "filled_share"),)
_FILE = stat.S_IFREG | 0o644
_LINK = stat.S_IFLNK | 0o777
_ANONYMOUS: tuple[Attempt, ...] = (
    *(
        Web(ANONYMOUS, f"ask for {path}", "GET", path)
        for path in (
            "/apps", "/apps/victim", "/apps/victim/stats", "/apps/victim/instances/0/files/app/secret.txt", "/apps/victim/crashes",
            "/v2/apps", "/v2/apps/victim/logs", "/v2/apps/victim/revisions", "/v2/users", "/v2/me", "/v2/events", "/v2/usage",
            "/v2/logs", "/v2/machines", "/users", "/users/$victim", "/services", "/services/v1/offerings", "/bulk/apps", "/bulk/counts",
        )
    ),
    Web(ANONYMOUS, "know all applications by guessing the bulk password", "GET", "/bulk/apps", headers=_BASIC),
    Web(ANONYMOUS, "take the health manager's lease", "PUT", "/v2/leases/health_manager", {"holder": "me", "ttl": 60}),
    Web(ANONYMOUS, "void a user's tokens", "DELETE", "/v2/users/$victim/tokens"),
    Web(ANONYMOUS, "change a user's password", "PUT", "/users/$victim", {"email": "$victim", "password": "mine"}),
    Web(ANONYMOUS, "read a package as a stager would", "GET", "/staging/app/$app_id"),
    Web(ANONYMOUS, "deliver a droplet as a stager would", "POST", "/staging/droplet/$app_id/0123456789abcdef", content=b"x"),
    Web(ANONYMOUS, "fetch a droplet by its digest through a router", "GET", "/staged_droplets/$app_id/$droplet"),
    Web(ANONYMOUS, "fetch a droplet by another spelling", "GET", "/./staged_droplets/%2e/$app_id/$droplet"),
    Web(ANONYMOUS, "fetch a droplet by a doubled slash", "GET", "//staged_droplets/$app_id/$droplet"),
    Web(ANONYMOUS, "read a file of the controller's machine", "GET", "/apps/..%2f..%2f..%2fetc%2fpasswd"),
    Web(ANONYMOUS, "read the controller's metrics through a router", "GET", "/metrics"),
    Web(ANONYMOUS, "read the controller's state through a router", "GET", "/varz"),
    Web(ANONYMOUS, "send two megabytes to the login", "POST", "/users/$victim/tokens", content=b"[" * (2 << 20), headers=_JSON),
    Web(ANONYMOUS, "send thirty megabytes to the registration", "POST", "/users", content=b"[]," * (10 << 20), headers=_JSON),
    Web(ANONYMOUS, "send what is nested deeply", "POST", "/users", content=b"[" * 60000, headers=_JSON),
    Web(ANONYMOUS, "send what is no UTF-8", "POST", "/users", content=b'{"email":"\xff\xfe"}', headers=_JSON),
    Web(ANONYMOUS, "send a number as an email", "POST", "/users", {"email": 7, "password": [1]}),
    Web(ANONYMOUS, "send NUL as an email", "POST", "/users", {"email": "a\0@b.c", "password": "long enough"}),
    Web(ANONYMOUS, "guess a password again and again", "POST", "/users/$victim/tokens", {"password": "guess"}, times=60, refused=_LIMITED - {403}),
    Web(ANONYMOUS, "send a header of a megabyte", "GET", "/info", headers={"X-Long": "x" * (1 << 20)}, refused=frozenset({400, 414, 431, 494})),
    Web(ANONYMOUS, "ask the orchestrator for jobs", "GET", "/v2/jobs", to="orchestrator"),
    Web(ANONYMOUS, "have the orchestrator roll back", "POST", "/v2/rollback", {}, to="orchestrator"),
    Web(ANONYMOUS, "have it roll back from another site's page", "POST", "/v2/rollback", content=b"{}",
        headers={"Content-Type": "text/plain", "Origin": "http://evil.example"}, to="orchestrator"),
    Web(ANONYMOUS, "guess the operator's password again and again", "GET", "/v2/jobs", headers=_OPERATOR, to="orchestrator", times=60, refused=_LIMITED),
    Web(ANONYMOUS, "tell an application another scheme and address", "GET", "/headers", to="victim", lacks="203.0.113.66",
        headers={"X-Forwarded-For": "203.0.113.66", "Forwarded": "for=203.0.113.66", "Client-IP": "203.0.113.66", "X-Real-IP": "203.0.113.66"}),
    Web(ANONYMOUS, "have the router name its endpoints", "GET", "/", to="victim", headers={"X-Vcap-Trace": "22"}, lacks="X-Vcap-Backend"),
    Web(ANONYMOUS, "read the router's routes by its private paths", "GET", "/_ingot/routes", to="nobody"),
    Web(ANONYMOUS, "have the router speak to another host", "CONNECT", "/", to="victim", refused=REFUSED | {501}),
)  # fmt: skip
_OTHERS = (
    ("see", "GET", "/apps/victim", None),
    ("change", "PUT", "/apps/victim", {"name": "victim", "instances": 0, "state": "STOPPED"}),
    ("delete", "DELETE", "/apps/victim", None),
    ("see the statistics of", "GET", "/apps/victim/stats", None),
    ("see the instances of", "GET", "/apps/victim/instances", None),
    ("see the crashes of", "GET", "/apps/victim/crashes", None),
    ("read a file of", "GET", "/apps/victim/instances/0/files/app/secret.txt", None),
    ("list the files of", "GET", "/apps/victim/instances/0/files/", None),
    ("download the source of", "GET", "/apps/victim/application", None),
    ("read the log of", "GET", "/v2/apps/victim/logs", None),
    ("read the staging log of", "GET", "/v2/apps/victim/staging_log", None),
    ("see the revisions of", "GET", "/v2/apps/victim/revisions", None),
    ("take back", "POST", "/v2/apps/victim/rollback", {"revision": 1}),
    ("update", "PUT", "/v2/apps/victim/update", {"env": ["A=b"]}),
    ("run a task of", "POST", "/v2/apps/victim/tasks", {"command": "id"}),
    ("list the tasks of", "GET", "/v2/apps/victim/tasks", None),
)
_TENANT: tuple[Attempt, ...] = (
    *(Web(TENANT, f"{what} another's application", method, path, body) for what, method, path, body in _OTHERS),
    Web(TENANT, "see another's events", "GET", "/v2/events?user=$victim", lacks="$victim"),
    Web(TENANT, "see another's usage", "GET", "/v2/usage?user=$victim", lacks="$victim"),
    Web(TENANT, "see all applications", "GET", "/v2/apps?all=1", lacks="victim"),
    Web(TENANT, "see another's applications", "GET", "/v2/apps?owner=$victim", lacks="victim"),
    Web(TENANT, "act as another", "GET", "/apps", headers={"Proxy-User": "$victim"}, lacks="victim"),
    Web(TENANT, "see all users", "GET", "/v2/users"),
    Web(TENANT, "see another user", "GET", "/users/$victim"),
    Web(TENANT, "delete another user", "DELETE", "/users/$victim"),
    Web(TENANT, "change another's password", "PUT", "/users/$victim", {"email": "$victim", "password": "mine-now"}),
    Web(TENANT, "void another's tokens", "DELETE", "/v2/users/$victim/tokens"),
    Web(TENANT, "raise one's own quota", "PUT", "/v2/users/$tenant/quota", {"memory": 1 << 20}),
    Web(TENANT, "see another's quota", "GET", "/v2/users/$victim/quota"),
    Web(TENANT, "make oneself an administrator", "PUT", "/users/$tenant", {"email": "$tenant", "password": "tenant's password", "admin": True}, lacks='"admin": true'),
    Web(TENANT, "read the platform's own logs", "GET", "/v2/logs"),
    Web(TENANT, "read all applications in bulk", "GET", "/bulk/apps"),
    Web(TENANT, "see the orchestrator's jobs", "GET", "/v2/jobs", to="orchestrator"),
    Web(TENANT, "make the pool smaller", "POST", "/v2/pools/dea/scale", {"size": 1}, to="orchestrator"),
    Web(TENANT, "roll the platform back", "POST", "/v2/rollback", {}, to="orchestrator"),
    Web(TENANT, "see another's service", "GET", "/services/$service"),
    Web(TENANT, "delete another's service", "DELETE", "/services/$service"),
    Web(TENANT, "delete another's service as a gateway would", "DELETE", "/services/v1/configurations/$service"),
    Web(TENANT, "bind another's service by its id", "POST", "/services/v1/bindings",
        {"service_id": "$service", "app_id": "$own_id", "binding_options": {}}),
    Web(TENANT, "bind another's service by its name", "PUT", "/apps/own",
        {"name": "own", "staging": {"framework": "wsgi"}, "uris": [], "instances": 1, "services": ["$service"], "resources": {"memory": 64}}),
    Web(TENANT, "learn that somebody has a file", "POST", "/resources", [{"sha1": "$secret_sha1", "size": "$secret_size", "fn": "x"}], lacks="$secret_sha1"),
    _claim("the API's host", "api.$domain"),
    _claim("the orchestrator's host", "orchestrator.$domain"),
    _claim("the orchestrator's host in capitals", "ORCHESTRATOR.$domain"),
    _claim("the orchestrator's host with a port", "orchestrator.$domain:80"),
    _claim("the orchestrator's host with a final dot", "orchestrator.$domain."),
    _claim("the domain itself", "$domain"),
    _claim("every host of the domain", "*.$domain"),
    _claim("another's host", "victim.$domain"),
    _claim("another's host in capitals", "VICTIM.$domain"),
    _claim("another's host with a final dot", "victim.$domain."),
    _claim("a host with a line break", "a\r\nX: y.$domain"),
    _claim("a host with a program for the front door", "a'..os.exit()..'.$domain"),
    Web(TENANT, "have more memory than the quota", "PUT", "/apps/own", {"resources": {"memory": 1 << 20}}, says="you are allowed"),
    Web(TENANT, "have a thousand instances", "PUT", "/apps/own", {"instances": 1000}, says="you are allowed"),
    Web(TENANT, "have a negative number of instances", "POST", "/apps",
        {"name": "minus", "staging": {"framework": "wsgi"}, "uris": [], "instances": -1, "resources": {"memory": 64}}),
    Web(TENANT, "have a name that is a path", "POST", "/apps",
        {"name": "../../etc", "staging": {"framework": "wsgi"}, "uris": [], "instances": 1, "resources": {"memory": 64}}),
    Web(TENANT, "have a framework that is a path", "POST", "/apps",
        {"name": "path", "staging": {"framework": "../../../bin/sh"}, "uris": [], "instances": 1, "resources": {"memory": 64}}),
    _archive_row("have a file written outside of its folder", ("../../etc/cron.d/x", b"x", _FILE)),
    _archive_row("have a file written at an absolute path", ("/etc/cron.d/x", b"x", _FILE)),
    _archive_row("have a link followed", ("out", b"/etc", _LINK), ("out/x", b"x", _FILE)),
    _archive_row("have a device made", ("dev", b"", stat.S_IFBLK | 0o600)),
    _archive_row("have an archive that grows without end", ("zeros", bytes(700 << 20), _FILE)),
    _archive_row("have a path of a hundred thousand levels", ("a/" * 30000 + "x", b"x", _FILE)),
    Web(TENANT, "send what is no archive", "POST", "/apps/own/application", content=upload(b"nonsense")[0], headers=upload(b"")[1],
        refused=REFUSED | {500}, says=_UNPACKED),
    Web(TENANT, "guess the id of another's task", "GET", "/v2/apps/own/tasks/$task/logs"),
    Step(TENANT, "get a file's content by its digest", "stolen_resource"),
    Step(TENANT, "set variables that are the platform's", "reserved_environment"),
    Step(TENANT, "use a token that was voided", "voided_token"),
    Step(TENANT, "use a token with another name in it", "forged_token"),
    Step(TENANT, "answer in place of a neighbour's next instance", "squatting"),
    Step(TENANT, "starve the API of threads by slow bodies", "slow_bodies"),
    Step(ANONYMOUS, "smuggle a request past the router", "smuggled"),
    Step(ANONYMOUS, "guess passwords of ever new accounts", "sprayed_logins"),
    Step(ANONYMOUS, "open accounts without end", "registered_endlessly"),
    Step(ANONYMOUS, "hold the front door open", "slow_headers"),
)  # fmt: skip


def _reaches() -> list[Attempt]:
    # SSH is every operator's.
    found: list[Attempt] = [
        Reach(ANONYMOUS, f"reach {machine} port {port} from outside", machine, port)
        for machine, ports in PORTS.items()
        for port in ports
        if port != 22
    ]
    found += [
        Reach(ANONYMOUS, f"reach {machine} port {port} from outside by IPv6", machine, port, 6)
        for machine, port in (("core1", 4222), ("core1", 5432), ("ctl1", 9022), ("dea1", 12345), ("svc1", 9082), ("router1", 9031))
    ]  # fmt: skip
    found.append(Reach(ANONYMOUS, "reach an application past the routers from outside", "dea1", 61001))
    found.append(Reach(ANONYMOUS, "reach a server of data from outside", "svc1", 5000))
    return found


def table() -> list[Attempt]:
    """Return every attempt of a client."""
    return [*_ANONYMOUS, *_TENANT, *_reaches()]
