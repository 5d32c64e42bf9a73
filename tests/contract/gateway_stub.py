"""A service gateway: a real HTTP server that answers protocol 6.2 and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "redis token"


class GatewayStub:
    """Keeps instances and handles as a gateway does; `fail` and `late` make the calls of an operation go wrong."""

    def __init__(self, label: str = "redis-7.0", port: int = 0) -> None:
        self.label = label
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.instances: dict[str, dict[str, Any]] = {}
        self.handles: dict[str, str] = {}
        self.fail: dict[str, tuple[int, Any]] = {}
        self.late: dict[str, float] = {}
        # Handles that may be made before binding fails.
        self.binds_left = 1000
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: object) -> None: ...

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                assert self.headers["Content-Type"] == "application/json"
                status, value = stub.answer(
                    self.command, self.path, body, self.headers["X-VCAP-Service-Token"]
                )
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:
                    self.close_connection = True

            do_POST = do_DELETE = handle_any  # noqa: N815 - the names http.server looks for

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = int(self.server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def lines(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.calls]

    def offering(self, **more: Any) -> dict[str, Any]:
        """What it registers."""
        return {
            "label": self.label,
            "url": self.url,
            "plans": ["free"],
            "tags": ["redis", self.label, "key-value", "nosql"],
            "active": True,
            "description": "Redis",
            "timeout": 5,
            **more,
        }

    def answer(self, method: str, path: str, body: dict[str, Any], token: str | None) -> tuple[int, Any]:
        self.calls.append((method, path, body))
        if token != TOKEN:
            return 401, {"code": 30100, "description": "Not authorized"}
        parts = path.split("/")[3:]
        operation = {
            ("POST", 1): "provision",
            ("DELETE", 2): "unprovision",
            ("POST", 3): "bind",
            ("DELETE", 4): "unbind",
        }[method, len(parts)]
        if operation in self.fail:
            return self.fail[operation]
        answer: tuple[int, Any] = getattr(self, f"_{operation}")(parts, body)
        if operation in self.late:
            # The work is done, and the answer comes too late.
            time.sleep(self.late[operation])
        return answer

    def _provision(self, _parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        name = str(uuid.uuid4())
        self.instances[name] = body
        return 200, {
            "service_id": name,
            "data": {"plan": body["plan"]},
            "credentials": {"name": name, "node_id": "redis_node_1"},
        }

    def _unprovision(self, parts: list[str], _body: dict[str, Any]) -> tuple[int, Any]:
        if self.instances.pop(parts[1], None) is None:
            return 404, {"code": 30300, "description": "not found"}
        return 200, {}

    def _bind(self, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        if parts[1] not in self.instances:
            return 404, {"code": 30300, "description": "not found"}
        if self.binds_left <= 0:
            return 504, {"code": 30700, "description": "node redis_node_1 did not answer"}
        self.binds_left -= 1
        handle = str(uuid.uuid4())
        self.handles[handle] = parts[1]
        credentials = {"name": parts[1], "hostname": "127.0.0.1", "host": "127.0.0.1", "port": 5001}
        return 200, {
            "service_id": handle,
            "configuration": {"plan": "free", "data": {"binding_options": body["binding_options"]}},
            "credentials": {**credentials, "password": f"p{handle}"},
        }

    def _unbind(self, parts: list[str], _body: dict[str, Any]) -> tuple[int, Any]:
        if self.handles.pop(parts[3], None) is None:
            return 404, {"code": 30300, "description": "not found"}
        return 200, {}
