"""From source to an answer through nginx, and through what goes wrong: the whole platform, nothing stood in for."""

import ast
import json
import shutil
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.platform_fixture import APPS, until


def half_files(person):
    """Files on the share that are no whole droplet, package or resource: these are named by their digest."""
    share = person.platform.settings.state / "share"
    notes = share / "droplets" / ".sweep"
    files = [path for path in share.rglob("*") if path.is_file() and notes not in path.parents]
    return [path for path in files if len(path.name) != 40]


def test_hello_is_pushed_scaled_and_deleted(person):
    said = person.push("hello", "hello")
    assert said["url"] == f"http://hello.ingot.localhost:{person.platform.port}/"
    assert [stage["name"] for stage in said["stages"]] == ["packing", "uploading", "staging", "starting"]
    answer = person.answer("hello")
    assert (answer["app"], answer["instance"]) == ("hello", 0)

    person.ingot("scale", "hello", "--instances", "4")
    seen = person.instances("hello")
    assert sorted(item["instance"] for item in seen.values()) == [0, 1, 2, 3]
    assert len({item["dea"] for item in seen.values()}) == 2

    person.ingot("scale", "hello", "--instances", "-3")
    until(lambda: len(person.units()) == 1, "three instances are gone")
    assert len(person.instances("hello", 10)) == 1

    person.ingot("delete", "hello", "--force")
    until(lambda: person.platform.get("hello").status_code == 404, "the route is gone")
    until(lambda: not person.units(), "the instance is gone")


def test_machines_are_listed(person):
    machines = person.json("machines")
    deas = [m for m in machines if m["kind"].lower() == "dea"]
    assert {m["address"] for m in deas} == {"127.0.0.11", "127.0.0.12"}
    assert {m["state"] for m in deas} == {"up"}


def test_second_push_serves_the_new_version(person, tmp_path):
    folder = tmp_path / "app"
    shutil.copytree(APPS / "hello", folder)
    (folder / "big.bin").write_bytes(b"x" * 100_000)
    first = person.json("push", "again", "--path", str(folder), "--env", "GREETING=one")
    assert first["state"] == "STARTED"
    version = person.answer("again")["version"]
    (folder / "wsgi.py").write_text((folder / "wsgi.py").read_text() + "\n# changed\n")
    done = person.ingot("push", "again", "--path", str(folder))
    assert "1 of 2 files" in done.stderr
    answer = until(
        lambda: (a := person.answer("again"))["version"] != version and a, "the new version answers"
    )
    assert answer["greeting"] == "one"
    # The same once more: nothing is new, and it is restarted with its new environment all the same.
    person.ingot("push", "again", "--path", str(folder), "--env", "GREETING=two")
    assert until(lambda: person.answer("again")["greeting"] == "two", "it was restarted")


def test_other_frameworks_answer(person):
    person.push("standalone")
    assert person.answer("standalone")["framework"] == "standalone"
    person.push("static")
    assert "html" in person.platform.get("static").headers["content-type"]


def test_killed_instance_is_back(person):
    person.push("hello", "phoenix")
    before = person.answer("phoenix")["instance_id"]
    person.kill_instance(before)

    def back():
        got = person.platform.get("phoenix")
        return got.status_code == 200 and got.json()["instance_id"] != before

    until(back, "another instance answers")
    crashed = until(lambda: person.json("crashes", "phoenix"), "the crash is known")
    assert before in {item["instance"] for item in crashed}


def test_logs_of_an_instance_and_of_a_crashed_one(person):
    person.push("crasher", "crasher")
    person.platform.get("crasher", "/exit/3")
    until(lambda: person.json("crashes", "crasher"), "the crash is known")
    # The next instance has its files once it has started.
    until(lambda: person.platform.get("crasher").status_code == 200, "it is back")
    assert "stderr.log" in person.ingot("files", "crasher", "logs").stdout
    person.ingot("crashlogs", "crasher")


