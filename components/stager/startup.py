"""The scripts `startup` and `stop` of a droplet (protocol 7.3)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from components.common.frameworks import RUNTIMES, Runtime

RUNTIME_MARK = "%VCAP_LOCAL_RUNTIME%"
# The stager's own folder in `app/`; what an application has in its place is left out.
OWN = ".ingot"
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Start:
    """The start of an application.

    Attributes:
        command: a line for the shell, run in `app/`; `$VCAP_APP_PORT` and the like are expanded when it starts.
        environment: variables it gets unless the user sets them.
        path: folders of programs, relative to `app/`.
        prepend: variables that hold a path list, each with a folder relative to `app/` to be put first.
    """

    command: str
    environment: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    prepend: Mapping[str, str] = field(default_factory=dict)


def startup(start: Start, runtime: Runtime | None) -> str:
    """Return the script `startup`: it runs the command in the background, notes its pid, and ends with its exit status."""
    environment = {**dict(runtime.environment if runtime else ()), **start.environment}
    folders = [f"{OWN}/bin", *start.path]
    lines = [
        "#!/bin/bash",
        "# startup [-p PORT]: runs the application. Written when it was staged.",
        'cd "$(dirname "${BASH_SOURCE[0]}")/app" || exit 1',
        "while getopts ':p:' option; do",
        '  if [ "$option" = p ]; then export VCAP_APP_PORT="$OPTARG" PORT="$OPTARG"; fi',
        "done",
        *([f"export INGOT_RUNTIME={shlex.quote(RUNTIME_MARK)}"] if runtime else []),
        *(f'export {k}="${{{k}-{_in_double_quotes(v)}}}"' for k, v in sorted(environment.items())),
        *(f'export {k}="$PWD/{v}${{{k}:+:${k}}}"' for k, v in sorted(start.prepend.items())),
        f'export PATH="{"".join(f"$PWD/{f}:" for f in folders)}${{PATH:-{_SYSTEM_PATH}}}"',
        "mkdir -p ../logs",
        # A signal interrupts `wait`; waiting again returns the application's own status, even if it is gone by then.
        'started="" signalled=""',
        'trap \'signalled=1; [ -z "$started" ] || kill -TERM "$started" 2>/dev/null\' TERM INT',
        f"bash -c {shlex.quote(start.command)} </dev/null >>../logs/stdout.log 2>>../logs/stderr.log &",
        "started=$!",
        'echo "$started" >>../run.pid',
        "while :; do",
        '  wait "$started"',
        "  status=$?",
        '  [ -n "$signalled" ] || break',
        '  signalled=""',
        "done",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


def stop() -> str:
    """Return the script `stop`: it ends the process of its argument, gently for five seconds."""
    return """#!/bin/bash
# stop [PID]: ends the application. Written when it was staged.
pid="${1:-$(tail -n 1 "$(dirname "${BASH_SOURCE[0]}")/run.pid" 2>/dev/null)}"
[[ "$pid" =~ ^[1-9][0-9]+$ ]] || { echo "stop: no process id" >&2; exit 2; }
kill -TERM "$pid" 2>/dev/null || exit 0
for _ in {1..50}; do
  kill -0 "$pid" 2>/dev/null || exit 0
  sleep 0.1
done
kill -KILL "$pid" 2>/dev/null
exit 0
"""


def commands(runtime: Runtime | None) -> dict[str, str]:
    """Return the small scripts for `.ingot/bin`, so that `python` or `node` in a command is the DEA's interpreter.

    Returns:
        Name to content. With no runtime named, every runtime's commands stand for its usual place.
    """
    if runtime is not None:
        return dict.fromkeys(runtime.commands, _command(runtime, '"$INGOT_RUNTIME"'))
    return {name: _command(r, r.executable) for r in RUNTIMES for name in r.commands}


def _command(runtime: Runtime, executable: str) -> str:
    if not runtime.heap_option:
        return f'#!/bin/sh\nexec {" ".join((executable, *runtime.options))} "$@"\n'
    # Five eighths of the limit: memory outside the heap (classes, code, stacks) needs the rest. The limit comes from
    # the application's variables, because not every kernel shows a program its limit. Options of the command itself
    # come later and win.
    options = " ".join(("${heap:+" + runtime.heap_option + "${heap}m}", *runtime.options))
    return f"""#!/bin/bash
limit='"mem": ?([0-9]+)' heap=
if [[ "${{VCAP_APPLICATION:-}}" =~ $limit ]]; then heap=$((BASH_REMATCH[1] * 5 / 8 / 1048576)); fi
exec {executable} {options} -Djava.io.tmpdir="${{TMPDIR:-/tmp}}" ${{JAVA_OPTS:-}} "$@"
"""


def _in_double_quotes(value: str) -> str:
    return "".join(f"\\{c}" if c in '\\"`$}' else c for c in value)
