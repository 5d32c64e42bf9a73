"""The controller's configuration: `/etc/ingot/controller.yml`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from components.common.bus.platform_hosts import api_host, host_problems, platform_hosts
from components.common.config import DaemonConfig
from components.controller.client_address import networks

SCHEMES = ("postgresql+psycopg://", "sqlite:///")


class Capacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The capacity of an account (protocol 1.8): MB of `memory` and `disk` over its started applications and tasks, and counts.

    `app_uris` counts the routes of one application, `routes` those of all; `builds` counts concurrent stagings; `storage` is MB of
    packages and droplets, including those of revisions. The defaults allow 32 MB of memory for each instance on average, and the
    2 GB of disk that each reserves.
    """

    memory: int = 2048
    app_uris: int = 4
    services: int = 16
    apps: int = 20
    instances: int = 64
    disk: int = 131_072
    routes: int = 40
    builds: int = 4
    storage: int = 20_480

    def problems(self) -> list[str]:
        """Return a problem for each value that is negative."""
        return [
            f"{name}: want 0 or more"
            for name in self.__struct_fields__
            if isinstance(getattr(self, name), int) and getattr(self, name) < 0
        ]


class Together(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of all self-registered accounts together: their number, and the `memory` (MB) and instances that they run."""

    accounts: int = 1000
    memory: int = 65_536
    instances: int = 2048

    def problems(self) -> list[str]:
        """Return a problem for each value that is negative."""
        return [f"{name}: want 0 or more" for name in self.__struct_fields__ if getattr(self, name) < 0]


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit of the rate of requests: `burst` at once, then `per_minute`; 0 is no limit."""

    per_minute: int
    burst: int

    def problems(self) -> list[str]:
        """Return a problem for a negative value, and for a limit that lets no request through."""
        found = [] if self.per_minute >= 0 else ["per_minute: want 0 or more"]
        return found if self.burst >= 1 else [*found, "burst: want 1 or more"]


class ControllerConfig(DaemonConfig, frozen=True, kw_only=True):
    """The configuration of a controller; all controllers of a platform have the same but for address and index.

    `token_keys`: the first signs tokens, every one verifies them. `status.user` and `status.password` guard `/varz`
    and `/metrics`, which are served on `port`; `status.host` and `status.port` are not used.
    """

    host: str = "0.0.0.0"  # noqa: S104 - the router and the DEAs ask it; the firewall narrows who
    port: int = 9022
    workers: int = 2
    threads: int = 16
    database_url: str
    share_path: str
    temp_path: str = "/var/tmp"  # noqa: S108 - only private sub-directories are made in it
    domain: str = "ingot.localhost"
    # Empty: `api.` and the domain. Another host is also listed in `reserved_hosts`, so that routers know it as the platform's.
    api_host: str = ""
    external_port: int = 80

    token_keys: list[str]
    token_expiration: int = 604800
    bulk_user: str = "bulk_api"
    bulk_password: str
    staging_user: str = "staging"
    staging_password: str
    admin_email: str = ""
    admin_password: str = ""
    allow_registration: bool = True
    https_required: bool = False
    https_required_for_admins: bool = False

    name: str = "ingot"
    description: str = "Ingot, a private Platform-as-a-Service"
    support: str = "http://support.ingot.localhost"
    allow_debug: bool = False
    allow_external_uris: bool = False
    # Hosts of the platform beside the domain itself, `api.` and `orchestrator.`: users cannot give one of them to an application,
    # and an application that has one loses it.
    reserved_hosts: list[str] = msgspec.field(default_factory=list)
    # Hosts that only an administrator gives to an application; the part before the domain must be longer than this.
    reserved_uris: list[str] = msgspec.field(default_factory=list)
    reserved_uri_length: int = 0
    # The target to which `/` redirects browsers; empty: a line of text instead.
    index_page: str = ""
    user_capacity: Capacity = Capacity()
    admin_capacity: Capacity = Capacity(
        memory=32768,
        app_uris=16,
        services=32,
        apps=200,
        instances=1024,
        disk=2_097_152,
        routes=800,
        builds=64,
        storage=204_800,
    )
    registered_limit: Together = Together()
    # Vendor to the token that its gateway and the controllers show each other; a vendor without a token can offer nothing.
    service_tokens: dict[str, str] = msgspec.field(default_factory=dict)
    # The token of a broker, which may offer services that no gateway of these vendors offers; empty: there is no broker.
    service_broker_token: str = ""
    # Gateways announce themselves every 60 seconds; the services of one that was silent for longer than this are not offered.
    service_silent_seconds: int = 180
    # The versions that the DEAs really run, for `/info`: runtime name to version.
    runtime_versions: dict[str, str] = msgspec.field(default_factory=dict)

    # Limits for each user, for failed logins from one address to one account, for failed logins and registrations from one
    # address to any account, and for an account's uploads: on the whole platform, whatever the number of processes.
    rate_limit: RateLimit = RateLimit(per_minute=12_000, burst=1000)
    login_limit: RateLimit = RateLimit(per_minute=10, burst=10)
    address_limit: RateLimit = RateLimit(per_minute=60, burst=120)
    upload_limit: RateLimit = RateLimit(per_minute=30, burst=60)
    # The addresses or networks of the routers, whose `X-Forwarded-For` is believed.
    routers: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1"])
    # The addresses or networks of the platform's own machines: only they, and not through a router, are given droplets, packages,
    # leases and the list of all applications. DEAs that beat on the bus are added to them.
    platform_networks: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1"])
    # Days for which events, usage statistics, and ended tasks are kept.
    events_days: int = 90
    usage_days: int = 800
    tasks_days: int = 7
    max_task_seconds: int = 86_400
    # The age and size up to which the pool keeps files that applications have in common.
    resources_days: int = 30
    resources_mb: int = 20_480

    max_staging_seconds: int = 120
    max_upload_mb: int = 1024
    max_app_mb: int = 512
    max_app_files: int = 100_000
    database_wait_seconds: int = 60
    # The interval of the search for remains of killed controllers.
    sweep_seconds: float = 60.0
    # On a stop, the time for which the controller still serves after it unregistered its route.
    drain_seconds: float = 1.0
    # While this file exists, the controller is in no router's table; it still serves direct requests.
    drain_file: str = "/run/ingot-controller/drain"

    @property
    def api(self) -> str:
        """Return the host by which the router knows the API."""
        return self.api_host or api_host(self.domain)

    @property
    def platform_hosts(self) -> frozenset[str]:
        """Return the hosts that no application may have."""
        return platform_hosts(self.domain, (self.api, *self.reserved_hosts))

    @property
    def admin_hosts(self) -> frozenset[str]:
        """Return the hosts that only administrators take."""
        return frozenset(name if "." in name else f"{name}.{self.domain}" for name in self.reserved_uris)

    def problems(self) -> list[str]:
        """Return the problems that types cannot express."""
        found = []
        if not self.database_url.startswith(SCHEMES):
            found.append(f"database_url: want one of {', '.join(SCHEMES)}…")
        if not self.token_keys or any(len(key) < 16 for key in self.token_keys):
            found.append("token_keys: want at least one key, each of 16 characters or more")
        found.extend(
            f"{key}: must not be empty"
            for key in ("bulk_password", "staging_password")
            if not getattr(self, key)
        )
        if bool(self.admin_email) != bool(self.admin_password):
            found.append("admin_email: wants admin_password beside it, and the reverse")
        found.extend(
            f"service_tokens: {vendor}: want a token of 8 characters or more"
            for vendor, token in self.service_tokens.items()
            if len(token) < 8
        )
        if self.service_broker_token and len(self.service_broker_token) < 8:
            found.append("service_broker_token: want 8 characters or more, or nothing")
        found.extend(host_problems("domain", [self.domain]))
        found.extend(host_problems("api_host", [self.api]))
        found.extend(host_problems("reserved_hosts", self.reserved_hosts))
        if self.api not in (known := platform_hosts(self.domain, self.reserved_hosts)):
            found.append(
                f"api_host: routers take no route for {self.api} from a controller: want one of {', '.join(sorted(known))}, "
                "or name it in reserved_hosts and in the routers' router_reserved_hosts as well"
            )
        found.extend(_no_networks("routers", self.routers))
        found.extend(_no_networks("platform_networks", self.platform_networks))
        if self.sweep_seconds <= 0:
            found.append("sweep_seconds: want more than 0")
        counts = [
            "events_days",
            "usage_days",
            "tasks_days",
            "max_task_seconds",
            "resources_days",
            "resources_mb",
            "service_silent_seconds",
            "workers",
            "threads",
            "max_staging_seconds",
            "max_upload_mb",
            "max_app_mb",
            "max_app_files",
        ]
        found.extend(f"{key}: want 1 or more" for key in counts if getattr(self, key) < 1)
        if not 0 <= self.port <= 65535:
            found.append("port: want 0 to 65535")
        if not Path(self.share_path).is_absolute():
            found.append("share_path: want an absolute path")
        return found


def _no_networks(key: str, texts: list[str]) -> list[str]:
    try:
        networks(texts)
    except ValueError as error:
        return [f"{key}: {error}"]
    return []
