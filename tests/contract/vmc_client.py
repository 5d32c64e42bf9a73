"""A controller on SQLite, without a bus, behind a real socket; and a client that sends what `vmc` sends."""

from __future__ import annotations

import http.client
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from components.common.config import parse
from components.common.identity import Identity
from components.controller.api.app import create_app
from components.controller.composition import Controller
from components.controller.config import ControllerConfig
from components.controller.server import prepare
from tests.contract import described

ADMIN, PASSWORD = "admin@ingot.localhost", "correct horse"


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_args: Any) -> None: ...


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        assert (self.headers["Content-Type"] or "").startswith("application/json"), self.body
        return json.loads(self.body)

    @property
    def code(self) -> tuple[int, int]:
        value = self.json()
        assert set(value) == {"code", "description"}
        return self.status, value["code"]


@dataclass
class Vmc:
    """One request per connection; the token goes raw into AUTHORIZATION."""

    port: int
    token: str = ""

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {"Accept-Encoding": "gzip, deflate", "User-Agent": "Ruby", **(headers or {})}
            if self.token:
                sent.setdefault("AUTHORIZATION", self.token)
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            assert "Content-Length" in answer.headers or answer.status == 204, "the client would hang"
            return Answer(answer.status, answer.headers, content)
        finally:
            connection.close()

    def call(self, method: str, path: str, value: object = None, **headers: str) -> Answer:
        body = None if value is None else json.dumps(value).encode()
        both = {"Content-Type": "application/json", "Accept": "application/json"}
        return self.raw(method, path, body, {**both, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def login(self, email: str, password: str) -> Vmc:
        answer = self.call("POST", f"/users/{email}/tokens", {"password": password})
        assert answer.status == 200, answer.body
        return Vmc(self.port, answer.json()["token"])

    def upload(
        self, name: str, files: dict[str, bytes], resources: str | None = "[]", boundary: str = "7"
    ) -> Answer:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as zipped:
            for file, content in files.items():
                zipped.writestr(file, content)
        return self.upload_bytes(name, packed.getvalue(), resources, boundary)

    def upload_bytes(
        self, name: str, archive: bytes | None, resources: str | None = "[]", boundary: str = "7"
    ) -> Answer:
        parts = [b'Content-Disposition: form-data; name="_method"\r\n\r\nput']
        if archive is not None:
            head = (
                f'Content-Disposition: form-data; name="application"; filename="{name}.zip"\r\n'
                "Content-Type: application/zip\r\n\r\n"
            )
            parts.append(head.encode() + archive)
        if resources is not None:
            parts.append(b'Content-Disposition: form-data; name="resources"\r\n\r\n' + resources.encode())
        line = f"--{boundary}".encode()
        body = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Accept": "*/*; q=0.5, application/xml",
        }
        return self.raw("POST", f"/apps/{name}/application", body, headers)


@contextmanager
def controller_in(folder: Path, **more: Any) -> Iterator[Controller]:
    """Makes one worker's parts, with ccdb and the share in that folder."""
    (folder / "share").mkdir()
    config = parse(
        {
            "bus": {"urls": ["nats://127.0.0.1:1"]},
            "status": {"password": "watching"},
            "database_url": f"sqlite:///{folder}/ccdb",
            "share_path": str(folder / "share"),
            "temp_path": str(folder),
            "token_keys": ["0123456789abcdef"],
            "bulk_password": "bulk",
            "staging_password": "stage",
            "admin_email": ADMIN,
            "admin_password": PASSWORD,
            "reserved_uris": ["www"],
            "max_upload_mb": 8,
            "max_app_mb": 4,
            **more,
        },
        ControllerConfig,
    )
    prepare(config)
    with worker(config) as made:
        yield made


@contextmanager
def worker(config: ControllerConfig, index: int = 0) -> Iterator[Controller]:
    """Makes the parts of one worker of a controller whose ccdb and share are there."""
    made = Controller.build(config, Identity.fresh("CloudController", index))
    made.bus.start()
    try:
        yield made
    finally:
        made.bus.close()
        made.services.close()
        made.db.close()


@contextmanager
def served(controller: Controller) -> Iterator[Vmc]:
    """Serves it; gives an anonymous client. Every answer is one that the description of the routes lists."""
    app = create_app(controller)
    wrong = described.watch(app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Vmc(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not wrong, "not as GET /v2/openapi.json says:\n" + "\n".join(dict.fromkeys(wrong))


def body_of(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "staging": {"framework": "wsgi", "runtime": None},
        "uris": [f"{name}.ingot.localhost:9022"],
        "instances": 1,
        "resources": {"memory": 64},
        **changes,
    }
