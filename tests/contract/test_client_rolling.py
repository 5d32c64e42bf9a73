"""How `ingot` updates what runs, goes back, and pushes several applications: what it sends, and what it says."""

import pytest

from tests.contract.client_stub import Answer, update_of

REVISION = {
    "number": 3,
    "droplet": "abcdef0123456789",
    "framework": "wsgi",
    "runtime": "python3",
    "command": None,
    "by": "a@b.com",
    "created": 1.0,
    "current": True,
    "available": True,
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "hello"
    path.mkdir()
    (path / "wsgi.py").write_text("def application(e, s): ...\n")
    return path


def writes(stub):
    return [line for line in stub.lines() if not line.startswith("GET")]


def test_update_sends_the_files_and_follows_to_the_end(stub, ingot, folder):
    stub.app("hello", state="STARTED", instances=3)
    stub.updates = [update_of("UPDATING", n, 3) for n in (0, 1, 1, 2)] + [update_of("SUCCEEDED", 3, 3)]
    (folder / "manifest.yml").write_text("name: hello\nmemory: 1G\n")
    said = ingot.json("update", "hello", "--path", str(folder))
    # Settings of the manifest are a push's business.
    assert writes(stub) == ["POST /apps/hello/application", "PUT /apps/hello/update"]
    assert (said["how"], said["state"]) == ("updated", "STARTED")
    assert [stage["name"] for stage in said["stages"]] == ["packing", "uploading", "staging", "updating"]


def test_update_shows_a_line_for_every_instance(stub, ingot, folder):
    stub.app("hello", state="STARTED", instances=2)
    stub.updates = [update_of("SUCCEEDED", 0, 0), update_of("UPDATING", 1, 2), update_of("SUCCEEDED", 2, 2)]
    shown = ingot.run("update", "hello", "--path", str(folder)).stderr
    assert [row for row in shown.splitlines() if row.startswith("  |")] == [
        "  | 1/2 replaced",
        "  | 2/2 replaced",
    ]


def test_update_that_fails_says_why_and_that_the_version_before_runs(stub, ingot, folder):
    stub.app("hello", state="STARTED")
    stub.updates = [update_of("NONE", 0, 0), update_of("CANARY_FAILED", 0, 1, "instance 0 crashed")]
    stub.set(
        "GET /apps/hello/crashes",
        {"crashes": [{"instance": "old", "since": 1}]},
        {"crashes": [{"instance": "old", "since": 1}, {"instance": "new", "since": 9}]},
    )
    stub.set("GET /apps/hello/instances/new/files/logs/stderr.log", "Traceback\nboom\n")
    result = ingot.run("push", "hello", "--path", str(folder), code=1)
    assert "updating failed: instance 0 crashed" in result.stderr
    assert "boom" in result.stderr
    assert "version before still runs" in result.stderr
    assert stub.apps["hello"]["state"] == "STARTED"
    assert result.stdout == ""


def test_update_whose_staging_fails_stops_nothing(stub, ingot, folder):
    stub.app("hello", state="STARTED")
    stub.error("PUT /apps/hello/update", 500, 310, "Staging failed: no such package")
    result = ingot.run("update", "hello", "--path", str(folder), code=1)
    assert "staging failed: no such package" in result.stderr
    assert "PUT /apps/hello" not in stub.lines()


def test_update_outlives_a_controller_that_is_replaced(stub, ingot, folder):
    stub.app("hello", state="STARTED")
    away = Answer(404, {"code": 404, "description": "VCAP ROUTER: 404 - DESTINATION NOT FOUND"})
    ended = Answer(body=update_of("SUCCEEDED", 1, 1))
    stub.set("GET /v2/apps/hello/update", Answer(body=update_of("NONE", 0, 0)), Answer(503, ""), away, ended)
    ingot.run("update", "hello", "--path", str(folder))


def test_update_that_takes_too_long_is_not_called_a_success(stub, ingot, folder):
    stub.app("hello", state="STARTED")
    stub.updates = [update_of("UPDATING", 0, 1)]
    result = ingot.run("update", "hello", "--path", str(folder), "--timeout", "1", code=1)
    assert "0/1 replaced after" in result.stderr
    assert "goes on" in result.stderr


def test_update_of_what_is_stopped_only_uploads_and_of_nothing_fails(stub, ingot, folder):
    stub.app("hello")
    assert "ingot start hello" in ingot.run("update", "hello", "--path", str(folder)).stdout
    assert writes(stub) == ["POST /apps/hello/application"]
    assert "ingot apps" in ingot.run("update", "nobody", "--path", str(folder), code=1).stderr


def test_update_by_stop_and_start(stub, ingot, folder):
    stub.app("hello", state="STARTED")
    ingot.run("update", "hello", "--path", str(folder), "--hard")
    assert writes(stub) == ["POST /apps/hello/application", "PUT /apps/hello"]


def test_restart_without_a_pause(stub, ingot):
    stub.app("hello", state="STARTED")
    ingot.run("restart", "hello", "--rolling")
    assert writes(stub) == ["PUT /apps/hello/update"]
    stub.v2 = False
    assert "with a pause" in ingot.run("restart", "hello", "--rolling", code=1).stderr


def test_push_tells_of_settings_only_where_they_are_new(stub, ingot, folder):
    health = {"path": "/up", "timeout": 5}
    stub.app(
        "hello", state="STARTED", env=["A=1"], meta={"version": 4, "command": "run it", "health": health}
    )
    (folder / "manifest.yml").write_text(
        "name: hello\nmemory: 128M\ncommand: run it\nframework: wsgi\nenv: {A: 1}\nhealth: {path: /up, timeout: 5}\n"
    )
    ingot.run("push", "--path", str(folder))
    assert writes(stub) == ["POST /apps/hello/application", "PUT /apps/hello/update"]
    ingot.run("push", "--path", str(folder), "--health-path", "/healthy")
    assert stub.last("PUT /v2/apps/hello/update").json() == {"meta": {"health": {"path": "/healthy"}}}


def test_push_with_another_command_is_an_update_in_one_step(stub, ingot, folder):
    stub.app("hello", state="STARTED", meta={"version": 1, "command": "first"})
    said = ingot.json("push", "hello", "--path", str(folder), "--command", "other", "--memory", "256M")
    assert writes(stub) == ["POST /apps/hello/application", "PUT /v2/apps/hello/update"]
    # The runtime stays: nobody asked for the framework's default.
    assert stub.last("PUT /v2/apps/hello/update").json() == {
        "staging": {"framework": "wsgi", "runtime": "python3", "command": "other"},
        "resources": {"memory": 256, "disk": 2048, "fds": 256},
    }
    assert said["how"] == "updated"


@pytest.mark.parametrize("status", [404, 405])
def test_push_with_another_command_restarts_where_the_platform_is_too_old(stub, ingot, folder, status):
    stub.app("hello", state="STARTED", meta={"version": 1, "command": "first"})
    stub.set("PUT /v2/apps/hello/update", Answer(status, ""))
    result = ingot.run("push", "hello", "--path", str(folder), "--command", "other")
    assert "application is restarted" in result.stderr
    put = stub.last("PUT /apps/hello").json()
    assert put["staging"] == {"framework": "wsgi", "runtime": "python3", "command": "other"}
    # Such a controller goes by the one in `meta`.
    assert put["meta"] == {"version": 1, "command": "other"}


@pytest.mark.parametrize("option", [("--framework", "wsgy"), ("--runtime", "python9")])
@pytest.mark.parametrize("how", [(), ("--hard",)])
def test_a_typo_stops_nothing(stub, ingot, folder, option, how):
    stub.app("hello", state="STARTED")
    stub.error("PUT /v2/apps/hello/update", 400, 308, "Invalid framework: 'wsgy'")
    stub.error("PUT /apps/hello", 400, 308, "Invalid framework: 'wsgy'")
    result = ingot.run("push", "hello", "--path", str(folder), *option, *how, code=1)
    assert "Invalid framework" in result.stderr
    assert all(call.json().get("state") != "STOPPED" for call in stub.calls if call.line == "PUT /apps/hello")


def test_settings_come_with_the_files_so_that_a_failure_takes_both_back(stub, ingot, folder):
    stub.app("hello", state="STARTED")
    ingot.run("push", "hello", "--path", str(folder), "--env", "A=1")
    assert writes(stub)[-2:] == ["POST /apps/hello/application", "PUT /v2/apps/hello/update"]
    assert stub.last("PUT /v2/apps/hello/update").json() == {"env": ["A=1"]}


def test_push_makes_and_binds_the_services_of_the_manifest(stub, ingot, folder):
    stub.set("GET /services", [{"name": "there"}])
    stub.set("POST /services", {})
    stub.set("GET /info/services", {"key-value": {"redis": {"7.0": {"tiers": {"free": {"order": 1}}}}}})
    (folder / "manifest.yml").write_text("name: hello\nservices:\n  there:\n  new: {vendor: redis}\n")
    ingot.run("push", "--path", str(folder))
    assert stub.last("POST /services").json() == {
        "type": "key-value",
        "vendor": "redis",
        "version": "7.0",
        "tier": "free",
        "name": "new",
    }
    assert stub.last("POST /apps").json()["services"] == ["there", "new"]
    (folder / "manifest.yml").write_text("name: hello\nservices: [nowhere]\n")
    assert "create-service VENDOR nowhere" in ingot.run("push", "--path", str(folder), code=1).stderr


def test_push_of_all_in_a_manifest(stub, ingot, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wsgi.py").write_text("def application(e, s): ...\n")
    (tmp_path / "manifest.yml").write_text(
        "memory: 64M\napplications:\n- {name: one, path: one}\n- {name: two, path: two, instances: 2}\n"
    )
    said = ingot.json("push", "--path", str(tmp_path), "--all")
    assert [(app["name"], app["instances"]) for app in said] == [("one", 1), ("two", 2)]
    created = [call.json() for call in stub.calls if call.line == "POST /apps"]
    assert [app["resources"] for app in created] == [{"memory": 64}] * 2
    assert "--all" in ingot.run("push", "--path", str(tmp_path), code=1).stderr
    ingot.run("push", "one", "--path", str(tmp_path), "--all", code=2)


def test_rollback_of_an_application(stub, ingot):
    stub.app("hello", state="STARTED")
    stub.set("GET /v2/apps/hello/revisions", {"revisions": [REVISION]})
    assert "hello is running revision 3" in ingot.run("rollback", "hello").stdout
    assert stub.last("POST /v2/apps/hello/rollback").json() == {}
    said = ingot.json("rollback", "hello", "--revision", "2")
    assert stub.last("POST /v2/apps/hello/rollback").json() == {"revision": 2}
    assert (said["revision"], said["waited"]) == (3, True)
    shown = ingot.run("revisions", "hello").stdout
    assert "abcdef0123" in shown
    assert "python3" in shown


def test_rollback_of_what_is_stopped_and_one_that_is_not_waited_for(stub, ingot):
    stub.app("hello")
    assert "ingot start hello" in ingot.run("rollback", "hello").stdout
    stub.apps["hello"]["state"] = "STARTED"
    stub.updates = [update_of("UPDATING", 0, 1)]
    assert "goes back" in ingot.run("rollback", "hello", "--no-wait").stdout


def test_rollback_that_fails(stub, ingot):
    stub.app("hello", state="STARTED")
    stub.updates = [update_of("CANARY_FAILED", 0, 1, "instance 0 did not run in time")]
    assert "did not run in time" in ingot.run("rollback", "hello", code=1).stderr
    stub.error("POST /v2/apps/hello/rollback", 400, 300, "revision 9 is not kept")
    assert "not kept" in ingot.run("rollback", "hello", "--revision", "9", code=1).stderr


def test_rollback_of_what_is_not_there(stub, ingot):
    assert "ingot platform rollback nobody" in ingot.run("rollback", "nobody", code=1).stderr
    stub.v2 = False
    stub.app("hello", state="STARTED")
    assert "older than this client" in ingot.run("rollback", "hello", code=1).stderr


WSGI = {"wsgi.py": "def application(e, s): ...\n"}
ANY = {"staging": {"model": "standalone", "stack": None}}
WATCHED = {
    "a framework's own server": (WSGI, {}, False),
    "a Procfile": ({**WSGI, "Procfile": "web: gunicorn x\n"}, {}, True),
    "a command": (WSGI, {"meta": {"version": 1, "command": "run it"}}, True),
    "standalone": ({"run": ""}, ANY, True),
    "a health path": ({"run": ""}, {**ANY, "meta": {"version": 1, "health": {"path": "/up"}}}, False),
}


@pytest.mark.parametrize("kind", WATCHED)
def test_a_start_is_watched_on_where_its_port_proves_nothing(stub, ingot, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("components.client.lifecycle.SETTLE_SECONDS", 0.5)
    files, app, watched = WATCHED[kind]
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    stub.app("hello", **app)
    procfile = "GET /apps/hello/instances/0/files/app/Procfile"
    stub.set(procfile, files["Procfile"]) if "Procfile" in files else stub.error(procfile, 404, 306)
    for arguments in (
        ("push", "hello", "--path", str(folder)),
        ("restart", "hello"),
        ("env", "hello", "A=1"),
    ):
        if arguments[0] == "push":
            stub.apps["hello"]["state"] = "STOPPED"
        stub.calls.clear()
        ingot.run(*arguments)
        assert (stub.lines().count("GET /apps/hello/instances") > 1) == watched, arguments
        if arguments[0] == "push":
            # Its files are at hand.
            assert procfile not in stub.lines()
    if watched:
        # What crashes meanwhile ends it.
        running = {"instances": [{"index": 0, "state": "RUNNING", "since": 1}]}
        stub.set("GET /apps/hello/instances", running, {"instances": []})
        stub.set("GET /apps/hello/crashes", {"crashes": []}, {"crashes": [{"instance": "i9", "since": 9}]})
        assert "crashed" in ingot.run("restart", "hello", code=1).stderr
