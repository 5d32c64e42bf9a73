"""Ruby: Rack, Sinatra and Rails under Puma, with an application's own gems or Debian's.

Without a Gemfile an application uses what Debian's Ruby has (rack, sinatra, puma, railties, ...: the same packages are on
the DEAs). With one, gems come from `vendor/bundle` (used as it is), `vendor/cache`, this platform's index of gems, or
Debian's packages, in this order.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.stager.depcache import Kept
from components.stager.errors import StagingError
from components.stager.frameworks.rails_database import choose_database, database_yml
from components.stager.plugin import Context, Detection
from components.stager.procfile import own_command
from components.stager.reading import text
from components.stager.startup import OWN, Start

_SINATRA = re.compile(r"""^\s*require\s*\(?\s*['"]sinatra(/base)?['"]""", re.MULTILINE)
_CLASSIC = re.compile(r"""^\s*require\s*\(?\s*['"]sinatra['"]""", re.MULTILINE)
_GEM = re.compile(r"^    ([\w.-]+) \(", re.MULTILINE)
_BUNDLE = "vendor/bundle"
# The files in which rubygems records facts that differ between installations.
_NOTES = ("gem_make.out", "mkmf.log")


class Rack:
    """An application with config.ru."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        del meta
        if _is_rails(source):
            return Detection(False, "config/environment.rb makes it a Rails application")
        if (source / "config.ru").is_file():
            return Detection(True, "config.ru")
        return Detection(False, "it has no config.ru")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        return _start(context, install_gems(context), "config.ru")


class Sinatra:
    """A script that requires sinatra."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        del meta
        if _is_rails(source):
            return Detection(False, "config/environment.rb makes it a Rails application")
        main = sinatra_main(source)
        if main:
            return Detection(True, f"{main} requires sinatra")
        return Detection(False, "no *.rb at its top requires sinatra")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        bundled = install_gems(context)
        if (context.app / "config.ru").is_file():
            return _start(context, bundled, "config.ru")
        main = sinatra_main(context.app) or ""
        if not _CLASSIC.search(_read(context.app / main)):
            # A class that runs itself takes its port from PORT.
            return _start(context, bundled, "", f"exec ruby {_exec(bundled)}{shlex.quote(main)}")
        own = context.app / OWN
        own.mkdir(exist_ok=True)
        (own / "config.ru").write_text(
            f"require File.expand_path({('../' + main)!r}, __dir__)\nrun Sinatra::Application\n",
            encoding="utf-8",
        )
        return _start(context, bundled, f"{OWN}/config.ru")


class Rails:
    """A Rails application; the platform writes its database settings when one is bound (protocol 7.4)."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        del meta
        if _is_rails(source):
            return Detection(True, "config/environment.rb")
        return Detection(False, "it has no config/application.rb with config/environment.rb")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        database = choose_database(context.services, _read(context.app / "config" / "cloudfoundry.yml"))
        bundled = install_gems(context)
        before = ""
        if database is not None:
            context.say(f"config/database.yml is written for {database.name}")
            (context.app / "config" / "database.yml").write_text(database_yml(database), encoding="utf-8")
            before = f"ruby {_exec(bundled) or '-S '}rake db:migrate >>../logs/migration.log 2>&1; "
        if not (context.app / "config.ru").is_file() and not own_command(context.app, context.meta):
            raise StagingError(
                "compile",
                "it has no config.ru, which a server needs to start it",
                "`rails new` writes one.",
            )
        return _start(context, bundled, "config.ru", before=before)


def sinatra_main(source: Path) -> str | None:
    """Return the first script at the top that requires sinatra."""
    found = (p.name for p in sorted(source.glob("*.rb")) if _SINATRA.search(_read(p)))
    return next(found, None)


def install_gems(context: Context) -> bool:
    """Install the gems of the Gemfile, or check that the DEAs have them; return False where there is no Gemfile.

    Raises:
        StagingError: a gem is not available.
    """
    if not (context.app / "Gemfile").is_file():
        context.say("no Gemfile: the gems that this platform's Ruby has are used")
        return False
    if (context.app / "vendor" / "bundle").is_dir():
        context.say("vendor/bundle came with the application: used as it is")
        _bundle(
            context, ["check"], "vendor/bundle must hold every gem of Gemfile.lock for this Ruby.", _BUNDLE
        )
    elif (context.app / "vendor" / "cache").is_dir():
        context.say("bundle install from vendor/cache")
        remedy = (
            "vendor/cache must hold every gem of Gemfile.lock (`bundle package`), and none that is compiled."
        )
        _install(context, ["install", "--local"], remedy)
    elif context.tools.gem_index_url:
        context.say("bundle install")
        _install(context, ["install"], "Every gem of the Gemfile must be on this platform's index of gems.")
    else:
        context.say("no vendor/ and no index of gems: only the gems of this platform's Ruby are available")
        _bundle(
            context,
            # Not `install`: some of Debian's gems lack only the folder that it looks for.
            ["check"],
            "This platform has no index of gems: add the gems to vendor/cache (`bundle package`), or use only those of"
            " its Ruby: " + ", ".join(system_gems(context)) + ".",
        )
    gems = _GEM.findall(_read(context.app / "Gemfile.lock"))
    context.say(f"gems: {', '.join(sorted(set(gems)))}")
    return True


def system_gems(context: Context) -> list[str]:
    """Return the gems of Debian's packages, as `name version`."""
    return context.ask(
        [
            context.tools.ruby,
            "-e",
            "puts Gem::Specification.reject(&:default_gem?).map { |s| %(#{s.name} #{s.version}) }.sort",
        ]
    ).splitlines()


def _install(context: Context, arguments: Iterable[str], remedy: str) -> None:
    files = [context.app / name for name in ("Gemfile", "Gemfile.lock")]
    kept = Kept.of(context, "gems", files) if files[1].is_file() else None
    folder = context.app / _BUNDLE
    if kept is None or not kept.restore(folder):
        _bundle(context, arguments, remedy, _BUNDLE)
        for path in sorted(folder.rglob("*")):
            if path.name in _NOTES or (path.parent.name == "cache" and path.suffix == ".gem"):
                path.unlink()
        if kept is not None:
            kept.keep(folder)


def _bundle(context: Context, arguments: Iterable[str], remedy: str, path: str = "") -> None:
    mirror = context.tools.gem_index_url
    context.run(
        [context.tools.ruby, "-S", "bundle", *arguments],
        remedy,
        {
            **bundle_environment(path),
            "BUNDLE_JOBS": "2",
            "BUNDLE_SILENCE_ROOT_WARNING": "true",
            "BUNDLE_USER_HOME": str(context.cache / "bundle"),
            **({"BUNDLE_MIRROR__ALL": mirror} if mirror else {}),
        },
    )


def bundle_environment(path: str = "") -> dict[str, str]:
    """Return Bundler's settings, at staging and when the application runs."""
    return {
        "BUNDLE_APP_CONFIG": f"{OWN}/bundle",
        "BUNDLE_WITHOUT": "development:test",
        **({"BUNDLE_PATH": path} if path else {}),
    }


def _start(context: Context, bundled: bool, rackup: str, command: str = "", *, before: str = "") -> Start:
    command = own_command(context.app, context.meta) or command
    if not command:
        if bundled and "puma" not in _GEM.findall(_read(context.app / "Gemfile.lock")):
            raise StagingError(
                "compile",
                "its Gemfile names no server",
                "Add `gem 'puma'` to it, or name its start command in a Procfile (`web: bundle exec ...`).",
            )
        command = f"exec ruby {_exec(bundled) or '-S '}puma --bind tcp://0.0.0.0:$VCAP_APP_PORT {rackup}"
    path = _BUNDLE if (context.app / _BUNDLE).is_dir() else ""
    return Start(command=before + command, environment=bundle_environment(path) if bundled else {})


def _exec(bundled: bool) -> str:
    return "-S bundle exec " if bundled else ""


def _is_rails(source: Path) -> bool:
    return (source / "config" / "environment.rb").is_file() and (
        source / "config" / "application.rb"
    ).is_file()


def _read(path: Path) -> str:
    try:
        return text(path)
    except OSError:
        return ""
