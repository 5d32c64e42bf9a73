"""`setup.sh` says what stands in the way, all of it at once, and changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def setup(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it in a checkout of its own, so that what it would change can be seen."""
    folder = tmp_path / "checkout"
    (folder / "orchestrator").mkdir(parents=True)
    for name in ("orchestrator/setup.sh", "pyproject.toml", "constraints.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return subprocess.run(
        ["bash", str(folder / "orchestrator" / "setup.sh"), "up"],
        env={"PATH": os.environ["PATH"], "LAB": "nobody", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_everything_wrong_is_said_at_once_and_nothing_is_changed(tmp_path: Path, taken_port: int) -> None:
    done = setup(
        tmp_path, PORT=str(taken_port), SUBNET="10.0.0.0/24", IMAGE="slackware", INGOT_NEED_GIB="999999"
    )
    assert done.returncode == 2
    for wanted in (f"port {taken_port} is taken", "SUBNET=10.0.0.0/24", "IMAGE=slackware", "too little disk"):
        assert wanted in done.stderr
    assert not (tmp_path / "checkout" / "build").exists()


def test_a_port_that_is_no_port_is_named(tmp_path: Path) -> None:
    done = setup(tmp_path, PORT="eighty")
    assert done.returncode == 2
    assert "PORT=eighty: must be a number" in done.stderr


def test_a_subnet_that_has_a_route_is_named(tmp_path: Path) -> None:
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    lab = [r for r in routes if bytes.fromhex(r[1])[::-1][:2] in {bytes((198, 18)), bytes((198, 19))}]
    if not lab:
        pytest.skip(
            "no route into the lab's range on this host now; tests/lab shows it with a lab that is up"
        )
    net = ".".join(str(b) for b in bytes.fromhex(lab[0][1])[::-1])
    done = setup(tmp_path, SUBNET=f"{net}/24")
    assert done.returncode == 2
    assert f"subnet {net}/24 is taken: interface {lab[0][0]}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_root_missing_packages_are_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            shutil.which("setpriv") or "setpriv",
            "--reuid=65534",
            "--clear-groups",
            shutil.which("bash") or "bash",
            str(ROOT / "orchestrator" / "setup.sh"),
            "up",
        ],
        # A PATH on which nothing but the shell's own needs is found stands for a bare machine.
        env={"PATH": str(bare_path(tmp_path)), "LAB": "nobody", "PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "Permission denied" in done.stderr:
        pytest.skip("the checkout is not readable by other users")
    assert done.returncode == 2
    assert "only root can install them" in done.stderr
    assert "python3-pip" in done.stderr


def bare_path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    for name in ("bash", "id", "df", "awk", "dirname", "sort", "grep", "unshare", "cat", "sha256sum", "cut"):
        real = next(p for d in os.environ["PATH"].split(":") if (p := Path(d, name)).exists())
        (folder / name).symlink_to(real.resolve() if name != "awk" else real)
    return folder
