"""Which framework a folder is; what the stager would say, for every sample application."""

from pathlib import Path

import pytest

from components.client.detect import _RULES, detect
from components.client.errors import PackageError
from components.common.frameworks import FRAMEWORKS, info_frameworks

APPS = Path(__file__).parents[2] / "apps"
OFFERED = info_frameworks()


def of(files, offered=OFFERED):
    return detect(files.keys(), files.__getitem__, offered)


@pytest.mark.parametrize(
    ("app", "framework"),
    [
        ("hello", "wsgi"),
        ("flask", "wsgi"),
        ("node", "node"),
        ("node_plain", "node"),
        ("static", "static"),
        ("crasher", "wsgi"),
        ("rack", "rack"),
        ("sinatra", "sinatra"),
        ("rails", "rails3"),
        ("war", "java_web"),
        ("php", "php"),
        ("standalone_ruby", "standalone"),
    ],
)
def test_sample_applications(app, framework):
    folder = APPS / app
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert detect(names, lambda name: (folder / name).read_text(), OFFERED) == framework


@pytest.mark.parametrize(
    ("files", "framework"),
    [
        ({"manage.py": "", "site/wsgi.py": "application = 1"}, "django"),
        ({"Procfile": "web: gunicorn x\n", "x.py": ""}, "wsgi"),
        ({"Procfile": "web: ./server\n", "server": ""}, "standalone"),
        ({"Procfile": "web: npm start", "package.json": "{}", "tool.py": ""}, "node"),
        ({"only.js": ""}, "node"),
        ({"index.html": "", "page.js": ""}, "static"),
        ({"public/index.html": ""}, "static"),
        ({"app.js": "", "index.html": ""}, "node"),
        ({"a.war": ""}, "java_web"),
        ({"WEB-INF/web.xml": "", "index.html": ""}, "java_web"),
        ({"a.jar": ""}, "standalone"),
        ({"config.ru": "", "main.rb": "require 'sinatra'"}, "rack"),
        ({"config/environment.rb": "", "config/application.rb": "", "config.ru": ""}, "rails3"),
        ({"public/index.php": "", "package.json": ""}, "php"),
    ],
)
def test_by_their_files(files, framework):
    assert of(files) == framework


@pytest.mark.parametrize(
    "files",
    [
        {"README": ""},
        {"Procfile": "worker: x\n"},
        {"one.js": "", "two.js": ""},
        {"sub/wsgi.py": "application = 1"},
        {"app.py": "print(1)"},
    ],
)
def test_what_is_nothing_known_is_refused(files):
    with pytest.raises(PackageError, match=r"offers .*static.*wsgi") as caught:
        of(files)
    assert "--framework" in caught.value.hint


def test_only_what_is_offered():
    with pytest.raises(PackageError, match="offers static"):
        of({"wsgi.py": "application = 1"}, {"static": {}})


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"main.rb": "require 'camping'"}, True),
        ({"main.rb": "puts 1"}, False),
        ({"main.rb": "require 'camping'", "config.ru": ""}, False),
        ({"lib/main.rb": "require 'camping'"}, False),
    ],
)
def test_detection_of_the_platform_is_used_for_what_we_do_not_know(files, found):
    offered = {"camping": {"detection": [{"*.rb": "require 'camping'"}, {"config.ru": False}]}}
    if found:
        assert of(files, offered) == "camping"
    else:
        with pytest.raises(PackageError):
            of(files, offered)


def test_the_order_is_the_stagers():
    assert [name for name, _rule in _RULES] == [f.name for f in FRAMEWORKS]
