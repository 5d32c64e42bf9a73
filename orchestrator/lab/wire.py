"""The JSON of the daemon's socket. Requests and answers have these shapes on both sides.

| call | request | answer |
|---|---|---|
| `GET /status` | | `Status` |
| `GET /images`, `POST /images/NAME`, `GET /images/NAME`, `DELETE /images/NAME?outdated=` | | images; a build's progress |
| `GET /labs`, `POST /labs`, `GET /labs/LAB` | `LabRequest` | `LabView` |
| `DELETE /labs/LAB` | | `Spent` |
| `PUT /labs/LAB/routers` | `RoutersRequest` | `LabView` |
| `GET /labs/LAB/access` | | `Access` |
| `POST /labs/LAB/machines`, `GET` and `DELETE /labs/LAB/machines/MACHINE` | `MachineRequest` | `MachineView` |
| `POST /labs/LAB/machines/MACHINE/{start,stop,kill,cut,mend,wait}` | `ActionRequest` | `MachineView` |
| `POST /sweep`, `POST /shutdown` | `ShutdownRequest` | what was cleared; whether it ends |

A failure is `{"error": kind, "message": text}` with the status of its kind (`errors`).
"""

from __future__ import annotations

import msgspec

from orchestrator.lab.journal import Bind, Process

API = 1


class LabRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A lab to be made. Where no subnet or port is wanted, the first free one is taken."""

    name: str
    owner: str
    subnet: str | None = None
    port: int | None = None
    holder: Process | None = None


class MachineRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A machine to be made; it does not run yet.

    A bind's relative source lies in the lab's folder (`build/labs/NAME`). `maker` names the maker of a machine beside a layout,
    such as `orchestrator`. `memory` (MiB) is for machines with a kernel of their own.
    """

    name: str
    image: str
    groups: list[str] = []
    binds: list[Bind] = []
    address: str | None = None
    maker: str = ""
    memory: int | None = None


class ActionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request with `deadline` in seconds: of a clean stop, or of the wait for SSH."""

    deadline: float = 60.0


class RoutersRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The machines to whose port 80 the lab's port of the host is relayed."""

    machines: list[str]


class ShutdownRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request to end the daemon; with `if_idle` only where no lab is left and no work is under way."""

    if_idle: bool = False


class MachineView(msgspec.Struct):
    """The present state of a machine.

    `pid` is its PID 1 on the host, `root` its file system there. With `kernel` it has a kernel of its own: `pid` is that
    kernel, its file system cannot be seen from the host, and its journal is in its console. `processor_seconds` is the time that
    its processes have used since it was made; 0 where the host does not count it (cgroup v2 does).
    """

    name: str
    address: str
    image: str
    state: str
    groups: list[str]
    binds: list[Bind]
    cut: bool
    pid: int | None
    root: str
    console: str
    maker: str = ""
    kernel: bool = False
    processor_seconds: float = 0.0


class LabView(msgspec.Struct):
    """The present state of a lab.

    `port` of 127.0.0.1 is relayed to port 80 of `routers`. `processor_seconds` is the usage of its machines, including removed
    ones.
    """

    name: str
    subnet: str
    gateway: str
    bridge: str
    port: int
    owner: str
    routers: list[str]
    key_file: str
    known_hosts_file: str
    machines: list[MachineView]
    processor_seconds: float = 0.0


class Spent(msgspec.Struct):
    """The usage of a removed lab's machines."""

    processor_seconds: float


class Access(msgspec.Struct):
    """The keys of a lab's machines: root's private key, and the machines' host keys."""

    private_key: str
    public_key: str
    known_hosts: str


class Status(msgspec.Struct):
    """The daemon: `code` is a digest of its program, `source` the program's folder.

    `accelerator` is that of machines with a kernel of their own, with its reason; empty where none was started yet.
    """

    api: int
    code: str
    source: str
    pid: int
    version: str
    labs: list[str]
    building: bool
    accelerator: str = ""
