"""Which framework an application is: the table, the plugins, and what each sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from components.common import frameworks as table
from components.stager.errors import StagingError
from components.stager.frameworks.node import main_file, start_command
from components.stager.frameworks.python import top_names
from components.stager.plugin import BuildTools, Context, choose, installed, load
from components.stager.procfile import web_command

APPS = Path(__file__).resolve().parents[2] / "apps"


def lay(root: Path, *names: str, **contents: str) -> Path:
    for name, text in {**dict.fromkeys(names, ""), **contents}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("app", "framework"),
    [
        ("hello", "wsgi"),
        ("flask", "wsgi"),
        ("crasher", "wsgi"),
        ("node", "node"),
        ("node_plain", "node"),
        ("static", "static"),
        ("rack", "rack"),
        ("sinatra", "sinatra"),
        ("rails", "rails3"),
        ("war", "java_web"),
        ("php", "php"),
        ("standalone_ruby", "standalone"),
    ],
)
def test_samples_are_found_out(app: str, framework: str) -> None:
    assert choose(APPS / app, None, {})[0] == framework


@pytest.mark.parametrize(
    ("files", "framework"),
    [
        ({"manage.py": "", "site/wsgi.py": "application = 1"}, "django"),
        ({"wsgi.py": "application = 1"}, "wsgi"),
        ({"app.py": "def app(e, s): ..."}, "wsgi"),
        ({"app.py": "from flask import Flask as app"}, "wsgi"),
        ({"wsgi.py": "try:\n  from a import application\nexcept ImportError:\n  application = None"}, "wsgi"),
        ({"Procfile": "web: gunicorn x:y", "x.py": ""}, "wsgi"),
        ({"package.json": "{}"}, "node"),
        ({"only.js": ""}, "node"),
        ({"server.js": "", "other.js": ""}, "node"),
        ({"index.html": ""}, "static"),
        ({"public/index.html": ""}, "static"),
        ({"Procfile": "web: ./run"}, "standalone"),
        ({"Procfile": "web: ./run", "index.html": ""}, "standalone"),
        ({"a.war": ""}, "java_web"),
        ({"WEB-INF/web.xml": "", "index.html": ""}, "java_web"),
        ({"config.ru": "", "main.rb": "require 'sinatra'"}, "rack"),
        ({"main.rb": "require 'sinatra/base'"}, "sinatra"),
        ({"config/environment.rb": "", "config/application.rb": "", "config.ru": ""}, "rails3"),
        ({"public/index.php": "", "package.json": ""}, "php"),
        ({"a.php": "", "index.html": ""}, "php"),
    ],
)
def test_an_application_is_found_out_by_its_files(
    tmp_path: Path, files: dict[str, str], framework: str
) -> None:
    assert choose(lay(tmp_path, **files), None, {})[0] == framework


@pytest.mark.parametrize(
    "files",
    [
        {"README": ""},
        {"app.py": "print('no callable')"},
        {"app.py": "def x(: broken"},
        {"a.js": "", "b.js": ""},
        {"Procfile": "worker: ./run"},
        {"manage.py": ""},
        {"a.jar": "no zip"},
        {"a.war": "", "b.war": ""},
        {"main.rb": "require 'json'"},
        {},
    ],
)
def test_what_fits_nothing_is_refused_with_the_list_of_what_is_looked_for(
    tmp_path: Path, files: dict[str, str]
) -> None:
    with pytest.raises(StagingError) as error:
        choose(lay(tmp_path, **files), None, {})
    assert error.value.stage == "detect"
    for framework in table.FRAMEWORKS:
        assert framework.name in error.value.remedy
        assert framework.looks_for in error.value.remedy


def test_a_framework_that_was_named_is_verified(tmp_path: Path) -> None:
    lay(tmp_path, "index.html")
    with pytest.raises(StagingError) as error:
        choose(tmp_path, "node", {})
    assert "not a node application" in str(error.value)
    assert "looks like static (index.html)" in str(error.value)


def test_standalone_takes_a_command_from_the_user(tmp_path: Path) -> None:
    assert choose(lay(tmp_path, "run"), "standalone", {"command": "./run"})[2] == "a start command was given"
    with pytest.raises(StagingError):
        choose(tmp_path, "standalone", {"command": "  "})


@pytest.mark.parametrize(
    ("framework", "files"),
    [("wsgi", ("main.py",)), ("django", ("manage.py",)), ("node", ("a.js", "b.js"))],
)
def test_a_framework_that_was_named_needs_no_main_file_where_a_command_was_given(
    tmp_path: Path, framework: str, files: tuple[str, ...]
) -> None:
    lay(tmp_path, *files)
    with pytest.raises(StagingError):
        choose(tmp_path, framework, {})
    assert choose(tmp_path, framework, {"command": "./run"})[0] == framework
    # Where none was named, the command alone says nothing of its kind.
    assert choose(tmp_path, None, {"command": "./run"})[0] == "standalone"


def test_every_framework_of_the_table_has_a_plugin_and_the_other_way_round() -> None:
    assert list(installed()) == [f.name for f in table.FRAMEWORKS]
    for name in installed():
        assert load(name)


@pytest.mark.parametrize(
    ("names", "main"),
    [
        ((), None),
        (("x.js",), "x.js"),
        (("server.js", "app.js"), "app.js"),
        (("server.js", "application.js", "main.js"), "application.js"),
        (("x.js", "y.js"), None),
    ],
)
def test_nodes_main_file_is_the_only_one_or_the_last_of_the_known(
    tmp_path: Path, names: tuple[str, ...], main: str | None
) -> None:
    assert main_file(lay(tmp_path, *names)) == main


@pytest.mark.parametrize(
    ("files", "package", "command"),
    [
        ({"Procfile": "web: node p.js"}, {"scripts": {"start": "node s.js"}}, "node p.js"),
        ({"server.js": ""}, {"scripts": {"start": "node s.js"}}, "node s.js"),
        ({"lib/m n.js": "", "server.js": ""}, {"main": "lib/m n.js"}, "exec node 'lib/m n.js'"),
        ({"server.js": ""}, {"main": "missing.js"}, "exec node server.js"),
        ({"server.js": ""}, {"scripts": "odd"}, "exec node server.js"),
    ],
)
def test_how_node_is_started(
    tmp_path: Path, files: dict[str, str], package: dict[str, Any], command: str
) -> None:
    assert start_command(lay(tmp_path, **files), package, {}) == command
    assert start_command(tmp_path, package, {"command": " node given.js "}) == "node given.js"


def test_node_without_a_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match="no start command is given or found"):
        start_command(tmp_path, {}, {"command": " "})


def test_names_inside_functions_are_not_top_names(tmp_path: Path) -> None:
    lay(tmp_path, **{"a.py": "def f():\n    app = 1\nimport x.y\nz: int = 1\nif 1:\n    q = 2\n"})
    assert top_names(tmp_path / "a.py") == {"f", "x", "z", "q"}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("web: a b\n", "a b"),
        ("worker: x\nweb:\tpython app.py  \r\n", "python app.py"),
        ("web:\nnext: x", None),
        ("# web: no", None),
    ],
)
def test_a_procfile_is_read(tmp_path: Path, text: str, command: str | None) -> None:
    lay(tmp_path, Procfile=text)
    assert web_command(tmp_path) == command


def test_no_procfile_is_no_command(tmp_path: Path) -> None:
    assert web_command(tmp_path) is None


@pytest.mark.parametrize(
    ("framework", "runtime", "means"),
    [
        ("wsgi", None, ("wsgi", "python3")),
        ("Flask", "python26", ("wsgi", "python3")),
        ("nodejs/1.0", "node06", ("node", "node")),
        ("standalone", None, ("standalone", None)),
        ("standalone", "node08", ("standalone", "node")),
        (None, None, (None, None)),
        ("http://b20nine.com/unknown", None, (None, None)),
        ("unknown", "python2", (None, "python3")),
        ("rails/1.0", None, ("rails3", "ruby")),
        ("sinatra", "ruby18", ("sinatra", "ruby")),
        ("rack", "ruby19", ("rack", "ruby")),
        ("java_web/1.0", "java", ("java_web", "java")),
        ("spring_web/1.0", None, ("java_web", "java")),
        ("grails/1.0", "java", ("java_web", "java")),
        ("lift", None, ("java_web", "java")),
        ("php", "php", ("php", "php")),
    ],
)
def test_names_of_2011_mean_what_is_really_there(
    framework: str | None, runtime: str | None, means: tuple[str | None, str | None]
) -> None:
    kind, interpreter = table.resolve(framework, runtime)
    assert (kind and kind.name, interpreter and interpreter.name) == means


@pytest.mark.parametrize(
    ("framework", "runtime", "says"),
    [
        ("otp_rebar", None, "'otp_rebar' is not known; known are java_web"),
        ("play", None, "'play' is not known"),
        ("wsgi", "erlangR14B02", "'erlangR14B02' is not known; known are python3, node, ruby, java, php"),
        ("sinatra", "java", "sinatra does not run on java; it runs on ruby"),
        ("wsgi", "node", "wsgi does not run on node; it runs on python3"),
    ],
)
def test_names_of_what_is_not_there_are_refused(framework: str, runtime: str | None, says: str) -> None:
    with pytest.raises(table.InvalidFrameworkError) as error:
        table.resolve(framework, runtime)
    assert says in str(error.value)


def test_no_name_means_two_things() -> None:
    runtimes = [n for r in table.RUNTIMES for n in (r.name, *r.aliases)]
    kinds = [n for f in table.FRAMEWORKS for n in (f.name, *f.aliases)]
    assert len(set(runtimes)) == len(runtimes)
    assert len(set(kinds)) == len(kinds)


def test_info_has_the_shape_of_2011() -> None:
    told = table.info_frameworks({"python3": "3.11.2"})
    assert told["wsgi"] == {
        "name": "wsgi",
        "runtimes": [{"name": "python3", "version": "3.11.2", "description": "Python 3"}],
        "appservers": [{"name": "gunicorn", "description": "Gunicorn"}],
        "detection": [{"*.py": r"\b(app|application)\b"}],
    }
    assert table.info_runtimes()["node"] == {"version": "18"}
    assert set(table.info_runtimes()) == {"python3", "node", "ruby", "java", "php"}


def test_a_tool_that_fails_names_itself_and_the_remedy(tmp_path: Path) -> None:
    context = Context(
        tmp_path, tmp_path, None, {}, BuildTools(), lambda _line: None, environment={"PATH": "/usr/bin:/bin"}
    )
    with pytest.raises(StagingError) as error:
        context.run([sys.executable, "-c", "raise SystemExit(3)"], "Do better.")
    assert "status 3" in str(error.value)
    assert error.value.remedy == "Do better."
    with pytest.raises(StagingError, match="cannot run /none"):
        context.run(["/none"], "")
