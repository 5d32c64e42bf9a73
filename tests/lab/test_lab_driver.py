"""The driver `lab` and the SSH verifier against a real lab: a machine is made, reached by its own key, stopped, and gone.

The tests have a lab daemon of their own (`INGOT_LAB_HOME`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.config import SshConfig
from orchestrator.iaas.lab import LabOptions, LabProvider
from orchestrator.iaas.provider import READY, RUNNING, STOPPED, MachineSpec, ProviderError
from orchestrator.lab.client import LabClient
from orchestrator.lab.journal import Bind
from orchestrator.lab.paths import CACHE, Paths
from orchestrator.ssh import HostKeyError, SshError, SshVerifier

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made by root"),
]
IMAGE = "bookworm"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's own: a Unix socket's path has 107 characters at most.
    path = Path(tempfile.mkdtemp(prefix="ingot-driver-", dir="/var/tmp"))
    (path / "share").mkdir()
    (path / "more").mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[LabClient]:
    paths = Paths(state=home / "state", run=home / "run", cache=CACHE, log=home / "lab.log")
    with pytest.MonkeyPatch.context() as patch, LabClient(paths) as made:
        patch.setenv("INGOT_LAB_HOME", str(home))
        try:
            yield made
        finally:
            with contextlib.suppress(Exception):
                for left in made.labs():
                    made.delete_lab(left.name)
            made.shutdown()


@pytest.fixture(scope="module")
def lab(client: LabClient, home: Path) -> str:
    client.build_image(IMAGE)
    name = f"d-{secrets.token_hex(4)}"
    (home / "build" / "labs" / name).mkdir(parents=True)
    return client.create_lab(name, home).name


@pytest.fixture(scope="module")
def provider(client: LabClient, lab: str, home: Path) -> LabProvider:
    options = LabOptions(
        driver="lab",
        socket=str(client.paths.socket),
        lab=lab,
        binds=[Bind(str(home / "share"), "/srv/ingot/share", read_only=True)],
    )
    return LabProvider("here", options)


@pytest.fixture
def ssh(client: LabClient, lab: str, tmp_path: Path) -> SshVerifier:
    key = tmp_path / "key"
    key.write_text(client.access(lab).private_key)
    key.chmod(0o600)
    return SshVerifier(SshConfig(private_key=str(key), known_hosts=[str(tmp_path / "known_hosts")]))


def test_a_machine_lives_and_goes(
    provider: LabProvider, client: LabClient, lab: str, ssh: SshVerifier, home: Path
) -> None:
    # Relative to the lab's folder, which is below its owner's.
    more = {"source": "../../../more", "target": "/srv/more"}
    spec = MachineSpec("dea3", IMAGE, ("dea", "lab"), {"binds": [more]})
    made = provider.create(spec)
    assert (made.state, made.native, made.host_key.split()[0]) == (STOPPED, f"{lab}/dea3", "ssh-ed25519")
    assert provider.create(spec) == made
    (view,) = client.lab(lab).machines
    assert (view.maker, view.groups, view.binds[0].read_only) == ("orchestrator", ["dea", "lab"], True)
    assert view.binds[1].source == str(home / "build" / "labs" / lab / "../../../more")
    with pytest.raises(SshError, match="did not accept the login"):
        ssh.wait_ready("dea3", made.address, expected=made.host_key, deadline=0.2)
    assert "it does not run" in provider.console_tail("dea3")

    assert provider.start("dea3").state == provider.start("dea3").state == RUNNING
    said: list[str] = []
    verified = ssh.wait_ready("dea3", made.address, expected=made.host_key, deadline=120, say=said.append)
    assert verified.host_key == made.host_key == ssh.known(made.address)
    assert provider.console_tail("dea3") == ""
    assert provider.address("dea3") == made.address

    other = made.host_key[:-6] + ("AAAAAA" if not made.host_key.endswith("AAAAAA") else "BBBBBB")
    with pytest.raises(HostKeyError, match="its provider tells"):
        ssh.wait_ready("dea3", made.address, expected=other)

    assert provider.stop("dea3", 30).state == STOPPED
    provider.delete("dea3")
    provider.delete("dea3")
    assert provider.machines() == []
    assert provider.find("dea3") is None


def test_a_machine_of_somebody_else_is_left_alone(provider: LabProvider, client: LabClient, lab: str) -> None:
    client.create_machine(lab, "dea4", IMAGE)
    assert provider.machines() == []
    for call in (
        lambda: provider.create(MachineSpec("dea4", IMAGE)),
        lambda: provider.start("dea4"),
        lambda: provider.delete("dea4"),
    ):
        with pytest.raises(ProviderError, match="was not made by the orchestrator: it is not touched"):
            call()
    assert [m.name for m in client.lab(lab).machines] == ["dea4"]


def test_images_are_the_labs(provider: LabProvider) -> None:
    found = provider.find_image(IMAGE)
    assert found is not None
    assert found.state == READY
    assert provider.import_image(IMAGE).state == READY
    assert provider.find_image("windows") is None
    with pytest.raises(ProviderError, match="leave the source out"):
        provider.import_image(IMAGE, "http://mirror/image")


def test_what_is_away_is_named(provider: LabProvider, client: LabClient, home: Path) -> None:
    gone = LabProvider("gone", LabOptions("lab", str(client.paths.socket), "no-such-lab"))
    with pytest.raises(ProviderError, match="there is no lab no-such-lab"):
        gone.create(MachineSpec("dea3", IMAGE))
    away = LabProvider("away", LabOptions("lab", str(home / "nothing" / "lab.sock"), "any"))
    with pytest.raises(ProviderError, match="start the lab's daemon on its host"):
        away.machines()
    with pytest.raises(ProviderError, match="no machine dea9"):
        provider.start("dea9")
    with pytest.raises(ProviderError, match="options of the pool: size"):
        provider.create(MachineSpec("dea9", IMAGE, options={"size": 3}))
