"""What the tests of the client, and those of the controller, have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.controller.accounts import auth
from components.controller.composition import Controller
from tests.contract.client_stub import Ingot, Stub
from tests.contract.vmc_client import ADMIN, PASSWORD, Vmc, served
from tests.integration.ccdb import QUICK


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Passwords are hashed with parameters that cost nothing; `tests/unit/controller` uses the product's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "_HASHER", QUICK)
        yield


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A platform that answers what it is told to."""
    server = Stub()
    yield server
    server.close()


@pytest.fixture
def ingot(stub: Stub, tmp_path: Path) -> Ingot:
    """The command, logged in there."""
    command = Ingot(stub, tmp_path / "home")
    command.login()
    return command


@pytest.fixture(scope="module")
def vmc(controller: Controller) -> Iterator[Vmc]:
    """An old client whom the module's `controller` does not know."""
    with served(controller) as anonymous:
        yield anonymous


@pytest.fixture(scope="module")
def admin(vmc: Vmc) -> Vmc:
    """The same as the platform's administrator."""
    return vmc.login(ADMIN, PASSWORD)
