"""What is written into machines and into the checkout."""

import stat
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from orchestrator.lab import folder, machine_files, wire
from orchestrator.lab.backends import console
from orchestrator.lab.journal import Bind, LabRecord, MachineRecord
from orchestrator.lab.layout import PlannedBind


def record(name: str, address: str) -> MachineRecord:
    return MachineRecord(
        name=name, address=address, image="bookworm", image_root="/i", host_key=f"ssh-ed25519 KEY-{name}"
    )


def a_lab() -> LabRecord:
    machines = {m.name: m for m in (record("dea10", "198.18.0.11"), record("core1", "198.18.0.2"))}
    return LabRecord("l", 0, "198.18.0.0/24", 8080, "/here", machines=machines)


def view(name: str, address: str, groups: list[str]) -> wire.MachineView:
    return wire.MachineView(
        name=name, address=address, image="bookworm", state="running", groups=groups, binds=[], cut=False,
        pid=1, root="/r", console="/c",
    )  # fmt: skip


def a_view(machines: list[wire.MachineView]) -> wire.LabView:
    return wire.LabView(
        name="l", subnet="198.18.0.0/24", gateway="198.18.0.1", bridge="ing-0", port=8080, owner="/here",
        routers=[], key_file="/k", known_hosts_file="/h", machines=machines,
    )  # fmt: skip


def test_hosts_and_known_hosts_name_every_machine_in_the_order_of_addresses() -> None:
    assert machine_files.hosts(a_lab()).text.splitlines()[-2:] == ["198.18.0.2 core1", "198.18.0.11 dea10"]
    assert machine_files.known_hosts(a_lab()).splitlines() == [
        "core1,198.18.0.2 ssh-ed25519 KEY-core1",
        "dea10,198.18.0.11 ssh-ed25519 KEY-dea10",
    ]


def test_network_file_has_address_gateway_and_mtu() -> None:
    text = machine_files.network(
        "host0", record("core1", "198.18.0.2"), IPv4Network("198.18.0.0/24"), 1400
    ).text
    for line in ("Name=host0", "MTUBytes=1400", "Address=198.18.0.2/24", "Gateway=198.18.0.1"):
        assert line in text.splitlines()


def test_private_files_are_private() -> None:
    lab = a_lab()
    files = machine_files.identity(
        lab=lab, machine=lab.machines["core1"], interface="host0", mtu=1500, public_key="PUBLIC",
        host_key="SECRET", resolver=machine_files.resolv_conf([]),
    )  # fmt: skip
    assert {name for name, file in files.items() if file.mode == 0o600} == {
        "/etc/ssh/ssh_host_ed25519_key",
        "/root/.ssh/authorized_keys",
    }
    assert "/etc/systemd/network/10-host0.network" in files
    assert files["/etc/hostname"].text == "core1\n"


def test_resolver_that_only_the_host_reaches_is_passed_over() -> None:
    stub = "nameserver 127.0.0.53\nsearch stub.example\n"
    real = "# c\nnameserver 192.0.2.53\nnameserver ::1\nsearch lan.example\n"
    assert machine_files.resolv_conf([stub, real]).text == "nameserver 192.0.2.53\nsearch lan.example\n"
    assert machine_files.resolv_conf([stub]).text == ""


def test_inventory_checks_host_keys_and_spares_the_control_host() -> None:
    machines = [view("core1", "198.18.0.2", ["nats", "ccdb"]), view("x", "198.18.0.3", [])]
    found = folder.inventory(machines, Path("/labs/l/ssh"))
    groups = found["all"]["children"]
    assert "vars" not in found["all"], "they would reach the control host itself"
    top = groups.pop("lab")
    assert top["hosts"] == {"core1": {"ansible_host": "198.18.0.2"}, "x": {"ansible_host": "198.18.0.3"}}
    assert groups == {"nats": {"hosts": {"core1": {}}}, "ccdb": {"hosts": {"core1": {}}}}
    assert top["vars"]["ansible_ssh_private_key_file"] == "/labs/l/ssh/id_ed25519"
    assert "StrictHostKeyChecking=yes" in top["vars"]["ansible_ssh_common_args"]