@pytest.mark.parametrize("way", ["restart", "kill"])
def test_agent_that_goes_harms_no_instance(person, way):
    person.push("hello", "steady", "--instances", "2")
    before = set(person.instances("steady"))
    assert len(before) == 2
    served, failures, stop = [], [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                got = person.platform.get("steady")
                (served if got.status_code == 200 else failures).append(got.status_code)
            except httpx.HTTPError as error:
                failures.append(repr(error))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        if way == "restart":
            person.platform.restart("dea-0")
        else:
            person.platform.kill("dea-0")
            person.platform.start("dea-0")
        until(lambda: [m["state"] for m in person.json("machines")].count("up") == 2, "the DEA is up again")
        # Long enough for a health manager that wrongly misses them to act: it looks every five seconds.
        goal = time.monotonic() + 6
        until(lambda: len(served) > 100 and time.monotonic() > goal, "many requests are served", 60)
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert set(person.instances("steady")) == before
    assert set(person.units()) == before


def test_bus_that_goes_and_comes_back_costs_nothing(person):
    person.push("hello", "calm")
    pids = {name: person.platform.pid(name) for name in ("controller", "router", "stager", "health-manager")}
    person.platform.stop("nats")
    assert person.answer("calm")["app"] == "calm"
    person.platform.start("nats")
    for name in ("controller", "router", "stager", "dea-0", "dea-1", "health-manager"):
        person.platform.wait_ready(name)
    assert pids == {name: person.platform.pid(name) for name in pids}
    person.ingot("scale", "calm", "--instances", "2")
    assert len(person.instances("calm")) == 2


def test_folder_of_no_known_framework_creates_nothing(person):
    done = person.ingot("push", "unknown", "--path", str(APPS / "unknown"), code=1)
    assert "no framework is recognised" in done.stderr
    assert person.json("apps") == []


def test_broken_requirements_end_in_staging(person):
    done = person.ingot("push", "broken", "--path", str(APPS / "broken_requirements"), code=1)
    assert "staging failed" in done.stderr
    assert "requirements.txt" in done.stderr
    assert "No matching distribution" in done.stderr
    (app,) = person.json("apps")
    assert (app["state"], app["runningInstances"]) == ("STOPPED", 0)
    assert person.units() == {}
    assert half_files(person) == []
    assert person.platform.get("broken").status_code == 404


def test_application_that_never_listens_ends_stopped(person):
    done = person.ingot("push", "mute", "--path", str(APPS / "never_listens"), "--timeout", "4", code=1)
    assert "starting failed" in done.stderr
    assert "working, and not listening" in done.stderr
    (app,) = person.json("apps")
    assert app["state"] == "STOPPED"
    until(lambda: not person.units(), "the instance is gone")
    assert half_files(person) == []
    assert person.platform.get("mute").status_code == 404


def test_update_whose_staging_fails_leaves_what_runs(person, tmp_path):
    folder = tmp_path / "app"
    shutil.copytree(APPS / "hello", folder)
    person.json("push", "careful", "--path", str(folder))
    before = person.answer("careful")["instance_id"]
    (folder / "requirements.txt").write_text("flask==0.0.0.dev999999\n")
    done = person.ingot("push", "careful", "--path", str(folder), code=1)
    assert "staging failed" in done.stderr.lower()
    # An update begins when its bits are staged: the version before is served, and the push has said that it failed.
    assert person.json("app", "careful")["state"] == "STARTED"
    assert person.answer("careful")["instance_id"] == before


VALUES = {
    "CSP": "'self' https://x 'unsafe-inline'",
    "JSON": '"a","b"',
    "DOLLAR": "pa$PORT$HOME${HOME}",
    "SHELL_WORDS": "`id` $(id) ; # \\ \\n \\",
    "LINES": "one\r\ntwo\n\tthree\n",
    "SIGNS": "\x01\x1b[1m\x7f",
    "EQUALS": "a=b==",
    "SPACES": "  x  ",
    "LETTERS": "caf\u00e9 \U0001f680 \ufeff",
    "EMPTY": "",
}


def test_values_arrive_byte_for_byte_and_names_that_cannot_be_are_said(person, tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "wsgi.py").write_text(
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'application/octet-stream')])\n"
        "    return [open('/proc/self/environ', 'rb').read()]\n"
    )
    manifest, pushed, later = (dict(list(VALUES.items())[i::3]) for i in range(3))
    # JSON is YAML.
    (folder / "ingot.yml").write_text(f"name: exact\nenv: {json.dumps(manifest)}\n")

    def given():
        items = person.platform.get("exact").content.rstrip(b"\0").split(b"\0")
        return {key.decode(): value.decode() for key, _, value in (item.partition(b"=") for item in items)}

    person.ingot("push", "--path", str(folder), *(f"--env={key}={value}" for key, value in pushed.items()))
    assert given().items() >= {**manifest, **pushed}.items()
    person.ingot("env", "exact", *(f"{key}={value}" for key, value in later.items()))
    assert given().items() >= VALUES.items()
    assert person.json("env", "exact") == VALUES
    told = person.ingot("run", "exact", "--", "python3", "-c", "import os; print(ascii(dict(os.environ)))")
    assert ast.literal_eval(told.stdout).items() >= VALUES.items()

    # As a client of 2011 sends them, and as one of ours that does not look.
    said = {"AUTHORIZATION": person.token(), "Host": urlsplit(person.platform.api_url).netloc}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{person.platform.port}", headers=said, trust_env=False
    ) as api:
        app = api.get("/apps/exact").json()
        wish = {**app, "env": [*app["env"], "a.b=1", "1X=1", "=1", "VCAP_X=1", "A=1"]}
        ours = api.put("/v2/apps/exact/update", json={"env": wish["env"]})
        assert (ours.status_code, ours.json()["code"]) == (400, 300)
        assert "'a.b'" in ours.json()["description"]
        assert api.put("/apps/exact", json=wish).status_code == 200
    assert person.json("env", "exact") == {**VALUES, "A": "1"}


