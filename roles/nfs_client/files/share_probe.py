#!/usr/bin/python3
"""Judge the droplet share on one machine, and name what is wrong with it.

    ingot-share-probe probe PATH [--reader]            write, read back, remove; a reader only opens what is there
    ingot-share-probe write PATH | read PATH NAME SHA256 | remove PATH NAME
    ingot-share-probe users PATH                       who has files open there
    ingot-share-probe compare PATH SERVER:EXPORT       what lies below PATH and is not on that export
    ingot-share-probe look PATH [SERVER:EXPORT]        what the kernel can, what is mounted, which of `--unit` run

PATH is the share on every machine, and EXPORT the whole of it. A machine that only reads (`--reader`) has its folder
`droplets` alone, mounted at PATH/droplets; a machine that writes has all of it, mounted at PATH.

Prints one JSON object: `verdict` (`ok`, or what is wrong in a word), `says` and `remedy` for people, and facts. Exit
code 0: ok, 1: not, 2: bad arguments. Options: `--seconds N` (10) the whole may take, `--uid N` (801) that writes,
`--local` on the server itself, where PATH is no mount.

A hard mount whose server is away holds every process that touches it, at times beyond SIGKILL. So the share is touched
by a child only; its parent waits for the time given, then leaves it behind and answers.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
PROC = Path("/proc")
TYPES = ("nfs", "nfs4")
PORT = 2049
# Where the one who writes to the share may write, and readers look. Applications' droplets are named by their digest.
FOLDER = "droplets"
PREFIX = ".ingot-probe-"
# What is being uploaded, what was removed, and whose the files are: nobody's content.
PASSING = (f"{FOLDER}/.", "packages/.")
SIZE = 1 << 20
BLOCK = 1 << 16
NAMED = 5
# How many words each verb takes beside the path.
WORDS = {
    "look": (0, 1),
    "compare": (1,),
    "probe": (0,),
    "write": (0,),
    "read": (2,),
    "remove": (1,),
    "users": (0,),
}

BY_ERRNO = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EROFS: "read_only",
    errno.ESTALE: "stale",
    errno.EACCES: "refused",
    errno.EPERM: "refused",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "missing",
    errno.EIO: "gone",
    errno.ETIMEDOUT: "gone",
    errno.ECONNREFUSED: "gone",
    errno.ECONNRESET: "gone",
    errno.EHOSTDOWN: "gone",
    errno.EHOSTUNREACH: "gone",
    errno.ENETUNREACH: "gone",
    errno.ENOTCONN: "gone",
}
# What mount.nfs says, by the verdict it stands for; the first that is found counts.
BY_TEXT = (
    ("refused", re.compile(r"access denied|not permitted|permission denied", re.IGNORECASE)),
    ("missing", re.compile(r"no such file|does not exist", re.IGNORECASE)),
    (
        "gone",
        re.compile(r"refused|timed out|no route|unreachable|not responding|failed to resolve", re.IGNORECASE),
    ),
    ("no_kernel", re.compile(r"unknown filesystem|no such device|protocol not supported", re.IGNORECASE)),
    ("stale", re.compile(r"stale", re.IGNORECASE)),
)
SENTENCES = {
    "ok": ("{path} works", ""),
    "full": (
        "the share at {path} is full",
        "make room on the server {server}, or give its disk more; clients go on by themselves",
    ),
    "read_only": (
        "the share at {path} cannot be written, only read",
        (
            "on the server {server}, look whether its disk went read-only (dmesg) and whether the export says rw for this machine "
            "(exportfs -s); here, whether the mount says ro"
        ),
    ),
    "stale": (
        "the share at {path} is stale: the server {server} no longer has what was mounted",
        (
            "on the server, see that the disk is mounted and exported (exportfs -s; exportfs -ra); if it was made anew, mount it "
            "again here: systemctl restart {unit}"
        ),
    ),
    "gone": (
        "the share at {path} is gone: the server {server} does not answer",
        "start the server or its nfs-server.service, or mend the network to its port 2049; clients go on by themselves",
    ),
    "refused": (
        "the share at {path} refuses this machine",
        (
            "on the server {server}, see that the export names this machine's address (exportfs -s) and that "
            "droplets, packages and resources belong to uid 801"
        ),
    ),
    "missing": (
        "the share at {path} lacks what must be there",
        "on the server {server}, see that the disk is mounted and has the folders droplets, packages and resources",
    ),
    "differs": (
        "the share at {path} gives back other bytes than were written",
        "take the server {server} out of use and check its disk: nothing stored there can be trusted",
    ),
    "not_mounted": (
        "no share is mounted at {path}",
        "mount it: systemctl start {unit}; or wire this machine: playbooks/wire_nfs.yml",
    ),
    "elsewhere": (
        "something else is mounted at {path} already",
        "unmount that first (a share that was wired: playbooks/unwire_nfs.yml), then wire again",
    ),
    "hides": (
        "{path} holds files that the share lacks, and mounting would hide them",
        "copy them to the server {server} (rsync -a --ignore-existing {path}/ SERVER:{export}/), or remove them, then wire again",
    ),
    "busy": (
        "files are open below {path}",
        "end what has them open, or say that it shall be unmounted all the same: unwire_nfs_force=true",
    ),
    "no_kernel": (
        "the kernel of this machine has no NFS",
        "a container has its host's kernel and cannot be wired: use a machine with a kernel of its own that has the module",
    ),
    "failed": ("the share at {path} failed", "see what is said, and the journal of both machines"),
}


class FoundError(Exception):
    """Something is wrong; `verdict` is the word for it."""

    def __init__(self, verdict: str, detail: str = "", **facts: object) -> None:
        super().__init__(verdict, detail)
        self.verdict, self.detail, self.facts = verdict, detail, facts


# Pure: what things mean.


def verdict_of(number: int | None) -> str:
    """Give the word for an error number."""
    return BY_ERRNO.get(number or 0, "failed")


def verdict_of_mount(text: str) -> str:
    """Give the word for what mount.nfs said."""
    return next((verdict for verdict, pattern in BY_TEXT if pattern.search(text)), "failed")


def unit_of(path: str) -> str:
    """Give the name of a path's mount unit, as systemd-escape does."""
    inner = "/".join(part for part in path.split("/") if part)
    escaped = re.sub(rb"^\.|[^a-zA-Z0-9:_./]", lambda m: b"\\x%02x" % m[0][0], inner.encode())
    return (escaped.decode().replace("/", "-") or "-") + ".mount"


