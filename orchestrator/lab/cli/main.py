"""`ingot-lab`: labs from the command line. Everything but `serve` is a client of the daemon."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from components.common.errors import IngotError
from orchestrator.lab import daemon, layout, up
from orchestrator.lab.cli import evidence, machine
from orchestrator.lab.cli.machine import become
from orchestrator.lab.cli.output import as_json_option, err, machines_table, out, print_json, reporter, show
from orchestrator.lab.client import LabClient
from orchestrator.lab.errors import BadRequestError
from orchestrator.lab.folder import find_project
from orchestrator.lab.host import processes
from orchestrator.lab.images import recipes
from orchestrator.lab.paths import Paths

_project = click.option(
    "--project",
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkout of the lab; by default the one around the working directory.",
)


@click.group()
def cli() -> None:
    """Manage labs of small machines on this host."""


@cli.command()
def serve() -> None:
    """Run the daemon in the foreground (clients start it by themselves)."""
    sys.exit(daemon.serve(Paths.from_environment()))


@cli.command()
@as_json_option
def status(as_json: bool) -> None:
    """Show the daemon and its contents; starts none."""
    with LabClient(start=False) as client:
        found = client.status()
    rows = [[name, str(value)] for name, value in msgspec.to_builtins(found).items()]
    show(as_json, found, ["daemon", ""], rows)


@cli.command()
def shutdown() -> None:
    """End the daemon. Machines stay and the next one takes them over; the ports of the labs close."""
    with LabClient(start=False) as client:
        client.shutdown()


@cli.command()
def restart() -> None:
    """Replace the daemon, for example by one of this checkout's program. Machines stay."""
    with LabClient() as client:
        client.shutdown()
        out.print(f"daemon {client.status().pid} serves")


@cli.command()
@as_json_option
def sweep(as_json: bool) -> None:
    """Clear the remains of killed runs and vanished checkouts."""
    with LabClient() as client:
        said = client.sweep()
    show(as_json, said, ["cleared"], [[line] for line in said])


@cli.group()
def image() -> None:
    """Manage images of machines."""


@image.command("build")
@click.argument("name", default=recipes.DEFAULT)
def image_build(name: str) -> None:
    """Build an image unless it is there."""
    with LabClient() as client, err.status(f"image {name}") as spinner:
        client.refresh()
        seconds = client.build_image(name, reporter(spinner.update))
    out.print(f"image {name} is ready ({seconds:.0f} s)")


@image.command("list")
@as_json_option
def image_list(as_json: bool) -> None:
    """List images: ready, absent, building or outdated."""
    with LabClient() as client:
        found = client.images()
    columns = ["name", "state", "packages", "mebibytes", "seconds", "built"]
    show(as_json, found, columns, [[str(i.get(c, "")) for c in columns] for i in found])


@image.command("remove")
@click.argument("name")
@click.option("--outdated", is_flag=True, help="Remove only builds of older recipes.")
def image_remove(name: str, outdated: bool) -> None:
    """Remove an image that no machine uses."""
    with LabClient() as client:
        out.print("\n".join(client.remove_image(name, outdated=outdated)))


@cli.command("up")
@click.argument("name", default="ingot")
@click.option(
    "--machine", "machines", multiple=True, metavar="NAME[:GROUP,...]", help="A machine; may be repeated."
)
@click.option(
    "--layout", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A layout file."
)
@click.option("--image", "base", help=f"Image of machines that name none ({', '.join(recipes.names())}).")
@click.option(
    "--port", type=int, help="Port of 127.0.0.1 for the routers; by default the first free one from 8080."
)
@click.option("--subnet", help="A /24; by default the first free one of 198.18.0.0/15.")
@click.option(
    "--while", "holder", type=int, metavar="PID", help="Remove the lab when this process has ended."
)
@_project
@as_json_option
def up_(
    *,
    name: str,
    machines: tuple[str, ...],
    file: Path | None,
    base: str | None,
    port: int | None,
    subnet: str | None,
    holder: int | None,
    project: Path | None,
    as_json: bool,
) -> None:
    """Raise a lab, or its missing parts: by default the platform's machines."""
    if machines and file:
        raise BadRequestError("give machines or a layout file, not both")
    plan = layout.load(file) if file else layout.parse_words(machines) if machines else layout.DEFAULT
    if base:
        recipes.recipe(base)
        plan = layout.Layout(plan.machines, base)
    held = processes.identify(holder) if holder else None
    if holder and held is None:
        raise BadRequestError(f"there is no process {holder}")
    checkout = (project or find_project(Path.cwd())).resolve()
    with LabClient() as client, err.status(f"lab {name}") as spinner:
        raised = up.bring_up(
            client,
            checkout,
            name,
            plan,
            subnet=subnet,
            port=port,
            holder=held,
            report=reporter(spinner.update),
        )
    if as_json:
        print_json(
            {
                "lab": raised.lab,
                "inventory": str(raised.folder.inventory),
                "changed": raised.changed,
                "phases": [{"name": phase, "seconds": seconds} for phase, seconds in raised.phases],
            }
        )
        return
    machines_table(raised.lab)
    took = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in raised.phases)
    out.print(f"inventory {raised.folder.inventory}; {took}", soft_wrap=True)


@cli.command()
@click.argument("name", default="ingot")
@click.option("--keep-daemon", is_flag=True, help="Leave the daemon running although no lab is left.")
@_project
def down(name: str, keep_daemon: bool, project: Path | None) -> None:
    """Remove a lab, its machines and its folder; without labs left, the daemon ends too."""
    checkout = (project or find_project(Path.cwd())).resolve()
    with LabClient() as client:
        there = up.take_down(client, checkout, name, keep_daemon=keep_daemon)
    out.print(f"lab {name} is down" if there else f"there was no lab {name}")


@cli.command("list")
@as_json_option
def list_(as_json: bool) -> None:
    """List labs."""
    with LabClient() as client:
        labs = client.labs()
    rows = [[lab.name, lab.subnet, str(lab.port), str(len(lab.machines)), lab.owner] for lab in labs]
    show(as_json, labs, ["lab", "subnet", "port", "machines", "owner"], rows)


@cli.command()
@click.argument("lab", default="ingot")
def inventory(lab: str) -> None:
    """Write a lab's inventory and keys into its checkout anew, and print the inventory's path."""
    with LabClient() as client:
        out.print(str(up.refresh_folder(client, lab).inventory), soft_wrap=True)


@cli.command("evidence")
@click.argument("lab")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def evidence_(lab: str, folder: Path) -> None:
    """Collect journals and consoles of a lab's machines into a folder."""
    with LabClient() as client:
        written = evidence.collect(client.lab(lab), client.paths.log, folder)
    out.print(f"{len(written)} files in {folder}")


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dev(arguments: tuple[str, ...]) -> None:
    """Run the platform as plain processes on loopback, with neither root nor machines."""
    become([sys.executable, "-m", "orchestrator.dev", *arguments])


def main() -> NoReturn:
    """Run the entry point: errors of Ingot end in one line and status 1."""
    try:
        cli()
    except IngotError as error:
        err.print(f"ingot-lab: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    sys.exit(0)


for command in (
    machine.machine,
    machine.cut,
    machine.mend,
    machine.ssh,
    machine.exec_,
):
    cli.add_command(command)

if __name__ == "__main__":
    main()
