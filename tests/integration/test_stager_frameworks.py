"""Every framework and runtime for real: staged twice to the same droplet, started by its startup script, asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.java_samples import build_exploded, build_jar, build_war
from tests.integration.stager_rig import APPS, Droplet, Rig, fetch, running, zipped
from tests.support.waiting import until


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("stager"), max_tasks=2) as started:
        yield started


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "jar": build_jar(tmp_path_factory.mktemp("jar")),
        "war": build_exploded(tmp_path_factory.mktemp("exploded")),
        "war_file": build_war(tmp_path_factory.mktemp("war")),
    }


@dataclass(frozen=True)
class Sample:
    """An application, what it is found to be, the old names it goes by, and what it must answer."""

    app: str
    framework: str
    runtime: str
    old: tuple[str, str]
    says: str


SAMPLES = [
    Sample("rack", "rack", "ruby", ("rack", "ruby19"), "config.ru"),
    Sample("sinatra", "sinatra", "ruby", ("sinatra", "ruby18"), "hello.rb requires sinatra"),
    Sample("rails", "rails3", "ruby", ("rails/1.0", "ruby193"), "config/environment.rb"),
    Sample("war", "java_web", "java", ("spring_web/1.0", "java"), "WEB-INF"),
    Sample("war_file", "java_web", "java", ("grails", "java"), "sample.war"),
    Sample("jar", "standalone", "java", ("standalone", "java"), "sample.jar can be run"),
    Sample("php", "php", "php", ("php", "php"), "public/index.php"),
    Sample("node_plain", "node", "node", ("nodejs/1.0", "node06"), "package.json"),
    Sample("standalone_ruby", "standalone", "ruby", ("standalone", "ruby19"), "Procfile names its command"),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.app)
def test_it_is_staged_the_same_twice_and_answers(rig: Rig, built: dict[str, Path], sample: Sample) -> None:
    app = built.get(sample.app, APPS / sample.app)
    droplet = rig.droplet(app, *sample.old)
    assert f"framework {sample.framework} on {sample.runtime}: {sample.says}" in droplet.read(
        "logs/staging.log"
    )
    assert rig.droplet(app, *sample.old).sha1 == droplet.sha1
    me = {
        "name": sample.app,
        "version": "v1",
        "instance_id": "i1",
        "instance_index": 0,
        "limits": {"mem": 256 << 20},
    }
    port = droplet.start(sample.runtime, VCAP_APPLICATION=json.dumps(me), GREETING="it's me")
    status, headers, body = until(lambda: answer(port), "it answers")
    told = json.loads(body)
    assert (status, kind(headers)) == (200, "application/json")
    assert (told["framework"], told["name"], told["version"], told["instance_id"]) == (
        sample.framework,
        sample.app,
        "v1",
        "i1",
    )
    assert (told["port"], told["dea"], told["greeting"]) == (str(port), "127.0.0.1", "it's me")
    assert told["runtime"]
    if sample.runtime == "java":
        assert 120 <= told["heap_mb"] <= 160
    if sample.app == "war":
        shows_nothing_but_itself(droplet, port)


def shows_nothing_but_itself(droplet: Droplet, port: int) -> None:
    assert "converted to jakarta.servlet" in droplet.read("logs/staging.log")
    assert "jakarta.servlet.http" in droplet.read("app/webapp/index.jsp")
    assert kind(fetch(port, "/style.css")[1]) == "text/css"
    assert fetch(port, "/.well-known/proof")[2] == b"p"
    for hidden in ("/.env", "/WEB-INF/web.xml", "/.ingot/tomcat/conf/server.xml", "/nothing"):
        status, _headers, page = fetch(port, hidden)
        assert (status, b"Tomcat" in page) == (404, False), hidden


def kind(headers: dict[str, str]) -> str:
    return {k.lower(): v for k, v in headers.items()}["content-type"].partition(";")[0]


def answer(port: int) -> tuple[int, dict[str, str], bytes] | None:
    found = fetch(port)
    return found if found[0] == 200 else None


def test_php_follows_its_rewriting_and_shows_no_dot_files(rig: Rig) -> None:
    port = rig.droplet("php").start("php")
    assert json.loads(fetch(port, "/some/path")[2])["path"] == "/some/path"
    assert json.loads(fetch(port, "/")[2])["memory_limit"] == "85M"
    assert kind(fetch(port, "/plain.txt")[1]) == "text/plain"
    for hidden in ("/.htaccess", "/%2e%2e/.ingot/apache/httpd.conf"):
        assert fetch(port, hidden)[0] in (400, 403, 404), hidden


def test_php_at_the_top_is_served_without_what_lies_beside_it(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "index.php").write_text("<?php echo 'top';")
    (tmp_path / "Procfile").write_text("worker: none\n")
    port = rig.droplet(tmp_path).start("php")
    assert fetch(port)[2] == b"top"
    for hidden in ("/.ingot/apache/httpd.conf", "/Procfile"):
        assert fetch(port, hidden)[0] == 403, hidden


def test_a_gem_that_nobody_has_is_told_with_those_there_are(rig: Rig) -> None:
    gemfile = 'source "https://gems.example.com"\ngem "puma"\ngem "no-such-gem-anywhere"\n'
    reply = rig.stage(zipped(APPS / "rack", Gemfile=gemfile), "rack")
    assert reply.error is not None
    assert "compile failed: `ruby -S bundle check` ended with status" in reply.error
    assert "add the gems to vendor/cache" in reply.error
    assert "sinatra 3" in reply.error or "sinatra 4" in reply.error


def test_a_gem_in_vendor_cache_is_used(rig: Rig, tmp_path: Path) -> None:
    own = tmp_path / "tiny"
    (own / "lib").mkdir(parents=True)
    (own / "lib" / "tiny.rb").write_text("TINY = 'from the gem'\n")
    (own / "tiny.gemspec").write_text(
        "Gem::Specification.new { |s| s.name = 'tiny'; s.version = '1.0'; s.summary = s.author = 'x'; s.files = ['lib/tiny.rb'] }\n"
    )
    gem = make_gem(own)
    files: dict[str, str | bytes] = {
        "Gemfile": 'source "https://gems.example.com"\ngem "tiny"\n',
        "Gemfile.lock": "GEM\n  remote: https://gems.example.com/\n  specs:\n    tiny (1.0)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  tiny\n",
        "vendor/cache/tiny-1.0.gem": gem,
        "server.rb": (
            "require 'bundler/setup'\nrequire 'tiny'\nrequire 'socket'\ns = TCPServer.new(Integer(ENV['PORT']))\n"
            'loop { c = s.accept; c.gets; c.write("HTTP/1.0 200 OK\\r\\n\\r\\n#{TINY}"); c.close }\n'
        ),
        "Procfile": "web: bundle exec ruby server.rb\n",
    }
    message = rig.request(zipped(None, **files), "standalone", "ruby")
    first, again = rig.ask(message), rig.ask(message)
    assert (first.error, again.error) == (None, None)
    assert "nothing that is locked has changed" not in first.task_log
    assert "nothing that is locked has changed" in again.task_log
    port = rig.lay_out(list(rig.controller.droplets.values())[-1]).start("ruby")
    assert fetch(port)[2] == b"from the gem"


def make_gem(folder: Path) -> bytes:
    import subprocess

    subprocess.run(
        ["ruby", "-S", "gem", "build", "-q", "tiny.gemspec"], cwd=folder, check=True, capture_output=True
    )
    return (folder / "tiny-1.0.gem").read_bytes()


def test_php_packages_must_come_with_the_application(rig: Rig) -> None:
    reply = rig.stage(
        zipped(APPS / "php", **{"composer.json": '{"require": {"php": ">=8", "monolog/monolog": "^3"}}'})
    )
    assert reply.error is not None
    assert "composer.json requires monolog/monolog" in reply.error
    assert "push vendor/" in reply.error


def database(name: str, label: str) -> dict[str, object]:
    return {
        "name": name,
        "label": label,
        "credentials": {"password": "not-in-a-droplet"},
        "tags": [],
        "plan": "free",
    }


def test_rails_is_told_its_database_without_its_password(rig: Rig) -> None:
    services = [database("orders", "postgresql-15"), database("cache", "redis-7")]
    droplet = rig.droplet("rails", "rails3", services=services)
    written = droplet.read("app/config/database.yml")
    assert "adapter: postgresql" in written
    assert "not-in-a-droplet" not in written
    assert "db:migrate" in droplet.read("startup")


def test_rails_with_two_databases_wants_to_know_which(rig: Rig) -> None:
    package = zipped(APPS / "rails")
    two = [database("orders", "postgresql-15"), database("users", "mysql-8")]
    reply = rig.stage(package, "rails3", services=two)
    assert reply.error is not None
    assert "2 databases are bound (orders, users)" in reply.error
    marked = [database("orders-production", "postgresql-15"), database("users", "mysql-8")]
    assert rig.stage(package, "rails3", services=marked).error is None
