"""What a DEA has of the share: droplets and nothing else, also where its root makes things up; a stager has nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.nfs_share import SHARE, done, probe

# Opens a directory of the server by a handle that nobody gave: inode 2 is the root of an ext4, here the share. The client's own handle
# of its mount begins with 3 words and a length; the server's follows: version, way to authenticate, kind of the export's number, kind of
# the file's (1: inode and generation), the export's number.
FORGED = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]
given, mount = Handle(size=128), ctypes.c_int()
place = "{place}".encode()
assert libc.name_to_handle_at(-100, place, ctypes.byref(given), ctypes.byref(mount), 0) == 0, ctypes.get_errno()
data = bytes(given.data[: given.size])
words, own = data[:12], data[14 : 14 + struct.unpack_from("=H", data, 12)[0]]
made = own[:3] + bytes([1]) + own[4:8] + struct.pack("<II", 2, 0)
whole = struct.pack("=III", 0, 2, struct.unpack_from("=III", words)[2]) + struct.pack("=H", len(made)) + made
whole += bytes(-len(whole) % 4)
forged = Handle(size=len(whole), kind=len(whole) // 4, data=(ctypes.c_ubyte * 128)(*whole))
folder = libc.open_by_handle_at(os.open(place, os.O_RDONLY), ctypes.byref(forged), os.O_RDONLY | os.O_DIRECTORY)
print(*(sorted(os.listdir(folder)) if folder >= 0 else [os.strerror(ctypes.get_errno())]))
"""


def forged(host: Any, place: str) -> str:
    """Return what a made-up handle shows."""
    return done(host, f"python3 - <<'END'\n{FORGED.format(place=place)}\nEND").strip()


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
    # An instance sees nothing of the share, as before.
    main = done(reader, "systemctl show -P MainPID instance").strip()
    assert done(reader, f"nsenter -t {main} -m ls -A {SHARE}") == ""


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


def test_a_made_up_handle_leads_a_dea_nowhere(reader: Any) -> None:
    assert forged(reader, f"{SHARE}/droplets") == "Stale file handle"


def test_a_made_up_handle_leads_who_may_see_it_to_the_whole(client: Any) -> None:
    assert {"droplets", "packages", "resources"} <= set(forged(client, SHARE).split())


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