def mount_at(mountinfo: str, path: str) -> Facts | None:
    """Find what is mounted at a path, the uppermost; None where it is an ordinary directory."""
    found = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")
        if re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4]) == path:
            options = {*fields[5].split(","), *more[2].split(",")}
            found = {"type": more[0], "source": more[1], "read_only": "ro" in options}
    return found


def places(path: str, source: str, *, reader: bool) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return where a machine mounts the share and from where, then the same for a machine of the other kind.

    Args:
        path: the share.
        source: the export of the whole share, `SERVER:EXPORT`; may be empty.
        reader: whether the machine only reads.
    """
    whole = (path, source)
    droplets = (f"{path}/{FOLDER}", source and f"{source.rstrip('/')}/{FOLDER}")
    return (droplets, whole) if reader else (whole, droplets)


def answer(verdict: str, path: str, detail: str = "", **facts: object) -> Facts:
    """Put a verdict into words for people."""
    says, remedy = SENTENCES[verdict]
    words = {"path": path, "unit": unit_of(path), "server": "(unknown)", "export": "EXPORT", **facts}
    says = says.format(**words) + (f" ({detail})" if detail else "")
    return {"verdict": verdict, "says": says, "remedy": remedy.format(**words), **facts}


# What touches nothing but /proc.


def current_mount(path: str) -> Facts | None:
    """Find what is mounted at a path, without touching it."""
    return mount_at((PROC / "self/mountinfo").read_text(errors="replace"), path)


def kernel_has(module: str) -> bool:
    """Tell whether the kernel can serve (`nfsd`) or mount (`nfs`), or could with a module that is there."""
    if module in (PROC / "filesystems").read_text().split():
        return True
    with contextlib.suppress(OSError):
        return subprocess.run(["modprobe", "--dry-run", "--quiet", module], check=False).returncode == 0
    return False


def running(units: list[str]) -> list[str]:
    """Give those of the units that run."""
    if not units:
        return []
    asked = subprocess.run(
        ["systemctl", "is-active", "--", *units], capture_output=True, text=True, check=False
    )
    states = asked.stdout.split()
    return [
        u for u, state in zip(units, states, strict=False) if state in ("active", "activating", "reloading")
    ]


def users(path: str) -> list[str]:
    """Give `program (pid)` of all that have files open or their working directory below a path."""
    found = []
    for process in (p for p in PROC.iterdir() if p.name.isdigit()):
        # Processes come and go, and the kernel's own have no files.
        with contextlib.suppress(OSError):
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            if any(f"{link.readlink()}/".startswith(f"{path}/") for link in links):
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return found


def port_answers(server: str) -> bool:
    """Tell whether anything answers at the server's NFS port."""
    try:
        with socket.create_connection((server, PORT), 2):
            return True
    except OSError:
        return False


