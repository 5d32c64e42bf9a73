"""The frameworks and runtimes of the platform, with their names and aliases (protocol 7.1).

Pure tables. The controller checks `staging.framework` and `staging.runtime` against them and shows them under `/info`;
the stager's plugins build applications of these kinds; a DEA finds the interpreter that stands for `%VCAP_LOCAL_RUNTIME%` here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.common.errors import IngotError

UNKNOWN = "unknown"
# The name that clients of 2011 send where the user named no framework; the stager then detects it.
_UNKNOWN_NAMES = frozenset({"", UNKNOWN, "http://b20nine.com/unknown"})


class InvalidFrameworkError(IngotError):
    """A framework or runtime that does not exist, or two that do not fit; the text lists those that do."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """An interpreter on the DEAs.

    `version` is the lowest offered; `executable` the interpreter's path on Debian; `version_pattern` what
    `executable version_flag` must print; `environment` what the application gets unless the user sets it;
    `commands` the names under which a start command may call the interpreter. The interpreter then gets `options`, and after
    `heap_option` the part of the instance's memory that its heap may take, before the command's own arguments.
    """

    name: str
    version: str
    description: str
    executable: str
    aliases: tuple[str, ...]
    version_flag: str = "--version"
    version_pattern: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    heap_option: str = ""


@dataclass(frozen=True, slots=True)
class Framework:
    """A kind of application.

    `runtimes` in order of preference; `default_runtime` None means the user names one. `detection` is protocol 7.1's:
    file glob to True (is there), False (is not there) or a regular expression (some such file matches); all must hold.
    `looks_for` says the same to a person. `known_to_vmc`: `vmc` 0.3.17 crashes on a model that its own table lacks.
    """

    name: str
    description: str
    runtimes: tuple[str, ...]
    default_runtime: str | None
    detection: tuple[tuple[str, bool | str], ...]
    looks_for: str
    servers: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    known_to_vmc: bool = True


RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        name="python3",
        version="3",
        description="Python 3",
        executable="/usr/bin/python3",
        aliases=("python", "python2", "python26", "python27"),
        version_pattern=r"Python 3\.",
        environment=(("PYTHONUNBUFFERED", "1"),),
        commands=("python", "python3"),
    ),
    Runtime(
        name="node",
        version="18",
        description="Node.js",
        executable="/usr/bin/node",
        aliases=("nodejs", "node04", "node06", "node08"),
        version_pattern=r"v(1[89]|[2-9]\d)\.",
        environment=(("NODE_ENV", "production"),),
        commands=("node", "nodejs"),
    ),
    Runtime(
        name="ruby",
        version="3.1",
        description="Ruby",
        executable="/usr/bin/ruby",
        aliases=("ruby18", "ruby19", "ruby192", "ruby193", "ruby3"),
        version_pattern=r"ruby 3\.",
        environment=(("RACK_ENV", "production"), ("RAILS_ENV", "production")),
        commands=("ruby",),
    ),
    Runtime(
        name="java",
        version="17",
        description="Java",
        executable="/usr/bin/java",
        aliases=("java6", "java7", "java8", "java17", "java21"),
        version_pattern=r"openjdk (1[7-9]|[2-9]\d)",
        commands=("java",),
        heap_option="-Xmx",
        options=("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Xss512k"),
    ),
    Runtime(
        name="php",
        version="8.2",
        description="PHP",
        executable="/usr/bin/php",
        aliases=("php5", "php53", "php8"),
        version_pattern=r"PHP [89]\.",
        commands=("php",),
    ),
)

# In the order in which a stager tries them on an application that names none.
FRAMEWORKS: tuple[Framework, ...] = (
    Framework(
        name="java_web",
        description="Java web application",
        runtimes=("java",),
        default_runtime="java",
        detection=(("*.war", True),),
        looks_for="one *.war, or an unpacked one with WEB-INF/",
        servers=(("tomcat", "Tomcat"),),
        aliases=("java_web/1.0", "spring", "spring_web/1.0", "grails", "grails/1.0", "lift", "lift/1.0"),
    ),
    Framework(
        name="rails3",
        description="Ruby on Rails",
        runtimes=("ruby",),
        default_runtime="ruby",
        detection=(("config/application.rb", True), ("config/environment.rb", True)),
        looks_for="config/application.rb and config/environment.rb",
        servers=(("puma", "Puma"),),
        aliases=("rails", "rails/1.0"),
    ),
    Framework(
        name="rack",
        description="Rack",
        runtimes=("ruby",),
        default_runtime="ruby",
        detection=(("config.ru", True), ("config/environment.rb", False)),
        looks_for="config.ru",
        servers=(("puma", "Puma"),),
    ),
    Framework(
        name="sinatra",
        description="Sinatra",
        runtimes=("ruby",),
        default_runtime="ruby",
        detection=(("*.rb", r"require\s*\(?\s*['\"]sinatra"), ("config/environment.rb", False)),
        looks_for="a *.rb that requires sinatra",
        servers=(("puma", "Puma"),),
    ),
    Framework(
        name="django",
        description="Django",
        runtimes=("python3",),
        default_runtime="python3",
        detection=(("manage.py", True),),
        looks_for="manage.py and a project package with wsgi.py, or a Procfile with a line `web: COMMAND`",
        servers=(("gunicorn", "Gunicorn"),),
    ),
    Framework(
        name="wsgi",
        description="Python WSGI",
        runtimes=("python3",),
        default_runtime="python3",
        detection=(("*.py", r"\b(app|application)\b"),),
        looks_for="a Procfile with a line `web: COMMAND` beside Python files, or wsgi.py or app.py that defines `application` or `app`",
        servers=(("gunicorn", "Gunicorn"),),
        aliases=("flask",),
    ),
    Framework(
        name="php",
        description="PHP",
        runtimes=("php",),
        default_runtime="php",
        detection=(("*.php", True),),
        looks_for="*.php at the top, or public/index.php",
        servers=(("apache", "Apache"),),
    ),
    Framework(
        name="node",
        description="Node.js",
        runtimes=("node",),
        default_runtime="node",
        detection=(("*.js", True),),
        looks_for="package.json, or a main file: the only *.js, else server.js, app.js, index.js, main.js or application.js",
        aliases=("nodejs", "nodejs/1.0"),
    ),
    Framework(
        name="standalone",
        description="Any command",
        runtimes=("python3", "node", "ruby", "java", "php"),
        default_runtime=None,
        detection=(),
        looks_for="a start command (`command`), a Procfile with a line `web: COMMAND`, or one *.jar that can be run",
    ),
    Framework(
        name="static",
        description="Static pages",
        runtimes=("python3",),
        default_runtime="python3",
        detection=(("index.html", True),),
        looks_for="index.html at the top or in public/",
        aliases=("static_site", "staticfile"),
        known_to_vmc=False,
    ),
)

_RUNTIME_BY_NAME = {name: r for r in RUNTIMES for name in (r.name, *r.aliases)}
_FRAMEWORK_BY_NAME = {name: f for f in FRAMEWORKS for name in (f.name, *f.aliases)}


def find_framework(name: str | None) -> Framework | None:
    """Return a framework by its name or an alias; None for the names that mean "not named" (the stager detects it).

    Raises:
        InvalidFrameworkError: there is none of that name; lists those there are.
    """
    key = (name or "").strip().lower()
    if key in _UNKNOWN_NAMES:
        return None
    if key not in _FRAMEWORK_BY_NAME:
        raise InvalidFrameworkError(f"framework {name!r} is not known; known are {describe()}")
    return _FRAMEWORK_BY_NAME[key]


def find_runtime(name: str) -> Runtime:
    """Return a runtime by its name or an alias.

    Raises:
        InvalidFrameworkError: there is none of that name; lists those there are.
    """
    key = name.strip().lower()
    if key not in _RUNTIME_BY_NAME:
        known = ", ".join(r.name for r in RUNTIMES)
        raise InvalidFrameworkError(f"runtime {name!r} is not known; known are {known}")
    return _RUNTIME_BY_NAME[key]


def resolve(framework: str | None, runtime: str | None) -> tuple[Framework | None, Runtime | None]:
    """Resolve the names that a user gave to a framework and a runtime.

    Args:
        framework: a name, an alias, or None or `unknown` to have it detected.
        runtime: a name, an alias, or None for the framework's default.

    Returns:
        Both; a framework of None is to be detected; a runtime of None goes with it, or with a framework that has no
        default (standalone: the command finds its own interpreter).

    Raises:
        InvalidFrameworkError: one is unknown, or they do not go together.
    """
    kind = find_framework(framework)
    chosen = find_runtime(runtime) if runtime else None
    if kind is None:
        return None, chosen
    if chosen is None:
        return kind, find_runtime(kind.default_runtime) if kind.default_runtime else None
    if chosen.name not in kind.runtimes:
        raise InvalidFrameworkError(
            f"framework {kind.name} does not run on {chosen.name}; it runs on {', '.join(kind.runtimes)}"
        )
    return kind, chosen


def describe(frameworks: Iterable[Framework] = FRAMEWORKS) -> str:
    """List frameworks with the files that each looks for, for an error's text."""
    return "; ".join(f"{f.name} ({f.looks_for})" for f in frameworks)


