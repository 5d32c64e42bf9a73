"""`ingot completion`: the script with which a shell completes the other commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from components.client import output
from components.client.errors import ClientError
from components.client.session import json_option

_VARIABLE = "_INGOT_COMPLETE"
# The start file of each shell that must read it.
PLACES = {
    "bash": 'eval "$(ingot completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(ingot completion zsh)"  in ~/.zshrc, after compinit',
    "fish": "ingot completion fish > ~/.config/fish/completions/ingot.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(PLACES)))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script that makes a shell complete commands, options and names of applications.

    \b
    bash:  eval "$(ingot completion bash)"   in ~/.bashrc
    zsh:   eval "$(ingot completion zsh)"    in ~/.zshrc, after compinit
    fish:  ingot completion fish > ~/.config/fish/completions/ingot.fish
    """  # noqa: D301 - click's mark for text that keeps its lines
    kind = get_completion_class(shell)
    if kind is None:
        raise ClientError(f"no completion is known for {shell}")
    root = context.find_root()
    complete = kind(root.command, {}, "ingot", _VARIABLE)
    script = complete.source_template % complete.source_vars()
    if as_json:
        output.data({"shell": shell, "script": script, "use": PLACES[shell]})
        return
    click.echo(script)
