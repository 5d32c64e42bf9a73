"""Python: installs an application's requirements and starts it under Gunicorn, unless its Procfile has a command."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

from components.stager.depcache import Kept
from components.stager.errors import StagingError
from components.stager.plugin import Context, Detection
from components.stager.procfile import given_command, own_command, web_command
from components.stager.reading import content, text
from components.stager.startup import OWN, Start

PACKAGES = f"{OWN}/python"
_MODULES = ("wsgi", "app")
_CALLABLES = ("application", "app")
_SERVER = "gunicorn"
_CONTROL_SOCKET_SINCE = 25
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[^\]]*\])?\s*==\s*[A-Za-z0-9.!+_-]+\s*(;.*)?(\s--hash=\S+)*\s*$")
_GUNICORN_SCRIPT = "gunicorn_script.py"


class Wsgi:
    """An application with a Procfile, or with a WSGI callable in wsgi.py or app.py."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        if any(source.glob("*.py")):
            if given_command(meta):
                return Detection(True, "a start command was given")
            if web_command(source):
                return Detection(True, "Procfile names its command")
        target = wsgi_target(source)
        if target:
            return Detection(True, f"{target.split(':')[0]}.py defines {target.split(':')[1]}")
        return Detection(False, "it has no Procfile and no wsgi.py or app.py that defines application or app")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        return compile_python(context, wsgi_target(context.app))