def test_folder_is_written_once_and_kept_up_to_date(tmp_path: Path) -> None:
    lab_folder = folder.LabFolder(tmp_path, "l")
    access = wire.Access("SECRET", "PUBLIC", "KNOWN")
    lab_folder.write(a_view([view("core1", "198.18.0.2", ["nats"])]), access)
    key = lab_folder.path / "ssh" / "id_ed25519"
    fixed = lab_folder.inventory / "10-fixed.yml"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert list(yaml.safe_load(fixed.read_text())["all"]["children"]) == ["nats", "lab"]
    before = fixed.stat().st_ino
    lab_folder.write(a_view([view("core1", "198.18.0.2", ["nats"])]), access)
    assert fixed.stat().st_ino == before
    lab_folder.write(a_view([view("core1", "198.18.0.9", ["nats"])]), access)
    assert "198.18.0.9" in fixed.read_text()
    link = lab_folder.inventory / "group_vars"
    assert not link.readlink().is_absolute()
    (tmp_path / "inventories" / "lab" / "group_vars").mkdir(parents=True)
    assert link.resolve() == tmp_path / "inventories" / "lab" / "group_vars"


def test_relative_binds_lie_in_the_folder_and_are_made(tmp_path: Path) -> None:
    lab_folder = folder.LabFolder(tmp_path, "l")
    bound = lab_folder.bind(PlannedBind("share", "/srv/ingot/share", read_only=True), tmp_path / "run")
    assert bound == Bind(str(lab_folder.path / "share"), "/srv/ingot/share", read_only=True)
    assert Path(bound.source).is_dir()
    assert lab_folder.bind(PlannedBind("/data", "/d"), tmp_path / "run").source == "/data"
    whole = lab_folder.bind(PlannedBind(".", "/x/{lab}"), tmp_path / "run")
    assert (whole.source, whole.target) == (str(lab_folder.path), "/x/l")
    project = lab_folder.bind(PlannedBind("a/b", "/y", below="project"), tmp_path / "run")
    assert project.source == str(tmp_path / "a" / "b")
    assert lab_folder.bind(PlannedBind(".", "/z", below="run"), tmp_path / "run").source == str(
        tmp_path / "run"
    )


def test_machines_the_orchestrator_made_are_known_hosts_of_another_file(tmp_path: Path) -> None:
    made = view("dea3", "198.18.0.9", ["dea"])
    made.maker = "orchestrator"
    found = folder.inventory([view("dea1", "198.18.0.6", ["dea"]), made], tmp_path)["all"]["children"]
    assert list(found["dea"]["hosts"]) == list(found["lab"]["hosts"]) == ["dea1"]


@pytest.mark.parametrize(
    ("there", "image"),
    [
        ({"core1": "bookworm", "dea1": "trixie"}, "trixie"),
        ({"core1": "trixie", "svc1": "bookworm"}, "trixie"),
        ({}, "bookworm"),
    ],
)
def test_machines_that_join_are_made_from_what_the_deas_are(
    tmp_path: Path, there: dict[str, str], image: str
) -> None:
    machines = [view(name, "198.18.0.2", ["dea"] if name == "dea1" else ["nats"]) for name in there]
    for machine in machines:
        machine.image = there[machine.name]
    lab = folder.inventory(machines, tmp_path)["all"]["children"]["lab"]
    assert lab["vars"]["lab_image"] == image


def test_console_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_text("\x1b[0;32m  OK  \x1b[0m] one\r\n\n\x1b]x\ntwo\x07\nthree\n")
    assert console.tail(path, 2) == "two\nthree"
    assert console.plain("[\x1b[0;32m  OK  \x1b[0m] one\r\n") == "[  OK  ] one"
    assert console.tail(tmp_path / "none") == ""
