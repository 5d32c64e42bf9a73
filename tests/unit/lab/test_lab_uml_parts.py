"""User Mode Linux without one: command line, archives, its management console, what the host must have."""

import io
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from orchestrator.lab import images, layout, mconsole, uml
from orchestrator.lab.backend import File, Spec
from orchestrator.lab.errors import BadRequestError, LabError
from orchestrator.lab.journal import Bind
from orchestrator.lab.preflight import Facts, Wishes, judge


def spec(folder: Path, *binds: Bind, memory: int = 512) -> Spec:
    image = folder / "disk.ext4"
    image.write_text("disk")
    return Spec("ing3-7", "dea7", folder / "m", image, "ing-3", 1400, binds, "/s:l:dea7", memory)


def test_command_line_names_disk_cable_and_memory(tmp_path: Path) -> None:
    said = uml.command(spec(tmp_path), Path("/run/c"))
    assert said[0] == "linux.uml"
    assert {
        "mem=512M",
        "umid=ing3-7",
        "uml_dir=/run/c/",
        f"ubd0={tmp_path}/m/disk.cow,{tmp_path}/m/base.ext4",
        f"hostfs={tmp_path}/m/host",
        "noreboot",
    } <= set(said)
    (cable,) = [word for word in said if word.startswith("vec0:")]
    assert "ifname=vt-ing3-7,depth=128,mtu=1400,mac=02:" in cable


def test_hardware_addresses_differ_and_stay() -> None:
    assert uml.mac("ing0-2") == uml.mac("ing0-2") != uml.mac("ing0-3")
    assert int(uml.mac("ing0-2")[:2], 16) & 3 == 2


def test_archive_holds_files_of_root_only_and_no_directory() -> None:
    files = {"/root/.ssh/authorized_keys": File("key\n", 0o600), "/etc/hosts": File("ä\n")}
    with tarfile.open(fileobj=io.BytesIO(uml.archive(files))) as tar:
        members = {member.name: member for member in tar}
        assert set(members) == {"root/.ssh/authorized_keys", "etc/hosts"}
        assert {(m.uid, m.gid) for m in members.values()} == {(0, 0)}
        assert members["root/.ssh/authorized_keys"].mode == 0o600
        text = tar.extractfile("etc/hosts")
        assert text is not None
        assert text.read().decode() == "ä\n"


def test_files_wait_in_order_for_a_machine_that_is_off(tmp_path: Path) -> None:
    machine, backend = spec(tmp_path), uml.Uml(tmp_path)
    backend.create(machine)
    for text in ("one", "two"):
        backend.write(machine, {"/etc/hosts": File(text)})
    host = uml.host_folder(machine)
    assert sorted(path.name for path in host.glob("*.tar")) == ["1.tar", "2.tar"]
    assert (host / "2.tar").stat().st_mode & 0o777 == 0o600


def test_disk_of_the_image_stays_as_long_as_the_machine(tmp_path: Path) -> None:
    machine, backend = spec(tmp_path), uml.Uml(tmp_path)
    backend.create(machine)
    backend.create(machine)
    assert machine.image.stat().st_nlink == 2
    backend.remove(machine)
    assert machine.image.stat().st_nlink == 1
    assert not machine.folder.exists()


def test_binds_become_links_the_machine_mounts(tmp_path: Path) -> None:
    machine = spec(tmp_path, Bind("/srv/a", "/b"), Bind("/srv/c", "/d", read_only=True))
    uml.Uml(tmp_path).create(machine)
    host = uml.host_folder(machine)
    assert (host / "binds").read_text() == "bind0 rw /b\nbind1 ro /d\n"
    assert (host / "bind1").readlink() == Path("/srv/c")


def test_too_little_memory_and_odd_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="at least 128 MiB"):
        uml.Uml(tmp_path).check(spec(tmp_path, memory=64))
    with pytest.raises(BadRequestError, match="no blanks"):
        uml.Uml(tmp_path).check(spec(tmp_path, Bind("/a,b", "/c")))


def answer(path: Path, *datagrams: bytes) -> threading.Thread:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))

    def serve() -> None:
        with server:
            asked, client = server.recvfrom(1024)
            assert asked == mconsole.request("version")
            for datagram in datagrams:
                server.sendto(datagram, client)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def said(text: bytes, *, failed: bool = False, more: bool = False) -> bytes:
    return b"".join(n.to_bytes(4, "little") for n in (failed, more, len(text) + 1)) + text + b"\0"


def test_console_is_asked_and_heard_to_the_end(tmp_path: Path) -> None:
    thread = answer(tmp_path / "m", said(b"OK Linux ", more=True), said(b"6.1"))
    assert mconsole.ask(tmp_path / "m", "version") == "OK Linux 6.1"
    thread.join()
    assert mconsole.request("cad")[:12] == b"\xbe\xba\xfe\xca\x02\0\0\0\x03\0\0\0"


def test_console_that_refuses_or_is_not_there(tmp_path: Path) -> None:
    thread = answer(tmp_path / "m", said(b"Unknown command", failed=True))
    with pytest.raises(LabError, match="version: Unknown command"):
        mconsole.ask(tmp_path / "m", "version")
    thread.join()
    with pytest.raises(LabError, match="cad: "):
        mconsole.ask(tmp_path / "nobody", "cad")
    with pytest.raises(LabError, match="an answer of 3 bytes"):
        mconsole.reply(b"abc")


def test_image_is_a_full_one_as_a_disk() -> None:
    own, full = images.recipe("bookworm-uml"), images.recipe("bookworm")
    assert set(own.packages) == {*full.packages, "udev"}
    assert (own.suite, own.part, full.part) == ("bookworm", "disk.ext4", "root")
    assert own.finish.startswith(full.finish)
    assert [name for name in images.names() if images.has_kernel(name)] == ["bookworm-uml"]


def test_layout_gives_memory() -> None:
    plan = layout.parse({"machines": {"a": {"image": "bookworm-uml", "memory": 768}, "b": {}}})
    assert [machine.memory for machine in plan.machines] == [768, None]
    with pytest.raises(BadRequestError, match="memory is a whole number"):
        layout.parse({"machines": {"a": {"memory": "much"}}})


def test_preflight_names_what_is_missing() -> None:
    wishes = Wishes(1, ("bookworm-uml",))
    facts = Facts(root=True, missing_tools=("ethtool", "linux.uml", "mkfs.ext4"), no_tun=True)
    tools, tun = judge(facts, wishes).problems
    assert tools == "missing programs: apt-get install e2fsprogs ethtool user-mode-linux"
    assert tun.startswith("no /dev/net/tun")
