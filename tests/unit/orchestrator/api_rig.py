"""The API over a real engine, journal and inventory; in place of an infrastructure, one of memory."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml

from components.common.bus.messages import Capacity, DeaBeat
from components.common.bus.thread import BusThread
from components.common.config import parse
from components.common.identity import Identity
from orchestrator.api.app import create_app
from orchestrator.api.auth import Authenticator
from orchestrator.api.context import Orchestrator
from orchestrator.bus_view import BusView
from orchestrator.config import OrchestratorConfig
from orchestrator.iaas.provider import ABSENT, READY, Image, ProviderError
from orchestrator.images import Images
from orchestrator.inventory.platform_inventory import PlatformInventory
from orchestrator.redact import Redactor
from orchestrator.services import Services
from orchestrator.ssh import SshVerifier
from tests.unit.orchestrator.engine_rig import SECRET, World

PASSWORD = "operators-password"
ADDRESSES = {"dea1": "198.18.0.6", "dea2": "198.18.0.7", "core1": "198.18.0.2"}


class Memory:
    """A provider's images."""

    name = "metal"
    driver = "memory"

    def __init__(self) -> None:
        self.known = {"plain": READY, "later": ABSENT}
        self.broken = ""
        self.imports: list[tuple[str, str]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def find_image(self, name: str) -> Image | None:
        if self.broken:
            raise ProviderError(self.broken)
        return Image(name, self.known[name]) if name in self.known else None

    def import_image(self, name: str, source: str = "", say: Callable[[str], None] = print) -> Image:
        self.imports.append((name, source))
        assert self.go_on.wait(20)
        if self.broken:
            raise ProviderError(self.broken)
        self.known[name] = READY
        return Image(name, READY)

    def remove_image(self, name: str) -> None:
        if self.broken:
            raise ProviderError(self.broken)
        self.known.pop(name, None)


class Controller:
    """Answers `GET /v2/me`: `tokens` maps a token to its answer."""

    def __init__(self) -> None:
        self.tokens: dict[str, tuple[int, Any]] = {}
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                status, said = outer.tokens.get(
                    self.headers.get("Authorization", ""), (403, {"code": 200, "description": "no"})
                )
                payload = json.dumps(said).encode()
                self.send_response(status if self.path == "/v2/me" else 404)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Rig:
    """An orchestrator without its server."""

    def __init__(self, folder: Path, kinds: list[Any], controllers: list[str], **pool: Any) -> None:
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        hosts = {name: {"ansible_host": address} for name, address in ADDRESSES.items()}
        groups: dict[str, Any] = {
            "dea": {"hosts": {"dea1": {}, "dea2": {}}},
            "nats": {"hosts": {"core1": {}}},
        }
        tree = {"all": {"children": {**groups, "lab": {"hosts": hosts}}}}
        (self.inventory / "10-fixed.yml").write_text(yaml.safe_dump(tree))
        known_hosts = folder / "known_hosts"
        known_hosts.write_text("")
        raw = {
            "bus": {"urls": ["nats://127.0.0.1:1"]},
            "status": {"password": "watching"},
            "inventory": str(self.inventory),
            "releases": str(folder),
            "state_path": str(folder),
            "operator_password": PASSWORD,
            "controllers": controllers,
            "ssh": {"private_key": str(folder / "key"), "known_hosts": [str(known_hosts)]},
            "providers": {"metal": {"driver": "lab", "socket": "/run/x/lab.sock", "lab": "x"}},
            "pools": {
                "dea": {"provider": "metal", "image": "plain", "prefix": "dea", "groups": ["dea"], "maximum": 4, **pool}
            },
        }  # fmt: skip
        self.config = parse(raw, OrchestratorConfig)
        self.world = World(folder, *kinds, resumable=("roll",))
        self.bus_view = BusView(None)
        self.provider = Memory()
        self.services = Services(
            config=self.config,
            db=self.world.db,
            bus=BusThread(self.config.bus, "test"),
            bus_view=self.bus_view,
            inventory=PlatformInventory(self.inventory),
            plays=cast("Any", None),
            ssh=SshVerifier(self.config.ssh),
            providers=cast("Any", {"metal": self.provider}),
        )
        self.engine = self.world.engine()
        self.images = Images(self.config, self.world.db, self.services.providers, lambda: Redactor([SECRET]))
        self.orchestrator = Orchestrator(
            config=self.config,
            identity=Identity.fresh("Orchestrator", 0),
            services=self.services,
            journal=self.world.journal,
            engine=self.engine,
            images=self.images,
            authenticator=Authenticator(self.config),
            stopping=threading.Event(),
        )
        self.http = create_app(self.orchestrator).test_client()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Ask as the operator, unless told otherwise; gives status and decoded body."""
        headers = headers or {"Authorization": basic("operator", PASSWORD)}
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        kind = None if data is None else headers.pop("content_type", "application/json")
        answer = self.http.open(path, method=method, data=data, headers=headers, content_type=kind)
        return answer.status_code, answer.get_json(silent=True) if answer.is_json else answer.data

    def beat(self, address: str, *, evacuating: bool = False) -> None:
        beat = DeaBeat(
            id=f"0-{address}",
            address=address,
            capacity=Capacity(memory=1024),
            release="1.0.0",
            droplets={"7": 2},
            evacuating=evacuating,
        )
        self.bus_view.on_beat(beat)

    def close(self) -> None:
        self.provider.go_on.set()
        self.world.close()
        self.orchestrator.authenticator.close()
        self.services.bus._loop.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
