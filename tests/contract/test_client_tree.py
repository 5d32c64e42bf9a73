"""Every command of `ingot`, found by walking its tree: help, `--json`, and words instead of tracebacks whatever answers."""

import http.server
import json
import re
import socket
import threading

import click
import pytest

from components.client.main import SECTIONS, cli
from tests.contract.client_stub import INFO, Answer, Ingot, Stub

VALUES = {
    "email": "a@b.com",
    "url": "http://api.ingot.localhost",
    "vendor": "redis",
    "app": "hello",
    "shell": "bash",
    "number": "7",
    "release": "1.2",
    "provider": "lab",
    "host": "two.ingot.localhost",
    "path": "/",
    "task": "t1",
    "command": "true",
    "what": "hello",
}
MORE = {
    "pool scale": ["--size", "3"],
    "scale": ["--instances", "2"],
    "delete": ["--force"],
    "platform rollback": ["--force"],
    "delete-service": ["--force"],
    "logs": ["--tail", "5"],
}
# They ask nobody, or do not mind.
QUIET = {"completion", "target", "logout"}
# It prints what the answer holds, whatever that is.
TEXT = {"files"}


def leaves(group, *words):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *words, name)
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(leaves(cli))


def arguments(name, command):
    """Give a command line that is complete and asks nothing."""
    given = [
        VALUES.get(parameter.name, "hello")
        for parameter in command.params
        if isinstance(parameter, click.Argument) and (parameter.required or parameter.name == "what")
    ]
    takes_time = any(parameter.name == "timeout" for parameter in command.params)
    return [*name.split(), *(["--timeout", "1"] if takes_time else []), *MORE.get(name, []), *given]


@pytest.fixture
def ingot(stub, tmp_path, monkeypatch):
    monkeypatch.setattr("components.client.follow.logs.PATIENCE", 0.1)
    monkeypatch.setattr("components.client.follow.job.PATIENCE", 0.1)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "wsgi.py").write_text("def application(e, s): ...\n")
    monkeypatch.chdir(folder)
    command = Ingot(stub, tmp_path / "home")
    command.login()
    return command


def every(answer):
    def tell(self, _call):
        return answer

    return tell


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name, ingot):
    command = COMMANDS[name]
    assert command.help
    said = ingot.run(*name.split(), "--help", COLUMNS="40").stdout
    assert command.help.split()[0] in said
    assert all(p.help for p in command.params if isinstance(p, click.Option))
    assert "--json" in said


def test_every_command_is_in_a_section_of_the_help(ingot):
    shown = ingot.run("--help").stdout
    listed = [command for commands in SECTIONS.values() for command in commands]
    assert sorted(str(c.name) for c in listed) == sorted(cli.commands)
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in cli.commands)


