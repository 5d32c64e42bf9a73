"""The share over a real kernel's NFS: what is mounted and how, and that the probe names what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.nfs_share import PROBE, SHARE, done, probe


@pytest.fixture
def broken(server: Any) -> Iterator[Any]:
    """Break the server in a test; it is put right afterwards, whatever happened."""
    yield server
    done(
        server,
        f"rm -f {SHARE}/filler; mount -o remount,rw {SHARE}; systemctl start nfs-server && exportfs -ra",
    )


def test_it_is_mounted_and_exported_as_it_must_be(client: Any, server: Any) -> None:
    mounted = done(client, f"findmnt -no FSTYPE,OPTIONS {SHARE}")
    assert {"nfs4", "rw"} <= set(mounted.replace(",", " ").split())
    assert {"hard", "nosuid", "nodev", "noexec", "vers=4.2", "lookupcache=pos"} <= set(
        mounted.strip().replace(",", " ").split()
    )
    assert done(client, "systemctl is-enabled srv-ingot-share.mount").strip() == "enabled"
    assert done(server, f"stat -c '%u %a' {SHARE}/droplets").split() == ["801", "755"]
    assert "-3" in done(server, "cat /proc/fs/nfsd/versions").split()


def test_other_bytes_than_were_written_are_found(client: Any, server: Any) -> None:
    written = probe(client, "write")
    try:
        done(server, f"printf x | dd of={SHARE}/droplets/{written['name']} conv=notrunc status=none")
        done(client, "echo 3 > /proc/sys/vm/drop_caches")
        assert probe(client, "read", written["name"], written["sha256"])["verdict"] == "differs"
    finally:
        probe(client, "remove", written["name"])


def test_what_the_share_lacks_is_not_hidden(client: Any) -> None:
    source = done(client, f"findmnt -no SOURCE {SHARE}").strip()
    local = "/var/tmp/local/droplets"
    asked = client.run(
        f"mkdir -p {local}/.incoming; echo 1 > {local}/.incoming/x; {PROBE} compare /var/tmp/local {source}; "
        f"echo 1 > {local}/abc; {PROBE} compare /var/tmp/local {source}; rm -r /var/tmp/local"
    )
    before, after = map(json.loads, asked.stdout.splitlines())
    assert before["verdict"] == "ok"
    assert (after["verdict"], after["lacking"]) == ("hides", 1)
    assert "droplets/abc" in after["says"]


def test_open_files_are_named(client: Any) -> None:
    done(client, f"cd {SHARE} && (sleep 300 < /dev/null > /dev/null 2>&1 & echo $! > /run/sleeper)")
    try:
        said = probe(client, "users")
        assert said["verdict"] == "busy"
        assert "sleep (" in said["says"]
    finally:
        done(client, "kill $(cat /run/sleeper)")


def test_a_full_share_is_named(client: Any, broken: Any) -> None:
    broken.run(f"dd if=/dev/zero of={SHARE}/filler bs=1M status=none")
    said = probe(client)
    assert said["verdict"] == "full"
    assert "make room on the server" in said["remedy"]
    done(broken, f"rm {SHARE}/filler")
    assert probe(client)["verdict"] == "ok"


def test_a_share_whose_disk_went_read_only_is_named(client: Any, broken: Any) -> None:
    done(broken, f"mount -o remount,ro {SHARE}")
    assert probe(client)["verdict"] == "read_only"


def test_a_share_that_is_exported_no_longer_is_named(client: Any, broken: Any) -> None:
    done(broken, "exportfs -ua")
    said = probe(client)
    assert said["verdict"] == "refused", said


def test_a_server_that_is_gone_is_named_in_time_and_comes_back(client: Any, broken: Any) -> None:
    done(broken, "systemctl stop nfs-server")
    said = probe(client, "probe", "--seconds=4")
    assert said["verdict"] == "gone"
    assert "its port 2049 does not answer" in said["says"]
    done(broken, "systemctl start nfs-server")
    assert probe(client, "probe", "--seconds=60")["verdict"] == "ok"
