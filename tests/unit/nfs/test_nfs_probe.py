"""The share's probe: what errors mean, and that it is back in time whatever becomes of the share."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "nfs_client"
PROGRAM = ROLE / "files" / "share_probe.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("share_probe", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


probe = load()


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "droplets").mkdir()
    os.chown(tmp_path / "droplets", os.getuid(), os.getgid())
    return tmp_path


def run(*words: str | Path) -> dict[str, Any]:
    uid = f"--uid={os.getuid()}"
    done = subprocess.run([sys.executable, PROGRAM, *words, uid], capture_output=True, text=True, check=False)
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if said["verdict"] == "ok" else 1)
    return said


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EROFS, "read_only"),
        (errno.ESTALE, "stale"),
        (errno.EIO, "gone"),
        (errno.ETIMEDOUT, "gone"),
        (errno.EHOSTUNREACH, "gone"),
        (errno.EACCES, "refused"),
        (errno.ENOENT, "missing"),
        (errno.EMFILE, "failed"),
        (None, "failed"),
    ],
)
def test_an_error_has_its_word(number: int | None, verdict: str) -> None:
    assert probe.verdict_of(number) == verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("mount.nfs4: access denied by server while mounting 10.0.0.1:/srv", "refused"),
        (
            "mount.nfs4: mounting 10.0.0.1:/x failed, reason given by server: No such file or directory",
            "missing",
        ),
        ("mount.nfs4: Connection refused for 10.0.0.1:/srv on /tmp/x", "gone"),
        ("mount.nfs4: Connection timed out for 10.0.0.1:/srv on /tmp/x", "gone"),
        ("mount.nfs4: No route to host for 10.0.0.1:/srv", "gone"),
        ("mount: /tmp/x: unknown filesystem type 'nfs4'.", "no_kernel"),
        ("mount.nfs4: Stale file handle", "stale"),
        ("mount.nfs4: something nobody heard of", "failed"),
    ],
)
def test_what_mounting_says_has_its_word(text: str, verdict: str) -> None:
    assert probe.verdict_of_mount(text) == verdict


def test_every_verdict_is_put_into_words_with_a_remedy() -> None:
    words = {*probe.BY_ERRNO.values(), *(verdict for verdict, _ in probe.BY_TEXT), *probe.SENTENCES}
    for verdict in words:
        said = probe.answer(verdict, "/srv/ingot/share", "why", server="10.0.0.1")
        assert "/srv/ingot/share" in said["says"] or "kernel" in said["says"]
        assert bool(said["remedy"]) == (verdict != "ok")
        assert "{" not in said["says"] + said["remedy"]


MOUNTS = r"""23 1 98:0 / / rw,relatime shared:1 - ext4 /dev/root rw
84 23 0:37 / /srv/ingot/share ro,nosuid shared:42 - nfs4 10.0.0.1:/srv/ingot/share ro,vers=4.2
90 23 0:40 / /srv/a\040b rw - tmpfs none rw
91 23 0:41 / /srv/twice rw - tmpfs none rw
92 23 0:42 / /srv/twice rw - nfs4 10.0.0.1:/export rw,vers=4.2
"""


def test_the_uppermost_mount_counts() -> None:
    share = {"type": "nfs4", "source": "10.0.0.1:/srv/ingot/share", "read_only": True}
    assert probe.mount_at(MOUNTS, "/srv/ingot/share") == share
    assert probe.mount_at(MOUNTS, "/srv/twice")["type"] == "nfs4"
    assert probe.mount_at(MOUNTS, "/srv/a b")["source"] == "none"
    assert probe.mount_at(MOUNTS, "/srv/ingot") is None


PATHS = ["/srv", "/srv/ingot/share", "/srv/in-got/a--b", "/a_b/c.d", "/-x/9", "/mnt/A.B-C/d_", "/x/y..z-"]


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="systemd is not here")
def test_units_are_named_as_systemd_does() -> None:
    told = subprocess.run(
        ["systemd-escape", "--path", "--suffix=mount", "--", *PATHS],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [probe.unit_of(path) for path in PATHS] == told
    # The role says the same in its own words.
    said = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    words = jinja2.Environment(autoescape=False)
    for place in ("place", "other"):
        unit = words.from_string(said["__nfs_client_unit" if place == "place" else "__nfs_client_other_unit"])
        known = {"__nfs_client_dash": said["__nfs_client_dash"]}
        assert [unit.render({f"__nfs_client_{place}": path, **known}) for path in PATHS] == told


def test_the_role_mounts_where_the_probe_looks() -> None:
    said = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    words = jinja2.Environment(autoescape=False)
    words.filters["regex_replace"] = lambda text, old, new: re.sub(old, new, text)
    for reader in (False, True):
        for export in ("/export/share", "/"):
            known = {
                "nfs_client_path": "/srv/share",
                "nfs_client_read_only": reader,
                "__nfs_client_source": f"10.0.0.1:{export}",
            }
            place, other, what = (
                words.from_string(said[f"__nfs_client_{name}"]).render(known)
                for name in ("place", "other", "what")
            )
            at, (elsewhere, _) = probe.places("/srv/share", f"10.0.0.1:{export}", reader=reader)
            assert ((place, what), other) == (at, elsewhere)


def test_who_only_reads_has_droplets_alone() -> None:
    droplets = ("/srv/share/droplets", "10.0.0.1:/droplets")
    whole = ("/srv/share", "10.0.0.1:/")
    assert probe.places("/srv/share", "10.0.0.1:/", reader=True) == (droplets, whole)
    assert probe.places("/srv/share", "10.0.0.1:/", reader=False) == (whole, droplets)
    assert probe.places("/srv/share", "", reader=True)[0] == ("/srv/share/droplets", "")


def test_it_writes_reads_back_and_leaves_nothing(share: Path) -> None:
    assert run("probe", share, "--local")["verdict"] == "ok"
    assert list((share / "droplets").iterdir()) == []


def test_one_writes_and_another_reads(share: Path) -> None:
    written = run("write", share, "--local")
    assert run("read", share, written["name"], written["sha256"], "--local")["verdict"] == "ok"
    file = share / "droplets" / written["name"]
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run("read", share, written["name"], written["sha256"], "--local")["verdict"] == "differs"
    assert run("remove", share, written["name"], "--local")["verdict"] == "ok"
    assert run("read", share, written["name"], written["sha256"], "--local")["verdict"] == "missing"
    assert run("remove", share, written["name"], "--local")["verdict"] == "ok"


def test_a_plain_directory_is_no_share(share: Path) -> None:
    said = run("probe", share)
    assert said["verdict"] == "not_mounted"
    assert probe.unit_of(str(share)) in said["remedy"]


def test_a_share_that_hangs_is_left_behind_in_time() -> None:
    def hang() -> dict[str, Any]:
        time.sleep(600)
        return {}

    began = time.monotonic()
    said = probe.in_child(hang, 0.2)
    assert said["verdict"] == "gone"
    assert time.monotonic() - began < 30


def test_what_a_child_finds_reaches_the_parent() -> None:
    def full() -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    def odd() -> dict[str, Any]:
        raise ValueError("odd")

    assert probe.in_child(full, 30) == {"verdict": "full", "detail": "No space left on device"}
    assert probe.in_child(odd, 30) == {"verdict": "failed", "detail": "ValueError: odd"}
    assert probe.in_child(dict, 30) == {"facts": {}}


def test_what_is_missing_on_the_share_is_found_and_what_passes_is_not(tmp_path: Path) -> None:
    local, share = tmp_path / "local", tmp_path / "share"
    for root in (local, share):
        (root / "droplets" / ".incoming").mkdir(parents=True)
        (root / "droplets" / "same").write_text("1")
    (local / "droplets" / "longer").write_text("12")
    (share / "droplets" / "longer").write_text("1")
    for inner in ("droplets/.incoming", "droplets/.sweep", "droplets/.trash", "packages/.trash"):
        (local / inner).mkdir(parents=True, exist_ok=True)
        (local / inner / "passes").write_text("1")
    (local / "droplets" / f"{probe.PREFIX}1").write_text("1")
    (local / "packages" / "deep").mkdir(parents=True)
    (local / "packages" / "deep" / "gone").symlink_to("/nowhere")
    assert probe.missing_on(str(local), str(share)) == ["droplets/longer", "packages/deep/gone"]
    assert probe.missing_on(str(tmp_path / "not there"), str(share)) == []
    # Of droplets alone, the same passes.
    droplets = [str(root / "droplets") for root in (local, share)]
    assert probe.missing_on(*droplets, (".",)) == ["longer"]


def test_who_has_files_open_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert probe.users(str(tmp_path)) == []
    with (tmp_path / "file").open():
        assert any(f"({os.getpid()})" in user for user in probe.users(str(tmp_path)))
        assert probe.users(str(tmp_path)[:-1]) == []


def test_a_machine_whose_kernel_cannot_is_told_so_before_anything_else(tmp_path: Path) -> None:
    said = run("look", tmp_path, "10.0.0.1:/srv", "--module=no_such_module")
    assert said["verdict"] == "no_kernel"
    assert "no_such_module" in said["says"]
    assert "kernel of its own" in said["remedy"]


Mounts = dict[str, dict[str, Any]]


def looked(
    monkeypatch: pytest.MonkeyPatch, mounts: Mounts, *, reader: bool, verb: str = "look"
) -> dict[str, Any]:
    """Return what is said of a machine with these mounts, by path; the share is 10.0.0.1:/share."""
    monkeypatch.setattr(probe, "kernel_has", lambda _module: True)
    monkeypatch.setattr(probe, "current_mount", mounts.get)
    options = argparse.Namespace(unit=[], module="nfs", reader=reader, local=False, uid=0, seconds=1.0)
    words = ["10.0.0.1:/share"] if verb == "look" else []
    said: dict[str, Any] = probe.judge(verb, "/srv/share", words, options)
    return said


def nfs(source: str) -> dict[str, Any]:
    return {"type": "nfs4", "source": source, "read_only": False}


WHOLE, DROPLETS = nfs("10.0.0.1:/share"), nfs("10.0.0.1:/share/droplets")


def test_something_else_that_is_mounted_there_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for reader in (False, True):
        for path in ("/srv/share", "/srv/share/droplets"):
            for other in (nfs("10.0.0.9:/new"), {"type": "ext4", "source": "/dev/vdb", "read_only": False}):
                said = looked(monkeypatch, {path: other}, reader=reader)
                assert said["verdict"] == "elsewhere"
                assert f"mounted at {path} already" in said["says"]


def test_the_mount_of_the_other_kind_of_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for reader, own, other in ((False, WHOLE, DROPLETS), (True, DROPLETS, WHOLE)):
        both = {"/srv/share": WHOLE, "/srv/share/droplets": DROPLETS}
        at = "/srv/share" if other is WHOLE else "/srv/share/droplets"
        for mounts, found in (({}, (None, None)), ({at: other}, (None, other)), (both, (own, other))):
            said = looked(monkeypatch, mounts, reader=reader)
            assert said["verdict"] == "ok"
            assert (said["mount"], said["other"]) == found


def test_a_reader_with_the_whole_share_has_not_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    said = looked(monkeypatch, {"/srv/share": WHOLE}, reader=True, verb="probe")
    assert said["verdict"] == "not_mounted"
    assert "srv-share-droplets.mount" in said["remedy"]
    said = looked(monkeypatch, {"/srv/share/droplets": DROPLETS}, reader=False, verb="probe")
    assert said["verdict"] == "not_mounted"


def test_files_are_open_wherever_the_mount_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "users", lambda _path: ["sleep (7)"])
    for mounts in ({"/srv/share": WHOLE}, {"/srv/share/droplets": DROPLETS}):
        assert looked(monkeypatch, mounts, reader=True, verb="users")["verdict"] == "busy"
    assert looked(monkeypatch, {}, reader=True, verb="users")["verdict"] == "ok"


def test_what_would_be_hidden_is_copied_to_where_it_belongs() -> None:
    said = probe.answer("hides", "/srv/share/droplets", "abc", export="/share/droplets", server="10.0.0.1")
    assert "rsync -a --ignore-existing /srv/share/droplets/ SERVER:/share/droplets/" in said["remedy"]
