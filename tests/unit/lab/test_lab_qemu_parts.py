"""Machines with a kernel of their own, without one: command line, archives, the kernel's file, the choice of an accelerator, what the host must have."""

import io
import itertools
import lzma
import struct
import tarfile
from pathlib import Path

import msgspec
import pytest

from orchestrator.lab import layout
from orchestrator.lab.backends import accelerator, qemu
from orchestrator.lab.backends.accelerator import BY_KVM, BY_TCG, Accelerator, Found
from orchestrator.lab.backends.interface import File, Spec
from orchestrator.lab.errors import BadRequestError, LabError
from orchestrator.lab.images import kernel, recipes
from orchestrator.lab.journal import Bind
from orchestrator.lab.preflight import Facts, Requirements, judge


def spec(folder: Path, *binds: Bind, memory: int = 512) -> Spec:
    for name in (recipes.DISK, recipes.KERNEL, recipes.INITRD):
        (folder / name).write_text(name)
    return Spec(
        "ing3-7", "dea7", folder / "m", folder / recipes.DISK, "ing-3", 1400, binds, "/s:l:dea7", memory
    )


def backend(folder: Path) -> qemu.Qemu:
    return qemu.Qemu(folder / "accelerator.json")


def test_command_line_names_disk_cable_memory_and_shares(tmp_path: Path) -> None:
    machine = spec(tmp_path, Bind("/srv/a, b", "/b"), Bind("/srv/c", "/d", read_only=True))
    said = qemu.command(machine, BY_TCG)
    assert said[0] == "qemu-system-x86_64"
    pairs = set(itertools.pairwise(said))
    assert {
        ("-m", "512"),
        ("-kernel", f"{tmp_path}/m/kernel"),
        ("-initrd", f"{tmp_path}/m/initrd"),
        ("-pidfile", f"{tmp_path}/m/qemu.pid"),
        ("-netdev", "tap,id=cable,ifname=vt-ing3-7,script=no,downscript=no"),
        ("-fsdev", f"local,id=lab,security_model=passthrough,path={tmp_path}/m/host"),
        ("-fsdev", "local,id=bind0,security_model=passthrough,path=/srv/a,, b"),
        ("-fsdev", "local,id=bind1,security_model=passthrough,path=/srv/c,readonly=on"),
    } <= pairs
    (cable,) = [word for word in said if word.startswith("virtio-net-pci,")]
    assert ",mac=02:" in cable
    assert ",host_mtu=1400," in cable


def test_accelerators_have_their_options() -> None:
    assert BY_KVM.options() == ["-accel", "kvm", "-cpu", "host"]
    assert BY_TCG.options()[:2] == ["-accel", "tcg,thread=multi,tb-size=128"]


def stand_in(folder: Path, script: str) -> tuple[str, ...]:
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path),)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'ingot-lab: a guest runs'", ""),
        ("sleep 60", "no end after 1 s"),
        ("echo 'failed to set MSR' >&2; exit 134", "failed to set MSR"),
        ("echo 'Kernel panic'", "Kernel panic"),
        (":", "no output"),
    ],
)
def test_guest_that_does_not_get_to_its_first_program_is_refused(
    tmp_path: Path, script: str, said: str
) -> None:
    program = stand_in(tmp_path, script)
    found = accelerator.refused(BY_KVM, tmp_path / "k", tmp_path / "i", deadline=1, program=program)
    assert found == said


def test_probe_is_asked_once_and_again_on_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def probe(*files: Path) -> Accelerator:
        asked.append(files)
        return Accelerator("tcg", "it hung")

    monkeypatch.setattr(accelerator, "probe", probe)
    found = tmp_path / "cache" / "accelerator.json"
    files = tmp_path / "kernel", tmp_path / "initrd"
    for _ in range(2):
        assert accelerator.choose(found, *files) == Accelerator("tcg", "it hung")
    assert asked == [files]
    found.write_bytes(msgspec.json.encode(Found("another kernel", "kvm", "")))
    assert accelerator.choose(found, *files).name == "tcg"
    found.write_text("half a fi")
    assert accelerator.choose(found, *files).name == "tcg"
    assert len(asked) == 3


def test_host_without_kvm_is_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM", tmp_path / "kvm")
    chosen = accelerator.probe(tmp_path / "kernel", tmp_path / "initrd")
    assert chosen == Accelerator("tcg", f"this host has no {tmp_path}/kvm")


def bz_image(payload: bytes) -> bytes:
    header = bytearray(1024)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", header, 0x248, 16, len(payload))
    return bytes(header) + b"x" * 16 + payload + b"behind"


