"""Staging with no package index: real bus, real stager, real builds, droplets that really run."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.common.bus.messages import StagingReply
from tests.integration.stager_rig import APPS, SECRET, Rig, fetch, running, zipped
from tests.support.waiting import until


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("stager"), max_tasks=2, max_seconds=20) as started:
        yield started


def sleeper(seconds: float) -> bytes:
    """An application whose build takes its time: pip runs a build program of its own, which needs no index."""
    slow = f"import time\nprint('long work', flush=True)\ntime.sleep({seconds})\nraise SystemExit(1)\n"
    backend = '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    return zipped(
        APPS / "hello",
        **{"requirements.txt": "./slow\n", "slow/pyproject.toml": backend, "slow/slow.py": slow},
    )


class Asked:
    """A request under way."""

    def __init__(self, rig: Rig, message: dict[str, Any]) -> None:
        self.reply: StagingReply | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._ask, args=(rig, message), daemon=True)
        self._thread.start()

    def _ask(self, rig: Rig, message: dict[str, Any]) -> None:
        try:
            self.reply = rig.ask(message)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error

    def wait(self) -> StagingReply:
        self._thread.join(60)
        if self._error is not None:
            raise self._error
        assert self.reply is not None, "no answer"
        return self.reply


def test_hello_is_staged_and_answers(rig: Rig) -> None:
    droplet = rig.droplet("hello")
    assert {"startup", "stop", "app", "app/wsgi.py", "logs", "logs/staging.log"} <= set(droplet.names())
    assert "framework wsgi on python3: wsgi.py defines application" in droplet.read("logs/staging.log")
    status, _, body = fetch(droplet.start("python26"), "/some/path")
    told = json.loads(body)
    assert (status, told["path"], told["dea"]) == (200, "/some/path", "127.0.0.1")


def test_the_same_application_gives_the_same_droplet(rig: Rig) -> None:
    assert rig.droplet("hello").sha1 == rig.droplet("hello").sha1


def test_static_pages_are_served_with_types_tags_and_ranges(rig: Rig) -> None:
    port = rig.droplet("static", "static").start("python3")
    status, headers, body = fetch(port)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"Served from a droplet" in body
    assert fetch(port, "/style.css")[1]["Content-Type"] == "text/css; charset=utf-8"
    assert fetch(port, If_None_Match=headers["ETag"])[0] == 304
    status, part, some = fetch(port, "/index.html", Range="bytes=2-8")
    assert (status, some, part["Content-Range"]) == (206, body[2:9], f"bytes 2-8/{len(body)}")
    assert fetch(port, Range="bytes=-4")[2] == body[-4:]
    assert fetch(port, Range="bytes=999999-")[0] == 416
    # More digits than a number is read from.
    assert fetch(port, Range=f"bytes={'9' * 5000}-")[::2] == (200, body)
    status, _, page = fetch(port, "/nothing")
    assert (status, b"not here" in page) == (404, True)


def test_static_pages_serve_what_other_services_look_for_and_no_other_dot_files(
    rig: Rig, tmp_path: Path
) -> None:
    pages = {
        "index.html": "x",
        ".well-known/acme/token": "proof",
        ".well-known/.x": "x",
        ".env": "x",
        "a/.b": "x",
    }
    for name, text in pages.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    port = rig.droplet(tmp_path, "static").start("python3")
    assert fetch(port, "/.well-known/acme/token")[::2] == (200, b"proof")
    assert {fetch(port, path)[0] for path in ("/.well-known/.x", "/.env", "/a/.b", "/a/.well-known/x")} == {
        404
    }


@pytest.mark.parametrize(
    "path", ["/.ingot/static_server.py", "/../startup", "/%2e%2e/startup", "/%2e%2e%2fstartup", "/a%00b"]
)
def test_static_pages_show_nothing_else(rig: Rig, path: str) -> None:
    port = rig.droplet("static").start("python3")
    assert fetch(port, path)[0] == 404


def test_standalone_runs_its_procfile(rig: Rig) -> None:
    told = json.loads(fetch(rig.droplet("standalone", "standalone").start("python3"))[2])
    assert told["framework"] == "standalone"


def test_a_command_of_the_users_own_wins(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    droplet = rig.droplet(
        tmp_path,
        "standalone",
        "python2",
        meta={"command": "python -m http.server $VCAP_APP_PORT --bind 127.0.0.1"},
    )
    assert fetch(droplet.start("python3"), "/data")[2] == b"x"


def test_node_without_dependencies_needs_no_registry(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "server.js").write_text(
        "require('http').createServer((q, s) => s.end(process.env.NODE_ENV)).listen(process.env.PORT)"
    )
    assert fetch(rig.droplet(tmp_path, "node", "node06").start("node"))[2] == b"production"


def test_dot_files_are_kept_but_for_the_stagers_own_folder(rig: Rig) -> None:
    reply = rig.stage(zipped(APPS / "hello", **{".env": "SECRET=1", ".ingot/python/evil.py": "x"}))
    assert reply.error is None
    assert "left out: .ingot, which is the platform's" in reply.task_log
    names = rig.lay_out(list(rig.controller.droplets.values())[-1]).names()
    assert "app/.env" in names
    assert "app/.ingot/python/evil.py" not in names


def test_what_fits_nothing_is_refused_with_what_is_looked_for(rig: Rig) -> None:
    reply = rig.stage(zipped(APPS / "unknown"))
    assert reply.error is not None
    assert reply.error.startswith("detect failed: no framework fits an application that holds README.")
    for name in (
        "java_web",
        "rails3",
        "rack",
        "sinatra",
        "django",
        "wsgi",
        "php",
        "node",
        "static",
        "standalone",
    ):
        assert f"{name} (" in reply.error


@pytest.mark.parametrize(
    ("framework", "runtime", "says"),
    [
        ("otp_rebar", "", "framework 'otp_rebar' is not known"),
        ("wsgi", "erlangR14B02", "runtime 'erlangR14B02' is not known"),
        ("node", "", "this is not a node application"),
        ("wsgi", "node", "wsgi does not run on node"),
    ],
)
def test_a_wrong_name_is_told(rig: Rig, framework: str, runtime: str, says: str) -> None:
    reply = rig.stage(zipped(APPS / "hello"), framework, runtime)
    assert reply.error is not None
    assert reply.error.startswith("detect failed: ")
    assert says in reply.error


def test_a_package_that_is_no_zip_is_told(rig: Rig) -> None:
    reply = rig.stage(b"nonsense")
    assert reply.error is not None
    assert reply.error.startswith("unpack failed: the application is not a sound zip archive")


def test_a_missing_package_is_told_without_the_password(rig: Rig) -> None:
    message = rig.request(b"")
    reply = rig.ask(message)
    assert reply.error is not None
    assert reply.error.startswith("download failed: the controller answered 404")
    assert SECRET not in reply.error + reply.task_log


def test_an_upload_that_is_refused_is_told(rig: Rig) -> None:
    message = rig.request(zipped(APPS / "static"))
    message["upload_uri"] = rig.controller.uri("/staging/droplet/1/1", password="wrong")
    reply = rig.ask(message)
    assert reply.error is not None
    assert reply.error.startswith("upload failed: the controller answered 401")
    assert reply.error.count("upload failed") == 1
    assert reply.task_log.endswith(reply.error.splitlines()[0])


def test_a_controller_that_restarts_is_asked_again(rig: Rig) -> None:
    rig.controller.troubles = [503, 502]
    assert rig.stage(zipped(APPS / "static")).error is None
    assert rig.controller.troubles == []


def test_lines_are_published_as_they_are_written(rig: Rig) -> None:
    rig.lines.clear()
    message = rig.request(zipped(APPS / "hello"))
    reply = rig.ask(message)
    subject = f"ingot.staging.{message['app_id']}.log"
    expected = len(reply.task_log.splitlines())
    until(lambda: len(rig.lines) >= expected, "every line is published")
    assert {line["subject"] for line in rig.lines} == {subject}
    assert {line["task_id"] for line in rig.lines} == {reply.task_id}
    assert [line["seq"] for line in rig.lines] == list(range(1, expected + 1))
    assert "\n".join(line["line"] for line in rig.lines) == reply.task_log


def test_a_build_that_takes_too_long_is_ended(rig: Rig, tmp_path: Path) -> None:
    with running(tmp_path, max_seconds=2) as own:
        reply = own.stage(sleeper(60))
        assert reply.error is not None
        assert reply.error.startswith("compile failed: it took longer than 2 s and was ended.")
        assert own.children() == []
        assert own.boxes() == []


def test_a_build_that_fills_the_disk_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    fill = "with open('fill', 'wb') as f:\n    for _ in range(400):\n        f.write(b'x' * 1048576)\nimport time\ntime.sleep(60)\n"
    backend = '[build-system]\nrequires = []\nbuild-backend = "fill"\nbackend-path = ["."]\n'
    files: dict[str, str | bytes] = {
        "requirements.txt": "./own\n",
        "own/pyproject.toml": backend,
        "own/fill.py": fill,
    }
    with running(tmp_path, disk_mb=100) as own:
        reply = own.stage(zipped(APPS / "hello", **files))
        assert reply.error is not None
        assert reply.error.startswith(
            "compile failed: the build took more than 100 MB of disk and was ended."
        )
        assert own.boxes() == []
        assert own.children() == []


def test_tasks_run_beside_each_other_and_the_rest_waits(rig: Rig) -> None:
    asked = [Asked(rig, rig.request(sleeper(1.5), "wsgi")) for _ in range(3)]
    until(lambda: rig.varz()["active_tasks"] == 2, "two are at work")
    assert rig.varz()["waiting_tasks"] == 1
    for one in asked:
        assert "compile failed" in str(one.wait().error)
    until(lambda: rig.varz()["active_tasks"] == 0, "all are done")


def test_a_stager_without_room_says_that_the_request_may_be_repeated(tmp_path: Path) -> None:
    with running(tmp_path, max_tasks=1, max_waiting=0, stop_seconds=1) as own:
        failed = own.stage(zipped(APPS / "unknown"))
        assert failed.error
        assert not failed.retry
        asked = Asked(own, own.request(sleeper(60), "wsgi"))
        until(own.children, "the build runs")
        refused = own.stage(zipped(APPS / "static"))
        assert refused.retry
        # What controllers of earlier releases look for.
        assert str(refused.error).startswith("queue failed: ")
        own.signal_stager(signal.SIGTERM)
        assert not asked.wait().retry


def test_nothing_of_a_task_stays_and_no_secret_is_logged(rig: Rig) -> None:
    rig.droplet("hello")
    until(lambda: rig.boxes() == [], "the boxes are gone")
    assert SECRET not in rig.log()


def test_a_lost_bus_ends_no_task(rig: Rig, tmp_path: Path) -> None:
    with running(tmp_path) as own:
        own.controller.troubles = [503] * 2  # the download takes its time
        message = own.request(zipped(APPS / "hello"))
        asked = Asked(own, message)
        until(own.boxes, "the task runs")
        own.stop_nats()
        until(lambda: own.controller.droplets, "the droplet is delivered without a bus")
        own.start_nats()
        del asked
        until(own.ready, "the stager is back on the bus")
        until(own.asker_connected, "so is the one who asks")
        assert own.stage(zipped(APPS / "static")).error is None


def test_a_stager_told_to_go_finishes_first(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        asked = Asked(own, own.request(zipped(APPS / "hello")))
        until(own.boxes, "the task runs")
        own.signal_stager(signal.SIGTERM)
        assert asked.wait().error is None
        assert own.wait_stager() == 0
        assert own.boxes() == []


def test_a_stager_told_to_go_does_not_wait_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, stop_seconds=1) as own:
        asked = Asked(own, own.request(sleeper(60), "wsgi"))
        until(own.children, "the build runs")
        own.signal_stager(signal.SIGTERM)
        reply = asked.wait()
        assert reply.error is not None
        assert "the stager was stopped" in reply.error
        assert own.wait_stager() == 0
        assert own.children() == []
        assert own.boxes() == []


def test_what_a_killed_stager_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        Asked(own, own.request(sleeper(60), "wsgi"))
        until(own.children, "the build runs")
        own.signal_stager(signal.SIGKILL)
        own.wait_stager()
        assert own.boxes()
        own.start_stager()
        until(lambda: not own.boxes() and not own.children(), "boxes and builds are gone")
        assert own.stage(zipped(APPS / "static")).error is None


def test_sizes_are_limited(tmp_path: Path) -> None:
    with running(tmp_path, max_package_mb=1, max_unpacked_mb=1) as own:
        large = own.stage(b"x" * (2 * 1024 * 1024))
        assert "download failed: the application is larger than 1 MB" in str(large.error)
        bomb = own.stage(zipped(APPS / "static", zeros="0" * (2 * 1024 * 1024)))
        assert "unpack failed: the application unpacks to more than is allowed" in str(bomb.error)


def test_a_vendored_wheel_needs_no_index(rig: Rig) -> None:
    wheel = zipped(
        None,
        **{
            "tiny.py": "WORD = 'vendored'\n",
            "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
            "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "tiny-1.0.dist-info/RECORD": "",
        },
    )
    app = "import tiny\ndef application(e, s):\n    s('200 OK', [])\n    return [tiny.WORD.encode()]\n"
    files: dict[str, str | bytes] = {"wsgi.py": app, "requirements.txt": "tiny==1.0\n"}
    package = zipped(None, **files, **{"vendor/tiny-1.0-py3-none-any.whl": wheel})
    reply = rig.stage(package)
    assert reply.error is None, reply.error
    assert "installed tiny 1.0" in reply.task_log
    droplet = rig.lay_out(list(rig.controller.droplets.values())[-1])
    assert fetch(droplet.start("python3"))[2] == b"vendored"


def test_metrics_count_tasks(rig: Rig) -> None:
    before = rig.varz()["tasks_done"]
    rig.droplet("static")
    until(lambda: rig.varz()["tasks_done"] == before + 1, "it is counted")
    assert re.match(r"\d+-[0-9a-f]{32}$", rig.varz()["uuid"])
