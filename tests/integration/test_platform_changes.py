"""Another command, framework or runtime for an application that runs: it takes effect, or nothing changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform_fixture import APPS, Person
from tests.integration.rolling_rig import Api, Load

# Answers with the word of its command.
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def api(person: Person) -> Iterator[Api]:
    speaker = Api(person.platform)
    yield speaker
    speaker.close()


@pytest.fixture
def speaker(tmp_path: Path) -> Path:
    folder = tmp_path / "speaker"
    folder.mkdir()
    (folder / "s.py").write_text(SERVER)
    return folder


def say(word: str) -> tuple[str, str]:
    return "--command", f"exec python3 s.py {word}"


def described(person: Person, name: str) -> tuple[Any, ...]:
    app = person.json("app", name)
    return app["state"], app["staging"], app["meta"].get("command"), app["env"], app["resources"]["memory"]


def test_another_command_takes_effect_and_stays(person: Person, api: Api, speaker: Path) -> None:
    where = ("--path", str(speaker))
    person.ingot("push", "said", *where, "--framework", "standalone", *say("A"))
    assert person.platform.get("said").text == "A"
    assert person.json("push", "said", *where, *say("B"))["how"] == "updated"
    assert person.platform.get("said").text == "B"
    (speaker / "new").write_text("changed")
    person.ingot("push", "said", *where)
    assert person.platform.get("said").text == "B"
    assert person.json("app", "said")["meta"]["command"] == "exec python3 s.py B"
    # As the old client has it, which sends back what it got; first what runs, then what is stopped.
    for state, word in (("STARTED", "C"), ("STOPPED", "D")):
        got = {**api.json("/apps/said"), "state": state}
        got["staging"] = {"framework": "standalone", "command": f"exec python3 s.py {word}"}
        assert api.call("PUT", "/apps/said", got).status_code == 200
        person.ingot("start", "said")
        assert person.platform.get("said").text == word
    person.ingot("push", "said", *where, "--hard", *say("E"))
    assert person.platform.get("said").text == "E"


WRONG = {
    ("--framework", "wsgy"): "Invalid framework",
    ("--runtime", "python9"): "Invalid runtime",
    ("--framework", "rack"): "this is not a rack application",
    ("--command", "exit 7"): "instance 0 crashed",
}


def test_a_change_that_fails_stops_nothing(person: Person, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    shutil.copytree(APPS / "hello", folder)
    person.ingot("push", "kept", "--path", str(folder))
    (folder / "wsgi.py").write_text((folder / "wsgi.py").read_text() + "\n# two\n")
    person.ingot("push", "kept", "--path", str(folder))
    before, was = person.answer("kept"), described(person, "kept")
    for wrong, why in WRONG.items():
        with Load(person.platform, "kept") as load:
            done = person.ingot("push", "kept", "--path", str(folder), *wrong, code=1)
        assert why in done.stderr
        assert "the version before still runs" in done.stderr
        assert not load.failures
        assert person.answer("kept")["instance_id"] == before["instance_id"]
        assert described(person, "kept") == was
    person.ingot("rollback", "kept")
    assert person.answer("kept")["version"] != before["version"]


REFUSED = [
    ({"framework": "wsgy"}, 308),
    ({"framework": "wsgi", "runtime": "python9"}, 307),
    ({"framework": "wsgi", "runtime": "ruby"}, 307),
    ({"framework": "rack"}, 310),
]


def test_a_change_of_the_old_clients_that_fails_stops_nothing(person: Person, api: Api) -> None:
    person.push("hello", "kept", "--env", "GREETING=one")
    before, was = person.answer("kept"), described(person, "kept")
    for staging, code in REFUSED:
        got = {**api.json("/apps/kept"), "staging": staging}
        got |= {"env": ["GREETING=two"], "uris": ["other.ingot.localhost"]}
        got["resources"]["memory"] = 96
        refused = api.call("PUT", "/apps/kept", got)
        assert refused.json()["code"] == code, refused.text
        after = person.answer("kept")
        assert (after["instance_id"], after["greeting"]) == (before["instance_id"], "one")
        assert described(person, "kept") == was
        assert person.json("app", "kept")["uris"] == ["kept.ingot.localhost"]
    # The next start, too, is of what was before.
    person.ingot("restart", "kept")
    assert person.answer("kept")["greeting"] == "one"


BROKEN = "application = None\nraise RuntimeError('it cannot be imported')\n"
# Listens, and finds out a second later that it cannot serve.
LATE = """
import os, socket, sys, time
listener = socket.create_server(("", int(os.environ["PORT"])))
time.sleep(600 if os.environ.get("MARK") == "well" else 1)
sys.exit("it cannot serve")
"""


def test_what_cannot_be_imported_is_never_said_to_run(person: Person, tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text(BROKEN)
    done = person.ingot("push", "broken", "--path", str(tmp_path), code=1)
    assert "is running" not in done.stdout
    assert "starting failed" in done.stderr
    assert "it cannot be imported" in done.stderr
    assert person.json("app", "broken")["state"] == "STOPPED"
    assert "starting failed" in person.ingot("start", "broken", code=1).stderr


def test_a_command_that_listens_first_and_fails_then_is_found_out(person: Person, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(LATE)
    (tmp_path / "Procfile").write_text("web: exec python3 s.py\n")
    where = ("--path", str(tmp_path))
    done = person.ingot("push", "late", *where, "--env", "MARK=well", "--framework", "standalone")
    assert "is running" in done.stdout
    for arguments in (("env", "late", "MARK=ill"), ("restart", "late"), ("push", "other", *where)):
        done = person.ingot(*arguments, code=1)
        assert "the application crashed" in done.stderr
        assert "it cannot serve" in done.stderr


def test_settings_that_come_with_a_version_that_fails_go_with_it(person: Person, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    shutil.copytree(APPS / "hello", folder)
    person.ingot("push", "kept", "--path", str(folder), "--env", "GREETING=one")
    before, was = person.answer("kept"), described(person, "kept")
    (folder / "wsgi.py").write_text(BROKEN)
    more = ("--env", "GREETING=two", "--memory", "96M", "--health-path", "/well", "--health-timeout", "5")
    with Load(person.platform, "kept") as load:
        done = person.ingot("push", "kept", "--path", str(folder), *more, code=1)
    assert "the version before still runs" in done.stderr
    assert not load.failures
    assert person.answer("kept")["instance_id"] == before["instance_id"]
    assert described(person, "kept") == was
    assert "health" not in person.json("app", "kept")["meta"]
    person.ingot("restart", "kept")
    assert person.answer("kept")["greeting"] == "one"
