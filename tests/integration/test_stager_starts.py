"""How a staged application starts: the command given at push wins, and the platform's own servers load before they listen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.stager_rig import APPS, Rig, fetch, running
from tests.support.waiting import until

PYTHON = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"mine")
http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
RUBY = """
require 'socket'
s = TCPServer.new(Integer(ENV['PORT']))
loop { c = s.accept; c.gets; c.write("HTTP/1.0 200 OK\\r\\n\\r\\nmine"); c.close }
"""
NODE = "require('http').createServer((_, answer) => answer.end('mine')).listen(process.env.PORT);\n"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("stager"), max_tasks=2) as started:
        yield started


@dataclass(frozen=True)
class Sample:
    """An application of a framework, a file beside it, and the command that runs that file."""

    app: str
    framework: str
    runtime: str
    file: str
    content: str
    command: str


SAMPLES = [
    Sample("hello", "wsgi", "python3", "mine.py", PYTHON, "exec python mine.py"),
    Sample("hello", "standalone", "python3", "mine.py", PYTHON, "exec python mine.py"),
    Sample("static", "static", "python3", "mine.py", PYTHON, "exec python mine.py"),
    Sample("node_plain", "node", "node", "mine.js", NODE, "exec node mine.js"),
    Sample("rack", "rack", "ruby", "mine.rb", RUBY, "exec ruby mine.rb"),
    Sample("rails", "rails3", "ruby", "mine.rb", RUBY, "exec ruby mine.rb"),
    Sample("sinatra", "sinatra", "ruby", "mine.rb", RUBY, "exec bundle exec ruby mine.rb"),
    Sample("php", "php", "php", "mine.php", "mine", "exec php -S 0.0.0.0:$PORT mine.php"),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.framework)
def test_the_command_given_at_push_wins_over_procfile_and_framework(
    rig: Rig, tmp_path: Path, sample: Sample
) -> None:
    folder = tmp_path / "app"
    shutil.copytree(APPS / sample.app, folder)
    (folder / sample.file).write_text(sample.content)
    (folder / "Procfile").write_text("web: exit 9\n")
    meta = {"command": sample.command}
    droplet = rig.droplet(folder, sample.framework, sample.runtime, meta=meta)
    assert fetch(droplet.start(sample.runtime))[2] == b"mine"


def test_djangos_and_a_wars_command_win_too(rig: Rig, tmp_path: Path) -> None:
    project = tmp_path / "django"
    (project / "site").mkdir(parents=True)
    (project / "manage.py").write_text("")
    (project / "site" / "wsgi.py").write_text("application = None\n")
    (project / "mine.py").write_text(PYTHON)
    droplet = rig.droplet(project, "django", meta={"command": "exec python mine.py"})
    assert fetch(droplet.start("python3"))[2] == b"mine"
    startup = rig.droplet("war", "java_web", meta={"command": "exec java -version"}).read("startup")
    assert "exec java -version" in startup
    assert "catalina" not in startup


def test_a_command_has_gunicorn_and_the_packages_as_a_procfiles_has(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os\ndef app(e, start):\n"
        "    start('200 OK', [])\n    return [os.environ.get('MARK', 'no mark').encode()]\n"
    )
    command = "MARK=mine gunicorn app:app --bind 0.0.0.0:$PORT"
    given = rig.droplet(tmp_path, "wsgi", meta={"command": command})
    startup = given.read("startup")
    assert fetch(given.start("python3"))[2] == b"mine"
    (tmp_path / "Procfile").write_text(f"web: {command}\n")
    assert rig.droplet(tmp_path, "wsgi").read("startup") == startup


# Loads for a second, so that a probe of the port sees whether it listens, then goes on with what the test wants.
SLOW = "import threading, time\ntime.sleep(1)\n"
ANSWER = (
    "threading.Thread(target=time.sleep, args=(60,), daemon=True, name='of the application').start()\n"
    "def application(e, start):\n"
    "    start('200 OK', [])\n"
    "    return [' '.join(t.name for t in threading.enumerate()).encode()]\n"
)


@pytest.mark.parametrize("procfile", ["", "web: gunicorn --bind 0.0.0.0:$PORT wsgi:application\n"])
def test_gunicorn_listens_once_the_application_is_loaded(rig: Rig, tmp_path: Path, procfile: str) -> None:
    if procfile:
        (tmp_path / "Procfile").write_text(procfile)
    source = tmp_path / "wsgi.py"
    source.write_text(f"{SLOW}import nothing_such\napplication = None\n")
    with pytest.raises(AssertionError, match="nothing_such"):
        # Listening would do, as for a DEA.
        rig.droplet(tmp_path, "wsgi").start("python3")
    source.write_text(SLOW + ANSWER)
    (tmp_path / "gunicorn.conf.py").write_text(
        "def on_starting(server):\n    print('the application\\'s own hook', flush=True)\n"
    )
    droplet = rig.droplet(tmp_path, "wsgi")
    # What it starts when it is imported lives where requests are answered.
    assert b"of the application" in fetch(droplet.start("python3"))[2]
    assert "the application's own hook" in droplet.read("logs/stdout.log")


# Replaces the class of sockets as gevent's `monkey.patch_all()` does: it wraps a socket, and has no `listen` of its own.
WRAPPED = """
import socket
plain = socket.socket
class Wrapped:
    def __init__(self, *made, **named):
        self._sock = plain(*made, **named)
    def __getattr__(self, name):
        return getattr(self._sock, name)
