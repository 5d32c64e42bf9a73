"""The commands on single machines: life cycle, cable, and logins."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from orchestrator.lab import layout, up, wire
from orchestrator.lab.cli.output import as_json_option, machines_table, print_json, show_machine
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import BadRequestError, NotFoundError
from orchestrator.lab.folder import LabFolder
from orchestrator.lab.images import recipes

_MACHINE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_deadline = click.option("--deadline", type=float, default=60.0, show_default=True, help="Seconds.")
# A machine with a kernel of its own boots for minutes on a busy host.
_boot_deadline = click.option(
    "--deadline", type=float, default=up.BOOT_DEADLINE, show_default=True, help="Seconds."
)


@click.group()
def machine() -> None:
    """Manage single machines of a lab."""


@machine.command("create")
@click.argument("lab")
@click.argument("name")
@click.option("--image", "base", default=recipes.DEFAULT, show_default=True)
@click.option("--group", "groups", multiple=True)
@click.option("--bind", "binds", multiple=True, metavar="SOURCE:TARGET[:ro]")
@click.option("--address")
@click.option("--memory", type=int, metavar="MIB", help="Memory of a machine with a kernel of its own.")
@as_json_option
def machine_create(
    *,
    lab: str,
    name: str,
    base: str,
    groups: tuple[str, ...],
    binds: tuple[str, ...],
    address: str | None,
    memory: int | None,
    as_json: bool,
) -> None:
    """Make a machine; `start` boots it."""
    with LabClient() as client:
        folder = LabFolder(Path(client.lab(lab).owner), lab)
        planned = [folder.bind(_parse_bind(text), client.paths.run) for text in binds]
        view = client.create_machine(
            lab, name, base, groups=list(groups), binds=planned, address=address, memory=memory
        )
        up.refresh_folder(client, lab)
    show_machine(as_json, view)


@machine.command("delete")
@click.argument("lab")
@click.argument("name")
def machine_delete(lab: str, name: str) -> None:
    """Remove a machine and its disk."""
    with LabClient() as client:
        client.delete_machine(lab, name)
        up.refresh_folder(client, lab)


@machine.command("start")
@click.argument("lab")
@click.argument("name")
@_boot_deadline
@as_json_option
def machine_start(lab: str, name: str, deadline: float, as_json: bool) -> None:
    """Boot a machine and wait for its SSH (unless its network is cut)."""
    with LabClient() as client:
        view = client.start(lab, name)
        show_machine(as_json, view if view.cut else client.wait(lab, name, deadline))


@machine.command("stop")
@click.argument("lab")
@click.argument("name")
@_deadline
@as_json_option
def machine_stop(lab: str, name: str, deadline: float, as_json: bool) -> None:
    """Shut a machine down."""
    with LabClient() as client:
        show_machine(as_json, client.stop(lab, name, deadline))


@machine.command("kill")
@click.argument("lab")
@click.argument("name")
@as_json_option
def machine_kill(lab: str, name: str, as_json: bool) -> None:
    """Cut a machine's power; its disk stays."""
    with LabClient() as client:
        show_machine(as_json, client.kill(lab, name))


@machine.command("show")
@click.argument("lab")
@click.argument("name")
@as_json_option
def machineshow(lab: str, name: str, as_json: bool) -> None:
    """Show a machine: address, state, process id."""
    with LabClient() as client:
        show_machine(as_json, client.machine(lab, name))


@machine.command("list")
@click.argument("lab", default="ingot")
@as_json_option
def machine_list(lab: str, as_json: bool) -> None:
    """List the machines of a lab."""
    with LabClient() as client:
        view = client.lab(lab)
    print_json(view.machines) if as_json else machines_table(view)


@click.command()
@click.argument("lab")
@click.argument("name")
def cut(lab: str, name: str) -> None:
    """Pull a machine's network cable."""
    with LabClient() as client:
        client.cut(lab, name)


@click.command()
@click.argument("lab")
@click.argument("name")
def mend(lab: str, name: str) -> None:
    """Plug a machine's network cable in again."""
    with LabClient() as client:
        client.mend(lab, name)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("lab")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(lab: str, name: str, command: tuple[str, ...]) -> None:
    """Log in to a machine, or run a command there over SSH."""
    with LabClient() as client:
        view = client.lab(lab)
    found = _machine_of(view, name)
    options = {
        "IdentityFile": view.key_file,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": view.known_hosts_file,
        "StrictHostKeyChecking": "yes",
        "LogLevel": "ERROR",
    }
    words = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
    become(["ssh", "-F", "none", *words, f"root@{found.address}", *command])


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("lab")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def exec_(lab: str, name: str, command: tuple[str, ...]) -> None:
    """Run a command in a machine from the host, also while its network is cut."""
    with LabClient() as client:
        found = _machine_of(client.lab(lab), name)
    if found.pid is None:
        raise NotFoundError(f"machine {name} of lab {lab} does not run")
    if found.kernel:
        raise BadRequestError(f"machine {name} of lab {lab} has a kernel of its own: use ingot-lab ssh")
    inside = ["env", "-i", f"PATH={_MACHINE_PATH}", "HOME=/root", f"TERM={os.environ.get('TERM', 'dumb')}"]
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
    become(["nsenter", f"--target={found.pid}", *spaces, *inside, *command])


def _machine_of(lab: wire.LabView, name: str) -> wire.MachineView:
    for found in lab.machines:
        if found.name == name:
            return found
    raise NotFoundError(f"lab {lab.name} has no machine {name}")


def _parse_bind(text: str) -> layout.PlannedBind:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not target.startswith("/") or mode not in ("", "ro"):
        raise BadRequestError(f"bind {text!r}: must be SOURCE:TARGET or SOURCE:TARGET:ro")
    return layout.PlannedBind(source, target, mode == "ro")


def become(argv: list[str]) -> NoReturn:
    """Replace this process by another program."""
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606  # a list, as everywhere: there is no shell to avoid