def offered(said: Iterable[tuple[Iterable[str], Mapping[str, str]]]) -> dict[str, str] | None:
    """Return the runtimes that DEAs offer, name to version; the lowest version where they differ.

    Args:
        said: per DEA its runtimes' names and the versions it reported.

    Returns:
        None where no DEA is known or one did not report its versions: then no runtime can be ruled out.
    """
    found: dict[str, str] = {}
    nobody = True
    for names, versions in said:
        nobody = False
        known = {_RUNTIME_BY_NAME[n].name for n in names if n in _RUNTIME_BY_NAME}
        if not known and not list(names):
            return None
        for name in known:
            version = versions.get(name, _RUNTIME_BY_NAME[name].version)
            found[name] = min(found.get(name, version), version, key=_comparable)
    return None if nobody else found


def check_offered(runtime: str, versions: Mapping[str, str] | None) -> None:
    """Refuse a runtime that no DEA has.

    Args:
        runtime: its name without aliases; empty for none in particular.
        versions: see `offered`.

    Raises:
        InvalidFrameworkError: lists those that are there.
    """
    if runtime and versions is not None and runtime not in versions:
        there = ", ".join(f"{n} {versions[n]}" for n in sorted(versions)) or "none"
        raise InvalidFrameworkError(f"no DEA of this platform has the runtime {runtime}; there are: {there}")


