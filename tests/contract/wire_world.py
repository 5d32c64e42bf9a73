"""Who asks and what there is when the rows of the wire's table are sent: users, applications, a service, a gateway."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from components.common.states import AppState, PackageState
from components.controller.accounts.auth import Tokens
from components.controller.composition import Controller
from components.controller.db.models import App, Upload
from tests.contract.gateway_stub import TOKEN, GatewayStub
from tests.contract.vmc_client import ADMIN, PASSWORD, Answer, Vmc, body_of, controller_in, served

BROKER = "broker token"
DROPLET = b"a droplet"
LIMITS = {
    "user_capacity": {"memory": 512, "app_uris": 2, "services": 4, "apps": 6},
    "service_tokens": {"redis": TOKEN, "mysql": "mysql token"},
    "service_broker_token": BROKER,
    "reserved_uris": ["www"],
    "reserved_hosts": ["status.ingot.localhost"],
    "reserved_uri_length": 2,
    "max_app_mb": 4,
    "max_app_files": 50,
}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@dataclass(frozen=True)
class Row:
    """One call and its answer.

    `rule` is the route as protocol 1.4 has it; `who` is `-` nobody, `U` a@b.com, `O` another user, `A` the administrator,
    `S` the gateway's token, `B` the bulk password, `T` the stager's, `W` the watcher's. `body`: an object goes as JSON, bytes
    as they are with no content type, None is none. `status` and `code` are the answer; `says` is a part of its description.
    """

    rule: str
    who: str
    case: str
    path: str
    status: int
    code: int | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    says: str = ""
    shape: Any = None

    @property
    def method(self) -> str:
        return self.rule.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.rule} {self.who} {self.case}"


class World:
    """A controller with things in it, and its clients by `Row.who`."""

    def __init__(self, controller: Controller, anonymous: Vmc, gateway: GatewayStub) -> None:
        self.controller = controller
        self.gateway = gateway
        for email in ("a@b.com", "c@d.com", "gone@b.com"):
            assert anonymous.call("POST", "/users", {"email": email, "password": "pw"}).status == 204
        admin = anonymous.login(ADMIN, PASSWORD)
        user = anonymous.login("a%40b.com", "pw")
        other = anonymous.login("c%40d.com", "pw")
        self.clients = {"-": anonymous, "S": anonymous, "B": anonymous, "T": anonymous, "W": anonymous,
                        "U": user, "O": other, "A": admin}  # fmt: skip
        self.names = {"TOKEN": user.token, **forged(user.token, controller)}
        self._furnish(user, other)

    def _furnish(self, user: Vmc, other: Vmc) -> None:
        offered = user.call(
            "POST", "/services/v1/offerings", self.gateway.offering(), X_VCAP_Service_Token=TOKEN
        )
        assert offered.json() == {}
        for name in ("env", "run", "gone"):
            assert user.call("POST", "/apps", body_of(name)).status == 302
        assert other.call("POST", "/apps", body_of("theirs")).status == 302
        assert user.upload("env", {"app.py": b"x"}).status == 200
        assert user.upload("run", {"app.py": b"x"}).status == 200
        for alias in ("r1", "r2"):
            wish = {"type": "key-value", "vendor": "redis", "version": "7.0", "tier": "free", "name": alias}
            assert user.call("POST", "/services", wish).json() == {}
        app = user.call("GET", "/apps/env").json()
        assert user.call("PUT", "/apps/env", {**app, "services": ["r1"]}).status == 200
        with self.controller.db.session() as session:
            ids = {a.name: a.id for a in session.scalars(select(App))}
            session.add(Upload(id="upload", app_id=ids["env"], created_at=1))
            session.execute(
                update(App)
                .where(App.name == "run")
                .values(state=AppState.STARTED, package_state=PackageState.STAGED)
            )
        droplet = "d" * 40
        self.controller.store.droplet(droplet).write_bytes(DROPLET)
        with self.controller.db.session() as session:
            session.execute(update(App).where(App.name == "run").values(staged_package_hash=droplet))
        self.names |= {"ENV_ID": str(ids["env"]), "RUN_ID": str(ids["run"]), "DROPLET": droplet}
        self.names["R2"] = self._instance("r2")

    def _instance(self, alias: str) -> str:
        return next(n for n, body in self.gateway.instances.items() if body["name"] == alias)

    def send(self, row: Row) -> Answer:
        """Send a row as the old client does."""
        client = self.clients[row.who]
        headers = {**_SHOWN.get(row.who, {}), **{k: self.fill(v) for k, v in row.headers.items()}}
        path = self.fill(row.path)
        if isinstance(row.body, bytes):
            return client.raw(row.method, path, row.body, headers)
        if isinstance(row.body, Multipart):
            return client.upload_bytes(path.split("/")[2], row.body.archive, row.body.resources)
        kinds = {"Content-Type": "application/json", "Accept": "application/json"}
        return client.call(row.method, path, self._filled(row.body), **{**kinds, **headers})

    def fill(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace(f"${name}", value)
        return text

    def _filled(self, body: Any) -> Any:
        if isinstance(body, dict):
            return {k: self._filled(v) for k, v in body.items()}
        if isinstance(body, str) and body.startswith("$"):
            filled = self.fill(body)
            return int(filled) if filled.isdigit() else filled
        return body


@dataclass(frozen=True)
class Multipart:
    """A multipart body."""

    archive: bytes | None
    resources: str | None = "[]"


_SHOWN = {
    "S": {"X-VCAP-Service-Token": TOKEN},
    "B": basic("bulk_api", "bulk"),
    "T": basic("staging", "stage"),
    "W": basic("status", "watching"),
}


def forged(token: str, controller: Controller) -> dict[str, str]:
    """Tokens that do not hold, by what is wrong with them."""
    config = controller.config
    mine = Tokens(config.token_keys, config.token_expiration)
    foreign = Tokens(["another platform's key"], config.token_expiration)
    head, _, tail = token.partition(".")
    return {
        "EXPIRED": mine.make("a@b.com", now=1_000_000.0),
        "FOREIGN": foreign.make(ADMIN),
        "CUT": token[:-3],
        "FLIPPED": ("A" if head[0] != "A" else "B") + head[1:] + "." + tail,
        "UNSIGNED": head,
        "OF_2011": "04085b08221a6140622e636f6d6c2b07" * 2,
        "BEARER": f"bearer {token}",
        "TWICE": f"{token} {token}",
        "LONG": "x" * 6000,
        "UNKNOWN": mine.make("nobody@b.com"),
        "BASIC": basic(ADMIN, PASSWORD)["Authorization"],
    }


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """Makes one."""
    gateway = GatewayStub()
    try:
        with controller_in(folder, **LIMITS) as made, served(made) as anonymous:
            yield World(made, anonymous, gateway)
    finally:
        gateway.close()
