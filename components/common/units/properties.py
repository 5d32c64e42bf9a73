"""The translation of a unit's description to properties of a systemd transient unit; pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbus_fast import Variant

from components.common.units.spec import UnitSpec

_MB = 1024 * 1024
_EPERM = 1
# By number, as capabilities(7) has them: the capabilities that a program of the platform may keep.
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24}
_MOUNT_RECURSIVE = 0x4000
# The system calls that a program of the platform may make.
_SYSTEM_CALLS = ["@system-service"]
# A guest may not make these of them: calls that change its uid, and calls that take more of the machine than its
# share. `chown` stays: without capabilities it can only repeat the present owner, and programs do so to their own
# sockets and copies.
_PRIVILEGED_CALLS = ["@privileged", "@resources"]
_HARMLESS_CALLS = ["@chown"]
# The targets of `/etc/resolv.conf`: all that a guest sees of `/run`, where the machine's own sockets are.
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - where the unit's own is shown
_RUN = Path("/run")
# One for each unit, and not half of the machine's memory.
_SHARED_MEMORY = "rw,nosuid,nodev,noexec,mode=1777,size=64M"


@dataclass(frozen=True, slots=True)
class Files:
    """The files that systemd reads or shows while a unit starts.

    Attributes:
        environment: the file that holds its variables.
        passwd: shown to a guest as `/etc/passwd`.
        group: shown to a guest as `/etc/group`.
    """

    environment: Path
    passwd: Path
    group: Path


def properties(spec: UnitSpec, files: Files) -> list[tuple[str, Variant]]:
    """Return the properties of a transient unit.

    Args:
        spec: the program and its limits.
        files: the files of this unit.

    The program keeps no capability but those that are named, and can gain none. systemd itself gives a guest (a unit with a uid) that uid before it
    executes anything: the guest's variables reach no process that is still root. `RemainAfterExit` keeps a unit that ended
    well, the default `CollectMode` one that did not: so a daemon that was away still learns how a unit ended.
    """
    found: list[tuple[str, Variant]] = [
        ("Description", Variant("s", f"Ingot: {spec.name}")),
        ("Type", Variant("s", "exec")),
        # Not `ExecStartEx` with its "no-env-expand": systemd 252 writes a file of it that it cannot read, so that the next
        # daemon-reload, whoever asks for it, would leave the unit without a program. Here `$$` is a `$`.
        (
            "ExecStart",
            Variant("a(sasb)", [[spec.argv[0], [word.replace("$", "$$") for word in spec.argv], False]]),
        ),
        ("RemainAfterExit", Variant("b", True)),
        ("Slice", Variant("s", spec.slice)),
        ("WorkingDirectory", Variant("s", str(spec.directory))),
        ("EnvironmentFiles", Variant("a(sb)", [[str(files.environment), False]])),
        ("KillMode", Variant("s", "control-group")),
        ("TimeoutStopUSec", Variant("t", 90_000_000)),
        ("UMask", Variant("u", 0o077)),
        ("StandardInput", Variant("s", "null")),
    ]
    for stream, file in (("StandardOutput", spec.stdout), ("StandardError", spec.stderr)):
        found.append(
            (stream, Variant("s", "null"))
            if file is None
            else (f"{stream}FileToAppend", Variant("s", str(file)))
        )
    if spec.timeout_seconds:
        found.append(("RuntimeMaxUSec", Variant("t", int(spec.timeout_seconds * 1_000_000))))
    return [*found, *_account(spec), *_limits(spec), *_view(spec, files), *_hardening(spec)]


def escape_path(name: str) -> str:
    """Return a unit's name as the last element of its D-Bus path."""
    return "".join(
        c if c.isascii() and (c.isalpha() or (c.isdigit() and i > 0)) else f"_{ord(c):02x}"
        for i, c in enumerate(name)
    )


def _account(spec: UnitSpec) -> list[tuple[str, Variant]]:
    if spec.uid is None:
        return []
    gid = spec.uid if spec.gid is None else spec.gid
    # Numbers, of which the machine must have entries: `accounts.problems`.
    return [("User", Variant("s", str(spec.uid))), ("Group", Variant("s", str(gid)))]