socket.socket = Wrapped
"""


@pytest.mark.parametrize(
    ("conf", "more"),
    [("", "--bind unix:own.sock"), (WRAPPED, "--bind unix:own.sock"), ("", "--reuse-port")],
    ids=["a Unix socket too", "wrapped", "made by workers"],
)
def test_gunicorn_waits_for_the_application_however_its_sockets_are_made(
    rig: Rig, tmp_path: Path, conf: str, more: str
) -> None:
    source = tmp_path / "wsgi.py"
    source.write_text(f"{SLOW}import nothing_such\napplication = None\n")
    (tmp_path / "gunicorn.conf.py").write_text(conf)
    (tmp_path / "Procfile").write_text(f"web: gunicorn {more} --bind 0.0.0.0:$PORT wsgi:application\n")
    with pytest.raises(AssertionError, match="nothing_such"):
        rig.droplet(tmp_path, "wsgi").start("python3")
    # It listens on a port of its own when it is imported, as a server of metrics does.
    source.write_text(
        "import socket\nown = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(own.getsockname(), 5).close()\n" + SLOW + ANSWER
    )
    assert b"of the application" in fetch(rig.droplet(tmp_path, "wsgi").start("python3"))[2]


def test_a_worker_that_is_lost_is_replaced_and_the_port_stays_open(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "wsgi.py").write_text(
        "import os\ndef application(e, start):\n"
        "    if e['PATH_INFO'] == '/end':\n        os._exit(1)\n"
        "    start('200 OK', [])\n    return [str(os.getpid()).encode()]\n"
    )
    port = rig.droplet(tmp_path, "wsgi").start("python3")
    first = fetch(port)[2]
    with pytest.raises(OSError, match=r"."):
        fetch(port, "/end")
    assert until(lambda: fetch(port)[2], "another worker answers") != first


@pytest.mark.parametrize("app", ["rack", "sinatra", "rails"])
def test_puma_does_not_listen_for_what_cannot_be_loaded(rig: Rig, tmp_path: Path, app: str) -> None:
    folder = tmp_path / app
    shutil.copytree(APPS / app, folder)
    file = {"rack": "config.ru", "sinatra": "hello.rb", "rails": "config/application.rb"}[app]
    source = folder / file
    source.write_text(source.read_text() + "\nsleep 1\nrequire 'nothing_such'\n")
    with pytest.raises(AssertionError, match="nothing_such"):
        rig.droplet(folder).start("ruby")