# What touches the share; runs in a child only.


def write(path: str, uid: int) -> Facts:
    """Put a file of random bytes on the share and be sure that it is there; give its name and digest."""
    become(uid)
    content = os.urandom(SIZE)
    file = Path(path, FOLDER, PREFIX + os.urandom(8).hex())
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        # A write that had no room may be told as late as at the end.
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            file.unlink()
        raise
    return {"name": file.name, "sha256": hashlib.sha256(content).hexdigest()}


def read(path: str, name: str, sha256: str) -> Facts:
    """Compare what the share gives with what was written."""
    digest = hashlib.sha256()
    with Path(path, FOLDER, name).open("rb") as stream:
        # Not from this machine's memory: from the server.
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise FoundError("differs")
    return {}


def remove(path: str, name: str, uid: int) -> Facts:
    """Take the file away, where it is there."""
    become(uid)
    Path(path, FOLDER, name).unlink(missing_ok=True)
    return {}


def probe(path: str, uid: int) -> Facts:
    """Write, read back, remove."""
    written = write(path, uid)
    try:
        return read(path, str(written["name"]), str(written["sha256"]))
    finally:
        remove(path, str(written["name"]), uid)


def look_inside(path: str) -> Facts:
    """Ask the server, not this machine's memory, as opening a directory does."""
    folder = Path(path, FOLDER)
    os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    space = os.statvfs(folder)
    return {"free_mb": space.f_bavail * space.f_frsize >> 20}


def become(uid: int) -> None:
    """Be the account that writes there: root of a client is nobody on the server."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def missing_on(local: str, share: str, passing: tuple[str, ...] = PASSING) -> list[str]:
    """Give the files below `local` that `share` has not, or not in this size; none that begins as one of `passing` does."""
    lacking = []
    for file in Path(local).rglob("*"):
        inner = str(file.relative_to(local))
        if (
            inner.startswith(passing)
            or file.name.startswith(PREFIX)
            or (file.is_dir() and not file.is_symlink())
        ):
            continue
        try:
            same = Path(share, inner).lstat().st_size == file.lstat().st_size
        except FileNotFoundError:
            same = False
        if not same:
            lacking.append(inner)
    return sorted(lacking)


def compare(path: str, source: str, seconds: float, *, reader: bool) -> Facts:
    """Mount an export where only this process and its children see it, and look what it lacks of what lies below `path`."""
    folder = tempfile.mkdtemp(prefix="ingot-share-")
    try:
        options = "ro,soft,timeo=50,retrans=1,retry=0,nosuid,nodev,noexec"
        inside = [sys.executable, __file__, "lacking", path, folder, *(["--reader"] if reader else [])]
        script = 'mount -t nfs4 -o "$1" "$2" "$3" || exit 99; shift 3; exec "$@"'
        made = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", options, source, folder, *inside],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    finally:
        Path(folder).rmdir()
    if made.returncode == 99:
        detail = made.stderr.strip().splitlines()
        raise FoundError(verdict_of_mount(made.stderr), detail[-1] if detail else "")
    if made.returncode:
        raise FoundError("failed", made.stderr.strip()[-200:])
    lacking = json.loads(made.stdout)
    if lacking:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        raise FoundError(
            "hides", ", ".join(lacking[:NAMED]) + more, lacking=len(lacking), export=source.partition(":")[2]
        )
    return {}


# Parent and child.


def in_child(work: Callable[[], Facts], seconds: float) -> Facts:
    """Run `work` in a process of its own, and be back in time whatever becomes of it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.setsid()
        # Whoever waits for our output must not wait for a child that hangs.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            said: dict[str, Any] = {"facts": work()}
        except FoundError as found:
            said = {"verdict": found.verdict, "detail": found.detail, "facts": found.facts}
        except OSError as error:
            said = {"verdict": verdict_of(error.errno), "detail": error.strerror or str(error)}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told rather than lost with the child
            said = {"verdict": "failed", "detail": f"{type(error).__name__}: {error}"}
        os.write(theirs, json.dumps(said).encode())
        os._exit(0)
    os.close(theirs)
    text, deadline = b"", time.monotonic() + seconds
    while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(ours, BLOCK)
        if not block:
            return dict(json.loads(text)) if text else {"verdict": "failed", "detail": "ended without a word"}
        text += block
    os.kill(child, signal.SIGKILL)
    return {"verdict": "gone", "detail": f"no answer within {seconds:g} s"}