def info_frameworks(versions: Mapping[str, str] | None = None) -> dict[str, dict[str, object]]:
    """Return the `frameworks` member of `/info` (protocol 1.5): those that some DEA can run.

    Args:
        versions: see `offered`; None shows the whole table with its lowest versions.
    """
    return {
        f.name: {
            "name": f.name,
            "runtimes": [_info_runtime(r, versions) for r in _offered_of(f.runtimes, versions)],
            "appservers": [{"name": name, "description": text} for name, text in f.servers],
            "detection": [{glob: rule} for glob, rule in f.detection],
        }
        for f in FRAMEWORKS
        if _offered_of(f.runtimes, versions)
    }


def info_runtimes(versions: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
    """Return the body of `/info/runtimes` (protocol 1.5); `versions` as for `info_frameworks`."""
    names = [r.name for r in RUNTIMES]
    return {r.name: {"version": _info_runtime(r, versions)["version"]} for r in _offered_of(names, versions)}


def _offered_of(names: Iterable[str], versions: Mapping[str, str] | None) -> list[Runtime]:
    return [_RUNTIME_BY_NAME[n] for n in names if versions is None or n in versions]


def _info_runtime(runtime: Runtime, versions: Mapping[str, str] | None) -> dict[str, str]:
    version = (versions or {}).get(runtime.name, runtime.version)
    return {"name": runtime.name, "version": version, "description": runtime.description}


def _comparable(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
