"""Which version of Redis the role offers: what is installed at first, and for ever after what was offered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration import local_play

TASKS = """
    - ansible.builtin.include_role:
        name: service_redis
        tasks_from: version
        public: true
    - ansible.builtin.copy:
        content: "{{ __service_redis_version }}"
        dest: "{{ playbook_dir }}/version"
        mode: "0644"
"""


def installed() -> str:
    """Major and minor number of this host's Redis."""
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    return ".".join(said.split("v=")[1].split(".")[:2])


@pytest.mark.parametrize(
    ("config", "wish", "offered"),
    [
        (None, "", None),
        ('address: x\nversion: "6.2"\naliases: []\n', "", "6.2"),
        ('address: x\nversion: "6.2"\naliases: []\n', "5.0", "5.0"),
    ],
)
def test_what_is_offered_is_the_wish_or_what_was_or_what_is_installed(
    tmp_path: Path, config: str | None, wish: str, offered: str | None
) -> None:
    gateway = tmp_path / "gateway.yml"
    if config is not None:
        gateway.write_text(config)
    given = {"service_redis_version": wish, "__service_redis_gateway_config": str(gateway)}
    done = local_play.run(tmp_path, TASKS, given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "version").read_text() == (offered or installed())