def judge(verb: str, path: str, words: list[str], options: argparse.Namespace) -> Facts:
    """Do one verb; give the answer to print."""
    given = words[0] if verb in ("look", "compare") and words else ""
    (place, wanted), (elsewhere, former) = places(path, given, reader=options.reader)
    mount, other = current_mount(place), current_mount(elsewhere)
    source = str(mount["source"]) if mount else (wanted if verb == "compare" else "")
    known: Facts = {
        "server": source.partition(":")[0] or os.uname().nodename,
        "mount": mount,
        "other": other,
    }
    if verb == "look":
        known["running"] = running(options.unit)
        if not kernel_has(options.module):
            return answer("no_kernel", place, f"Linux {os.uname().release}, module {options.module}", **known)
        for at, found, right in ((place, mount, wanted), (elsewhere, other, former)):
            if found and given and (found["type"] not in TYPES or found["source"] != right):
                return answer("elsewhere", at, f"{found['source']}, {found['type']}", **known)
        return answer("ok", place, **known)
    if verb == "users":
        known["running"] = running(options.unit)
        using = users(path) if mount or other else []
        return (
            answer("busy", path, ", ".join(using[:NAMED]), **known) if using else answer("ok", path, **known)
        )
    if verb != "compare" and not options.local and (mount is None or mount["type"] not in TYPES):
        return answer("not_mounted", place, **known)
    work: dict[str, Callable[[], Facts]] = {
        "compare": lambda: compare(place, wanted, options.seconds, reader=options.reader),
        "probe": lambda: look_inside(path) if options.reader else probe(path, options.uid),
        "write": lambda: write(path, options.uid),
        "read": lambda: read(path, words[0], words[1]),
        "remove": lambda: remove(path, words[0], options.uid),
    }
    began = time.monotonic()
    said = in_child(work[verb], options.seconds)
    facts = {**known, **said.get("facts", {}), "seconds": round(time.monotonic() - began, 2)}
    verdict, detail = said.get("verdict", "ok"), said.get("detail", "")
    if verdict == "gone" and source and not options.local:
        detail += (
            f"; its port {PORT} {'answers' if port_answers(str(known['server'])) else 'does not answer'}"
        )
    return answer(verdict, place, detail, **facts)


def main(arguments: list[str]) -> int:
    """Read the arguments, print the answer."""
    parser = argparse.ArgumentParser(
        prog="ingot-share-probe", description="Judge the droplet share on this machine."
    )
    parser.add_argument("verb", choices=[*WORDS, "lacking"])
    parser.add_argument("path")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--uid", type=int, default=801)
    parser.add_argument("--module", default="nfs")
    parser.add_argument("--unit", action="append", default=[])
    parser.add_argument(
        "--local", action="store_true", help="PATH is a directory of this machine: the server's own"
    )
    parser.add_argument(
        "--reader", action="store_true", help="this machine only reads: it has the droplets alone"
    )
    asked = parser.parse_intermixed_args(arguments)
    if asked.verb == "lacking":
        passing = (".",) if asked.reader else PASSING
        sys.stdout.write(json.dumps(missing_on(asked.path, asked.words[0], passing)))
        return 0
    if len(asked.words) not in WORDS[asked.verb]:
        parser.error(f"{asked.verb} wants {WORDS[asked.verb][-1]} words more")
    said = judge(asked.verb, asked.path.rstrip("/") or "/", asked.words, asked)
    sys.stdout.write(json.dumps(said) + "\n")
    return 0 if said["verdict"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
