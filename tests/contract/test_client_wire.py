"""What `ingot` puts on the wire, command by command (protocol 1.16), and what it says."""

import json
import socket
import stat

import pytest

from tests.contract.client_stub import INFO, Ingot, update_of


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "hello"
    path.mkdir()
    (path / "wsgi.py").write_text("def application(e, s): ...\n")
    (path / "notes.txt").write_text("hello\n")
    return path


def test_target_is_checked_and_remembered(stub, tmp_path):
    ingot = Ingot(stub, tmp_path / "fresh")
    assert "no target" in ingot.run("target", code=1).stderr
    ingot.run("target", f"API.ingot.localhost:{stub.port}/")
    assert stub.lines() == ["GET /info"]
    # The name in the Host header is the one that was typed: the front door routes by it.
    assert stub.calls[0].headers["host"] == f"api.ingot.localhost:{stub.port}"
    file = tmp_path / "fresh" / "config.json"
    assert json.loads(file.read_text())["target"] == stub.url
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_target_that_is_no_controller_is_refused_and_not_remembered(stub, tmp_path):
    stub.set("GET /info", {"name": "something else"})
    ingot = Ingot(stub, tmp_path / "fresh")
    assert "not as a controller" in ingot.run("target", stub.url, code=1).stderr
    assert "no target" in ingot.run("target", code=1).stderr


@pytest.mark.parametrize("way", ["environment", "stdin"])
def test_login_stores_the_token_and_sends_it_raw(stub, tmp_path, way):
    ingot = Ingot(stub, tmp_path / "fresh")
    stub.set("POST /users/a%40b.com/tokens", {"token": "tok.2_-"})
    ingot.run("target", stub.url)
    if way == "environment":
        ingot.run("login", "a@b.com", INGOT_PASSWORD="pässword")
    else:
        ingot.run("login", "a@b.com", "--password-stdin", stdin="pässword\n")
    assert stub.last("POST /users/a%40b.com/tokens").json() == {"password": "pässword"}
    ingot.run("apps")
    assert stub.last("GET /apps").headers["authorization"] == "tok.2_-"
    ingot.run("logout")
    assert "not logged in" in ingot.run("apps", code=1).stderr


def test_login_without_anybody_to_ask_is_a_usage_error(ingot):
    assert "INGOT_PASSWORD" in ingot.run("login", "a@b.com", code=2).stderr


def test_login_with_a_wrong_password(stub, ingot):
    stub.error("POST /users/a%40b.com/tokens", 403, 200)
    assert "wrong" in ingot.run("login", "a@b.com", INGOT_PASSWORD="x", code=1).stderr


def test_register_logs_in_where_nobody_is(stub, tmp_path):
    ingot = Ingot(stub, tmp_path / "fresh")
    ingot.run("target", stub.url)
    stub.set("POST /users", "", status=204)
    stub.set("POST /users/a%40b.com/tokens", {"token": "t"})
    ingot.run("register", "a@b.com", INGOT_PASSWORD="secret")
    assert stub.lines()[-2:] == ["POST /users", "POST /users/a%40b.com/tokens"]
    assert stub.last("POST /users").json() == {"email": "a@b.com", "password": "secret"}


def test_passwd_changes_ones_own(stub, ingot):
    stub.set("PUT /users/a%40b.com", "", status=204)
    ingot.run("passwd", INGOT_PASSWORD="new")
    assert stub.lines() == ["GET /info", "PUT /users/a%40b.com"]
    assert stub.last("PUT /users/a%40b.com").json() == {"email": "a@b.com", "password": "new"}


def test_push_of_a_new_application(stub, ingot, folder):
    result = ingot.run("push", "hello", "--path", str(folder), "--env", "A=b=c", "--memory", "64M")
    assert stub.lines() == [
        "GET /info",
        "GET /info",
        "GET /apps/hello",
        "POST /apps",
        "POST /apps/hello/application",
        "GET /apps/hello",
        "GET /apps/hello",
        "PUT /apps/hello",
        "GET /apps/hello",
        "GET /apps/hello/instances",
        "GET /apps/hello",
    ]
    assert stub.last("POST /apps").json() == {
        "name": "hello",
        "staging": {"framework": "wsgi", "runtime": None},
        "uris": ["hello.ingot.localhost"],
        "instances": 1,
        "resources": {"memory": 64},
        "env": ["A=b=c"],
    }
    put = stub.last("PUT /apps/hello").json()
    assert (put["state"], put["meta"]["version"]) == ("STARTED", 1)
    assert f"at http://hello.ingot.localhost:{stub.port}/" in result.stdout
    for stage in ("packing", "uploading", "staging", "starting"):
        assert stage in result.stdout
    assert "uploading" in result.stderr


