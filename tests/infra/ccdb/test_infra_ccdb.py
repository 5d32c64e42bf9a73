"""The controllers' database lets in the controllers, with the right password, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

CONNECT = "PGPASSWORD={password} PGCONNECT_TIMEOUT=5 psql -X -h {host} -U ingot_controller -d ccdb -Atc 'select 6*7'"


@pytest.fixture
def facts(host: Any) -> dict[str, Any]:
    known: dict[str, Any] = host.ansible.get_variables()
    return known


def connect(host: Any, facts: dict[str, Any], password: str) -> Any:
    address = "198.18.0.0"
    for name in facts["groups"]["ccdb"]:
        address = host.run("getent hosts %s", name).stdout.split()[0]
    return host.run(CONNECT.format(password=password, host=address))


def test_the_server_is_up_on_its_machine(host: Any, facts: dict[str, Any]) -> None:
    if facts["inventory_hostname"] not in facts["groups"]["ccdb"]:
        assert not host.socket("tcp://0.0.0.0:5432").is_listening
        return
    assert host.socket("tcp://0.0.0.0:5432").is_listening
    owner = host.run(
        "runuser -u postgres -- psql -Atc \"select pg_get_userbyid(datdba) from pg_database where datname='ccdb'\""
    )
    assert owner.stdout.strip() == "ingot_controller"
    hba = host.file(host.run("runuser -u postgres -- psql -Atc 'show hba_file'").stdout.strip())
    assert hba.mode == 0o640
    assert "trust" not in hba.content_string


def test_only_controllers_get_in_and_only_with_the_password(host: Any, facts: dict[str, Any]) -> None:
    right = connect(host, facts, facts["ingot_ccdb_password"])
    if facts["inventory_hostname"] in facts["groups"]["controller"]:
        assert right.stdout.strip() == "42", right.stderr
        assert "password authentication failed" in connect(host, facts, "wrong-password").stderr
    elif facts["inventory_hostname"] in facts["groups"]["dea"]:
        assert right.rc != 0
        assert "no pg_hba.conf entry" in right.stderr
