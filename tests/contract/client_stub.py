"""A controller that answers what it is told to and remembers what came in, for the client's wire tests."""

from __future__ import annotations

import email.parser
import email.policy
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click.testing

from components.client.main import cli

INFO: dict[str, Any] = {
    "name": "ingot",
    "build": 1,
    "version": "0.999",
    "support": "http://support.ingot.localhost",
    "description": "stub",
    "user": "a@b.com",
    "limits": {"memory": 2048, "app_uris": 4, "services": 16, "apps": 20},
    "usage": {"memory": 128, "apps": 1, "services": 0},
    "frameworks": {
        "wsgi": {"name": "wsgi", "runtimes": [{"name": "python3", "version": "3.11"}], "detection": []},
        "static": {"name": "static", "runtimes": [{"name": "python3"}], "detection": []},
        "standalone": {"name": "standalone", "runtimes": [], "detection": []},
    },
}


def update_of(state: str, replaced: int, instances: int, message: str = "") -> dict[str, Any]:
    return {
        "state": state,
        "since": 1,
        "from": "1-1",
        "to": "2-0",
        "replaced": replaced,
        "instances": instances,
        "message": message,
    }


def line_of(instance: int, n: int, text: str, stream: str = "stdout") -> dict[str, Any]:
    facts = {"instance": instance, "id": f"id{instance}", "n": n, "at": 1.0}
    return {**facts, "stream": stream, "text": text}


def page_of(*lines: dict[str, Any], missed: Any = (), cursor: str = "c", **members: Any) -> dict[str, Any]:
    return {"lines": list(lines), "missed": list(missed), "cursor": cursor, **members}


@dataclass
class Call:
    """One request; `path` as it was on the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    def json(self) -> Any:
        return json.loads(self.body)

    def parts(self) -> list[tuple[str, Any, bytes]]:
        """Give the multipart body's parts: name, content type where one was sent, content."""
        raw = b"Content-Type: " + self.headers["content-type"].encode() + b"\r\n\r\n" + self.body
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(raw)
        return [
            (
                str(part.get_param("name", header="content-disposition")),
                part["content-type"],
                bytes(part.get_payload(decode=True) or b""),
            )
            for part in message.iter_parts()
        ]

    def zip(self) -> dict[str, bytes]:
        content = next(body for name, _, body in self.parts() if name == "application")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@dataclass
class Answer:
    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)