SHOWS_ITSELF = """\
import http.server, json, os
from pathlib import Path

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = {}
        for path in sorted(Path().rglob("*")):
            if path.parts[0] == ".ingot":
                continue
            mode = path.lstat().st_mode
            kind = "link " + os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else oct(mode & 0o777)
            found[str(path)] = kind
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_folder_runs_as_it_lies_on_disk(person, tmp_path):
    """Rows A1, A2, A6, A12 and A16 of what developers push."""
    folder = tmp_path / "asis"
    for name in (".next/BUILD_ID", "node_modules/tool/bin/tool.js", "a:b", "c\\d", "public/.well-known/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "node_modules/tool/bin/tool.js").chmod(0o755)
    (folder / "node_modules/.bin").mkdir()
    (folder / "node_modules/.bin/tool").symlink_to("../tool/bin/tool.js")
    (folder / "site").symlink_to("public")
    (folder / "uploads").mkdir()
    (folder / "zeros").write_bytes(bytes(20 << 20))
    (folder / "secret.txt").write_text("x")
    (folder / "s.py").write_text(SHOWS_ITSELF)
    (folder / "Procfile").write_text("web : python3 s.py\r\n", encoding="utf-16")
    (folder / ".cfignore").write_bytes("\ufeffsecret.txt\r\n".encode())
    listed = json.loads(person.ingot("push", "asis", "--path", str(folder), "--dry-run", "--json").stdout)
    assert listed["ignored"] == [
        {"name": ".cfignore", "reason": "/.cfignore is never pushed"},
        {"name": "secret.txt", "reason": "secret.txt in .cfignore"},
    ]
    assert person.ingot("app", "asis", code=1).stderr, "a dry run makes nothing"
    person.ingot("push", "asis", "--path", str(folder), "--framework", "standalone", "--runtime", "python2")
    wanted = {
        **{
            str(p.relative_to(folder)): oct(p.stat().st_mode & 0o755)
            for p in folder.rglob("*")
            if p.is_file()
        },
        **{str(p.relative_to(folder)): "folder" for p in folder.rglob("*") if p.is_dir()},
        "node_modules/.bin/tool": "link ../tool/bin/tool.js",
        "site": "link public",
    }
    del wanted[".cfignore"], wanted["secret.txt"]
    assert person.answer("asis") == wanted
    # The second push sends what is new; what the platform has keeps its mode.
    (folder / "new").write_text("x")
    person.ingot("push", "asis", "--path", str(folder))
    assert person.answer("asis") == {**wanted, "new": "0o644"}
