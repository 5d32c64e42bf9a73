"""A release on its machine: complete, switched to, readable for the accounts of the platform, and in no need of an index."""

from __future__ import annotations

import json
from typing import Any

from components.common.version import VERSION

CURRENT = "/opt/ingot/current"


def test_current_is_the_release_that_was_asked_for(host: Any) -> None:
    assert host.file(CURRENT).linked_to == f"/opt/ingot/releases/{VERSION}"
    facts = json.loads(host.file(f"{CURRENT}/RELEASE.json").content_string)
    assert facts["version"] == VERSION
    assert facts["digest"].startswith(facts["stamp"].split()[1])


def test_daemons_start_as_an_account_of_the_platform(host: Any) -> None:
    for name in ("ingot-controller", "ingot-dea", "ingot-health-manager", "ingot-router", "ingot-stager"):
        done = host.run(f"runuser -u ingot-stager -- {CURRENT}/venv/bin/{name} --help")
        assert done.rc == 0, done.stderr


def test_nothing_is_left_to_be_compiled_or_fetched(host: Any) -> None:
    assert host.run(
        f"find {CURRENT}/venv/lib -path '*/components/common/bus/__pycache__/client.*.pyc'"
    ).stdout
    assert host.run("dpkg-query -W python3-pip").rc != 0
    missing = "import importlib.metadata as m; [m.version(n) for n in ('ingot', 'nats-py', 'psycopg-binary', 'dbus-fast')]"
    assert host.run(f"{CURRENT}/venv/bin/python -c %s", missing).rc == 0


def test_the_release_belongs_to_root_alone(host: Any) -> None:
    assert host.run(f"find {CURRENT}/ -not -user root -o -perm /022 -not -type l").stdout == ""


def test_the_routers_side_is_there(host: Any) -> None:
    assert host.file(f"{CURRENT}/lua/routes.lua").is_file
