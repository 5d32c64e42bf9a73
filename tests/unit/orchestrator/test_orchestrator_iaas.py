"""Drivers as the configuration makes them, and hosts that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.common.config import parse
from components.common.errors import ConfigError
from orchestrator import iaas
from orchestrator.config import OrchestratorConfig
from orchestrator.iaas.provider import READY, RUNNING, MachineSpec, Provider, ProviderError


def config(
    folder: Path, providers: dict[str, Any], pools: dict[str, Any] | None = None
) -> OrchestratorConfig:
    return parse(
        {
            "bus": {"urls": ["nats://127.0.0.1:4222"]},
            "state_path": str(folder),
            "inventory": "/x",
            "releases": "/x",
            "operator_password": "for-tests-only",
            "ssh": {"private_key": "/x", "known_hosts": ["/x"]},
            "providers": providers,
            "pools": pools or {},
        },
        OrchestratorConfig,
    )


def rack(folder: Path) -> Provider:
    hosts = [{"address": "10.0.0.3", "host_key": "ssh-ed25519 AAAA"}, {"address": "10.0.0.4"}]
    return iaas.make(config(folder, {"rack": {"driver": "static", "hosts": hosts}}))["rack"]


def test_hosts_are_given_out_once_and_taken_back(tmp_path: Path) -> None:
    one = rack(tmp_path)
    first = one.create(MachineSpec("dea3", "none"))
    assert (first.address, first.host_key, first.state) == ("10.0.0.3", "ssh-ed25519 AAAA", RUNNING)
    assert one.create(MachineSpec("dea3", "none")) == first
    assert one.create(MachineSpec("dea4", "none")).address == "10.0.0.4"
    with pytest.raises(ProviderError, match=r"all 2 hosts are assigned: add one to providers\.rack\.hosts"):
        one.create(MachineSpec("dea5", "none"))
    # Another process finds what this one gave out.
    other = rack(tmp_path)
    assert [m.name for m in other.machines()] == ["dea3", "dea4"]
    assert other.start("dea3") == other.stop("dea3") == first
    other.delete("dea3")
    other.delete("dea3")
    assert one.find("dea3") is None
    with pytest.raises(ProviderError, match="dea3 has no host"):
        one.address("dea3")
    assert one.create(MachineSpec("dea5", "none")).address == "10.0.0.3"
    assert one.console_tail("dea5") == ""


def test_hosts_have_no_images(tmp_path: Path) -> None:
    one = rack(tmp_path)
    assert one.images() == []
    found = one.find_image("none")
    assert found is not None
    assert found.state == READY
    assert one.find_image("bookworm") is None
    with pytest.raises(ProviderError, match="static hosts have no images"):
        one.import_image("bookworm")
    with pytest.raises(ProviderError, match="static hosts have no images"):
        one.remove_image("none")


def test_a_book_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "static-rack.json").write_text("{")
    with pytest.raises(ProviderError, match=r"static-rack\.json.*mend or remove this file"):
        rack(tmp_path).machines()


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    providers = {
        "cloud": {"driver": "nebula"},
        "rack": {"driver": "static", "hosts": [{"address": "a"}, {"address": "a"}], "more": 1},
        "twice": {"driver": "static", "hosts": [{"address": "a"}, {"address": "a"}]},
        "lab": {"driver": "lab", "socket": "lab.sock", "lab": "ingot"},
        "fine": {"driver": "static", "hosts": []},
    }
    pools = {"dea": {"provider": "fine", "image": "bookworm", "prefix": "dea", "groups": ["dea"]}}
    with pytest.raises(ConfigError) as raised:
        iaas.make(config(tmp_path, providers, pools))
    said = "\n".join(raised.value.problems)
    assert "providers.cloud.driver: must be one of lab, static, not 'nebula'" in said
    assert "providers.rack.more: not a key" in said
    assert "providers.twice.hosts: a is listed twice" in said
    assert "providers.lab.socket: must be the whole path" in said
    assert "pools.dea.image: provider fine has no images: must be 'none', not 'bookworm'" in said
