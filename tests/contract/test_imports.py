"""Who may import whom: the imports themselves are compared with the tables of docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.pages import DOCS, ROOT, code_of, table

PAGE = (DOCS / "architecture.md").read_text()
# Room -> our own packages it may import beside itself.
ALLOWED = {code_of(room)[0]: code_of(may) for room, _holds, may in table(PAGE, "Packages")}
# Library -> the modules, and the folders of modules, that may import it.
IMPORTERS = {
    library: tuple(code_of(by))
    for libraries, by, _why in table(PAGE, "Libraries behind one module")
    for library in code_of(libraries)
}
# Programs that run on every machine or many times, and answer without Flask.
LEAN = (
    "components.dea.main",
    "components.health_manager.main",
    "components.router.main",
    "components.services.redis.gateway",
    "components.services.redis.node",
    "components.stager.main",
    "components.client.main",
)
# The controller's packages and the modules beside them, from the ground up: each imports those before it, and none after.
CONTROLLER = tuple(code_of(part)[0] for part, _holds in reversed(table(PAGE, "Inside the controller")))


def modules() -> list[Path]:
    return sorted(p for room in ("components", "orchestrator") for p in (ROOT / room).rglob("*.py"))


def imports(source: str, package: str) -> set[str]:
    """Every module a file names in an import, wherever it stands; relative ones made absolute."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            # `from components import dea` names a room as well as `from components.dea import x`.
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def wrong(room: str, names: set[str]) -> set[str]:
    own = (room.replace("/", "."), *ALLOWED[room])
    return {n for n in names if within(n, ("components", "orchestrator")) and not within(n, own)}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): bad
        for path in (ROOT / room).rglob("*.py")
        if (bad := wrong(room, imports(path.read_text(), ".".join(path.relative_to(ROOT).parent.parts))))
    }
    assert found == {}


def test_every_module_lies_in_a_room() -> None:
    stray = [
        str(p.relative_to(ROOT))
        for p in modules()
        if p != ROOT / "components/__init__.py" and not any(p.is_relative_to(ROOT / room) for room in ALLOWED)
    ]
    assert stray == []


def above(part: str, names: set[str]) -> set[str]:
    """The names that lie in parts of the controller which stand after this one, or in no part."""
    below = CONTROLLER[: CONTROLLER.index(part)] if part in CONTROLLER else ()
    allowed = tuple(f"components.controller.{p}" for p in (*below, part))
    return {n for n in names if within(n, ("components.controller",)) and not within(n, allowed)}


def controllers() -> dict[str, set[str]]:
    """Every module of the controller with all that it imports."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imports(
            path.read_text(), ".".join(path.relative_to(ROOT).parent.parts)
        )
        for path in (ROOT / "components/controller").rglob("*.py")
    }


def test_no_part_of_the_controller_imports_one_above_it() -> None:
    found = {
        module: bad
        for module, names in controllers().items()
        if module != "components.controller" and (bad := above(module.split(".")[2], names))
    }
    assert found == {}


def test_the_order_names_every_part_of_the_controller() -> None:
    parts = {module.split(".")[2] for module in controllers() if module != "components.controller"}
    assert parts == set(CONTROLLER)
    assert len(CONTROLLER) == len(parts)


def test_modules_of_the_controller_import_each_other_in_no_circle() -> None:
    known = controllers()
    # What is imported is a module, or a name that one has.
    graph = {
        module: {n if n in known else n.rpartition(".")[0] for n in names} & known.keys()
        for module, names in known.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(known)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("apps", "from components.controller.services import rows"),
        ("apps", "def late():\n    from components.controller.api.context import current_worker"),
        ("db", "import components.controller.accounts.auth"),
        ("staging", "from components.controller import lifecycle"),
        ("staging", "from ..lifecycle import changes"),
        ("storage", "from components.controller.attic import rags"),
    ],
)
def test_a_part_above_is_seen_in_every_form_of_import(part: str, source: str) -> None:
    assert above(part, imports(source, f"components.controller.{part}"))


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_library_that_is_kept_behind_one_door(library: str) -> None:
    users = {
        p.relative_to(ROOT)
        for p in modules()
        if any(within(n, (library,)) for n in imports(p.read_text(), ""))
    }
    doors = {by: {user for user in users if user.is_relative_to(by)} for by in IMPORTERS[library]}
    assert users <= set().union(*doors.values())
    # The page names no module that does not import it.
    assert all(doors.values())


def test_daemons_without_flask_import_neither_it_nor_gunicorn() -> None:
    script = f"import importlib, sys\nfor name in {LEAN}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(loaded.stdout.split()) & {"flask", "werkzeug", "gunicorn", "components.common.web"} == set()


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("components/dea", "from components.router.table import Table"),
        ("components/dea", "def late():\n    import components.controller.app"),
        ("components/dea", "from components import stager"),
        ("components/dea", "from ..stager import main"),
        ("components/client", "from components.common import log"),
        ("components/common", "import orchestrator.lab"),
        ("orchestrator", "from components.dea import config"),
    ],
)
def test_the_reader_sees_every_form_of_import(room: str, source: str) -> None:
    assert wrong(room, imports(source, room.replace("/", ".")))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("components/dea", "from components.common.bus import Bus\nfrom . import ports\nimport aiohttp"),
        ("orchestrator", "from orchestrator.lab import run\nfrom components.common import log"),
        ("components/client", "from components.client.api import Api\nimport httpx"),
    ],
)
def test_what_is_allowed_is_allowed(room: str, source: str) -> None:
    assert wrong(room, imports(source, room.replace("/", "."))) == set()
