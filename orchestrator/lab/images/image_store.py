"""Images on disk, kept unpacked in a cache that all checkouts of the host share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common import log
from orchestrator.lab.errors import ConflictError, LabError, NotFoundError
from orchestrator.lab.host import processes
from orchestrator.lab.host.run import run
from orchestrator.lab.images import kernel, qemu_image, recipes
from orchestrator.lab.images.mmdebstrap import BUILD_DEADLINE, Plan, build_root, plan_for

MOUNTS = Path("/proc/self/mounts")
_FACTS = "image.json"
_UNFINISHED = ".building-"
_DISK_DEADLINE = 600.0
logger = log.get(__name__)


@dataclass(slots=True)
class Progress:
    """The progress of a build: `step` is the builder's last message, `error` is set when it failed."""

    step: str = "waiting"
    started: float = field(default_factory=time.monotonic)
    done: bool = False
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the form for the socket."""
        return {
            "step": self.step,
            "seconds": round(time.monotonic() - self.started, 1),
            "done": self.done,
            "error": self.error,
        }


class ImageStore:
    """The images of a cache directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._builds: dict[str, Progress] = {}
        self._guard = threading.Lock()

    def find(self, name: str) -> Path | None:
        """Return the root or the disk of the up-to-date image of this name, or None where it is still to be built.

        Raises:
            BadRequestError: there is no such image.
            LabError: this host's apt has no Debian archive, or a program is missing.
        """
        plan = plan_for(name)
        found = self._folder / plan.folder / plan.recipe.part
        return found if found.exists() else None

    def all(self) -> list[dict[str, Any]]:
        """Return every available image, and every outdated one that still exists."""
        found = []
        wanted: dict[str, str] = {}
        for name in recipes.names():
            with contextlib.suppress(LabError):
                wanted[name] = plan_for(name).folder
        for folder in sorted(self._folders()):
            facts = json.loads((folder / _FACTS).read_text())
            current = folder.name in wanted.values()
            path = str(folder / recipes.recipe(facts["name"]).part)
            found.append({**facts, "state": "ready" if current else "outdated", "path": path})
        missing = [n for n in recipes.names() if n not in {i["name"] for i in found if i["state"] == "ready"}]
        with self._guard:
            for name in missing:
                state = self._builds.get(name)
                busy = state is not None and not state.done
                found.append({"name": name, "state": "building" if busy else "absent"})
        return found

    def build(self, name: str) -> Progress:
        """Start a build in the background, or join the running one; an existing image is done at once.

        Raises:
            BadRequestError: there is no such image.
        """
        present = self.find(name) is not None
        with self._guard:
            state = self._builds.get(name)
            if state is not None and not state.done:
                return state
            state = self._builds[name] = Progress()
            if present:
                state.step, state.done = "ready", True
                return state
        threading.Thread(target=self._build, args=(name, state), daemon=True, name=f"image-{name}").start()
        return state

    def progress(self, name: str) -> Progress:
        """Return the progress of the last build of this name.

        Raises:
            NotFoundError: no build was requested.
        """
        with self._guard:
            if (state := self._builds.get(name)) is None:
                raise NotFoundError(f"no build of image {name} was requested")
            return state

    def busy(self) -> bool:
        """Return whether anything is being built."""
        with self._guard:
            return any(not state.done for state in self._builds.values())

    def wait_idle(self) -> None:
        """Return once nothing is being built."""
        processes.wait_until(lambda: not self.busy(), BUILD_DEADLINE, pause=0.2)

    def remove(self, name: str, *, outdated: bool = False) -> list[str]:
        """Remove an image, or only its outdated builds; return the folders removed.

        Raises:
            ConflictError: a machine of this host uses it.
            NotFoundError: there is nothing to remove.
        """
        wanted = plan_for(name).folder
        victims = [
            folder
            for folder in self._folders()
            if (recipes.split_folder(folder.name) or ("", ""))[0] == name
            and not (outdated and folder.name == wanted)
        ]
        if not victims:
            raise NotFoundError(f"image {name}: nothing to remove")
        mounts = MOUNTS.read_text()
        for folder in victims:
            disk = folder / recipes.DISK
            # A machine's disk is an overlay over a link to the image's.
            if f"lowerdir={folder}/" in mounts or (disk.is_file() and disk.stat().st_nlink > 1):
                raise ConflictError(f"image {folder.name} is in use by a machine")
        for folder in victims:
            shutil.rmtree(folder)
        return [folder.name for folder in victims]

    def clear_unfinished(self) -> list[str]:
        """Remove the remains of killed builds; a running build, anywhere on this host, holds its lock."""
        removed = []
        for folder in self._folder.glob(f"{_UNFINISHED}*"):
            with _locked(self._lock_of(folder.name.removeprefix(_UNFINISHED)), wait=False) as lock:
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(str(folder))
        return removed

    def _folders(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [f for f in self._folder.iterdir() if recipes.split_folder(f.name) and (f / _FACTS).is_file()]

    def _lock_of(self, folder: str) -> Path:
        return self._folder / f".{folder}.lock"

    def _build(self, name: str, state: Progress) -> None:
        try:
            plan = plan_for(name)
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(self._lock_of(plan.folder)) as lock:
                # Another daemon may have built it while this one waited.
                if not (self._folder / plan.folder).is_dir():
                    self._make(plan, state, lock)
            state.step = "ready"
            logger.info("image ready", image=name, seconds=round(time.monotonic() - state.started, 1))
        except (LabError, OSError) as error:
            state.error = str(error)
            logger.exception("image not built", image=name)
        finally:
            state.done = True

    def _make(self, plan: Plan, state: Progress, lock: int | None) -> None:
        started = time.monotonic()
        work = self._folder / f"{_UNFINISHED}{plan.folder}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            root = work / recipes.ROOT
            build_root(root, plan, lambda step: setattr(state, "step", step), lock)
            listed, size = _installed(root), _size(root)
            if plan.recipe.disk_mib:
                state.step = "making the disk"
                _kernel(root, work)
                _disk(root, work / recipes.DISK, plan.recipe.disk_mib)
                shutil.rmtree(root)
            facts = {
                "name": plan.recipe.name,
                "suite": plan.recipe.suite,
                "digest": plan.folder.rpartition("-")[2],
                "packages": len(listed),
                "mebibytes": size >> 20,
                "seconds": round(time.monotonic() - started, 1),
                "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            (work / "packages.txt").write_text("\n".join(listed) + "\n")
            (work / _FACTS).write_text(json.dumps(facts, indent=1) + "\n")
            work.rename(self._folder / plan.folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


def _kernel(root: Path, work: Path) -> None:
    (packed,) = root.glob(qemu_image.KERNEL_GLOB)
    (work / recipes.KERNEL).write_bytes(kernel.unpack(packed.read_bytes()))
    packed.unlink()
    shutil.move(root / qemu_image.INITRD, work / recipes.INITRD)


def _disk(root: Path, disk: Path, mebibytes: int) -> None:
    # A file with holes: it takes only the space of its content. Project quotas can limit directories for DEAs and
    # data services.
    argv = [
        "mkfs.ext4",
        "-q",
        "-F",
        "-m",
        "0",
        "-O",
        "quota,project",
        "-E",
        "nodiscard,root_owner=0:0,quotatype=prjquota",
    ]
    run([*argv, "-d", str(root), str(disk), f"{mebibytes}M"], timeout=_DISK_DEADLINE)
    disk.chmod(0o444)


def _installed(root: Path) -> list[str]:
    status = (root / "var/lib/dpkg/status").read_text()
    found = []
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found.append(f"{fields['Package']} {fields['Version']}")
    return sorted(found)


def _size(root: Path) -> int:
    return sum(
        (entry.stat(follow_symlinks=False).st_blocks * 512)
        for folder, _, files in os.walk(root)
        for entry in (Path(folder, name) for name in files)
    )


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[int | None]:
    """Hold a file's lock; yield its descriptor, or None where another holds it and the caller does not wait."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield file.fileno()