def test_upload_is_multipart_as_the_old_client_sends_it(stub, ingot, folder):
    ingot.run("push", "hello", "--path", str(folder), "--no-start")
    call = stub.last("POST /apps/hello/application")
    assert "transfer-encoding" not in call.headers
    assert int(call.headers["content-length"]) == len(call.body)
    assert [(name, kind) for name, kind, _ in call.parts()] == [
        ("_method", None),
        ("application", "application/zip"),
        ("resources", None),
        ("as_is", None),
    ]
    assert call.parts()[0][2].strip() == b"put"
    assert json.loads(call.parts()[2][2]) == []
    assert call.body.endswith(b"--\r\n")
    assert sorted(call.zip()) == ["notes.txt", "wsgi.py"]


def test_second_push_sends_what_is_new_and_stops_nothing(stub, ingot, folder):
    (folder / "big.bin").write_bytes(b"x" * 70_000)
    ingot.run("push", "hello", "--path", str(folder))
    known = stub.last("POST /resources").json()
    assert {item["fn"] for item in known} == {"big.bin", "notes.txt", "wsgi.py"}
    stub.known = {item["sha1"] for item in known}
    (folder / "wsgi.py").write_text("def application(e, s): return 2\n")
    stub.calls.clear()
    stub.updates = [update_of("UPDATING", 0, 2), update_of("UPDATING", 1, 2), update_of("SUCCEEDED", 2, 2)]
    result = ingot.run("push", "hello", "--path", str(folder), "--instances", "2")
    upload = stub.last("POST /apps/hello/application")
    assert list(upload.zip()) == ["wsgi.py"]
    resources = json.loads(upload.parts()[2][2])
    assert [item["fn"] for item in resources] == ["big.bin", "notes.txt"]
    assert set(resources[0]) == {"size", "sha1", "fn"}
    writes = [line for line in stub.lines() if not line.startswith("GET")]
    # Settings go with the update: put by themselves, they would stay where the new version does not run.
    assert writes == ["POST /resources", "POST /apps/hello/application", "PUT /v2/apps/hello/update"]
    assert stub.apps["hello"]["instances"] == 2
    assert "1/2 replaced" in result.stderr
    assert "2/2 replaced" in result.stderr
    assert f"at http://hello.ingot.localhost:{stub.port}/" in result.stdout


@pytest.mark.parametrize("old", [False, True])
def test_second_push_stops_and_starts_where_it_must(stub, ingot, folder, old):
    ingot.run("push", "hello", "--path", str(folder))
    stub.restages, stub.v2 = False, not old
    stub.calls.clear()
    result = ingot.run("push", "hello", "--path", str(folder), "--env", "A=1", *([] if old else ["--hard"]))
    puts = [call.json() for call in stub.calls if call.line == "PUT /apps/hello"]
    assert [put["state"] for put in puts] == ["STARTED", "STOPPED", "STARTED"]
    assert stub.apps["hello"]["env"] == ["A=1"]
    assert "PUT /apps/hello/update" not in stub.lines()
    assert ("cannot update without a pause" in result.stderr) is old


def test_push_reads_the_manifest_and_options_win(stub, ingot, folder):
    (folder / "manifest.yml").write_text(
        "name: other\nmemory: 1G\ninstances: 3\nurl: [one.ingot.localhost]\nenv: {A: 1, B: 2}\n"
    )
    ingot.run("push", "--path", str(folder), "--no-start", "--instances", "1", "--env", "B=3")
    sent = stub.last("POST /apps").json()
    assert (sent["name"], sent["instances"], sent["resources"]) == ("other", 1, {"memory": 1024})
    assert (sent["uris"], sent["env"]) == (["one.ingot.localhost"], ["A=1", "B=3"])


def test_push_of_an_unknown_folder_creates_nothing(stub, ingot, tmp_path):
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "README").write_text("nothing\n")
    result = ingot.run("push", "--path", str(tmp_path / "unknown"), code=1)
    assert "no framework is recognised" in result.stderr
    assert "standalone, static, wsgi" in result.stderr
    assert "--framework" in result.stderr
    assert not [line for line in stub.lines() if not line.startswith("GET")]


def test_push_whose_staging_fails_shows_the_log_and_stays_stopped(stub, ingot, folder):
    stub.error("PUT /apps/hello", 500, 310, "Staging failed: requirements\nlast line")
    stub.set("GET /v2/apps/hello/staging_log", "-----> compile\nno such package\n")
    result = ingot.run("push", "hello", "--path", str(folder), code=1)
    assert "staging failed: requirements\n" in result.stderr
    assert "no such package" in result.stderr
    assert "starting" not in result.stderr