def _limits(spec: UnitSpec) -> list[tuple[str, Variant]]:
    found = []
    if spec.memory_mb is not None:
        found += [
            ("MemoryMax", Variant("t", spec.memory_mb * _MB)),
            ("MemorySwapMax", Variant("t", 0)),
            # All processes are killed or none: a program whose worker was killed seldom notices.
            ("OOMPolicy", Variant("s", "kill")),
        ]
    if spec.tasks is not None:
        found.append(("TasksMax", Variant("t", spec.tasks)))
        if spec.uid is not None:
            # This limit also holds where the kernel offers no pids controller: the uid is this unit's alone. It is a
            # little higher, because only the control group counts refusals.
            most = spec.tasks + max(8, spec.tasks // 16)
            found += [("LimitNPROC", Variant("t", most)), ("LimitNPROCSoft", Variant("t", most))]
    if spec.nofile is not None:
        found += [("LimitNOFILE", Variant("t", spec.nofile)), ("LimitNOFILESoft", Variant("t", spec.nofile))]
    if spec.file_mb is not None:
        size = spec.file_mb * _MB
        found += [("LimitFSIZE", Variant("t", size)), ("LimitFSIZESoft", Variant("t", size))]
    if spec.cpu_weight is not None:
        found.append(("CPUWeight", Variant("t", spec.cpu_weight)))
    return [*found, ("LimitCORE", Variant("t", 0)), ("LimitCORESoft", Variant("t", 0))]


def _view(spec: UnitSpec, files: Files) -> list[tuple[str, Variant]]:
    """Return the unit's view of the disk: everything read-only, its own folders writable, its neighbours' not at all."""
    writable = [spec.directory, *spec.writable]
    shown = [p for p in spec.read_only if any(p.is_relative_to(e) for e in spec.empty)]
    bound = [p for p in writable if any(p.is_relative_to(e) for e in spec.empty)]
    binds = [_bind(p, p) for p in bound]
    if spec.temporary is not None:
        binds += [_bind(spec.temporary, Path(p)) for p in _TEMPORARY]
    read_only = [_bind(p, p) for p in shown]
    empty = list(spec.empty)
    if spec.uid is not None:
        empty.append(_RUN)
        read_only += [_bind(Path(p), Path(p), optional=True) for p in _RESOLVERS]
        read_only += [_bind(files.passwd, Path("/etc/passwd")), _bind(files.group, Path("/etc/group"))]
    found = [
        ("ProtectSystem", Variant("s", "strict")),
        ("ReadWritePaths", Variant("as", [str(p) for p in writable if p not in bound])),
        (
            "TemporaryFileSystem",
            Variant("a(ss)", [*([str(p), "ro,mode=0755"] for p in empty), ["/dev/shm", _SHARED_MEMORY]]),  # noqa: S108 - a mount point
        ),
        ("BindPaths", Variant("a(ssbt)", binds)),
        ("BindReadOnlyPaths", Variant("a(ssbt)", read_only)),
        # The dash: a missing path needs no hiding.
        ("InaccessiblePaths", Variant("as", [f"-{p}" for p in spec.hidden])),
    ]
    # To systemd an empty list means "forget the earlier settings", for both kinds of bind mounts at once.
    return [(name, value) for name, value in found if value.value]


def _bind(source: Path, target: Path, *, optional: bool = False) -> list[object]:
    return [str(source), str(target), optional, _MOUNT_RECURSIVE]


def _hardening(spec: UnitSpec) -> list[tuple[str, Variant]]:
    guest = spec.uid is not None
    switches = (
        "PrivateIPC NoNewPrivileges RestrictSUIDSGID RestrictRealtime LockPersonality "
        "ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups ProtectClock ProtectHostname"
    )
    return [
        *((name, Variant("b", True)) for name in switches.split()),
        ("PrivateDevices", Variant("b", not spec.capabilities)),
        ("PrivateTmp", Variant("b", spec.temporary is None)),
        ("ProtectHome", Variant("s", "yes")),
        ("ProtectProc", Variant("s", "invisible")),
        ("CapabilityBoundingSet", Variant("t", sum(1 << _CAPABILITIES[name] for name in spec.capabilities))),
        ("RestrictNamespaces", Variant("t", 0)),
        (
            "RestrictAddressFamilies",
            Variant("(bas)", [True, ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"]]),
        ),
        ("SystemCallArchitectures", Variant("as", ["native"])),
        ("SystemCallFilter", Variant("(bas)", [True, [*_SYSTEM_CALLS, *spec.system_calls]])),
        *(_narrowed() if guest else ()),
        ("SystemCallErrorNumber", Variant("i", _EPERM)),
    ]


def _narrowed() -> list[tuple[str, Variant]]:
    return [
        ("RemoveIPC", Variant("b", True)),
        ("SystemCallFilter", Variant("(bas)", [False, _PRIVILEGED_CALLS])),
        ("SystemCallFilter", Variant("(bas)", [True, _HARMLESS_CALLS])),
    ]
