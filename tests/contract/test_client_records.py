"""What `ingot` asks below /v2 about logs, tasks, events, usage, users and the platform's own log, and how it shows it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.contract.client_stub import INFO, Answer, line_of, page_of

TASK = {
    "id": "t1",
    "command": "rake db",
    "state": "running",
    "exit_status": None,
    "detail": None,
    "created": 1.0,
    "started": 2.0,
    "ended": None,
    "by": "a@b.com",
}
LOGS = "GET /v2/apps/hello/logs"
TASK_LOGS = "GET /v2/apps/hello/tasks/t1/logs"


def task(state, status=None, detail=None):
    return {**TASK, "state": state, "exit_status": status, "detail": detail, "ended": 3.0}


def begin(stub, *pages, ended):
    """Let task t1 be begun, write pages, and end so."""
    stub.set("POST /v2/apps/hello/tasks", TASK, status=202)
    stub.set(f"{TASK_LOGS}?tail=1000", pages[0])
    stub.set(f"{TASK_LOGS}?cursor=c&wait=5", *pages[1:], page_of(state=ended["state"]))
    stub.set("GET /v2/apps/hello/tasks/t1", ended)


def test_logs_of_all_instances_with_their_gaps(stub, ingot):
    missed = [{"instance": 1, "id": "id1", "count": 12}]
    page = page_of(line_of(0, 5, "one"), line_of(1, 13, "two", "stderr"), missed=missed)
    stub.set(f"{LOGS}?tail=100", page)
    assert ingot.run("logs", "hello").stdout.splitlines() == [
        "[0] one",
        "… 12 lines missed (instance 1)",
        "[1!] two",
    ]
    assert ingot.json("logs", "hello") == page
    stub.set(f"{LOGS}?instance=1&tail=2", page_of(line_of(1, 13, "two")))
    assert "[1] two" in ingot.run("logs", "hello", "--tail", "2", "--instance", "1").stdout
    stub.set(f"{LOGS}?tail=100", page_of())
    assert "nothing was logged" in ingot.run("logs", "hello").stdout


def test_logs_followed_over_a_controller_that_goes_away(stub, ingot):
    stub.set(f"{LOGS}?tail=100", page_of(line_of(0, 1, "one"), cursor="c1"))
    later = page_of(line_of(0, 2, "two"), cursor="c2")
    stub.set(f"{LOGS}?cursor=c1&wait=5", Answer(502, "bad gateway"), Answer(body=later))
    # What ends it here is an answer that a person would have to see.
    stub.error(f"{LOGS}?cursor=c2&wait=5", 404, 301)
    result = ingot.run("logs", "hello", "--follow", code=1)
    assert result.stdout.splitlines() == ["[0] one", "[0] two"]
    assert "does not answer at the moment" in result.stderr
    assert "it answers again" in result.stderr
    lines = ingot.run("logs", "hello", "-f", "--json", code=1).stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two"]


def test_run_shows_what_is_written_where_it_is_written_and_ends_as_it_did(stub, ingot):
    begin(
        stub,
        page_of(state="pending"),
        page_of(line_of(0, 1, "out"), line_of(0, 2, "err", "stderr"), state="running"),
        ended=task("failed", 3),
    )
    result = ingot.run("run", "hello", "--", "rake", "db:migrate", "--trace", "a b", code=3)
    assert stub.last("POST /v2/apps/hello/tasks").json() == {"command": "rake db:migrate --trace 'a b'"}
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_run_of_a_line_for_the_shell_there(stub, ingot):
    begin(stub, page_of(state="succeeded"), ended=task("succeeded", 0))
    ingot.run("run", "--memory", "64M", "--timeout", "60", "hello", "echo $HOME | wc")
    assert stub.last("POST /v2/apps/hello/tasks").json() == {
        "command": "echo $HOME | wc",
        "memory": 64,
        "timeout": 60,
    }
    ingot.run("run", "hello", code=2)
    ingot.run("run", "hello", "--", code=2)


def test_run_as_json_is_one_document(stub, ingot):
    begin(stub, page_of(line_of(0, 1, "out"), state="running"), ended=task("failed", 9, "killed: memory"))
    result = ingot.run("run", "--json", "hello", "x", code=9)
    said = json.loads(result.stdout)
    assert (said["exit_status"], [line["text"] for line in said["lines"]]) == (9, ["out"])
    assert "killed: memory" in result.stderr


def test_run_whose_machine_is_lost(stub, ingot):
    begin(stub, page_of(state="failed"), ended=task("failed", None, "its DEA is lost"))
    assert "its DEA is lost" in ingot.run("run", "hello", "x", code=1).stderr


def test_run_detached_then_listed_looked_at_and_stopped(stub, ingot):
    stub.set("POST /v2/apps/hello/tasks", TASK, status=202)
    assert "--task t1" in ingot.run("run", "--detach", "hello", "x").stdout
    stub.set("GET /v2/apps/hello/tasks", {"tasks": [task("failed", 1, "stopped by a@b.com")]})
    assert "stopped by a@b.com" in ingot.run("tasks", "hello").stdout
    assert ingot.json("tasks", "hello")[0]["id"] == "t1"
    stub.set(f"{TASK_LOGS}?tail=100", page_of(line_of(0, 1, "out"), state="failed"))
    assert "[0] out" in ingot.run("logs", "hello", "--task", "t1").stdout
    stub.set("DELETE /v2/apps/hello/tasks/t1", task("failed", None, "stopped by a@b.com"))
    assert "t1 is stopped" in ingot.run("stop-task", "hello", "t1").stdout


def test_events_by_pages(stub, ingot):
    event = {
        "id": 2,
        "at": 1.0,
        "who": "root@b.com",
        "acting_for": "a@b.com",
        "method": "PUT",
        "path": "/apps/hello",
        "app": "hello",
        "status": 200,
        "from": "198.18.0.1",
        "outcome": "changed",
    }
    stub.set("GET /v2/events?app=hello&limit=100", {"events": [event] * 100, "next": "n1"})
    stub.set("GET /v2/events?app=hello&limit=50&after=n1", {"events": [event], "next": None})
    assert len(ingot.json("events", "hello", "--limit", "150")) == 101
    stub.set("GET /v2/events?limit=50", {"events": [event], "next": "more"})
    stub.set("GET /v2/events?limit=49&after=more", {"events": []})
    shown = ingot.run("events").stdout
    assert "root@b.com for a@b.com" in shown
    assert "PUT /apps/hello" in shown
    for text in ("yesterday-ish", "²d", "9" * 5000 + "d"):
        ingot.run("events", "--since", text, code=2)
    ingot.run("events", "--since", "2h")
    assert stub.calls[-1].path.startswith("/v2/events?since=")


def test_usage_as_table_and_as_csv(stub, ingot):
    row = {
        "day": "2026-08-01",
        "user": "a@b.com",
        "app": "hello",
        "reserved_mb_hours": 3072.04,
        "used_mb_hours": 100,
        "cpu_seconds": 1.5,
        "requests": 7,
        "restarts": 0,
    }
    stub.set("GET /v2/usage?from=2026-08-01&app=hello", {"usage": [row]})
    shown = ingot.run("usage", "--from", "2026-08-01", "--app", "hello").stdout
    assert "3072.0" in shown
    stub.set("GET /v2/usage", {"usage": [row]})
    assert ingot.json("usage") == [row]
    stub.set("GET /v2/usage?format=csv", "day,user\r\n2026-08-01,a@b.com\r\n")
    assert ingot.run("usage", "--csv").stdout == "day,user\n2026-08-01,a@b.com\n"
    assert stub.last("GET /v2/usage?format=csv").headers["accept"] == "text/csv"
    ingot.run("usage", "--csv", "--json", code=2)
    ingot.run("usage", "--from", "soon", code=2)


def test_users_by_pages_and_from_an_older_controller(stub, ingot):
    user = {
        "email": "a@b.com",
        "admin": True,
        "apps": 3,
        "limits": {"memory": 2048},
        "usage": {"memory": 128},
    }
    stub.set("GET /v2/users?limit=100", {"users": [user], "next": "n"})
    stub.set("GET /v2/users?limit=100&after=n", {"users": [{**user, "email": "c@d.com"}], "next": None})
    shown = ingot.run("users").stdout
    assert "128M of 2G" in shown
    assert "c@d.com" in shown
    older = [{"email": "old@b.com", "admin": True, "apps": [{"name": "hello"}]}]
    stub.set("GET /v2/users?limit=100", "", status=404)
    stub.set("GET /users", older)
    assert ingot.json("users") == older
    assert "hello" in ingot.run("users").stdout


def test_quota_is_shown_and_set(stub, ingot):
    limits = {"memory": 2048, "apps": 20, "app_uris": 4, "services": 16}
    for email in ("a%40b.com", "c%40d.com"):
        stub.set(f"GET /v2/users/{email}/quota", limits)
    assert "2G" in ingot.run("quota").stdout
    stub.set("PUT /v2/users/c%40d.com/quota", limits)
    assert ingot.json("quota", "c@d.com", "--memory", "4G", "--apps", "default", "--urls", "0") == limits
    changes = stub.last("PUT /v2/users/c%40d.com/quota").json()
    assert changes == {"memory": 4096, "apps": None, "app_uris": 0}
    wider = ("--disk", "64G", "--instances", "9", "--routes", "default", "--builds", "3")
    assert ingot.json("quota", "c@d.com", *wider) == limits
    changes = stub.last("PUT /v2/users/c%40d.com/quota").json()
    assert changes == {"disk": 65_536, "instances": 9, "routes": None, "builds": 3}
    assert "name the user" in ingot.run("quota", "--apps", "3", code=2).stderr
    for text in ("many", "-1", "²", "9" * 5000):
        assert "is not a number" in ingot.run("quota", "c@d.com", "--apps", text, code=2).stderr


def test_logout_everywhere(stub, ingot):
    stub.set("DELETE /v2/users/a%40b.com/tokens", "", status=204)
    assert "everywhere" in ingot.run("logout", "--everywhere").stdout
    assert "not logged in" in ingot.run("apps", code=1).stderr


def test_an_administrator_acts_for_another(stub, ingot):
    stub.set("GET /info", {**INFO, "user": "c@d.com"})
    stub.set("DELETE /v2/users/c%40d.com/tokens", "", status=204)
    ingot.run("--as", "c@d.com", "apps")
    assert stub.last("GET /apps").headers["proxy-user"] == "c@d.com"
    assert "c@d.com is logged out" in ingot.run("--as", "c@d.com", "logout", "--everywhere").stdout
    ingot.run("--as", "c@d.com", "logout", code=2)
    ingot.run("apps")
    assert "proxy-user" not in stub.last("GET /apps").headers


def test_logs_of_the_platform(stub, ingot):
    row = {
        "at": 1.0,
        "component": "dea",
        "host": "198.18.0.6",
        "level": "error",
        "event": "x",
        "text": "bad\x1b[2J",
    }
    stub.set("GET /v2/logs?component=dea&level=error&limit=200", {"lines": [row], "silent": ["router-0"]})
    result = ingot.run("platform-logs", "--component", "dea", "--level", "error")
    assert "dea@198.18.0.6 error bad\n" in result.stdout
    assert "router-0" in result.stderr
    stub.error("GET /v2/logs?limit=200", 403, 200)
    assert "not permitted" in ingot.run("platform-logs", code=1).stderr


def test_applications_of_everybody(stub, ingot):
    app = {**stub.app("hello"), "owner": "c@d.com"}
    stub.set("GET /v2/apps?all=1&limit=100", {"apps": [app], "next": None})
    assert "c@d.com" in ingot.run("apps", "--all").stdout
    stub.set("GET /v2/apps?owner=c%40d.com&limit=100", {"apps": [app], "next": None})
    assert ingot.json("apps", "--owner", "c@d.com") == [app]


def test_too_many_requests_are_waited_for(stub, ingot):
    busy = Answer(429, {"code": 429, "description": "too fast"}, {"Retry-After": "0"})
    stub.set("GET /apps", busy, busy, Answer(body=[]))
    assert ingot.json("apps") == []
    stub.set("GET /apps", Answer(429, {"code": 429, "description": "too fast"}, {"Retry-After": "900"}))
    assert "wait a little" in ingot.run("apps", code=1).stderr


def test_logs_followed_until_ctrl_c_end_without_a_complaint(stub, ingot):
    stub.set(f"{LOGS}?tail=100", page_of(line_of(0, 1, "one")))
    stub.set(f"{LOGS}?cursor=c&wait=5", page_of())
    command = [str(Path(sys.executable).parent / "ingot"), "logs", "hello", "--follow"]
    environment = {**os.environ, "INGOT_HOME": str(ingot.home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "[0] one\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "\n")


def test_an_administrator_makes_accounts_where_nobody_registers(stub, ingot):
    stub.set("POST /users", "", status=204)
    ingot.run("register", "new@b.com", "--password", "good password")
    assert stub.last("POST /users").headers["authorization"]
