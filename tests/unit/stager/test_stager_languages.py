"""What the plugins for Ruby, Java and PHP decide, without their tools."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from components.common.frameworks import RUNTIMES, find_runtime
from components.stager.depcache import KEEP, Kept
from components.stager.errors import StagingError
from components.stager.frameworks.java import _same_dates, speaks_javax, web_xml
from components.stager.frameworks.php import check_packages, root_of, settings
from components.stager.frameworks.python import is_locked
from components.stager.frameworks.rails_database import choose_database, database_yml
from components.stager.frameworks.ruby import sinatra_main
from components.stager.frameworks.standalone import main_jar
from components.stager.plugin import BuildTools, Context, Service
from components.stager.sandbox import bound
from components.stager.startup import commands

PG, MYSQL, REDIS = (
    Service("orders", "postgresql-15"),
    Service("users", "mysql-5.1"),
    Service("hits", "redis-7"),
)


@pytest.mark.parametrize(
    ("services", "chosen"),
    [
        ([], None),
        ([REDIS], None),
        ([REDIS, PG], "orders"),
        ([PG, Service("users-prod", "mysql-8")], "users-prod"),
        ([PG, Service("production", "postgresql-9.0"), REDIS], "production"),
    ],
)
def test_the_database_of_a_rails_application(services: list[Service], chosen: str | None) -> None:
    found = choose_database(services, "")
    assert (found.name if found else None) == chosen


@pytest.mark.parametrize(
    "services", [[PG, MYSQL], [Service("a-prod", "mysql-8"), Service("b_production", "postgresql-15")]]
)
def test_databases_that_do_not_say_which_is_for_production_end_the_staging(services: list[Service]) -> None:
    with pytest.raises(StagingError, match="2 databases are bound") as refused:
        choose_database(services, "")
    assert "`production` or `prod`" in refused.value.remedy


def test_an_application_may_configure_itself() -> None:
    assert choose_database([PG, MYSQL], "# ours\nautoconfig: false\n") is None


def test_database_yml_says_what_rails_reads_and_no_credentials() -> None:
    written = database_yml(Service('a"#{x}-prod', "mysql-8"))
    assert "  adapter: mysql2\n" in written
    assert "ENV.fetch('VCAP_SERVICES'" in written
    assert r"a\"\#{x}-prod" in written


def test_credentials_do_not_come_into_a_build() -> None:
    told = bound([{"name": "orders", "label": "postgresql-15", "credentials": {"password": "x"}}, "odd"])
    assert told == (PG,)
    assert bound(None) == ()


def wrapper(name: str, folder: Path, application: str | None) -> list[str]:
    """Run the script that stands for `java` with echo as the interpreter; gives the arguments that it would get."""
    script = folder / name
    script.write_text(commands(find_runtime(name))[name])
    script.chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "INGOT_RUNTIME": "/bin/echo",
        "TMPDIR": "/t",
        "JAVA_OPTS": "-Done",
    }
    if application is not None:
        environment["VCAP_APPLICATION"] = application
    done = subprocess.run(
        [script, "-jar", "a b.jar"], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_heap_follows_from_the_instances_limit(tmp_path: Path, separators: tuple[str, str]) -> None:
    application = json.dumps({"limits": {"fds": 256, "mem": 512 << 20}}, separators=separators)
    told = wrapper("java", tmp_path, application)
    assert told[0] == "-Xmx320m"
    # What the command itself says comes last, so that it wins.
    assert told[-5:] == ["-Djava.io.tmpdir=/t", "-Done", "-jar", "a", "b.jar"]


def test_without_a_limit_the_heap_is_javas_own_choice(tmp_path: Path) -> None:
    assert not [word for word in wrapper("java", tmp_path, None) if word.startswith("-Xmx")]


def test_without_a_runtime_each_interpreter_is_called_by_its_name() -> None:
    names = commands(None)
    assert set(names) == {c for r in RUNTIMES for c in r.commands}
    assert "exec /usr/bin/ruby" in names["ruby"]
    assert "-Xmx" in names["java"]


def war(root: Path, **classes: bytes) -> Path:
    (root / "WEB-INF" / "classes").mkdir(parents=True)
    for name, content in classes.items():
        (root / "WEB-INF" / "classes" / f"{name}.class").write_bytes(content)
    return root


def test_which_servlets_a_war_speaks(tmp_path: Path) -> None:
    assert speaks_javax(war(tmp_path / "a", A=b"Ljavax/servlet/http/HttpServlet;"))
    assert not speaks_javax(war(tmp_path / "b", A=b"Ljakarta/servlet/http/HttpServlet;", B=b"javax/servlet"))
    assert not speaks_javax(war(tmp_path / "c", A=b"nothing"))
    page = war(tmp_path / "d")
    (page / "index.jsp").write_text('<%@ page import="javax.servlet.http.*" %>')
    assert speaks_javax(page)
    by_library = war(tmp_path / "e")
    (by_library / "WEB-INF" / "lib").mkdir()
    with zipfile.ZipFile(by_library / "WEB-INF" / "lib" / "x.jar", "w") as jar:
        jar.writestr("org/X.class", b"javax/servlet/Filter")
    assert speaks_javax(by_library)
    with zipfile.ZipFile(by_library / "WEB-INF" / "lib" / "x.jar", "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr("org/X.class", bytes(5 << 20))
    with pytest.raises(StagingError, match=r"org/X\.class in x\.jar is too long"):
        speaks_javax(by_library)
    (by_library / "WEB-INF" / "lib" / "x.jar").write_bytes(b"no jar")
    with pytest.raises(StagingError, match=r"x\.jar is not a sound jar"):
        speaks_javax(by_library)


def test_a_converted_jar_is_the_same_whenever_it_was_converted(tmp_path: Path) -> None:
    made = []
    for number, year in enumerate((2001, 2020)):
        path = tmp_path / f"{number}.jar"
        with zipfile.ZipFile(path, "w") as jar:
            jar.writestr(zipfile.ZipInfo("a/", (year, 1, 1, 0, 0, 0)), b"")
            jar.writestr(zipfile.ZipInfo("a/b", (year, 1, 1, 0, 0, 0)), b"text")
        _same_dates(path)
        made.append(path.read_bytes())
        with zipfile.ZipFile(path) as jar:
            assert jar.read("a/b") == b"text"
    assert made[0] == made[1]


def test_types_of_files_are_the_same_on_every_machine() -> None:
    assert "<extension>css</extension><mime-type>text/css</mime-type>" in web_xml()


def jar_of(path: Path, manifest: str) -> None:
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", manifest)


def test_the_only_jar_that_can_be_run(tmp_path: Path) -> None:
    jar_of(tmp_path / "a.jar", "Manifest-Version: 1.0\r\nMain-Class: X\r\n")
    assert main_jar(tmp_path) == "a.jar"
    jar_of(tmp_path / "b.jar", "Manifest-Version: 1.0\r\nMain-Class: X\r\n")
    assert main_jar(tmp_path) is None
    (tmp_path / "b.jar").unlink()
    jar_of(tmp_path / "a.jar", "Manifest-Version: 1.0\r\nX-Main-Class: X\r\n")
    assert main_jar(tmp_path) is None


def test_php_serves_public_unless_there_is_an_index_above(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "index.php").touch()
    assert root_of(tmp_path) == "public"
    assert 'DocumentRoot "${INGOT_APP}/public"' in settings("public")
    (tmp_path / "index.php").touch()
    assert root_of(tmp_path) == "."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"require": {"a/b": "1"}}', "composer.json requires a/b"),
        ("{", "composer.json is not JSON"),
        ('{"require": {"php": ">=8", "ext-json": "*"}}', None),
        ("[]", None),
        ('{"require": null}', None),
    ],
)
def test_php_packages_come_with_the_application(tmp_path: Path, text: str, says: str | None) -> None:
    (tmp_path / "composer.json").write_text(text)
    if says is None:
        check_packages(tmp_path)
        return
    with pytest.raises(StagingError) as refused:
        check_packages(tmp_path)
    assert says in refused.value.reason


def test_sinatras_main_file_is_the_first_that_requires_it(tmp_path: Path) -> None:
    (tmp_path / "a.rb").write_text("# require 'sinatra'\n")
    (tmp_path / "b.rb").write_text('require "sinatra"\n')
    (tmp_path / "c.rb").write_text("require 'sinatra'\n")
    assert sinatra_main(tmp_path) == "b.rb"


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        ("flask==3.1.3\n# why\ngunicorn[gthread] == 25.1.0 ; python_version > '3'\n", True),
        ("flask==3.1.3 \\\n    --hash=sha256:ab\n", True),
        ("flask\n", False),
        ("flask==3.*\n", False),
        ("flask==3.1.3\n-r other.txt\n", False),
        ("./own\n", False),
        ("", False),
    ],
)
def test_only_requirements_of_one_version_each_are_a_lock(text: str, locked: bool) -> None:
    assert is_locked(text) is locked


def test_what_was_installed_is_kept_by_its_lock_and_not_for_ever(tmp_path: Path) -> None:
    told: list[str] = []
    context = Context(tmp_path, tmp_path / "cache", None, {}, BuildTools(), lambda _line: None, told.append)
    lock, made = tmp_path / "lock", tmp_path / "made"
    made.mkdir()
    (made / "tool").write_text("x")
    (made / "tool").chmod(0o755)
    (made / "link").symlink_to("tool")
    for number in range(KEEP + 2):
        lock.write_text(str(number))
        kept = Kept.of(context, "npm", [lock])
        assert not kept.restore(tmp_path / "nowhere")
        kept.keep(made)
        os.utime(kept.archive, (number, number))
    assert len(list((tmp_path / "cache" / "installed").iterdir())) == KEEP
    assert Kept.of(context, "npm", [lock]).restore(tmp_path / "again")
    assert (tmp_path / "again" / "tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "again" / "link").readlink() == Path("tool")
    assert len(told) == 1
    assert Kept.of(context, "npm", [lock], "other version").archive != Kept.of(context, "npm", [lock]).archive
    kept.archive.write_bytes(b"damaged")
    assert not kept.restore(tmp_path / "third")
    assert not kept.archive.exists()
