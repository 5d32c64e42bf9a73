"""What a DEA has of the share: droplets and nothing else, also where its root makes things up; a stager has nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.nfs_share import SHARE, done, probe

# Reads a file of the server by a handle that nobody gave. The client's own handle of its mount begins with three words, the third of
# which is the kind of file, and a length; the server's follows: version, way to authenticate, kind of the export's number, kind of the
# file's (1: inode and generation), the export's number. Inodes are small numbers, and ext4 takes 0 for any generation.
FORGED = """
import ctypes, os, stat, struct
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]
given, mount = Handle(size=128), ctypes.c_int()
place = b"{place}"
assert libc.name_to_handle_at(-100, place, ctypes.byref(given), ctypes.byref(mount), 0) == 0, ctypes.get_errno()
root = bytes(given.data[14:given.size])
made = root[:3] + bytes([1]) + root[4:8] + struct.pack("<II", {inode}, 0)
data = struct.pack("=IIIH", 0, {inode}, stat.S_IFREG, len(made)) + made
data += bytes(-len(data) % 4)
forged = Handle(size=len(data), kind=len(data) // 4, data=(ctypes.c_ubyte * 128)(*data))
file = libc.open_by_handle_at(os.open(place, os.O_RDONLY), ctypes.byref(forged), os.O_RDONLY)
print(os.read(file, 100).decode() if file >= 0 else os.strerror(ctypes.get_errno()))
"""


def forged(host: Any, place: str, server: Any) -> str:
    """Return what a made-up handle of a package shows."""
    inode = done(server, f"stat -c %i {SHARE}/packages/old").strip()
    return done(host, f"python3 - <<'END'\n{FORGED.format(place=place, inode=inode)}\nEND").strip()


def test_the_export_is_to_each_what_it_needs(client: Any, server: Any, stager: Any) -> None:
    exported = done(
        server, "cat /etc/exports.d/ingot.exports /etc/exports.d/ingot-droplets.exports | grep ^/"
    ).splitlines()
    address = {
        name: done(host, "hostname -I").split()[0] for name, host in (("ctl1", client), ("stg1", stager))
    }
    (writes, writing), (reads, reading) = (line.rstrip(")").split("(") for line in exported)
    assert writes == f"{SHARE} {address['ctl1']}"
    assert {"rw", "root_squash", "sec=sys"} <= set(writing.split(","))
    assert reads.split()[0] == f"{SHARE}/droplets"
    assert {"ro", "subtree_check", "all_squash", "root_squash", "sec=sys"} <= set(reading.split(","))
    assert address["stg1"] not in done(server, "exportfs -s; cat /var/lib/nfs/etab")


def test_a_dea_has_droplets_where_it_looks_for_them(reader: Any, server: Any) -> None:
    mounted = done(reader, "findmnt -rno TARGET,OPTIONS -t nfs4").split()
    assert mounted[0] == f"{SHARE}/droplets"
    assert {"ro", "softerr", "nosuid", "nodev", "noexec", "vers=4.2"} <= set(mounted[1].split(","))
    assert len(mounted) == 2
    assert done(reader, f"ls -A {SHARE}").split() == ["droplets"]
    assert done(reader, f"cat {SHARE}/droplets/old") == done(server, f"cat {SHARE}/droplets/old")
    assert reader.run(f"touch {SHARE}/droplets/x").rc != 0
    assert probe(reader, "probe", "--reader")["verdict"] == "ok"


def test_what_an_earlier_release_mounted_is_gone_and_what_ran_runs(reader: Any) -> None:
    unit = "srv-ingot-share.mount"
    assert done(reader, f"ls -A /etc/systemd/system | grep -c {unit} || true").strip() == "0"
    assert (
        done(reader, f"ls /etc/systemd/system/remote-fs.target.wants | grep -c {unit} || true").strip() == "0"
    )
    assert done(reader, "systemctl is-active reading instance").split() == ["active", "active"]
    # An instance reads nothing of the share, as before.
    main = done(reader, "systemctl show -P MainPID instance").strip()
    asked = reader.run(f"nsenter -t {main} -m setpriv --reuid=65534 --clear-groups ls {SHARE}/droplets")
    assert "Permission denied" in asked.stderr


@pytest.mark.parametrize("folder", ["packages", "resources"])
def test_a_dea_cannot_mount_more(reader: Any, folder: str) -> None:
    server = done(reader, f"findmnt -no SOURCE {SHARE}/droplets").split(":")[0]
    tried = reader.run(f"mkdir -p /run/tried && mount -t nfs4 -o ro {server}:{SHARE}/{folder} /run/tried")
    assert tried.rc != 0
    assert "No such file" in tried.stderr


def test_above_droplets_a_dea_sees_the_way_to_them(reader: Any) -> None:
    server = done(reader, f"findmnt -no SOURCE {SHARE}/droplets").split(":")[0]
    try:
        done(reader, f"mkdir -p /run/above && mount -t nfs4 -o ro {server}:{SHARE} /run/above")
        assert done(reader, "ls -A /run/above").split() == ["droplets"]
        assert reader.run("cat /run/above/packages/old").rc != 0
    finally:
        reader.run("umount --recursive /run/above")


def test_a_dea_is_nobody_on_the_server_whoever_it_says_it_is(reader: Any, server: Any) -> None:
    done(server, f"install -d -m 700 -o 801 -g 801 {SHARE}/droplets/.incoming")
    for who in ("0", "801"):
        asked = reader.run(f"setpriv --reuid={who} --clear-groups ls {SHARE}/droplets/.incoming")
        assert "Permission denied" in asked.stderr


def test_a_made_up_handle_leads_a_dea_nowhere(reader: Any, server: Any) -> None:
    assert forged(reader, f"{SHARE}/droplets", server) == "Stale file handle"


def test_a_made_up_handle_is_as_good_as_any_for_who_has_all(client: Any, server: Any) -> None:
    assert forged(client, SHARE, server) == "a package"


def test_droplets_that_the_share_lacks_are_not_hidden(reader: Any) -> None:
    source = done(reader, f"findmnt -no SOURCE {SHARE}/droplets").strip().removesuffix("/droplets")
    local = "/var/tmp/local"
    asked = reader.run(
        f"mkdir -p {local}/droplets/.incoming {local}/packages; echo 1 > {local}/packages/x; echo 1 > {local}/droplets/.incoming/x;"
        f" c='/usr/local/sbin/ingot-share-probe --seconds=120 compare {local} {source} --reader'; $c;"
        f" echo 1 > {local}/droplets/abc; $c; rm -r {local}"
    )
    before, after = map(json.loads, asked.stdout.splitlines())
    assert before["verdict"] == "ok"
    assert (after["verdict"], after["lacking"]) == ("hides", 1)
    assert f"{SHARE}/droplets/" in after["remedy"]
