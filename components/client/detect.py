"""The detection of a folder's framework. Pure: it takes names and a reader, and returns a framework's name.

First our own rules, as the stager has them; then, for frameworks these do not know, the platform's `detection`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from components.client.errors import PackageError

Read = Callable[[str], str]
_NODE_MAIN = ("server.js", "app.js", "index.js", "main.js", "application.js")
_WEB = re.compile(r"^web[ \t]*:[ \t]*\S", re.MULTILINE)
_WSGI = re.compile(r"\b(app|application)\b")


_SINATRA = re.compile(r"""^\s*require\s*\(?\s*['"]sinatra(/base)?['"]""", re.MULTILINE)


def _java_web(names: Collection[str], _read: Read) -> bool:
    if any(name.startswith("WEB-INF/") for name in names):
        return True
    return len([name for name in _top(names) if name.endswith(".war")]) == 1


def _rails(names: Collection[str], _read: Read) -> bool:
    return "config/environment.rb" in names and "config/application.rb" in names


def _rack(names: Collection[str], _read: Read) -> bool:
    return "config.ru" in names


def _sinatra(names: Collection[str], read: Read) -> bool:
    return any(name.endswith(".rb") and _SINATRA.search(read(name)) for name in _top(names))


def _php(names: Collection[str], _read: Read) -> bool:
    return "public/index.php" in names or any(name.endswith(".php") for name in _top(names))


def _django(names: Collection[str], _read: Read) -> bool:
    return "manage.py" in names


def _wsgi(names: Collection[str], read: Read) -> bool:
    if _web(names, read):
        return "package.json" not in names and any(name.endswith(".py") for name in _top(names))
    return any(name in names and _WSGI.search(read(name)) for name in ("wsgi.py", "app.py"))


def _node(names: Collection[str], _read: Read) -> bool:
    if "package.json" in names or any(name in names for name in _NODE_MAIN):
        return True
    scripts = [name for name in _top(names) if name.endswith(".js")]
    return len(scripts) == 1 and "index.html" not in names


def _static(names: Collection[str], _read: Read) -> bool:
    return "index.html" in names or "public/index.html" in names


def _standalone(names: Collection[str], read: Read) -> bool:
    return _web(names, read) or len([name for name in _top(names) if name.endswith(".jar")]) == 1


# The order is the stager's and decides where a folder fits several: frameworks that serve pages by themselves come
# last.
_RULES: tuple[tuple[str, Callable[[Collection[str], Read], bool]], ...] = (
    ("java_web", _java_web),
    ("rails3", _rails),
    ("rack", _rack),
    ("sinatra", _sinatra),
    ("django", _django),
    ("wsgi", _wsgi),
    ("php", _php),
    ("node", _node),
    ("standalone", _standalone),
    ("static", _static),
)


def detect(names: Collection[str], read: Read, offered: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the framework of a folder.

    Args:
        names: its files, relative, with `/`.
        read: returns a file's text.
        offered: the platform's `frameworks` (`GET /info`): name → `detection` and more.

    Raises:
        PackageError: none fits.
    """
    for name, fits in _RULES:
        if name in offered and fits(names, read):
            return name
    ours = {name for name, _ in _RULES}
    for name, facts in offered.items():
        if name not in ours and _matches(facts.get("detection") or [], names, read):
            return name
    known = ", ".join(sorted(offered)) or "none: you may not be logged in"
    raise PackageError(
        f"no framework is recognised in this folder; the platform offers {known}",
        "name it with --framework NAME, or give a start command with --command (or a Procfile with a line `web: COMMAND`)",
    )


def _matches(detection: Collection[Mapping[str, bool | str]], names: Collection[str], read: Read) -> bool:
    """Return whether a `detection` list (protocol 1.5) holds: glob → is there, is not there, or has a pattern; all must."""
    rules = [(glob, rule) for item in detection for glob, rule in item.items()]
    return bool(rules) and all(_holds(glob, rule, names, read) for glob, rule in rules)


def _holds(glob: str, rule: bool | str, names: Collection[str], read: Read) -> bool:
    hits = [name for name in names if fnmatchcase(name, glob) and name.count("/") == glob.count("/")]
    if isinstance(rule, bool):
        return bool(hits) is rule
    try:
        return any(re.search(rule, read(name)) for name in hits)
    except re.error:
        return False


def _web(names: Collection[str], read: Read) -> bool:
    return "Procfile" in names and bool(_WEB.search(read("Procfile")))


def _top(names: Collection[str]) -> list[str]:
    return [name for name in names if "/" not in name]
