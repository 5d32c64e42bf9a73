"""The verifier against SSH servers: who is let in, which key is pinned, and what is said when neither works."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.config import SshConfig
from orchestrator.ssh import HostKeyError, SshError, SshVerifier, fingerprint
from tests.integration.orchestrator_rig import SshServer


def ed25519(path: Path) -> paramiko.PKey:
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    path.write_bytes(private)
    path.chmod(0o600)
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, paramiko.PKey]:
    return {name: ed25519(tmp_path / name) for name in ("mine", "host", "other")}


@pytest.fixture
def server(keys: dict[str, paramiko.PKey]) -> Iterator[SshServer]:
    server = SshServer(keys["host"], keys["mine"])
    yield server
    server.close()


def ssh(folder: Path, port: int, **changes: object) -> SshVerifier:
    known = [str(folder / "known_hosts"), str(folder / "shown" / "known_hosts")]
    settings = {"private_key": str(folder / "mine"), "known_hosts": known, "port": port, "deadline": 20.0}
    return SshVerifier(SshConfig(**{**settings, **changes}))  # type: ignore[arg-type]


def test_a_machine_is_admitted_and_its_key_pinned(
    tmp_path: Path, server: SshServer, keys: dict[str, paramiko.PKey]
) -> None:
    (tmp_path / "known_hosts").write_text("# of people\ndea1,10.0.0.1 ssh-ed25519 AAAA\n")
    one = ssh(tmp_path, server.port)
    verified = one.wait_ready("dea3", "127.0.0.1")
    assert verified.host_key == one.known("127.0.0.1") == text(keys["host"])
    assert verified.fingerprint.startswith("ssh-ed25519 SHA256:")
    assert server.logins == 1
    line = f"[127.0.0.1]:{server.port},[dea3]:{server.port} {text(keys['host'])}"
    # People's own lines stay, and both files get ours.
    assert (tmp_path / "known_hosts").read_text().splitlines() == [
        "# of people",
        "dea1,10.0.0.1 ssh-ed25519 AAAA",
        line,
    ]
    assert (tmp_path / "shown" / "known_hosts").read_text().splitlines() == [line]
    one.wait_ready("dea3", "127.0.0.1", expected=text(keys["host"]))
    assert (tmp_path / "known_hosts").read_text().count("dea3") == 1
    one.forget("127.0.0.1")
    assert one.known("127.0.0.1") == ""
    assert "10.0.0.1" in (tmp_path / "known_hosts").read_text()


def test_a_changed_key_is_refused_before_anything_is_shown(
    tmp_path: Path, server: SshServer, keys: dict[str, paramiko.PKey]
) -> None:
    one = ssh(tmp_path, server.port)
    one.wait_ready("dea3", "127.0.0.1")
    server.host_key = keys["other"]
    with pytest.raises(HostKeyError) as raised:
        one.wait_ready("dea3", "127.0.0.1")
    said = str(raised.value)
    assert "dea3 (127.0.0.1)" in said
    assert fingerprint(text(keys["host"])) in said
    assert fingerprint(text(keys["other"])) in said
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {tmp_path / 'known_hosts'}" in said
    assert server.logins == 1
    one.forget("127.0.0.1")
    assert one.wait_ready("dea3", "127.0.0.1").host_key == text(keys["other"])


def test_the_providers_word_counts_from_the_first_time_on(
    tmp_path: Path, server: SshServer, keys: dict[str, paramiko.PKey]
) -> None:
    with pytest.raises(HostKeyError):
        ssh(tmp_path, server.port).wait_ready("dea3", "127.0.0.1", expected=text(keys["other"]))
    assert not (tmp_path / "known_hosts").exists()
    rsa = paramiko.RSAKey.generate(2048)
    with pytest.raises(HostKeyError, match="no host key of the kind that is known"):
        ssh(tmp_path, server.port).wait_ready("dea3", "127.0.0.1", expected=text(rsa))


def test_a_machine_that_boots_is_waited_for(tmp_path: Path, keys: dict[str, paramiko.PKey]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    waits = threading.Event()
    started: list[SshServer] = []

    def boot() -> None:
        waits.wait(20)
        started.append(SshServer(keys["host"], keys["mine"], port))

    booting = threading.Thread(target=boot)
    booting.start()
    try:
        waits.set()
        assert ssh(tmp_path, port).wait_ready("dea3", "127.0.0.1").host_key == text(keys["host"])
    finally:
        booting.join()
        started[0].close()


def test_a_machine_that_never_answers_is_refused_in_time(
    tmp_path: Path, keys: dict[str, paramiko.PKey]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    with pytest.raises(
        SshError, match=r"dea3 \(127\.0\.0\.1\) did not accept the login within 1 s: no answer on port"
    ):
        ssh(tmp_path, port).wait_ready("dea3", "127.0.0.1", deadline=1)


def test_a_machine_that_knows_us_not_is_refused(
    tmp_path: Path, server: SshServer, keys: dict[str, paramiko.PKey]
) -> None:
    server.allowed = keys["other"]
    with pytest.raises(SshError, match="root is not accepted with the orchestrator's key"):
        ssh(tmp_path, server.port).wait_ready("dea3", "127.0.0.1", deadline=0.5)
    assert not (tmp_path / "known_hosts").exists()


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SshError, match=r"ssh\.private_key: .*/mine cannot be used"):
        ssh(tmp_path, 22).wait_ready("dea3", "127.0.0.1", deadline=0.5)
