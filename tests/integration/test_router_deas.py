"""Whose routes of applications a router takes: a password of the bus alone brings no host to another address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.bus.platform_hosts import PLATFORM_REGISTER
from tests.integration.common_rig import authorization
from tests.integration.router_rig import Rig, running
from tests.support.waiting import until

SHOP, API = "shop.example.com", "api.ingot.localhost"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    path = tmp_path / "deas"
    path.write_text("127.0.0.7\n")
    with running(router={"dea_addresses_file": str(path)}, users=authorization()) as started:
        yield started


def test_an_applications_route_is_taken_at_a_deas_address_until_the_pool_changes(
    rig: Rig, tmp_path: Path
) -> None:
    backend, api = rig.backend("somewhere"), rig.backend("api")
    rig.register(backend.port, SHOP)
    rig.register(backend.port, SHOP, private_instance_id="a" * 32, app=7)
    # The platform's own are elsewhere than DEAs.
    rig.register(api.port, API, subject=PLATFORM_REGISTER, user="controller")
    rig.wait_status(API, 200)
    until(lambda: rig.varz()["refused_addresses"] == 2, "both are refused and counted")
    assert rig.get(SHOP).status == 404
    assert rig.varz()["dea_addresses"] == 1
    # The pool grows by this machine.
    (tmp_path / "deas").write_text("127.0.0.7\n127.0.0.0/30\n")
    until(lambda: rig.varz()["dea_addresses"] == 2, "the file is read anew")
    rig.register(backend.port, SHOP)
    rig.wait_status(SHOP, 200)
