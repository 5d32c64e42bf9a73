"""The check whether a lab can be raised on this host: `gather` looks, `judge` decides; neither changes anything."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from orchestrator.lab import addresses
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import CommandError, LabError
from orchestrator.lab.host import network
from orchestrator.lab.host.run import run
from orchestrator.lab.images import recipes
from orchestrator.lab.paths import Paths

# Program to the Debian package that brings it.
TOOLS: Mapping[str, str] = {
    "ip": "iproute2",
    "journalctl": "systemd",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nft": "nftables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
# Further requirements of machines with a kernel of their own.
QEMU_TOOLS: Mapping[str, str] = {
    "mkfs.ext4": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
}
TUN = Path("/dev/net/tun")
IMAGE_BYTES = 1536 << 20
MACHINE_BYTES = 512 << 20
_SYS_ADMIN = 21
_NET_ADMIN = 12


@dataclass(frozen=True, slots=True)
class Requirements:
    """The requirements of the lab that is to be raised."""

    machines: int
    images: tuple[str, ...] = (recipes.DEFAULT,)
    lab: str = "ingot"
    owner: str = ""
    port: int | None = None
    subnet: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of this host.

    Attributes:
        root: whether this process is root's.
        missing_tools: programs that are not installed.
        port_holder: the holder of the wanted port; empty where it is free, `?` where the holder is unknown.
        taken_networks: those that the wanted subnet collides with.
        free_bytes: free space by directory.
        missing_images: images to be built.
        lab_owner: the checkout of an existing lab of this name; empty where there is none.
        no_tun: machines with a kernel of their own are wanted, and the host has no tap devices for them.
        obstacles: the reasons in words why machines cannot be made here; empty where they can.
    """

    root: bool
    missing_tools: tuple[str, ...] = ()
    port_holder: str = ""
    taken_networks: tuple[str, ...] = ()
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    missing_images: tuple[str, ...] = ()
    lab_owner: str = ""
    no_tun: bool = False
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision: `problems` forbid to go on; without `can_make_machines`, `reason` tells why, and processes may do."""

    problems: tuple[str, ...]
    can_make_machines: bool
    reason: str = ""


def check(paths: Paths, requirements: Requirements) -> Verdict:
    """Look at this host and decide."""
    return judge(gather(paths, requirements), requirements)


def judge(facts: Facts, requirements: Requirements) -> Verdict:
    """Decide whether the lab may be raised."""
    problems = []
    if not facts.root:
        missing = f" to install {_packages(facts.missing_tools)} and" if facts.missing_tools else ""
        problems.append(f"not root: root is needed{missing} to make machines")
    elif facts.missing_tools:
        problems.append(f"missing programs: apt-get install {_packages(facts.missing_tools)}")
    if facts.no_tun:
        problems.append(f"no {TUN}: machines with a kernel of their own need tap devices (modprobe tun)")
    mine = bool(facts.lab_owner) and facts.lab_owner == requirements.owner
    if facts.lab_owner and not mine:
        problems.append(
            f"lab {requirements.lab} belongs to {facts.lab_owner}: choose another name, or take that one down"
        )
    if not facts.lab_owner:
        if facts.port_holder:
            holder = "" if facts.port_holder == "?" else f" by {facts.port_holder}"
            problems.append(f"port {requirements.port} of 127.0.0.1 is taken{holder}")
        if facts.taken_networks:
            problems.append(
                f"subnet {requirements.subnet} is taken: this host has {', '.join(facts.taken_networks)}"
            )
        need = requirements.machines * MACHINE_BYTES + len(facts.missing_images) * IMAGE_BYTES
        for folder, free in facts.free_bytes.items():
            if free < need:
                problems.append(f"too little disk: {_gib(need)} needed, {_gib(free)} free in {folder}")
    return Verdict(tuple(problems), not facts.obstacles, facts.obstacles[0] if facts.obstacles else "")


def gather(paths: Paths, requirements: Requirements) -> Facts:
    """Return the state of this host; a running daemon is asked, and none is started."""
    root = os.geteuid() == 0
    owner = _owner(paths, requirements.lab) if root else ""
    taken: tuple[str, ...] = ()
    kernels = any(map(recipes.has_kernel, requirements.images))
    tools = [*TOOLS, *(QEMU_TOOLS if kernels else ())]
    missing_tools = tuple(tool for tool in tools if shutil.which(tool) is None)
    if requirements.subnet and "ip" not in missing_tools:
        hits = addresses.collisions(IPv4Network(requirements.subnet), network.taken_networks())
        taken = tuple(map(str, hits))
    return Facts(
        root=root,
        missing_tools=missing_tools,
        port_holder=_holder(requirements.port)
        if requirements.port and not network.port_is_free(requirements.port)
        else "",
        taken_networks=taken,
        free_bytes={str(f): shutil.disk_usage(_existing(f)).free for f in (paths.state, paths.cache)},
        missing_images=tuple(
            i for i in requirements.images if not list(paths.images.glob(f"{i}-{'?' * 12}"))
        ),
        lab_owner=owner,
        no_tun=kernels and not TUN.is_char_device(),
        obstacles=obstacles(root, "unshare" not in missing_tools),
    )


def obstacles(root: bool, probe: bool = True) -> tuple[str, ...]:
    """Return in words why no machine can be made on this host, whatever is installed; empty where one can."""
    if not root:
        return ("machines are made by root, and this is not root",)
    found = []
    capabilities = parse_capabilities(Path("/proc/self/status").read_text())
    for number, name in ((_SYS_ADMIN, "CAP_SYS_ADMIN"), (_NET_ADMIN, "CAP_NET_ADMIN")):
        if not capabilities >> number & 1:
            found.append(f"this process lacks {name}, as in an unprivileged container")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        found.append("the kernel has no overlayfs")
    if not Path("/sys/fs/cgroup").is_dir():
        found.append("there is no cgroup file system")
    if not found and probe:
        # Capabilities may be there and system calls filtered all the same.
        for argv in (
            ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "true"],
            ["unshare", "--mount", "mount", "-t", "tmpfs", "ingot-lab-probe", "/mnt"],
            ["unshare", "--net", "ip", "link", "add", "probe", "type", "bridge"],
            ["unshare", "--net", "ip", "link", "add", "probe", "type", "veth"],
        ):
            try:
                run(argv)
            except CommandError as error:
                found.append(f"namespaces, mounts or bridges cannot be made here: {error}")
                break
    return tuple(found)


def parse_capabilities(status: str) -> int:
    """Return the effective capabilities from the text of /proc/self/status."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match.group(1), 16) if match else 0


def _owner(paths: Paths, lab: str) -> str:
    try:
        with LabClient(paths, start=False) as client:
            return client.lab(lab).owner
    except LabError:
        return ""


def _holder(port: int) -> str:
    """Return the process that listens on a port, by `ss`."""
    try:
        listed = run(["ss", "-H", "-t", "-l", "-n", "-p", f"sport = :{port}"])
    except CommandError:
        return "?"
    match = re.search(r'\(\("([^"]+)",pid=(\d+)', listed)
    return f"{match.group(1)} (process {match.group(2)})" if match else "?"


def _packages(tools: Sequence[str]) -> str:
    return " ".join(sorted({{**TOOLS, **QEMU_TOOLS}[tool] for tool in tools}))


def _existing(folder: Path) -> Path:
    return next(f for f in (folder, *folder.parents) if f.exists())


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
