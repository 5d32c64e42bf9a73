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
# The packages of a room and the modules beside them, from the ground up: each imports those before it, and none after.
ORDERS = {
    room: tuple(code_of(part)[0] for part, _holds in reversed(table(PAGE, heading)))
    for room, heading in (
        ("components.controller", "Inside the controller"),
        ("components.dea", "Inside the DEA"),
        ("orchestrator", "Inside the orchestrator"),
    )
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


def above(room: str, part: str, names: set[str]) -> set[str]:
    """The names that lie in parts of the room which stand after this one, or in no part."""
    order = ORDERS[room]
    below = order[: order.index(part)] if part in order else ()
    allowed = tuple(f"{room}.{p}" for p in (*below, part))
    return {n for n in names if within(n, (room,)) and not within(n, allowed)}


def modules_of(room: str) -> dict[str, set[str]]:
    """Every module of a room, without the room itself, with all that it imports."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imports(
            path.read_text(), ".".join(path.relative_to(ROOT).parent.parts)
        )
        for path in (ROOT / room.replace(".", "/")).rglob("*.py")
        if path.parent != ROOT / room.replace(".", "/") or path.name != "__init__.py"
    }


def part_of(room: str, module: str) -> str:
    return module.removeprefix(f"{room}.").partition(".")[0]


@pytest.mark.parametrize("room", ORDERS)
def test_no_part_of_a_room_imports_one_above_it(room: str) -> None:
    found = {
        module: bad
        for module, names in modules_of(room).items()
        if (bad := above(room, part_of(room, module), names))
    }
    assert found == {}


@pytest.mark.parametrize("room", ORDERS)
def test_the_order_names_every_part_of_a_room(room: str) -> None:
    parts = {part_of(room, module) for module in modules_of(room)}
    assert parts == set(ORDERS[room])
    assert len(ORDERS[room]) == len(parts)


@pytest.mark.parametrize("room", ORDERS)
def test_modules_of_a_room_import_each_other_in_no_circle(room: str) -> None:
    known = modules_of(room)
    # What is imported is a module, or a name that one has.
    graph = {
        module: {n if n in known else n.rpartition(".")[0] for n in names} & known.keys()
        for module, names in known.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(known)


@pytest.mark.parametrize(
    ("room", "part", "source"),
    [
        ("components.controller", "apps", "from components.controller.services import rows"),
        (
            "components.controller",
            "apps",
            "def late():\n    from components.controller.api.context import current_worker",
        ),
        ("components.controller", "db", "import components.controller.accounts.auth"),
        ("components.controller", "staging", "from components.controller import lifecycle"),
        ("components.controller", "staging", "from ..lifecycle import changes"),
        ("components.controller", "storage", "from components.controller.attic import rags"),
        ("components.dea", "limits", "from components.dea.supervision import supervisor"),
        ("orchestrator", "config", "def late():\n    from orchestrator import iaas"),
        ("orchestrator", "rules", "from orchestrator.jobs.kinds import Step"),
    ],
)
def test_a_part_above_is_seen_in_every_form_of_import(room: str, part: str, source: str) -> None:
    assert above(room, part, imports(source, f"{room}.{part}"))


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
        (
            "components/dea",
            "from components.common.bus.client import Bus\nfrom . import ports\nimport aiohttp",
        ),
        ("orchestrator", "from orchestrator.lab import run\nfrom components.common import log"),
        ("components/client", "from components.client.api import Api\nimport httpx"),
    ],
)
def test_what_is_allowed_is_allowed(room: str, source: str) -> None:
    assert wrong(room, imports(source, room.replace("/", "."))) == set()