def test_kernel_is_unpacked_where_it_is_packed_with_xz() -> None:
    packed = lzma.compress(b"\x7fELF and all")
    assert kernel.unpack(bz_image(packed + struct.pack("<I", 12))) == b"\x7fELF and all"
    other = bz_image(b"\x02\x21\x4c\x18")
    assert kernel.unpack(other) == other
    with pytest.raises(LabError, match="no bzImage"):
        kernel.unpack(b"\x7fELF")
    with pytest.raises(LabError, match="cannot be unpacked"):
        kernel.unpack(bz_image(packed[:-4] + b"zzzz"))
    with pytest.raises(LabError, match="its end is missing"):
        kernel.unpack(bz_image(packed[:-4]))


def test_hardware_addresses_differ_and_stay() -> None:
    assert qemu.mac("ing0-2") == qemu.mac("ing0-2") != qemu.mac("ing0-3")
    assert int(qemu.mac("ing0-2")[:2], 16) & 3 == 2


def test_archive_holds_files_of_root_only_and_no_directory() -> None:
    files = {"/root/.ssh/authorized_keys": File("key\n", 0o600), "/etc/hosts": File("ä\n")}
    with tarfile.open(fileobj=io.BytesIO(qemu.archive(files))) as tar:
        members = {member.name: member for member in tar}
        assert set(members) == {"root/.ssh/authorized_keys", "etc/hosts"}
        assert {(m.uid, m.gid) for m in members.values()} == {(0, 0)}
        assert members["root/.ssh/authorized_keys"].mode == 0o600
        text = tar.extractfile("etc/hosts")
        assert text is not None
        assert text.read().decode() == "ä\n"


def test_files_wait_in_order_for_a_machine_that_is_off(tmp_path: Path) -> None:
    machine = spec(tmp_path)
    backend(tmp_path).create(machine)
    for text in ("one", "two"):
        backend(tmp_path).write(machine, {"/etc/hosts": File(text)})
    host = qemu.host_folder(machine)
    assert sorted(path.name for path in host.glob("*.tar")) == ["1.tar", "2.tar"]
    assert (host / "2.tar").stat().st_mode & 0o777 == 0o600


def test_disk_of_the_image_stays_as_long_as_the_machine(tmp_path: Path) -> None:
    machine = spec(tmp_path)
    backend(tmp_path).create(machine)
    backend(tmp_path).create(machine)
    assert machine.image.stat().st_nlink == 2
    backend(tmp_path).remove(machine)
    assert machine.image.stat().st_nlink == 1
    assert not machine.folder.exists()


def test_binds_are_listed_for_the_machine(tmp_path: Path) -> None:
    machine = spec(tmp_path, Bind("/srv/a", "/b b"), Bind("/srv/c", "/d", read_only=True))
    backend(tmp_path).create(machine)
    assert (qemu.host_folder(machine) / "binds").read_text() == "bind0 rw /b b\nbind1 ro /d\n"


def test_too_little_memory_and_odd_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="at least 256 MiB"):
        backend(tmp_path).check(spec(tmp_path, memory=64))
    with pytest.raises(BadRequestError, match="no line breaks"):
        backend(tmp_path).check(spec(tmp_path, Bind("/a", "/c\nd")))


def test_image_is_a_full_one_as_a_disk() -> None:
    own, full = recipes.recipe("bookworm-qemu"), recipes.recipe("bookworm")
    assert set(own.packages) == {*full.packages, *recipes.QEMU_PACKAGES}
    assert (own.suite, own.part, full.part) == ("bookworm", "disk.ext4", "root")
    assert own.finish.startswith(full.finish)
    assert [name for name in recipes.names() if recipes.has_kernel(name)] == ["bookworm-qemu"]


def test_layout_gives_memory() -> None:
    plan = layout.parse({"machines": {"a": {"image": "bookworm-qemu", "memory": 768}, "b": {}}})
    assert [machine.memory for machine in plan.machines] == [768, None]
    with pytest.raises(BadRequestError, match="memory is a whole number"):
        layout.parse({"machines": {"a": {"memory": "much"}}})


def test_preflight_names_what_is_missing() -> None:
    requirements = Requirements(1, ("bookworm-qemu",))
    facts = Facts(root=True, missing_tools=("mkfs.ext4", "qemu-img", "qemu-system-x86_64"), no_tun=True)
    tools, tun = judge(facts, requirements).problems
    assert tools == "missing programs: apt-get install e2fsprogs qemu-system-x86 qemu-utils"
    assert tun.startswith("no /dev/net/tun")