ANSWERS = {
    "403": Answer(403, {"code": 200, "description": "Operation not permitted"}),
    "404": Answer(404, {"code": 301, "description": "Application not found"}),
    "404 of an older one": Answer(404, ""),
    "500": Answer(500, {"code": 111, "description": "trouble"}),
    "a page": Answer(200, "<html>a proxy's page</html>"),
    "cut off": Answer(200, '{"name": "ingot", "apps": ['),
    "another shape": Answer(200, {"instances": 7, "lines": "x", "state": [], "jobs": {}, "frameworks": [1]}),
    "a list of numbers": Answer(200, [1, 2]),
    "null": Answer(200, "null"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_command_shows_a_traceback_whatever_it_is_answered(kind, stub, ingot, monkeypatch):
    monkeypatch.setattr(Stub, "answer", every(ANSWERS[kind]))
    for name, command in COMMANDS.items():
        ingot.login()
        result = ingot.attempt(*arguments(name, command), INGOT_PASSWORD="secret")
        told = f"{name}, answered {kind}: {result.output} {result.exception!r}"
        assert isinstance(result.exception, SystemExit | None), told
        assert result.exit_code in {0, 1}, told
        assert "Traceback" not in result.output, told
        told_apart = {"403", "500", *(() if name in TEXT else ("a page", "cut off"))}
        if kind in told_apart and name not in QUIET:
            assert result.exit_code == 1, told
            assert result.stderr.startswith("ingot: "), told
            assert not result.stdout, told


def test_a_refused_connection_is_told_by_every_command(ingot, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://api.ingot.localhost:{taken.getsockname()[1]}"
        for name, command in COMMANDS.items():
            (tmp_path / "home" / "config.json").write_text(
                json.dumps({"target": address, "tokens": {address: "t"}})
            )
            if name in QUIET:
                continue
            result = ingot.attempt(*arguments(name, command), INGOT_PASSWORD="secret")
            assert result.exit_code == 1, (name, result.output, result.exception)
            assert "next: " in result.stderr, (name, result.output)


def test_a_question_is_asked_again_and_a_wish_is_not(ingot, tmp_path):
    """The server closes the first connection of every kind of request without an answer."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            seen.append(f"{self.command} {self.path}")
            if seen.count(seen[-1]) == 1:
                self.close_connection = True
                return
            body = json.dumps(INFO).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = handle_any  # noqa: N815 - the names http.server looks for

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        assert ingot.run("--target", address, "info", "--json").stdout
        assert seen == ["GET /info"] * 2
        result = ingot.run("--target", address, "register", "x@y.z", INGOT_PASSWORD="secret", code=1)
        assert "cannot be reached" in result.stderr
        assert seen[2:] == ["POST /users"]
    finally:
        server.shutdown()
        server.server_close()


LISTINGS = {
    "apps": "list",
    "events": "list",
    "usage": "list",
    "users": "list",
    "machines": "list",
    "info": "object",
    "runtimes": "object",
    "frameworks": "object",
    "services": "object",
    "target": "object",
    "app": "object",
    "revisions": "list",
    "tasks": "list",
    "crashes": "list",
    "stats": "object",
    "env": "object",
    "logs": "object",
    "start": "object",
    "stop": "object",
    "restart": "object",
    "scale": "object",
    "map": "object",
    "unmap": "object",
    "push": "object",
    "update": "object",
    "rollback": "object",
    "delete": "object",
    "login": "object",
    "logout": "object",
    "passwd": "object",
    "quota": "object",
    "completion": "object",
}


@pytest.mark.parametrize("name", LISTINGS)
def test_json_is_one_document_and_nothing_else(name, stub, ingot):
    stub.app("hello", state="STARTED", instances=2, uris=["hello.ingot.localhost", VALUES["host"]])
    stub.set("GET /services", [])
    stub.set("GET /info/services", {})
    stub.set("GET /info/runtimes", {})
    stub.set("PUT /users/a%40b.com", "", status=204)
    stub.set("POST /users/a%40b.com/tokens", {"token": "t"})
    stub.set("GET /v2/users/a%40b.com/quota", {"memory": 1})
    given = ["target"] if name == "target" else arguments(name, COMMANDS[name])
    result = ingot.run(*given, "--json", INGOT_PASSWORD="secret")
    document = json.loads(result.stdout)
    assert isinstance(document, list if LISTINGS[name] == "list" else dict)
    assert "\x1b" not in result.output


@pytest.mark.parametrize("columns", ["40", "80"])
@pytest.mark.parametrize("name", ["apps", "app", "stats", "events", "info", "usage", "machines", "services"])
def test_listings_fit_a_terminal_without_colours(name, columns, stub, ingot, monkeypatch):
    monkeypatch.setattr("components.client.output.is_terminal", lambda _stream: True)
    stub.app("hello", state="STARTED", instances=2, uris=["a-rather-long-name.ingot.localhost"])
    usage = {"time": "x", "cpu": 1.5, "mem": 20480.0, "disk": 1048576}
    facts = {"host": "198.18.0.6", "port": 61001, "mem_quota": 1 << 26, "disk_quota": 1 << 31, "usage": usage}
    stub.set("GET /apps/hello/stats", {"0": {"state": "RUNNING", "stats": facts}})
    stub.set("GET /services", [{"name": "r1", "vendor": "redis", "version": "7.0", "tier": "free"}])
    stub.set("GET /info/services", {})
    event = {"at": 1.0, "who": "somebody@example.com", "method": "PUT", "path": "/apps/hello", "app": "hello"}
    stub.set("GET /v2/events?limit=50", {"events": [event]})
    stub.set(
        "GET /v2/usage", {"usage": [{"day": "2026-08-01", "user": "somebody@example.com", "app": "hello"}]}
    )
    machine = {"id": "0-abcdef0123", "kind": "DEA", "address": "198.18.0.6", "state": "up", "zone": "a"}
    stub.set("GET /v2/machines", {"machines": [machine]})
    shown = ingot.run(*arguments(name, COMMANDS[name]), COLUMNS=columns, NO_COLOR="1", TERM="xterm").stdout
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", shown)
    rows = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    # One word that is longer than a line is not broken.
    assert max(map(len, rows)) <= int(columns), shown