def test_push_that_crashes_shows_the_logs_and_stops_the_application(stub, ingot, folder):
    stub.set("GET /apps/hello/instances", {"instances": [{"index": 0, "state": "DOWN", "since": 1}]})
    stub.app("hello")
    stub.set(
        "GET /apps/hello/crashes",
        {"crashes": [{"instance": "old", "since": 1}]},
        {"crashes": [{"instance": "old", "since": 1}, {"instance": "abc", "since": 9}]},
    )
    stub.set("GET /apps/hello/instances/abc/files/logs/stderr.log", "Traceback\nboom\n")
    result = ingot.run("push", "hello", "--path", str(folder), code=1)
    assert "starting failed: the application crashed" in result.stderr
    assert "boom" in result.stderr
    assert stub.apps["hello"]["state"] == "STOPPED"


def test_push_that_never_listens_times_out_and_is_stopped(stub, ingot, folder):
    stub.set("GET /apps/hello/instances", {"instances": [{"index": 0, "state": "STARTING", "since": 1}]})
    stub.set("GET /apps/hello/instances/0/files/logs/stdout.log", "working\n")
    result = ingot.run("push", "hello", "--path", str(folder), "--timeout", "1", code=1)
    assert "0/1 running, 1 starting after 1 s" in result.stderr
    assert "working" in result.stderr
    assert "$PORT" in result.stderr
    assert stub.apps["hello"]["state"] == "STOPPED"


def test_push_says_what_a_limit_means(stub, ingot, folder):
    stub.error("POST /apps", 403, 601, "Too many apps, 20 of 20")
    result = ingot.run("push", "hello", "--path", str(folder), code=1)
    assert "ingot delete" in result.stderr


def test_push_as_json_keeps_standard_output_clean(stub, ingot, folder):
    said = ingot.json("push", "hello", "--path", str(folder))
    assert said["url"] == f"http://hello.ingot.localhost:{stub.port}/"
    assert [stage["name"] for stage in said["stages"]] == ["packing", "uploading", "staging", "starting"]
    assert said["total_seconds"] >= 0


@pytest.mark.parametrize(("said", "want"), [("4", 4), ("+2", 4), ("-1", 1)])
def test_scale_puts_the_whole_object_back(stub, ingot, said, want):
    app = stub.app("hello", state="STARTED", instances=2)
    before = dict(app)
    ingot.run("scale", "hello", "--instances", said)
    assert stub.last("PUT /apps/hello").json() == {**before, "instances": want}
    assert stub.lines()[:3] == ["GET /apps/hello", "GET /apps/hello", "PUT /apps/hello"]


def test_scale_of_memory_restarts(stub, ingot):
    stub.app("hello", state="STARTED")
    ingot.run("scale", "hello", "--memory", "64M")
    puts = [call.json() for call in stub.calls if call.line == "PUT /apps/hello"]
    assert puts[0]["resources"] == {"memory": 64, "disk": 2048, "fds": 256}
    assert [put["state"] for put in puts] == ["STARTED", "STOPPED", "STARTED"]


def test_scale_to_nonsense_is_a_usage_error(stub, ingot):
    stub.app("hello")
    assert "give 4, +2 or -1" in ingot.run("scale", "hello", "--instances", "many", code=2).stderr
    assert "name a change" in ingot.run("scale", "hello", code=2).stderr
    assert "ingot stop" in ingot.run("scale", "hello", "--instances", "-5", code=2).stderr


def test_stop_start_and_restart(stub, ingot):
    stub.app("hello", state="STARTED")
    ingot.run("stop", "hello")
    assert stub.lines() == ["GET /apps/hello", "GET /apps/hello", "PUT /apps/hello"]
    ingot.run("start", "hello")
    assert stub.apps["hello"]["state"] == "STARTED"
    stub.calls.clear()
    ingot.run("restart", "hello")
    assert [c.json()["state"] for c in stub.calls if c.method == "PUT"] == ["STOPPED", "STARTED"]


def test_environment_is_shown_and_changed(stub, ingot):
    stub.app("hello", env=["A=1", "B=x=y"])
    assert ingot.json("env", "hello") == {"A": "1", "B": "x=y"}
    ingot.run("env", "hello", "C=3", "--unset", "A")
    assert stub.apps["hello"]["env"] == ["B=x=y", "C=3"]


def test_map_and_unmap(stub, ingot):
    stub.app("hello")
    ingot.run("map", "hello", "http://Two.ingot.localhost/")
    assert stub.apps["hello"]["uris"] == ["hello.ingot.localhost", "two.ingot.localhost"]
    ingot.run("unmap", "hello", "hello.ingot.localhost")
    assert stub.apps["hello"]["uris"] == ["two.ingot.localhost"]
    assert "two.ingot.localhost" in ingot.run("unmap", "hello", "nobody.example", code=1).stderr


