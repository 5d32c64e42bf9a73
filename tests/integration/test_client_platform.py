"""The client on a real platform: updates under load, the way back, logs, tasks, and what is written down."""

import json
import shutil
import threading

import httpx
import pytest

from components.controller.accounts import quotas
from tests.integration.platform_fixture import APPS
from tests.support.waiting import until


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "rolled"
    shutil.copytree(APPS / "hello", path)
    return path


@pytest.fixture
def load(platform):
    """Ask the application all the time; gives what failed."""
    failed, asked, stop = [], [0], threading.Event()

    def ask():
        while not stop.is_set():
            asked[0] += 1
            try:
                answer = platform.get("rolled")
                if answer.status_code != 200:
                    failed.append(f"{answer.status_code}: {answer.text}")
            except httpx.HTTPError as error:
                failed.append(repr(error))

    thread = threading.Thread(target=ask, daemon=True)

    def begin():
        thread.start()
        return failed

    yield begin
    stop.set()
    thread.join(15)
    assert not thread.ident or asked[0] > 20


@pytest.mark.drill
def test_updates_and_the_way_back_under_load(person, folder, load):
    # A server may listen before it knows whether its application is any good; a path that answers tells.
    settings = ("--instances", "2", "--env", "GREETING=one", "--health-path", "/", "--health-timeout", "30")
    first = person.json("push", "rolled", "--path", str(folder), *settings)
    assert first["how"] == "started"
    before = person.instances("rolled")
    failed = load()

    (folder / "more.txt").write_text("new\n")
    done = person.ingot("push", "rolled", "--path", str(folder), "--env", "GREETING=two")
    assert "2/2 replaced" in done.stderr
    after = person.instances("rolled")
    assert {item["greeting"] for item in after.values()} == {"two"}
    assert not set(before) & set(after)
    assert failed == []

    (folder / "wsgi.py").write_text("application = None\nraise SystemExit('no use')\n")
    broken = person.ingot("update", "rolled", "--path", str(folder), "--timeout", "30", code=1)
    assert "updating failed" in broken.stderr
    assert "version before still runs" in broken.stderr
    assert set(person.instances("rolled")) == set(after)
    assert failed == []

    back = person.json("rollback", "rolled")
    assert (back["state"], back["waited"]) == ("STARTED", True)
    assert not set(person.instances("rolled")) & set(after)
    assert failed == []
    shown = person.json("revisions", "rolled")
    assert [item["number"] for item in shown if item["current"]] == [back["revision"]]


def test_logs_tasks_and_records(person, folder):
    (folder / "wsgi.py").write_text(
        "import os, sys\n"
        "print('begun', flush=True)\n"
        "print('complaint', file=sys.stderr, flush=True)\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [b'{}']\n"
    )
    person.push("hello", "rolled", "--path", str(folder), "--instances", "2", "--env", "GREETING=hi there")

    def both():
        page = person.json("logs", "rolled")
        return {line["instance"] for line in page["lines"] if line["text"] == "begun"} == {0, 1} and page

    page = until(both, "both instances have written")
    assert page["missed"] == []
    words = person.ingot("logs", "rolled", "--instance", "1").stdout
    assert "[1] begun" in words
    assert "[1!] complaint" in words
    assert "[0]" not in words

    done = person.ingot("run", "rolled", "--", "sh", "-c", "echo $GREETING; echo bad >&2; exit 3", code=3)
    assert done.stdout == "hi there\n"
    assert "bad" in done.stderr
    listed = person.json("tasks", "rolled")
    assert [(task["state"], task["exit_status"]) for task in listed] == [("failed", 3)]
    assert "hi there" in person.ingot("logs", "rolled", "--task", listed[0]["id"]).stdout
    begun = json.loads(person.ingot("run", "--detach", "--json", "rolled", "sleep 60").stdout)
    ended = person.json("stop-task", "rolled", begun["id"])
    assert ended["state"] == "failed"

    happened = person.json("events", "rolled")
    assert any(event["path"] == "/apps/rolled/application" for event in happened)
    admin = person.platform.settings.admin_email
    assert [user["email"] for user in person.json("users")] == [admin]
    assert set(person.json("quota")) == set(quotas.NAMES)
    assert person.json("quota", admin, "--apps", "30")["apps"] == 30
    assert person.json("quota", admin, "--apps", "default")["apps"] != 30
    assert isinstance(person.json("usage"), list)
    assert "day,user,app" in person.ingot("usage", "--csv").stdout
    assert [app["owner"] for app in person.json("apps", "--all")] == [admin]
    heard = person.json("platform-logs", "--component", "controller", "--limit", "50")
    assert {line["component"] for line in heard["lines"]} == {"controller"}


def test_logout_everywhere_ends_other_logins(person, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(person.home, other)
    person.ingot("logout", "--everywhere")
    assert "ingot login" in person.ingot("apps", code=1, INGOT_HOME=str(other)).stderr
    person.login()
    assert json.loads(person.ingot("apps", "--json").stdout) == []