class Stub:
    """Answers `METHOD path` with what was set; the last of several answers stays. Keeps applications like a controller."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.apps: dict[str, dict[str, Any]] = {}
        self.known: set[str] = set()
        self.restages = True
        # An older controller knows nothing below /v2.
        self.v2 = True
        # What `GET /v2/apps/NAME/update` says, one after the other; the last stays.
        self.updates: list[dict[str, Any]] = [update_of("SUCCEEDED", 1, 1)]
        self._answers: dict[str, list[Answer]] = {"GET /info": [Answer(body=INFO)]}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {key.lower(): value for key, value in self.headers.items()}
                call = Call(self.command, self.path, headers, self.rfile.read(length))
                stub.calls.append(call)
                answer = stub.answer(call)
                body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
                self.send_response(answer.status)
                for key, value in answer.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names http.server looks for

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_arguments: object) -> None:
                """Say nothing where a client has gone away."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://api.ingot.localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def set(self, line: str, *answers: Any, status: int = 200) -> None:
        """Answer a request so; several answers are given one after the other."""
        self._answers[line] = [a if isinstance(a, Answer) else Answer(status, a) for a in answers]

    def error(self, line: str, status: int, code: int, description: str = "stub says no") -> None:
        self.set(line, {"code": code, "description": description}, status=status)

    def lines(self) -> list[str]:
        """What was asked, without the staging log that is asked for while time passes."""
        return [call.line for call in self.calls if not call.path.endswith("/staging_log")]

    def last(self, line: str) -> Call:
        return next(call for call in reversed(self.calls) if call.line == line)

    def app(self, name: str, **members: Any) -> dict[str, Any]:
        self.apps[name] = {
            "name": name,
            "staging": {"model": "wsgi", "stack": "python3"},
            "uris": [f"{name}.ingot.localhost"],
            "instances": 1,
            "runningInstances": 0,
            "resources": {"memory": 128, "disk": 2048, "fds": 256},
            "state": "STOPPED",
            "services": [],
            "version": "1-1",
            "env": [],
            "meta": {"version": 1, "created": 1},
            **members,
        }
        return self.apps[name]

    def answer(self, call: Call) -> Answer:
        if queue := self._answers.get(call.line):
            return queue.pop(0) if len(queue) > 1 else queue[0]
        if call.path.startswith("/v2/"):
            return self._beyond(call) if self.v2 else Answer(404, "")
        return self._as_controller(call)

    def _as_controller(self, call: Call) -> Answer:
        missing = Answer(404, {"code": 301, "description": "Application not found"})
        if call.line == "POST /apps":
            body = call.json()
            self.app(body["name"], uris=body["uris"], instances=body["instances"], env=body.get("env", []))
            return Answer(302, {"result": "success"}, {"Location": f"{self.url}/apps/{body['name']}"})
        if call.line == "GET /apps":
            return Answer(body=list(self.apps.values()))
        if call.line == "POST /resources":
            return Answer(body=[item for item in call.json() if item["sha1"] in self.known])
        pieces = call.path.split("/")
        app = self.apps.get(pieces[2]) if pieces[1] == "apps" and len(pieces) > 2 else None
        if app is None:
            return missing
        if len(pieces) == 3:
            if call.method == "PUT":
                started = app["state"] == "STARTED"
                app.update(call.json())
                if app["state"] == "STARTED" and (self.restages or not started):
                    app["version"] += "+"
            elif call.method == "DELETE":
                del self.apps[pieces[2]]
            return Answer(body=app if call.method == "GET" else " ")
        started = app["state"] == "STARTED"
        return {
            "application": Answer(body=" "),
            "update": Answer(204, ""),
            "instances": Answer(
                body={
                    "instances": [
                        {"index": index, "state": "RUNNING", "since": 1}
                        for index in range(app["instances"] if started else 0)
                    ]
                }
            ),
            "stats": Answer(body={}),
            "crashes": Answer(body={"crashes": []}),
        }.get(pieces[3], missing)

    def _beyond(self, call: Call) -> Answer:
        """Answer what nobody set below /v2: updates that go as they are told to, and nothing of all else."""
        pieces = call.path.partition("?")[0].split("/")
        if pieces[2] != "apps" or len(pieces) < 5:
            return Answer(body={pieces[2]: [], "next": None})
        app = self.apps.get(pieces[3])
        if app is None:
            return Answer(404, {"code": 301, "description": "Application not found"})
        if call.method == "PUT" and pieces[4] == "update":
            app.update(call.json())
            return Answer(202, self.updates[0])
        answers = {
            "rollback": lambda: Answer(202 if app["state"] == "STARTED" else 200, self.updates[0]),
            "update": lambda: Answer(body=self.updates.pop(0) if len(self.updates) > 1 else self.updates[0]),
            "logs": lambda: Answer(body=page_of()),
            "staging_log": lambda: Answer(404, {"code": 303, "description": "nothing was staged yet"}),
        }
        return answers.get(pieces[4], lambda: Answer(body={pieces[4]: []}))()


@dataclass
class Ingot:
    """Runs `ingot` against a stub with a home of its own."""

    stub: Stub
    home: Path

    def login(self) -> None:
        self.home.mkdir(exist_ok=True)
        (self.home / "config.json").write_text(
            json.dumps({"target": self.stub.url, "tokens": {self.stub.url: "tok-1"}})
        )

    def attempt(self, *arguments: str, stdin: str = "", **environment: str) -> Any:
        """Run it, however it ends."""
        return click.testing.CliRunner().invoke(
            cli,
            list(arguments),
            input=stdin,
            env={"INGOT_HOME": str(self.home), "INGOT_PASSWORD": None, "INGOT_TARGET": None, **environment},
        )

    def run(self, *arguments: str, code: int = 0, stdin: str = "", **environment: str) -> Any:
        result = self.attempt(*arguments, stdin=stdin, **environment)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)