def test_delete_asks_where_somebody_can_answer(stub, ingot):
    stub.app("hello")
    assert "--force" in ingot.run("delete", "hello", code=2).stderr
    ingot.run("delete", "hello", "--force")
    assert stub.lines()[-2:] == ["GET /apps/hello", "DELETE /apps/hello"]
    assert "ingot apps" in ingot.run("delete", "hello", "--force", code=1).stderr


def test_logs_of_an_older_controller_are_its_files(stub, ingot):
    stub.app("hello", state="STARTED", instances=2)
    stub.v2 = False
    base = "GET /apps/hello/instances/1/files/logs"
    stub.set(base, f"{'stdout.log':35} {'12B':>10}\n{'old/':35} {'-':>10}\n")
    stub.set(f"{base}/stdout.log", "one\ntwo of 1\n")
    assert ingot.json("logs", "hello", "-i", "1") == {"1": {"stdout.log": "one\ntwo of 1\n"}}
    text = ingot.run("logs", "hello", "--instance", "1", "--lines", "1").stdout
    assert "two of 1" in text
    assert "one" not in text
    assert "cannot follow" in ingot.run("logs", "hello", "-f", code=1).stderr


def test_files_shows_what_is_there(stub, ingot):
    stub.set("GET /apps/hello/instances/0/files/", "app/    -\n")
    stub.set("GET /apps/hello/instances/0/files/app/a%20b", "content")
    assert ingot.run("files", "hello").stdout == "app/    -\n"
    assert ingot.run("files", "hello", "/app/a b").stdout == "content\n"


def test_crashlogs_takes_the_latest(stub, ingot):
    crashed = [{"instance": "new", "since": 9}, {"instance": "old", "since": 1}]
    stub.set("GET /apps/hello/crashes", {"crashes": crashed})
    stub.set("GET /apps/hello/instances/new/files/logs", "stderr.log  3B\n")
    stub.set("GET /apps/hello/instances/new/files/logs/stderr.log", "bye")
    assert "bye" in ingot.run("crashlogs", "hello").stdout
    assert ingot.json("crashes", "hello") == crashed


def test_listings_in_words_and_as_json(stub, ingot):
    stub.app("hello", state="STARTED", runningInstances=None)
    assert "?/1" in ingot.run("apps").stdout
    assert ingot.json("apps")[0]["name"] == "hello"
    stub.set(
        "GET /apps/hello/stats",
        {"0": {"state": "RUNNING", "stats": {"host": "10.0.0.5", "port": 61001, "usage": {"mem": 2048.0}}}},
    )
    assert "10.0.0.5:61001" in ingot.run("app", "hello").stdout
    assert "2.0M" in ingot.run("stats", "hello").stdout
    assert ingot.json("app", "hello")["urls"] == [f"http://hello.ingot.localhost:{stub.port}/"]
    machine = {
        "id": "0-abcdef0123456789",
        "kind": "DEA",
        "address": "198.18.0.6",
        "zone": "a",
        "state": "lost",
        "last_seen": 1,
        "release": "1",
        "capacity": {"memory": 2048, "memory_reserved": 128, "instances": 3},
    }
    stub.set("GET /v2/machines", {"machines": [machine]})
    text = ingot.run("machines").stdout
    assert "lost" in text
    assert "128M of 2G" in text
    assert ingot.json("machines") == [machine]
    stub.set("GET /info/runtimes", {"python3": {"version": "3.11"}})
    assert "3.11" in ingot.run("runtimes").stdout
    assert "standalone" in ingot.run("frameworks").stdout
    assert "128M of 2G" in ingot.run("info").stdout


def test_errors_say_what_to_do(stub, ingot):
    stub.error("GET /apps", 403, 200)
    assert "ingot login" in ingot.run("apps", code=1).stderr
    stub.set("GET /apps", "<html>bad gateway</html>", status=502)
    assert "tell its operator" in ingot.run("apps", code=1).stderr
    stub.set("GET /apps", "<html>a proxy's page</html>")
    assert "does not answer as a controller" in ingot.run("apps", code=1).stderr
    stub.set("GET /info", {key: value for key, value in INFO.items() if key != "user"})
    assert "login has expired" in ingot.run("push", "x", code=1).stderr


def test_unreachable_target(ingot):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://api.ingot.localhost:{taken.getsockname()[1]}"
        result = ingot.run("--target", address, "info", code=1)
    assert "cannot be reached" in result.stderr
    assert "ingot target" in result.stderr