class Django:
    """A Django project: manage.py, and a package that holds wsgi.py."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        if not (source / "manage.py").is_file():
            return Detection(False, "it has no manage.py")
        if given_command(meta):
            return Detection(True, "manage.py and a start command")
        if web_command(source):
            return Detection(True, "manage.py and Procfile")
        target = django_target(source)
        if target:
            return Detection(True, f"manage.py and {target.split(':')[0]}")
        return Detection(False, "no package beside manage.py holds a wsgi.py that defines application")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        return compile_python(context, django_target(context.app))


def wsgi_target(source: Path) -> str | None:
    """Return the callable at the top of wsgi.py or app.py, as `module:name`; nothing is executed."""
    for module in _MODULES:
        names = top_names(source / f"{module}.py")
        for name in _CALLABLES:
            if name in names:
                return f"{module}:{name}"
    return None


def django_target(source: Path) -> str | None:
    """Return the callable of a Django project, as `package.wsgi:application`."""
    for path in sorted(source.glob("*/wsgi.py")):
        if "application" in top_names(path):
            return f"{path.parent.name}.wsgi:application"
    return None


def top_names(path: Path) -> set[str]:
    """Return the names that a Python file defines or imports at its top level, also inside `if` and `try`."""
    try:
        tree = ast.parse(content(path, "detect"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Assign():
                names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= {(a.asname or a.name).split(".")[0] for a in node.names}
            case ast.If() | ast.With():
                pending += [*node.body, *getattr(node, "orelse", [])]
            case ast.Try():
                pending += [*node.body, *(s for h in node.handlers for s in h.body), *node.orelse]
            case _:
                pass
    return names


def compile_python(context: Context, target: str | None) -> Start:
    """Install requirements into the droplet and return the start.

    Args:
        context: the build.
        target: the WSGI callable; needed where no command is given and no Procfile names one.

    Raises:
        StagingError: pip failed, or there is nothing to start.
    """
    install_requirements(context)
    command = own_command(context.app, context.meta)
    if command is None:
        if target is None:
            raise StagingError(
                "compile", "no WSGI callable was found", "Define `application` in wsgi.py or add a Procfile."
            )
        command = _gunicorn(target, _add_server(context, context.app / PACKAGES))
    elif _SERVER in command.split():
        _add_server(context, context.app / PACKAGES)
    return finish(context, command)


def install_requirements(context: Context) -> None:
    """Install requirements.txt, if it exists, into the droplet.

    Raises:
        StagingError: pip failed.
    """
    packages = context.app / PACKAGES
    packages.mkdir(parents=True, exist_ok=True)
    requirements = context.app / "requirements.txt"
    if not requirements.is_file():
        context.say("no requirements.txt: nothing to install")
        return
    kept = None
    if is_locked(text(requirements)):
        version = context.ask([context.tools.python, "--version"])
        kept = Kept.of(context, "pip", [requirements], version, *context.tools.pip_extra_args)
    if kept is None or not kept.restore(packages):
        _install(context, packages)
        if kept is not None:
            kept.keep(packages)
    for name, version in sorted({(d.name.lower(), d.version) for d in distributions(path=[str(packages)])}):
        context.say(f"installed {name} {version}")


def is_locked(requirements: str) -> bool:
    """Return whether every requirement is one version of a package by name, so that equal text means equal packages."""
    lines = [line.partition(" #")[0].strip() for line in requirements.replace("\\\n", " ").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    return bool(wanted) and all(_PINNED.match(line) for line in wanted)


def finish(context: Context, command: str) -> Start:
    """Make the installation independent of this machine, compile it, and return the start."""
    packages = context.app / PACKAGES
    _make_relocatable(packages / "bin")
    _load_first(packages / "bin" / _SERVER)
    _compile_bytecode(context, packages)
    return Start(command=command, path=(f"{PACKAGES}/bin",), prepend={"PYTHONPATH": PACKAGES})


def _install(context: Context, packages: Path) -> None:
    vendored = (context.app / "vendor").is_dir() and any(
        p.suffix in (".whl", ".gz", ".zip") for p in (context.app / "vendor").iterdir()
    )
    source = ["--no-index", "--find-links", "vendor"] if vendored else []
    context.say("installing requirements.txt" + (" from vendor/" if vendored else ""))
    context.run(
        [
            *[context.tools.python, "-m", "pip", "install", "--requirement", "requirements.txt"],
            *["--target", str(packages), "--no-compile", "--no-input", "--no-color", "--progress-bar", "off"],
            *[
                "--disable-pip-version-check",
                "--root-user-action=ignore",
                "--no-warn-script-location",
                "--cache-dir",
                str(context.cache / "pip"),
            ],
            *source,
            *context.tools.pip_extra_args,
        ],
        "Every line of requirements.txt must name a package and a version that this platform's index has"
        + (
            ", and vendor/ must hold them all with their own requirements."
            if vendored
            else "; or ship wheels in vendor/."
        ),
    )


def _add_server(context: Context, packages: Path) -> str:
    """Put Gunicorn into the droplet unless the application brought its own; return its version."""
    present = {d.name.lower(): d.version for d in distributions(path=[str(packages)])}
    if _SERVER in present:
        return present[_SERVER]
    try:
        own = distribution(_SERVER)
        # Pure Python, with all its requirements: the stager's own copies run on any Python 3.
        for part in (own, *(distribution(name) for name in _needs(own) if name not in present)):
            _copy_distribution(part, packages)
    except PackageNotFoundError as error:
        raise StagingError(
            "compile", f"the stager's release lacks {error.name}", "Name gunicorn in requirements.txt."
        ) from error
    (packages / "bin").mkdir(exist_ok=True)
    (packages / "bin" / _SERVER).touch()
    context.say(f"added {_SERVER} {own.version}")
    return own.version


def _needs(own: Distribution) -> list[str]:
    """Return the packages that a distribution always needs, without versions and extras."""
    always = [r for r in own.requires or () if ";" not in r]
    return [match.group().lower() for r in always if (match := _NAME.match(r))]


def _copy_distribution(own: Distribution, packages: Path) -> None:
    for file in own.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), target)


def _gunicorn(target: str, version: str) -> str:
    # From version 25 on it opens a control socket in the home folder, which is not used here.
    major = version.split(".", maxsplit=1)[0]
    quiet = " --no-control-socket" if major.isdigit() and int(major) >= _CONTROL_SOCKET_SINCE else ""
    return (
        f"exec gunicorn --bind 0.0.0.0:$VCAP_APP_PORT --worker-class gthread --threads 8"
        f" --keep-alive 75 --forwarded-allow-ips '*'{quiet} {target}"
    )


def _make_relocatable(scripts: Path) -> None:
    """Make installed scripts find their interpreter on PATH: the DEA's may lie elsewhere."""
    for script in sorted(scripts.iterdir()) if scripts.is_dir() else ():
        first, newline, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            script.write_bytes(b"#!/usr/bin/env python3" + newline + rest)


def _load_first(script: Path) -> None:
    """Make the command `gunicorn`, of the platform or the application, load the application before it listens."""
    if script.exists():
        program = Path(__file__).with_name(_GUNICORN_SCRIPT).read_text(encoding="utf-8")
        script.write_text(f"#!/usr/bin/env python3\n{program}", encoding="utf-8")
        script.chmod(0o755)


def _compile_bytecode(context: Context, packages: Path) -> None:
    """Compile the installed packages here instead of at every start; unchecked, because a droplet has one date."""
    context.run(
        [
            *[context.tools.python, "-c", _COMPILE, str(packages), PACKAGES],
        ],
        "A package cannot be compiled.",
        {"PYTHONHASHSEED": "0"},
    )


# A file for another Python version inside a package is no failure.
_COMPILE = (
    "import compileall, py_compile, sys; "
    "compileall.compile_dir(sys.argv[1], quiet=2, stripdir=sys.argv[1], prependdir=sys.argv[2], "
    "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
)
